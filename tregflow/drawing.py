"""What is drawn where: axis ticks, gate outlines, labels, visits in order. No Plotly, no files, nothing counted.

The figures of `plots` and the static drawings of the report are both made from this, so that they cannot disagree.
Positions are in transformed space; ticks are labelled in scale values.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tregflow.transforms import Asinh, Hyperlog, Linear, Log, Logicle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tregflow.record import (
        AxisRecord,
        DimensionRecord,
        GateRecord,
        HistogramRecord,
        TransformRecord,
        TubeRecord,
    )

Point = tuple[float, float]
Interval = tuple[float | None, float | None]

TRANSFORMS: dict[str, Any] = {"linear": Linear, "log": Log, "asinh": Asinh, "logicle": Logicle, "hyperlog": Hyperlog}
# Viridis (matplotlib, CC0): even steps of lightness, readable with every common colour blindness and in grey.
VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
    (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip
# Okabe and Ito's colours without yellow and black, in an order that keeps neighbours apart.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6B4C9A")
LINE_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down")
INK, RED, GREY = "#15202b", "#b3001b", "#5b6773"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
PANEL_WIDTH, PANEL_HEIGHT = 260, 294
MARGIN = {"l": 50, "r": 12, "t": 50, "b": 46}
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
OUTLIER = 3.0  # robust SDs from the median of the tubes
_TICK_GAP = 0.085  # of the axis: closer labels would touch


@dataclass(frozen=True, slots=True)
class Ticks:
    """Where an axis is ticked, in transformed space, with labels in scale values; `minor` ticks have no label."""

    positions: tuple[float, ...]
    labels: tuple[str, ...]
    minor: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GateDrawing:
    """A gate on one panel: its outline in the panel's coordinates, closed, and what is written beside it.

    `outline` is empty for a gate that these axes cannot show (boolean, or a dimension that is not drawn). On a
    one-dimensional panel y runs from 0 to 1, the height of the panel.
    """

    gate: GateRecord
    outline: tuple[Point, ...]
    label: str
    part: bool
    fallback: bool


@dataclass(frozen=True, slots=True)
class VisitPoint:
    """One tube's percentage; `low` and `high` are its interval, None where the table has none."""

    x: int
    value: float
    low: float | None
    high: float | None
    status: str


@dataclass(frozen=True, slots=True)
class VisitLine:
    """One subject (and replicate) over the visits; `joined` where each of its visits has a time of its own."""

    subject: str
    replicate: str
    colour: str
    symbol: str
    points: tuple[VisitPoint, ...]
    joined: bool


class Cut(Protocol):
    """One cut on one tube, as `tregflow.batch.PlacedCut` has it; None where the tube could not place it."""

    @property
    def tube(self) -> str:
        """The tube."""

    @property
    def gate(self) -> str:
        """The gate's id."""

    @property
    def rule(self) -> str:
        """The rule that placed it."""

    @property
    def cut(self) -> float | None:
        """Where it is, in transformed space."""

    @property
    def low(self) -> float | None:
        """The cut moved down by 1.96 standard errors."""

    @property
    def high(self) -> float | None:
        """The cut moved up by 1.96 standard errors."""

    @property
    def z(self) -> float | None:
        """Robust SDs from the median of the tubes."""

    @property
    def code(self) -> str:
        """What was wrong; empty where it was placed by its rule."""

    @property
    def message(self) -> str:
        """What was wrong, in words."""


def is_outlier(cut: Cut) -> bool:
    """Whether a placed cut stands apart from those of the other tubes."""
    return cut.z is not None and abs(cut.z) > OUTLIER


