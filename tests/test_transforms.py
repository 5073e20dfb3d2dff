"""Transforms: against FlowUtils and FlowKit, against R flowCore, and their own properties."""

from __future__ import annotations

import csv
import math

import flowkit
import flowutils.transforms as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import real_data

from tregflow.errors import GateError
from tregflow.transforms import Asinh, Hyperlog, Linear, Log, Logicle, Ratio, Transform

TOP = 262144.0
PARAMETERS = [  # T, W, M, A
    (TOP, 0.5, 4.5, 0.0),
    (TOP, 1e-3, 4.5, 0.0),
    (TOP, 1.0, 4.5, 0.5),
    (TOP, 0.5, 4.5, -0.5),
    (4194304.0, 2.0, 5.0, 0.0),
    (1e6, 1.5, 6.0, -1.0),
    (1.0, 0.5, 4.5, 1.0),
]


def scale_values(top: float, n: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(20)
    wide = np.concatenate([10 ** rng.uniform(-9, math.log10(top) + 1, n), [0.0, top, 1e-300, 5e-324]])
    return np.concatenate([wide, -wide, rng.uniform(-0.01 * top, 1.2 * top, n)])


@pytest.mark.parametrize(("t", "w", "m", "a"), PARAMETERS)
def test_logicle_hyperlog_and_asinh_equal_flowutils(t: float, w: float, m: float, a: float) -> None:
    x = scale_values(t)
    np.testing.assert_allclose(Logicle(t, w, m, a)(x), oracle.logicle(x, None, t, m, w, a), rtol=0, atol=1e-14)
    np.testing.assert_allclose(Hyperlog(t, w, m, a)(x), oracle.hyperlog(x, None, t, m, w, a), rtol=0, atol=1e-14)
    decades = max(a, 0.0)
    np.testing.assert_allclose(Asinh(t, m, decades)(x), oracle.asinh(x, None, t, m, decades), rtol=0, atol=1e-14)


def test_logicle_without_a_linear_region_is_asinh() -> None:
    """FlowUtils' logicle does not converge there for 1 in 70 values (it returns -1), its asinh does."""
    x = scale_values(TOP)
    expected = oracle.asinh(x, None, TOP, 4.5, 0.5)
    np.testing.assert_allclose(Logicle(TOP, 0, 4.5, 0.5)(x), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("m", [1.0, 4.5, 18.0])
def test_log_and_linear_equal_flowkit(m: float) -> None:
    x = np.abs(scale_values(TOP))
    x = x[x > 1e-290]
    np.testing.assert_allclose(Log(TOP, m)(x), oracle.log(x, None, TOP, m), rtol=1e-15, atol=1e-14)
    x = scale_values(TOP)
    np.testing.assert_array_equal(
        Linear(TOP, 100.0)(x), flowkit.transforms.LinearTransform(param_t=TOP, param_a=100.0).apply(x)
    )


def test_inverses_equal_flowkit() -> None:
    y = np.linspace(-0.5, 1.2, 2001)
    pairs: list[tuple[Transform, flowkit.transforms.Transform]] = [
        (Logicle(TOP, 0.5, 4.5, 0.5), flowkit.transforms.LogicleTransform(TOP, 0.5, 4.5, 0.5)),
        (Hyperlog(TOP, 0.5, 4.5, 0.5), flowkit.transforms.HyperlogTransform(TOP, 0.5, 4.5, 0.5)),
        (Asinh(TOP, 4.5, 0.5), flowkit.transforms.AsinhTransform(TOP, 4.5, 0.5)),
        (Log(TOP, 4.5), flowkit.transforms.LogTransform(TOP, 4.5)),
        (Linear(TOP, 5.0), flowkit.transforms.LinearTransform(TOP, 5.0)),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.inverse(y), theirs.inverse(y), rtol=1e-12, atol=1e-9)


def test_ratio_by_hand_and_without_a_denominator() -> None:
    ratio = Ratio(2.0, 1.0, 10.0)
    result = ratio(np.array([3.0, 3.0, np.nan, np.inf, 1.0]), np.array([12.0, 10.0, 1.0, 1.0, np.inf]))
    np.testing.assert_array_equal(result, [2.0, np.nan, np.nan, np.nan, np.nan])


def test_numbers_of_r_flowcore() -> None:
    """flowCore's logicle runs from 0 to M, ours from 0 to 1; its arcsinh is asinh(x / 150), ours fasinh."""
    with real_data("numeric_refs", "golden.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            (row["kind"], float(row["key"]), float(row["golden"]))
            for row in csv.DictReader(file)
            if row["kind"] in {"logicle", "asinh"}
        ]
    assert len(rows) == 30
    m = 4.5
    logicle = Logicle(TOP, 0.5, m, 0.0)
    top = 150 * math.sinh(m * math.log(10))  # the T at which fasinh's factor is 1 / 150
    asinh = Asinh(top, m, 0.0)
    for kind, x, expected in rows:
        found = float(logicle(x)) * m if kind == "logicle" else float(asinh(x)) * m * math.log(10)
        assert found == pytest.approx(expected, abs=5e-10 * max(1, abs(expected))), (kind, x)


def test_anchors() -> None:
    for transform in (
        Logicle(TOP, 0.5, 4.5, 0.5),
        Hyperlog(TOP, 0.5, 4.5, 0.5),
        Asinh(TOP, 4.5, 0.5),
        Log(TOP, 4.5),
        Linear(TOP, 9.0),
    ):
        assert float(transform(TOP)) == pytest.approx(1.0, abs=1e-15)
    assert float(Logicle(TOP, 0.5, 4.5, 0.5)(0.0)) == 0.2  # (A + W) / (M + A)
    assert float(Linear(TOP, 9.0)(-9.0)) == 0.0


def test_shapes_types_and_values_without_a_transform() -> None:
    logicle, log = Logicle(TOP, 0.5, 4.5), Log(TOP, 4.5)
    assert logicle(np.zeros((3, 2), dtype=np.float32)).shape == (3, 2)
    assert logicle(np.array([])).shape == (0,)
    assert logicle(7).shape == ()
    not_finite = np.array([np.nan, np.inf, -np.inf])
    for transform in (logicle, log, Linear(TOP), Asinh(TOP, 4.5), Hyperlog(TOP, 0.5, 4.5)):
        assert np.isnan(transform(not_finite)).all()
        assert np.isnan(transform.inverse(not_finite)).all()
    assert np.isnan(log(np.array([0.0, -1.0]))).all()
    x = np.arange(-30_000.0, 30_000.0)  # more than one block, and strided
    np.testing.assert_array_equal(logicle(x[::3]), logicle(x)[::3])


transforms = st.one_of(
    st.builds(lambda t, a: Linear(t, a * t), st.floats(1, 1e7), st.floats(0, 1)),
    st.builds(Log, st.floats(1, 1e7), st.floats(0.5, 10)),
    st.builds(lambda t, m, a: Asinh(t, m, a * m), st.floats(1, 1e7), st.floats(1, 8), st.floats(0, 1)),
    st.builds(
        lambda kind, t, m, w, a: kind(t, w * m / 2, m, -w * m / 2 + a * (m - w * m / 2)),
        st.sampled_from([Logicle, Hyperlog]),
        st.floats(1, 1e7),
        st.floats(1, 8),
        st.floats(1e-3, 0.9),
        st.floats(0, 0.9),
    ),
)  # fmt: skip
values = st.floats(-1.5e7, 1.5e7)


@settings(max_examples=60, deadline=None)
@given(transforms, st.lists(values, min_size=1, max_size=30))
def test_inverse_of_the_transform_is_the_value(transform: Transform, x: list[float]) -> None:
    data = np.array([value for value in x if abs(value) <= 2 * transform.T])
    if isinstance(transform, Log):
        data = data[data > 1e-200]
    # an error of 1e-15 in y is one of 1e-15 dx/dy in x: of the order of x (M + A) ln 10, or of the linear region
    top_slope = float(transform.inverse(1.001) - transform.inverse(1.0)) / 0.001
    np.testing.assert_allclose(transform.inverse(transform(data)), data, rtol=1e-12, atol=4e-15 * top_slope)


@settings(max_examples=60, deadline=None)
@given(transforms, values, st.integers(-8, 8))
def test_never_decreases_between_neighbours(transform: Transform, start: float, octaves: int) -> None:
    start = math.ldexp(start, octaves)
    steps = np.arange(-200, 200) + np.float64(abs(start) + 1e-290).view(np.int64)
    x = steps.view(np.float64)
    y = transform(x if start >= 0 else -x[::-1])
    assert not (np.diff(y) < 0).any()


@settings(max_examples=60, deadline=None)
@given(transforms, st.one_of(values, st.floats(allow_nan=False, allow_infinity=True)), st.booleans())
def test_a_bound_decides_in_scale_values_as_in_transformed(transform: Transform, at: float, moved: bool) -> None:
    y = float(transform(at)) if moved else at / 1e6
    if math.isnan(y):
        y = 0.5
    bound = transform.scale_bound(y)
    near = [bound]
    for direction in (-math.inf, math.inf):
        for _ in range(40):
            near.append(np.nextafter(near[-1], direction))
        near.append(bound)
    x = np.array([value for value in [*near, *scale_values(transform.T, 50)] if math.isfinite(value)])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(transform(x) >= y, x >= bound)


def test_bounds_out_of_range() -> None:
    logicle, log = Logicle(TOP, 0.5, 4.5), Log(TOP, 4.5)
    assert logicle.scale_bound(-math.inf) == -math.inf
    assert logicle.scale_bound(math.inf) == math.inf
    assert logicle.scale_bound(1e6) == math.inf
    assert logicle.scale_bound(-1e6) == -math.inf
    assert logicle.scale_bound(math.nan) == math.inf  # no value reaches it
    assert log.scale_bound(-math.inf) == 5e-324  # a log exists above zero
    assert Linear(TOP).scale_bound(0.5) == TOP / 2


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (Linear, (0, 0)), (Linear, (100, -1)), (Linear, (100, 101)), (Linear, (math.nan, 0)),
        (Log, (0, 1)), (Log, (100, 0)), (Log, (-1, 4)), (Log, (100, math.inf)),
        (Asinh, (100, 4, -0.1)), (Asinh, (100, 4, 4.1)), (Asinh, (100, 0, 0)),
        (Logicle, (0, 0.5, 4.5, 0)), (Logicle, (100, -0.1, 4.5, 0)), (Logicle, (100, 2.3, 4.5, 0)),
        (Logicle, (100, 0.5, 4.5, -0.6)), (Logicle, (100, 0.5, 4.5, 3.6)), (Logicle, (100, 0, 400, 0)),
        (Hyperlog, (100, 0, 4.5, 0)), (Hyperlog, (100, 2.3, 4.5, 0)), (Hyperlog, (1e200, 0.5, 4.5, 0)),
        (Ratio, (math.inf, 0, 0)),
    ],
)  # fmt: skip
def test_impossible_parameters(kind: type, parameters: tuple[float, ...]) -> None:
    with pytest.raises(GateError, match=r"TRANSFORM_PARAMETER: this \w+ is impossible because of"):
        kind(*parameters)
