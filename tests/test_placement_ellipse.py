"""The ellipse of the densest mode: known answers, contamination, an oracle, standard errors, bounds and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.covariance import MinCovDet
from support import real_data

from tregflow.errors import PlacementError
from tregflow.fcs import read_fcs
from tregflow.gates import Ellipsoid
from tregflow.placement import Estimate, ellipse, ellipse_coordinates, ellipse_shape, place_ellipse
from tregflow.sample import sample_from_fcs
from tregflow.template.model import EllipsePlace

Array = NDArray[np.float64]
Points = tuple[Array, Array]
MEAN = np.array([80_000.0, 22_000.0])
COVARIANCE = np.array([[9e7, 2e7], [2e7, 3e7]])
SD = np.sqrt(np.diag(COVARIANCE))
REGION = ((30_000.0, 140_000.0), (3000.0, 60_000.0))
RULE = EllipsePlace(rule="ellipse", region=REGION, min_events=500)
FALLBACK = (70_000.0, 20_000.0, 1e8, 0.0, 0.0, 1e8)


def tube(n: int = 3000, *, monocytes: int = 0, debris: int = 0, seed: int = 1) -> Points:
    """Lymphocytes, a normal population; monocytes above and to the right; debris below, thinning out into them."""
    r = np.random.default_rng(seed)
    lymphocytes = MEAN + r.normal(size=(n, 2)) @ np.linalg.cholesky(COVARIANCE).T
    other = (150_000, 70_000) + r.normal(size=(monocytes, 2)) * (15_000, 12_000)
    small = np.column_stack([r.gamma(2, 8000, debris), r.gamma(2, 5000, debris)])
    x, y = np.concatenate([lymphocytes, other, small]).T
    return x.copy(), y.copy()


def found(points: Points, region: tuple[tuple[float, float], tuple[float, float]] = REGION) -> Estimate:
    estimate = ellipse(*points, region, 0.05)
    assert estimate is not None
    return estimate


def covariance(estimate: Estimate) -> Array:
    return np.array(estimate.values[2:]).reshape(2, 2)


# --- what it finds --------------------------------------------------------------------------------------------------


def test_a_normal_population() -> None:
    estimate = found(tube(100_000))
    assert estimate.values[:2] == pytest.approx(MEAN, rel=2e-3)
    assert covariance(estimate) == pytest.approx(COVARIANCE, rel=0.03)
    assert estimate.n_reference == pytest.approx(90_000, rel=0.01)
    assert estimate.quality["correlation"] == pytest.approx(2e7 / math.sqrt(27e14), abs=0.01)
    held = Ellipsoid(*ellipse_shape(ellipse_coordinates(estimate)), 2 * math.log(20)).contains(tube(100_000))
    assert held.mean() == pytest.approx(0.95, abs=0.003), "the squared distance 2 ln 20 holds 95 %"


def test_a_lattice_by_hand() -> None:
    """A full disc of radius 1, evenly filled: mean 0, and all of it is the core, with variance 1/4 per axis."""
    grid = np.linspace(-1, 1, 201)
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    disc = x**2 + y**2 <= 1
    estimate = found((x[disc], y[disc]), ((-2.0, 2.0), (-2.0, 2.0)))
    core = 2 * math.log(10)
    shrink = (1 - 0.1 * (1 + core / 2)) / 0.9
    assert estimate.values == pytest.approx((0, 0, 0.25 / shrink, 0, 0, 0.25 / shrink), rel=0.01, abs=1e-3)
    assert estimate.n_reference == disc.sum()
    assert estimate.spread == pytest.approx(1 / math.sqrt(disc.sum() * shrink))


@pytest.mark.parametrize(("monocytes", "debris"), [(3000, 0), (0, 10_000), (5000, 30_000)])
def test_neither_monocytes_nor_debris_move_it(monocytes: int, debris: int) -> None:
    clean, mixed = found(tube(10_000)), found(tube(10_000, monocytes=monocytes, debris=debris))
    assert np.abs(np.subtract(mixed.values[:2], clean.values[:2])).max() < 0.03 * SD.max()
    assert covariance(mixed) == pytest.approx(covariance(clean), rel=0.05)


def test_the_covariance_of_a_robust_oracle() -> None:
    """FAST-MCD of scikit-learn, with its random starts, on tubes with a fifth of other cells."""
    points = tube(4000, monocytes=600, debris=200)
    oracle = MinCovDet(random_state=0).fit(np.column_stack(points))
    estimate = found(points)
    assert estimate.spread is not None
    assert np.abs((np.array(estimate.values[:2]) - oracle.location_) / SD).max() < 3 * estimate.spread
    assert covariance(estimate) == pytest.approx(oracle.covariance_, rel=0.1)


def test_the_denser_of_two_modes() -> None:
    points = tube(3000, monocytes=3000)
    whole = ((30_000.0, 220_000.0), (3000.0, 120_000.0))
    assert found(points, whole).values[:2] == pytest.approx(MEAN, rel=0.02)
    assert found(points, ((110_000.0, 220_000.0), (45_000.0, 120_000.0))).values[:2] == pytest.approx(
        (150_000, 70_000), rel=0.02
    )


def test_the_fit_may_reach_beyond_the_region() -> None:
    tight = ((70_000.0, 90_000.0), (17_000.0, 27_000.0))
    estimate = ellipse(*tube(20_000), tight, 0.2)
    assert estimate is not None
    assert covariance(estimate) == pytest.approx(covariance(found(tube(20_000))), rel=0.01)


@settings(max_examples=20, deadline=None)
@given(
    factors=st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)),
    shift=st.floats(-1, 1),
    seed=st.integers(0, 99),
)
def test_it_moves_with_location_and_scale_and_ignores_order(
    factors: tuple[float, float], shift: float, seed: int
) -> None:
    points = tube(1000, monocytes=200)
    order = np.random.default_rng(seed).permutation(1200)
    offsets = [shift * 1e5 * f for f in factors]
    changed = [o + f * p[order] for o, f, p in zip(offsets, factors, points, strict=True)]
    region = [(o + f * low, o + f * high) for o, f, (low, high) in zip(offsets, factors, REGION, strict=True)]
    estimate, before = found((changed[0], changed[1]), (region[0], region[1])), found(points)
    a, b = factors
    for i in (0, 1):
        assert estimate.values[i] == pytest.approx(
            offsets[i] + factors[i] * before.values[i], abs=0.01 * factors[i] * SD[i]
        )
    assert covariance(estimate) == pytest.approx(covariance(before) * [[a * a, a * b], [a * b, b * b]], rel=0.01)


# --- standard errors against simulation -----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "monocytes", "debris"), [(600, 0, 0), (3000, 0, 0), (3000, 900, 900)])
def test_standard_errors_of_the_ellipse(n: int, monocytes: int, debris: int) -> None:
    estimates = [found(tube(n, monocytes=monocytes, debris=debris, seed=seed)) for seed in range(200)]
    spread = np.mean([e.spread for e in estimates if e.spread is not None])
    means = np.array([e.values[:2] for e in estimates])
    assert means.std(axis=0, ddof=1) / SD == pytest.approx([spread, spread], rel=0.25)
    sizes = [0.25 * math.log(np.linalg.det(covariance(e))) for e in estimates]
    assert np.mean([e.quality["size_relative_se"] for e in estimates]) == pytest.approx(np.std(sizes, ddof=1), rel=0.25)
    assert np.exp(np.mean(sizes)) == pytest.approx(np.linalg.det(COVARIANCE) ** 0.25, rel=0.02)


# --- coordinates ----------------------------------------------------------------------------------------------------


def test_coordinates_are_rounded_and_symmetric() -> None:
    values = (0.123456789, 80_000.123456789, 1.23456789012e-4, 0.123456789, 0.123456789, 8.00000000012345e7)
    coordinates = ellipse_coordinates(Estimate(values, 0.01, 900))
    assert coordinates == (0.123457, 80_000.123457, 1.23456789e-4, 0.1234568, 0.1234568, 8e7)
    assert ellipse_shape(coordinates) == ((0.123457, 80_000.123457), ((1.23456789e-4, 0.1234568), (0.1234568, 8e7)))


def test_a_placed_ellipse() -> None:
    points = tube()
    placement, finding = place_ellipse(RULE, "viable", points, "lymphocytes", ())
    assert finding is None
    assert placement.coordinates == ellipse_coordinates(found(points))
    assert placement.estimate == found(points)
    assert (placement.rule, placement.status, placement.space, placement.share, placement.reference) == (
        "ellipse", "placed", "transformed", "tube", "viable",
    )  # fmt: skip


def test_values_that_are_no_numbers_are_left_out() -> None:
    x, y = tube()
    dirty = np.append(x, [np.nan, 8e4, np.inf, 8e4]), np.append(y, [2e4, np.nan, 2e4, -np.inf])
    assert place_ellipse(RULE, "r", dirty, "g", ()) == place_ellipse(RULE, "r", (x, y), "g", ())


# --- refusals -------------------------------------------------------------------------------------------------------


def even_slope() -> Points:
    """A density that falls all the way across the region, without noise: no mode in it."""
    quantiles = -np.log1p(-(np.arange(200) + 0.5) / 200)
    x, y = np.meshgrid(40_000 * quantiles, 20_000 * quantiles)
    return x.ravel(), y.ravel()


def slope() -> Points:
    """The same with counting noise: the fit follows the slope out of the region."""
    r = np.random.default_rng(1)
    return r.exponential(40_000, 20_000), r.exponential(20_000, 20_000)


def line() -> Points:
    x, _ = tube()
    return x, 0.25 * x


def wide() -> Points:
    """A few cells on a wide field of others: the ellipse grows until it is as wide as the region."""
    r = np.random.default_rng(1)
    x, y = tube(1000)
    return np.append(x, r.uniform(-1e5, 3e5, 100_000)), np.append(y, r.uniform(-1e5, 2e5, 100_000))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (tube(499), "PLACEMENT_TOO_FEW_EVENTS: g: its reference r, in the region, has 499 events; expected at least "),
        (tube(520), r"PLACEMENT_TOO_FEW_EVENTS: g: its reference r, around its densest mode, has 4\d\d events; exp"),
        ((np.empty(0), np.empty(0)), "PLACEMENT_TOO_FEW_EVENTS: g: its reference r, in the region, has 0 events"),
        (even_slope(), "PLACEMENT_NO_MODE: g: the density of r has no mode in the region"),
        (line(), "PLACEMENT_DEGENERATE: g: the densest mode of r has no spread"),
        ((np.full(900, 8e4), np.full(900, 2e4)), "PLACEMENT_DEGENERATE: g: the densest mode of r has no spread"),
        (wide(), r"PLACEMENT_OUTSIDE_BOUNDS: g: the SD in the (first|second) dimension came to \d+; expected 0 to"),
        (slope(), r"PLACEMENT_OUTSIDE_BOUNDS: g: the mean in the first dimension came to \d+\.?\d*; expected 30000 to"),
    ],
    ids=["few", "few in the core", "none", "even slope", "line", "one point", "wide", "slope"],
)  # fmt: skip
def test_an_ellipse_that_cannot_be_placed(points: Points, message: str) -> None:
    with pytest.raises(PlacementError, match=message) as caught:
        place_ellipse(RULE, "r", points, "g", ())
    assert caught.value.data["gate"] == "g"
    rule = RULE.model_copy(update={"otherwise": "template_value"})
    placement, finding = place_ellipse(rule, "r", points, "g", FALLBACK)
    assert (placement.status, placement.coordinates) == ("fallback", FALLBACK)
    assert placement.estimate.values == ()
    assert finding is not None
    assert finding.code == "PLACEMENT_FALLBACK"
    assert "The template's value was used instead" in finding.message


# --- real tubes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "name", "centre"),
    [("diva_124500", "124500.fcs", (103e3, 51e3)), ("flowsom_68983", "68983.fcs", (87e3, 30e3))],
)
def test_real_scatter_gives_one_ellipse_wherever_the_kernel_starts_it(
    folder: str, name: str, centre: tuple[float, float]
) -> None:
    sample = sample_from_fcs(read_fcs(real_data(folder, name)))
    names = [channel.pnn for channel in sample.channels]
    x, y = sample.rows(0, sample.n_events, None, [names.index("FSC-A"), names.index("SSC-A")])
    region = ((20_000.0, 200_000.0), (1000.0, 120_000.0))
    estimates = [e for bandwidth in (0.03, 0.05, 0.1) if (e := ellipse(x, y, region, bandwidth)) is not None]
    assert len(estimates) == 3
    first = estimates[0]
    assert first.values[:2] == pytest.approx(centre, rel=0.01)
    for other in estimates[1:]:
        assert other.values[:2] == pytest.approx(first.values[:2], rel=1e-3)
        assert covariance(other) == pytest.approx(covariance(first), rel=5e-3)
