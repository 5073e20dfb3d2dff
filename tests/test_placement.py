"""Placement rules: answers known by hand, properties, standard errors against simulation, fall-backs and refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from support import real_data

from tregflow.errors import PlacementError
from tregflow.fcs import read_fcs
from tregflow.placement import (
    DECIMALS,
    SPACE,
    TOUCHING,
    Estimate,
    Placement,
    band_vertices,
    from_baseline,
    moved,
    negative_spread,
    off_events,
    place_band,
    place_cut,
    reference_quantile,
    robust_negative,
    share_cut,
    shift_scale,
    singlet_band,
    tail,
    valley,
    without_positives,
)
from tregflow.sample import sample_from_fcs
from tregflow.template.model import (
    CutRule,
    EllipsePlace,
    FmoQuantile,
    NegativeSpread,
    ReferenceQuantile,
    ShiftScale,
    SingletBand,
    Tail,
    Valley,
)
from tregflow.template.panel import resolve_panel
from tregflow.template.registry import load_template
from tregflow.transforms import Log, Logicle

Array = NDArray[np.float64]
LOGICLE = Logicle(262144, 0.5, 4.5, 0)
MAD = 1.482602218505602
SPREAD = NegativeSpread(rule="negative_spread", side="above", reference="neg", k=4, min_events=50)
QUANTILE = ReferenceQuantile(rule="reference_quantile", side="above", reference="fmo", q=0.99, min_events=50)
FMO = FmoQuantile(rule="fmo_quantile", side="above", control="FOXP3", q=0.99, min_events=50)
TAIL = Tail(rule="tail", side="above", flank="upper", fraction=0.1, min_events=50)
SHIFT = ShiftScale(rule="shift_scale", side="above", reference="neg", cut=1300, location=100, spread=300, min_events=50)
VALLEY = Valley(rule="valley", side="above", between=(0.3, 0.7), min_events=50)
BAND = SingletBand(rule="singlet_band", k=3, area=(20_000.0, 200_000.0), min_events=50)
FALLBACK = {"otherwise": "template_value", "template_value": 0.5}

values_strategy = arrays(
    np.float64, st.integers(20, 200), elements=st.floats(-1e5, 1e5, allow_nan=False).map(lambda v: round(v, 3))
)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def two_modes(n: int = 4000, seed: int = 1, positive: float = 0.4, at: tuple[float, float] = (0.2, 0.8)) -> Array:
    """A negative and a positive population of SD 0.06 on a transformed axis."""
    r = rng(seed)
    n_positive = round(n * positive)
    return np.concatenate([r.normal(at[0], 0.06, n - n_positive), r.normal(at[1], 0.06, n_positive)])


def singlets(n: int = 5000, seed: int = 1, doublets: float = 0.0, debris: int = 0) -> tuple[Array, Array]:
    """Pulse area and height: height 0.8 x area with 3 % spread, doublets with half the height for their area."""
    r = rng(seed)
    area = r.uniform(30_000, 150_000, n)
    height = 0.8 * area * r.normal(1, 0.03, n)
    pairs = r.random(n) < doublets
    height[pairs] *= 0.6
    low = r.uniform(0, 20_000, debris)
    return np.append(area, low), np.append(height, r.uniform(0, 1, debris) * low)


# --- negative_spread ------------------------------------------------------------------------------------------------


def test_negative_spread_by_hand() -> None:
    values = np.array([-30.0, -20, -10, 0, 100, 1e4, 1e6])  # quantiles: 0.5 -> 0, 0.25 -> -15
    middle, sd = robust_negative(values)
    assert middle == 0
    assert sd == pytest.approx(MAD * 15, rel=1e-15)
    estimate = negative_spread(values, 4)
    assert estimate.values[0] == pytest.approx(4 * MAD * 15, rel=1e-15)
    assert estimate.n_reference == 7
    assert estimate.quality == {"median": middle, "robust_sd": sd}


def test_the_robust_sd_of_a_normal_population_is_its_sd() -> None:
    middle, sd = robust_negative(rng().normal(100, 300, 200_000))
    assert middle == pytest.approx(100, abs=3)
    assert sd == pytest.approx(300, rel=0.01)


@settings(max_examples=50, deadline=None)
@given(values=values_strategy, shift=st.floats(-1e4, 1e4), factor=st.floats(0.01, 100), k=st.floats(0.5, 6))
def test_negative_spread_moves_with_location_and_scale(values: Array, shift: float, factor: float, k: float) -> None:
    cut = negative_spread(values, k).values[0]
    assert negative_spread(shift + factor * values, k).values[0] == pytest.approx(
        shift + factor * cut, rel=1e-9, abs=1e-6 * factor + 1e-6
    )


@settings(max_examples=25, deadline=None)
@given(values=values_strategy, seed=st.integers(0, 99))
def test_no_rule_depends_on_the_order_of_events(values: Array, seed: int) -> None:
    shuffled = rng(seed).permutation(values)
    assert negative_spread(shuffled, 4) == negative_spread(values, 4)
    assert reference_quantile(shuffled, 0.9) == reference_quantile(values, 0.9)
    unit = values / 1e5
    assert valley(rng(seed).permutation(unit), (-0.5, 0.5), 0.05) == valley(unit, (-0.5, 0.5), 0.05)


@settings(max_examples=25, deadline=None)
@given(start=st.floats(1, 1e4), stretch=st.floats(1, 1000))
def test_a_positive_tail_does_not_move_negative_spread(start: float, stretch: float) -> None:
    negatives = rng().normal(0, 300, 1001)
    tail = negatives.copy()
    above = tail > np.median(negatives)
    tail[above] += start + stretch * (tail[above] - np.median(negatives))  # what is above the median, far or further
    assert negative_spread(tail, 4).values == negative_spread(negatives, 4).values


def test_a_real_positive_minority_hardly_moves_negative_spread() -> None:
    negatives = rng().normal(0, 300, 3000)
    positives = rng(2).lognormal(np.log(5000), 0.5, 90)  # 3 % of cells that do carry the marker
    clean, mixed = (negative_spread(v, 4).values[0] for v in (negatives, np.append(negatives, positives)))
    assert abs(mixed - clean) < 0.1 * 300
    assert np.quantile(np.append(negatives, positives), 0.995) > 5 * np.quantile(negatives, 0.995)


def test_positives_are_left_out_by_hand() -> None:
    negatives = np.arange(-50.0, 51)  # median 0, lower quartile -25: SD 37.07, so nothing lies above 4 SD
    assert without_positives(negatives, 4).size == 101
    mixed = np.append(negatives, [400.0, 500, 600])
    assert np.array_equal(without_positives(mixed, 4), negatives)
    estimate = negative_spread(mixed, 2, clip=4)
    assert estimate.values == negative_spread(negatives, 2).values
    assert estimate.n_reference == 101
    assert estimate.quality["left_out_frac"] == pytest.approx(3 / 104)


@pytest.mark.parametrize("share", [0.05, 0.15, 0.3])
def test_a_third_of_positives_in_the_reference_moves_a_clipped_cut_by_a_tenth_of_an_sd(share: float) -> None:
    negatives = rng().normal(0, 300, 4000)
    positives = rng(2).lognormal(np.log(6000), 0.4, int(4000 * share / (1 - share)))
    mixed = np.append(negatives, positives)
    clean = negative_spread(negatives, 4.75, clip=4).values[0]
    assert abs(negative_spread(mixed, 4.75, clip=4).values[0] - clean) < 0.1 * 300
    moved_by = negative_spread(mixed, 4.75).values[0] - clean
    assert moved_by > 2 * share * 300  # without, the drug moves the cut


@settings(max_examples=50, deadline=None)
@given(values=values_strategy, clip=st.floats(2.5, 8), factor=st.floats(0.01, 100))
def test_what_is_left_out_lies_above_what_is_kept_and_nothing_more_goes(
    values: Array, clip: float, factor: float
) -> None:
    kept = without_positives(values, clip)
    assert np.array_equal(kept, np.sort(values)[: kept.size])
    middle, sd = robust_negative(kept)
    assert kept[-1] <= middle + clip * sd
    assert np.array_equal(without_positives(kept, clip), kept)


# --- reference_quantile ---------------------------------------------------------------------------------------------


def test_reference_quantile_by_hand() -> None:
    values = np.arange(101, dtype=np.float64)
    estimate = reference_quantile(values, 0.99)
    assert estimate.values == (99.0,)
    # density 1/101 per unit: SE = sqrt(0.99 x 0.01 / 101) / (1/100), the spacing of order statistics being 1
    assert estimate.spread == pytest.approx(np.sqrt(0.99 * 0.01 / 101) * 100, rel=1e-9)


def test_reference_quantile_of_a_constant_has_no_standard_error() -> None:
    assert reference_quantile(np.full(100, 0.3), 0.99) == Estimate((0.3,), None, 100, {"q": 0.99})


@settings(max_examples=50, deadline=None)
@given(values=values_strategy, shift=st.floats(-1e4, 1e4), factor=st.floats(0.01, 100), q=st.floats(0.01, 0.99))
def test_reference_quantile_moves_with_location_and_scale(values: Array, shift: float, factor: float, q: float) -> None:
    cut = reference_quantile(values, q).values[0]
    assert reference_quantile(shift + factor * values, q).values[0] == pytest.approx(
        shift + factor * cut, rel=1e-9, abs=1e-6 * factor + 1e-6
    )


# --- shift_scale ----------------------------------------------------------------------------------------------------


def test_shift_scale_by_hand() -> None:
    """A standard tube's cut 1300 lies 4 SDs of 300 above its location 100; here the SD is 15 MAD, the location 0."""
    values = np.array([-30.0, -20, -10, 0, 100, 1e4, 1e6])
    estimate = shift_scale(values, 1300, 100, 300)
    assert estimate.values[0] == pytest.approx(0 + (1300 - 100) * 15 * MAD / 300, rel=1e-15)
    assert estimate.quality == pytest.approx(
        {"median": 0, "robust_sd": 15 * MAD, "shift": -100, "stretch": 15 * MAD / 300}
    )
    assert estimate.n_reference == 7


