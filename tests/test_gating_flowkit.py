"""The engine on random templates and on real and simulated tubes: its properties, and FlowKit event by event."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flowkit
import numpy as np
import pytest
from flowkit_oracle import memberships, strategy_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import ROOT, real_data

from tregflow.compensation import Spillover
from tregflow.gates import Polygon
from tregflow.gating import GatingResult, Tube, gate_sample, open_tube, place_gates
from tregflow.gating.raster import raster_of
from tregflow.placement import share_cut
from tregflow.sample import sample_from_array
from tregflow.template.gatingml import write_gatingml
from tregflow.template.model import RangeGate, Template
from tregflow.template.registry import load_template

Gate = dict[str, Any]
Array = NDArray[np.float64]
CHANNELS = ("FSC-A", "SSC-A", "FL1-A", "FL2-A", "FL3-A", "FL4-A")
SPILLED = CHANNELS[2:]
TRANSFORMS: tuple[Gate, ...] = (
    {"kind": "linear", "T": 262144.0, "A": 5000.0},
    {"kind": "log", "T": 262144.0, "M": 4.5},
    {"kind": "asinh", "T": 262144.0, "M": 4.2, "A": 0.3},
    {"kind": "logicle", "T": 262144.0, "W": 0.5, "M": 4.5, "A": 0.0},
    {"kind": "logicle", "T": 4194304.0, "W": 1.1, "M": 5.2, "A": 0.4},
    {"kind": "hyperlog", "T": 262144.0, "W": 0.6, "M": 4.5, "A": 0.0},
)


# --- random templates on random tubes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A tube and a template for it."""

    template: Template
    events: Array
    spillover: Spillover | None

    def gated(self, events: Array | None = None, *, draw: bool = True) -> GatingResult:
        tube = sample_from_array("random.fcs", self.events if events is None else events, [(c, "") for c in CHANNELS])
        channels = {channel.pnn: channel for channel in tube.channels}
        return gate_sample(tube, self.template, channels=channels, spillover=self.spillover, draw=draw)


@st.composite
def cases(draw: st.DrawFn, *, placed: bool = True) -> Case:
    """Up to seven gates of all kinds, anywhere in a tree, with coordinates where the events are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    events = _events(rng, 1500)
    matrix = np.eye(4) + rng.uniform(0, 0.2, (4, 4)) * (1 - np.eye(4))
    spillover = Spillover("file:$SPILLOVER", SPILLED, matrix) if draw(st.booleans()) else None
    chosen = {name: draw(st.sampled_from([None, *TRANSFORMS])) for name in CHANNELS}
    transforms = {name: spec for name, spec in chosen.items() if spec is not None}
    spread = _spread(events, spillover, _template([_ANY], transforms))
    gates: list[Gate] = []
    for number in range(draw(st.integers(1, 7))):
        known = [gate["id"] for gate in gates]
        kinds = ["range", "rectangle", "polygon", "ellipsoid", "quadrant"]
        kinds += (["placed"] if placed else []) + (["boolean", "boolean"] if known else [])
        kind = draw(st.sampled_from(kinds))
        most = {"range": 1, "placed": 1, "polygon": 2}.get(kind, 3)
        least = {"range": 1, "placed": 1, "quadrant": 1}.get(kind, 2)
        dimensions = draw(st.lists(st.sampled_from(CHANNELS), min_size=least, max_size=most, unique=True))
        gate = {"id": f"g{number}", "parent": draw(st.sampled_from([None, *known]))}
        if kind == "boolean":
            if gate["parent"] is not None and len(known) == 1:
                gate["parent"] = None
            # FlowKit's Gating-ML parser fails on a boolean gate whose operand is its parent
            others = [name for name in known if name != gate["parent"]]
            operator = draw(st.sampled_from(["and", "or", "not"] if len(others) > 1 else ["not"]))
            n = 1 if operator == "not" else draw(st.integers(2, len(others)))
            names = draw(st.permutations(others))[:n]
            operands = [draw(st.sampled_from(["", "!"])) + name for name in names]
            gate |= {"kind": kind, "operator": operator, "operands": operands}
        else:
            gate |= _SHAPES[kind](rng, dimensions, spread)
        gates.append(gate)
    return Case(_template(gates, transforms), events, spillover)


_ANY: Gate = {"id": "g", "kind": "range", "dimensions": ["FSC-A"], "min": 0}


def _template(gates: list[Gate], transforms: Mapping[str, Gate]) -> Template:
    document = {
        "schema_version": 1,
        "id": "random",
        "version": "0.1.0",
        "title": "Random",
        "endpoint": {"numerator": gates[0]["id"], "denominator": gates[0]["id"]},
        "panel": {name: {"aliases": [name], "kind": "scatter"} for name in CHANNELS},
        "compensation": {"source": "unmixed"},
        "transforms": transforms,
        "gates": gates,
    }
    return Template.model_validate_json(json.dumps(document))


def _events(rng: np.random.Generator, n: int) -> Array:
    """Scatter, and fluorescence of dim and bright events, as float32 holds them: FlowKit keeps no more."""
    scatter = rng.normal(9e4, 4e4, (n, 2))
    bright = rng.random((n, 4)) < 0.4
    fluorescence = np.where(bright, 10 ** rng.normal(3.7, 0.5, (n, 4)), rng.normal(0, 300, (n, 4)))
    return np.column_stack([scatter, fluorescence]).astype(np.float32).astype(np.float64)


def _spread(events: Array, spillover: Spillover | None, template: Template) -> dict[str, Array]:
    """By channel the sorted values in the gates' space, to put coordinates where events are."""
    values = events.copy()
    if spillover is not None:
        values[:, 2:] = np.linalg.solve(spillover.matrix.T, events[:, 2:].T).T
    spread = {}
    for name, column in zip(CHANNELS, values.T, strict=True):
        transform = template.transform(name)
        moved = column if transform is None else transform(column)
        spread[name] = np.sort(moved[np.isfinite(moved)])
    return spread


