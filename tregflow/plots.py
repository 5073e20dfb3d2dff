"""Plotly figures from results: records and table rows in, figures out. No files, no state, nothing counted.

Densities are the histograms binned while gating (all events of the parent), gates are the placed gates of the record,
percentages come from the record's populations. Positions are in transformed space; ticks are labelled in scale values.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from tregflow.drawing import (
    FONT,
    GREY,
    INK,
    MARGIN,
    OUTLIER,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    RED,
    VIRIDIS,
    axis_ticks,
    axis_title,
    column_titles,
    density_top,
    draft_mark,
    endpoint_column,
    format_percent,
    gate_drawings,
    is_outlier,
    label_place,
    natural,
    panel_titles,
    short,
    visit_lines,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tregflow.drawing import Cut, VisitLine, VisitPoint
    from tregflow.record import AxisRecord, HistogramRecord, TubeRecord


def gate_spec(record: TubeRecord, histogram: HistogramRecord, *, density: bool = True) -> dict[str, Any]:
    """One panel as a plain Plotly specification (`data`, `layout`), every text escaped.

    With `density=False` the heat map carries no cells: the report adds them in the browser from the packed counts.
    """
    spec: dict[str, Any] = {"data": [], "layout": _base_layout(PANEL_WIDTH, PANEL_HEIGHT)}
    _add_panel(spec, record, histogram, number=1, domain=(0.0, 1.0), density=density)
    title, line = panel_titles(record, histogram)
    spec["layout"]["title"] = _title(title, line)
    _add_mark(spec, draft_mark(record.template.status))
    return spec


def plot_gate(record: TubeRecord, histogram: HistogramRecord) -> go.Figure:
    """Draw one panel: density of all events of the parent, and its gates as used.

    Parameters
    ----------
    record
        The tube.
    histogram
        One of `record.histograms`.
    """
    return go.Figure(gate_spec(record, histogram))


def plot_path(record: TubeRecord) -> go.Figure:
    """Draw all panels of a tube side by side, in gating order."""
    n = max(len(record.histograms), 1)
    spec: dict[str, Any] = {"data": [], "layout": _base_layout(PANEL_WIDTH * n, PANEL_HEIGHT + 30)}
    spec["layout"]["margin"] = {**MARGIN, "t": MARGIN["t"] + 40}
    gap = 0.0 if n == 1 else 0.2 / n
    width = (1 - gap * (n - 1)) / n
    for i, histogram in enumerate(record.histograms):
        start = i * (width + gap)
        _add_panel(spec, record, histogram, number=i + 1, domain=(start, min(start + width, 1.0)), density=True)
        title, line = panel_titles(record, histogram)
        text = f"<b>{_text(title)}</b><br><span style='font-size:10px;color:{GREY}'>{_text(line)}</span>"
        place = {"x": start, "y": 1.0, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        spec["layout"]["annotations"].append({**place, "text": text, "showarrow": False, "align": "left"})
    spec["layout"]["title"] = _title(record.tube.tube, "")
    _add_mark(spec, draft_mark(record.template.status))
    return go.Figure(spec)


def plot_visits(
    rows: Sequence[Mapping[str, str]], *, titles: Mapping[str, str] | None = None, mark: str = ""
) -> go.Figure:
    """Draw the endpoint over the visits, a line a subject with its interval, and % of CD4+ beside it.

    Points are joined where each visit of the subject has a time of its own (BL, W12); else (00_Ctrl,
    00_SEB) they are only marked.

    Parameters
    ----------
    rows
        Rows of `endpoint.csv` as text.
    titles
        Column -> axis title; without it the title is made from the row's numerator and denominator.
    mark
        `DRAFT` or the like, written on the figure.
    """
    return go.Figure(visits_spec(rows, titles=titles, mark=mark))


def plot_placements(rows: Sequence[Cut], *, title: str = "Cuts over the tubes", mark: str = "") -> go.Figure:
    """Draw each cut over the tubes with 1.96 standard errors, a facet a gate; outliers and failures are marked.

    Parameters
    ----------
    rows
        What `tregflow.batch.place_batch` gives; positions are in transformed space.
    title
        The figure's title.
    mark
        `DRAFT` or the like, written on the figure.
    """
    gates = list(dict.fromkeys(row.gate for row in sorted(rows, key=lambda row: row.gate)))
    tubes = sorted({row.tube for row in rows}, key=natural)
    size = max(len(gates), 1)
    spec: dict[str, Any] = {"data": [], "layout": _base_layout(max(760, 150 + 26 * len(tubes)), 190 + 190 * size)}
    layout = spec["layout"]
    layout |= {"showlegend": True, "margin": {"l": 76, "r": 24, "t": 92, "b": 120}}
    layout["legend"] = {"orientation": "h", "x": 0, "xanchor": "left", "yref": "container", "yanchor": "top"}
    layout["legend"] |= {"y": 1 - 52 / layout["height"]}
    layout["title"] = _title(
        title, "On the transformed axis; bars are 1.96 standard errors, the dotted line the median"
    )
    for number, gate in enumerate(gates):
        top = 1 - number / size
        mine = [row for row in rows if row.gate == gate]
        _add_cuts(spec, mine, tubes, number + 1, (top - 0.86 / size, top), last=number + 1 == size)
    _add_mark(spec, mark)
    return go.Figure(spec)


def figure_page(figure: go.Figure, title: str) -> str:
    """One self-contained HTML page with the figure; it loads nothing, and the same figure gives the same page."""
    config = {"displaylogo": False, "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]]}
    body = figure.to_html(full_html=False, include_plotlyjs=True, div_id="figure", config=config)
    policy = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{html.escape(title)}</title>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def visits_spec(
    rows: Sequence[Mapping[str, str]], *, titles: Mapping[str, str] | None = None, mark: str = ""
) -> dict[str, Any]:
    """`plot_visits` as a plain Plotly specification."""
    names = column_titles(rows) | dict(titles or {})
    spec: dict[str, Any] = {"data": [], "layout": _base_layout(1000, 400)}
    layout = spec["layout"]
    layout.update(showlegend=True, width=None, autosize=True, margin={"l": 64, "r": 16, "t": 44, "b": 44})
    layout["legend"] = {"title": {"text": "Subject"}, "itemsizing": "constant"}
    for number, (column, domain) in enumerate(
        ((endpoint_column(rows), (0.0, 0.46)), ("treg_pct_of_cd4", (0.56, 1.0))), 1
    ):
        visits, lines = visit_lines(rows, column)
        labels = [_text(short(visit, max(60 // len(visits), 4))) for visit in visits]
        tag = "" if number == 1 else str(number)
        spec["data"] += [
            _line_trace(line, i, len(lines), visits, tag, first=number == 1) for i, line in enumerate(lines)
        ]
        layout[f"xaxis{tag}"] = _frame(domain) | {
            "anchor": f"y{tag}", "tickvals": list(range(len(visits))), "ticktext": labels,
            "range": [-0.5, max(len(visits), 1) - 0.5], "title": {"text": "Visit"},
        }  # fmt: skip
        layout[f"yaxis{tag}"] = _frame((0.0, 1.0)) | {
            "anchor": f"x{tag}", "rangemode": "tozero", "title": {"text": _text(names[column])},
            "gridcolor": "#e8ecf0", "showgrid": True,
        }  # fmt: skip
    _add_mark(spec, mark)
    return spec


# --- specification parts ---------------------------------------------------------------------------------------------


def _add_panel(
    spec: dict[str, Any],
    record: TubeRecord,
    histogram: HistogramRecord,
    *,
    number: int,
    domain: tuple[float, float],
    density: bool,
) -> None:
    """Add a panel's density, axes and gates to a specification."""
    tag = "" if number == 1 else str(number)
    layout = spec["layout"]
    spec["data"].append(_density_trace(histogram, tag, density=density))
    layout[f"xaxis{tag}"] = _axis(histogram.x, domain) | {"anchor": f"y{tag}"}
    if histogram.y is None:
        layout[f"yaxis{tag}"] = _frame((0.0, 1.0)) | {
            "anchor": f"x{tag}", "rangemode": "tozero", "title": {"text": "Events per bin", "standoff": 4},
        }  # fmt: skip
    else:
        layout[f"yaxis{tag}"] = _axis(histogram.y, (0.0, 1.0)) | {"anchor": f"x{tag}"}
    refs = {"xref": f"x{tag}", "yref": f"y{tag}" + (" domain" if histogram.y is None else "")}
    for drawing in gate_drawings(record, histogram):
        if drawing.outline:
            path = "M" + "L".join(f"{x:.6g},{y:.6g}" for x, y in drawing.outline) + "Z"
            colour = RED if drawing.fallback else INK
            line = {"color": colour, "width": 1, "dash": "4px,3px"} if drawing.part else {"color": colour, "width": 1.8}
            layout["shapes"] += [
                {"type": "path", "path": path, **refs, "line": {"color": "rgba(255,255,255,.85)", "width": 4}},
                {"type": "path", "path": path, **refs, "line": line},
            ]
        if drawing.outline and not drawing.part:
            x, y, above = label_place(drawing.outline, histogram)
            layout["annotations"].append(
                {
                    **refs, "x": x, "y": y, "yanchor": "bottom" if above else "top", "showarrow": False,
                    "text": f"<b>{_text(drawing.label)}</b>", "font": {"size": 11, "color": colour},
                    "bgcolor": "rgba(255,255,255,.82)", "borderpad": 1,
                }
            )  # fmt: skip