@settings(max_examples=25, deadline=None)
@given(values=values_strategy, k=st.floats(-2, 6))
def test_shift_scale_on_the_standard_tube_gives_its_cut_back(values: Array, k: float) -> None:
    location, spread = robust_negative(values)
    cut = location + k * (spread or 1.0)
    assert shift_scale(values, cut, location, spread or 1.0).values[0] == pytest.approx(
        cut if spread else location, rel=1e-9, abs=1e-6
    )


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(0.5, 2), offset=st.floats(-500, 500))
def test_shift_scale_undoes_gain_and_offset(gain: float, offset: float) -> None:
    values = rng().normal(50, 300, 1001)
    location, spread = robust_negative(values)
    carried = shift_scale(offset + gain * values, 1300, location, spread)
    assert carried.values[0] == pytest.approx(offset + gain * 1300, rel=1e-9, abs=1e-6)
    assert carried.quality["stretch"] == pytest.approx(gain)


# --- valley ---------------------------------------------------------------------------------------------------------


def test_the_valley_of_two_equal_modes_lies_in_the_middle() -> None:
    estimate = valley(two_modes(100_000, positive=0.5), (0.3, 0.7), 0.015)
    assert estimate.values[0] == pytest.approx(0.5, abs=0.03)
    assert estimate.quality["depth"] > 0.99


