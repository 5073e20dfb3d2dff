"""Gates: against FlowUtils and FlowKit on random gates, data and integer grids, and the rules of membership."""

from __future__ import annotations

import math

import flowkit
import numpy as np
import pandas as pd
import pytest
from flowutils.gating import points_in_ellipsoid, points_in_polygon
from hypothesis import given, settings
from hypothesis import strategies as st
from support import real_data

from tregflow.errors import GateError
from tregflow.gates import (
    Boolean,
    Dimension,
    Ellipsoid,
    NamedCell,
    PlacedGate,
    Polygon,
    Quadrant,
    QuadrantGrid,
    Rectangle,
)

NOT_FINITE = np.array([np.nan, np.inf, -np.inf])


def polygon_oracle(vertices: object, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return points_in_polygon(np.array(vertices, dtype=float), np.column_stack([x, y]))


def grid(low: float, high: float, step: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(low, high + step, step)
    x, y = np.meshgrid(axis, axis)
    return x.ravel(), y.ravel()


integers = st.integers(-6, 6).map(float)
reals = st.floats(-6, 6)


def vertices_of(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[float, float]]]:
    vertices = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=12)
    return vertices.filter(lambda found: len(set(found)) >= 3)


@settings(max_examples=200, deadline=None)
@given(vertices_of(integers))
def test_polygon_on_a_lattice_equals_flowutils(vertices: list[tuple[float, float]]) -> None:
    """Integer vertices and points: every kind of vertex, edge, crossing and repeated point is hit exactly."""
    x, y = grid(-7, 7, 0.5)
    np.testing.assert_array_equal(Polygon(tuple(vertices)).contains((x, y)), polygon_oracle(vertices, x, y))