def _density_trace(histogram: HistogramRecord, tag: str, *, density: bool) -> dict[str, Any]:
    """Heat map (log10 of the count, empty bins blank) or, in one dimension, the stepped outline."""
    x, y = histogram.x, histogram.y
    dx = (x.high - x.low) / x.bins
    trace: dict[str, Any] = {"xaxis": f"x{tag}", "yaxis": f"y{tag}", "x0": x.low + dx / 2, "dx": dx, "name": ""}
    if y is None:
        trace |= {"type": "scatter", "mode": "lines", "fill": "tozeroy", "fillcolor": "rgba(33,144,141,.35)"}
        trace |= {"line": {"shape": "hvh", "width": 1.2, "color": "rgb(44,113,142)"}}
        return trace | {"hovertemplate": "%{y:,} events"} | ({"y": histogram.array()} if density else {})
    dy = (y.high - y.low) / y.bins
    scale = [[i / (len(VIRIDIS) - 1), "rgb({},{},{})".format(*c)] for i, c in enumerate(VIRIDIS)]
    trace |= {"type": "heatmap", "y0": y.low + dy / 2, "dy": dy, "zmin": 0, "colorscale": scale, "showscale": False}
    trace |= {"hovertemplate": "%{customdata:,} events in this bin", "hoverongaps": False}
    if density:
        counts = histogram.array().T
        with np.errstate(divide="ignore"):
            levels = np.where(counts > 0, np.log10(counts), np.nan).astype(np.float32)
        trace |= {"z": levels, "customdata": counts, "zmax": density_top(int(counts.max(initial=0)))}
    return trace


