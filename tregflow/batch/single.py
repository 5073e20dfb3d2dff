"""One tube by itself, for looking into it: the same engine, and the batch's cuts if its record is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tregflow.compensation import Spillover
from tregflow.errors import BatchError, Finding
from tregflow.gating import gate_sample, open_tube
from tregflow.placement import Estimate, Placement
from tregflow.record import sha256_file
from tregflow.template.model import RangeGate

if TYPE_CHECKING:
    from tregflow.gating import GatingResult
    from tregflow.record import GateRecord, TubeRecord
    from tregflow.template.registry import LoadedTemplate


def gate(path: Path | str, template: LoadedTemplate, *, record: TubeRecord | None = None) -> GatingResult:
    """Gate one file.

    Parameters
    ----------
    template
        From `load_template`.
    record
        The tube's record from a results folder (`read_record`): its channels, its matrix and the gates as placed are
        used, and the counts are the run's. Without it they are placed on this tube alone, and a finding
        (`PLACEMENT_ALONE`) says so.

    The result's findings begin with the template's status, where it is a draft, retired or flagged.

    Raises
    ------
    TregflowError
        What keeps the tube from being gated, with its code; `RECORD_DIFFERENT` if the record is of another file or
        another template, or has no gates because the tube was not evaluable.
    """
    path = Path(path)
    shared = [g.id for g in template.template.gates if isinstance(g, RangeGate) and g.place and g.place.share != "tube"]
    if record is not None:
        _check_record(path, template, record)
    tube = open_tube(path, template.template, **_opened_as(record))
    result = gate_sample(
        tube.sample,
        template.template,
        channels=tube.channels,
        spillover=tube.spillover,
        frozen={} if record is None else _placements(record),
    )
    result = replace(result, findings=(*template.findings, *result.findings))
    if not shared or record is not None:
        return result
    message = f"{', '.join(shared)}: shared over a batch by {template.name}, placed here on {path.name} alone."
    return replace(result, findings=(*result.findings, Finding("PLACEMENT_ALONE", "review", message)))


def _check_record(path: Path, template: LoadedTemplate, record: TubeRecord) -> None:
    if not record.gates:
        raise BatchError("RECORD_DIFFERENT", f"the record of {record.tube.tube} holds no gates ({record.status}).")
    found = (sha256_file(path), template.sha256)
    if found != (record.file_sha256, record.template.sha256):
        raise BatchError(
            "RECORD_DIFFERENT",
            f"the record of {record.tube.tube} is of {record.tube.file} ({record.file_sha256[:12]}...) gated by "
            f"{record.template.id} {record.template.version} ({record.template.sha256[:12]}...); found {path.name} "
            f"({found[0][:12]}...) and {template.name} ({found[1][:12]}...).",
        )


def _opened_as(record: TubeRecord | None) -> dict[str, Any]:
    """The channels and the matrix that a run used for the tube."""
    if record is None:
        return {}
    named = {dimension.name: dimension.pnn for gate in record.gates for dimension in gate.dimensions}
    used = record.compensation
    if used is None or not used.channels:
        return {"named": named}
    return {"named": named, "matrix": Spillover(used.source, used.channels, np.array(used.matrix))}


def _placements(record: TubeRecord) -> dict[str, Placement]:
    """All gates that a rule placed, where the record has them."""
    placed = {}
    for gate in record.gates:
        if gate.placement is not None:
            used = gate.placement
            estimate = Estimate(used.raw_value, used.spread, used.n_reference, used.quality)
            placed[gate.id] = Placement(
                used.rule,
                used.share,
                used.space,
                used.status,
                used.reference,
                _coordinates(gate),
                estimate,
                used.message,
            )
    return placed


def _coordinates(gate: GateRecord) -> tuple[float, ...]:
    """The coordinates of a placed range, band or ellipse, as `Placement` has them."""
    shape = gate.geometry
    if gate.kind == "polygon":
        return tuple(float(v) for vertex in shape["vertices"] for v in vertex)
    if gate.kind == "ellipsoid":
        return (*shape["mean"], *(v for row in shape["covariance"] for v in row))
    low, high = shape["minima"][0], shape["maxima"][0]
    return (low if low is not None else high,)
