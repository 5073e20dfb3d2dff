"""Gate geometry, in the space of the points it is given, and the gate as placed in one tube.

Rules of membership (Gating-ML 2.0, and what FlowUtils computes, pinned event by event in the tests):

* a range is half-open: `minimum <= x < maximum`;
* the interior of a polygon follows the even-odd rule, also where its edges cross; a point on a lower or left edge
  is inside, one on an upper or right edge is outside; the bounding box, edges included, is asked first;
* a point on the surface of an ellipsoid is inside;
* a value that is not finite (NaN, infinities) is in no geometry.

All functions are pure: arrays in, one boolean array out, no copies of more than a block of events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tregflow.errors import GateError

if TYPE_CHECKING:
    from tregflow.transforms import Transform

Mask = NDArray[np.bool_]
Points = Sequence[NDArray[np.float64]]

# A block's working arrays (one float64 array of this length is 64 KiB) stay in the second-level cache.
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A half-open box in one or more dimensions; one dimension is a range.

    Parameters
    ----------
    minima, maxima
        One bound per dimension, in the space of the points; None is unbounded. Every dimension has at least one.

    Raises
    ------
    GateError
        `GATE_GEOMETRY`: no dimension, lengths differ, a bound is not finite, no bound, or minimum >= maximum.
    """

    minima: tuple[float | None, ...]
    maxima: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not self.minima or len(self.minima) != len(self.maxima):
            raise _impossible("rectangle", "one minimum and one maximum per dimension", (self.minima, self.maxima))
        for low, high in zip(self.minima, self.maxima, strict=True):
            if low is None and high is None:
                raise _impossible("rectangle", "a minimum or a maximum in every dimension", (low, high))
            _finite("rectangle", [bound for bound in (low, high) if bound is not None])
            if low is not None and high is not None and low >= high:
                raise _impossible("rectangle", "minimum < maximum (the maximum itself is outside)", (low, high))

    def contains(self, points: Points) -> Mask:
        """Say which points are inside.

        Parameters
        ----------
        points
            One float64 array per dimension, all of shape `(n,)`, in the space of the bounds.

        Returns
        -------
        mask
            Shape `(n,)`.
        """
        _check_points(points, len(self.minima))
        return _inside_intervals(points, zip(self.minima, self.maxima, strict=True))


