"""The band of single cells: pulse height against pulse area."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tregflow.placement.estimate import DECIMALS, MAD, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray


def singlet_band(area: NDArray[np.float64], height: NDArray[np.float64]) -> Estimate:
    """The line of pulse height on pulse area that single cells follow, scale values `(n,)` each.

    Doublets lie below the line and debris far from it, so the line is refitted by least squares to the events within
    3 robust SDs of it, and the SD comes from the residuals above the line, where no doublet is. Residuals are relative
    to the line. Returns intercept, slope and relative robust SD; `spread` is the slope's standard error.
    """
    usable = (area > 0) & (height > 0)
    x, y = area[usable], height[usable]
    if x.size < 2:
        return Estimate((0.0, 0.0, 0.0), None, int(x.size))
    intercept, slope = 0.0, float(np.median(y / x))
    sd, kept = 0.0, np.ones(x.size, dtype=bool)
    for _ in range(8):
        line = intercept + slope * x
        residual = np.divide(y - line, line, out=np.full(x.size, -np.inf), where=line > 0)
        above = residual[(residual >= 0) & (residual < 1)]
        sd = float(MAD * np.median(above)) if above.size else 0.0
        kept = np.abs(residual) <= 3 * sd
        if not kept.any():
            break
        mean_x, mean_y = x[kept].mean(), y[kept].mean()
        sxx = float(np.square(x[kept] - mean_x).sum())
        if sxx == 0:
            break
        slope = float(((x[kept] - mean_x) * (y[kept] - mean_y)).sum() / sxx)
        intercept = float(mean_y - slope * mean_x)
    n = int(kept.sum())
    error = y[kept] - intercept - slope * x[kept]
    scatter = float(np.square(x[kept] - x[kept].mean()).sum()) if n else 0.0
    spread = float(np.sqrt(np.square(error).sum() / (n - 2) / scatter)) if n > 2 and scatter else None
    return Estimate((intercept, slope, sd), spread, n, {"relative_sd": sd, "n_on_line": float(n)})


def band_vertices(estimate: Estimate, k: float, area: tuple[float, float]) -> tuple[float, ...]:
    """The four vertices `(area, height)` of the band of `k` relative SDs around the line, flattened, scale values."""
    intercept, slope, sd = estimate.values
    low, high = (intercept + slope * a for a in area)
    below, above = 1 - k * sd, 1 + k * sd
    corners = ((area[0], low * below), (area[1], high * below), (area[1], high * above), (area[0], low * above))
    return tuple(round(v, DECIMALS) for corner in corners for v in corner)
