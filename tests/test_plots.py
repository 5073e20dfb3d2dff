"""Plots: what is drawn is what the record says, in the right place."""

from __future__ import annotations

import itertools
import math

import numpy as np
import plotly.graph_objects as go
import pytest
from records import PLACEMENT, axis, dimension, endpoint_row, gate, make_record

from tregflow.drawing import (
    axis_ticks,
    axis_title,
    draft_mark,
    endpoint_column,
    format_percent,
    gate_drawings,
    gate_outline,
    label_place,
    panel_titles,
    scale_value,
    short,
    visit_lines,
    visit_order,
    visit_time,
)
from tregflow.plots import plot_gate, plot_path, plot_visits
from tregflow.record import AxisRecord, HistogramRecord, TransformRecord, pack_counts
from tregflow.transforms import Logicle


def panel(x: str = "CD25", y: str | None = "FOXP3") -> HistogramRecord:
    counts = pack_counts(np.ones(16 if y is None else 256, dtype=np.uint32))
    return HistogramRecord(population="cd4", gates=(), x=axis(x), y=axis(y) if y else None, counts=counts)


def test_density_holds_every_event_and_no_colour_where_there_is_none() -> None:
    record = make_record()
    for histogram in record.histograms:
        trace = plot_gate(record, histogram).data[0]
        if histogram.y is None:
            assert np.array_equal(trace.y, histogram.array())
            continue
        assert np.array_equal(trace.customdata, histogram.array().T)
        assert np.array_equal(np.isnan(trace.z), trace.customdata == 0)
        assert np.nansum(10.0**trace.z) == pytest.approx(histogram.array().sum(), rel=1e-5)


def test_heat_map_cells_stand_where_the_bins_are() -> None:
    histogram = panel()
    trace = plot_gate(make_record(), histogram).data[0]
    assert trace.x0 - trace.dx / 2 == pytest.approx(histogram.x.low)
    assert trace.x0 + 15.5 * trace.dx == pytest.approx(histogram.x.high)
    assert trace.y0 - trace.dy / 2 == pytest.approx(-0.1)


def test_percentages_come_from_the_counts_of_the_record() -> None:
    record = make_record()
    # a record whose counts disagree with its bins: the figure must say the record's
    populations = tuple(p.model_copy(update={"n_events": 7 if p.id == "treg" else 1000}) for p in record.populations)
    record = record.model_copy(update={"populations": populations})
    figure = plot_gate(record, record.histograms[5])
    assert "0.70 % of CD4+ T cells" in figure.layout.title.text
    assert [a.text for a in figure.layout.annotations] == ["<b>0.70 %</b>"]


def test_shapes_are_the_gates_of_the_record() -> None:
    record = make_record()
    figure = plot_gate(record, record.histograms[2])
    vertices = next(g for g in record.gates if g.id == "lymphocytes").geometry["vertices"]
    path = "M" + "L".join(f"{x:.6g},{y:.6g}" for x, y in vertices) + "Z"
    assert [s.path for s in figure.layout.shapes] == [path, path]


def test_open_sides_end_at_the_edge_and_axes_may_be_swapped() -> None:
    histogram = panel()
    corner = gate("g", "cd4", "rectangle", ("FOXP3", "CD25"), {"minima": (0.3, 0.5), "maxima": (None, 0.9)})
    assert gate_outline(corner, histogram) == ((0.5, 0.3), (0.9, 0.3), (0.9, 1.05), (0.5, 1.05))


def test_range_on_two_axes_and_on_one() -> None:
    cut = gate("g", "cd4", "rectangle", ("FOXP3",), {"minima": (0.3,), "maxima": (None,)})
    assert gate_outline(cut, panel()) == ((-0.1, 0.3), (1.05, 0.3), (1.05, 1.05), (-0.1, 1.05))
    assert gate_outline(cut, panel("FOXP3", None)) == ((0.3, 0.0), (1.05, 0.0), (1.05, 1.0), (0.3, 1.0))


def test_quadrant_cell_is_drawn_between_its_dividers() -> None:
    geometry = {"dividers": ((0.2, 0.6), (0.4,)), "cells": (1, None)}
    cell = gate("g", "cd4", "quadrant", ("CD25", "FOXP3"), geometry)
    assert gate_outline(cell, panel()) == ((0.2, -0.1), (0.6, -0.1), (0.6, 1.05), (0.2, 1.05))


def test_polygon_keeps_its_vertices_on_swapped_axes() -> None:
    triangle = gate("g", "cd4", "polygon", ("FOXP3", "CD25"), {"vertices": ((0.1, 0.2), (0.3, 0.4), (0.5, 0.9))})
    assert gate_outline(triangle, panel()) == ((0.2, 0.1), (0.4, 0.3), (0.9, 0.5))


def test_ellipse_satisfies_its_own_equation() -> None:
    covariance = np.array([[0.02, 0.008], [0.008, 0.01]])
    geometry = {"mean": (0.5, 0.4), "covariance": covariance.tolist(), "distance_square": 2.5}
    outline = np.array(gate_outline(gate("g", "cd4", "ellipsoid", ("CD25", "FOXP3"), geometry), panel()))
    apart = outline - [0.5, 0.4]
    assert np.einsum("ni,ij,nj->n", apart, np.linalg.inv(covariance), apart) == pytest.approx(2.5)


