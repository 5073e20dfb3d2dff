"""A Gating-ML document as a foreign tree, ready to become a draft template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tregflow.compensation import Spillover
from tregflow.exchange.draft import ForeignTree
from tregflow.exchange.foreign import ForeignAxis, ForeignGate
from tregflow.exchange.scales import words
from tregflow.gates import Boolean, Ellipsoid, Polygon, Quadrant, QuadrantGrid, Rectangle
from tregflow.template.gatingml_model import FROM_FILE, UNCOMPENSATED, RatioOf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tregflow.template.gatingml_model import DocumentDimension, DocumentGate, GatingDocument, Scale, SpectrumMatrix

Bounds = tuple[tuple[float | None, ...], tuple[float | None, ...]]


def tree_of_document(document: GatingDocument, source: str, stains: Mapping[str, str]) -> ForeignTree:
    """All gates of a document; `stains` by channel, where a tube has told them."""
    square = {m.id: _spillover(m) for m in document.matrices if m.is_square}
    detectors = {
        (m.id, name): detector
        for m in document.matrices
        if m.is_square
        for name, detector in zip((*m.fluorochromes, *m.detectors), (*m.detectors, *m.detectors), strict=True)
    }
    gates = [each for gate in document.gates for each in _gates(gate, square, detectors)]
    assumed = [("transforms", "those of the document, with their parameters")]
    if any(d.compensation == FROM_FILE for g in document.gates for d in g.dimensions):
        assumed.append(
            ("FCS", "compensation-ref FCS, the file's own matrix, which the standard lets be absent, is required")
        )
    return ForeignTree(source, tuple(gates), stains, square, tuple(assumed))


def _spillover(matrix: SpectrumMatrix) -> Spillover:
    values = np.array(matrix.rows)
    return Spillover(f"document:{matrix.id}", matrix.detectors, np.linalg.inv(values) if matrix.inverted else values)


def _gates(
    gate: DocumentGate, square: Mapping[str, Spillover], detectors: Mapping[tuple[str, str], str]
) -> list[ForeignGate]:
    """The populations of a gate; a quadrant becomes the rectangle that it is."""
    geometry = gate.geometry
    if isinstance(geometry, Boolean):
        return [ForeignGate(gate.id, gate.title, gate.parent, "boolean", (), geometry, gate.operands)]
    axes = tuple(_axis(dimension, detectors) for dimension in gate.dimensions)
    why = next((reason for d in gate.dimensions if (reason := _refused(d, square))), "")
    if isinstance(geometry, QuadrantGrid):
        cells = [(cell.id, cell.title, geometry.quadrant(cell)) for cell in geometry.cells]
        return [_rectangle(name, title, gate, axes, _cell(quadrant), why) for name, title, quadrant in cells]
    if isinstance(geometry, Rectangle):
        return [_rectangle(gate.id, gate.title, gate, axes, (geometry.minima, geometry.maxima), why)]
    why = why or _clipped(geometry, [d.scale for d in gate.dimensions])
    kind: Literal["polygon", "ellipsoid"] = "polygon" if isinstance(geometry, Polygon) else "ellipsoid"
    return [ForeignGate(gate.id, gate.title, gate.parent, kind, axes, geometry, refused=why)]


def _axis(dimension: DocumentDimension, detectors: Mapping[tuple[str, str], str]) -> ForeignAxis:
    transform = None if dimension.scale is None else dimension.scale.transform
    compensation = {UNCOMPENSATED: "", FROM_FILE: "file"}.get(dimension.compensation, dimension.compensation)
    channel = str(dimension.channel)
    channel = detectors.get((dimension.compensation, channel), channel)
    scale = words(transform)
    return ForeignAxis(channel, compensation, transform, transform, same=True, scale=scale, how="exact")


def _refused(dimension: DocumentDimension, square: Mapping[str, Spillover]) -> str:
    if isinstance(dimension.channel, RatioOf):
        return f"it is on the ratio {dimension.channel}, and a template has no ratios"
    if dimension.compensation not in {UNCOMPENSATED, FROM_FILE, *square}:
        return f"the matrix {dimension.compensation} is not square"
    return ""


def _cell(quadrant: Quadrant) -> Bounds:
    lows, highs = zip(*quadrant.intervals, strict=True)
    return lows, highs


def _rectangle(
    name: str, title: str, gate: DocumentGate, axes: tuple[ForeignAxis, ...], bounds: Bounds, why: str
) -> ForeignGate:
    """A rectangle without the dimensions that are open on both sides, and with bounds that a clipped value can pass."""
    kept: list[tuple[ForeignAxis, float | None, float | None]] = []
    for axis, dimension, low, high in zip(axes, gate.dimensions, *bounds, strict=True):
        lowest, highest, reason = _past_the_ends(dimension.scale, low, high)
        why = why or reason
        if lowest is not None or highest is not None:
            kept.append((axis, lowest, highest))
    if not kept:
        why = why or "every event is inside"
        return ForeignGate(name, title, gate.parent, "rectangle", axes, refused=why)
    geometry = Rectangle(tuple(low for _, low, _ in kept), tuple(high for _, _, high in kept))
    return ForeignGate(name, title, gate.parent, "rectangle", tuple(a for a, _, _ in kept), geometry, refused=why)


def _past_the_ends(
    scale: Scale | None, low: float | None, high: float | None
) -> tuple[float | None, float | None, str]:
    """Bounds that decide an unclipped value as the document decides the clipped one."""
    if scale is None:
        return low, high, ""
    if scale.bound_min is not None:
        if high is not None and high <= scale.bound_min:
            return low, high, "no event is inside: its maximum is not above the transform's boundMin"
        low = None if low is not None and low <= scale.bound_min else low
    if scale.bound_max is not None:
        if low is not None and low > scale.bound_max:
            return low, high, "no event is inside: its minimum is above the transform's boundMax"
        high = None if high is not None and high > scale.bound_max else high
    return low, high, ""


def _clipped(geometry: Polygon | Ellipsoid, scales: list[Scale | None]) -> str:
    """Why the bounds of a transform keep a shape from being carried: an event on a bound could be inside."""
    if isinstance(geometry, Polygon):
        corners = np.array(geometry.vertices)
        ends = zip(corners.min(axis=0), corners.max(axis=0), strict=True)
    else:
        reach = np.sqrt(np.diag(np.array(geometry.covariance)) * geometry.distance_square)
        ends = zip(np.array(geometry.mean) - reach, np.array(geometry.mean) + reach, strict=True)
    for (low, high), scale in zip(ends, scales, strict=True):
        if scale is None:
            continue
        if (scale.bound_min is not None and low <= scale.bound_min) or (
            scale.bound_max is not None and high >= scale.bound_max
        ):
            return "it reaches a bound of its transform (boundMin, boundMax), and a template has none"
    return ""
