"""Cuts from quantiles of a reference population, with standard errors of order statistics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tregflow.placement.estimate import MAD, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray


def robust_negative(values: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and robust SD from the half of the distribution below it, where no positive tail reaches.

    SD = 1.4826 x the median distance below the median. `values` `(n,)`, scale values.
    """
    lower, middle = np.quantile(values, (0.25, 0.5))
    return float(middle), float(MAD * (middle - lower))


def without_positives(values: NDArray[np.float64], clip: float) -> NDArray[np.float64]:
    """A negative population without what lies more than `clip` robust SDs above its median, scale values `(n,)`.

    Positive cells in the reference raise its median and widen its lower half, and so the cut: at 30 % of them by half.
    Leaving out what is above moves both down, so it is done again until nothing more goes; the set only ever shrinks.
    """
    values = np.sort(values)
    kept = values
    while True:
        middle, sd = robust_negative(kept)
        n = int(np.searchsorted(kept, middle + clip * sd, side="right"))
        if n == kept.size:
            return kept
        kept = kept[:n]


def negative_spread(values: NDArray[np.float64], k: float, clip: float | None = None) -> Estimate:
    """Median plus `k` robust SDs of an internal negative population (`robust_negative`), scale values `(n,)`.

    With `clip`, of the population `without_positives`; `quality` then says what share of it was left out.

    The cut is the combination `(1 + c) q50 - c q25` of two quantiles with `c = 1.4826 k`, so its standard error is
    that of a combination of order statistics: `Cov(q_p, q_r) = p (1 - r) / (n f_p f_r)` for `p <= r`, the densities
    `f` taken from the spacing of the order statistics (Siddiqui 1960).
    """
    n_all = values.size
    if clip is not None:
        values = without_positives(values, clip)
    middle, sd = robust_negative(values)
    c = MAD * k
    f25, f50 = (_density_at_quantile(values, p) for p in (0.25, 0.5))
    spread = None
    if f25 and f50:
        variance = (1 + c) ** 2 * 0.25 / f50**2 + c**2 * 0.1875 / f25**2 - 2 * (1 + c) * c * 0.125 / (f25 * f50)
        spread = math.sqrt(variance / values.size)
    quality = {"median": middle, "robust_sd": sd}
    if clip is not None:
        quality["left_out_frac"] = 1 - values.size / n_all
    return Estimate((middle + k * sd,), spread, int(values.size), quality)


def shift_scale(values: NDArray[np.float64], cut: float, location: float, spread: float) -> Estimate:
    """A standard tube's `cut`, carried to this tube by its reference population, scale values `(n,)`.

    The cut is `m + (cut - location) s / spread`, with median `m` and robust SD `s` of `values` (`robust_negative`) and
    `location` and `spread` the same of the standard tube, taken as known. So it is `negative_spread` with
    `k = (cut - location) / spread`, and so is its standard error. A change of gain scarcely moves a negative mode near
    zero, but it changes its spread.
    """
    placed = negative_spread(values, (cut - location) / spread)
    moved = {"shift": placed.quality["median"] - location, "stretch": placed.quality["robust_sd"] / spread}
    return Estimate(placed.values, placed.spread, placed.n_reference, {**placed.quality, **moved})


def reference_quantile(values: NDArray[np.float64], q: float) -> Estimate:
    """The `q` quantile of a population, transformed values `(n,)`; SE = sqrt(q (1 - q) / n) / density.

    The population is another one of the same tube, or the gate's own of its FMO tube.
    """
    density = _density_at_quantile(values, q)
    spread = float(np.sqrt(q * (1 - q) / values.size) / density) if density else None
    return Estimate((float(np.quantile(values, q)),), spread, int(values.size), {"q": q})


def _density_at_quantile(values: NDArray[np.float64], p: float) -> float:
    """Density at the `p` quantile from the spacing of order statistics (Siddiqui 1960).

    The window goes with n^(-1/3), which is best for the coverage of intervals (Hall and Sheather 1988).
    """
    half = min(values.size ** (-1 / 3), p, 1 - p) * 0.5
    low, high = np.quantile(values, (p - half, p + half))
    return float(2 * half / (high - low)) if high > low else 0.0
