"""What a person sees of the numbers under two templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tregflow.drawing import draft_mark
from tregflow.report.change import endpoint_words, summary
from tregflow.screen.console import Column, fill, number, open_console, print_wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from tregflow.batch.effect import Effect
    from tregflow.study.effect import ChangeEffect, TubeEffect


def print_effect(effect: Effect, page: Path) -> None:
    """Tubes, changes from baseline, the effect in sentences, and where the page is."""
    console = open_console()
    marks = [f" {mark}" if (mark := draft_mark(side.status)) else "" for side in (effect.before, effect.after)]
    names = f"{effect.before.name}{marks[0]} to {effect.after.name}{marks[1]}"
    if effect.tubes:
        table = _table(f"{endpoint_words(effect.after)}, {names}")
        columns = _tube_columns(effect.tubes)
        colours = ["yellow" if tube.crossed else "dim" if tube.same else "" for tube in effect.tubes]
        fill(table, columns, console.width, ("events", "limits"), colours)
        console.print()
        console.print(table)
    if effect.changes:
        table = _table(f"Change from {', '.join(effect.baseline)}, in percentage points")
        colours = ["yellow" if c.sign or c.lost_or_won else "" for c in effect.changes]
        fill(table, _change_columns(effect.changes), console.width, (), colours)
        console.print(table)
    elif not effect.baseline:
        text = "No study file names a baseline visit, so there is no change from baseline; --baseline VISIT names one."
        print_wrapped(console, text, 0)
    for sentence in summary(effect.tubes, effect.changes):
        print_wrapped(console, f"[bold]{escape(sentence)}[/]", 0)
    for tube in effect.incomplete:
        print_wrapped(console, f"[red]INTERNAL: {escape(tube)} failed; the comparison is incomplete.[/]", 0)
    console.print(f"\nPage     {escape(str(page))}", soft_wrap=True)


def _table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD)


def _tube_columns(tubes: tuple[TubeEffect, ...]) -> list[Column]:
    events = [f"{_count(t.before.n_numerator)} to {_count(t.after.n_numerator)}" for t in tubes]
    return [
        Column("subject", [t.subject_id for t in tubes], cut=12),
        Column("visit", [t.visit for t in tubes], cut=8),
        Column("events", events, "right"),
        Column("before", [number(t.before.endpoint_pct) for t in tubes], "right"),
        Column("after", [number(t.after.endpoint_pct) for t in tubes], "right", main=True),
        Column("moved", [_moved(t.moved("endpoint_pct")) for t in tubes], "right"),
        Column("% of CD4+", [_moved(t.moved("treg_pct_of_cd4")) for t in tubes], "right"),
        Column("limits", ["; ".join(t.crossed) for t in tubes], cut=12),
    ]


def _change_columns(changes: tuple[ChangeEffect, ...]) -> list[Column]:
    words = ["another sign" if c.sign else "only one template" if c.lost_or_won else "" for c in changes]
    return [
        Column("subject", [c.subject_id for c in changes], cut=12),
        Column("visit", [c.visit for c in changes], cut=8),
        Column("before", [_moved(c.before) for c in changes], "right"),
        Column("after", [_moved(c.after) for c in changes], "right", main=True),
        Column("moved", [_moved(c.moved) for c in changes], "right"),
        Column("", words),
    ]


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _moved(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"
