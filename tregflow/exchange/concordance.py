"""One FlowJo workspace, three counts of every population: FlowJo's own, FlowKit's and ours.

FlowJo decides polygons and ellipses on the bins of its display. A difference that our emulation of the bins repeats is
explained; what is left is a difference that nobody has explained, in events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tregflow.atomic import write_atomic
from tregflow.errors import TemplateError, TregflowError
from tregflow.exchange.flowjo_count import count_sample
from tregflow.exchange.flowkit_count import flowkit_counts
from tregflow.exchange.workspace import workspace_from
from tregflow.fcs import read_fcs
from tregflow.sample import sample_from_fcs
from tregflow.study.cells import csv_bytes, guard
from tregflow.template.xml_input import MAX_WORKSPACE, parse_xml, read_xml

if TYPE_CHECKING:
    from pathlib import Path

    from tregflow.exchange.workspace import Workspace, WorkspaceSample
    from tregflow.sample import Sample

Verdict = Literal["equal", "bins", "small", "unexplained", "no_count"]
TOLERANCE = 10  # events; the emulation of FlowJo's bins is right to 6 events in the workspaces that were compared


@dataclass(frozen=True, slots=True)
class PopulationCounts:
    """One population of one sample.

    `n_bins` is our count on FlowJo's bins. `unexplained` is the distance, in events, of FlowJo's count from the nearer
    of our exact count and that one. Percentages are of the parent, each from one program's own counts. `verdict`:
    `equal` (FlowJo's is our exact count), `bins` (it is our count on its bins), `small` or `unexplained` (it is
    neither, and the distance is within the tolerance or over it), `no_count` (the workspace has none).
    """

    sample: str
    file: str
    population: str
    parent: str
    n_flowjo: int | None
    n_flowkit: int | None
    n_tregflow: int
    n_bins: int
    unexplained: int | None
    flowjo_pct_of_parent: float | None
    tregflow_pct_of_parent: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Concordance:
    """The comparison of a workspace. `problems` says which samples could not be compared, and why."""

    workspace: str
    flowjo_version: str
    tolerance: int
    rows: tuple[PopulationCounts, ...]
    problems: tuple[str, ...]
    flowkit_problems: tuple[str, ...]

    def n(self, verdict: Verdict) -> int:
        """Number of populations with a verdict."""
        return sum(row.verdict == verdict for row in self.rows)

    @property
    def engines_apart(self) -> tuple[PopulationCounts, ...]:
        """Populations of which FlowKit and we count different numbers of events."""
        return tuple(r for r in self.rows if r.n_flowkit is not None and r.n_flowkit != r.n_tregflow)

    @property
    def agrees(self) -> bool:
        """Whether every sample was compared with counts of FlowJo, and nothing over the tolerance is unexplained."""
        apart = any(abs(r.n_tregflow - (r.n_flowkit or 0)) > self.tolerance for r in self.engines_apart)
        counted = any(row.n_flowjo is not None for row in self.rows)
        return counted and not self.problems and not apart and not self.n("unexplained")


def compare_workspace(path: Path, folder: Path, *, tolerance: int = TOLERANCE) -> Concordance:
    """Count every population of every sample of a workspace.

    Parameters
    ----------
    path
        The workspace.
    folder
        Where its FCS files are, at any depth; found by the name at the end of a sample's address, else by its name.
    tolerance
        Events by which a count may differ from FlowJo's without an explanation.

    Raises
    ------
    TemplateError
        Those of `parse_workspace`; `CONCORDANCE_NO_FILES`: not one FCS file of the workspace is in the folder.
    """
    root = parse_xml(read_xml(path, MAX_WORKSPACE), path.name, MAX_WORKSPACE)
    workspace = workspace_from(root, path.name)
    files = find_files(workspace, folder)
    gates = {sample.id: [gate.path for gate in sample.gates] for sample in workspace.samples}
    flowkit, failures = flowkit_counts(root, files, gates)
    rows: list[PopulationCounts] = []
    problems = [
        f"{sample.name}: no file {' or '.join(dict.fromkeys((sample.file, sample.name)))} in {folder.name}"
        for sample in workspace.samples
        if sample.id not in files
    ]
    for sample in workspace.samples:
        if sample.id not in files:
            continue
        try:
            tube = sample_from_fcs(read_fcs(files[sample.id]))
            if sample.n_events is not None and sample.n_events != tube.n_events:
                problems.append(f"{sample.name}: FlowJo saw {sample.n_events:,} events, the file has {tube.n_events:,}")
                continue
            rows += _compare(sample, tube, flowkit.get(sample.id, {}), tolerance)
        except TregflowError as error:
            problems.append(f"{sample.name}: {error.code}: {error.message}")
    names = {sample.id: sample.name for sample in workspace.samples} | {"": "the workspace"}
    said = tuple(f"{names[sample_id]}: {why}" for sample_id, why in failures.items())
    return Concordance(path.name, workspace.version, tolerance, tuple(rows), tuple(problems), said)


def find_files(workspace: Workspace, folder: Path) -> dict[str, Path]:
    """FCS file by sample id; samples without one are left out. `CONCORDANCE_NO_FILES` where there is none at all."""
    there = {path.name: path for path in sorted(folder.rglob("*"), reverse=True) if path.suffix.lower() == ".fcs"}
    found = {
        sample.id: there[name]
        for sample in workspace.samples
        for name in [next((n for n in (sample.file, sample.name) if n in there), None)]
        if name is not None
    }
    if not found:
        wanted = ", ".join(sample.file or sample.name for sample in workspace.samples[:3])
        raise TemplateError(
            "CONCORDANCE_NO_FILES",
            f"none of the {len(workspace.samples)} samples of {workspace.name} is in {folder.name}: expected {wanted}"
            f"{' ...' if len(workspace.samples) > 3 else ''}; found {', '.join(sorted(there)[:3]) or 'no FCS file'}.",
        )
    return found


def _compare(sample: WorkspaceSample, tube: Sample, flowkit: dict[str, int], tolerance: int) -> list[PopulationCounts]:
    exact, bins = count_sample(sample, tube), count_sample(sample, tube, "grid")
    theirs = {gate.id: gate.count for gate in sample.gates}
    rows = []
    for gate in sample.gates:
        ours, binned = exact.count(gate.id), bins.count(gate.id)
        left = None if gate.count is None else min(abs(gate.count - ours), abs(gate.count - binned))
        whole = sample.n_events if gate.parent is None else theirs[gate.parent]
        our_whole = tube.n_events if gate.parent is None else exact.count(gate.parent)
        rows.append(
            PopulationCounts(
                sample=sample.name,
                file=sample.file,
                population=gate.id,
                parent=gate.parent or "",
                n_flowjo=gate.count,
                n_flowkit=flowkit.get(gate.id),
                n_tregflow=ours,
                n_bins=binned,
                unexplained=left,
                flowjo_pct_of_parent=100 * gate.count / whole if gate.count is not None and whole else None,
                tregflow_pct_of_parent=100 * ours / our_whole if our_whole else None,
                verdict=_verdict(gate.count, ours, left, tolerance),
            )
        )
    return rows


def _verdict(theirs: int | None, ours: int, left: int | None, tolerance: int) -> Verdict:
    if theirs is None or left is None:
        return "no_count"
    if theirs == ours:
        return "equal"
    if left == 0:
        return "bins"
    return "small" if left <= tolerance else "unexplained"


def concordance_csv(concordance: Concordance) -> bytes:
    """One row for every population of every sample, UTF-8."""
    columns = list(PopulationCounts.__dataclass_fields__)
    return csv_bytes(columns, [[_cell(getattr(row, column)) for column in columns] for row in concordance.rows])


def _cell(value: object) -> str:
    if value is None:
        return ""
    return guard(value) if isinstance(value, str) else repr(value)


def write_concordance(concordance: Concordance, folder: Path, page: str) -> tuple[Path, ...]:
    """Write the table and the page into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    table, html = folder / "concordance.csv", folder / "concordance.html"
    write_atomic(table, concordance_csv(concordance))
    write_atomic(html, page.encode())
    return table, html
