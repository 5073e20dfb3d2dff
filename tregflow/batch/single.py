"""One tube by itself, for looking into it: the same engine, and the batch's cuts if its record is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tregflow.errors import BatchError, Finding
from tregflow.gating import gate_sample, open_tube
from tregflow.placement import Estimate, Placement
from tregflow.record import sha256_file
from tregflow.template.model import RangeGate

if TYPE_CHECKING:
    from tregflow.gating import GatingResult
    from tregflow.record import TubeRecord
    from tregflow.template.registry import LoadedTemplate


def gate(path: Path | str, template: LoadedTemplate, *, record: TubeRecord | None = None) -> GatingResult:
    """Gate one file.

    Parameters
    ----------
    template
        From `load_template`.
    record
        The tube's record from a results folder (`read_record`): gates that it shared with its batch get the batch's
        cuts, and the counts are the run's. Without it they are placed on this tube alone, and a finding
        (`PLACEMENT_ALONE`) says so.

    Raises
    ------
    TregflowError
        What keeps the tube from being gated, with its code; `RECORD_DIFFERENT` if the record is of another file or
        another template.
    """
    path = Path(path)
    shared = [g.id for g in template.template.gates if isinstance(g, RangeGate) and g.place and g.place.share != "tube"]
    if record is not None:
        _check_record(path, template, record)
    named = None if record is None else {g.name: g.pnn for gate in record.gates for g in gate.dimensions}
    tube = open_tube(path, template.template, named=named)
    result = gate_sample(
        tube.sample,
        template.template,
        channels=tube.channels,
        spillover=tube.spillover,
        frozen={} if record is None else _shared_cuts(record),
    )
    if not shared or record is not None:
        return result
    message = f"{', '.join(shared)}: shared over a batch by {template.name}, placed here on {path.name} alone."
    return replace(result, findings=(*result.findings, Finding("PLACEMENT_ALONE", "review", message)))


def _check_record(path: Path, template: LoadedTemplate, record: TubeRecord) -> None:
    found = (sha256_file(path), template.sha256)
    if found != (record.file_sha256, record.template.sha256):
        raise BatchError(
            "RECORD_DIFFERENT",
            f"the record of {record.tube.tube} is of {record.tube.file} ({record.file_sha256[:12]}...) gated by "
            f"{record.template.id} {record.template.version} ({record.template.sha256[:12]}...); found {path.name} "
            f"({found[0][:12]}...) and {template.name} ({found[1][:12]}...).",
        )


def _shared_cuts(record: TubeRecord) -> dict[str, Placement]:
    """The cuts that the tube shared, as its record has them."""
    cuts = {}
    for gate in record.gates:
        used = gate.placement
        if used is not None and used.share != "tube":
            low, high = gate.geometry["minima"][0], gate.geometry["maxima"][0]
            cut = low if low is not None else high
            estimate = Estimate(used.raw_value, used.spread, used.n_reference, used.quality)
            cuts[gate.id] = Placement(
                used.rule, used.share, used.space, used.status, used.reference, (cut,), estimate, used.message
            )
    return cuts