def _somewhere(rng: np.random.Generator, values: Array, n: int) -> list[float]:
    """Increasing numbers between the events of the bulk, on none of them."""
    at = np.sort(rng.choice(len(values) - 1, n, replace=False))
    weight = rng.uniform(0.2, 0.8, n)
    return [float(v) for v in (1 - weight) * values[at] + weight * values[at + 1]]


def _range(rng: np.random.Generator, dimensions: list[str], spread: Mapping[str, Array]) -> Gate:
    low, high = _somewhere(rng, spread[dimensions[0]], 2)
    bounds = [{"min": low}, {"max": high}, {"min": low, "max": high}][rng.integers(3)]
    return {"kind": "range", "dimensions": dimensions, **bounds}


def _placed(rng: np.random.Generator, dimensions: list[str], spread: Mapping[str, Array]) -> Gate:
    """A cut at a quantile of the parent, on an event of it or between two; elsewhere where the parent is empty."""
    quantile = {"rule": "reference_quantile", "side": ["above", "below"][rng.integers(2)], "q": rng.uniform(0.2, 0.8)}
    (fallback,) = _somewhere(rng, spread[dimensions[0]], 1)
    otherwise = {"min_events": 2, "otherwise": "template_value", "template_value": fallback}
    return {"kind": "range", "dimensions": dimensions, "place": quantile | otherwise}


def _rectangle(rng: np.random.Generator, dimensions: list[str], spread: Mapping[str, Array]) -> Gate:
    ranges = {d: _range(rng, [d], spread) for d in dimensions}
    bounds = {end: {d: r[end] for d, r in ranges.items() if end in r} for end in ("min", "max")}
    return {"kind": "rectangle", "dimensions": dimensions, **bounds}


def _polygon(rng: np.random.Generator, dimensions: list[str], spread: Mapping[str, Array]) -> Gate:
    n = int(rng.integers(3, 9))
    columns = [rng.permutation(_somewhere(rng, spread[d], n)).tolist() for d in dimensions]
    return {"kind": "polygon", "dimensions": dimensions, "vertices": list(zip(*columns, strict=True))}


def _ellipsoid(rng: np.random.Generator, dimensions: list[str], spread: Mapping[str, Array]) -> Gate:
    mean = [_somewhere(rng, spread[d], 1)[0] for d in dimensions]
    width = np.array([np.diff(np.quantile(spread[d], (0.2, 0.8)))[0] for d in dimensions])
    mixing = np.eye(len(dimensions)) + rng.uniform(-0.6, 0.6, (len(dimensions), len(dimensions)))
    covariance = (mixing @ mixing.T) * np.outer(width, width)
    return {
        "kind": "ellipsoid",
        "dimensions": dimensions,
        "mean": mean,
        "covariance": ((covariance + covariance.T) / 2).tolist(),
        "distance_square": rng.uniform(0.05, 2),
    }


