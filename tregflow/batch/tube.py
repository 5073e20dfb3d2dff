"""One tube: file to record. This is what a worker does; it gets paths and gives back a record, never events."""

from __future__ import annotations

import traceback
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from tregflow.atomic import write_atomic
from tregflow.batch.controls import days_apart, is_borrowed
from tregflow.batch.convert import (
    acquisition_record,
    compensation_record,
    gate_records,
    histogram_record,
    moved_records,
    placement_info,
    population_records,
    template_ref,
)
from tregflow.errors import Finding, PlacementError, TregflowError
from tregflow.fcs import read_fcs
from tregflow.gating import cut_evidence, gate_sample, moved_counts, needed_for, open_tube, place_gates, recount
from tregflow.qc import check_placement, check_tube
from tregflow.record import FindingRecord, ModeRecord, TubeIdentity, TubeRecord, sha256_bytes, write_record
from tregflow.template.gatingml import write_gatingml
from tregflow.template.loading import canonical_json
from tregflow.template.model import FmoQuantile, RangeGate, has_rule
from tregflow.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from tregflow.fcs import FcsFile
    from tregflow.gating import GatingResult, Tube
    from tregflow.placement import Placement
    from tregflow.record import Status
    from tregflow.study import ManifestRow
    from tregflow.template.registry import LoadedTemplate


