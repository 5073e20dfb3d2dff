"""Transforms of Gating-ML 2.0: linear, log, asinh, logicle, hyperlog and ratio, with inverses.

Each is a frozen callable from scale values to transformed values. All but the ratio increase strictly as real
functions, and up to `_TOP` times the top of scale their floating-point values never decrease, so a range in
transformed values can be decided in scale values: `t(x) >= y` exactly where `x >= t.scale_bound(y)`.

How they are computed. Log, asinh, logicle and hyperlog are inverses of, or as expensive as, transcendental functions.
They are evaluated from a table of quintic Hermite polynomials: the value and two derivatives of the function at
256 points an octave, and between them the polynomial of degree 5 that has these. The cell is read from the bits of
`v = |x| + s`, with a power of two `s` of the size of the quasi-linear region, so that cells are even there and
logarithmic above. The truncation error is about 1e-18 for usual parameters (below 1e-16 for any that were tried); what
remains is the rounding of the knots, about 2e-16. The value is `knot + increment`, and within a cell the increment
moves by at least 2**-44 of itself from one `v` to the next, far above its own rounding: hence the monotone result.

References
----------
Gating-ML 2.0, ISAC Recommendation, section 6 (definitions and restrictions on the parameters).
Moore WA, Parks DR. Update for the logicle data scale including operational code implementations. Cytometry A 2012;
81A:273-277. Bagwell CB. Hyperlog: a flexible log-like transform. Cytometry A 2005;64A:34-42.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tregflow.errors import GateError

Array = NDArray[np.float64]

_LN10 = math.log(10.0)
_CELL_BITS = 8  # 256 cells an octave
_BLOCK = 8192  # values evaluated at once: the working arrays stay in the second-level cache
_TOP = 4096.0  # tables end at this many times T; above, the function itself is evaluated
_LARGEST = float(np.finfo(np.float64).max)
_LIMITS = {"T": (1e-100, 1e100), "M": (0.001, 100.0)}


@dataclass(frozen=True, slots=True)
class _Table:
    """Piecewise quintic of a function of `v = |x| + shift`, for `2**first <= v < 2**last` (see the module)."""

    shift: float
    first_cell: int
    coefficients: tuple[Array, ...]  # value at the cell's start, then powers 1 to 5 of the distance from it

    @classmethod
    def build(
        cls, shift: float, octaves: tuple[int, int], knots: Callable[[Array], tuple[Array, Array, Array]]
    ) -> _Table:
        """Tabulate a function given as `knots(x) -> (f, f', f'')` for `x = v - shift`."""
        first, last = ((1023 + octave) << _CELL_BITS for octave in octaves)
        v = (np.arange(first, last + 1) << (52 - _CELL_BITS)).view(np.float64)
        value, slope, bend = knots(v - shift)
        h = np.diff(v)
        rise, rise_slope, rise_bend = np.diff(value), np.diff(slope) * h, np.diff(bend) * h * h
        # Hermite conditions at both ends of a cell, in units of the cell: what degrees 3 to 5 must still supply
        value_left = rise - slope[:-1] * h - bend[:-1] * h * h / 2
        slope_left = rise_slope - bend[:-1] * h * h
        cubic = 10 * value_left - 4 * slope_left + rise_bend / 2
        quartic = -15 * value_left + 7 * slope_left - rise_bend
        quintic = 6 * value_left - 3 * slope_left + rise_bend / 2
        powers = (value[:-1], slope[:-1], bend[:-1] / 2, cubic / h**3, quartic / h**4, quintic / h**5)
        return cls(shift, first, tuple(np.ascontiguousarray(power) for power in powers))

    def evaluate(self, magnitude: Array) -> tuple[Array, NDArray[np.bool_] | None]:
        """Evaluate one block at `|x|`, and say which values the table does not hold (None: it holds all)."""
        v = magnitude + self.shift
        bits = v.view(np.int64)
        cell = bits >> (52 - _CELL_BITS)
        start = (cell << (52 - _CELL_BITS)).view(np.float64)
        cell -= self.first_cell
        outside: NDArray[np.bool_] | None = None
        if cell.max() >= len(self.coefficients[0]) or cell.min() < 0:
            outside = (cell >= len(self.coefficients[0])) | (cell < 0)
        np.subtract(v, start, out=v)
        result = np.take(self.coefficients[-1], cell, mode="clip")
        term = np.empty_like(result)
        for power in self.coefficients[-2::-1]:
            result *= v
            result += np.take(power, cell, out=term, mode="clip")
        return result, outside

    def value(self, cell: int) -> float:
        """Give the function at the start of a cell."""
        return float(self.coefficients[0][cell])


@dataclass(frozen=True, slots=True)
class _Curve:
    """`x(z) = P expm1(b z) + R(z)` for `z = |y - centre| >= 0`, odd about `centre`: asinh, logicle and hyperlog.

    With `R(0) = 0` and every term positive there is no cancellation, and no series is needed near zero. R is
    `Q (1 - exp(-d z))` where `damping` is d > 0 (logicle, asinh), and `Q z` where it is 0 (hyperlog).
    """

    centre: float
    growth: float  # b
    damping: float  # d
    exponential: float  # P
    remainder: float  # Q

    @classmethod
    def build(cls, centre: float, growth: float, damping: float, ratio: float, top: tuple[float, float]) -> _Curve:
        """Scale P, and Q = ratio P, so that the curve passes through `top`: (z, x)."""
        unscaled = cls(centre, growth, damping, 1.0, ratio)
        z, x = top
        p = x / float(unscaled.derivatives(np.float64(z))[0])
        return cls(centre, growth, damping, p, ratio * p)

    def derivatives(self, z: Any) -> tuple[Any, Any, Any]:
        """`x`, `x'` and `x''` at z."""
        b, d, p, q = self.growth, self.damping, self.exponential, self.remainder
        grown = p * np.expm1(b * z)
        if d == 0.0:
            return grown + q * z, b * (grown + p) + q, b * b * (grown + p)
        damped = q * np.expm1(-d * z)
        return grown - damped, b * (grown + p) + d * (damped + q), b * b * (grown + p) - d * d * (damped + q)

    @property
    def linear_width(self) -> float:
        """A power of two of the size of the quasi-linear region, in scale values."""
        slope = self.derivatives(np.float64(0.0))[1]
        return float(2.0 ** math.floor(math.log2(slope / (self.growth + self.damping))))

    def solve(self, x: Array) -> Array:
        """Find z for `x >= 0` by Halley's method. The curve is convex, and the start lies above the root."""
        slope = self.derivatives(np.float64(0.0))[1]
        z: Array = np.minimum(x / slope, np.log1p(x / self.exponential) / self.growth)
        for _ in range(50):
            value, first, second = self.derivatives(z)
            error = value - x
            step = error / (first - error * second / (2 * first))
            z = z - step
            if np.all(np.abs(step) <= 1e-16 * z):
                break
        return z

    def solve_far(self, x: Array) -> Array:
        """Find z far above the top of scale: a fixed point, with logarithms only, that cannot overflow."""
        log_p = math.log(self.exponential)
        z = (np.log(x) - log_p) / self.growth
        for _ in range(10):
            rest = self.remainder * (z if self.damping == 0.0 else -np.expm1(-self.damping * z))
            z = (np.log(x + (self.exponential - rest)) - log_p) / self.growth
        return z

    def knots(self, x: Array) -> tuple[Array, Array, Array]:
        """`y`, `dy/dx` and `d2y/dx2` for `x >= 0`."""
        z = self.solve(x)
        _, first, second = self.derivatives(z)
        return self.centre + z, 1 / first, -second / first**3


