"""The engine: known answers by hand. `test_gating_flowkit.py` has the random templates and the oracle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tregflow.compensation import Spillover
from tregflow.errors import PlacementError
from tregflow.gating import BINS, GatingResult, columns, gate_sample, needed_for, place_gates, recount
from tregflow.placement import Estimate, Placement
from tregflow.sample import Sample, sample_from_array
from tregflow.template.model import Template

Gate = dict[str, Any]
NAN, INF = float("nan"), float("inf")


# --- samples and templates by hand ------------------------------------------------------------------------------------


def template(*gates: Gate, transforms: Mapping[str, Gate] | None = None, mfi: Sequence[str] = ()) -> Template:
    """A template of these gates. F1 and F2 are fluorescence, which `default` transforms; the rest is scatter."""
    named = {d for g in gates for d in (*g.get("dimensions", ()), g.get("against")) if d}
    kinds = {"F1": "fluorescence", "F2": "fluorescence", **{d: "scatter" for d in sorted(named) if d[0] != "F"}}
    document = {
        "schema_version": 1,
        "id": "test",
        "version": "0.1.0",
        "title": "Test",
        "endpoint": {"numerator": gates[-1]["id"], "denominator": gates[0]["id"], "mfi": list(mfi)},
        "panel": {name: {"aliases": [name], "kind": kind} for name, kind in kinds.items()},
        "compensation": {"source": "unmixed"},
        "transforms": transforms or {},
        "gates": list(gates),
    }
    return Template.model_validate_json(json.dumps(document))


def sample(**columns: Sequence[float]) -> Sample:
    """A sample with one channel per dimension, named alike."""
    events = np.array(list(columns.values()), dtype=np.float64).T
    return sample_from_array("hand.fcs", events, [(name, "") for name in columns])


def run(
    tube: Sample,
    made: Template,
    spillover: Spillover | None = None,
    frozen: Mapping[str, Placement] | None = None,
    *,
    draw: bool = True,
) -> GatingResult:
    channels = {channel.pnn: channel for channel in tube.channels if channel.pnn in made.panel}
    return gate_sample(tube, made, channels=channels, spillover=spillover, frozen=frozen, draw=draw)


def members(result: GatingResult, population: str) -> list[int]:
    """Indices of the events of a population; its count must say the same."""
    found = np.flatnonzero(result[population].mask).tolist()
    assert result[population].n_events == len(found)
    return found


def in_range(name: str, dimension: str, low: float | None, high: float | None, parent: str | None = None) -> Gate:
    bounds = {key: value for key, value in (("min", low), ("max", high)) if value is not None}
    return {"id": name, "kind": "range", "dimensions": [dimension], "parent": parent, **bounds}


def boolean(name: str, operator: str, *operands: str, parent: str | None = None) -> Gate:
    return {"id": name, "kind": "boolean", "operator": operator, "operands": operands, "parent": parent}


LOGICLE = {"kind": "logicle", "T": 262144.0, "W": 0.5, "M": 4.5, "A": 0.0}
ESTIMATE = Estimate((2.5,), None, 9)
LOG = {"kind": "log", "T": 1000.0, "M": 3.0}


# --- known answers ----------------------------------------------------------------------------------------------------


def test_a_range_is_half_open() -> None:
    result = run(sample(X=[0, 1, 1.5, 2, 3]), template(in_range("g", "X", 1, 2)))
    assert members(result, "g") == [1, 2]


@pytest.mark.parametrize(("low", "high", "expected"), [(None, 2, [0, 1]), (2, None, [2, 3]), (1, 3, [1, 2])])
def test_a_range_may_be_open_at_one_end(low: float | None, high: float | None, expected: list[int]) -> None:
    assert members(run(sample(X=[0, 1, 2, 3]), template(in_range("g", "X", low, high))), "g") == expected


def test_a_rectangle_asks_every_dimension_and_may_leave_bounds_out() -> None:
    gates = {"id": "g", "kind": "rectangle", "dimensions": ["X", "Y"], "min": {"X": 1, "Y": 1}, "max": {"X": 3}}
    result = run(sample(X=[1, 1, 3, 2, 0], Y=[1, 0, 2, 100, 2]), template(gates))
    assert members(result, "g") == [0, 3]


def test_a_polygon_takes_its_lower_and_left_edges_and_the_even_odd_rule() -> None:
    square = [[0, 0], [2, 0], [2, 2], [0, 2]]
    polygon = {"id": "g", "kind": "polygon", "dimensions": ["X", "Y"], "vertices": square}
    inside_left_bottom_right_top = sample(X=[1, 0, 1, 2, 1], Y=[1, 1, 0, 1, 2])
    assert members(run(inside_left_bottom_right_top, template(polygon)), "g") == [0, 1, 2]
    bow_tie = {**polygon, "vertices": [[0, 0], [2, 2], [2, 0], [0, 2]]}
    assert members(run(sample(X=[0.5, 1.5, 1.0], Y=[1.0, 1.0, 1.5]), template(bow_tie)), "g") == [0, 1]


def test_an_ellipsoid_holds_its_surface() -> None:
    ellipsoid = {
        "id": "g",
        "kind": "ellipsoid",
        "dimensions": ["X", "Y", "Z"],
        "mean": [1, 1, 1],
        "covariance": [[1, 0, 0], [0, 4, 0], [0, 0, 1]],
        "distance_square": 1,
    }
    result = run(sample(X=[1, 2, 1, 1, 2], Y=[1, 1, 3, 3.01, 2], Z=[1, 1, 1, 1, 1]), template(ellipsoid))
    assert members(result, "g") == [0, 1, 2]


def test_a_quadrant_is_a_cell_of_its_dividers() -> None:
    quadrant = {"kind": "quadrant", "dimensions": ["X", "Y"], "dividers": [[1, 2], [5]]}
    cells = {"low_high": [0, 1], "middle_low": [1, 0], "high": [2, -1]}
    made = template(*({"id": name, **quadrant, "cells": cell} for name, cell in cells.items()))
    result = run(sample(X=[0, 1, 2, 9, 1.9], Y=[5, 4, 4, 5, 5]), made)
    assert {name: members(result, name) for name in cells} == {"low_high": [0], "middle_low": [1], "high": [2, 3]}


def test_a_population_lies_inside_its_parents() -> None:
    made = template(in_range("c", "X", 2, None, "b"), in_range("b", "Y", 1, None, "a"), in_range("a", "X", 1, None))
    result = run(sample(X=[0, 1, 2, 3], Y=[1, 1, 0, 1]), made)
    assert [p.id for p in result.populations] == ["a", "b", "c"]  # parents first, whatever the file's order
    assert [members(result, name) for name in "abc"] == [[1, 2, 3], [1, 3], [3]]


def test_booleans_combine_populations_inside_their_parent() -> None:
    made = template(
        in_range("all", "X", 0, 100),
        in_range("low", "X", None, 3),
        in_range("odd", "Y", 1, None, "all"),
        boolean("both", "and", "low", "odd", parent="all"),
        boolean("only_low", "and", "low", "!odd", parent="all"),
        boolean("either", "or", "low", "odd", parent="all"),
        boolean("neither", "not", "either", parent="all"),
        boolean("either_again", "not", "!either", parent="all"),
        boolean("of_booleans", "or", "only_low", "neither"),
    )
    result = run(sample(X=[-1, 1, 2, 3, 4], Y=[1, 1, 0, 1, 0]), made)
    expected = {"both": [1], "only_low": [2], "either": [1, 2, 3], "neither": [4], "either_again": [1, 2, 3]}
    assert {name: members(result, name) for name in expected} == expected
    assert members(result, "of_booleans") == [2, 4]


def test_compensation_by_hand() -> None:
    """10 % of F1 is seen in F2 and nothing else: compensated F2 is F2 - 0.1 F1."""
    spillover = Spillover("file:$SPILLOVER", ("F1", "F2"), np.array([[1, 0.1], [0, 1]]))
    made = template(in_range("f1", "F1", 50, None), in_range("f2", "F2", 5, None))
    tube = sample(F1=[100, 100, 0], F2=[10, 16, 5])
    assert [members(run(tube, made, spillover), name) for name in ("f1", "f2")] == [[0, 1], [1, 2]]
    assert members(run(tube, made, None), "f2") == [0, 1, 2]
    dimensions = {d.channel: d.compensated for g in run(tube, made, spillover).gates for d in g.dimensions}
    assert dimensions == {"F1": True, "F2": True}


def test_gate_coordinates_are_in_transformed_space() -> None:
    """The linear transform maps 0 to 0 and 200 to 1."""
    made = template(in_range("g", "F1", 0.25, 0.5), transforms={"default": {"kind": "linear", "T": 200.0}})
    assert members(run(sample(F1=[49, 50, 99, 100]), made), "g") == [1, 2]


def test_a_value_without_a_logarithm_is_in_no_range_but_in_its_complement() -> None:
    """As in Gating-ML: the value is known, and it is not in the range, however low that begins."""
    made = template(in_range("low", "F1", None, 0.5), boolean("rest", "not", "low"), transforms={"F1": LOG})
    result = run(sample(F1=[-5, 0, 1e-300, 1, 999]), made)
    assert members(result, "low") == [2, 3]
    assert members(result, "rest") == [0, 1, 4]
    assert result["low"].n_non_finite == 0
    assert result.findings == ()


# --- values that are not finite ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("transform", [{}, {"default": LOGICLE}])
def test_a_value_that_is_not_finite_is_in_no_gate_and_in_no_complement(
    value: float, transform: Mapping[str, Gate]
) -> None:
    polygon = {"id": "p", "kind": "polygon", "dimensions": ["F1", "F2"], "vertices": [[-9, -9], [9, -9], [0, 9]]}
    gates = (
        in_range("below", "F1", None, 0.5),
        in_range("above", "F1", -50, None),
        {"id": "cell", "kind": "quadrant", "dimensions": ["F1"], "dividers": [[0.5]], "cells": [-1]},
        polygon,
        boolean("not_below", "not", "below"),
        boolean("not_p", "and", "!p", "!below"),
        in_range("child", "F2", -50, None, "below"),
        boolean("not_child", "not", "child"),
        boolean("twice", "not", "not_below"),
        boolean("still_known", "or", "!below", "other"),
        in_range("other", "F2", -50, None),
    )
    result = run(sample(F1=[value, 0.1], F2=[0.1, 0.1]), template(*gates, transforms=transform))
    assert {p.id for p in result.populations if 0 in members(result, p.id)} == {"other", "still_known"}
    assert {p.id: p.n_non_finite for p in result.populations if p.n_non_finite} == dict.fromkeys(
        ["below", "above", "cell", "p"], 1
    )
    (finding,) = result.findings
    assert (finding.code, finding.severity, finding.observed) == ("EVENTS_NON_FINITE", "review", "1")


def test_an_event_is_counted_once_however_many_of_its_values_are_not_finite() -> None:
    gates = {"id": "g", "kind": "rectangle", "dimensions": ["X", "Y"], "min": {"X": 0, "Y": 0}}
    result = run(sample(X=[NAN, 1, NAN, 1], Y=[INF, 1, 1, NAN]), template(gates, in_range("h", "X", 0, None)))
    assert result["g"].n_non_finite == 3
    assert result["h"].n_non_finite == 2
    assert result.findings[0].observed == "3"


def test_only_what_the_parent_holds_can_be_unknown() -> None:
    made = template(in_range("a", "X", 1, None), in_range("b", "Y", 0, None, "a"))
    assert run(sample(X=[0, 1], Y=[NAN, 1]), made).findings == ()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_detector_that_is_not_finite_makes_every_compensated_value_so(value: float) -> None:
    spillover = Spillover("file:$SPILLOVER", ("F1", "F2"), np.array([[1, 0.1], [0, 1]]))
    made = template(in_range("g", "F2", None, 100))
    assert members(run(sample(F1=[value, 1], F2=[value, 1]), made, spillover), "g") == [1]


# --- placement --------------------------------------------------------------------------------------------------------


def quantile_cut(name: str, dimension: str, q: float, reference: str | None, **more: Any) -> Gate:
    place = {"rule": "reference_quantile", "side": "above", "reference": reference, "q": q, "min_events": 2, **more}
    return {"id": name, "kind": "range", "dimensions": [dimension], "place": place}


def test_a_rule_sees_its_reference_population_and_the_gate_its_parent() -> None:
    made = template(
        in_range("low", "X", None, 10),
        {**quantile_cut("cut", "Y", 0.5, "low"), "parent": "high"},
        in_range("high", "X", 10, None),
    )
    result = run(sample(X=[1, 2, 3, 11, 12], Y=[1, 2.25, 3, 2, 4]), made)
    placement = result.placements["cut"]
    assert (placement.reference, placement.estimate.n_reference, placement.coordinates) == ("low", 3, (2.25,))
    assert members(result, "cut") == [4]
    assert result.gates[-1].geometry.minima == (2.25,)


def test_a_cut_is_moved_off_the_events_of_its_parent() -> None:
    """The median of 1, 2, 3 lies on the event 2: it stays above the cut, which goes half-way down to 1."""
    result = run(sample(X=[1, 2, 3]), template(in_range("low", "X", 0, 100), quantile_cut("cut", "X", 0.5, "low")))
    assert result.placements["cut"].coordinates == (1.5,)
    assert members(result, "cut") == [1, 2]


def test_a_cut_is_moved_in_transformed_values() -> None:
    scale = np.array([100.0, 200.0, 201.0, 300.0])
    gates = (in_range("low", "F1", -9, 9), quantile_cut("cut", "F1", 0.5, "low"))
    made = template(*gates, transforms={"default": LOGICLE})
    transform = made.transform("F1")
    assert transform is not None
    moved = transform(scale)
    on_event = Placement("reference_quantile", "batch", "transformed", "shared", "low", (moved[2],), ESTIMATE)
    result = run(sample(F1=scale), made, frozen={"cut": on_event})
    assert result.placements["cut"].coordinates == (moved[1:3].mean(),)
    assert members(result, "cut") == [2, 3]


def test_a_frozen_placement_is_used_as_it_is() -> None:
    made = template(in_range("low", "X", 0, 100), quantile_cut("cut", "X", 0.5, "low"))
    frozen = Placement("reference_quantile", "batch", "transformed", "shared", "low", (2.5,), ESTIMATE)
    result = run(sample(X=[1, 2, 3]), made, frozen={"cut": frozen})
    assert result.placements == {"cut": frozen}
    assert members(result, "cut") == [2]


def test_a_band_is_placed_on_area_and_height() -> None:
    area = np.linspace(10, 100, 400)
    height = area * (1 + 0.01 * np.sin(np.arange(400) * 1.7))
    height[::10] *= 0.5  # doublets
    band = {"rule": "singlet_band", "k": 6, "area": [5, 200], "min_events": 50}
    made = template({"id": "singlets", "kind": "polygon", "dimensions": ["A", "H"], "place": band})
    result = run(sample(A=area, H=height), made)
    assert members(result, "singlets") == [i for i in range(400) if i % 10]
    vertices = result.gates[0].geometry.vertices
    assert tuple(v for vertex in vertices for v in vertex) == result.placements["singlets"].coordinates
    again = run(sample(A=area, H=height), made, frozen=result.placements)
    assert members(again, "singlets") == members(result, "singlets")


def test_too_few_events_to_place_is_an_error() -> None:
    made = template(in_range("low", "X", 0, 1), quantile_cut("cut", "X", 0.5, "low"))
    with pytest.raises(PlacementError, match=r"PLACEMENT_TOO_FEW_EVENTS: cut: its reference low has 0 events"):
        run(sample(X=[5, 6, 7]), made)


def test_a_fall_back_is_a_finding() -> None:
    made = template(
        in_range("low", "X", 0, 1), quantile_cut("cut", "X", 0.5, "low", otherwise="template_value", template_value=5.5)
    )
    result = run(sample(X=[5, 6, 7]), made)
    assert members(result, "cut") == [1, 2]
    assert [f.code for f in result.findings] == ["PLACEMENT_FALLBACK"]


def test_place_gates_agrees_with_gate_sample_and_gates_no_more_than_it_needs() -> None:
    made = template(
        in_range("a", "X", 2, None),
        quantile_cut("b", "Y", 0.3, "a"),
        {**quantile_cut("c", "X", 0.6, "b"), "parent": "b"},
        quantile_cut("unwanted", "X", 0.5, "nobody"),
        in_range("nobody", "X", None, -99),
    )
    rng = np.random.default_rng(1)
    tube = sample(X=rng.normal(3, 2, 500), Y=rng.normal(0, 1, 500))
    channels = {channel.pnn: channel for channel in tube.channels}
    assert needed_for(made, ["c"]) == {"a", "b"}
    placed = place_gates(tube, made, ["c", "b"], channels=channels, spillover=None)
    assert set(placed) == {"b", "c"}
    with pytest.raises(PlacementError, match="unwanted"):
        run(tube, made)
    without = made.model_copy(update={"gates": made.gates[:3]})
    assert placed == dict(run(tube, without).placements)


def test_placements_of_a_tube_gate_it_again_alike() -> None:
    made = template(in_range("a", "X", 2, None), quantile_cut("b", "Y", 0.3, "a"))
    rng = np.random.default_rng(2)
    tube = sample(X=rng.normal(3, 2, 500), Y=rng.normal(0, 1, 500))
    first = run(tube, made)
    second = run(tube, made, frozen=first.placements)
    assert second.placements == first.placements
    np.testing.assert_array_equal(second["b"].mask, first["b"].mask)


def test_a_recount_with_another_cut_is_the_count_with_that_cut() -> None:
    """Also where a complement rests on a gate that is not applied again, with a value that is not finite."""
    made = template(
        in_range("low", "X", None, 10),
        quantile_cut("cut", "Y", 0.5, "low"),
        boolean("rest", "not", "low", parent="cut"),
    )
    tube = sample(X=[1, 2, 3, 11, NAN], Y=[1, 2, 3, 4, 5])
    channels = {channel.pnn: channel for channel in tube.channels}
    result = run(tube, made)
    for coordinate, expected in ((0.5, 1), (3.5, 1), (4.5, 0)):
        cuts = {"cut": replace(result.placements["cut"], coordinates=(coordinate,))}
        counts = recount(result, tube, made, cuts, channels=channels, spillover=None)
        again = run(tube, made, frozen=cuts)
        assert counts == {p.id: p.n_events for p in again.populations}
        assert counts["rest"] == expected


# --- nothing in, nothing out ------------------------------------------------------------------------------------------


def test_a_tube_without_events() -> None:
    made = template(in_range("a", "F1", 0.2, None), boolean("b", "not", "a", parent="a"), mfi=["F1"])
    result = run(sample(F1=[]), made)
    assert [(p.n_events, p.mask.shape) for p in result.populations] == [(0, (0,)), (0, (0,))]
    assert result.mfi == {"a": {"F1": None}, "b": {"F1": None}}
    assert [counts.sum() for _, counts in result.histograms] == [0]


def test_a_parent_without_events_has_empty_children() -> None:
    polygon = {"id": "c", "kind": "polygon", "dimensions": ["F1", "F2"], "vertices": [[0, 0], [9, 0], [0, 9]]}
    made = template(in_range("a", "F1", 50, None), {**polygon, "parent": "a"}, boolean("d", "not", "c", parent="a"))
    result = run(sample(F1=[1, 2], F2=[1, 2]), made)
    assert [p.n_events for p in result.populations] == [0, 0, 0]


# --- drawings and medians ---------------------------------------------------------------------------------------------


def test_medians_are_of_compensated_scale_values() -> None:
    spillover = Spillover("file:$SPILLOVER", ("F1", "F2"), np.array([[1, 0.1], [0, 1]]))
    made = template(in_range("g", "F1", 0, None), in_range("none", "F1", None, -9), mfi=["F2"])
    result = run(sample(F1=[10, 20, 30, -1, 5], F2=[1, 4, 3, 99, NAN]), made, spillover)
    assert result.mfi == {"g": {"F2": 0.0}, "none": {"F2": None}}
    result = run(sample(F1=[10, 20, 30], F2=[1.5, 4, 7]), made, spillover)
    assert result.mfi["g"]["F2"] == 2.0


def test_a_histogram_holds_every_event_of_its_parent() -> None:
    rng = np.random.default_rng(3)
    tube = sample(X=rng.normal(5e4, 9e4, 3000), F1=rng.normal(0, 1e4, 3000), F2=10 ** rng.uniform(0, 7, 3000))
    polygon = {"kind": "polygon", "dimensions": ["F1", "X"], "vertices": [[0, 0], [1, 0], [1, 9e4]]}
    made = template(
        in_range("a", "X", 0, None),
        {**in_range("b", "F1", 0.1, None, "a"), "against": "F2"},
        {"id": "c", "parent": "b", **polygon},
        transforms={"default": LOGICLE},
    )
    result = run(tube, made)
    assert [(p.population, p.gates, c.size) for p, c in result.histograms] == [
        (None, ("a",), BINS),
        ("a", ("b",), BINS**2),
        ("b", ("c",), BINS**2),
    ]
    for panel, counts in result.histograms:
        assert counts.sum() == (3000 if panel.population is None else result[panel.population].n_events)


def test_a_histogram_counts_events_where_they_are() -> None:
    """Against numpy.histogram2d: exact on a linear axis; on a transformed one a bin's edge may be one bin off."""
    rng = np.random.default_rng(4)
    x, f = rng.uniform(-1e4, 3e5, 5000), rng.normal(1e3, 4e3, 5000)
    gates = {**in_range("g", "F1", 0.5, None), "against": "X"}
    made = template(gates, transforms={"default": LOGICLE})
    ((panel, counts),) = run(sample(F1=f, X=x), made).histograms
    transform = panel.axes[0].transform
    assert transform is not None
    columns = [np.clip(v, a.low, np.nextafter(a.high, -1)) for v, a in zip((transform(f), x), panel.axes, strict=True)]
    expected, *_ = np.histogram2d(*columns, bins=BINS, range=[(a.low, a.high) for a in panel.axes])
    found = counts.reshape(BINS, BINS)
    np.testing.assert_array_equal(found.sum(axis=0), expected.sum(axis=0))
    misplaced = np.abs(np.cumsum(found.sum(axis=1)) - np.cumsum(expected.sum(axis=1))).max()
    assert misplaced < 0.01 * 5000


