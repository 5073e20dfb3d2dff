"""From a file of another program to a draft template, and the proof of it on a tube."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tregflow.atomic import write_atomic
from tregflow.compensation.sources import spillover_from_keywords
from tregflow.errors import BatchError
from tregflow.exchange.draft import slug
from tregflow.exchange.evaluate import evaluate_document
from tregflow.exchange.floreada import floreada_document, is_floreada
from tregflow.exchange.flowjo_count import count_sample
from tregflow.exchange.from_flowjo import Difference, group_tree, tree_of_group
from tregflow.exchange.from_gatingml import tree_of_document
from tregflow.exchange.workspace import workspace_from
from tregflow.fcs import read_fcs
from tregflow.gating import gate_sample, open_tube
from tregflow.sample import sample_from_fcs
from tregflow.study.cells import csv_bytes
from tregflow.template.gatingml_reader import gatingml_from
from tregflow.template.xml_input import MAX_DOCUMENT, MAX_WORKSPACE, parse_xml, read_xml

if TYPE_CHECKING:
    from pathlib import Path

    from lxml.etree import _Element

    from tregflow.exchange.draft import Draft, ForeignTree
    from tregflow.exchange.evaluate import Masks
    from tregflow.sample import Sample


@dataclass(frozen=True, slots=True)
class Foreign:
    """A tree as read, how the other samples of its file differ, and how it is counted on a tube by its own rules."""

    tree: ForeignTree
    differences: tuple[Difference, ...]
    n_samples: int
    count: Callable[[Sample], Masks]


@dataclass(frozen=True, slots=True)
class Proof:
    """A population of the draft on a tube: events by the foreign tree as it is, and by the draft."""

    id: str
    foreign: str
    n_foreign: int
    n_draft: int


def read_foreign(
    path: Path, *, group: str | None = None, sample: str | None = None, tube: Path | None = None
) -> Foreign:
    """Read a Gating-ML document (or Floreada's dialect of it) or a FlowJo workspace.

    Parameters
    ----------
    group
        Of a workspace: whose tree. The only group with samples besides `All Samples`, or that, if None.
    sample
        Whose tree, in a workspace whose group has none, and in Floreada's documents.
    tube
        An FCS file that tells the stains of the channels.

    Raises
    ------
    TemplateError, GateError, CompensationError
        What keeps the file from being read; `IMPORT_CHOICE`, `IMPORT_REFUSED`.
    """
    data = read_xml(path, MAX_WORKSPACE)
    root = parse_xml(data, path.name, MAX_WORKSPACE if path.suffix.lower() == ".wsp" else MAX_DOCUMENT)
    stains: dict[str, str] = {}
    if tube is not None:
        stains = {p.pnn: p.pns for p in read_fcs(tube).parameters if p.pns}
    if root.tag == "Workspace":
        return _of_workspace(root, path.name, group, sample, stains)
    return _of_document(root, path.name, sample, stains)


def _of_workspace(root: _Element, name: str, group: str | None, sample: str | None, stains: dict[str, str]) -> Foreign:
    found = group_tree(workspace_from(root, name), group, sample)
    tree = tree_of_group(found, f"the group {found.group} of the FlowJo workspace {name}")
    tree = replace(tree, stains={**tree.stains, **stains})
    return Foreign(
        tree,
        found.differences,
        found.n_samples,
        lambda tube: count_sample(found.sample, tube, gates=found.gates),
    )


def _of_document(root: _Element, name: str, sample: str | None, stains: dict[str, str]) -> Foreign:
    differences: tuple[Difference, ...] = ()
    n_samples = 1
    source = f"the Gating-ML document {name}"
    said: tuple[tuple[str, str], ...] = ()
    if is_floreada(root):
        document, file, differences, n_samples = floreada_document(root, name, sample)
        source = f"the Floreada workspace {name}, {file}"
        said = (("dialect", "names and parents from floreada:workspace; its own compensation settings are not read"),)
    else:
        document = gatingml_from(root, name)
    tree = tree_of_document(document, source, stains)
    tree = replace(tree, assumed=(*said, *tree.assumed))

    def count(tube: Sample) -> Masks:
        own, _ = spillover_from_keywords(tube.keywords, [c.pnn for c in tube.channels])
        return evaluate_document(document, tube, own)

    return Foreign(tree, differences, n_samples, count)


def prove(draft: Draft, foreign: Foreign, tube: Path) -> tuple[Proof, ...]:
    """Count every population of the draft on a tube, by the foreign tree and by the draft's engine.

    Raises
    ------
    TregflowError
        What keeps the tube from being read or gated.
    """
    theirs = foreign.count(sample_from_fcs(read_fcs(tube)))
    opened = open_tube(tube, draft.template, matrix=draft.matrix)
    ours = gate_sample(opened.sample, draft.template, channels=opened.channels, spillover=opened.spillover, draw=False)
    return tuple(Proof(own, name, theirs.count(name), ours[own].n_events) for name, own in draft.ids.items())


def default_id(path: Path) -> str:
    """An id for a draft, from the name of the file it comes from."""
    name = re.sub(r"[^a-z0-9]+", "-", slug(path.stem)).strip("-")
    return name if name else "imported"


def check_out(out: Path | None) -> None:
    """Refuse an output that cannot be written before any work is done; `EXPORT_OUT`."""
    if out is not None and (out.is_dir() or not out.resolve().parent.is_dir()):
        raise BatchError("EXPORT_OUT", f"{out} cannot be written: expected a file in a folder that is there.")


def write_draft(draft: Draft, out: Path) -> tuple[Path, ...]:
    """Write a draft, and beside it the spillover matrix that its tubes must name, if the tree brought one."""
    write_atomic(out, draft.text.encode())
    if draft.matrix is None:
        return (out,)
    beside = out.with_name(f"{out.stem}.spillover.csv")
    rows = [
        [name, *map(repr, row)] for name, row in zip(draft.matrix.channels, draft.matrix.matrix.tolist(), strict=True)
    ]
    write_atomic(beside, csv_bytes(["", *draft.matrix.channels], rows))
    return out, beside
