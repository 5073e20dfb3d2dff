"""Gates of other programs on the way into a template: one form for all of them, and how a shape changes its space.

A template has one transform for a dimension. A gate that was drawn on another scale is moved: bounds one by one, which
changes nothing, because every transform increases; polygons by their vertices, with further vertices along each edge,
because an edge that is straight on one scale is curved on another. How far the edges are then off is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tregflow.gates import Boolean, Ellipsoid, Polygon, Rectangle

if TYPE_CHECKING:
    from tregflow.transforms import Transform

Array = NDArray[np.float64]
Space = Callable[[Array], Array]

CLOSE = 1e-4  # of an axis: edges are followed until they are no farther off than this
_MOST = 64  # parts of one edge


class Invertible(Protocol):
    """A scale: from scale values to places on it, and back."""

    def __call__(self, x: Array) -> Array:
        """Places of scale values."""

    def inverse(self, place: Array) -> Array:
        """Scale values of places."""


@dataclass(frozen=True, slots=True)
class ForeignAxis:
    """A dimension of a foreign gate.

    Parameters
    ----------
    channel
        `$PnN`.
    compensation
        `""` where nothing is applied, `file` for the file's own matrix, else the name of a matrix.
    space
        The scale that the gate's coordinates and straight edges are on; None for scale values.
    target
        The transform that a template would give the channel for this gate; None for scale values.
    same
        Whether `target` differs from `space` by no more than units, so that straight edges stay straight.
    scale, how
        The scale in words, and how it is carried.
    """

    channel: str
    compensation: str
    space: Invertible | None
    target: Transform | None
    same: bool
    scale: str
    how: str


@dataclass(frozen=True, slots=True)
class ForeignGate:
    """A population of a foreign tree: its id (unique in the tree), its shape in `axes`' spaces, or its operands.

    `outside`: the events of the parent that are outside the shape. `refused` says why it cannot be carried at all.
    """

    id: str
    title: str
    parent: str | None
    kind: Literal["rectangle", "polygon", "ellipsoid", "boolean"]
    axes: tuple[ForeignAxis, ...] = ()
    geometry: Rectangle | Polygon | Ellipsoid | Boolean | None = None
    operands: tuple[tuple[str, bool], ...] = ()
    outside: bool = False
    refused: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The populations that it rests on."""
        return (*([] if self.parent is None else [self.parent]), *(name for name, _ in self.operands))


@dataclass(frozen=True, slots=True)
class Moved:
    """A shape in its new space, and how far its outline is off there, as a fraction of an axis (0: the same shape)."""

    geometry: Rectangle | Polygon | Ellipsoid
    off: float


def moved(gate: ForeignGate, targets: Sequence[Transform | None]) -> Moved:
    """A gate's shape in the spaces of a template's transforms.

    Parameters
    ----------
    targets
        The transform of each axis, None for scale values.
    """
    stays = [axis.same and axis.target == target for axis, target in zip(gate.axes, targets, strict=True)]
    if isinstance(gate.geometry, Rectangle):
        return Moved(_rectangle(gate, gate.geometry, targets), 0.0)
    if isinstance(gate.geometry, Ellipsoid):
        if all(stays):
            return Moved(_ellipsoid(gate, gate.geometry, targets), 0.0)
        outline = ellipse_outline(gate.geometry)
        vertices, off = _followed(gate, outline, targets)
        return Moved(Polygon(vertices), off + _sagitta(len(outline)))
    if not isinstance(gate.geometry, Polygon):
        raise TypeError(gate.id)
    if all(stays):
        return Moved(Polygon(_vertices(gate, np.array(gate.geometry.vertices), targets)), 0.0)
    return Moved(*_polygon_of(_followed(gate, np.array(gate.geometry.vertices), targets)))


def _polygon_of(followed: tuple[tuple[tuple[float, float], ...], float]) -> tuple[Polygon, float]:
    vertices, off = followed
    return Polygon(vertices), off