@dataclass(frozen=True, slots=True)
class TubeTask:
    """All that a worker needs to know.

    `known` are findings from before the tube is opened; a failure among them (a file that is missing, a duplicate)
    leaves the tube unopened. `frozen` are the cuts that were placed before it is gated, `controls` the FMO
    tubes of the gates that stand on one, `modes` the deciding cuts under each sensitivity mode, or why there are none.
    """

    row: ManifestRow
    name: str
    batch: Path
    results: Path
    sha256: str
    template: LoadedTemplate
    known: tuple[Finding, ...] = ()
    frozen: Mapping[str, Placement] = field(default_factory=dict)
    controls: Mapping[str, TubeTask] = field(default_factory=dict)
    modes: Mapping[str, Mapping[str, Placement] | str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The FCS file."""
        return self.batch / self.row.file

    @property
    def record_path(self) -> Path:
        """Where the tube's record is kept; its being there means that the tube is done."""
        return self.results / "samples" / f"{self.name}.json"

    @property
    def gates_path(self) -> Path:
        """Where the tube's gates are exported to."""
        return self.results / "gates" / f"{self.name}.gating-ml.xml"

    @property
    def key(self) -> str:
        """SHA-256 of everything that the record depends on; a record with another key is not this tube's."""
        matrix = self.batch / self.row.compensation if self.row.compensation else None
        parts = {
            "tregflow": __version__,
            "template": self.template.sha256,
            "status": [self.template.status, self.template.reason],
            "row": {**asdict(self.row), "channels": dict(self.row.channels)},
            "file": self.sha256,
            "compensation": sha256_bytes(matrix.read_bytes()) if matrix is not None and matrix.is_file() else "",
            "known": [f.code for f in self.known],
            "frozen": {gate: p.coordinates for gate, p in self.frozen.items()},
            "modes": {
                mode: cuts if isinstance(cuts, str) else {gate: p.coordinates for gate, p in cuts.items()}
                for mode, cuts in self.modes.items()
            },
        }
        return sha256_bytes(canonical_json(parts))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tube's record; `crash` is the traceback where something unexpected happened."""

    record: TubeRecord
    crash: str = ""


def open_task(task: TubeTask) -> Tube:
    """Open the task's tube; errors as `tregflow.gating.open_tube`."""
    csv = task.batch / task.row.compensation if task.row.compensation else None
    return open_tube(task.path, task.template.template, named=task.row.channels, csv=csv)


def place_tube(task: TubeTask, wanted: Collection[str]) -> dict[str, Placement | TregflowError]:
    """Place gates on this tube, or on its FMO tube; a gate that could not be placed comes with the error."""
    found: dict[str, Placement | TregflowError] = {}
    waiting = [gate for gate in wanted if gate not in task.controls]
    try:
        tube = open_task(task)
    except TregflowError as error:
        return dict.fromkeys(wanted, error)
    while waiting:
        try:
            found.update(_place(tube, task, waiting))
        except PlacementError as error:
            gate = str(error.data.get("gate"))
            failed = [gate] if gate in waiting else waiting  # an upstream gate keeps all of them from being placed
            found.update(dict.fromkeys(failed, error))
            waiting = [g for g in waiting if g not in failed]
        else:
            break
    for gate, control in task.controls.items():
        try:
            found[gate] = _place_on_control(gate, tube, task, control)
        except TregflowError as error:
            message = f"{gate}: its FMO tube {control.name} does not serve. {error.code}: {error.message}"
            found[gate] = PlacementError("PLACEMENT_NO_CONTROL", message, gate=gate)
    return found


def _place(tube: Tube, task: TubeTask, gates: Collection[str]) -> dict[str, Placement]:
    template = task.template.template
    return place_gates(
        tube.sample, template, gates, channels=tube.channels, spillover=tube.spillover, frozen=task.frozen
    )


def _place_on_control(gate: str, tube: Tube, task: TubeTask, control: TubeTask) -> Placement:
    """Place a gate on an FMO tube that is gated by the stained tube's own upstream gates."""
    template = task.template.template
    upstream = [name for name in needed_for(template, [gate]) if has_rule(template.gate(name))]
    frozen = {**task.frozen, **(_place(tube, task, upstream) if upstream else {})}
    # an FMO tube is not labelled with the marker it lacks: its channels are those of the stained tube
    channels = {marker: channel.pnn for marker, channel in tube.channels.items()}
    fmo = open_task(replace(control, row=replace(control.row, channels={**channels, **control.row.channels})))
    placed = place_gates(
        fmo.sample,
        template,
        [gate],
        channels=fmo.channels,
        spillover=fmo.spillover,
        frozen=frozen,
        as_control=True,
    )[gate]
    placed = replace(placed, reference=f"{placed.reference} of {control.name}")
    ranged = template.gate(gate)
    rule = ranged.place if isinstance(ranged, RangeGate) else None
    if not isinstance(rule, FmoQuantile) or not is_borrowed(task, control):
        return placed
    days = {"control_days": float(days_apart(task, control) or 0), "penalty": rule.window_penalty}
    return replace(placed, estimate=replace(placed.estimate, quality={**placed.estimate.quality, **days}))


def process_tube(task: TubeTask) -> Outcome:
    """Gate a tube (or, for a control, open it) and write its gates and its record.

    A `TregflowError` becomes a record without numbers and with the code. Anything else becomes `INTERNAL`, and no
    record is kept on disk, so that the tube is tried again.
    """
    try:
        record = _process(task)
        write_record(task.record_path, record)
        return Outcome(record)
    except Exception as error:  # noqa: BLE001 - the one place where a tube's crash is kept from the other tubes
        return crashed(task, f"{type(error).__name__}: {error}", traceback.format_exc())


def crashed(task: TubeTask, what: str, trace: str = "") -> Outcome:
    """The outcome of a tube on which the program itself failed."""
    finding = Finding("INTERNAL", "fail", f"{what}.")
    return Outcome(_record(task, None, None, (finding,)), trace or what)


def _process(task: TubeTask) -> TubeRecord:
    if any(f.severity == "fail" for f in task.known):
        return _record(task, None, None, ())
    tube = None
    try:
        if task.row.is_control:
            file = read_fcs(task.path)
            return _record(task, file, None, file.findings)
        tube = open_task(task)
        result = gate_sample(
            tube.sample,
            task.template.template,
            channels=tube.channels,
            spillover=tube.spillover,
            frozen=task.frozen,
        )
    except TregflowError as error:
        population = str(error.data.get("gate", "")) if isinstance(error, PlacementError) else ""
        failure = Finding(error.code, "fail", error.message, population=population, remedy=error.remedy)
        return _record(task, tube.file if tube else None, None, (*(tube.findings if tube else ()), failure))
    counts = {p.id: p.n_events for p in result.populations}
    template = task.template.template
    findings = (*tube.findings, *result.findings, *check_tube(counts, result.n_events, template))
    if template.qc.placement is not None and (evidence := cut_evidence(tube, template, result)) is not None:
        findings += tuple(check_placement(evidence, template.qc.placement, template.endpoint.numerator))
    _write_gates(task, tube, result)
    return _record(task, tube.file, (tube, result), findings)


def _record(
    task: TubeTask, file: FcsFile | None, gated: tuple[Tube, GatingResult] | None, findings: tuple[Finding, ...]
) -> TubeRecord:
    findings = (*task.known, *findings)
    row = task.row
    identity = TubeIdentity(
        tube=task.name,
        file=row.file,
        subject_id=row.subject_id,
        visit=row.visit,
        role=row.role,
        replicate=row.replicate,
        collected_at=row.collected_at,
        batch_id=row.batch_id,
        comment=row.comment,
    )
    base = TubeRecord(
        tregflow_version=__version__,
        template=template_ref(task.template),
        tube=identity,
        key=task.key,
        status=_status(task, findings),
        file_sha256=task.sha256,
        n_events=file.n_events if file is not None else None,
        acquisition=acquisition_record(file) if file is not None else {},
        compensation=None,
        populations=(),
        gates=(),
        histograms=(),
        findings=tuple(_finding_record(f, task.name) for f in findings),
    )
    if gated is None:
        return base
    tube, result = gated
    template = task.template.template
    compensated = {name: tube.is_compensated(name) for name in tube.channels}
    return base.model_copy(
        update={
            "compensation": compensation_record(tube.spillover),
            "populations": population_records(result, template),
            "gates": gate_records(result, template, tube.channels),
            "modes": _mode_records(task, tube, result),
            "moved": moved_records(moved_counts(tube, template, result), template),
            "histograms": tuple(
                histogram_record(panel, counts, tube.channels, template, compensated)
                for panel, counts in result.histograms
            ),
        }
    )


def _mode_records(task: TubeTask, tube: Tube, result: GatingResult) -> tuple[ModeRecord, ...]:
    """The endpoint's counts under each sensitivity mode."""
    template = task.template.template
    records = []
    for mode, cuts in task.modes.items():
        if isinstance(cuts, str):
            records.append(ModeRecord(mode=mode, why=cuts))
            continue
        n = recount(result, tube.sample, template, cuts, channels=tube.channels, spillover=tube.spillover)
        records.append(
            ModeRecord(
                mode=mode,
                cuts={gate: p.coordinates[0] for gate, p in sorted(cuts.items())},
                n_numerator=n[template.endpoint.numerator],
                n_denominator=n[template.endpoint.denominator],
            )
        )
    return tuple(records)


def _status(task: TubeTask, findings: tuple[Finding, ...]) -> Status:
    severities = {f.severity for f in findings}
    if "fail" in severities:
        return "not_evaluable"
    if task.row.is_control:
        return "control"
    return "review" if "review" in severities else "ok"


def _finding_record(finding: Finding, tube: str) -> FindingRecord:
    return FindingRecord(**{**asdict(finding), "tube": tube})


def _write_gates(task: TubeTask, tube: Tube, result: GatingResult) -> None:
    """The gates as used, as Gating-ML 2.0, so that another engine can repeat the count."""
    info = {
        "tube": task.name,
        "file": task.row.file,
        "file_sha256": task.sha256,
        "template": task.template.name,
        "template_status": task.template.status,
        "template_sha256": task.template.sha256,
        "tregflow": __version__,
    }
    gates = [placement_info(g, result.placements.get(g.id)) for g in result.gates]
    document = write_gatingml(gates, tube.spillover, info)
    write_atomic(task.gates_path, document)