def test_the_valley_of_a_known_density() -> None:
    """Two normals of equal SD 0.1 and unequal size: the minimum solves (x - 0.3) = r (0.7 - x) exp(...)."""
    n = 200_001
    x = np.linspace(-0.5, 1.5, n)
    density = 0.7 * np.exp(-0.5 * ((x - 0.3) / 0.1) ** 2) + 0.3 * np.exp(-0.5 * ((x - 0.7) / 0.1) ** 2)
    inside = (x > 0.4) & (x < 0.65)
    expected = x[inside][np.argmin(density[inside])]
    cumulative = np.cumsum(density) / density.sum()
    values = np.interp((np.arange(100_000) + 0.5) / 100_000, cumulative, x)  # quantiles, so no noise
    assert valley(values, (0.4, 0.65), 0.01).values[0] == pytest.approx(expected, abs=0.003)


def test_the_middle_of_an_empty_gap() -> None:
    values = np.concatenate([np.linspace(0.1, 0.2, 500), np.linspace(0.8, 0.9, 500)])
    estimate = valley(values, (0.2, 0.8), 0.01)
    assert estimate.values[0] == pytest.approx(0.5, abs=0.005)
    assert estimate.quality["depth"] == 1.0
    assert estimate.spread is None, "a flat gap has no curvature to take a standard error from"


def test_the_modes_may_lie_outside_between_but_not_the_minimum() -> None:
    values = two_modes()
    assert valley(values, (0.45, 0.55), 0.015).quality["depth"] > 0.9
    assert 0.45 <= valley(values, (0.45, 0.55), 0.015).values[0] <= 0.55


@pytest.mark.parametrize("between", [(-3.0, -2.0), (2.0, 3.0)])
def test_no_valley_beyond_the_data(between: tuple[float, float]) -> None:
    assert valley(two_modes(), between, 0.015).quality["depth"] == 0


def test_no_valley_in_one_mode() -> None:
    assert valley(rng().normal(0.5, 0.1, 20_000), (0.4, 0.6), 0.03).quality["depth"] < 0.1


@settings(max_examples=30, deadline=None)
@given(outlier=st.floats(-4, 5))
def test_an_outlier_does_not_move_the_valley(outlier: float) -> None:
    values = two_modes()
    before = valley(values, (0.3, 0.7), 0.015)
    after = valley(np.append(values, outlier), (0.3, 0.7), 0.015)
    assert before.spread is not None
    assert after.values[0] == pytest.approx(before.values[0], abs=0.5 * before.spread)


@pytest.mark.parametrize("outlier", [-1e6, 1e6])
def test_a_far_outlier_in_scale_values_does_not_coarsen_the_valley(outlier: float) -> None:
    values = 100_000 * two_modes()
    before = valley(values, (30_000, 70_000), 1500)
    after = valley(np.append(values, outlier), (30_000, 70_000), 1500)
    assert after.values[0] == pytest.approx(before.values[0], abs=200)


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-2, 2), factor=st.floats(0.1, 10))
def test_the_valley_moves_with_location_and_scale(shift: float, factor: float) -> None:
    values = two_modes()
    cut = valley(values, (0.3, 0.7), 0.02).values[0]
    moved_cut = valley(shift + factor * values, (shift + factor * 0.3, shift + factor * 0.7), 0.02 * factor).values[0]
    assert moved_cut == pytest.approx(shift + factor * cut, abs=1e-3 * factor)


# --- singlet_band ---------------------------------------------------------------------------------------------------


def test_the_line_of_single_cells() -> None:
    estimate = singlet_band(*singlets())
    intercept, slope, sd = estimate.values
    assert slope == pytest.approx(0.8, rel=0.01)
    assert abs(intercept) < 500
    assert sd == pytest.approx(0.03, rel=0.05)
    assert estimate.quality["n_on_line"] == estimate.n_reference


