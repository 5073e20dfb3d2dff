"""A polygon on a coarse grid: most events are decided by the cell they fall in, the others by the polygon itself."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tregflow.gates import Polygon

_CELLS = 128  # along each axis
_OUTSIDE, _INSIDE, _BORDER = 0, 1, 2


class Raster:
    """The same memberships as its polygon's, for points of the polygon's bounding box.

    No edge comes near a cell that is not a border cell, so its points are all inside or all outside, and which of them
    the polygon says for the cell's centre.
    """

    def __init__(self, polygon: Polygon) -> None:
        self._polygon = polygon
        corners = np.array(polygon.vertices)
        low, high = corners.min(axis=0), corners.max(axis=0)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            scale = (_CELLS - 1) / (high - low)
            # a cell must be far wider than the rounding of the coordinates: not so in a line, or far from zero
            self._usable = bool((np.isfinite(scale) & (scale * np.maximum(abs(low), abs(high)) < 1e9)).all())
        if self._usable:
            # the box lies half a cell inside the grid, so that a point beyond it by rounding still has a cell
            self._low, self._scale = low - 0.5 / scale, scale
            self._kinds = self._classify(corners)

    def contains(self, points: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
        """Which points, given as two arrays `(m,)` in the space of the vertices, are inside."""
        if not self._usable:
            return self._polygon.contains(points)
        x, y = (
            ((values - low) * scale).astype(np.intp)
            for values, low, scale in zip(points, self._low, self._scale, strict=True)
        )
        kinds = self._kinds[x * _CELLS + y]
        inside: NDArray[np.bool_] = kinds == _INSIDE
        border = np.flatnonzero(kinds == _BORDER)
        inside[border] = self._polygon.contains([values[border] for values in points])
        return inside

    def _classify(self, corners: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The kind of each cell, x-major."""
        centres = (np.arange(_CELLS) + 0.5) / self._scale[:, None] + self._low[:, None]
        x, y = (axis.ravel() for axis in np.meshgrid(*centres, indexing="ij"))
        kinds = np.where(self._polygon.contains([x, y]), _INSIDE, _OUTSIDE).astype(np.uint8).reshape(_CELLS, _CELLS)
        places = (corners - self._low) * self._scale
        for start, end in zip(places, np.roll(places, -1, axis=0), strict=True):
            # steps of half a cell at most: every point of the edge is in the cell of a step or in one beside it
            n_steps = int(2 * np.abs(end - start).max()) + 2
            steps = np.linspace(start, end, n_steps).astype(np.intp)
            for across, up in product((-1, 0, 1), repeat=2):
                x, y = np.clip(steps + np.array([across, up]), 0, _CELLS - 1).T
                kinds[x, y] = _BORDER
        return kinds.ravel()


@lru_cache(maxsize=256)
def raster_of(polygon: Polygon) -> Raster:
    """The raster of a polygon, made once for all tubes."""
    return Raster(polygon)
