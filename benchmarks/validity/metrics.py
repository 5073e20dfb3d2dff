"""Figures from counts and masks: pure functions, and nothing of the code that is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Match:
    """How a numerator agrees with the labels."""

    sensitivity: float
    precision: float
    f1: float


def match(called: NDArray[np.bool_], true: NDArray[np.bool_]) -> Match:
    """Sensitivity, precision and F1 of a mask against the labels' mask, `(n_events,)` each; 0 where undefined."""
    both, n_called, n_true = (int(np.count_nonzero(mask)) for mask in (called & true, called, true))
    return Match(
        both / n_true if n_true else 0.0,
        both / n_called if n_called else 0.0,
        2 * both / (n_called + n_true) if n_called + n_true else 0.0,
    )


def best_f1(values: tuple[NDArray[np.float64], NDArray[np.float64]], true: NDArray[np.bool_], steps: int = 12) -> float:
    """The best F1 that a pair of cuts on two markers can reach: how separate the tube's Treg cells are at all.

    Sought on a grid of the true cells' lower quantiles (0 to 0.4); `values` and `true` are those of the cells that
    are cut.
    """
    n_true = int(np.count_nonzero(true))
    if not n_true:
        return 0.0
    cells = []
    for each in values:
        cuts = np.quantile(each[true], np.linspace(0, 0.4, steps))
        cells.append(np.searchsorted(cuts, each, side="right"))
    counts = [np.zeros((steps + 1, steps + 1), dtype=np.int64) for _ in range(2)]
    np.add.at(counts[0], (cells[0], cells[1]), 1)
    np.add.at(counts[1], (cells[0][true], cells[1][true]), 1)
    # a cell at place p passes the first p cuts: summed from the far corner, every pair of cuts is counted at once
    called, both = (c[::-1, ::-1].cumsum(0).cumsum(1)[::-1, ::-1][1:, 1:] for c in counts)
    return float((2 * both / np.maximum(called + n_true, 1)).max())


def pooled_change_bias(estimated: NDArray[np.float64], true: NDArray[np.float64]) -> tuple[float, float]:
    """Relative bias of the mean change (percentage points) over subjects, and its standard error.

    The error is that of a ratio of sums, `sqrt(n) SD(estimated - ratio true) / |sum true|`; NaN without a change to
    compare with, and for a single subject.
    """
    total = float(np.sum(true))
    if not total:
        return math.nan, math.nan
    ratio = float(np.sum(estimated)) / total
    residual = estimated - ratio * true
    se = math.sqrt(true.size) * float(np.std(residual, ddof=1)) / abs(total) if true.size > 1 else math.nan
    return ratio - 1, se
