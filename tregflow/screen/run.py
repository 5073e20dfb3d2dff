"""What a person sees of a run: progress, closing table, what needs attention and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tregflow.batch.tables import endpoint_row_of
from tregflow.drawing import visit_order
from tregflow.qc.attention import INFERRED, Seen, group_findings
from tregflow.screen.console import COLOURS, Column, fill, number, open_console, print_attention, word

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tregflow.batch import Plan, RunResult
    from tregflow.errors import Finding
    from tregflow.qc.attention import Group
    from tregflow.record import FindingRecord, TubeRecord
    from tregflow.study import EndpointRow
    from tregflow.template.model import Template
    from tregflow.template.registry import LoadedTemplate

_COUNTING, _COMBINED = "95 %, counting", "95 %, counting and cuts"


class RunProgress:
    """A progress bar on a terminal, one line per tube elsewhere; on standard error."""

    def __init__(self) -> None:
        self.console = open_console(stderr=True)
        self.bar: Progress | None = None
        self.n = 0
        self.done = 0

    def __enter__(self) -> Self:
        """Start with nothing on the screen; the bar comes when the number of tubes is known."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it was last."""
        if self.bar is not None:
            self.bar.stop()

    def started(self, n_tubes: int, n_done: int) -> None:
        """Show how many tubes there are and how many an earlier run finished."""
        self.n, self.done = n_tubes, n_done
        if n_done:
            self.console.print(f"{n_done} of {n_tubes} tubes were finished by an earlier run")
        if self.console.is_terminal:
            columns = (TextColumn("gating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("", total=n_tubes, completed=n_done)
            self.bar.start()

    def tube(self, record: TubeRecord) -> None:
        """One tube is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.advance(self.task)
            return
        events = "" if record.n_events is None else f", {record.n_events:,} events"
        codes = ", ".join(sorted({f.code for f in record.findings if f.severity != "info"}))
        line = f"[{self.done}/{self.n}] {record.tube.tube}: {word(record.status)}{events}"
        self.console.print(f"{line}{', ' + codes if codes else ''}", markup=False, soft_wrap=True)


def print_run(result: RunResult, plan: Plan) -> None:
    """The closing table, what needs attention (the worst last), where the results are, and what to do next."""
    console = open_console()
    template = plan.template.template
    rows = [endpoint_row_of(record, template) for record in result.records]
    tubes = [row for row in rows if row.role == "stained"]
    visits = visit_order([row.visit or "" for row in tubes])
    tubes.sort(key=lambda row: (row.subject_id or "", visits.index(row.visit or ""), row.replicate))
    console.print()
    if tubes:
        console.print(_endpoint_table(tubes, template, plan.template, console.width))
    if n := sum(r.status == "control" for r in result.records):
        console.print(f"{n} control tube{'s' if n > 1 else ''} read; they give no number.")
    groups = group_findings(_seen(result), ("fail", "review"))
    print_attention(console, groups)
    results = escape(str(result.results))
    console.print(f"\nReport   {results}/report.html\nTable    {results}/endpoint.csv", soft_wrap=True)
    if plan.inferred:
        console.print(f"{INFERRED}: check {results}/manifest.inferred.csv", soft_wrap=not console.is_terminal)
    console.print(_next_step(tubes, groups, result), style="bold", soft_wrap=not console.is_terminal)


def _next_step(tubes: Sequence[EndpointRow], groups: Sequence[Group], result: RunResult) -> str:
    """What happened and what to do next; the last line on the screen."""
    lost = sum(row.status == "not_evaluable" for row in tubes)
    review = sum(row.status == "review" for row in tubes)
    text = "no stained tube: nothing to gate"
    if tubes:
        text = f"{len(tubes) - lost} of {len(tubes)} stained tube{'s' if len(tubes) > 1 else ''} evaluable"
        text += f", {review} of them to review" if review else ""
        text += f"; {lost} not evaluable" if lost else ""
    if result.crashes:
        return f"{text}. Results are incomplete: run the same command again, and report INTERNAL if it stays."
    if any(group.severity == "fail" for group in groups):
        return f"{text}. Start with the codes in red, then run the same command again with --overwrite."
    if not tubes:
        return f"{text}. Check the roles in the manifest, then run the same command again with --overwrite."
    if groups:
        return f"{text}. Look at the report for the codes in yellow before using the numbers."
    return f"{text}. Nothing needs attention. Look at the gates in the report, then use the table."


def _endpoint_table(rows: Sequence[EndpointRow], template: Template, loaded: LoadedTemplate, width: int) -> Table:
    """The table in `width` columns: what is optional goes first, the percentage and the status are always whole."""
    numerator, denominator = (
        template.gate(g).label for g in (template.endpoint.numerator, template.endpoint.denominator)
    )
    draft = "" if loaded.status == "released" else f"  {loaded.status.upper()}"
    columns = _endpoint_columns(rows, denominator)
    table = Table(
        title=f"{escape(numerator)} by {loaded.name}{draft}", title_justify="left", title_style="bold", box=SIMPLE_HEAD
    )
    colours = [COLOURS[row.status] for row in rows]
    fill(table, columns, width, (_COUNTING, _COMBINED, "% of CD4+", "events"), colours)
    return table


def _endpoint_columns(rows: Sequence[EndpointRow], denominator: str) -> list[Column]:
    # one kind of interval in a column: the combined one if every tube with a number has it
    combined = all(r.endpoint_pct_combined_low is not None for r in rows if r.endpoint_pct is not None)
    ends = [
        (r.endpoint_pct_combined_low, r.endpoint_pct_combined_high)
        if combined
        else (r.endpoint_pct_count_low, r.endpoint_pct_count_high)
        for r in rows
    ]
    intervals = ["" if low is None else f"{number(low)}-{number(high)}" for low, high in ends]
    events = ["" if r.n_numerator is None else f"{r.n_numerator:,} of {r.n_denominator:,}" for r in rows]
    columns = [
        Column("subject", [r.subject_id or "" for r in rows], cut=12),
        Column("visit", [r.visit or "" for r in rows], cut=8),
        Column("replicate", [str(r.replicate) for r in rows], "right"),
        Column(f"% of {denominator}", [number(r.endpoint_pct) for r in rows], "right", main=True),
        Column(_COMBINED if combined else _COUNTING, intervals, "right"),
        Column("events", events, "right"),
        Column("% of CD4+", [number(r.treg_pct_of_cd4) for r in rows], "right"),
        Column("status", [word(r.status) for r in rows]),
    ]
    unused = {"% of CD4+"} if all(r.treg_pct_of_cd4 is None for r in rows) else set()
    unused |= {"replicate"} if all(r.replicate == 1 for r in rows) else set()
    return [c for c in columns if c.heading not in unused]


def _seen(result: RunResult) -> list[Seen]:
    """All findings of a run with the tube they stand on."""
    found: list[tuple[str, str, Finding | FindingRecord]] = [("", "", f) for f in result.findings]
    found += [(r.tube.tube, r.tube.file, f) for r in result.records for f in r.findings]
    return [Seen(f.severity, f.code, f.message, f.remedy, tube, file) for tube, file, f in found]