def _line_trace(
    line: VisitLine, index: int, n_lines: int, visits: Sequence[str], tag: str, *, first: bool
) -> dict[str, Any]:
    """One subject's line; subjects stand a little apart, so that their intervals do not cover each other."""
    shift = 0.0 if n_lines < 2 else 0.3 * (index / (n_lines - 1) - 0.5)
    replicate = "" if line.replicate in ("", "1") else f", replicate {line.replicate}"
    values = [p.value for p in line.points]
    open_marks = [line.symbol if p.status == "ok" else f"{line.symbol}-open" for p in line.points]
    hover = [f"{_text(short(line.subject, 40) + replicate)}, {_hover(p, visits)}" for p in line.points]
    trace: dict[str, Any] = {
        "type": "scatter", "mode": "lines+markers" if line.joined else "markers",
        "name": _text(short(line.subject, 24) + replicate), "legendgroup": _text(line.subject + replicate),
        "showlegend": first, "x": [p.x + shift for p in line.points], "y": values, "text": hover,
        "hovertemplate": "%{text}<extra></extra>", "xaxis": f"x{tag}", "yaxis": f"y{tag}",
        "line": {"color": line.colour, "width": 2}, "marker": {"symbol": open_marks, "size": 8, "color": line.colour},
    }  # fmt: skip
    if any(p.low is not None for p in line.points):
        up = [(p.high if p.high is not None else p.value) - p.value for p in line.points]
        down = [p.value - (p.low if p.low is not None else p.value) for p in line.points]
        trace["error_y"] = {"type": "data", "array": up, "arrayminus": down, "thickness": 1.3, "width": 3}
    return trace


