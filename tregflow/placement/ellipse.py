"""The ellipse of the densest mode of a region: robust location and scatter, without random starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tregflow.placement.estimate import DECIMALS, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interval = tuple[float, float]
Moments = tuple[float, float, float, float, float]  # mean x, mean y, variance x, covariance, variance y

_BINS = 4  # per bandwidth, of the grid on which the mode is found
_REACH = 4  # bandwidths beyond the region: a slope that runs into it is no mode
_STEPS = 60
_STILL = 1e-4  # SDs; far below the standard error of any population
_FEWEST = 10
# The core: what a normal population has within this squared distance, 90 % of it. Half the squared distance is
# exponential, so all that follows is elementary.
_HALF = math.log(10)
_CORE = 2 * _HALF
_INSIDE = 0.9
_SHRINK = (1 - 0.1 * (1 + _HALF)) / _INSIDE  # P(chi2_4 < core) / P(chi2_2 < core): variance of the core per variance
# SE of the ellipse's relative size times the root of the population: sqrt(E[psi^2]) / |dE[psi]| / 2 of the estimating
# function psi = (half the squared distance - _SHRINK) inside the core
_SIZE_ERROR = (
    math.sqrt(2 - 0.1 * (_HALF**2 + 2 * _HALF + 2) - _INSIDE * _SHRINK**2)
    / (_INSIDE * _SHRINK - 0.1 * _HALF * (_HALF - _SHRINK))
    / 2
)


def ellipse(
    x: NDArray[np.float64], y: NDArray[np.float64], region: tuple[Interval, Interval], bandwidth: float
) -> Estimate | None:
    """Mean and covariance of the densest mode in `region`, values `(n,)` on the gate's axes; None if it has no mode.

    The mode is the highest local maximum of a Gaussian kernel density whose SD is `bandwidth` times the region's
    sides. From a small ellipse around it, mean and covariance are taken again and again from the events inside the
    ellipse that would hold 90 % of a normal population, the covariance corrected for what is cut off, until they
    stand still: growing from the mode, they stop at the first population that fits. The events may lie outside the
    region. These are the concentration steps of FAST-MCD (Rousseeuw and van Driessen 1999) with a fixed radius in
    place of a fraction of events that nobody knows beforehand, and with one start in place of many random ones.

    Values are mean x, mean y and the covariance row by row. The standard error is that of the truncated mean of a
    normal population, in SDs along any axis: `1 / sqrt(n_core P(chi2_4 < c) / P(chi2_2 < c))`. Quality carries the
    SDs, the correlation, and the standard error of the ellipse's size (the factor by which all SDs are off).
    """
    mode = _densest_mode(x, y, region, bandwidth)
    if mode is None:
        return None
    sides = [high - low for low, high in region]
    found: Moments = (*mode, (bandwidth * sides[0]) ** 2, 0.0, (bandwidth * sides[1]) ** 2)
    n = 0
    for _ in range(_STEPS):
        core = _inside(x, y, found)
        n = int(np.count_nonzero(core))
        if n < _FEWEST:
            return None
        before, found = found, _moments(x[core], y[core])
        # no area left, or about to swallow the region: the caller sees it in the SDs
        if not _area(found) > 0 or found[2] > sides[0] ** 2 or found[4] > sides[1] ** 2:
            break
        if _change(before, found) < _STILL:
            break
    mean_x, mean_y, var_x, covariance, var_y = found
    quality = {
        "sd_first": math.sqrt(var_x),
        "sd_second": math.sqrt(var_y),
        "correlation": covariance / math.sqrt(var_x * var_y) if var_x and var_y else 0.0,
        "size_relative_se": _SIZE_ERROR / math.sqrt(n / _INSIDE),
    }
    values = (mean_x, mean_y, var_x, covariance, covariance, var_y)
    return Estimate(values, 1 / math.sqrt(n * _SHRINK), n, quality)


def ellipse_coordinates(estimate: Estimate) -> tuple[float, ...]:
    """Mean and covariance as a gate uses them: the mean to 6 decimals, the covariance to 9 digits of its SDs."""
    mean_x, mean_y, *covariance = estimate.values
    sds = math.sqrt(covariance[0]), math.sqrt(covariance[3])
    digits = [8 - math.floor(math.log10(a * b)) for a in sds for b in sds]
    rounded = (round(value, n) for value, n in zip(covariance, digits, strict=True))
    return (round(mean_x, DECIMALS), round(mean_y, DECIMALS), *rounded)


def ellipse_shape(
    coordinates: tuple[float, ...],
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Mean and covariance of a placed ellipse, as `gates.Ellipsoid` takes them."""
    mean_x, mean_y, xx, xy, yx, yy = coordinates
    return (mean_x, mean_y), ((xx, xy), (yx, yy))