def test_doublets_and_debris_do_not_move_the_line() -> None:
    clean = singlet_band(*singlets())
    area, height = singlets(doublets=0.15, debris=500)
    inside = area >= 20_000
    mixed = singlet_band(area[inside], height[inside])
    assert mixed.values[1] == pytest.approx(clean.values[1], rel=0.01)
    assert mixed.values[2] == pytest.approx(clean.values[2], rel=0.1)


@settings(max_examples=20, deadline=None)
@given(a=st.floats(0.1, 10), h=st.floats(0.1, 10), seed=st.integers(0, 99))
def test_the_band_scales_with_both_channels_and_ignores_order(a: float, h: float, seed: int) -> None:
    area, height = singlets(800)
    order = rng(seed).permutation(area.size)
    intercept, slope, sd = singlet_band(area, height).values
    scaled = singlet_band(a * area[order], h * height[order])
    assert scaled.values == pytest.approx((h * intercept, h / a * slope, sd), rel=1e-6, abs=1e-6)


def test_band_vertices_by_hand() -> None:
    vertices = band_vertices(Estimate((100.0, 0.5, 0.02), None, 9), 5, (1000.0, 3000.0))
    assert vertices == (1000.0, 540.0, 3000.0, 1440.0, 3000.0, 1760.0, 1000.0, 660.0)


@pytest.mark.parametrize("n", [0, 1])
def test_no_line_through_less_than_two_events(n: int) -> None:
    assert singlet_band(np.full(n, 5.0), np.full(n, 4.0)) == Estimate((0.0, 0.0, 0.0), None, n)


# --- standard errors against simulation -----------------------------------------------------------------------------


def simulated(estimate: Callable[[np.random.Generator], Estimate], which: int = 0, n: int = 400) -> tuple[float, float]:
    """Empirical SD of a rule's value over repeated tubes, and the mean of the standard errors that it states."""
    r = rng(20)
    found = [estimate(r) for _ in range(n)]
    spreads = [e.spread for e in found if e.spread is not None]
    assert len(spreads) == n
    return float(np.std([e.values[which] for e in found], ddof=1)), float(np.mean(spreads))


@pytest.mark.parametrize("n", [500, 3000])
@pytest.mark.parametrize("k", [3, 5])
def test_standard_error_of_negative_spread(n: int, k: float) -> None:
    actual, stated = simulated(lambda r: negative_spread(r.normal(0, 400, n), k))
    assert stated == pytest.approx(actual, rel=0.2)


def test_standard_error_of_negative_spread_with_a_positive_tail() -> None:
    def tube(r: np.random.Generator) -> Estimate:
        return negative_spread(np.append(r.normal(0, 400, 2700), r.lognormal(8, 1, 300)), 4)

    actual, stated = simulated(tube)
    assert stated == pytest.approx(actual, rel=0.2)


@pytest.mark.parametrize("cut", [-300, 100, 1300])
def test_standard_error_of_shift_scale(cut: float) -> None:
    actual, stated = simulated(lambda r: shift_scale(r.normal(0, 400, 2000), cut, 100, 300))
    assert stated == pytest.approx(actual, rel=0.2)


def test_standard_error_of_a_cut_from_an_fmo_tube() -> None:
    def tube(r: np.random.Generator) -> Estimate:
        return place_cut(FMO.model_copy(update={"q": 0.995}), "fmo", r.normal(0.3, 0.05, 2000), LOGICLE, "g")[
            0
        ].estimate

    actual, stated = simulated(tube)
    assert stated == pytest.approx(actual, rel=0.25)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_standard_error_of_reference_quantile(q: float) -> None:
    actual, stated = simulated(lambda r: reference_quantile(r.normal(0.3, 0.05, 3000), q))
    assert stated == pytest.approx(actual, rel=0.2)


def test_standard_error_of_valley() -> None:
    def tube(r: np.random.Generator) -> Estimate:
        values = np.concatenate([r.normal(0.3, 0.1, 12_000), r.normal(0.7, 0.1, 8000)])
        return valley(values, (0.4, 0.6), 0.03)

    actual, stated = simulated(tube, n=200)
    assert stated == pytest.approx(actual, rel=0.3)


def test_standard_error_of_the_singlet_line() -> None:
    def tube(r: np.random.Generator) -> Estimate:
        area = r.uniform(30_000, 150_000, 2000)
        return singlet_band(area, 5000 + 0.8 * area + r.normal(0, 1500, 2000))

    actual, stated = simulated(tube, which=1, n=200)
    assert stated == pytest.approx(actual, rel=0.3)


def test_standard_error_of_negative_spread_against_a_bootstrap() -> None:
    tube = rng(3).normal(0, 400, 2000)
    r = rng(4)
    bootstrap = [negative_spread(r.choice(tube, tube.size), 4).values[0] for _ in range(400)]
    assert negative_spread(tube, 4).spread == pytest.approx(np.std(bootstrap, ddof=1), rel=0.3)


# --- place_cut: spaces, rounding, bounds, refusals ------------------------------------------------------------------