def move(axis: ForeignAxis, target: Transform | None, values: Array) -> Array:
    """Coordinates on a foreign axis in the space of a transform."""
    if axis.space == target:
        return values
    scale = values if axis.space is None else axis.space.inverse(values)
    return scale if target is None else target(scale)


def _rectangle(gate: ForeignGate, geometry: Rectangle, targets: Sequence[Transform | None]) -> Rectangle:
    def bound(axis: ForeignAxis, target: Transform | None, value: float | None, everything: float) -> float | None:
        if value is None or axis.space == target:
            return value
        # the smallest scale value that the bound lets in decides, so that no event changes sides
        reaches = getattr(axis.space, "scale_bound", None)
        scale = (
            float(reaches(value)) if reaches is not None else value if axis.space is None else _one(axis, None, value)
        )
        if scale == everything:
            return None
        return scale if target is None else float(target(scale))

    axes = list(zip(gate.axes, targets, strict=True))
    return Rectangle(
        tuple(bound(a, t, v, -math.inf) for (a, t), v in zip(axes, geometry.minima, strict=True)),
        tuple(bound(a, t, v, math.inf) for (a, t), v in zip(axes, geometry.maxima, strict=True)),
    )


def _one(axis: ForeignAxis, target: Transform | None, value: float) -> float:
    return float(move(axis, target, np.array([value]))[0])


def _ellipsoid(gate: ForeignGate, geometry: Ellipsoid, targets: Sequence[Transform | None]) -> Ellipsoid:
    """An ellipsoid under a change of units in each dimension."""
    if all(axis.space == target for axis, target in zip(gate.axes, targets, strict=True)):
        return geometry
    ends = [(_one(a, t, m), _one(a, t, m + 0.125)) for a, t, m in zip(gate.axes, targets, geometry.mean, strict=True)]
    unit = np.array([(there - here) / 0.125 for here, there in ends])
    covariance = np.array(geometry.covariance) * np.outer(unit, unit)
    return Ellipsoid(tuple(here for here, _ in ends), tuple(map(tuple, covariance.tolist())), geometry.distance_square)


def _vertices(gate: ForeignGate, points: Array, targets: Sequence[Transform | None]) -> tuple[tuple[float, float], ...]:
    x, y = (move(a, t, points[:, i]) for i, (a, t) in enumerate(zip(gate.axes, targets, strict=True)))
    return tuple((float(a), float(b)) for a, b in zip(x, y, strict=True))


def _followed(
    gate: ForeignGate, points: Array, targets: Sequence[Transform | None]
) -> tuple[tuple[tuple[float, float], ...], float]:
    """The vertices of a polygon whose edges follow those of another, and how far they are off, of an axis."""
    moved_all = np.array(_vertices(gate, points, targets))
    # in scale values an axis has no length of its own: that of the polygon serves
    length = np.array([1.0 if t is not None else float(np.ptp(moved_all[:, i])) or 1.0 for i, t in enumerate(targets)])
    found: list[tuple[float, float]] = []
    worst = 0.0
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        n = 1
        while True:
            places = start + (end - start) * (np.arange(2 * n + 1) / (2 * n))[:, None]
            there = np.array(_vertices(gate, places, targets))
            # halfway along each part: where the edge should be, against where the straight line is
            off = float((np.abs(there[1::2] - (there[:-1:2] + there[2::2]) / 2) / length).max())
            if off <= CLOSE or n >= _MOST:
                break
            n *= 2
        worst = max(worst, off)
        found += [(float(x), float(y)) for x, y in there[:-1:2]]
    return tuple(found), worst


def ellipse_outline(ellipse: Ellipsoid, n: int = 256) -> Array:
    """Points on an ellipse of two dimensions, `(n, 2)`."""
    values, vectors = np.linalg.eigh(np.array(ellipse.covariance))
    half = vectors * np.sqrt(values * ellipse.distance_square)
    angle = 2 * np.pi * np.arange(n) / n
    points: Array = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ half.T + np.array(ellipse.mean)
    return points


def _sagitta(n: int) -> float:
    """How far a regular polygon is inside its circle, of the radius."""
    return 1 - math.cos(math.pi / n)