@settings(max_examples=100, deadline=None)
@given(vertices_of(reals), st.integers(0, 2**32 - 1))
def test_polygon_on_random_points_and_on_its_edges_equals_flowutils(
    vertices: list[tuple[float, float]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    corners = np.array(vertices)
    ends = np.roll(corners, -1, axis=0)
    share = rng.uniform(0, 1, (50, len(corners), 1))
    on_edges = (corners + share * (ends - corners)).reshape(-1, 2)  # within rounding of an edge
    points = np.vstack([rng.uniform(-7, 7, (300, 2)), on_edges, corners, np.column_stack(grid(-6, 6))])
    x, y = np.ascontiguousarray(points.T)
    np.testing.assert_array_equal(Polygon(tuple(vertices)).contains((x, y)), polygon_oracle(vertices, x, y))


def test_polygon_of_many_events_and_vertices_equals_flowutils() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(0.5, 0.3, (2, 60_000))  # several blocks, the last one short
    for n in (3, 8, 60):
        angle = np.sort(rng.uniform(0, 2 * np.pi, n))
        radius = rng.uniform(0.1, 0.6, n)
        vertices = np.column_stack([0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle)])
        polygon = Polygon(tuple(map(tuple, vertices.tolist())))
        np.testing.assert_array_equal(polygon.contains((x, y)), polygon_oracle(vertices, x, y))


@pytest.mark.parametrize(
    ("events", "truth", "gate"),
    [
        ("event_data_for_poly_test.npy", "Results_Polygon4.txt", Polygon(((5.0, 5.0), (500.0, 5.0), (500.0, 500.0)))),
        (
            "event_data_for_ellipse_test.npy",
            "Results_Ellipse1.txt",
            Ellipsoid((12.99701, 16.22941), ((62.5, 37.5), (37.5, 62.5)), 1.0),
        ),
    ],
)
def test_flowutils_own_truth_files(events: str, truth: str, gate: Polygon | Ellipsoid) -> None:
    folder = real_data("numeric_refs", "test_data")
    points = np.ascontiguousarray(np.load(folder / events).T, dtype=float)
    expected = np.loadtxt(folder / "truth" / truth).astype(bool)
    np.testing.assert_array_equal(gate.contains(tuple(points)), expected)


def test_polygon_edges_lower_and_left_in_upper_and_right_out() -> None:
    square = Polygon(((0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)))
    x = np.array([0.0, 1.0, 0.0, 2.0, 1.0, 2.0, 0.0, 2.0, 1.0])
    y = np.array([1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 0.0, 1.0])
    assert square.contains((x, y)).tolist() == [True, True, True, False, False, False, False, False, True]


def test_polygon_even_odd_leaves_the_middle_of_a_star_out() -> None:
    angle = np.pi / 2 + np.arange(5) * 4 * np.pi / 5
    star = Polygon(tuple(zip(np.cos(angle).tolist(), np.sin(angle).tolist(), strict=True)))
    assert star.contains((np.array([0.0, 0.0]), np.array([0.0, 0.9]))).tolist() == [False, True]


bound = st.one_of(st.none(), integers, reals)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(bound, bound), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_rectangle_equals_flowkit(bounds: list[tuple[float | None, float | None]], seed: int) -> None:
    bounds = [(low, high) if low is None or high is None or low < high else (low, None) for low, high in bounds]
    bounds = [(0.0, None) if pair == (None, None) else pair for pair in bounds]
    rng = np.random.default_rng(seed)
    edges = [value for pair in bounds for value in pair if value is not None]
    points = [np.concatenate([rng.uniform(-7, 7, 100), rng.permutation(edges * 5), grid(-6, 6)[0]]) for _ in bounds]
    names = [f"d{i}" for i in range(len(bounds))]
    gate = flowkit.gates.RectangleGate(
        "gate",
        [
            flowkit.Dimension(name, range_min=low, range_max=high)
            for name, (low, high) in zip(names, bounds, strict=True)
        ],
    )
    ours = Rectangle(tuple(low for low, _ in bounds), tuple(high for _, high in bounds))
    expected = gate.apply(pd.DataFrame(dict(zip(names, points, strict=True))))
    np.testing.assert_array_equal(ours.contains(points), expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_ellipsoid_equals_flowutils(n: int, seed: int) -> None:
    """Equal for every event except within rounding of the surface, where the sums are ordered differently."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, n)) + 2 * np.eye(n)
    covariance = factor @ factor.T
    covariance = (covariance + covariance.T) / 2
    mean = rng.normal(size=n)
    points = rng.normal(size=(500, n)) * 3
    ours = Ellipsoid(tuple(mean.tolist()), tuple(map(tuple, covariance.tolist())), 2.5)
    found = ours.contains(tuple(np.ascontiguousarray(points.T)))
    offset = points - mean
    distance = np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariance), offset)
    clear = np.abs(distance - 2.5) > 1e-9
    expected = points_in_ellipsoid(covariance, mean, 2.5, points)
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_ellipsoid_surface_is_inside_on_a_lattice() -> None:
    x, y = grid(-6, 6)
    circle = Ellipsoid((0.0, 0.0), ((1.0, 0.0), (0.0, 1.0)), 25.0)
    found = circle.contains((x, y))
    np.testing.assert_array_equal(found, x * x + y * y <= 25)
    np.testing.assert_array_equal(found, points_in_ellipsoid(np.eye(2), [0, 0], 25.0, np.column_stack([x, y])))


def test_ellipsoid_does_not_depend_on_the_events_beside_it() -> None:
    points = np.random.default_rng(1).normal(size=(2, 20_001))
    gate = Ellipsoid((0.1, 0.2), ((1.0, 0.3), (0.3, 0.7)), 1.7)
    together = gate.contains(tuple(points))
    alone = [gate.contains((points[0, i : i + 1], points[1, i : i + 1]))[0] for i in range(0, 20_001, 500)]
    np.testing.assert_array_equal(together[::500], alone)


def test_quadrants_divide_the_plane_and_equal_flowkit() -> None:
    dividers = ((0.0, 2.0), (1.0,))
    x, y = grid(-3, 3)
    frame = pd.DataFrame({"X": x, "Y": y})
    total = np.zeros(len(x), dtype=int)
    for i in range(3):
        for j in range(2):
            quadrant = Quadrant(dividers, (i, j))
            found = quadrant.contains((x, y))
            theirs = flowkit.gates.QuadrantGate(
                "gate",
                [
                    flowkit.QuadrantDivider("dx", "X", "uncompensated", [0.0, 2.0]),
                    flowkit.QuadrantDivider("dy", "Y", "uncompensated", [1.0]),
                ],
                [flowkit.gates.Quadrant("q", ["dx", "dy"], list(quadrant.intervals))],
            )
            np.testing.assert_array_equal(found, theirs.apply(frame)["q"])
            total += found
    assert (total == 1).all()
    np.testing.assert_array_equal(Quadrant(dividers, (None, 1)).contains((x, y)), y >= 1)


def test_a_value_that_is_not_finite_is_in_no_geometry() -> None:
    inside = np.zeros(3)
    everywhere = [
        Rectangle((None, None), (9.0, 9.0)),
        Rectangle((-9.0, -9.0), (None, None)),
        Polygon(((-9.0, -9.0), (9.0, -9.0), (9.0, 9.0), (-9.0, 9.0))),
        Ellipsoid((0.0, 0.0), ((1.0, 0.0), (0.0, 1.0)), 99.0),
        Quadrant(((-5.0, 5.0), (9.0,)), (None, 0)),
    ]
    for gate in everywhere:
        assert gate.contains((inside, inside)).all()
        assert not gate.contains((NOT_FINITE, inside)).any()
        assert not gate.contains((inside, NOT_FINITE)).any()
    huge = np.array([1e308, -1e308])
    assert not everywhere[2].contains((huge, huge)).any()
    assert not everywhere[3].contains((huge, huge)).any()


def test_polygon_near_the_largest_double_does_not_warn() -> None:
    polygon = Polygon(((-1.7e308, -1.7e308), (1.7e308, -1.7e308), (0.0, 1.7e308)))
    x = np.array([0.0, 1e308, -1e308, 1e307])
    np.testing.assert_array_equal(polygon.contains((x, x)), polygon_oracle(polygon.vertices, x, x))


def test_no_events() -> None:
    empty = (np.array([]), np.array([]))
    for gate in (Rectangle((0.0, 0.0), (1.0, 1.0)), Polygon(((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))):
        assert gate.contains(empty).shape == (0,)
    assert Ellipsoid((0.0, 0.0), ((1.0, 0.0), (0.0, 1.0)), 1.0).contains(empty).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=4), st.sampled_from(["and", "or"]))
def test_boolean_with_complements(complements: list[bool], operator: str) -> None:
    combinations = np.array(np.meshgrid(*[[False, True]] * len(complements))).reshape(len(complements), -1)
    used = [mask != complement for mask, complement in zip(combinations, complements, strict=True)]
    expected = np.all(used, axis=0) if operator == "and" else np.any(used, axis=0)
    gate = Boolean(operator, tuple(complements))  # type: ignore[arg-type]
    before = combinations.copy()
    np.testing.assert_array_equal(gate.contains(list(combinations)), expected)
    np.testing.assert_array_equal(combinations, before)


def test_boolean_not() -> None:
    mask = np.array([True, False])
    assert Boolean("not", (False,)).contains([mask]).tolist() == [False, True]
    assert Boolean("not", (True,)).contains([mask]).tolist() == [True, False]


def test_quadrant_grid_gives_its_cells() -> None:
    cells = (NamedCell("low", "CD25-", (0,)), NamedCell("high", "CD25+", (1,)))
    gate = QuadrantGrid(((0.4,),), cells)
    assert gate.quadrant(cells[1]) == Quadrant(((0.4,),), (1,))
    placed = PlacedGate("cd25", "CD25", None, "quadrant", (Dimension("PE-A", compensated=True),), gate)
    assert placed.operands == ()


UNIT = ((1.0, 0.0), (0.0, 1.0))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Rectangle((), ()), "one minimum and one maximum per dimension"),
        (lambda: Rectangle((0.0,), (1.0, 2.0)), "one minimum and one maximum per dimension"),
        (lambda: Rectangle((None,), (None,)), "a minimum or a maximum"),
        (lambda: Rectangle((1.0,), (1.0,)), "minimum < maximum"),
        (lambda: Rectangle((math.nan,), (1.0,)), "finite numbers"),
        (lambda: Polygon(((0.0, 0.0), (1.0, 1.0), (0.0, 0.0))), "at least three distinct vertices"),
        (lambda: Polygon(((0.0, 0.0), (1.0, 1.0), (0.0, math.inf))), "finite numbers"),
        (lambda: Ellipsoid((0.0,), ((1.0,),), 1.0), "two or more dimensions"),
        (lambda: Ellipsoid((0.0, 0.0), ((1.0, 0.0),), 1.0), "square covariance"),
        (lambda: Ellipsoid((0.0, math.nan), UNIT, 1.0), "finite numbers"),
        (lambda: Ellipsoid((0.0, 0.0), ((1.0, 0.5), (0.0, 1.0)), 1.0), "symmetric"),
        (lambda: Ellipsoid((0.0, 0.0), ((1.0, 2.0), (2.0, 1.0)), 1.0), "positive definite"),
        (lambda: Ellipsoid((0.0, 0.0), UNIT, 0.0), "above 0"),
        (lambda: Quadrant((), ()), "one cell per dimension"),
        (lambda: Quadrant(((1.0, 1.0),), (0,)), "ascending"),
        (lambda: Quadrant(((math.inf,),), (0,)), "finite numbers"),
        (lambda: Quadrant(((1.0,),), (2,)), "a cell from 0 to 1"),
        (lambda: QuadrantGrid(((1.0,),), ()), "one or more cells"),
        (lambda: Boolean("xor", (False, False)), "'and', 'or' or 'not'"),  # type: ignore[arg-type]
        (lambda: Boolean("not", (False, False)), "one operand of 'not'"),
        (lambda: Boolean("and", (False,)), "two or more of 'and'"),
    ],
)
def test_impossible_gates(make: object, text: str) -> None:
    with pytest.raises(GateError, match=f"GATE_GEOMETRY: this .* is impossible: .*{text}"):
        make()  # type: ignore[operator]


def test_wrong_number_of_arrays() -> None:
    one = np.zeros(2)
    gates = (
        Rectangle((0.0, 0.0), (1.0, 1.0)),
        Polygon(((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))),
        Quadrant(((1.0,),) * 2, (0, 0)),
    )
    for gate in (*gates, Ellipsoid((0.0, 0.0), UNIT, 1.0)):
        with pytest.raises(GateError, match="GATE_POINTS: expected one array for each of 2 dimensions, found 1"):
            gate.contains((one,))
    with pytest.raises(GateError, match="GATE_POINTS: expected 1 masks, found 2"):
        Boolean("not", (False,)).contains([one > 0, one > 0])
