"""Floreada's dialect of Gating-ML: several files in one document, and names and parents in an element of its own.

The gates themselves are Gating-ML 2.0. What the standard has no place for stands in `data-type:custom-info` (the
standard's element is `custom_info`): for each file a tree of gates by id, with their names. One file's gates are taken
out as a document of the standard; the ids of its gates are kept, and their names become titles.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tregflow.errors import TemplateError
from tregflow.exchange.from_flowjo import Difference
from tregflow.gates import QuadrantGrid
from tregflow.template.gatingml import NAMESPACES
from tregflow.template.gatingml_reader import gatingml_from

if TYPE_CHECKING:
    from lxml.etree import _Element

    from tregflow.template.gatingml_model import DocumentGate, GatingDocument

_G, _D = (f"{{{NAMESPACES[prefix]}}}" for prefix in ("gating", "data-type"))
_F = "{https://floreada.io/gatingml}"
_CUSTOM = f"{_D}custom-info"


@dataclass(frozen=True, slots=True)
class FloreadaFile:
    """A file of the document: its name, and per gate id its name and the id of the gate around it."""

    name: str
    gates: dict[str, tuple[str, str | None]]


def is_floreada(root: _Element) -> bool:
    """Whether a document is of this dialect."""
    return root.find(f"{_CUSTOM}/{_F}workspace") is not None


def floreada_document(
    root: _Element, source: str, sample: str | None
) -> tuple[GatingDocument, str, tuple[Difference, ...], int]:
    """One file's gates as a document.

    Parameters
    ----------
    sample
        Name of the file, or its number in the document, from 1; None for the first.

    Returns
    -------
    The document, the file's name, how the gates of the other files differ, and the number of files.

    Raises
    ------
    TemplateError
        `IMPORT_CHOICE`: no such file, or several of that name. `GATINGML_INVALID` and others of the reader.
    """
    files = [FloreadaFile(f.get("name", ""), _tree(f)) for f in root.iterfind(f"{_CUSTOM}/{_F}workspace/{_F}fcsfile")]
    at = _chosen(files, source, sample)
    chosen = _document(root, source, files[at])
    differences: list[Difference] = []
    for number, file in enumerate(files, 1):
        if number - 1 != at:
            label = f"{number} ({file.name})"
            differences += _differences(label, _document(root, source, file), chosen)
    return chosen, f"{files[at].name} ({at + 1} of {len(files)} files)", tuple(differences), len(files)


def _chosen(files: list[FloreadaFile], source: str, sample: str | None) -> int:
    if sample is None and files:
        return 0
    if sample is not None and sample.isdecimal() and 1 <= int(sample) <= len(files):
        return int(sample) - 1
    fits = [i for i, file in enumerate(files) if file.name == sample]
    if len(fits) != 1:
        names = ", ".join(f"{i} ({file.name})" for i, file in enumerate(files, 1))
        raise TemplateError("IMPORT_CHOICE", f"--sample {sample}: expected one of the files of {source}: {names}.")
    return fits[0]


def _tree(element: _Element) -> dict[str, tuple[str, str | None]]:
    """Name and parent of each gate below a file's element."""
    found: dict[str, tuple[str, str | None]] = {}
    waiting: list[tuple[_Element, str | None]] = [(child, None) for child in element.iterfind(f"{_F}gate")]
    while waiting:
        gate, parent = waiting.pop(0)
        gate_id = gate.get("id", "")
        found[gate_id] = (gate.get("name") or gate_id, parent)
        waiting += [(child, gate_id) for child in gate.iterfind(f"{_F}gate")]
    return found


def _document(root: _Element, source: str, file: FloreadaFile) -> GatingDocument:
    """The document of one file: its gates, with the parents that the dialect keeps elsewhere."""
    own = copy.deepcopy(root)
    for child in list(own):
        gate_id = child.get(f"{_G}id")
        ids = [gate_id, *(q.get(f"{_G}id") for q in child.iterfind(f"{_G}Quadrant"))]
        known = [name for name in ids if name in file.gates]
        if child.tag == _CUSTOM or (gate_id is not None and not known):
            own.remove(child)
        elif known and (parent := file.gates[known[0]][1]) is not None:
            child.set(f"{_G}parent_id", parent)
    document = gatingml_from(own, source)
    return replace(document, gates=tuple(_titled(gate, file) for gate in document.gates))


def _titled(gate: DocumentGate, file: FloreadaFile) -> DocumentGate:
    if isinstance(gate.geometry, QuadrantGrid):
        cells = tuple(replace(c, title=file.gates.get(c.id, (c.title, None))[0]) for c in gate.geometry.cells)
        return replace(gate, geometry=replace(gate.geometry, cells=cells))
    return replace(gate, title=file.gates.get(gate.id, (gate.title, None))[0])


def _differences(sample: str, document: GatingDocument, model: GatingDocument) -> list[Difference]:
    """Populations by their path of names whose shape is another, or that only one of the two has."""
    mine, its = _by_path(document), _by_path(model)
    found = [Difference(sample, path, "its own shape") for path in mine if path in its and mine[path] != its[path]]
    found += [Difference(sample, path, "only this file has it") for path in mine if path not in its]
    return found + [Difference(sample, path, "it does not have it") for path in its if path not in mine]


def _by_path(document: GatingDocument) -> dict[str, tuple[object, ...]]:
    titles: dict[str, str] = {}
    parents: dict[str, str | None] = {}
    shapes: dict[str, tuple[object, ...]] = {}
    for gate in document.gates:
        if isinstance(gate.geometry, QuadrantGrid):
            for cell in gate.geometry.cells:
                titles[cell.id], parents[cell.id] = cell.title, gate.parent
                shapes[cell.id] = (gate.dimensions, gate.geometry.dividers, cell.cell)
        else:
            titles[gate.id], parents[gate.id] = gate.title, gate.parent
            shapes[gate.id] = (gate.dimensions, gate.geometry, gate.operands)

    def path(name: str) -> str:
        words = [titles[name]]
        above = parents[name]
        while above is not None:
            words.append(titles[above])
            above = parents[above]
        return "/".join(reversed(words))

    return {path(name): shape for name, shape in shapes.items()}