def test_each_rule_declares_its_space() -> None:
    assert SPACE == {
        "negative_spread": "scale",
        "reference_quantile": "transformed",
        "fmo_quantile": "transformed",
        "valley": "transformed",
        "tail": "transformed",
        "shift_scale": "scale",
        "singlet_band": "scale",
        "ellipse": "transformed",
    }
    models = (*get_args(get_args(CutRule)[0]), SingletBand, EllipsePlace)
    assert {get_args(model.model_fields["rule"].annotation)[0] for model in models} == set(SPACE)


def test_a_scale_cut_is_transformed_and_rounded() -> None:
    values = rng().normal(0, 300, 1000)
    placement, finding = place_cut(SPREAD, "neg", values, LOGICLE, "foxp3_pos")
    raw = negative_spread(values, 4)
    assert finding is None
    assert placement.estimate == raw
    assert placement.coordinates == (round(float(LOGICLE(np.array([raw.values[0]]))[0]), DECIMALS),)
    assert (placement.status, placement.space, placement.rule, placement.reference) == (
        "placed", "scale", "negative_spread", "neg",
    )  # fmt: skip
    plain, _ = place_cut(SPREAD, "neg", values, None, "foxp3_pos")
    assert plain.coordinates == (round(raw.values[0], DECIMALS),)


def test_a_transformed_cut_stays() -> None:
    values = rng().normal(0.3, 0.05, 1000)
    placement, _ = place_cut(QUANTILE, "fmo", values, LOGICLE, "foxp3_pos")
    assert placement.coordinates == (round(float(np.quantile(values, 0.99)), DECIMALS),)
    assert placement.space == "transformed"
    placement, _ = place_cut(VALLEY, "cd3", two_modes(), LOGICLE, "cd4")
    assert placement.coordinates == pytest.approx((0.5,), abs=0.1)
    placement, _ = place_cut(TAIL, "cd4", values, LOGICLE, "foxp3_pos")
    assert placement.coordinates == (round(tail(values, 0.1, "upper", 0.015).values[0], DECIMALS),)


def test_a_cut_from_an_fmo_tube_is_the_quantile_of_what_it_is_handed() -> None:
    values = rng().normal(0.3, 0.05, 1000)
    placement, finding = place_cut(FMO, "cd4 of fmo.fcs", values, LOGICLE, "foxp3_pos")
    assert finding is None
    assert placement.coordinates == (round(float(np.quantile(values, 0.99)), DECIMALS),)
    assert placement.estimate == reference_quantile(values, 0.99)
    assert (placement.rule, placement.reference) == ("fmo_quantile", "cd4 of fmo.fcs")


def test_a_carried_cut_is_transformed_and_rounded() -> None:
    values = rng().normal(0, 300, 1000)
    placement, _ = place_cut(SHIFT, "neg", values, LOGICLE, "foxp3_pos")
    raw = shift_scale(values, 1300, 100, 300)
    assert placement.estimate == raw
    assert placement.coordinates == (round(float(LOGICLE(np.array([raw.values[0]]))[0]), DECIMALS),)


def test_values_that_are_no_numbers_are_left_out() -> None:
    values = rng().normal(0, 300, 1000)
    dirty = np.concatenate([values, [np.nan, np.inf, -np.inf]])
    assert place_cut(SPREAD, "neg", dirty, LOGICLE, "g") == place_cut(SPREAD, "neg", values, LOGICLE, "g")


Change = dict[str, object]
REFUSALS = [
    (SPREAD, {"min_events": 1001}, "PLACEMENT_TOO_FEW_EVENTS: g: its reference ref has 1000 events; expected at"),
    (SPREAD, {"within": (0.9, 0.95)}, r"PLACEMENT_OUTSIDE_BOUNDS: g: the cut came to 0\.\d+; expected 0.9 to 0.95"),
    (SHIFT, {"within": (0.9, 0.95)}, r"PLACEMENT_OUTSIDE_BOUNDS: g: the cut came to 0\.\d+; expected 0.9 to 0.95"),
    (FMO, {"min_events": 1001}, "PLACEMENT_TOO_FEW_EVENTS: g: its reference ref has 1000 events; expected at least"),
    (VALLEY, {"depth": 0.9}, r"PLACEMENT_NO_VALLEY: g: the deepest minimum of ref between 0.3 and 0.7 has depth 0"),
    (
        TAIL,
        {},
        r"PLACEMENT_NO_MODE: g: the density of ref rises again by \d+ % of its peak before it drops to 10 %; exp",
    ),
]  # fmt: skip


def refusal_values(rule: object) -> Array:
    if rule is TAIL:
        return two_modes(1000, at=(0.3, 0.52))
    return rng().normal(0.5, 0.2, 1000) if rule is VALLEY else rng().normal(0, 300, 1000)


@pytest.mark.parametrize(("rule", "change", "message"), REFUSALS)
def test_a_cut_that_cannot_be_placed_is_an_error(rule: CutRule, change: Change, message: str) -> None:
    with pytest.raises(PlacementError, match=message) as caught:
        place_cut(rule.model_copy(update=change), "ref", refusal_values(rule), LOGICLE, "g")
    assert caught.value.data["gate"] == "g"


