"""From a template's rule to a placed gate: the estimate, its bounds, and what happens where there is none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tregflow.codes import CODES
from tregflow.errors import Finding, PlacementError
from tregflow.placement.band import band_vertices, singlet_band
from tregflow.placement.density import tail, valley
from tregflow.placement.ellipse import ellipse, ellipse_coordinates
from tregflow.placement.estimate import DECIMALS, SPACE, Estimate, Placement
from tregflow.placement.quantiles import negative_spread, reference_quantile, shift_scale
from tregflow.template.model import NegativeSpread, ShiftScale, Tail, Valley

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tregflow.template.model import CutRule, EllipsePlace, SingletBand
    from tregflow.transforms import Transform

_RISE = 0.05  # of the peak; a density that rises more on its way down has a second mode
_FLAT = 1e-4  # of the region, or of the other axis; far above what rounding leaves of a covariance


def place_cut(
    rule: CutRule, reference: str, values: NDArray[np.float64], transform: Transform | None, gate: str
) -> tuple[Placement, Finding | None]:
    """Place a range's cut by its rule. `values` `(n,)` are in the rule's space (`SPACE`).

    For `fmo_quantile` they are those of the FMO tube.

    Raises
    ------
    PlacementError
        `PLACEMENT_TOO_FEW_EVENTS`, `PLACEMENT_DEGENERATE`, `PLACEMENT_NO_VALLEY`, `PLACEMENT_NO_MODE` or
        `PLACEMENT_OUTSIDE_BOUNDS`. Where the rule says `otherwise = "template_value"`, the template's value comes back
        instead, with a `PLACEMENT_FALLBACK` finding; `"subject_baseline"` is for the caller (`from_baseline`), who
        has the subject's cuts.
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
        if rule.otherwise != "template_value" or rule.template_value is None:
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
        if rule.otherwise != "template_value" or not fallback:
            raise
        flat = tuple(v for vertex in fallback for v in vertex)
        return _fallback(rule, reference, flat, area.size, gate, error)
    return Placement(rule.rule, rule.share, "scale", "placed", reference, coordinates, estimate), None


def place_ellipse(
    rule: EllipsePlace,
    reference: str,
    values: Sequence[NDArray[np.float64]],
    gate: str,
    fallback: tuple[float, ...],
) -> tuple[Placement, Finding | None]:
    """Place an ellipse. `values` are two arrays `(n,)` on the gate's axes, `fallback` as the coordinates, or empty.

    The coordinates are the mean, then the covariance row by row (`ellipse_shape`); how far the ellipse reaches is the
    gate's `distance_square`. Errors as in `place_cut`; `min_events` must be in the region and around the mode.
    """
    x, y = values
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    (left, right), (bottom, top) = rule.region
    n = int(np.count_nonzero((x >= left) & (x < right) & (y >= bottom) & (y < top)))
    try:
        _require_events(n, rule.min_events, gate, f"{reference}, in the region,")
        estimate = _estimate_ellipse(rule, x, y, gate, reference)
    except PlacementError as error:
        if rule.otherwise != "template_value" or not fallback:
            raise
        return _fallback(rule, reference, fallback, n, gate, error)
    coordinates = ellipse_coordinates(estimate)
    return Placement(rule.rule, rule.share, SPACE[rule.rule], "placed", reference, coordinates, estimate), None


def from_baseline(rule: CutRule, baseline: Placement, gate: str, error: PlacementError) -> tuple[Placement, Finding]:
    """The subject's baseline cut where `rule` could not place its own and says `otherwise = "subject_baseline"`."""
    message = f"{error.code}: {error.message}"
    placement = replace(baseline, rule=rule.rule, share=rule.share, status="fallback", message=message)
    return placement, _fallback_finding(gate, error, "The subject's baseline cut")


def from_template(rule: CutRule, gate: str, error: PlacementError) -> tuple[Placement, Finding]:
    """The template's value where `rule` could not place its cut and says `otherwise = "template_value"`."""
    value = () if rule.template_value is None else (round(rule.template_value, DECIMALS),)
    return _fallback(rule, rule.reference or "", value, 0, gate, error)


def _estimate_cut(rule: CutRule, values: NDArray[np.float64], gate: str, reference: str) -> Estimate:
    if isinstance(rule, NegativeSpread | ShiftScale):
        if isinstance(rule, NegativeSpread):
            estimate = negative_spread(values, rule.k, rule.clip)
        else:
            estimate = shift_scale(values, rule.cut, rule.location, rule.spread)
        _require_spread(estimate.quality["robust_sd"], 0.0, gate, f"the lower half of {reference}")
        return estimate
    if isinstance(rule, Valley):
        estimate = valley(values, rule.between, rule.bandwidth)
        if estimate.quality["depth"] < rule.depth:
            raise PlacementError(
                "PLACEMENT_NO_VALLEY",
                f"{gate}: the deepest minimum of {reference} between {rule.between[0]} and {rule.between[1]} has depth "
                f"{estimate.quality['depth']:.2f}; expected at least {rule.depth}.",
                gate=gate,
            )
        return estimate
    if isinstance(rule, Tail):
        estimate = tail(values, rule.fraction, rule.flank, rule.bandwidth)
        if estimate.quality["rise"] > _RISE:
            raise PlacementError(
                "PLACEMENT_NO_MODE",
                f"{gate}: the density of {reference} rises again by {100 * estimate.quality['rise']:.0f} % of its peak "
                f"before it drops to {100 * rule.fraction:g} %; expected one mode.",
                gate=gate,
            )
        return estimate
    return reference_quantile(values, rule.q)


def _estimate_ellipse(
    rule: EllipsePlace, x: NDArray[np.float64], y: NDArray[np.float64], gate: str, reference: str
) -> Estimate:
    estimate = ellipse(x, y, rule.region, rule.bandwidth)
    if estimate is None:
        raise PlacementError(
            "PLACEMENT_NO_MODE", f"{gate}: the density of {reference} has no mode in the region.", gate=gate
        )
    _require_events(estimate.n_reference, rule.min_events, gate, f"{reference}, around its densest mode,")
    flatness = math.sqrt(max(0.0, 1 - estimate.quality["correlation"] ** 2))
    names = ("first", "second")
    for name, (low, high) in zip(names, rule.region, strict=True):
        sd = estimate.quality[f"sd_{name}"]
        _require_spread(min(sd / (high - low), flatness), _FLAT, gate, f"the densest mode of {reference}")
        _require_within(sd, (0.0, (high - low) / 2), gate, f"SD in the {name} dimension")
    for name, mean, interval in zip(names, estimate.values[:2], rule.region, strict=True):
        _require_within(mean, interval, gate, f"mean in the {name} dimension")
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
    rule: CutRule | SingletBand | EllipsePlace,
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
    return placement, _fallback_finding(gate, error, "The template's value")


def _fallback_finding(gate: str, error: PlacementError, used: str) -> Finding:
    return Finding(
        "PLACEMENT_FALLBACK",
        "review",
        f"{error.message} {used} was used instead ({error.code}).",
        population=gate,
        remedy=CODES["PLACEMENT_FALLBACK"].remedy,
    )