class _Monotone(ABC):
    """What the increasing transforms share: non-finite values, shapes, and bounds moved to scale values."""

    __slots__ = ()
    _RULE: ClassVar[str]  # the restrictions on the parameters, for the error text

    def __call__(self, x: ArrayLike) -> Array:
        """Transform scale values of any shape; a value that is not finite, or has no transform, becomes NaN."""
        values = np.asarray(x, dtype=np.float64)
        flat = np.ascontiguousarray(values).ravel()
        result = np.empty_like(flat)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for start in range(0, len(flat), _BLOCK):
                block = flat[start : start + _BLOCK]
                result[start : start + _BLOCK] = self._forward(block)
        return result.reshape(values.shape)

    def inverse(self, y: ArrayLike) -> Array:
        """Give the scale values of transformed values of any shape; NaN for what is not finite."""
        values = np.asarray(y, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(np.isfinite(values), self._backward(values), np.nan)

    def scale_bound(self, y: float) -> float:
        """Move a bound in transformed values to scale values.

        Returns
        -------
        bound
            The smallest float64 x with `t(x) >= y`: `-inf` where every finite x has it, `inf` where none has. Then
            `t(x) >= y` exactly where `x >= bound`, and `t(x) < y` where `x < bound` and t(x) exists: a log has no
            value below `scale_bound(-inf)`, which is therefore the lower end of its range without a minimum.
        """
        return _scale_bound(self, float(y))

    @abstractmethod
    def _forward(self, x: Array) -> Array:
        """Transform one block of scale values."""

    @abstractmethod
    def _backward(self, y: Array) -> Array:
        """The scale values of finite transformed values."""


@dataclass(frozen=True, slots=True)
class Linear(_Monotone):
    """`(x + A) / (T + A)`: -A to 0, T to 1 (Gating-ML 2.0, flin). T > 0 and 0 <= A <= T, in scale values.

    Raises
    ------
    GateError
        `TRANSFORM_PARAMETER`.
    """

    _RULE: ClassVar[str] = "T > 0, 0 <= A <= T"
    T: float
    A: float = 0.0

    def __post_init__(self) -> None:
        _require(self, A=0 <= self.A <= self.T)

    def _forward(self, x: Array) -> Array:
        return np.where(np.isfinite(x), (x + self.A) / (self.T + self.A), np.nan)

    def _backward(self, y: Array) -> Array:
        return y * (self.T + self.A) - self.A


@dataclass(frozen=True, slots=True)
class Log(_Monotone):
    """`log10(x / T) / M + 1`: T to 1, M decades below it to 0 (Gating-ML 2.0, flog); none for x <= 0. T, M > 0.

    Raises
    ------
    GateError
        `TRANSFORM_PARAMETER`.
    """

    _RULE: ClassVar[str] = "T > 0, M > 0"
    T: float
    M: float

    def __post_init__(self) -> None:
        _require(self)

    def _forward(self, x: Array) -> Array:
        table = _log_table(self.T, self.M)
        y, outside = table.evaluate(x)
        if outside is not None:
            far = x[outside]
            exact = _log(far, self.T, self.M)
            # the ends of the table bound what lies beyond them, so that the joints are monotone too
            joint = np.where(far < self.T, np.minimum(exact, table.value(0)), np.maximum(exact, table.value(-1)))
            y[outside] = np.where((far > 0) & np.isfinite(far), joint, np.nan)
        return y

    def _backward(self, y: Array) -> Array:
        return self.T * np.float64(10.0) ** ((y - 1) * self.M)


class _Curved(_Monotone):
    """Asinh, logicle and hyperlog: the inverse of a `_Curve`, from its table."""

    __slots__ = ()
    T: float

    def _forward(self, x: Array) -> Array:
        curve, table = _curve_table(self)
        magnitude = np.abs(x)
        y, outside = table.evaluate(magnitude)
        if outside is not None:
            far = magnitude[outside]
            exact = np.maximum(curve.centre + curve.solve_far(far), table.value(-1))
            y[outside] = np.where(np.isfinite(far), exact, np.nan)
        return np.subtract(2 * curve.centre, y, out=y, where=x < 0)

    def _backward(self, y: Array) -> Array:
        curve, _ = _curve_table(self)
        z = y - curve.centre
        x: Array = np.copysign(curve.derivatives(np.abs(z))[0], z)
        return x

    @abstractmethod
    def _curve(self) -> _Curve:
        """The curve that is tabulated."""


@dataclass(frozen=True, slots=True)
class Asinh(_Curved):
    """`(asinh(x sinh(M ln 10) / T) + A ln 10) / ((M + A) ln 10)` (Gating-ML 2.0, fasinh).

    T is the top of scale, M the decades, A the additional negative decades. T > 0, M > 0, 0 <= A <= M.

    Raises
    ------
    GateError
        `TRANSFORM_PARAMETER`.
    """

    _RULE: ClassVar[str] = "T > 0, M > 0, 0 <= A <= M"
    T: float
    M: float
    A: float = 0.0

    def __post_init__(self) -> None:
        _require(self, A=0 <= self.A <= self.M)

    def _curve(self) -> _Curve:
        return Logicle(self.T, 0.0, self.M, self.A)._curve()  # the same function


@dataclass(frozen=True, slots=True)
class Logicle(_Curved):
    """Root y of `a exp(b y) - c exp(-d y) - f = x` (Gating-ML 2.0, logicle; Moore and Parks 2012).

    T is the top of scale (mapped to 1), W the decades of the quasi-linear region, M the decades of the whole, A the
    additional negative decades. T > 0, M > 0, 0 <= W <= M / 2, -W <= A <= M - 2 W.

    Raises
    ------
    GateError
        `TRANSFORM_PARAMETER`.

    Notes
    -----
    With `y1 = (A + W) / (M + A)`, where x = 0, and `z = y - y1`, the conditions of the paper reduce to
    `x = P ((exp(b z) - 1) + (b/d)**2 (1 - exp(-d z)))`, with `b = (M + A) ln 10`, `2 ln(d/b) + w (b + d) = 0`,
    `w = W / (M + A)`, and P such that T is at `z = (M - W) / (M + A)`.
    """

    _RULE: ClassVar[str] = "T > 0, M > 0, 0 <= W <= M / 2, -W <= A <= M - 2 W"
    T: float
    W: float
    M: float
    A: float = 0.0

    def __post_init__(self) -> None:
        _require_biexponential(self, lowest_w=self.W >= 0)

    def _curve(self) -> _Curve:
        decades = self.M + self.A
        b = decades * _LN10
        d = _damping(b, self.W / decades)
        return _Curve.build((self.A + self.W) / decades, b, d, (b / d) ** 2, ((self.M - self.W) / decades, self.T))


@dataclass(frozen=True, slots=True)
class Hyperlog(_Curved):
    """Root y of `a exp(b y) + c y - f = x` (Gating-ML 2.0, hyperlog; Bagwell 2005).

    Parameters as of `Logicle`, but W > 0.

    Raises
    ------
    GateError
        `TRANSFORM_PARAMETER`.

    Notes
    -----
    In the terms of `Logicle`: `x = P ((exp(b z) - 1) + z 10**W / w)`.
    """

    _RULE: ClassVar[str] = "T > 0, M > 0, 0 < W <= M / 2, -W <= A <= M - 2 W"
    T: float
    W: float
    M: float
    A: float = 0.0

    def __post_init__(self) -> None:
        _require_biexponential(self, lowest_w=self.W > 0)

    def _curve(self) -> _Curve:
        decades = self.M + self.A
        ratio = 10.0**self.W / (self.W / decades)
        top = ((self.M - self.W) / decades, self.T)
        return _Curve.build((self.A + self.W) / decades, decades * _LN10, 0.0, ratio, top)


@dataclass(frozen=True, slots=True)
class Ratio:
    """`A (x - B) / (y - C)` of two channels (Gating-ML 2.0, fratio), in scale values; no inverse.

    Raises
    ------
    GateError
        `TRANSFORM_PARAMETER`: a parameter that is not finite.
    """

    _RULE: ClassVar[str] = "finite A, B and C"
    A: float
    B: float
    C: float

    def __post_init__(self) -> None:
        _require(self)

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Ratio of two arrays of one shape; NaN where it is not finite (a denominator of 0)."""
        numerator, denominator = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ratio = self.A * ((numerator - self.B) / (denominator - self.C))
            defined = np.isfinite(ratio) & np.isfinite(numerator) & np.isfinite(denominator)
        return np.where(defined, ratio, np.nan)


Transform = Linear | Log | Asinh | Logicle | Hyperlog


def _require(transform: Any, **rules: bool) -> None:
    """Raise unless every parameter is finite, T and M are in `_LIMITS` and each rule given by name holds."""
    values = {f.name: getattr(transform, f.name) for f in fields(transform)}
    for name, (low, high) in _LIMITS.items():
        rules[name] = rules.get(name, True) and low <= values.get(name, high) <= high
    broken = [name for name, value in values.items() if not math.isfinite(value) or not rules.get(name, True)]
    if broken:
        raise GateError(
            "TRANSFORM_PARAMETER",
            f"this {type(transform).__name__.lower()} is impossible because of {' and '.join(broken)}: "
            f"expected {transform._RULE} (and T from 1e-100 to 1e100, M from 0.001 to 100, which float64 can hold); "
            f"found {', '.join(f'{name} = {value}' for name, value in values.items())}.",
        )


def _require_biexponential(transform: Logicle | Hyperlog, *, lowest_w: bool) -> None:
    w, m, a = transform.W, transform.M, transform.A
    _require(transform, W=lowest_w and w <= m / 2, A=-w <= a <= m - 2 * w)


def _damping(b: float, w: float) -> float:
    """Find the logicle's d: the root of `2 ln(d / b) + w (b + d) = 0` between 0 and b.

    With `u = ln(d / b)` this is `2 u + w b (1 + exp(u)) = 0`: increasing and convex in u, so Newton's method started
    at its right end, u = 0, converges from one side.
    """
    u = 0.0
    for _ in range(100):
        step = (2 * u + w * b * (1 + math.exp(u))) / (2 + w * b * math.exp(u))
        u -= step
        if abs(step) <= 1e-16 * max(1.0, abs(u)):
            break
    return b * math.exp(u)


def _log(x: Array, top: float, decades: float) -> Array:
    return (np.log10(x) - math.log10(top)) / decades + 1


@lru_cache(maxsize=256)
def _log_table(top: float, decades: float) -> _Table:
    def knots(x: Array) -> tuple[Array, Array, Array]:
        slope = 1 / (x * decades * _LN10)
        return np.log10(x / top) / decades + 1, slope, -slope / x

    octave = math.floor(math.log2(top))
    return _Table.build(0.0, (octave - 32, octave + 1 + round(math.log2(_TOP))), knots)


@lru_cache(maxsize=256)
def _curve_table(transform: _Curved) -> tuple[_Curve, _Table]:
    curve = transform._curve()
    shift = curve.linear_width
    last = max(math.log2(shift), math.log2(transform.T)) + 1 + math.log2(_TOP)
    return curve, _Table.build(shift, (round(math.log2(shift)), math.floor(last)), curve.knots)


@lru_cache(maxsize=4096)
def _scale_bound(transform: _Monotone, y: float) -> float:
    """Find the smallest double that reaches y: gallop from the inverse to a bracket, then bisect."""

    def reaches(order: int) -> bool:
        return bool(transform(_double(order)) >= y)

    last = _order(_LARGEST)
    guess = _order(float(np.clip(np.nan_to_num(transform.inverse(y)), -_LARGEST, _LARGEST)))
    low, high, step = guess, guess, 16
    while reaches(low):
        if low == -last:
            return -math.inf
        high, low, step = low, max(low - step, -last), step * 4
    step = 16
    while not reaches(high):
        if high == last:
            return math.inf
        low, high, step = high, min(high + step, last), step * 4
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return _double(high)


def _order(x: float) -> int:
    """Place of a finite double in the order of all doubles; 0 for zero."""
    bits = int(np.float64(abs(x)).view(np.int64))
    return -bits if x < 0 else bits


def _double(order: int) -> float:
    magnitude = float(np.int64(abs(order)).view(np.float64))
    return -magnitude if order < 0 else magnitude
