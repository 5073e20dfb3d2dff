"""Putting uncertainties together: of one percentage, and of a change between two visits.

Distances from the estimate to the bounds of independent intervals add as squares, on each side for itself (the method
of variance estimates recovery, MOVER). Errors that two visits share, because one cut or one matrix was used at both,
move both percentages at once and are therefore taken over the change itself, not combined from two intervals.

References
----------
Newcombe RG (1998), Interval estimation for the difference between independent proportions, Stat Med 17:873-890
(method 10).
Zou GY, Donner A (2008), Stat Med 27:1693-1702, doi:10.1002/sim.3095.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Interval = tuple[float, float]


def combined_interval(estimate: float, intervals: Sequence[Interval]) -> Interval:
    """Combine independent intervals around one estimate, all in percent (0 to 100).

    A bound on the wrong side of the estimate (both moved cuts raise the count, say) counts as no distance there.

    Examples
    --------
    >>> combined_interval(2.0, [(1.7, 2.3), (1.6, 2.4)])
    (1.5, 2.5)
    """
    low = math.hypot(*(max(estimate - low, 0.0) for low, _ in intervals))
    high = math.hypot(*(max(high - estimate, 0.0) for _, high in intervals))
    return max(estimate - low, 0.0), min(estimate + high, 100.0)


def difference_interval(first: float, of_first: Interval, second: float, of_second: Interval) -> Interval:
    """The interval of `second - first` from independent intervals of both (Newcombe's method 10 with Wilson's).

    Examples
    --------
    >>> from tregflow.study.tables import wilson_interval
    >>> low, high = difference_interval(60.0, wilson_interval(48, 80), 80.0, wilson_interval(56, 70))
    >>> round(low, 2), round(high, 2)  # Newcombe's example (a): 0.0524 to 0.3339
    (5.24, 33.39)
    """
    change = second - first
    low = change - math.hypot(second - of_second[0], of_first[1] - first)
    high = change + math.hypot(of_second[1] - second, first - of_first[0])
    return low, high


def change_interval(
    first: float,
    second: float,
    counting: tuple[Interval, Interval],
    shared: Sequence[tuple[float, float]],
) -> Interval:
    """The interval of a change between two visits, in percentage points.

    Parameters
    ----------
    first, second
        The percentages (0 to 100).
    counting
        Their counting intervals, independent of each other.
    shared
        `(first, second)` with a shared cut or matrix moved one way, then the other: both visits move together.
    """
    change = second - first
    moved = [b - a for a, b in shared]
    common = (min([change, *moved]), max([change, *moved]))
    counted = difference_interval(first, counting[0], second, counting[1])
    low = math.hypot(change - counted[0], change - common[0])
    high = math.hypot(counted[1] - change, common[1] - change)
    return change - low, change + high