def format_percent(value: float) -> str:
    """Two decimals, or two significant digits below 0.1, without a percent sign."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.2g}"


def short(text: str, most: int) -> str:
    """Cut a long name in its middle, so that its beginning and its end still tell it from others."""
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def population_title(record: TubeRecord, population: str) -> str:
    """Name a population; its id where it has no title, `all events` where it has no id."""
    if not population:
        return "all events"
    titles = {p.id: p.title for p in record.populations} | {g.id: g.title for g in record.gates if g.title}
    return titles.get(population) or population


def percent_of_parent(record: TubeRecord, gate: GateRecord) -> float | None:
    """Events of a gate's population as a percentage of its parent's (of all events without one); None if unknown."""
    inside = record.count(gate.id)
    parent = record.n_events if gate.parent is None else record.count(gate.parent)
    return None if inside is None or not parent else 100 * inside / parent


def scale_value(dimension: DimensionRecord, position: float) -> float:
    """Scale value at a position in transformed space."""
    return float(_transform(dimension.transform).inverse(np.array([position]))[0]) if _curved(dimension) else position


def format_scale(value: float) -> str:
    """Scale value in words: four significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def axis_title(dimension: DimensionRecord) -> str:
    """Marker, channel and transform: `CD25 (PE-Cy7-A), logicle`."""
    kind = "linear" if dimension.transform is None else dimension.transform.kind
    same = dimension.name in ("", dimension.pnn)
    return f"{dimension.pnn}, {kind}" if same else f"{dimension.name} ({dimension.pnn}), {kind}"


def axis_ticks(axis: AxisRecord) -> Ticks:
    """Ticks of an axis: round scale values, placed where the transform puts them."""
    transform = axis.dimension.transform
    if not _curved(axis.dimension):
        values = round_values(axis.low, axis.high)
        return Ticks(tuple(values), tuple(_plain_label(v) for v in values), ())
    call = _transform(transform)
    if transform is not None and transform.kind == "linear":
        low, high = call.inverse(np.array([axis.low, axis.high]))
        values = round_values(float(low), float(high))
        return Ticks(tuple(float(p) for p in call(np.array(values))), tuple(_plain_label(v) for v in values), ())
    signed = transform is not None and transform.kind != "log"
    return _decade_ticks(axis, call, signed=signed)


def gate_outline(
    gate: GateRecord, histogram: HistogramRecord, operands: Sequence[GateRecord] = ()
) -> tuple[Point, ...]:
    """Corners of a gate in the panel's coordinates, in order; open sides end at the panel's edge.

    Empty where the axes cannot show the gate. A boolean is shown if it is an AND of ranges among `operands`: the
    rectangle in which they overlap.
    """
    axes = [histogram.x] if histogram.y is None else [histogram.x, histogram.y]
    if gate.kind == "boolean":
        return _overlap(gate, histogram, operands)
    places = [next((i for i, d in enumerate(gate.dimensions) if _same(d, a.dimension)), None) for a in axes]
    on_axes = [p for p in places if p is not None]
    if len(set(on_axes)) != len(gate.dimensions):
        return ()
    if gate.kind in ("rectangle", "quadrant"):
        limits = gate_intervals(gate)
        sides = [
            _clipped((None, None) if p is None else limits[p], a.low, a.high) for p, a in zip(places, axes, strict=True)
        ]
        return _box(sides[0], sides[1] if len(sides) == 2 else (0.0, 1.0))
    if len(on_axes) != 2:
        return ()
    corners = gate.geometry["vertices"] if gate.kind == "polygon" else _ellipse(gate.geometry)
    return tuple((float(c[on_axes[0]]), float(c[on_axes[1]])) for c in corners)


def _overlap(gate: GateRecord, histogram: HistogramRecord, operands: Sequence[GateRecord]) -> tuple[Point, ...]:
    """Outline of an AND of plain rectangles; empty for every other boolean."""
    parts = [next((o for o in operands if o.id == name), None) for name in gate.geometry["operands"]]
    outlines = [gate_outline(o, histogram) for o in parts if o is not None and o.kind == "rectangle"]
    plain = gate.geometry["operator"] == "and" and not any(gate.geometry["complements"])
    if not plain or not all(outlines) or len(outlines) != len(parts):
        return ()
    sides = [(max(min(p[i] for p in o) for o in outlines), min(max(p[i] for p in o) for o in outlines)) for i in (0, 1)]
    low, high = zip(*sides, strict=True)
    return _box(*sides) if all(a <= b for a, b in zip(low, high, strict=True)) else ()


