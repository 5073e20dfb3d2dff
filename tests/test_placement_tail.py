"""Where the density of a single mode drops: answers known by hand, properties, standard errors against simulation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tregflow.placement import tail

Array = NDArray[np.float64]
Flank = Literal["lower", "upper"]


def normal(n: int = 3000, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(0.3, 0.06, n)


def normal_quantiles(n: int = 100_000) -> Array:
    """A normal population of SD 0.06 around 0.3 without noise."""
    x = np.linspace(-0.1, 0.7, 200_001)
    cumulative = np.cumsum(np.exp(-0.5 * ((x - 0.3) / 0.06) ** 2))
    return np.interp((np.arange(n) + 0.5) / n, cumulative / cumulative[-1], x)


@pytest.mark.parametrize("flank", ["lower", "upper"])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_the_tail_of_a_normal_population(fraction: float, flank: Flank) -> None:
    """Density f(x) / f(mode) = exp(-z^2 / 2), of the SD that the kernel has widened: sqrt(0.06^2 + 0.015^2)."""
    distance = math.sqrt(-2 * math.log(fraction)) * math.hypot(0.06, 0.015)
    estimate = tail(normal_quantiles(), fraction, flank, 0.015)
    assert estimate.values[0] == pytest.approx(0.3 + (distance if flank == "upper" else -distance), abs=5e-4)
    assert estimate.quality["peak"] == pytest.approx(0.3, abs=1e-3)
    assert estimate.quality["rise"] == 0
    assert estimate.n_reference == 100_000


def test_one_value_many_times_is_the_kernel_itself() -> None:
    estimate = tail(np.full(1000, 0.4), 0.5, "upper", 0.02)
    assert estimate.values[0] == pytest.approx(0.4 + 0.02 * math.sqrt(2 * math.log(2)), abs=1e-4)


def test_the_two_flanks_mirror_each_other() -> None:
    values = normal()
    upper, lower = tail(values, 0.1, "upper", 0.015), tail(-values, 0.1, "lower", 0.015)
    assert lower.values[0] == -upper.values[0]
    assert lower.spread == upper.spread


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-2, 2), factor=st.floats(0.1, 10), seed=st.integers(0, 99))
def test_the_tail_moves_with_location_and_scale_and_ignores_order(shift: float, factor: float, seed: int) -> None:
    values = normal()
    cut = tail(values, 0.1, "upper", 0.02).values[0]
    changed = np.random.default_rng(seed).permutation(shift + factor * values)
    assert tail(changed, 0.1, "upper", 0.02 * factor).values[0] == pytest.approx(
        shift + factor * cut, abs=1e-3 * factor
    )


@settings(max_examples=20, deadline=None)
@given(fractions=st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)))
def test_a_smaller_fraction_lies_further_out(fractions: tuple[float, float]) -> None:
    near, far = (tail(normal(), f, "upper", 0.015).values[0] for f in sorted(fractions, reverse=True))
    assert near <= far


@settings(max_examples=20, deadline=None)
@given(outlier=st.floats(0.8, 50))
def test_positives_beyond_the_drop_do_not_move_it(outlier: float) -> None:
    values = normal()
    before, after = (tail(v, 0.1, "upper", 0.015) for v in (values, np.append(values, [outlier] * 100)))
    assert before.spread is not None
    assert after.values[0] == pytest.approx(before.values[0], abs=0.2 * before.spread)
    assert after.quality["rise"] == 0


@pytest.mark.parametrize("n", [500, 2000, 20_000])
def test_counting_noise_is_no_second_mode(n: int) -> None:
    rises = [tail(normal(n, seed), 0.02, "upper", 0.015).quality["rise"] for seed in range(100)]
    assert max(rises) == 0


@pytest.mark.parametrize("flank", ["lower", "upper"])
def test_a_second_mode_before_the_drop_is_a_rise(flank: Flank) -> None:
    sign = 1 if flank == "upper" else -1
    values = sign * np.concatenate([normal(3000), normal(1500, seed=2) + 0.24])
    # two normals of SD 0.06, 4 SDs apart, 2 : 1; between them the density falls to 0.22, then rises to 0.5 of the peak
    estimate = tail(values, 0.1, flank, 0.015)
    assert estimate.quality["rise"] == pytest.approx(0.28, abs=0.06)
    assert estimate.values[0] == pytest.approx(sign * (0.54 + 0.06 * math.sqrt(2 * math.log(5))), abs=0.02)
    # the drop to half the peak comes before the second mode, so that mode does not matter
    assert tail(values, 0.5, flank, 0.015).quality["rise"] == 0


@pytest.mark.parametrize("flank", ["lower", "upper"])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("n", [500, 5000])
def test_standard_error_of_the_tail(n: int, fraction: float, flank: Flank) -> None:
    r = np.random.default_rng(20)
    found = [tail(r.normal(0.3, 0.06, n), fraction, flank, 0.015) for _ in range(300)]
    stated = np.mean([e.spread for e in found if e.spread is not None])
    assert stated == pytest.approx(np.std([e.values[0] for e in found], ddof=1), rel=0.2)


def test_standard_error_of_the_tail_of_a_skewed_mode() -> None:
    r = np.random.default_rng(21)
    found = [tail(0.2 + 0.03 * r.gamma(3, 1, 3000), 0.1, "upper", 0.015) for _ in range(300)]
    stated = np.mean([e.spread for e in found if e.spread is not None])
    assert stated == pytest.approx(np.std([e.values[0] for e in found], ddof=1), rel=0.25)