def _densest_mode(
    x: NDArray[np.float64], y: NDArray[np.float64], region: tuple[Interval, Interval], bandwidth: float
) -> tuple[float, float] | None:
    """The highest local maximum inside the region of a kernel density on a grid that reaches beyond it."""
    step, reach = bandwidth / _BINS, _REACH * bandwidth
    n = math.ceil((1 + 2 * reach) / step)
    # in units of the region's sides
    cells = [
        np.floor(((values - low) / (high - low) + reach) / step)
        for values, (low, high) in zip((x, y), region, strict=True)
    ]
    near = (cells[0] >= 0) & (cells[0] < n) & (cells[1] >= 0) & (cells[1] < n)
    index = (cells[0][near] * n + cells[1][near]).astype(np.intp)
    counts = np.bincount(index, minlength=n * n).reshape(n, n)
    # a circular convolution: what wraps around reaches the margin only
    frequencies = np.fft.fftfreq(n, d=step), np.fft.rfftfreq(n, d=step)
    kernels = [np.exp(-2 * np.square(np.pi * bandwidth * f)) for f in frequencies]
    density = np.fft.irfft2(np.fft.rfft2(counts) * np.outer(*kernels), (n, n))
    summit = np.ones((n - 2, n - 2), dtype=bool)
    inner = density[1:-1, 1:-1]
    for i in range(3):
        for j in range(3):
            summit &= inner >= density[i : n - 2 + i, j : n - 2 + j]
    middles = (np.arange(1, n - 1) + 0.5) * step - reach
    inside = (middles >= 0) & (middles < 1)
    summit &= np.logical_and.outer(inside, inside) & (inner > 1e-9 * inner.max())
    if not summit.any():
        return None
    at = np.unravel_index(np.argmax(np.where(summit, inner, 0.0)), inner.shape)
    first, second = (low + float(middles[i]) * (high - low) for i, (low, high) in zip(at, region, strict=True))
    return first, second


def _inside(x: NDArray[np.float64], y: NDArray[np.float64], found: Moments) -> NDArray[np.bool_]:
    """The events in the core of an ellipse."""
    mean_x, mean_y, var_x, covariance, var_y = found
    dx, dy = x - mean_x, y - mean_y
    core: NDArray[np.bool_] = dx * (var_y * dx - 2 * covariance * dy) + var_x * dy * dy <= _CORE * _area(found)
    return core


def _area(found: Moments) -> float:
    """The determinant of the covariance."""
    return found[2] * found[4] - found[3] ** 2


def _moments(x: NDArray[np.float64], y: NDArray[np.float64]) -> Moments:
    """Mean of a core, and the covariance of the normal population whose core it is."""
    mean_x, mean_y = float(x.mean()), float(y.mean())
    dx, dy = x - mean_x, y - mean_y
    var_x, covariance, var_y = (float((a * b).mean()) / _SHRINK for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    return mean_x, mean_y, var_x, covariance, var_y


def _change(before: Moments, found: Moments) -> float:
    """The largest change of a mean or a covariance, in SDs of the ellipse."""
    sd_x, sd_y = math.sqrt(found[2]), math.sqrt(found[4])
    units = sd_x, sd_y, sd_x * sd_x, sd_x * sd_y, sd_y * sd_y
    return max(abs(b - f) / unit for b, f, unit in zip(before, found, units, strict=True))