def _box(x: Point, y: Point) -> tuple[Point, ...]:
    return ((x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]))


def gate_drawings(record: TubeRecord, histogram: HistogramRecord) -> tuple[GateDrawing, ...]:
    """List the gates that belong to a panel, in the record's order; ranges that an AND combines are `part` of it."""
    here = [g for g in record.gates if g.id in histogram.gates]
    outlines = {g.id: gate_outline(g, histogram, here) for g in here}
    parts = {o for g in here if g.kind == "boolean" and outlines[g.id] for o in g.geometry["operands"]}
    fallen = {g.id for g in here if g.placement is not None and g.placement.status == "fallback"}
    drawings = []
    for gate in here:
        percent = percent_of_parent(record, gate)
        label = "not counted" if percent is None else f"{format_percent(percent)} %"
        fallback = bool(fallen & {gate.id, *gate.geometry.get("operands", ())})
        drawings.append(GateDrawing(gate, outlines[gate.id], label, part=gate.id in parts, fallback=fallback))
    return tuple(drawings)


def label_place(outline: Sequence[Point], histogram: HistogramRecord) -> tuple[float, float, bool]:
    """Where a gate's label goes: x (middle), y, and whether it stands above y (else hangs below it).

    Both are kept inside the panel, so that a label is never cut off.
    """
    y_low, y_high = (0.0, 1.0) if histogram.y is None else (histogram.y.low, histogram.y.high)
    x_low, x_high = histogram.x.low, histogram.x.high
    xs = [min(max(p[0], x_low), x_high) for p in outline]
    top = min(max(p[1] for p in outline), y_high)
    edge = 0.13 * (x_high - x_low)
    x = min(max((min(xs) + max(xs)) / 2, x_low + edge), x_high - edge)
    return x, max(top, y_low), top < y_high - 0.1 * (y_high - y_low)


def panel_titles(record: TubeRecord, histogram: HistogramRecord) -> tuple[str, str]:
    """Two lines of plain text for a panel: the gate and its percentage of WHAT, or what is drawn."""
    parent = population_title(record, histogram.population)
    whole = [d for d in gate_drawings(record, histogram) if not d.part]
    if len(whole) == 1:
        return whole[0].gate.title or whole[0].gate.id, f"{whole[0].label} of {parent}"
    count = record.n_events if not histogram.population else record.count(histogram.population)
    return parent, "" if count is None else f"% of {parent}, {count:,} events"


def draft_mark(status: str) -> str:
    """`DRAFT`, `FLAGGED`, `RETIRED` (or several), as everything made with such a template has to say; else empty."""
    return " ".join(word for word in ("DRAFT", "FLAGGED", "RETIRED") if word.lower() in status.lower())


def visit_order(visits: Sequence[str]) -> list[str]:
    """Sort visits as they happen, without repeats.

    Screening, baseline, then by time (D3 < W2 < W12 < M6), then other names with their numbers in numeric order, then
    follow-up and end of study.
    """
    return sorted(set(visits), key=_visit_key)


def visit_time(visit: str) -> tuple[float, ...] | None:
    """Where a visit stands in time, to tell visits that follow each other from kinds of tube of one time.

    Groups as in `visit_order`; in a name such as `24`, `V3`, `C1D15` or `00_SEB` the numbers of the first part that has
    any. None for a name that says nothing of time.
    """
    group, days, _, _ = _visit_key(visit)
    if group != _OTHER:
        return group, days
    parts = (re.findall(r"\d+(?:\.\d+)?", part) for part in re.split(r"[^A-Za-z0-9.]+", visit))
    numbers = next((found for found in parts if found), None)
    return None if numbers is None else (_OTHER, *map(float, numbers))


