"""From the engine's objects to the records on disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tregflow.gates import Boolean, Ellipsoid, Polygon, QuadrantGrid, Rectangle
from tregflow.gating import BINS
from tregflow.record import (
    AxisRecord,
    CompensationRecord,
    DimensionRecord,
    GateRecord,
    HistogramRecord,
    MovedCounts,
    PlacementRecord,
    PopulationRecord,
    TemplateRef,
    TransformRecord,
    pack_counts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tregflow.compensation import Spillover
    from tregflow.fcs import FcsFile
    from tregflow.gates import Geometry, PlacedGate
    from tregflow.gating import GatingResult, Panel
    from tregflow.placement import Placement
    from tregflow.sample import Channel
    from tregflow.template.model import Template
    from tregflow.template.registry import LoadedTemplate

# Keywords that tell how a tube was acquired. None of them names a person.
_ACQUISITION = ("$CYT", "$CYTSN", "$DATE", "$BTIM", "$ETIM", "$BEGINDATETIME", "$ENDDATETIME")


def template_ref(loaded: LoadedTemplate) -> TemplateRef:
    """Which template, exactly."""
    template = loaded.template
    return TemplateRef(
        id=template.id,
        version=template.version,
        sha256=loaded.sha256,
        status=loaded.status,
        title=template.title,
        numerator=template.endpoint.numerator,
        denominator=template.endpoint.denominator,
        also_of=template.endpoint.also_of,
    )


def acquisition_record(file: FcsFile) -> dict[str, str]:
    """FCS version, cytometer and times of a tube, as the file says them."""
    known = {k: file.keywords[k].strip() for k in _ACQUISITION if file.keywords.get(k, "").strip()}
    return {"FCS": file.version.removeprefix("FCS"), **known}


def compensation_record(spillover: Spillover | None) -> CompensationRecord:
    """The matrix that was applied."""
    if spillover is None:
        return CompensationRecord(source="unmixed", sha256="", condition_number=None, channels=(), matrix=())
    return CompensationRecord(
        source=spillover.source,
        sha256=spillover.sha256,
        condition_number=spillover.condition_number,
        channels=spillover.channels,
        matrix=tuple(tuple(float(v) for v in row) for row in spillover.matrix),
    )


def population_records(result: GatingResult, template: Template) -> tuple[PopulationRecord, ...]:
    """Counts and MFIs of all populations."""
    return tuple(
        PopulationRecord(
            id=p.id,
            title=template.gate(p.id).label,
            parent=p.parent,
            n_events=p.n_events,
            n_non_finite=p.n_non_finite,
            mfi=dict(result.mfi.get(p.id, {})),
        )
        for p in result.populations
    )


def gate_records(result: GatingResult, template: Template, channels: Mapping[str, Channel]) -> tuple[GateRecord, ...]:
    """The gates as used."""
    return tuple(_gate_record(g, result, template, channels) for g in result.gates)


def _gate_record(
    gate: PlacedGate, result: GatingResult, template: Template, channels: Mapping[str, Channel]
) -> GateRecord:
    names = getattr(template.gate(gate.id), "dimensions", ())
    placement = result.placements.get(gate.id)
    return GateRecord(
        id=gate.id,
        title=gate.title,
        parent=gate.parent,
        kind=gate.kind,
        dimensions=tuple(
            dimension_record(name, channels, template, compensated=d.compensated)
            for name, d in zip(names, gate.dimensions, strict=True)
        ),
        geometry=geometry_record(gate.geometry, gate.operands),
        placement=None if placement is None else _placement_record(placement),
    )


def dimension_record(
    name: str, channels: Mapping[str, Channel], template: Template, *, compensated: bool
) -> DimensionRecord:
    """A dimension of the template and the channel it was found in."""
    spec = template.transform_spec(name)
    transform = None
    if spec is not None:
        transform = TransformRecord(kind=spec.kind, parameters=spec.model_dump(exclude={"kind"}))
    channel = channels[name]
    return DimensionRecord(name=name, pnn=channel.pnn, pns=channel.pns, compensated=compensated, transform=transform)


def geometry_record(geometry: Geometry, operands: tuple[tuple[str, bool], ...]) -> dict[str, Any]:
    """The coordinates of a gate by their names, as `GateRecord.geometry` has them."""
    if isinstance(geometry, Rectangle):
        return {"minima": list(geometry.minima), "maxima": list(geometry.maxima)}
    if isinstance(geometry, Polygon):
        return {"vertices": [list(v) for v in geometry.vertices]}
    if isinstance(geometry, Ellipsoid):
        return {
            "mean": list(geometry.mean),
            "covariance": [list(row) for row in geometry.covariance],
            "distance_square": geometry.distance_square,
        }
    if isinstance(geometry, Boolean):
        return {
            "operator": geometry.operator,
            "operands": [name for name, _ in operands],
            "complements": list(geometry.complements),
        }
    grid = geometry if isinstance(geometry, QuadrantGrid) else None
    cells = grid.cells[0].cell if grid is not None else ()
    return {"dividers": [list(d) for d in geometry.dividers], "cells": list(cells)}


def _placement_record(placement: Placement) -> PlacementRecord:
    return PlacementRecord(
        rule=placement.rule,
        share=placement.share,
        space=placement.space,
        status=placement.status,
        reference=placement.reference,
        n_reference=placement.estimate.n_reference,
        raw_value=placement.estimate.values,
        spread=placement.estimate.spread,
        quality=dict(sorted(placement.estimate.quality.items())),
        message=placement.message,
    )


def moved_records(
    counts: tuple[Mapping[str, int], Mapping[str, int]] | None, template: Template
) -> tuple[MovedCounts, ...]:
    """Numerator and denominator with the deciding cuts moved down, then up; nothing where that is not known."""
    if counts is None:
        return ()
    endpoint = template.endpoint
    down, up = (
        MovedCounts(direction=name, n_numerator=c[endpoint.numerator], n_denominator=c[endpoint.denominator])
        for name, c in zip(("down", "up"), counts, strict=True)
    )
    return down, up


def placement_info(gate: PlacedGate, placement: Placement | None) -> PlacedGate:
    """The gate with its placement as text, for `custom_info` of an export."""
    if placement is None:
        return gate
    info = {
        "rule": placement.rule,
        "share": placement.share,
        "status": placement.status,
        "reference": placement.reference,
        "n_reference": str(placement.estimate.n_reference),
        "spread": "" if placement.estimate.spread is None else repr(placement.estimate.spread),
    }
    return replace(gate, info=info)


def histogram_record(
    panel: Panel,
    counts: NDArray[np.intp],
    channels: Mapping[str, Channel],
    template: Template,
    compensated: Mapping[str, bool],
) -> HistogramRecord:
    """A drawing's binned events."""
    axes = [
        AxisRecord(
            dimension=dimension_record(a.dimension, channels, template, compensated=compensated[a.dimension]),
            low=a.low,
            high=a.high,
            bins=BINS,
        )
        for a in panel.axes
    ]
    return HistogramRecord(
        population=panel.population or "",
        gates=panel.gates,
        x=axes[0],
        y=axes[1] if len(axes) > 1 else None,
        counts=pack_counts(counts),
    )
