"""Cuts from the shape of a density: the valley between two modes, the tail of one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from tregflow.placement.estimate import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRID = 2048  # at least; more where a bandwidth would have fewer than 8 bins
_GRID_MOST = 2**20
_ROUGHNESS = 1 / (2 * math.sqrt(math.pi))  # the integral of the squared standard normal density
_CLEAR = 4.0  # standard errors; a rise of the density below that is counting noise


def valley(values: NDArray[np.float64], between: tuple[float, float], bandwidth: float) -> Estimate:
    """The most prominent density minimum inside `between`, transformed values `(n,)`; its modes may lie outside.

    The density is a Gaussian kernel estimate on a regular grid, by FFT. A minimum's depth is
    `1 - f(minimum) / f(lower of the highest modes on its two sides)`; quality carries it as `depth` (0 where there is
    no minimum with a mode on both sides). SE of the minimum of a kernel density, from its curvature:
    `sqrt(f R(K') / (n h^3)) / |f''|` with `R(K') = 1 / (4 sqrt(pi))` (Romano 1988).
    """
    grid, density = _kernel_density(values, bandwidth)
    highest_left = np.maximum.accumulate(density)
    highest_right = np.maximum.accumulate(density[::-1])[::-1]
    lower_mode = np.minimum(highest_left, highest_right)
    # prominence, not relative depth, chooses: one outlying event makes a gap of depth 1, but no prominent mode
    prominence = np.where((grid >= between[0]) & (grid <= between[1]), lower_mode - density, -1.0)
    at = int(np.argmax(prominence))
    best = float(prominence[at] / lower_mode[at]) if prominence[at] > 0 else 0.0
    # an empty gap is flat: take its middle, not its first bin
    last = at + int(np.argmax(np.append(prominence[at:] < prominence[at], True)))
    at = (at + last - 1) // 2
    step = grid[1] - grid[0]
    curvature = (density[at + 1] - 2 * density[at] + density[at - 1]) / step**2 if 0 < at < grid.size - 1 else 0.0
    noise = np.sqrt(density[at] / (4 * np.sqrt(np.pi)) / (values.size * bandwidth**3))
    spread = float(noise / curvature) if curvature > 0 else None
    return Estimate((float(grid[at]),), spread, int(values.size), {"depth": best})


def tail(values: NDArray[np.float64], fraction: float, flank: Literal["lower", "upper"], bandwidth: float) -> Estimate:
    """Where the density of a single mode first drops to `fraction` of its peak on one flank, transformed values `(n,)`.

    The density is that of `valley`. The drop `x` solves `f(x) = fraction f(peak)`, so its standard error is that of
    the two kernel estimates over the slope at `x`:
    `sqrt(R(K) / (n h) (f(x) + fraction^2 f(peak) - 2 fraction c)) / |f'(x)|`, with `R(K) = 1 / (2 sqrt(pi))` and, for
    kernels at a distance `d` that overlap, `c = f(midpoint) exp(-d^2 / 4 h^2)`.

    Quality carries the `peak` and the highest `rise` of the density between peak and drop, relative to the peak; a
    rise within 4 of its own standard errors is counting noise and is 0.
    """
    sign = -1.0 if flank == "lower" else 1.0
    grid, density = _kernel_density(sign * values, bandwidth)
    step = float(grid[1] - grid[0])
    at = int(np.argmax(density))
    peak, falling = float(density[at]), density[at:]
    level = fraction * peak
    # the grid ends 5 bandwidths beyond the data, where the density is below any fraction of the peak in use
    after = int(np.argmax(falling <= level))
    high, low = float(falling[after - 1]), float(falling[after])
    distance = step * (after - 1 + (high - level) / (high - low))
    slope = (high - low) / step
    middle = float(falling[after // 2])
    overlap = middle * math.exp(-((distance / (2 * bandwidth)) ** 2))
    noise = _ROUGHNESS / (values.size * bandwidth)
    variance = noise * (level + fraction**2 * peak - 2 * fraction * overlap)
    cut, mode = sign * (float(grid[at]) + distance), sign * float(grid[at])
    quality = {"peak": mode, "rise": _rise(falling[:after], noise) / peak}
    return Estimate((cut,), math.sqrt(max(variance, 0.0)) / slope, int(values.size), quality)


def _rise(falling: NDArray[np.float64], noise: float) -> float:
    """The most that a density rises again where it should only fall, as far as it is more than counting noise."""
    lowest = np.minimum.accumulate(falling)
    rise = falling - lowest
    clear = rise > _CLEAR * np.sqrt(noise * (falling + lowest))
    return float(rise[clear].max()) if clear.any() else 0.0


def _kernel_density(values: NDArray[np.float64], bandwidth: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gaussian kernel density on a regular grid that reaches 5 bandwidths beyond the data."""
    low, high = float(values.min()) - 5 * bandwidth, float(values.max()) + 5 * bandwidth
    # an outlier stretches the grid, which must stay finer than the kernel
    wanted = 2 ** math.ceil(math.log2(8 * (high - low) / bandwidth))
    n = min(max(_GRID, wanted), _GRID_MOST)
    step = (high - low) / n
    bins = np.minimum(((values - low) / step).astype(np.intp), n - 1)
    counts = np.bincount(bins, minlength=n)
    # padded to twice the length, so that the circular convolution does not wrap around
    frequency = np.fft.rfftfreq(2 * n, d=step)
    kernel = np.exp(-2 * np.square(np.pi * bandwidth * frequency))
    smooth = np.fft.irfft(np.fft.rfft(counts, 2 * n) * kernel, 2 * n)[:n]
    # rounding of the FFT must not make an empty gap look like hills
    smooth[smooth < counts.max() * 1e-12] = 0.0
    return low + step * (np.arange(n) + 0.5), smooth / (values.size * step)
