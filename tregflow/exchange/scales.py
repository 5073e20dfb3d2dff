"""FlowJo's axes: from scale values to the place on the axis, 0 at its left end and 1 at its right.

Linear, log, logicle and asinh are those of Gating-ML but for their ends. The biexponential has no equal there: FlowJo
tabulates it at 4096 steps and interpolates between them.

References
----------
FlowJo workspaces of version 10, as they are written. Moore WA, Parks DR. Update for the logicle data scale including
operational code implementations. Cytometry A 2012; 81A:273-277 (the function that the table is of).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tregflow.errors import GateError
from tregflow.transforms import Asinh, Log, Logicle

if TYPE_CHECKING:
    from tregflow.transforms import Transform

Array = NDArray[np.float64]

STEPS = 4096  # of the biexponential table
_LN10 = math.log(10.0)


@dataclass(frozen=True, slots=True)
class LinearAxis:
    """`(x - low) / (high - low)`, in scale values. `gain` other than 1 says that FlowJo scales the channel itself."""

    low: float
    high: float
    gain: float = 1.0

    def __post_init__(self) -> None:
        _require(self, self.low < self.high and self.gain > 0)

    def __call__(self, x: ArrayLike) -> Array:
        """The place of scale values on the axis; it goes on beyond the ends."""
        return (np.asarray(x, dtype=np.float64) - self.low) / (self.high - self.low)

    def inverse(self, place: ArrayLike) -> Array:
        """The scale values of places on the axis."""
        return np.asarray(place, dtype=np.float64) * (self.high - self.low) + self.low

    def __str__(self) -> str:
        """In words, for tables."""
        gain = "" if self.gain == 1 else f", gain {self.gain:g}"
        return f"linear {self.low:g} to {self.high:g}{gain}"


@dataclass(frozen=True, slots=True)
class LogAxis:
    """`log10(x / offset) / decades`; what lies below `offset` is on the left end."""

    offset: float
    decades: float

    def __post_init__(self) -> None:
        _require(self, self.offset > 0 and self.decades > 0)

    def __call__(self, x: ArrayLike) -> Array:
        """The place of scale values on the axis."""
        values = np.asarray(x, dtype=np.float64)
        return np.log10(np.maximum(values, self.offset) / self.offset) / self.decades

    def inverse(self, place: ArrayLike) -> Array:
        """The scale values of places on the axis."""
        return self.offset * np.float64(10.0) ** (np.asarray(place, dtype=np.float64) * self.decades)

    def __str__(self) -> str:
        """In words, for tables."""
        return f"log from {self.offset:g}, {self.decades:g} decades"


@dataclass(frozen=True, slots=True)
class BiexAxis:
    """FlowJo's biexponential: a logicle tabulated at 4096 steps, straight lines between them, level beyond its ends.

    Parameters
    ----------
    width
        -1 or less: how much of the scale around zero is nearly linear; `log10(-width)` decades.
    negative, positive
        Decades below zero besides those of `width`, and decades above it.
    top
        The scale value at the right end.

    Notes
    -----
    With `w = log10(-width)`, the axis has `A = negative + w / 2` decades left of zero and `P = positive - w / 2` right
    of it. Zero falls on a whole step `z`, the integer part of `4096 A / (A + P)`, at most the middle; the decades of
    the axis are then `D = 4096 A / z`. With `b = D ln 10` and d the root of `2 ln(d / b) + (w / 2 D)(b + d) = 0`, step
    `i >= z` stands for `m (exp(b i / 4097) - c exp(-d i / 4097) - s)`, where `m = top exp(-b)`,
    `c = exp((b + d)(w / 2 D + A / D))` and s makes it 0 at z; the steps left of zero mirror those right of it.
    """

    width: float
    negative: float
    positive: float
    top: float

    def __post_init__(self) -> None:
        _require(self, self.width <= -1 and self.positive > 0 and self.top > 0)
        x = self.table
        if not (np.isfinite(x).all() and (np.diff(x) > 0).all()):
            raise GateError("TRANSFORM_PARAMETER", f"the axis {self} does not increase from left to right.")

    @property
    def table(self) -> Array:
        """Scale values of the steps 0 to 4096, increasing."""
        return _biex_table(self.width, self.negative, self.positive, self.top)

    def __call__(self, x: ArrayLike) -> Array:
        """The place of scale values on the axis."""
        return np.interp(np.asarray(x, dtype=np.float64), self.table, np.arange(STEPS + 1) / STEPS)

    def inverse(self, place: ArrayLike) -> Array:
        """The scale values of places on the axis."""
        return np.interp(np.asarray(place, dtype=np.float64), np.arange(STEPS + 1) / STEPS, self.table)

    def __str__(self) -> str:
        """In words, for tables."""
        return f"biex width {self.width:g}, negative {self.negative:g}, positive {self.positive:g}, top {self.top:g}"


@dataclass(frozen=True, slots=True)
class GatingMlAxis:
    """An axis that is a transform of Gating-ML: logicle or asinh."""

    transform: Logicle | Asinh

    def __call__(self, x: ArrayLike) -> Array:
        """The place of scale values on the axis."""
        return self.transform(x)

    def inverse(self, place: ArrayLike) -> Array:
        """The scale values of places on the axis."""
        return self.transform.inverse(place)

    def __str__(self) -> str:
        """In words, for tables."""
        return words(self.transform)


Axis = LinearAxis | LogAxis | BiexAxis | GatingMlAxis


@dataclass(frozen=True, slots=True)
class Carried:
    """The transform of ours that an axis becomes, whether it is the same function, and how that is said."""

    transform: Transform | None
    exact: bool
    how: str


def words(transform: Transform | None) -> str:
    """A transform in words, for tables; None is scale values."""
    if transform is None:
        return "scale values"
    parameters = ", ".join(f"{name} {getattr(transform, name):g}" for name in type(transform).__slots__)
    return f"{type(transform).__name__.lower()} {parameters}"


def carried(axis: Axis | None) -> Carried:
    """What an axis of FlowJo becomes in a template.

    A linear axis becomes scale values, in which straight edges stay straight. A biexponential becomes the logicle of
    its decades; vertices are moved there one by one and edges are followed in small steps.
    """
    if axis is None:
        return Carried(None, exact=True, how="exact")
    if isinstance(axis, LinearAxis):
        return Carried(None, exact=True, how="exact, in scale values")
    if isinstance(axis, LogAxis):
        log = Log(T=axis.offset * 10**axis.decades, M=axis.decades)
        return Carried(log, exact=True, how="exact, but below its left end, where FlowJo piles events up")
    if isinstance(axis, GatingMlAxis):
        return Carried(axis.transform, exact=True, how="exact")
    w = math.log10(-axis.width) / 2
    m = axis.positive
    w = min(w, m / 2)
    a = min(max(axis.negative, -w), m - 2 * w)
    logicle = Logicle(T=float(axis.inverse(1.0)), W=w, M=m, A=a)
    return Carried(logicle, exact=False, how="as the logicle of its decades; vertices moved, edges followed")


def _require(axis: object, possible: bool) -> None:  # noqa: FBT001 - a condition
    if not possible:
        raise GateError("TRANSFORM_PARAMETER", f"this axis of FlowJo is impossible: {axis}.")


@lru_cache(maxsize=512)
def _biex_table(width: float, negative: float, positive: float, top: float) -> Array:
    w = math.log10(-width)
    left, right = max(negative, 0.0) + w / 2, positive - w / 2
    zero = min(int(left * STEPS / (left + right)), STEPS // 2)
    decades = left * STEPS / zero if zero > 0 else right
    growth = _LN10 * decades
    relative = w / (2 * decades)
    damping = _damping(growth, relative)
    step = np.arange(STEPS + 1) / (STEPS + 1)
    shape = np.exp(growth * step) - np.exp((growth + damping) * (relative + left / decades) - damping * step)
    table: Array = top * math.exp(-growth) * (shape - shape[zero])
    table[:zero] = -table[2 * zero : zero : -1]
    table.flags.writeable = False
    return table


def _damping(growth: float, relative: float) -> float:
    """The root d of `2 ln(d / growth) + relative (growth + d) = 0`, by Newton's method in `ln(d / growth)`."""
    u = 0.0
    for _ in range(100):
        d = growth * math.exp(u)
        step = (2 * u + relative * (growth + d)) / (2 + relative * d)
        u -= step
        if abs(step) < 1e-15:
            break
    return growth * math.exp(u)
