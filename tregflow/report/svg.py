"""Static drawings: what the page shows without JavaScript, before a figure is scrolled to, and on paper."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from tregflow.drawing import (
    INK,
    MARGIN,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    RED,
    VIRIDIS,
    axis_ticks,
    axis_title,
    density_top,
    draft_mark,
    format_percent,
    gate_drawings,
    label_place,
    panel_titles,
    round_values,
    short,
    visit_lines,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tregflow.drawing import GateDrawing, VisitLine
    from tregflow.record import AxisRecord, HistogramRecord, TubeRecord

WIDTH = PANEL_WIDTH - MARGIN["l"] - MARGIN["r"]
HEIGHT = PANEL_HEIGHT - MARGIN["t"] - MARGIN["b"]
_LEVELS = 128


def density_png(counts: NDArray[np.uint32]) -> bytes:
    """8-bit palette PNG of a histogram `(x bins, y bins)`: log-coloured, white where empty, y upwards."""
    top = density_top(int(counts.max(initial=0)))
    logs = np.log10(np.maximum(counts, 1))
    levels = np.where(counts > 0, 1 + np.rint(logs / top * (_LEVELS - 1)), 0).astype(np.uint8)
    rows = np.ascontiguousarray(levels.T[::-1])
    lines = np.zeros((rows.shape[0], rows.shape[1] + 1), dtype=np.uint8)  # each line starts with filter type 0
    lines[:, 1:] = rows
    position = np.linspace(0, len(VIRIDIS) - 1, _LEVELS)
    channels = np.array(VIRIDIS, dtype=float).T
    palette = np.stack([np.interp(position, np.arange(len(VIRIDIS)), c) for c in channels], axis=1)
    palette_bytes = b"\xff\xff\xff" + np.rint(palette).astype(np.uint8).tobytes()
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", palette_bytes), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def panel_svg(record: TubeRecord, histogram: HistogramRecord, key: str) -> Markup:
    """Draw one panel. The plot area has the id `key`, so that the contact sheet can show it again at no cost."""
    title, line = panel_titles(record, histogram)
    mark = draft_mark(record.template.status)
    parts = [
        Markup(
            '<svg class="panel" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
            'role="img" aria-label="{label}"><text x="{x}" y="17" class="t1">{title}</text>'
            '<text x="{x}" y="33" class="t2">{line}</text>'
        ).format(w=PANEL_WIDTH, h=PANEL_HEIGHT, x=8, title=title, line=line, label=f"{title}: {line}"),
        Markup('<g transform="translate({l} {t})">').format_map(MARGIN),
        Markup('<svg id="{}" width="{}" height="{}">').format(key, WIDTH, HEIGHT),
        _density(histogram),
        *(_gate(d, histogram) for d in gate_drawings(record, histogram) if d.outline),
        Markup("</svg>"),
        _axes(histogram),
        Markup("</g>"),
    ]
    if mark:
        right = PANEL_WIDTH - MARGIN["r"]
        parts.append(Markup('<text x="{}" y="{}" class="mark">{}</text>').format(right, MARGIN["t"] - 4, mark))
    return Markup("").join([*parts, Markup("</svg>")])


def visits_svg(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str], mark: str) -> Markup:
    """Draw percentages over the visits, one chart a column (column -> title), with a legend of subjects."""
    charts = [_visits_chart(rows, c, title, 60 + 500 * i) for i, (c, title) in enumerate(columns.items())]
    lines = [line for column in columns for line in visit_lines(rows, column)[1]]
    colours = {line.subject: line.colour for line in lines}
    legend = Markup("").join(
        Markup('<text x="{}" y="{}" fill="{}" class="legend"><title>{}</title>● {}</text>').format(
            60 + 122 * (i % 8), 376 + 18 * (i // 8), colour, subject, short(subject, 14)
        )
        for i, (subject, colour) in enumerate(colours.items())
    )
    height = 384 + 18 * math.ceil(len(colours) / 8)
    return Markup(
        '<svg class="visits" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1040 {}" role="img" aria-label="{}">'
        '{}{}<text x="1030" y="14" class="mark">{}</text></svg>'
    ).format(height, " and ".join(columns.values()) + " over visits", Markup("").join(charts), legend, mark)


def _density(histogram: HistogramRecord) -> Markup:
    counts = histogram.array()
    if histogram.y is not None:
        data = base64.b64encode(density_png(counts)).decode()
        return Markup(
            '<image width="{}" height="{}" preserveAspectRatio="none" href="data:image/png;base64,{}"/>'
        ).format(WIDTH, HEIGHT, data)
    top = max(int(counts.max(initial=0)), 1) * 1.05
    step = WIDTH / len(counts)
    heights = [HEIGHT * (1 - c / top) for c in counts.tolist()]
    corners = " ".join(f"V{h:.1f}H{(i + 1) * step:.1f}" for i, h in enumerate(heights))
    return Markup('<path d="M0,{h}{c}V{h}Z" class="steps"/>').format(h=HEIGHT, c=corners)


def _gate(drawing: GateDrawing, histogram: HistogramRecord) -> Markup:
    x, y = _scaler(histogram.x, WIDTH), _y_scaler(histogram)
    points = " ".join(f"{x(p[0]):.1f},{HEIGHT - y(p[1]):.1f}" for p in drawing.outline)
    colour = RED if drawing.fallback else INK
    outline = Markup('<polygon points="{0}" class="halo"/><polygon points="{0}" class="{1}" stroke="{2}"/>').format(
        points, "gate part" if drawing.part else "gate", colour
    )
    if drawing.part:
        return outline
    label_x, label_y, above = label_place(drawing.outline, histogram)
    return outline + Markup('<text x="{:.1f}" y="{:.1f}" fill="{}" class="label">{}</text>').format(
        x(label_x), HEIGHT - y(label_y) + (-4 if above else 13), colour, drawing.label
    )


def _axes(histogram: HistogramRecord) -> Markup:
    parts = [Markup('<rect width="{}" height="{}" class="frame"/>').format(WIDTH, HEIGHT)]
    parts += _ticks(histogram.x, vertical=False)
    if histogram.y is None:
        title = "Events per bin"
        top = max(int(histogram.array().max(initial=0)), 1) * 1.05
        for value in round_values(0, top, 4):
            y = HEIGHT * (1 - value / top)
            parts.append(_tick(y, f"{value:,.0f}", vertical=True))
    else:
        title = axis_title(histogram.y.dimension)
        parts += _ticks(histogram.y, vertical=True)
    titles = Markup(
        '<text x="{}" y="{}" class="axis">{}</text>'
        '<text transform="translate({} {}) rotate(-90)" class="axis">{}</text>'
    ).format(WIDTH / 2, HEIGHT + 34, axis_title(histogram.x.dimension), -37, HEIGHT / 2, title)
    return Markup("").join([*parts, titles])


def _ticks(axis: AxisRecord, *, vertical: bool) -> list[Markup]:
    size = HEIGHT if vertical else WIDTH
    place = _scaler(axis, size)
    ticks = axis_ticks(axis)
    labelled = [
        _tick(size - place(p) if vertical else place(p), label, vertical=vertical)
        for p, label in zip(ticks.positions, ticks.labels, strict=True)
    ]
    if vertical:
        minor = "".join(f"M0,{size - place(p):.1f}h-2" for p in ticks.minor)
    else:
        minor = "".join(f"M{place(p):.1f},{HEIGHT}v2" for p in ticks.minor)
    return [*labelled, Markup('<path d="{}" class="tick"/>').format(minor)] if minor else labelled


def _tick(at: float, label: str, *, vertical: bool) -> Markup:
    if vertical:
        return Markup('<path d="M0,{0:.1f}h-4" class="tick"/><text x="-6" y="{1:.1f}" class="n end">{2}</text>').format(
            at, at + 3.5, label
        )
    return Markup('<path d="M{0:.1f},{1}v4" class="tick"/><text x="{0:.1f}" y="{2}" class="n mid">{3}</text>').format(
        at, HEIGHT, HEIGHT + 15, label
    )


class _Scaler:
    """Position on an axis -> distance from its start in pixels."""

    def __init__(self, low: float, high: float, size: float) -> None:
        self.low, self.factor = low, size / (high - low)

    def __call__(self, position: float) -> float:
        return (position - self.low) * self.factor


def _scaler(axis: AxisRecord, size: float) -> _Scaler:
    return _Scaler(axis.low, axis.high, size)


def _y_scaler(histogram: HistogramRecord) -> _Scaler:
    return _Scaler(0, 1, HEIGHT) if histogram.y is None else _scaler(histogram.y, HEIGHT)


def _visits_chart(rows: Sequence[Mapping[str, str]], column: str, title: str, left: int) -> Markup:
    visits, lines = visit_lines(rows, column)
    width, height = 440, 300
    highest = max((p.high or p.value for line in lines for p in line.points), default=1.0)
    y = _Scaler(0, 1.08 * max(highest, 1e-6), height)
    x = _Scaler(-0.5, max(len(visits), 1) - 0.5, width)
    parts = [Markup('<g transform="translate({} 24)"><rect width="{}" height="{}" class="frame"/>').format(
        left, width, height)]  # fmt: skip
    grid = Markup('<path d="M0,{0:.1f}h440" class="grid"/><text x="-6" y="{1:.1f}" class="n end">{2:.4g}</text>')
    values = round_values(0, 1.08 * max(highest, 1e-6), 5)
    parts += [grid.format(height - y(v), height - y(v) + 4, v) for v in values]
    for i, visit in enumerate(visits):
        label = short(visit, max(70 // len(visits), 4))
        parts.append(
            Markup('<text x="{:.1f}" y="318" class="n mid"><title>{}</title>{}</text>').format(x(i), visit, label)
        )
    for i, line in enumerate(lines):
        parts.append(_visits_line(line, x, y, height, 0 if len(lines) < 2 else 0.3 * (i / (len(lines) - 1) - 0.5)))
    parts.append(Markup('<text transform="translate(-42 150) rotate(-90)" class="axis">{}</text></g>').format(title))
    return Markup("").join(parts)


def _visits_line(line: VisitLine, x: _Scaler, y: _Scaler, height: int, shift: float) -> Markup:
    corners = " ".join(f"{x(p.x + shift):.1f},{height - y(p.value):.1f}" for p in line.points if line.joined)
    bars = "".join(
        f"M{x(p.x + shift):.1f},{height - y(p.low):.1f}V{height - y(p.high):.1f}"
        for p in line.points
        if p.low is not None and p.high is not None
    )
    marks = Markup("").join(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}" stroke="{}"><title>{}</title></circle>').format(
            x(p.x + shift),
            height - y(p.value),
            line.colour if p.status == "ok" else "#fff",
            line.colour,
            f"{line.subject}: {format_percent(p.value)} % ({p.status})",
        )
        for p in line.points
    )
    joint = Markup('<polyline points="{}"/>').format(corners) if corners else ""
    return Markup('<g fill="none" stroke="{}" stroke-width="2">{}<path d="{}"/>{}</g>').format(
        line.colour, joint, bars, marks
    )