def visit_lines(rows: Sequence[Mapping[str, str]], column: str) -> tuple[list[str], list[VisitLine]]:
    """Visits in order, and a line a subject (and replicate) of a percentage column of the endpoint table.

    Only stained tubes count; an empty cell is a gap, never a zero. The interval is the combined one, else the counting
    one; it belongs to `endpoint_pct` and to the columns that repeat it, so `treg_pct_of_cd4` has none.
    """
    stained = [r for r in rows if r["role"] == "stained"]
    visits = visit_order([r["visit"] for r in stained])
    subjects = sorted({r["subject_id"] for r in stained}, key=natural)
    lines = []
    for key in sorted({(subjects.index(r["subject_id"]), r["replicate"]) for r in stained}):
        number, replicate = key
        mine = [r for r in stained if (r["subject_id"], r["replicate"]) == (subjects[number], replicate) and r[column]]
        points = tuple(
            VisitPoint(
                visits.index(r["visit"]),
                float(r[column]),
                *((None, None) if column == "treg_pct_of_cd4" else _interval_of(r)),
                r["status"],
            )
            for r in sorted(mine, key=lambda r: visits.index(r["visit"]))
        )
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        symbol = LINE_SYMBOLS[number // len(LINE_COLOURS) % len(LINE_SYMBOLS)]
        times = [visit_time(visits[p.x]) for p in points]
        joined = None not in times and len(set(times)) == len(times) > 1
        if points:
            lines.append(VisitLine(subjects[number], replicate, colour, symbol, points, joined))
    return visits, lines


def endpoint_column(rows: Sequence[Mapping[str, str]]) -> str:
    """Name the column that holds the endpoint: the registered one where that is Treg % of lymphocytes."""
    registered = all((r["numerator"], r["denominator"]) == ("treg", "lymphocytes") for r in rows)
    return "treg_pct_of_lymphocytes" if registered else "endpoint_pct"


def column_titles(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Title of each percentage column; it always says percent of what."""
    named = next((r for r in rows if r["numerator"]), {"numerator": "numerator", "denominator": "denominator"})
    return {
        "treg_pct_of_lymphocytes": "Treg % of lymphocytes",
        "endpoint_pct": f"{named['numerator']} % of {named['denominator']}",
        "treg_pct_of_cd4": "Treg % of CD4+",
    }


def density_top(largest: int) -> float:
    """log10 of the count that gets the last colour; never 0, or a panel of single events would have no scale."""
    return max(math.log10(max(largest, 1)), 1.0)


def round_values(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten between two ends, at most `most`."""
    power = 10.0 ** math.floor(math.log10(max(high - low, 1e-300) / most))
    step = next(s * power for s in (1, 2, 2.5, 5, 10, 20) if (high - low) / (s * power) <= most)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


# --- geometry and ticks ----------------------------------------------------------------------------------------------


def _curved(dimension: DimensionRecord) -> bool:
    """Whether positions differ from scale values (a ratio is drawn as the number it is)."""
    return dimension.transform is not None and dimension.transform.kind in TRANSFORMS


def _transform(transform: TransformRecord | None) -> Any:
    if transform is None:
        raise ValueError("no transform")
    return TRANSFORMS[transform.kind](**transform.parameters)


def _same(first: DimensionRecord, second: DimensionRecord) -> bool:
    """Whether two dimensions are the same axis; the template may name them differently."""
    return (first.pnn, first.compensated, first.transform) == (second.pnn, second.compensated, second.transform)


def gate_intervals(gate: GateRecord) -> list[Interval]:
    """Per dimension the interval of a rectangle or quadrant cell; None = open."""
    if gate.kind == "rectangle":
        return list(zip(gate.geometry["minima"], gate.geometry["maxima"], strict=True))
    cells: list[Interval] = []
    for dividers, cell in zip(gate.geometry["dividers"], gate.geometry["cells"], strict=True):
        edges = [None, *dividers, None]
        cells.append((None, None) if cell is None else (edges[cell], edges[cell + 1]))
    return cells


def _clipped(interval: Interval, low: float, high: float) -> Point:
    start, stop = interval
    return (
        low if start is None else min(max(start, low), high),
        high if stop is None else min(max(stop, low), high),
    )


def _ellipse(geometry: Mapping[str, Any], n: int = 72) -> list[list[float]]:
    """Points on (x - mean)' inverse(covariance) (x - mean) = distance_square (Gating-ML 2.0, section 5.3)."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    root = np.linalg.cholesky(np.asarray(geometry["covariance"], dtype=float))
    circle = math.sqrt(geometry["distance_square"]) * np.stack([np.cos(angle), np.sin(angle)])
    ring: list[list[float]] = (np.asarray(geometry["mean"], dtype=float)[:, None] + root @ circle).T.tolist()
    return ring


def _plain_label(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:.4g}"


def _decade_ticks(axis: AxisRecord, call: Any, *, signed: bool) -> Ticks:
    """Powers of ten (and 0, and negative ones) that have room for a label; the rest, and 2-9 times them, unlabelled."""
    decades = np.array([10.0**k for k in range(7, -1 if signed else -4, -1)])
    wanted = [*([0.0] if signed else []), *decades, *([-v for v in decades] if signed else [])]
    steps = np.outer(decades, np.arange(1, 10)).ravel()
    every = np.concatenate([steps, -steps]) if signed else steps
    span = axis.high - axis.low
    kept: dict[float, str] = {}
    for value, position in zip(wanted, call(np.array(wanted)), strict=True):
        gap = _TICK_GAP * span * (1.5 if value < 0 else 1)  # the minus sign needs room
        room = all(abs(position - other) >= gap for other in kept)
        if axis.low <= position <= axis.high and room:
            kept[float(position)] = _decade_label(value)
    minor = sorted(float(p) for p in call(every) if axis.low <= p <= axis.high and p not in kept)
    return Ticks(tuple(sorted(kept)), tuple(kept[p] for p in sorted(kept)), _thinned(minor, span / 150))


def _thinned(positions: Sequence[float], gap: float) -> tuple[float, ...]:
    """Positions at least `gap` apart: around zero the small decades would run into a block."""
    kept: list[float] = []
    for position in positions:
        if not kept or position - kept[-1] >= gap:
            kept.append(position)
    return tuple(kept)


def _decade_label(value: float) -> str:
    if value == 0:
        return "0"
    exponent = round(math.log10(abs(value)))
    text = "1" if exponent == 0 else "10" if exponent == 1 else f"10{str(exponent).translate(_SUPERSCRIPT)}"
    return f"−{text}" if value < 0 else text


# --- visits ----------------------------------------------------------------------------------------------------------

_OTHER = 3  # visits whose names are neither a word for a time nor a unit of time with a number
_DAYS = {"d": 1.0, "day": 1.0, "w": 7.0, "wk": 7.0, "week": 7.0, "m": 30.44, "mo": 30.44, "month": 30.44,
         "y": 365.25, "year": 365.25}  # fmt: skip


def _visit_key(visit: str) -> tuple[int, float, list[tuple[int, float, str]], str]:
    """Sort key of a visit's name: group, days from baseline, natural order of the text, the text."""
    word = visit.strip().lower()
    timed = re.fullmatch(r"([a-z]+)[\s_.-]*(-?\d+(?:\.\d+)?)", word)
    group, days = _OTHER, 0.0
    if word.startswith(("scr", "screen")):
        group = 0
    elif word in ("bl", "base", "baseline", "pre", "predose", "pre-dose"):
        group = 1
    elif timed and timed[1].removesuffix("s") in _DAYS:
        group, days = 2, _DAYS[timed[1].removesuffix("s")] * float(timed[2])
    elif word.startswith(("fu", "follow", "eot", "eos", "end", "early", "et")):
        group = 4
    return group, days, natural(visit), visit


def natural(text: str) -> list[tuple[int, float, str]]:
    """Sort key with numbers in numeric order: S2 before S10."""
    return [(0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in re.split(r"(\d+)", text) if part]


def _interval_of(row: Mapping[str, str]) -> Interval:
    """The combined interval of a row of the endpoint table, else the counting one."""
    kind = "combined" if row["endpoint_pct_combined_low"] else "count"
    return _number(row[f"endpoint_pct_{kind}_low"]), _number(row[f"endpoint_pct_{kind}_high"])


def _number(text: str) -> float | None:
    return float(text) if text else None
