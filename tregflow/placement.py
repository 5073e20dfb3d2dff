"""Rules that place a gate from a population's values: pure functions of arrays, without random numbers.

Each rule takes the values of its reference population in the space that it declares (`SPACE`) and returns an
`Estimate`: where, how certain, from how many events. `within`, `min_events` and `otherwise` of the template are applied
in one place, by `decide`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tregflow.errors import CODES, Finding, PlacementError
from tregflow.template.model import NegativeSpread, ReferenceQuantile, SingletBand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tregflow.template.model import CutRule
    from tregflow.transforms import Transform

Space = Literal["scale", "transformed"]
Status = Literal["placed", "shared", "fallback"]

#: The space in which each rule takes its reference values.
SPACE: Mapping[str, Space] = {
    "negative_spread": "scale",
    "reference_quantile": "transformed",
    "valley": "transformed",
    "singlet_band": "scale",
}
DECIMALS = 6
TOUCHING = 1e-9  # transformed units; far above the rounding of any engine, far below the resolution of a cytometer
_MAD = 1.482602218505602  # 1 / the upper quartile of the standard normal: makes a median deviation a robust SD
_VALLEY_GRID = 2048  # at least; more where a bandwidth would have fewer than 8 bins
_VALLEY_GRID_MOST = 2**20


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a rule found, in its own space, and how sure it is.

    `values` is one cut, or intercept, slope and relative robust SD of a band; `spread` the standard error of the cut,
    or of the band's slope, None where it cannot be told; `n_reference` the events it rests on.
    """

    values: tuple[float, ...]
    spread: float | None
    n_reference: int
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """A gate's placed coordinates and their evidence.

    `coordinates` are what the gate uses (transformed space, rounded to 6 decimals): one cut, or the band's four
    vertices flattened. `estimate` is what the rule found in its own `space`.
    """

    rule: str
    share: str
    space: Space
    status: Status
    reference: str
    coordinates: tuple[float, ...]
    estimate: Estimate
    message: str = ""


