"""Uncertainties put together: known answers and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tregflow.study.intervals import change_interval, combined_interval, difference_interval
from tregflow.study.tables import wilson_interval

PERCENT = st.floats(0.1, 99.9)
DISTANCE = st.floats(0, 5)


def test_newcombes_examples_of_method_10() -> None:
    """Newcombe 1998, table II: (a) 56/70 - 48/80, (d) 9/10 - 3/10, (g) 10/10 - 0/20."""
    for (a, m), (b, n), expected in (
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0000)),
    ):
        low, high = difference_interval(100 * b / n, wilson_interval(b, n), 100 * a / m, wilson_interval(a, m))
        assert (low / 100, high / 100) == pytest.approx(expected, abs=6e-5)


def test_independent_distances_add_as_squares() -> None:
    assert combined_interval(2.0, [(1.7, 2.3), (1.6, 2.4)]) == pytest.approx((1.5, 2.5))
    assert combined_interval(2.0, [(1.7, 2.3), (2.1, 2.4)]) == pytest.approx((1.7, 2.5))
    assert combined_interval(0.1, [(0.0, 0.2), (0.0, 0.2)])[0] == 0.0


@given(PERCENT, st.lists(st.tuples(DISTANCE, DISTANCE), min_size=1, max_size=4))
def test_a_combined_interval_holds_each_of_its_parts(estimate: float, distances: list[tuple[float, float]]) -> None:
    parts = [(max(estimate - a, 0.0), min(estimate + b, 100.0)) for a, b in distances]
    low, high = combined_interval(estimate, parts)
    assert low <= min(part[0] for part in parts) + 1e-9
    assert high >= max(part[1] for part in parts) - 1e-9


def test_an_error_that_both_visits_share_largely_cancels() -> None:
    exact = ((1.0, 1.0), (2.0, 2.0))
    # both cuts down: both percentages up by 0.3, and the change stays
    assert change_interval(1.0, 2.0, exact, [(1.3, 2.3), (0.7, 1.7)]) == pytest.approx((1.0, 1.0))
    # had they been taken as independent, the interval would be +-0.42
    assert change_interval(1.0, 2.0, exact, [(1.2, 2.4), (0.9, 1.8)]) == pytest.approx((0.9, 1.2))


@given(PERCENT, PERCENT)
def test_a_change_without_errors_is_itself(first: float, second: float) -> None:
    counting = ((first, first), (second, second))
    assert change_interval(first, second, counting, []) == pytest.approx((second - first, second - first))