def _quadrant(rng: np.random.Generator, dimensions: list[str], spread: Mapping[str, Array]) -> Gate:
    dividers = [_somewhere(rng, spread[d], int(rng.integers(1, 3))) for d in dimensions]
    cells = [int(rng.integers(-1, len(values) + 1)) for values in dividers]
    if max(cells) < 0:
        cells[0] = 0
    return {"kind": "quadrant", "dimensions": dimensions, "dividers": dividers, "cells": cells}


_SHAPES = {
    "range": _range,
    "placed": _placed,
    "rectangle": _rectangle,
    "polygon": _polygon,
    "ellipsoid": _ellipsoid,
    "quadrant": _quadrant,
}


# --- properties -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(cases())
def test_children_are_subsets_and_drawing_changes_no_count(case: Case) -> None:
    drawn, plain = case.gated(), case.gated(draw=False)
    assert (plain.histograms, plain.mfi) == ((), {})
    for population, same in zip(drawn.populations, plain.populations, strict=True):
        np.testing.assert_array_equal(population.mask, same.mask)
        assert population.n_events == same.n_events == np.count_nonzero(population.mask)
        if population.parent is not None:
            assert not (population.mask & ~drawn[population.parent].mask).any()
    for panel, counts in drawn.histograms:
        assert counts.sum() == (1500 if panel.population is None else drawn[panel.population].n_events)


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(0, 2**32 - 1))
def test_shuffling_the_events_shuffles_the_masks(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.events))
    shuffled = case.gated(case.events[order], draw=False)
    for population in case.gated(draw=False).populations:
        np.testing.assert_array_equal(shuffled[population.id].mask, population.mask[order])


@settings(max_examples=30, deadline=None)
@given(cases(placed=False))
def test_another_event_far_away_changes_no_other(case: Case) -> None:
    """With fixed gates; a rule's quantile may move with any event of its reference."""
    far = np.full((1, len(CHANNELS)), 3e38)
    more = case.gated(np.vstack([case.events[:700], far, case.events[700:]]), draw=False)
    for population in case.gated(draw=False).populations:
        np.testing.assert_array_equal(np.delete(more[population.id].mask, 700), population.mask)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_a_range_decided_in_scale_values_is_decided_as_in_transformed_values(case: Case) -> None:
    result = case.gated(draw=False)
    columns = case.events.copy()
    if case.spillover is not None:
        columns[:, 2:] = (case.spillover.inverse.T @ case.events[:, 2:].T).T
    for placed in result.gates:
        if placed.kind != "rectangle":
            continue
        points = []
        for dimension in placed.dimensions:
            values = columns[:, CHANNELS.index(dimension.channel)]
            points.append(values if dimension.transform is None else dimension.transform(values))
        parent = True if placed.parent is None else result[placed.parent].mask
        np.testing.assert_array_equal(result[placed.id].mask, placed.geometry.contains(points) & parent)


@st.composite
def polygons(draw: st.DrawFn) -> Polygon:
    """Of every size and place, thin ones and lattice ones among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(3, 10))
    if draw(st.booleans()):
        corners = rng.integers(-4, 5, (n, 2)).astype(np.float64)
    else:
        size = 10.0 ** rng.uniform(-12, 12, 2)
        corners = rng.normal(0, 1, (n, 2)) * size + rng.normal(0, 1, 2) * size * 10.0 ** rng.uniform(-2, 12)
    vertices = tuple((float(x), float(y)) for x, y in corners)
    assume(len(set(vertices)) >= 3)
    return Polygon(vertices)


@settings(max_examples=150, deadline=None)
@given(polygons(), st.integers(0, 2**32 - 1))
def test_the_raster_of_a_polygon_holds_what_the_polygon_holds(polygon: Polygon, seed: int) -> None:
    """Anywhere in the box, on its lattice, and on and beside the vertices and edges."""
    rng = np.random.default_rng(seed)
    corners = np.array(polygon.vertices)
    low, high = corners.min(axis=0), corners.max(axis=0)
    anywhere = low + rng.random((2000, 2)) * (high - low)
    lattice = low + np.stack(np.meshgrid(*[np.linspace(0, 1, 33)] * 2), axis=-1).reshape(-1, 2) * (high - low)
    ends = np.roll(corners, 1, axis=0)
    edges = (corners + rng.random((50, 1, 1)) * (ends - corners)).reshape(-1, 2)
    near = [np.nextafter(edges, side) for side in (-np.inf, np.inf)]
    points = np.clip(np.vstack([anywhere, lattice, corners, edges, *near]), low, high).T
    np.testing.assert_array_equal(raster_of(polygon).contains(points), polygon.contains(points))


# --- FlowKit ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(cases())
def test_random_templates_agree_with_flowkit(case: Case) -> None:
    """Event by event, through FlowKit's own API and through the Gating-ML that we export."""
    ours = case.gated(draw=False)
    tube = flowkit.Sample(case.events, sample_id="random", channel_labels=list(CHANNELS), subsample=1)
    _assert_equal(ours, case.spillover, tube)