@pytest.mark.parametrize(("rule", "change", "message"), REFUSALS)
def test_or_the_value_of_the_template_with_a_finding(rule: CutRule, change: Change, message: str) -> None:
    code = message.partition(":")[0]
    values = refusal_values(rule)
    placement, finding = place_cut(rule.model_copy(update={**change, **FALLBACK}), "ref", values, LOGICLE, "g")
    assert placement.status == "fallback"
    assert placement.coordinates == (0.5,)
    assert placement.estimate == Estimate((), None, 1000)
    assert placement.message.startswith(f"{code}: g: ")
    assert finding is not None
    assert (finding.code, finding.severity, finding.population) == ("PLACEMENT_FALLBACK", "review", "g")
    assert finding.message.endswith(f"The template's value was used instead ({code}).")
    assert finding.remedy == "Look at the gate in the report before using the number."


@pytest.mark.parametrize("rule", [SPREAD, SHIFT])
def test_a_reference_without_spread_places_nothing(rule: CutRule) -> None:
    with pytest.raises(PlacementError, match="PLACEMENT_DEGENERATE: g: the lower half of neg has no spread"):
        place_cut(rule, "neg", np.append(np.zeros(600), np.arange(400.0)), LOGICLE, "g")


def test_the_subjects_baseline_cut_where_a_tube_cannot_place_its_own() -> None:
    rule = SPREAD.model_copy(update={"otherwise": "subject_baseline", "share": "batch"})
    with pytest.raises(PlacementError, match="PLACEMENT_TOO_FEW_EVENTS") as caught:
        place_cut(rule, "neg", np.zeros(9), LOGICLE, "g")
    baseline = tube_cut(1500.0)
    placement, finding = from_baseline(rule, baseline, "g", caught.value)
    assert placement.coordinates == baseline.coordinates
    assert placement.estimate == baseline.estimate
    assert (placement.status, placement.share) == ("fallback", "batch")
    assert placement.message == "PLACEMENT_TOO_FEW_EVENTS: g: its reference neg has 9 events; expected at least 50."
    assert (finding.code, finding.severity, finding.population) == ("PLACEMENT_FALLBACK", "review", "g")
    assert finding.message == (
        "g: its reference neg has 9 events; expected at least 50. The subject's baseline cut was used instead "
        "(PLACEMENT_TOO_FEW_EVENTS)."
    )


def test_no_events_at_all() -> None:
    with pytest.raises(PlacementError, match="PLACEMENT_TOO_FEW_EVENTS: g: its reference neg has 0 events"):
        place_cut(SPREAD, "neg", np.empty(0), LOGICLE, "g")
    with pytest.raises(PlacementError, match="PLACEMENT_TOO_FEW_EVENTS"):
        place_cut(SPREAD, "neg", np.full(1000, np.nan), LOGICLE, "g")


def test_a_cut_that_the_transform_cannot_show() -> None:
    """A negative cut has no logarithm; without `within` it must not pass as a bound that holds no event."""
    with pytest.raises(PlacementError, match="PLACEMENT_OUTSIDE_BOUNDS: g: the cut came to nan"):
        place_cut(SPREAD, "neg", rng().normal(-9000, 300, 1000), Log(1e5, 4), "g")


def test_within_includes_its_ends() -> None:
    values = np.repeat([0.25, 0.5], 500)
    assert place_cut(QUANTILE.model_copy(update={"within": (0.5, 0.6)}), "r", values, LOGICLE, "g")[1] is None
    assert place_cut(QUANTILE.model_copy(update={"within": (0.4, 0.5)}), "r", values, LOGICLE, "g")[1] is None


# --- place_band -----------------------------------------------------------------------------------------------------


def test_a_placed_band() -> None:
    area, height = singlets()
    placement, finding = place_band(BAND, "all events", (area, height), "singlets", ())
    assert finding is None
    assert placement.coordinates == band_vertices(singlet_band(area, height), 3, BAND.area)
    assert (placement.status, placement.space) == ("placed", "scale")


def test_the_band_is_placed_on_events_inside_its_area_only() -> None:
    area, height = singlets()
    more = np.append(area, [5000.0, 300_000.0, 200_000.0, 50_000.0]), np.append(height, [5e5, 1.0, 9e5, np.nan])
    assert place_band(BAND, "r", more, "g", ()) == place_band(BAND, "r", (area, height), "g", ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_events": 6000}, "PLACEMENT_TOO_FEW_EVENTS: g: its reference r has 5000 events; expected at least 6000"),
        (
            {"within": (0.9, 1.4)},
            r"PLACEMENT_OUTSIDE_BOUNDS: g: the slope of height on area came to 0\.\d+; expected 0.9 ",
        ),
    ],
)
def test_a_band_that_cannot_be_placed(change: Change, message: str) -> None:
    rule = BAND.model_copy(update=change)
    with pytest.raises(PlacementError, match=message):
        place_band(rule, "r", singlets(), "g", ())
    corners = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    rule = rule.model_copy(update={"otherwise": "template_value"})
    placement, finding = place_band(rule, "r", singlets(), "g", corners)
    assert placement.coordinates == (0.0, 0.0, 1.0, 0.0, 1.0, 1.0)
    assert placement.status == "fallback"
    assert finding is not None
    assert finding.code == "PLACEMENT_FALLBACK"


