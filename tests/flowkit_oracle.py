"""FlowKit as the second opinion: our gates as placed, built through FlowKit's own API, and its masks by gate id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from flowkit import Dimension, GatingStrategy, Matrix, QuadrantDivider, Sample, gates, transforms
from numpy.typing import NDArray

from tregflow.compensation import Spillover
from tregflow.gates import Boolean, Ellipsoid, PlacedGate, Polygon, QuadrantGrid, Rectangle
from tregflow.gates import Dimension as OurDimension
from tregflow.transforms import Asinh, Hyperlog, Linear, Log, Logicle, Transform

Path = tuple[str, ...]


def strategy_of(placed: Sequence[PlacedGate], spillover: Spillover | None) -> GatingStrategy:
    """A FlowKit strategy with the same gates, given parents and operands first."""
    strategy = GatingStrategy()
    if spillover is not None:
        strategy.add_comp_matrix("matrix", Matrix(spillover.matrix, list(spillover.channels)))
    for transform in dict.fromkeys(d.transform for gate in placed for d in gate.dimensions if d.transform):
        strategy.add_transform(repr(transform), _transform(transform))
    places = _places(placed)
    for gate in placed:
        strategy.add_gate(_gate(gate, places), _above(gate, places))
    return strategy


def memberships(strategy: GatingStrategy, sample: Sample, ids: Iterable[str]) -> Mapping[str, NDArray[np.bool_]]:
    """FlowKit's mask of each population."""
    with np.errstate(all="ignore"):  # it takes logarithms of negative values
        results = strategy.gate_sample(sample)
    return {name: np.asarray(results.get_gate_membership(name), dtype=bool) for name in ids}


def _places(placed: Sequence[PlacedGate]) -> dict[str, Path]:
    """By gate id the path to it, itself not included. A quadrant lies below a gate that holds its dividers."""
    places: dict[str, Path] = {}
    for gate in placed:
        above = ("root",) if gate.parent is None else (*places[gate.parent], gate.parent)
        places[gate.id] = (*above, f"{gate.id}_dividers") if gate.kind == "quadrant" else above
    return places


def _above(gate: PlacedGate, places: Mapping[str, Path]) -> Path:
    return places[gate.id][:-1] if gate.kind == "quadrant" else places[gate.id]


def _gate(gate: PlacedGate, places: Mapping[str, Path]) -> gates.Gate:
    geometry = gate.geometry
    if isinstance(geometry, Rectangle):
        bounds = list(zip(geometry.minima, geometry.maxima, strict=True))
        return gates.RectangleGate(gate.id, _dimensions(gate, bounds))
    if isinstance(geometry, Polygon):
        return gates.PolygonGate(gate.id, _dimensions(gate), [list(vertex) for vertex in geometry.vertices])
    if isinstance(geometry, Ellipsoid):
        covariance = np.array(geometry.covariance)
        return gates.EllipsoidGate(
            gate.id, _dimensions(gate), list(geometry.mean), covariance, geometry.distance_square
        )
    if isinstance(geometry, QuadrantGrid):
        return _quadrant(gate, geometry)
    assert isinstance(geometry, Boolean)
    references = [{"ref": name, "path": places[name], "complement": outside} for name, outside in gate.operands]
    return gates.BooleanGate(gate.id, geometry.operator, references)


def _quadrant(gate: PlacedGate, geometry: QuadrantGrid) -> gates.QuadrantGate:
    dividers = [
        QuadrantDivider(f"{gate.id}_{at}", d.channel, _matrix(d), list(values), _transform_name(d))
        for at, (d, values) in enumerate(zip(gate.dimensions, geometry.dividers, strict=True))
    ]
    intervals = geometry.quadrant(geometry.cells[0]).intervals
    used = [(d.id, interval) for d, interval in zip(dividers, intervals, strict=True) if interval != (None, None)]
    cell = gates.Quadrant(gate.id, [name for name, _ in used], [interval for _, interval in used])
    return gates.QuadrantGate(f"{gate.id}_dividers", dividers, [cell])


def _dimensions(gate: PlacedGate, bounds: Sequence[tuple[float | None, float | None]] | None = None) -> list[Dimension]:
    each = zip(gate.dimensions, bounds or [(None, None)] * len(gate.dimensions), strict=True)
    return [Dimension(d.channel, _matrix(d), _transform_name(d), *bound) for d, bound in each]


def _matrix(dimension: OurDimension) -> str:
    return "matrix" if dimension.compensated else "uncompensated"


def _transform_name(dimension: OurDimension) -> str | None:
    return None if dimension.transform is None else repr(dimension.transform)


def _transform(transform: Transform) -> transforms.Transform:
    if isinstance(transform, Linear):
        return transforms.LinearTransform(transform.T, transform.A)
    if isinstance(transform, Log):
        return transforms.LogTransform(transform.T, transform.M)
    if isinstance(transform, Asinh):
        return transforms.AsinhTransform(transform.T, transform.M, transform.A)
    kind = {Logicle: transforms.LogicleTransform, Hyperlog: transforms.HyperlogTransform}[type(transform)]
    return kind(transform.T, transform.W, transform.M, transform.A)