def _assert_equal(ours: GatingResult, spillover: Spillover | None, tube: flowkit.Sample) -> None:
    document = write_gatingml(ours.gates, spillover, {})
    routes = {
        "API": strategy_of(ours.gates, spillover),
        "Gating-ML": flowkit.parse_gating_xml(io.BytesIO(document)),
    }
    for route, strategy in routes.items():
        theirs = memberships(strategy, tube, [population.id for population in ours.populations])
        for population in ours.populations:
            different = np.flatnonzero(theirs[population.id] != population.mask)
            assert not different.size, f"{population.id}, by {route}: {different.size} events differ, {different[:5]}"


@pytest.fixture(scope="module")
def sample_batch() -> dict[str, tuple[Tube, GatingResult]]:
    """The stained tubes of sample_fcs, gated as `tregflow gate` does: cuts that a batch shares are shared."""
    with (ROOT / "sample_fcs" / "manifest.csv").open(encoding="utf-8", newline="") as file:
        stained = [row for row in csv.DictReader(file) if row["role"] == "stained"]
    batches: dict[str, list[Path]] = defaultdict(list)
    for row in stained:
        batches[row["batch_id"]].append(ROOT / "sample_fcs" / row["file"])
    return {name: found for paths in batches.values() for name, found in _gated_together(paths).items()}


def _gated_together(paths: list[Path]) -> dict[str, tuple[Tube, GatingResult]]:
    template = load_template("treg-foxp3-pbmc@0.1.0").template
    tubes = [open_tube(path, template) for path in paths]
    shared = [g for g in template.gates if isinstance(g, RangeGate) and g.place and g.place.share == "batch"]
    placed = [
        place_gates(t.sample, template, [g.id for g in shared], channels=t.channels, spillover=t.spillover)
        for t in tubes
    ]
    frozen = {
        g.id: share_cut(g.place, [each[g.id] for each in placed], template.transform(g.dimensions[0]))
        for g in shared
        if g.place is not None
    }
    return {
        path.name: (
            tube,
            gate_sample(tube.sample, template, channels=tube.channels, spillover=tube.spillover, frozen=frozen),
        )
        for path, tube in zip(paths, tubes, strict=True)
    }


SIMULATED = [f"S{subject:02d}_{visit}_stained.fcs" for subject in (1, 2, 3) for visit in ("BL", "W12", "W24")]


@pytest.mark.parametrize("name", SIMULATED)
def test_every_population_of_every_simulated_tube_agrees_with_flowkit(
    name: str, sample_batch: Mapping[str, tuple[Tube, GatingResult]]
) -> None:
    """Issue 2, shown by, item 4. FlowKit reads the file, and compensates with the tube's own spillover."""
    tube, ours = sample_batch[name]
    assert tube.spillover is not None
    theirs = flowkit.Sample(ROOT / "sample_fcs" / name, subsample=1)
    assert sorted(sample_batch) == sorted(SIMULATED)
    assert len(ours.populations) == 10
    _assert_equal(ours, tube.spillover, theirs)


AURORA = [f"2025_07_26_AB_02_INF{n}_00_{arm}.fcs" for n in ("052", "100", "179") for arm in ("Ctrl", "SEB")]


@pytest.mark.parametrize("name", AURORA)
def test_every_population_of_every_real_tube_agrees_with_flowkit(name: str) -> None:
    """Issue 2, shown by, item 4. These tubes were unmixed on the cytometer: nothing is compensated."""
    path = real_data("treg_foxp3_aurora", name)
    template = load_template("treg-foxp3-aurora@0.1.0").template
    tube = open_tube(path, template)
    ours = gate_sample(tube.sample, template, channels=tube.channels, spillover=tube.spillover)
    assert sorted(p.name for p in path.parent.glob("*.fcs")) == AURORA
    _assert_equal(ours, None, flowkit.Sample(path, subsample=1))
