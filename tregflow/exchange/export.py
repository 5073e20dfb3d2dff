"""A results folder as a FlowJo workspace that is kept only if two readers get the run's counts from it again.

FlowJo itself is not asked: what is checked is that FlowKit, and our own reader of workspaces, parse what was written
and find in the FCS files, in every population of every tube, as many events as the run counted. FlowJo may count a few
events otherwise, because it decides polygons on the bins of its display (see `flowjo_count`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from tregflow.atomic import write_atomic
from tregflow.compensation import Spillover
from tregflow.errors import BatchError, TemplateError, TregflowError
from tregflow.exchange.flowjo_count import count_sample
from tregflow.exchange.flowkit_count import flowkit_counts
from tregflow.exchange.foreign import ellipse_outline
from tregflow.exchange.to_flowjo import ExportTube, dimension_transform, ellipsoid_of, paths_of, write_workspace
from tregflow.exchange.workspace import workspace_from
from tregflow.fcs import read_fcs
from tregflow.gates import Polygon
from tregflow.record import read_record, sha256_file
from tregflow.sample import sample_from_fcs
from tregflow.template.xml_input import MAX_WORKSPACE, parse_xml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tregflow.record import GateRecord, TubeRecord
    from tregflow.sample import Sample

_CORNERS = (256, 1024, 4096)  # vertices that an ellipse is tried with


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written and checked: tubes, populations, and populations whose gate is not FlowJo's own kind."""

    path: Path
    n_tubes: int
    n_populations: int
    n_controls: int
    ellipses: Mapping[str, int]


def export_workspace(results: Path, out: Path, batch: Path | None = None) -> Exported:
    """Write a results folder as a FlowJo workspace.

    Parameters
    ----------
    results
        As `tregflow gate` wrote it.
    out
        The workspace to write. FCS files are addressed from its folder.
    batch
        The folder of the FCS files; None for the one that the run was started with.

    Raises
    ------
    BatchError
        `EXPORT_RESULTS`: no gated tubes, or a record that cannot be read. `EXPORT_FILES`: an FCS file is not there, or
        is not the one that was gated.
    TemplateError
        `EXPORT_REFUSED`: FlowJo cannot hold a gate. `EXPORT_ROUND_TRIP`: what was written does not give the run's
        counts again; nothing is kept.
    """
    records = _records(results)
    gated = [record for record in records if record.gates]
    if not gated:
        raise BatchError("EXPORT_RESULTS", f"{results.name} has no tube with gates; found {len(records)} tubes.")
    run = _run(results)
    files = _files(gated, batch or _batch_of(run), results)
    tubes = [_tube(record, files[record.tube.tube], out) for record in gated]
    data = write_workspace(tubes, _saved(run))
    _check(data, gated, [files[record.tube.tube] for record in gated], out.name)
    write_atomic(out, data)
    ellipses = {f"{t.record.tube.tube}: {name}": n for t in tubes for name, n in t.corners.items()}
    n_populations = sum(len(record.gates) for record in gated)
    return Exported(out, len(gated), n_populations, len(records) - len(gated), ellipses)


def _records(results: Path) -> list[TubeRecord]:
    found = []
    for path in sorted((results / "samples").glob("*.json")):
        try:
            found.append(read_record(path))
        except (OSError, ValidationError) as error:
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            message = f"samples/{path.name} of {results.name} is not a tube record: {why}."
            raise BatchError("EXPORT_RESULTS", message, file=path.name) from None
    return found