@pytest.mark.parametrize(
    "hidden",
    [
        gate("g", "cd4", "rectangle", ("CD127",), {"minima": (0.3,), "maxima": (None,)}),
        gate("g", "cd4", "rectangle", ("CD25", "CD127"), {"minima": (0.3, 0.1), "maxima": (None, None)}),
        gate("g", "cd4", "boolean", (), {"operator": "not", "operands": ("x",), "complements": (False,)}),
        gate("g", "cd4", "boolean", (), {"operator": "and", "operands": ("x", "z"), "complements": (False, False)}),
    ],
    ids=["other axis", "one axis missing", "not", "operands not here"],
)
def test_gate_that_the_axes_cannot_show_has_no_outline(hidden: object) -> None:
    assert gate_outline(hidden, panel()) == ()  # type: ignore[arg-type]


def test_and_of_two_ranges_is_drawn_as_their_overlap_and_labelled_once() -> None:
    record = make_record()
    first, second, both = gate_drawings(record, record.histograms[5])
    cut25, cut3 = Logicle(262144, 0.5, 4.5, 0)(np.array([1500.0, 900.0]))
    assert (first.part, second.part, both.part) == (True, True, False)
    assert both.outline[0] == pytest.approx((cut25, cut3))
    assert both.outline[2] == (1.05, 1.05)
    assert panel_titles(record, record.histograms[5])[0] == "CD25+FOXP3+ Treg"


def test_fallback_of_an_operand_shows_on_the_gate() -> None:
    record = make_record(placement=PLACEMENT.model_copy(update={"status": "fallback"}))
    assert [d.fallback for d in gate_drawings(record, record.histograms[5])] == [False, True, True]
    figure = plot_gate(record, record.histograms[5])
    assert figure.layout.shapes[-1].line.color == figure.layout.annotations[0].font.color == "#b3001b"


def test_label_stays_inside_the_panel() -> None:
    histogram = panel()
    for corners in (((-9.0, -9.0), (-8.0, 9.0)), ((8.0, 0.0), (9.0, 0.2))):
        x, y, _ = label_place(corners, histogram)
        assert -0.1 < x < 1.05
        assert -0.1 <= y <= 1.05


@pytest.mark.parametrize("kind", ["logicle", "hyperlog", "asinh", "log", "linear", None])
def test_ticks_stand_where_the_transform_puts_their_label(kind: str | None) -> None:
    parameters = {"logicle": "TWMA", "hyperlog": "TWMA", "asinh": "TMA", "log": "TM", "linear": "TA"}
    values = {"T": 262144.0, "W": 0.5, "M": 4.5, "A": 0.0}
    transform = kind and TransformRecord(kind=kind, parameters={k: values[k] for k in parameters[kind]})
    dim = dimension("CD25").model_copy(update={"transform": transform or None})
    low, high = (0.0, 262144.0) if kind is None else (0.0, 1.0)
    ticks = axis_ticks(AxisRecord(dimension=dim, low=low, high=high, bins=16))
    digits = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹−", "0123456789-")
    assert len(ticks.labels) >= 4
    for position, label in zip(ticks.positions, ticks.labels, strict=True):
        sign = -1.0 if label.startswith("−") else 1.0
        word = label.lstrip("−")
        if word.endswith("M"):
            value = 1e6 * float(word[:-1])
        elif word.endswith("k"):
            value = 1000 * float(word[:-1])
        else:
            raised = word[:2] == "10" and len(word) > 2 and word[2:].translate(digits).isdigit()
            value = 10.0 ** int(word[2:].translate(digits)) if raised else float(word)
        assert scale_value(dim, position) == pytest.approx(sign * value, rel=1e-6, abs=1e-6)


def test_tick_labels_do_not_touch() -> None:
    ticks = axis_ticks(axis("CD25"))
    assert {"0", "10³", "10⁴", "10⁵"} <= set(ticks.labels)
    assert min(np.diff(ticks.positions)) >= 0.085 * 1.15
    assert all(-0.1 <= p <= 1.05 for p in (*ticks.positions, *ticks.minor))


def test_axis_title_names_marker_channel_and_transform() -> None:
    assert axis_title(dimension("CD25")) == "CD25 (PE-Cy7-A), logicle"
    assert axis_title(dimension("FSC-A")) == "FSC-A, linear"


def test_path_has_all_panels_side_by_side() -> None:
    record = make_record()
    figure = plot_path(record)
    domains = [figure.layout[f"xaxis{'' if i == 0 else i + 1}"].domain for i in range(7)]
    assert len(figure.data) == len(record.histograms) == 7
    assert all(a[1] < b[0] for a, b in itertools.pairwise(domains))
    assert plot_path(make_record(gated=False)).data == ()