def test_height_that_only_copies_area_has_no_band() -> None:
    area, _ = singlets()
    with pytest.raises(PlacementError, match="PLACEMENT_DEGENERATE: g: height around its line on area has no spread"):
        place_band(BAND, "r", (area, 0.8 * area), "g", ())


def test_a_line_that_falls_below_zero_makes_no_band() -> None:
    r = rng()
    area = r.uniform(60_000, 150_000, 3000)
    height = (area - 40_000) * r.normal(1, 0.02, 3000)  # at area 20,000 the line would be at -20,000
    with pytest.raises(PlacementError, match="PLACEMENT_OUTSIDE_BOUNDS: g: the lowest height of the line on area"):
        place_band(BAND, "r", (area, height), "g", ())


# --- one cut for a batch --------------------------------------------------------------------------------------------


def tube_cut(value: float, n: int = 1000, spread: float | None = 20.0) -> Placement:
    estimate = Estimate((value,), spread, n)
    return Placement("negative_spread", "batch", "scale", "placed", "neg", (0.4,), estimate)


def test_a_batch_takes_the_median_of_its_tubes_in_scale_values() -> None:
    rule = SPREAD.model_copy(update={"share": "batch"})
    cut = share_cut(rule, [tube_cut(v) for v in (1500.0, 1000.0, 9000.0)], LOGICLE)
    assert cut.estimate.values == (1500.0,)
    assert cut.coordinates == (round(float(LOGICLE(np.array([1500.0]))[0]), DECIMALS),)
    assert cut.status == "shared"
    assert cut.estimate.n_reference == 3000
    assert cut.estimate.quality == {"n_tubes": 3.0, "lowest": 1000.0, "highest": 9000.0}
    sd = np.std([1500.0, 1000.0, 9000.0], ddof=1)
    assert cut.estimate.spread == pytest.approx(1.2533 * sd / np.sqrt(3))
    assert cut.message == "median of 3 tube(s) of the batch"


@pytest.mark.parametrize(
    ("share", "whose"),
    [
        ("subject", "1 baseline tube(s) of the subject"),
        ("batch", "1 tube(s) of the batch"),
        ("study", "1 tube(s) of the study"),
    ],
)
def test_a_shared_cut_says_whose_it_is(share: str, whose: str) -> None:
    cut = share_cut(SPREAD.model_copy(update={"share": share}), [tube_cut(1500.0)], LOGICLE)
    assert (cut.share, cut.message) == (share, f"median of {whose}")


@pytest.mark.parametrize("rule", [SPREAD, QUANTILE, FMO, VALLEY, TAIL, SHIFT])
def test_the_cut_of_every_rule_can_be_shared(rule: CutRule) -> None:
    values = two_modes(positive=0.02) if SPACE[rule.rule] == "transformed" else rng().normal(0, 300, 1000)
    values = two_modes() if rule is VALLEY else values
    own, _ = place_cut(rule, "ref", values, LOGICLE, "g")
    shared = share_cut(rule, [own, own, own], LOGICLE)
    assert shared.coordinates == own.coordinates
    assert (shared.rule, shared.space, shared.reference) == (rule.rule, SPACE[rule.rule], "ref")
    assert shared.estimate.n_reference == 3 * values.size


def test_a_batch_of_one_keeps_its_own_standard_error() -> None:
    cut = share_cut(SPREAD, [tube_cut(1500.0)], None)
    assert (cut.coordinates, cut.estimate.spread) == ((1500.0,), 20.0)


def test_a_transformed_cut_is_shared_as_it_is() -> None:
    placed = [dataclasses.replace(tube_cut(v), space="transformed", rule="valley") for v in (0.4, 0.44)]
    assert share_cut(VALLEY, placed, LOGICLE).coordinates == (0.42,)


def test_the_shared_cut_does_not_depend_on_the_order_of_tubes() -> None:
    placed = [tube_cut(v) for v in rng().normal(1500, 200, 7)]
    assert share_cut(SPREAD, placed[::-1], LOGICLE) == share_cut(SPREAD, placed, LOGICLE)


def test_the_standard_error_of_a_shared_cut() -> None:
    r = rng(5)
    cuts = [share_cut(SPREAD, [tube_cut(v) for v in r.normal(1500, 100, 25)], None) for _ in range(400)]
    stated = np.mean([c.estimate.spread for c in cuts if c.estimate.spread is not None])
    assert stated == pytest.approx(np.std([c.estimate.values[0] for c in cuts], ddof=1), rel=0.2)


# --- off the events -------------------------------------------------------------------------------------------------


def test_a_cut_that_touches_nothing_stays() -> None:
    assert off_events(0.5, np.array([0.4, 0.5 + 1e-6, np.pi])) == 0.5
    assert off_events(0.5, np.empty(0)) == 0.5


@pytest.mark.parametrize("event", [0.5, 0.5 + 0.9 * TOUCHING, 0.5 - 0.9 * TOUCHING])
def test_a_touched_event_stays_above_the_cut(event: float) -> None:
    assert off_events(0.5, np.array([0.3, 0.4, event, 0.7])) == (0.4 + event) / 2