# What a cut can be, with its mark: the worst last, so that it is drawn on top
_KINDS = {
    "placed": ("circle", "#0072B2"),
    f"outlier, |z| > {OUTLIER:g}": ("diamond", "#D55E00"),
    "fall-back": ("square-open", RED),
    "could not be placed": ("x", RED),
}


def _kind(row: Cut) -> str:
    placed, outlier, fallback, failed = _KINDS
    return failed if row.cut is None else fallback if row.code else outlier if is_outlier(row) else placed


def _add_cuts(
    spec: dict[str, Any],
    rows: Sequence[Cut],
    tubes: Sequence[str],
    number: int,
    domain: tuple[float, float],
    *,
    last: bool,
) -> None:
    """Add a gate's facet; only the last one names the tubes."""
    tag = "" if number == 1 else str(number)
    cuts = [row.cut for row in rows if row.cut is not None]
    low, high = _cut_range(rows)
    shown = {trace["name"] for trace in spec["data"]}
    for kind in _KINDS:
        mine = sorted((row for row in rows if _kind(row) == kind), key=lambda row: tubes.index(row.tube))
        if mine:
            # a cut that is not there is marked at the foot of its facet
            spec["data"].append(_cut_trace(kind, mine, tubes, low + 0.05 * (high - low), first=kind not in shown))
            spec["data"][-1] |= {"xaxis": f"x{tag}", "yaxis": f"y{tag}"}
    labels = [_text(short(tube, 28)) if last else "" for tube in tubes]
    spec["layout"][f"xaxis{tag}"] = _frame((0.0, 1.0)) | {
        "anchor": f"y{tag}", "tickvals": list(range(len(tubes))), "ticktext": labels, "tickangle": -45,
        "range": [-0.6, max(len(tubes), 1) - 0.4], "gridcolor": "#e8ecf0", "showgrid": True,
    }  # fmt: skip
    spec["layout"][f"yaxis{tag}"] = _frame(domain) | {
        "anchor": f"x{tag}", "range": [low, high], "nticks": 6,
        "title": {"text": _text(rows[0].gate), "font": {"size": 12}},
    }  # fmt: skip
    if cuts:
        middle = float(np.median(cuts))
        line = {"color": GREY, "width": 1, "dash": "dot"}
        spec["layout"]["shapes"].append(
            {"type": "line", "xref": f"x{tag} domain", "yref": f"y{tag}", "x0": 0, "x1": 1, "y0": middle, "y1": middle,
             "line": line, "layer": "below"}
        )  # fmt: skip


def _cut_trace(kind: str, rows: Sequence[Cut], tubes: Sequence[str], foot: float, *, first: bool) -> dict[str, Any]:
    symbol, colour = _KINDS[kind]
    trace: dict[str, Any] = {
        "type": "scatter", "mode": "markers", "name": kind, "legendgroup": kind, "showlegend": first,
        "x": [tubes.index(row.tube) for row in rows], "y": [foot if row.cut is None else row.cut for row in rows],
        "text": [_text(_cut_hover(row)) for row in rows], "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": symbol, "size": 9, "color": colour, "line": {"width": 1.6, "color": colour}},
    }  # fmt: skip
    ends = [(row.cut, row.low, row.high) for row in rows]
    trace["error_y"] = {
        "type": "data", "thickness": 1.3, "width": 4, "color": colour,
        "array": [0 if c is None or h is None else h - c for c, _, h in ends],
        "arrayminus": [0 if c is None or lo is None else c - lo for c, lo, _ in ends],
    }  # fmt: skip
    return trace


