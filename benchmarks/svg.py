"""Small static drawings for the pages: frames, lines, dots and error bars as SVG text, the same bytes each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

INK, GREY, LIGHT = "#15202b", "#5b6773", "#d5dae0"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
FONT = "font-family='Helvetica, Arial, sans-serif' font-size='12'"
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 30, 46


@dataclass(slots=True)
class Frame:
    """One panel at `(left, top)` with its data ranges; marks are added, then `text` gives its SVG."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    marks: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the data is drawn."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * self.width, self.top + (1 - up) * self.height

    def axes(self, title: str, x_title: str, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[float]) -> None:
        """Frame, ticks and titles."""
        bottom = self.top + self.height
        self.words(self.left, self.top - 12, title, weight="bold")
        for value, label in x_ticks:
            across, _ = self.at(value, self.y[0])
            self.marks.append(_line((across, bottom), (across, bottom + 4), GREY))
            self.words(across, bottom + 17, label, anchor="middle", colour=GREY)
        for value in y_ticks:
            _, up = self.at(self.x[0], value)
            self.marks.append(_line((self.left, up), (self.left + self.width, up), LIGHT))
            self.words(self.left - 6, up + 4, f"{value:g}", anchor="end", colour=GREY)
        self.words(self.left + self.width / 2, bottom + 36, x_title, anchor="middle")
        self.marks.append(_line((self.left, bottom), (self.left + self.width, bottom), INK))

    def words(
        self, x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, weight: str = "normal"
    ) -> None:
        """Text at a place of the drawing."""
        look = f"text-anchor='{anchor}' fill='{colour}' font-weight='{weight}'"
        self.marks.append(f"<text x='{x:.1f}' y='{y:.1f}' {look}>{escape(text)}</text>")

    def curve(self, points: Sequence[tuple[float, float]], colour: str, *, fill: bool = False) -> None:
        """A line through points of the data."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*p) for p in points))
        filled = f"fill='{colour}' fill-opacity='0.25'" if fill else "fill='none'"
        self.marks.append(f"<polyline points='{path}' {filled} stroke='{colour}' stroke-width='1.6'/>")

    def upright(self, x: float, colour: str, *, dashed: bool = False) -> None:
        """A vertical line at a value."""
        dash = " stroke-dasharray='4 3'" if dashed else ""
        self.marks.append(_line(self.at(x, self.y[0]), self.at(x, self.y[1]), colour, 1.8, dash))

    def dot(self, x: float, y: float, colour: str, error: float = 0.0) -> None:
        """A dot with its error bar, up and down."""
        across, up = self.at(x, y)
        if error:
            self.marks.append(_line(self.at(x, y - error), self.at(x, y + error), colour, 1.6))
        self.marks.append(f"<circle cx='{across:.1f}' cy='{up:.1f}' r='3.4' fill='{colour}'/>")


def drawing(width: float, height: float, frames: Sequence[Frame], label: str) -> str:
    """The whole SVG; `label` is read to those who cannot see it."""
    body = "\n".join(mark for frame in frames for mark in frame.marks)
    size = f"width='{width:g}' height='{height:g}' viewBox='0 0 {width:g} {height:g}'"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img' aria-label='{escape(label)}' {FONT}>\n"
        f"<rect width='100%' height='100%' fill='#ffffff'/>\n{body}\n</svg>\n"
    )


def _line(start: tuple[float, float], end: tuple[float, float], colour: str, width: float = 1.0, more: str = "") -> str:
    ends = f"x1='{start[0]:.1f}' y1='{start[1]:.1f}' x2='{end[0]:.1f}' y2='{end[1]:.1f}'"
    return f"<line {ends} stroke='{colour}' stroke-width='{width:g}'{more}/>"