def test_drawing_values_that_are_not_finite_or_huge_changes_no_total() -> None:
    made = template(in_range("a", "X", None, 10), in_range("b", "F1", None, 0.5), transforms={"default": LOGICLE})
    values = [NAN, INF, -INF, 1e308, -1e308, 1e39, 0]
    for _, counts in run(sample(X=values, F1=values), made).histograms:
        assert counts.sum() == 7


def test_an_and_of_ranges_is_drawn_with_its_ranges() -> None:
    made = template(
        {**in_range("x", "X", 1, None), "show": False},
        {**in_range("y", "Y", 1, None), "show": False},
        boolean("both", "and", "x", "y"),
    )
    ((panel, _),) = run(sample(X=[0, 1], Y=[0, 1]), made).histograms
    assert (panel.gates, panel.dimensions) == (("x", "y", "both"), ("X", "Y"))


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    spillover = Spillover("file:$SPILLOVER", ("F1", "F2"), np.array([[1, 0.1], [0.05, 1]]))
    polygon = {"id": "p", "kind": "polygon", "dimensions": ["F1", "F2"], "vertices": [[0, 0], [0.9, 0.1], [0.3, 0.9]]}
    made = template(
        in_range("low", "X", None, 0.1),
        polygon,
        {**quantile_cut("cut", "F2", 0.4, "low"), "parent": "p"},
        boolean("rest", "not", "cut", parent="p"),
        boolean("mixed", "or", "!cut", "low"),
        in_range("deep", "X", 0, None, "rest"),
        transforms={"default": LOGICLE},
        mfi=["F1"],
    )
    f1, f2 = rng.normal(100, 3000, (2, 200))
    f2[[3, 77]] = NAN
    tube = sample(X=rng.normal(0, 1, 200), F1=f1, F2=f2)
    whole = run(tube, made, spillover)
    monkeypatch.setattr(columns, "BLOCK", block)
    parts = run(tube, made, spillover)
    for one, other in zip(whole.populations, parts.populations, strict=True):
        assert one.n_events == other.n_events
        assert one.n_non_finite == other.n_non_finite
        np.testing.assert_array_equal(one.mask, other.mask)
    for (panel, counts), (same, again) in zip(whole.histograms, parts.histograms, strict=True):
        assert panel == same
        np.testing.assert_array_equal(counts, again)
    assert (whole.placements, whole.mfi, whole.findings) == (parts.placements, parts.mfi, parts.findings)


def test_results_cannot_be_changed() -> None:
    result = run(sample(X=[1]), template(in_range("g", "X", 0, None)))
    with pytest.raises(ValueError, match="read-only"):
        result["g"].mask[0] = False