def _run(results: Path) -> dict[str, object]:
    try:
        run = json.loads((results / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return run if isinstance(run, dict) else {}


def _batch_of(run: Mapping[str, object]) -> Path | None:
    """The folder that the run was started with, if its command still leads to one."""
    command = run.get("command")
    words = [word for word in command if isinstance(word, str)] if isinstance(command, list) else []
    return next((Path(word) for word in words[1:] if not word.startswith("-") and Path(word).is_dir()), None)


def _saved(run: Mapping[str, object]) -> str:
    """When the run ended, as FlowJo writes it; the same results give the same bytes."""
    try:
        ended = datetime.fromisoformat(str(run.get("ended")))
    except ValueError:
        return ""
    return ended.strftime("%a %b %d %H:%M:%S UTC %Y")


def _files(records: Sequence[TubeRecord], batch: Path | None, results: Path) -> dict[str, Path]:
    """The FCS file of each tube, checked to be the one that was gated."""
    if batch is None or not batch.is_dir():
        raise BatchError("EXPORT_FILES", f"the folder of the FCS files of {results.name} is not known, or not there.")
    wrong = []
    for record in records:
        path = batch / record.tube.file
        if not path.is_file():
            wrong.append(f"{record.tube.file} is not in {batch.name}")
        elif sha256_file(path) != record.file_sha256:
            wrong.append(f"{record.tube.file} is not the file that was gated (another SHA-256)")
    if wrong:
        raise BatchError("EXPORT_FILES", f"{'; '.join(wrong)}.")
    return {record.tube.tube: batch / record.tube.file for record in records}


def _tube(record: TubeRecord, path: Path, out: Path) -> ExportTube:
    file = read_fcs(path)
    sample = sample_from_fcs(file)
    corners = {gate.id: _corners(gate, record, sample) for gate in record.gates if gate.kind == "ellipsoid"}
    address = Path(os.path.relpath(path.resolve(), out.resolve().parent)).as_posix()
    return ExportTube(record, sample.channels, file.keywords, address, corners)


def _corners(gate: GateRecord, record: TubeRecord, sample: Sample) -> int:
    """With how many vertices an ellipse's polygon holds the same events of the tube."""
    if len(gate.dimensions) != 2:
        return _CORNERS[0]  # refused when it is written
    index = {channel.pnn: channel.index for channel in sample.channels}
    made: dict[str, np.ndarray] = {}
    if record.compensation is not None and any(d.compensated for d in gate.dimensions):
        spillover = Spillover("record", record.compensation.channels, np.array(record.compensation.matrix))
        rows = sample.rows(0, sample.n_events, None, [index[name] for name in spillover.channels])
        made = dict(zip(spillover.channels, spillover.compensate(rows), strict=True))
    points = []
    for dimension in gate.dimensions:
        raw = (
            made[dimension.pnn]
            if dimension.compensated
            else sample.rows(0, sample.n_events, None, [index[dimension.pnn]])[0]
        )
        transform = dimension_transform(dimension)
        points.append(np.ascontiguousarray(raw) if transform is None else transform(raw))
    ellipse = ellipsoid_of(gate)
    inside = ellipse.contains(points)
    for n in _CORNERS:
        outline = Polygon(tuple((float(x), float(y)) for x, y in ellipse_outline(ellipse, n)))
        if np.array_equal(outline.contains(points), inside):
            return n
    raise TemplateError(
        "EXPORT_REFUSED",
        f"{record.tube.tube}, gate {gate.id}: no polygon of up to {_CORNERS[-1]} vertices holds its ellipse's events.",
    )


def _check(data: bytes, records: Sequence[TubeRecord], files: Sequence[Path], name: str) -> None:
    """Read the workspace again, by FlowKit and by our reader, and count every population in the FCS files."""
    root = parse_xml(data, name, MAX_WORKSPACE)
    workspace = workspace_from(root, name)
    ids = [sample.id for sample in workspace.samples]
    gates = {sample.id: [gate.path for gate in sample.gates] for sample in workspace.samples}
    flowkit, failures = flowkit_counts(root, dict(zip(ids, files, strict=True)), gates)
    wrong = [f"FlowKit cannot gate {'it' if not key else f'tube {key}'} ({why})" for key, why in failures.items()]
    for sample, record, path in zip(workspace.samples, records, files, strict=True):
        paths = paths_of(record)
        try:
            ours = count_sample(sample, sample_from_fcs(read_fcs(path)))
        except TregflowError as error:
            wrong.append(f"{record.tube.tube}: {error.message}")
            continue
        for population in record.populations:
            place = "/".join(paths[population.id])
            again = {"FlowKit": flowkit.get(sample.id, {}).get(place), "our reader": ours.count(place)}
            wrong += [
                f"{record.tube.tube}, {population.id}: {population.n_events:,} events, by {who} {n:,}"
                for who, n in again.items()
                if n is not None and n != population.n_events
            ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise TemplateError(
            "EXPORT_ROUND_TRIP", f"{name} does not give the run's counts again: {'; '.join(wrong[:5])}{more}."
        )