def test_ties_and_neighbours_too_close_go_above_together() -> None:
    assert off_events(0.5, np.array([0.4, 0.5, 0.5, 0.5])) == 0.45
    assert off_events(0.5, np.array([0.4, 0.5 - 1.5 * TOUCHING, 0.5])) == (0.4 + 0.5 - 1.5 * TOUCHING) / 2


def test_the_lowest_event_of_all_gets_some_room() -> None:
    assert off_events(0.5, np.array([0.5, 0.7])) == pytest.approx(0.5 - 1e-6, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.integers(0, 4000), min_size=1, max_size=60),
    touched=st.integers(0, 59),
    off=st.floats(-0.9 * TOUCHING, 0.9 * TOUCHING),
)
def test_after_moving_no_event_touches_the_cut(steps: list[int], touched: int, off: float) -> None:
    values = 0.5 + 1e-10 * np.cumsum(np.array(steps, dtype=np.float64))
    cut = float(values[touched % values.size]) + off
    new = off_events(cut, values)
    assert np.abs(values - new).min() >= 0.999 * TOUCHING
    assert off_events(new, values) == new
    before, after = values >= cut + TOUCHING, values >= new
    assert (after >= before).all(), "no event that was clearly above may fall below"


def test_a_moved_placement_keeps_its_evidence() -> None:
    placement = tube_cut(1500.0)
    assert moved(placement, 0.41) == dataclasses.replace(placement, coordinates=(0.41,))


# --- real tubes -----------------------------------------------------------------------------------------------------

# Regression, not validation: k = 4 was read off these same tubes (FACTS, section 8).
AURORA_TREG_PCT_OF_CD4 = {
    "INF052_00_Ctrl": 2.58, "INF052_00_SEB": 2.43, "INF100_00_Ctrl": 2.30,
    "INF100_00_SEB": 2.03, "INF179_00_Ctrl": 1.76, "INF179_00_SEB": 2.64,
}  # fmt: skip


@pytest.fixture(scope="module")
def aurora() -> dict[str, dict[str, Array]]:
    template = load_template("treg-foxp3-aurora@0.1.0").template
    tubes = {}
    for name in AURORA_TREG_PCT_OF_CD4:
        sample = sample_from_fcs(read_fcs(real_data("treg_foxp3_aurora", f"2025_07_26_AB_02_{name}.fcs")))
        channels = resolve_panel(template, sample)
        markers = ["CD4", "CD25", "FOXP3", "CD127"]
        rows = sample.rows(0, sample.n_events, None, [channels[m].index for m in markers])
        tubes[name] = dict(zip(markers, rows, strict=True))
    return tubes


def aurora_cuts(tube: dict[str, Array], k: float) -> tuple[float, float]:
    negative = tube["CD4"] < 3000
    cd25, foxp3 = (negative_spread(tube[m][negative], k).values[0] for m in ("CD25", "FOXP3"))
    return cd25, foxp3


@pytest.mark.parametrize(
    ("k", "cd25", "foxp3", "treg"),
    [
        (3, (1416, 1668), (1442, 1757), (1.95, 2.78)),
        (4, (1855, 2161), (1832, 2194), (1.76, 2.64)),
        (5, (2294, 2669), (2222, 2632), (1.67, 2.62)),
    ],
)
def test_negative_spread_on_real_tubes(
    aurora: dict[str, dict[str, Array]],
    k: float,
    cd25: tuple[float, float],
    foxp3: tuple[float, float],
    treg: tuple[float, float],
) -> None:
    cuts = np.array([aurora_cuts(tube, k) for tube in aurora.values()])
    # 3 scale values are less than 1 % of a robust SD: the reference population of FACTS had 14 events more
    assert (cuts[:, 0].min(), cuts[:, 0].max()) == pytest.approx(cd25, abs=3)
    assert (cuts[:, 1].min(), cuts[:, 1].max()) == pytest.approx(foxp3, abs=3)
    pct = []
    for tube, (low25, low3) in zip(aurora.values(), cuts, strict=True):
        cd4 = tube["CD4"] >= 3000
        pct.append(100 * np.mean((tube["CD25"][cd4] >= low25) & (tube["FOXP3"][cd4] >= low3)))
    assert (min(pct), max(pct)) == pytest.approx(treg, abs=0.02)
    if k == 4:
        assert pct == pytest.approx(list(AURORA_TREG_PCT_OF_CD4.values()), abs=0.005)


def test_spread_and_negatives_of_the_real_tubes(aurora: dict[str, dict[str, Array]]) -> None:
    for tube in aurora.values():
        cd4 = tube["CD4"] >= 3000
        assert tube["CD4"].size == 10_000
        assert 439 <= robust_negative(tube["CD25"][~cd4])[1] <= 508
        assert 390 <= robust_negative(tube["FOXP3"][~cd4])[1] <= 442
        low25, low3 = aurora_cuts(tube, 4)
        both = (tube["CD25"] >= low25) & (tube["FOXP3"] >= low3)
        assert 100 * np.mean(both[~cd4]) < 0.085
        ratio = np.median(tube["CD127"][cd4 & both]) / np.median(tube["CD127"][cd4 & ~both])
        assert 0.07 <= ratio <= 0.15