@dataclass(frozen=True, slots=True)
class Polygon:
    """A polygon in two dimensions, closed from its last vertex to its first; edges may cross.

    Parameters
    ----------
    vertices
        At least three, `(x, y)` in the space of the points.

    Raises
    ------
    GateError
        `GATE_GEOMETRY`: fewer than three distinct vertices, or a coordinate that is not finite.
    """

    vertices: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if any(len(vertex) != 2 for vertex in self.vertices) or len(set(self.vertices)) < 3:
            raise _impossible("polygon", "at least three distinct vertices of two coordinates", self.vertices)
        for vertex in self.vertices:
            _finite("polygon", vertex)

    def contains(self, points: Points) -> Mask:
        """Say which points are inside.

        Parameters
        ----------
        points
            Two float64 arrays of shape `(n,)`: x and y in the space of the vertices.

        Returns
        -------
        mask
            Shape `(n,)`.
        """
        _check_points(points, 2)
        x, y = points
        (left, bottom), (right, top) = np.min(self.vertices, axis=0), np.max(self.vertices, axis=0)
        inside = np.zeros(len(x), dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):  # vertices near the largest double; NaN is not inside
            for start in range(0, len(x), _BLOCK):
                block = slice(start, start + _BLOCK)
                in_box = (x[block] >= left) & (x[block] <= right) & (y[block] >= bottom) & (y[block] <= top)
                candidates = np.flatnonzero(in_box)
                if candidates.size:
                    inside[start + candidates] = self._odd_crossings(x[block][candidates], y[block][candidates])
        return inside

    def _odd_crossings(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Mask:
        """Apply the even-odd rule to points in the bounding box: inside with an odd number of edges on the right.

        An edge counts where it spans the point's y (lower end included, upper end not) and the point is strictly on
        its left. The side is the sign of the cross product, with the operations in one fixed order, so that points
        near an edge round as they do in FlowUtils.
        """
        odd = np.zeros(len(x), dtype=bool)
        buffer, product = np.empty_like(x), np.empty_like(x)
        above_end = y >= self.vertices[0][1]
        for (ax, ay), (bx, by) in pairwise((*self.vertices, self.vertices[0])):
            above_start, above_end = above_end, y >= by
            if ay == by:
                continue
            np.multiply(np.subtract(y, ay, out=buffer), bx - ax, out=product)
            np.multiply(np.subtract(x, ax, out=buffer), by - ay, out=buffer)
            np.subtract(product, buffer, out=product)
            is_left = product > 0 if by > ay else product < 0
            odd ^= (above_start != above_end) & is_left
        return odd


def squared_distances(
    mean: Sequence[float], covariance: Sequence[Sequence[float]], points: Points
) -> NDArray[np.float64]:
    """Give the squared Mahalanobis distance of points from a mean.

    Parameters
    ----------
    mean, covariance
        One coordinate and one row per dimension; the covariance can be inverted.
    points
        One float64 array per dimension, all of shape `(n,)`.

    Returns
    -------
    distances
        Shape `(n,)`; NaN or infinite where a value is not finite.

    Notes
    -----
    The quadratic form is summed term by term in one fixed order, so that an event's distance does not depend on the
    events beside it (a matrix product may round each row differently). FlowUtils uses a matrix product: memberships
    are the same except within rounding of the surface.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        offsets = [values - centre for values, centre in zip(points, mean, strict=True)]
        distances = np.zeros(len(offsets[0]))
        for weights, own in zip(np.linalg.inv(np.array(covariance)).T, offsets, strict=True):
            rotated = np.zeros(len(own))
            for weight, other in zip(weights, offsets, strict=True):
                rotated += weight * other
            distances += rotated * own
    return distances


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """Points within a Mahalanobis distance of a centre, in two or more dimensions.

    Parameters
    ----------
    mean
        The centre, one coordinate per dimension.
    covariance
        Symmetric and positive definite, one row per dimension.
    distance_square
        The largest squared Mahalanobis distance that is inside.

    Raises
    ------
    GateError
        `GATE_GEOMETRY`: sizes differ, not finite, not symmetric, not positive definite, or `distance_square <= 0`.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    distance_square: float

    def __post_init__(self) -> None:
        n = len(self.mean)
        if n < 2 or len(self.covariance) != n or any(len(row) != n for row in self.covariance):
            raise _impossible("ellipsoid", "two or more dimensions and a square covariance", self)
        _finite("ellipsoid", [*self.mean, self.distance_square, *(value for row in self.covariance for value in row)])
        covariance = np.array(self.covariance)
        if np.abs(covariance - covariance.T).max() > 1e-9 * np.abs(covariance).max():
            raise _impossible("ellipsoid", "a symmetric covariance", self.covariance)
        if np.linalg.eigvalsh(covariance).min() <= 0:
            raise _impossible("ellipsoid", "a positive definite covariance", self.covariance)
        if self.distance_square <= 0:
            raise _impossible("ellipsoid", "a squared distance above 0", self.distance_square)

    def contains(self, points: Points) -> Mask:
        """Say which points are inside.

        Parameters
        ----------
        points
            One float64 array per dimension, all of shape `(n,)`, in the space of the mean.

        Returns
        -------
        mask
            Shape `(n,)`.
        """
        _check_points(points, len(self.mean))
        inside = np.empty(len(points[0]), dtype=bool)
        for start in range(0, len(inside), _BLOCK):
            block = slice(start, start + _BLOCK)
            distances = squared_distances(self.mean, self.covariance, [values[block] for values in points])
            inside[block] = distances <= self.distance_square
        return inside


@dataclass(frozen=True, slots=True)
class Quadrant:
    """One cell of a grid of dividers.

    Parameters
    ----------
    dividers
        Per dimension its dividing values, ascending, in the space of the points.
    cells
        Per dimension the interval: 0 is below the first divider, `k` is from divider `k - 1` (included) to divider
        `k` (not included); None is anywhere.

    Raises
    ------
    GateError
        `GATE_GEOMETRY`: no dimension, lengths differ, a divider that is not finite or not above the one before it,
        or an interval that does not exist.
    """

    dividers: tuple[tuple[float, ...], ...]
    cells: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if not self.dividers or len(self.dividers) != len(self.cells):
            raise _impossible("quadrant", "one cell per dimension of dividers", (self.dividers, self.cells))
        for values, cell in zip(self.dividers, self.cells, strict=True):
            _finite("quadrant", values)
            if not values or any(low >= high for low, high in pairwise(values)):
                raise _impossible("quadrant", "dividers in ascending order", values)
            if cell is not None and not 0 <= cell <= len(values):
                raise _impossible("quadrant", f"a cell from 0 to {len(values)}", cell)

    @property
    def intervals(self) -> tuple[tuple[float | None, float | None], ...]:
        """Per dimension `(minimum, maximum)` of the half-open interval; None is unbounded."""
        return tuple(
            (None, None)
            if cell is None
            else (values[cell - 1] if cell > 0 else None, values[cell] if cell < len(values) else None)
            for values, cell in zip(self.dividers, self.cells, strict=True)
        )

    def contains(self, points: Points) -> Mask:
        """Say which points are inside.

        Parameters
        ----------
        points
            One float64 array per dimension, all of shape `(n,)`, in the space of the dividers.

        Returns
        -------
        mask
            Shape `(n,)`.
        """
        _check_points(points, len(self.dividers))
        return _inside_intervals(points, self.intervals)


@dataclass(frozen=True, slots=True)
class NamedCell:
    """One quadrant of a `QuadrantGrid`: its gate id, its display name and its cell (see `Quadrant`)."""

    id: str
    title: str
    cell: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class QuadrantGrid:
    """A quadrant gate: dividers shared by several named quadrants. A child's parent is the id of a quadrant.

    Raises
    ------
    GateError
        `GATE_GEOMETRY`: as `Quadrant`, or no cell, or an id that is used twice.
    """

    dividers: tuple[tuple[float, ...], ...]
    cells: tuple[NamedCell, ...]

    def __post_init__(self) -> None:
        ids = [cell.id for cell in self.cells]
        if not ids or len(set(ids)) != len(ids):
            raise _impossible("quadrant gate", "one or more cells with different ids", ids)
        for cell in self.cells:
            self.quadrant(cell)

    def quadrant(self, cell: NamedCell) -> Quadrant:
        """Give the geometry of one cell."""
        return Quadrant(self.dividers, cell.cell)


@dataclass(frozen=True, slots=True)
class Boolean:
    """A combination of other gates' masks.

    Parameters
    ----------
    operator
        `and` and `or` take two or more masks, `not` takes one.
    complements
        One per operand: True uses the events outside that operand.

    Raises
    ------
    GateError
        `GATE_GEOMETRY`: an unknown operator or a wrong number of operands.

    Notes
    -----
    It sees masks only: an event whose value is not finite is outside every operand, and therefore inside a `not`.
    What must not count is kept out by the parent.
    """

    operator: Literal["and", "or", "not"]
    complements: tuple[bool, ...]

    def __post_init__(self) -> None:
        n = len(self.complements)
        if self.operator not in {"and", "or", "not"}:
            raise _impossible("boolean", "'and', 'or' or 'not'", self.operator)
        if n != 1 if self.operator == "not" else n < 2:
            raise _impossible("boolean", "one operand of 'not', two or more of 'and' and 'or'", f"{self.operator}, {n}")

    def contains(self, masks: Sequence[Mask]) -> Mask:
        """Combine the operands' masks, all of shape `(n,)`, in the order of `complements`."""
        if len(masks) != len(self.complements):
            raise GateError("GATE_POINTS", f"expected {len(self.complements)} masks, found {len(masks)}.")
        operands = [~mask if complement else mask for mask, complement in zip(masks, self.complements, strict=True)]
        if self.operator == "not":
            return ~operands[0]
        return reduce(np.logical_and if self.operator == "and" else np.logical_or, operands)


Geometry = Rectangle | Polygon | Ellipsoid | Quadrant | QuadrantGrid | Boolean


@dataclass(frozen=True, slots=True)
class Dimension:
    """One axis of a placed gate: channel (`$PnN`), whether it is compensated, and the transform or None (scale)."""

    channel: str
    compensated: bool
    transform: Transform | None = None


@dataclass(frozen=True, slots=True)
class PlacedGate:
    """A gate as used in one tube: all that another engine needs to repeat the count.

    Parameters
    ----------
    id, title
        The id in the template, unique in a tree, and the name shown to people.
    parent
        The id of the parent gate (of a quadrant, for a child of one), or None at the root.
    kind
        Which geometry.
    dimensions
        In the order of the geometry's coordinates; empty for a boolean.
    geometry
        In compensated and transformed space, as `dimensions` say.
    operands
        Of a boolean: `(gate id, complement)` in the order of its `complements`; empty otherwise.
    info
        What is to be remembered about the placement (rule, evidence, status), as text.
    """

    id: str
    title: str
    parent: str | None
    kind: Literal["rectangle", "polygon", "ellipsoid", "quadrant", "boolean"]
    dimensions: tuple[Dimension, ...]
    geometry: Geometry
    operands: tuple[tuple[str, bool], ...] = ()
    info: Mapping[str, str] = field(default_factory=dict)


def _inside_intervals(points: Points, intervals: Iterable[tuple[float | None, float | None]]) -> Mask:
    """Half-open intervals, one per dimension. An open end is the infinity, which no finite value reaches."""
    inside = np.ones(len(points[0]), dtype=bool)
    for values, (low, high) in zip(points, intervals, strict=True):
        inside &= values > -np.inf if low is None else values >= low
        inside &= values < (np.inf if high is None else high)
    return inside


def _impossible(kind: str, expected: str, found: object) -> GateError:
    return GateError("GATE_GEOMETRY", f"this {kind} is impossible: expected {expected}; found {found}.")


def _finite(kind: str, values: Sequence[float]) -> None:
    if not all(np.isfinite(value) for value in values):
        raise _impossible(kind, "finite numbers", tuple(values))


def _check_points(points: Points, n_dimensions: int) -> None:
    if len(points) != n_dimensions:
        raise GateError(
            "GATE_POINTS", f"expected one array for each of {n_dimensions} dimensions, found {len(points)}."
        )
