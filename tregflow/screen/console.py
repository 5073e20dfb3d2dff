"""The console, tables that fit it, and the list of what needs attention."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from tregflow.drawing import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from tregflow.qc.attention import Group


COLOURS = {"ok": "green", "review": "yellow", "not_evaluable": "red", "control": "dim", "fail": "red", "info": "dim"}
_WORDS = {"not_evaluable": "not evaluable"}


def open_console(*, stderr: bool = False) -> Console:
    """A console that does not fold tables into 80 columns where nobody has said how wide the screen is."""
    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return Console(stderr=stderr, highlight=False, width=max(console.width, 120))


@dataclass(slots=True)
class Column:
    """A column that takes `least` characters: the longest word of its heading and its cells, but names may be cut."""

    heading: str
    cells: list[str]
    justify: Literal["left", "right"] = "left"
    cut: int = 0
    main: bool = False

    @property
    def most(self) -> int:
        """Characters with nothing folded or cut."""
        return max(len(text) for text in (self.heading, *self.cells))

    @property
    def least(self) -> int:
        """Characters with headings folded at their words and names cut."""
        longest = max(len(text) for text in (*self.heading.split(), *self.cells))
        return min(longest, self.cut) if self.cut else longest


def fill(table: Table, columns: list[Column], width: int, optional: Sequence[str], colours: Sequence[str]) -> None:
    """Fit columns into `width`, leaving out the `optional` ones first; the last cell of a row has the row's colour."""
    for name in optional:
        if room(columns) > width:
            columns = [c for c in columns if c.heading != name]
    spare = max(width - room(columns), 0)
    for column in columns:
        extra = min(spare, column.most - column.least)
        spare -= extra
        column.cells = [short(cell, column.least + extra) for cell in column.cells]
        style = "bold" if column.main else ""
        table.add_column(
            escape(column.heading), justify=column.justify, style=style, width=column.least + extra, overflow="ellipsis"
        )
    for i, colour in enumerate(colours):
        *cells, last = (escape(column.cells[i]) for column in columns)
        table.add_row(*cells, f"[{colour}]{last}[/]" if colour else last)


def room(columns: Sequence[Column]) -> int:
    """Characters a table needs: each column has a space on both sides and a line, which is blank here, before it."""
    return sum(c.least + 3 for c in columns) + 1


def print_attention(console: Console, groups: Sequence[Group], rest: str = "findings.csv") -> None:
    """Every code with what to do, the worst last: there the eye is when the run ends."""
    if not groups:
        return
    console.print("\n[bold]Needs attention[/] (the worst last)")
    for group in reversed(groups):
        print_wrapped(console, f"[{COLOURS[group.severity]}]{group.code}[/]", 0)
        for message in group.messages:
            names = [short(name or "the batch", 40) for name in message.tubes]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            print_wrapped(console, escape(f"{', '.join(names[:3])}{more}: {message.text}"), 2)
        if group.more:
            print_wrapped(console, f"and {group.n_more} more, see {rest}", 2)
        print_wrapped(console, f"[dim]What to do:[/] {escape(group.remedy)}", 2)


def print_wrapped(console: Console, text: str, indent: int) -> None:
    """Whole words within the screen; unbroken lines where there is none, so that they can be searched."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.print(" " * indent + text, soft_wrap=True)


def number(value: float | None) -> str:
    """Two decimals, or nothing."""
    return "" if value is None else f"{value:.2f}"


def word(status: str) -> str:
    """A status as a person reads it."""
    return _WORDS.get(status, status)