def _cut_hover(row: Cut) -> str:
    text = f"{short(row.tube, 40)}, {row.rule}"
    if row.cut is not None:
        text += f": {row.cut:.4f}"
    if row.low is not None and row.high is not None:
        text += f" ({row.low:.4f} to {row.high:.4f})"
    if row.z is not None:
        text += f", z = {round(row.z, 1) + 0.0:.1f}"
    return f"{text}, {row.code}: {short(row.message, 120)}" if row.code else text


def _cut_range(rows: Sequence[Cut]) -> tuple[float, float]:
    """Ends of a facet: all its cuts, and the bars that are no longer than the cuts are apart."""
    cuts = [row.cut for row in rows if row.cut is not None]
    if not cuts:
        return 0.0, 1.0
    span = max(max(cuts) - min(cuts), 0.02)
    bars = [end for row in rows for end in (row.low, row.high) if end is not None]
    drawn = cuts + [end for end in bars if min(cuts) - span <= end <= max(cuts) + span]
    return min(drawn) - 0.2 * span, max(drawn) + 0.15 * span


def _hover(point: VisitPoint, visits: Sequence[str]) -> str:
    text = f"{short(visits[point.x], 40)}: {format_percent(point.value)} %"
    if point.low is not None and point.high is not None:
        text += f" ({format_percent(point.low)}–{format_percent(point.high)})"
    return _text(text if point.status == "ok" else f"{text}, {point.status}")


def _base_layout(width: int, height: int) -> dict[str, Any]:
    return {
        "template": "none", "width": width, "height": height, "margin": dict(MARGIN), "showlegend": False,
        "font": {"family": FONT, "size": 11, "color": INK}, "paper_bgcolor": "#fff", "plot_bgcolor": "#fff",
        "shapes": [], "annotations": [], "hovermode": "closest", "dragmode": "zoom",
    }  # fmt: skip


def _frame(domain: tuple[float, float]) -> dict[str, Any]:
    """Shared by all axes: a closed thin frame, ticks outside, no grid."""
    return {
        "domain": list(domain), "showline": True, "mirror": True, "linewidth": 1, "linecolor": "#9aa5b1",
        "ticks": "outside", "tickangle": 0, "ticklen": 4, "tickcolor": "#9aa5b1", "showgrid": False, "zeroline": False,
    }  # fmt: skip


def _axis(axis: AxisRecord, domain: tuple[float, float]) -> dict[str, Any]:
    ticks = axis_ticks(axis)
    return _frame(domain) | {
        "range": [axis.low, axis.high], "tickvals": list(ticks.positions), "ticktext": list(ticks.labels),
        "minor": {"tickmode": "array", "tickvals": list(ticks.minor), "ticks": "outside", "ticklen": 2},
        "title": {"text": _text(axis_title(axis.dimension)), "standoff": 4, "font": {"size": 11}},
        "tickfont": {"size": 10},
    }  # fmt: skip


def _title(title: str, line: str) -> dict[str, Any]:
    text = f"<b>{_text(title)}</b>"
    if line:
        text += f"<br><span style='font-size:11px;color:{GREY}'>{_text(line)}</span>"
    return {
        "text": text,
        "font": {"size": 13},
        "x": 0.03,
        "xref": "container",
        "xanchor": "left",
        "y": 0.97,
        "yanchor": "top",
    }


def _add_mark(spec: dict[str, Any], mark: str) -> None:
    if mark:
        place = {"x": 1, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "bottom"}
        style = {"showarrow": False, "font": {"size": 10, "color": RED}}
        spec["layout"]["annotations"].append({**place, **style, "text": f"<b>{_text(mark)}</b>"})


def _text(text: str) -> str:
    """Text as Plotly shall print it: Plotly reads a few HTML tags and entities in its texts, so they are escaped."""
    return html.escape(text, quote=False)