def robust_negative(values: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and robust SD from the half of the distribution below it, where no positive tail reaches.

    SD = 1.4826 x the median distance below the median. `values` `(n,)`, scale values.
    """
    lower, middle = np.quantile(values, (0.25, 0.5))
    return float(middle), float(_MAD * (middle - lower))


def negative_spread(values: NDArray[np.float64], k: float) -> Estimate:
    """Median plus `k` robust SDs of an internal negative population (`robust_negative`), scale values `(n,)`.

    The cut is the combination `(1 + c) q50 - c q25` of two quantiles with `c = 1.4826 k`, so its standard error is
    that of a combination of order statistics: `Cov(q_p, q_r) = p (1 - r) / (n f_p f_r)` for `p <= r`, the densities
    `f` taken from the spacing of the order statistics (Siddiqui 1960).
    """
    middle, sd = robust_negative(values)
    c = _MAD * k
    f25, f50 = (_density_at_quantile(values, p) for p in (0.25, 0.5))
    spread = None
    if f25 and f50:
        variance = (1 + c) ** 2 * 0.25 / f50**2 + c**2 * 0.1875 / f25**2 - 2 * (1 + c) * c * 0.125 / (f25 * f50)
        spread = math.sqrt(variance / values.size)
    return Estimate((middle + k * sd,), spread, int(values.size), {"median": middle, "robust_sd": sd})


def reference_quantile(values: NDArray[np.float64], q: float) -> Estimate:
    """The `q` quantile of a reference population, transformed values `(n,)`; SE = sqrt(q (1 - q) / n) / density."""
    density = _density_at_quantile(values, q)
    spread = float(np.sqrt(q * (1 - q) / values.size) / density) if density else None
    return Estimate((float(np.quantile(values, q)),), spread, int(values.size), {"q": q})


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
        sd = float(_MAD * np.median(above)) if above.size else 0.0
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


def place_cut(
    rule: CutRule, reference: str, values: NDArray[np.float64], transform: Transform | None, gate: str
) -> tuple[Placement, Finding | None]:
    """Place a range's cut by its rule. `values` `(n,)` are in the rule's space (`SPACE`).

    Raises
    ------
    PlacementError
        `PLACEMENT_TOO_FEW_EVENTS`, `PLACEMENT_DEGENERATE`, `PLACEMENT_NO_VALLEY` or `PLACEMENT_OUTSIDE_BOUNDS`, where
        the rule says `otherwise = "fail"`; else the template's value comes back with a `PLACEMENT_FALLBACK` finding.
    """
    values = values[np.isfinite(values)]
    try:
        _require_events(values.size, rule.min_events, gate, reference)
        estimate = _estimate_cut(rule, values, gate, reference)
        space = SPACE[rule.rule]
        cut = estimate.values[0]
        if space == "scale" and transform is not None:
            cut = float(transform(np.array([cut]))[0])
        cut = round(cut, DECIMALS)
        _require_within(cut, rule.within, gate, "cut")
    except PlacementError as error:
        if rule.otherwise == "fail" or rule.template_value is None:
            raise
        return _fallback(rule, reference, (round(rule.template_value, DECIMALS),), values.size, gate, error)
    return Placement(rule.rule, rule.share, space, "placed", reference, (cut,), estimate), None


def place_band(
    rule: SingletBand,
    reference: str,
    values: Sequence[NDArray[np.float64]],
    gate: str,
    fallback: tuple[tuple[float, float], ...],
) -> tuple[Placement, Finding | None]:
    """Place a singlet band. `values` are pulse area and height, scale values `(n,)`; errors as in `place_cut`."""
    area, height = values
    inside = (area >= rule.area[0]) & (area < rule.area[1]) & np.isfinite(height)
    area, height = area[inside], height[inside]
    try:
        _require_events(area.size, rule.min_events, gate, reference)
        estimate = singlet_band(area, height)
        # what is left of an exact line after rounding is no spread either
        _require_spread(estimate.values[2], 10.0**-DECIMALS, gate, "height around its line on area")
        _require_within(estimate.values[1], rule.within, gate, "slope of height on area")
        lowest = min(estimate.values[0] + estimate.values[1] * a for a in rule.area)
        _require_within(lowest, (0.0, math.inf), gate, "lowest height of the line on area")
        coordinates = band_vertices(estimate, rule.k, rule.area)
    except PlacementError as error:
        if rule.otherwise == "fail" or not fallback:
            raise
        flat = tuple(v for vertex in fallback for v in vertex)
        return _fallback(rule, reference, flat, area.size, gate, error)
    return Placement(rule.rule, rule.share, "scale", "placed", reference, coordinates, estimate), None


def share_cut(rule: CutRule, placed: Sequence[Placement], transform: Transform | None) -> Placement:
    """The one cut of a batch: the median, in the rule's space, of the cuts that its tubes placed.

    Its standard error is that of a median of `m` tubes, `1.2533 SD / sqrt(m)`, or the tube's own if there is one.
    `placed` must not be empty and must hold placements with status `placed`.
    """
    raw = np.array([p.estimate.values[0] for p in placed])
    value = float(np.median(raw))
    cut = value if placed[0].space == "transformed" or transform is None else float(transform(np.array([value]))[0])
    m = len(placed)
    spread = float(1.2533 * raw.std(ddof=1) / np.sqrt(m)) if m > 1 else placed[0].estimate.spread
    n = sum(p.estimate.n_reference for p in placed)
    quality = {"n_tubes": float(m), "lowest": float(raw.min()), "highest": float(raw.max())}
    return Placement(
        rule.rule,
        rule.share,
        placed[0].space,
        "shared",
        placed[0].reference,
        (round(cut, DECIMALS),),
        Estimate((value,), spread, n, quality),
        f"median of {m} tube(s) of the batch",
    )


def off_events(cut: float, values: NDArray[np.float64]) -> float:
    """Move a cut that touches an event to the midpoint between that event and its lower neighbour.

    `values` `(n,)` and `cut` are transformed. The event stays above the cut, as in a half-open range, and every
    engine decides it alike whatever its last bit. Neighbours too close to cut between go above with it. A cut that
    touches nothing comes back unchanged.
    """
    touching = values[np.abs(values - cut) <= TOUCHING]
    if touching.size == 0:
        return cut
    down = np.unique(values[values <= touching.min()])[::-1]
    wide = np.flatnonzero(down[:-1] - down[1:] > 2 * TOUCHING)
    if wide.size == 0:
        return float(down[-1]) - 10.0**-DECIMALS
    return float(down[wide[0]] + down[wide[0] + 1]) / 2


def moved(placement: Placement, cut: float) -> Placement:
    """The same placement with another cut."""
    return replace(placement, coordinates=(cut,))


def _estimate_cut(rule: CutRule, values: NDArray[np.float64], gate: str, reference: str) -> Estimate:
    if isinstance(rule, NegativeSpread):
        estimate = negative_spread(values, rule.k)
        _require_spread(estimate.quality["robust_sd"], 0.0, gate, f"the lower half of {reference}")
        return estimate
    if isinstance(rule, ReferenceQuantile):
        return reference_quantile(values, rule.q)
    estimate = valley(values, rule.between, rule.bandwidth)
    if estimate.quality["depth"] < rule.depth:
        raise PlacementError(
            "PLACEMENT_NO_VALLEY",
            f"{gate}: the deepest minimum of {reference} between {rule.between[0]} and {rule.between[1]} has depth "
            f"{estimate.quality['depth']:.2f}; expected at least {rule.depth}.",
            gate=gate,
        )
    return estimate


def _require_events(n: int, least: int, gate: str, reference: str) -> None:
    if n < least:
        raise PlacementError(
            "PLACEMENT_TOO_FEW_EVENTS",
            f"{gate}: its reference {reference} has {n} events; expected at least {least}.",
            gate=gate,
        )


def _require_spread(sd: float, above: float, gate: str, what: str) -> None:
    if sd <= above:
        raise PlacementError("PLACEMENT_DEGENERATE", f"{gate}: {what} has no spread.", gate=gate)


def _require_within(value: float, within: tuple[float, float] | None, gate: str, what: str) -> None:
    low, high = within or (-math.inf, math.inf)
    if not (math.isfinite(value) and low <= value <= high):
        raise PlacementError(
            "PLACEMENT_OUTSIDE_BOUNDS",
            f"{gate}: the {what} came to {value:.6g}; expected {low:g} to {high:g}.",
            gate=gate,
        )


def _fallback(
    rule: CutRule | SingletBand,
    reference: str,
    coordinates: tuple[float, ...],
    n: int,
    gate: str,
    error: PlacementError,
) -> tuple[Placement, Finding]:
    placement = Placement(
        rule.rule,
        rule.share,
        SPACE[rule.rule],
        "fallback",
        reference,
        coordinates,
        Estimate((), None, n),
        f"{error.code}: {error.message}",
    )
    finding = Finding(
        "PLACEMENT_FALLBACK",
        "review",
        f"{error.message} The template's value was used instead ({error.code}).",
        population=gate,
        remedy=CODES["PLACEMENT_FALLBACK"].remedy,
    )
    return placement, finding


def _density_at_quantile(values: NDArray[np.float64], p: float) -> float:
    """Density at the `p` quantile from the spacing of order statistics (Siddiqui 1960).

    The window goes with n^(-1/3), which is best for the coverage of intervals (Hall and Sheather 1988).
    """
    half = min(values.size ** (-1 / 3), p, 1 - p) * 0.5
    low, high = np.quantile(values, (p - half, p + half))
    return float(2 * half / (high - low)) if high > low else 0.0


def _kernel_density(values: NDArray[np.float64], bandwidth: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gaussian kernel density on a regular grid that reaches 5 bandwidths beyond the data."""
    low, high = float(values.min()) - 5 * bandwidth, float(values.max()) + 5 * bandwidth
    # an outlier stretches the grid, which must stay finer than the kernel
    wanted = 2 ** math.ceil(math.log2(8 * (high - low) / bandwidth))
    n = min(max(_VALLEY_GRID, wanted), _VALLEY_GRID_MOST)
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