def test_draft_is_on_every_figure() -> None:
    record = make_record(template_status="draft")
    for figure in (plot_gate(record, record.histograms[0]), plot_path(record), plot_visits([], mark="DRAFT")):
        assert any("DRAFT" in a.text for a in figure.layout.annotations)
    assert draft_mark("released, flagged: wrong clone") == "FLAGGED"
    assert draft_mark("released") == ""


def test_visits_are_in_the_order_they_happen() -> None:
    wrong = ["W24", "EOT", "V10", "M12", "W2", "V9", "BL", "D3", "W12", "Screening", "Week 4", "W2"]
    assert visit_order(wrong) == ["Screening", "BL", "D3", "W2", "Week 4", "W12", "W24", "M12", "V9", "V10", "EOT"]
    assert visit_order(["W12", "Baseline", "W-1"]) == ["Baseline", "W-1", "W12"]


def rows() -> list[dict[str, str]]:
    tubes = [make_record(f"{s}_{v}", subject=s, visit=v, seed=i, n=9000) for i, (s, v) in enumerate(
        [("S10", "W12"), ("S2", "BL"), ("S2", "W12"), ("S10", "BL")])]  # fmt: skip
    return [endpoint_row(t) for t in tubes]


def test_visit_lines_keep_gaps_and_leave_controls_out() -> None:
    table = rows()
    table[2] |= {"treg_pct_of_lymphocytes": "", "status": "not_evaluable"}
    table.append(endpoint_row(make_record("f", visit="W99", role="fmo:FOXP3", status="control")))
    visits, lines = visit_lines(table, "treg_pct_of_lymphocytes")
    assert visits == ["BL", "W12"]
    assert [(line.subject, [p.x for p in line.points]) for line in lines] == [("S2", [0]), ("S10", [0, 1])]
    assert lines[0].points[0].value == float(table[1]["treg_pct_of_lymphocytes"])


def test_visit_figure_has_the_tables_intervals_and_says_percent_of_what() -> None:
    table = rows()
    figure = plot_visits(table)
    assert figure.layout.yaxis.title.text == "Treg % of lymphocytes"
    assert figure.layout.yaxis2.title.text == "Treg % of CD4+"
    line = figure.data[0]
    assert line.y[0] + line.error_y.array[0] == pytest.approx(float(table[1]["endpoint_pct_count_high"]))
    assert line.y[0] - line.error_y.arrayminus[0] == pytest.approx(float(table[1]["endpoint_pct_count_low"]))
    assert figure.data[2].error_y.array is None


def test_other_denominator_is_named() -> None:
    table = [endpoint_row(make_record(denominator="cd3"))]
    assert endpoint_column(table) == "endpoint_pct"
    assert plot_visits(table).layout.yaxis.title.text == "treg % of cd3"


def test_names_are_never_read_as_markup() -> None:
    table = rows()
    for row in table:
        row["subject_id"] = "<b>x</b>"
    assert plot_visits(table).data[0].name == "&lt;b&gt;x&lt;/b&gt;"


def test_figures_leave_the_record_alone_and_repeat() -> None:
    record = make_record()
    before = record.model_dump_json()
    first, second = (plot_path(record).to_json() for _ in range(2))
    assert first == second
    assert record.model_dump_json() == before
    assert isinstance(plot_path(record), go.Figure)


def test_percent_format() -> None:
    assert [format_percent(v) for v in (0, 0.01234, 0.5, 12.345, 100)] == ["0.00", "0.012", "0.50", "12.35", "100.00"]
    assert not math.isnan(float(format_percent(1e-9)))


def test_long_names_are_cut_in_the_middle_and_the_chart_keeps_its_room() -> None:
    assert short("S01", 12) == "S01"
    assert short("S01" + "x" * 300 + "end", 12) == "S01xxxxx…end"
    table = [row | {"subject_id": row["subject_id"] + "x" * 300} for row in rows()]
    assert all(len(trace.name) <= 24 for trace in plot_visits(table).data)
    assert len({trace.legendgroup for trace in plot_visits(table).data}) == 2


@pytest.mark.parametrize(
    ("visits", "joined"),
    [
        (("BL", "W12", "M6"), True),
        (("BL", "24", "48"), True),
        (("V1", "V2"), True),
        (("C1D1", "C1D15"), True),
        (("BL", "EOT"), True),
        (("00_Ctrl", "00_SEB"), False),
        (("W12_Ctrl", "W12_SEB"), False),
        (("24_CD3", "24_CD28"), False),
        (("Week 4", "W4"), False),
        (("Ctrl", "SEB"), False),
        (("BL",), False),
    ],
)
def test_only_visits_with_a_time_of_their_own_are_joined(visits: tuple[str, ...], joined: bool) -> None:
    table = [endpoint_row(make_record(v, subject="S1", visit=v)) for v in visits]
    _, (line,) = visit_lines(table, "treg_pct_of_lymphocytes")
    assert line.joined is joined
    assert {trace.mode for trace in plot_visits(table).data} == {"lines+markers" if joined else "markers"}


def test_time_of_a_visit() -> None:
    assert visit_time("W4") == visit_time("Week 4") != visit_time("D27")
    assert visit_time("00_SEB") == visit_time("00_Ctrl")
    assert visit_time("SEB") is None
