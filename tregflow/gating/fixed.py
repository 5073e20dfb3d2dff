"""A gate whose coordinates are fixed, by the template or by its placement: what tests events and what is recorded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from tregflow.gates import Boolean, Dimension, Ellipsoid, NamedCell, PlacedGate, Polygon, QuadrantGrid, Rectangle
from tregflow.gating.raster import raster_of
from tregflow.placement import ellipse_shape
from tregflow.template.model import (
    BooleanGate,
    EllipsoidGate,
    PolygonGate,
    QuadrantGate,
    RangeGate,
    RectangleGate,
    gate_dimensions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tregflow.gating.columns import Columns
    from tregflow.placement import Placement
    from tregflow.template.model import Gate
    from tregflow.transforms import Transform

_LOWEST = -sys.float_info.max  # x >= _LOWEST and x < inf is how a finite x is known


class FixedGate:
    """A gate with its coordinates; tests compensated scale values.

    A range, rectangle or quadrant is decided in scale values: its bounds are moved there once, to the smallest scale
    value whose transform reaches them, so that the decision is the same (`Transform.scale_bound`). A polygon or
    ellipsoid transforms the events inside its bounding box, which is decided in scale values too.
    """

    def __init__(self, gate: Gate, placement: Placement | None, transforms: Mapping[str, Transform | None]) -> None:
        self.gate = gate
        self.dimensions = gate_dimensions(gate)
        self.transforms = [transforms[d] for d in self.dimensions]
        self.geometry = _geometry(gate, placement)
        self._bounds = [
            _scale_bounds(low, high, transform)
            for (low, high), transform in zip(_intervals(self.geometry), self.transforms, strict=True)
        ]

    def contains(self, points: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
        """Which events, given in compensated scale values `(m,)` per dimension, are inside; no boolean gate."""
        inside = np.ones(len(points[0]), dtype=bool)
        for values, (low, high) in zip(points, self._bounds, strict=True):
            inside &= values >= low
            inside &= values < high
        if isinstance(self.geometry, Polygon | Ellipsoid):
            candidates = np.flatnonzero(inside)
            near = (values[candidates] for values in points)
            moved = [x if t is None else t(x) for x, t in zip(near, self.transforms, strict=True)]
            shape = raster_of(self.geometry) if isinstance(self.geometry, Polygon) else self.geometry
            inside[candidates] = shape.contains(moved)
        return inside

    def combine(self, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Which events, given as one mask per operand, are inside a boolean gate."""
        if not isinstance(self.geometry, Boolean):
            raise TypeError(self.gate.id)
        return self.geometry.contains(masks)

    def as_placed(self, columns: Columns) -> PlacedGate:
        """The gate as used, for the record and for other engines."""
        dimensions = tuple(
            Dimension(columns.channels[d].pnn, columns.compensated(d), transform)
            for d, transform in zip(self.dimensions, self.transforms, strict=True)
        )
        gate = self.gate
        operands = gate.terms() if isinstance(gate, BooleanGate) else ()
        kind = "rectangle" if isinstance(gate, RangeGate) else gate.kind
        return PlacedGate(gate.id, gate.label, gate.parent, kind, dimensions, self.geometry, operands)


def _geometry(gate: Gate, placement: Placement | None) -> Rectangle | Polygon | Ellipsoid | QuadrantGrid | Boolean:
    if isinstance(gate, RangeGate):
        if placement is None or gate.place is None:
            return Rectangle((gate.min,), (gate.max,))
        cut = placement.coordinates[0]
        return Rectangle((cut,), (None,)) if gate.place.side == "above" else Rectangle((None,), (cut,))
    if isinstance(gate, RectangleGate):
        return Rectangle(
            tuple(gate.min.get(d) for d in gate.dimensions), tuple(gate.max.get(d) for d in gate.dimensions)
        )
    if isinstance(gate, PolygonGate):
        if placement is None:
            return Polygon(gate.vertices)
        flat = placement.coordinates
        return Polygon(tuple(zip(flat[::2], flat[1::2], strict=True)))
    if isinstance(gate, EllipsoidGate):
        if placement is None:
            return Ellipsoid(gate.mean, gate.covariance, gate.distance_square)
        return Ellipsoid(*ellipse_shape(placement.coordinates), gate.distance_square)
    if isinstance(gate, QuadrantGate):
        cell = tuple(None if c < 0 else c for c in gate.cells)
        return QuadrantGrid(gate.dividers, (NamedCell(gate.id, gate.label, cell),))
    return Boolean(gate.operator, tuple(complement for _, complement in gate.terms()))


def _intervals(
    geometry: Rectangle | Polygon | Ellipsoid | QuadrantGrid | Boolean,
) -> Sequence[tuple[float | None, float | None]]:
    """Per dimension the interval outside which nothing is inside, in the gate's own space."""
    if isinstance(geometry, Rectangle):
        return tuple(zip(geometry.minima, geometry.maxima, strict=True))
    if isinstance(geometry, QuadrantGrid):
        return geometry.quadrant(geometry.cells[0]).intervals
    if isinstance(geometry, Boolean):
        return ()
    if isinstance(geometry, Polygon):  # its upper and right edges are outside, so its box is half-open too
        corners = np.array(geometry.vertices)
        return list(zip(corners.min(axis=0).tolist(), corners.max(axis=0).tolist(), strict=True))
    reach = np.sqrt(np.diag(np.array(geometry.covariance)) * geometry.distance_square)
    centre = np.array(geometry.mean)
    # a little larger than needed: rounding must not cut off what the ellipsoid itself would keep
    reach += 1e-9 * (reach + np.abs(centre))
    return list(zip((centre - reach).tolist(), (centre + reach).tolist(), strict=True))


def _scale_bounds(low: float | None, high: float | None, transform: Transform | None) -> tuple[float, float]:
    """The half-open interval of scale values that an interval of transformed values is; never an infinite value.

    An interval without a minimum starts where the transform does: a log has no value at zero and below. An interval
    that is open on both sides asks nothing of an event but a finite value.
    """
    if low is None and high is None:
        return _LOWEST, np.inf
    start = -np.inf if low is None else low
    end = np.inf if high is None else high
    if transform is not None:
        start = transform.scale_bound(start)
        end = np.inf if high is None else transform.scale_bound(end)
    return max(start, _LOWEST), end
