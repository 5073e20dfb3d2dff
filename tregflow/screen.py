"""What a person sees on the terminal: progress, closing table, what needs attention and what to do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.tree import Tree

from tregflow.batch.tables import endpoint_row_of
from tregflow.compensation import spillover_from_keywords
from tregflow.drawing import OUTLIER, is_outlier, short, visit_order
from tregflow.errors import Finding, TregflowError
from tregflow.qc.attention import INFERRED, Seen, group_findings
from tregflow.template.model import BooleanGate, EllipsoidGate, PolygonGate, QuadrantGate, RangeGate, RectangleGate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from tregflow.batch import PlacedCut, Plan, RunResult, TubeCheck
    from tregflow.fcs import FcsText
    from tregflow.qc.attention import Group
    from tregflow.record import FindingRecord, TubeRecord
    from tregflow.study import EndpointRow
    from tregflow.template.model import Gate, Template
    from tregflow.template.registry import LoadedTemplate

_COLOURS = {"ok": "green", "review": "yellow", "not_evaluable": "red", "control": "dim", "fail": "red", "info": "dim"}
_WORDS = {"not_evaluable": "not evaluable"}
_COUNTING, _COMBINED = "95 %, counting", "95 %, counting and cuts"


def _console(*, stderr: bool = False) -> Console:
    """A console that does not fold tables into 80 columns where nobody has said how wide the screen is."""
    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return Console(stderr=stderr, highlight=False, width=max(console.width, 120))


class RunProgress:
    """A progress bar on a terminal, one line per tube elsewhere; on standard error."""

    def __init__(self) -> None:
        self.console = _console(stderr=True)
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
        line = f"[{self.done}/{self.n}] {record.tube.tube}: {_word(record.status)}{events}"
        self.console.print(f"{line}{', ' + codes if codes else ''}", markup=False, soft_wrap=True)


def print_run(result: RunResult, plan: Plan) -> None:
    """The closing table, what needs attention (the worst last), where the results are, and what to do next."""
    console = _console()
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
    _print_attention(console, groups)
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
    colours = [_COLOURS[row.status] for row in rows]
    _fill(table, columns, width, (_COUNTING, _COMBINED, "% of CD4+", "events"), colours)
    return table


def _fill(table: Table, columns: list[_Column], width: int, optional: Sequence[str], colours: Sequence[str]) -> None:
    """Fit columns into `width`, leaving out the `optional` ones first; the last cell of a row has the row's colour."""
    for name in optional:
        if _room(columns) > width:
            columns = [c for c in columns if c.heading != name]
    spare = max(width - _room(columns), 0)
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


@dataclass(slots=True)
class _Column:
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
        longest = max(len(text) for text in (*self.heading.split(), *self.cells))
        return min(longest, self.cut) if self.cut else longest


def _room(columns: Sequence[_Column]) -> int:
    """Characters a table needs: each column has a space on both sides and a line, which is blank here, before it."""
    return sum(c.least + 3 for c in columns) + 1


def _endpoint_columns(rows: Sequence[EndpointRow], denominator: str) -> list[_Column]:
    # one kind of interval in a column: the combined one if every tube with a number has it
    combined = all(r.endpoint_pct_combined_low is not None for r in rows if r.endpoint_pct is not None)
    ends = [
        (r.endpoint_pct_combined_low, r.endpoint_pct_combined_high)
        if combined
        else (r.endpoint_pct_count_low, r.endpoint_pct_count_high)
        for r in rows
    ]
    intervals = ["" if low is None else f"{_number(low)}-{_number(high)}" for low, high in ends]
    events = ["" if r.n_numerator is None else f"{r.n_numerator:,} of {r.n_denominator:,}" for r in rows]
    columns = [
        _Column("subject", [r.subject_id or "" for r in rows], cut=12),
        _Column("visit", [r.visit or "" for r in rows], cut=8),
        _Column("replicate", [str(r.replicate) for r in rows], "right"),
        _Column(f"% of {denominator}", [_number(r.endpoint_pct) for r in rows], "right", main=True),
        _Column(_COMBINED if combined else _COUNTING, intervals, "right"),
        _Column("events", events, "right"),
        _Column("% of CD4+", [_number(r.treg_pct_of_cd4) for r in rows], "right"),
        _Column("status", [_word(r.status) for r in rows]),
    ]
    unused = {"% of CD4+"} if all(r.treg_pct_of_cd4 is None for r in rows) else set()
    unused |= {"replicate"} if all(r.replicate == 1 for r in rows) else set()
    return [c for c in columns if c.heading not in unused]


def _seen(result: RunResult) -> list[Seen]:
    """All findings of a run with the tube they stand on."""
    found: list[tuple[str, str, Finding | FindingRecord]] = [("", "", f) for f in result.findings]
    found += [(r.tube.tube, r.tube.file, f) for r in result.records for f in r.findings]
    return [Seen(f.severity, f.code, f.message, f.remedy, tube, file) for tube, file, f in found]


def _print_attention(console: Console, groups: Sequence[Group], rest: str = "findings.csv") -> None:
    """Every code with what to do, the worst last: there the eye is when the run ends."""
    if not groups:
        return
    console.print("\n[bold]Needs attention[/] (the worst last)")
    for group in reversed(groups):
        _print_wrapped(console, f"[{_COLOURS[group.severity]}]{group.code}[/]", 0)
        for message in group.messages:
            names = [short(name or "the batch", 40) for name in message.tubes]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            _print_wrapped(console, escape(f"{', '.join(names[:3])}{more}: {message.text}"), 2)
        if group.more:
            _print_wrapped(console, f"and {group.n_more} more, see {rest}", 2)
        _print_wrapped(console, f"[dim]What to do:[/] {escape(group.remedy)}", 2)


def _print_wrapped(console: Console, text: str, indent: int) -> None:
    """Whole words within the screen; unbroken lines where there is none, so that they can be searched."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.print(" " * indent + text, soft_wrap=True)


def print_check(checks: Sequence[TubeCheck], plan: Plan) -> None:
    """One line per tube, then what needs attention."""
    console = _console()
    table = Table(title=f"{plan.batch.resolve().name}, template {plan.template.name}", title_justify="left")
    for name in ("tube", "role", "events", "compensation", "verdict"):
        table.add_column(name, justify="right" if name == "events" else "left", overflow="fold")
    for check in checks:
        codes = sorted({f.code for f in check.findings if f.severity != "info"})
        verdict = "[green]ok[/]" if not codes else f"[{'yellow' if check.ok else 'red'}]{', '.join(codes)}[/]"
        events = "" if check.n_events is None else f"{check.n_events:,}"
        table.add_row(escape(check.name), escape(check.role), events, escape(check.compensation), verdict)
    console.print(table)
    for finding in plan.findings:
        console.print(f"{finding.code}: {escape(finding.message)} {escape(finding.remedy)}", soft_wrap=True)
    for check in checks:
        for finding in check.findings:
            if finding.severity != "info":
                text = f"{check.name}: {finding.code}: {finding.message.strip()} {finding.remedy}"
                console.print(escape(text), soft_wrap=True)
    ready = sum(check.ok for check in checks)
    inferred = "; subject, visit and role were inferred, check them" if plan.inferred else ""
    console.print(f"{ready} of {len(checks)} tubes can be gated{inferred}", soft_wrap=True)


def print_placements(rows: Sequence[PlacedCut], plan: Plan, plot: Path | None = None) -> None:
    """Every cut in the order given, then what needs attention and one line of summary."""
    console = _console()
    console.print()
    if rows:
        console.print(_placement_table(rows, plan.template, console.width))
    files = dict(zip(plan.names, (row.file for row in plan.rows), strict=True))
    found = [("", "", f) for f in plan.findings]
    for row in rows:
        if row.code:
            finding = Finding(row.code, "fail" if row.cut is None else "review", row.message)
            found.append((row.tube, files[row.tube], finding))
    seen = [Seen(f.severity, f.code, f.message, f.remedy, tube, file) for tube, file, f in found]
    _print_attention(console, group_findings(seen, ("fail", "review")), "the lines above")
    if unopened := unopened_tubes(rows, plan):
        text = f"not opened: {', '.join(unopened)}; tregflow check says why"
        console.print(f"\n[red]{escape(text)}[/]", soft_wrap=True)
    if plot is not None:
        console.print(f"\nPlot     {escape(str(plot))}", soft_wrap=True)
    if plan.inferred:
        console.print(f"{INFERRED}: check them with tregflow check", soft_wrap=not console.is_terminal)
    console.print(f"\n{_placement_summary(rows, plan)}", style="bold", soft_wrap=not console.is_terminal)


def unopened_tubes(rows: Sequence[PlacedCut], plan: Plan) -> tuple[str, ...]:
    """Stained tubes on which nothing was tried, because of what was wrong before they were opened."""
    tried = {row.tube for row in rows}
    rules = any(isinstance(gate, RangeGate) and gate.place for gate in plan.template.template.gates)
    stained = (name for name, row in zip(plan.names, plan.rows, strict=True) if row.role == "stained")
    return tuple(name for name in stained if rules and name not in tried)


def _placement_table(rows: Sequence[PlacedCut], loaded: LoadedTemplate, width: int) -> Table:
    draft = "" if loaded.status == "released" else f"  {loaded.status.upper()}"
    table = Table(
        title=f"Cuts on the transformed axis, each tube's own, by {loaded.name}{draft}",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
    )
    bounds = ["" if r.low is None or r.high is None else f"{r.low:.3f} to {r.high:.3f}" for r in rows]
    columns = [
        _Column("tube", [r.tube for r in rows], cut=14),
        _Column("gate", [r.gate for r in rows], cut=12),
        _Column("rule", [r.rule for r in rows], cut=15),
        _Column("cut", ["" if r.cut is None else f"{r.cut:.3f}" for r in rows], "right", main=True),
        _Column("±1.96 SE", bounds, "right"),
        _Column("reference events", ["" if r.cut is None else f"{r.n_reference:,}" for r in rows], "right"),
        _Column("z", ["" if r.z is None else f"{round(r.z, 1) + 0.0:.1f}" for r in rows], "right"),
        _Column("code", [r.code or ("outlier" if is_outlier(r) else "") for r in rows], cut=14),
    ]
    colours = ["red" if r.code else "yellow" if is_outlier(r) else "" for r in rows]
    _fill(table, columns, width, ("rule", "reference events", "±1.96 SE"), colours)
    return table


def _placement_summary(rows: Sequence[PlacedCut], plan: Plan) -> str:
    """What was found and what to do next; the last line on the screen."""
    stained = sum(row.role == "stained" for row in plan.rows)
    if not stained:
        return "no stained tube: nothing to place. Check the roles in the manifest."
    unopened = len(unopened_tubes(rows, plan))
    if not rows and not unopened:
        return f"{plan.template.name} places no cut by a rule."
    failed = sum(row.cut is None for row in rows)
    fallen = sum(row.cut is not None and bool(row.code) for row in rows)
    outliers = sum(map(is_outlier, rows))
    text = f"{len(rows) - failed} of {len(rows)} cuts placed on {stained - unopened} of {stained} stained tubes"
    text += f", {fallen} of them by fall-back" if fallen else ""
    text += f"; {outliers} outlier{'s' if outliers != 1 else ''} (|z| > {OUTLIER:g})"
    if failed or fallen or outliers or unopened:
        return f"{text}. Look at these tubes before gating the batch; nothing was written or frozen."
    return f"{text}. Nothing was written or frozen."


def print_file(text: FcsText, *, keywords: bool) -> None:
    """An FCS file's own account of itself."""
    console = _console()
    which = f", data set {text.dataset + 1} of {text.n_datasets}" if text.n_datasets > 1 else ""
    console.print(f"[bold]{escape(text.path.name)}[/]  {text.version}{which}, {text.n_events:,} events", soft_wrap=True)
    known = {k: text.keywords.get(k, "").strip() for k in ("$CYT", "$CYTSN", "$DATE", "$BTIM", "$ETIM", "$DATATYPE")}
    console.print(escape(", ".join(f"{k} {v}" for k, v in known.items() if v)), soft_wrap=True)
    table = Table()
    for name in ("n", "$PnN", "$PnS", "bits", "range", "amplification", "gain"):
        table.add_column(name, justify="right" if name in {"n", "bits", "range", "gain"} else "left")
    for p in text.parameters:
        amplification = "linear" if p.log_amp is None else f"log {p.log_amp[0]:g}, {p.log_amp[1]:g}"
        cells = (str(p.index + 1), p.pnn, p.pns, str(p.bits), f"{p.range:g}", amplification, f"{p.gain:g}")
        table.add_row(*(escape(c) for c in cells))
    console.print(table)
    console.print(escape(_spillover_line(text)), soft_wrap=True)
    for finding in text.findings:
        console.print(escape(f"{finding.severity}: {finding.code}: {finding.message}"), soft_wrap=True)
    if keywords:
        for key, value in text.keywords.items():
            console.print(escape(f"{key} = {value}"), soft_wrap=True)


def _spillover_line(text: FcsText) -> str:
    try:
        spillover, _ = spillover_from_keywords(text.keywords, [p.pnn for p in text.parameters])
    except TregflowError as error:
        return f"spillover: {error}"
    if spillover is None:
        return "spillover: none"
    kind = "identity" if spillover.is_identity else f"condition number {spillover.condition_number:.3g}"
    return f"spillover: {spillover.source}, {len(spillover.channels)} channels, {kind}"


def print_templates(loaded: Iterable[LoadedTemplate]) -> None:
    """All templates with their status."""
    console = _console()
    table = Table()
    for name in ("template", "status", "numerator % of denominator", "title"):
        table.add_column(name, no_wrap=name in {"template", "status"})
    for item in loaded:
        endpoint = item.template.endpoint
        table.add_row(item.name, item.status, f"{endpoint.numerator} % of {endpoint.denominator}", item.template.title)
    console.print(table)


def print_template(loaded: LoadedTemplate) -> None:
    """The tree of gates."""
    console = _console()
    template = loaded.template
    console.print(f"[bold]{loaded.name}[/] ({loaded.status})  {escape(template.title)}", soft_wrap=True)
    console.print(f"content SHA-256 {loaded.sha256}", soft_wrap=True)
    tree = Tree("all events")
    nodes: dict[str | None, Tree] = {None: tree}
    waiting = list(template.gates)
    while waiting:
        gate = next(g for g in waiting if g.parent in nodes)
        waiting.remove(gate)
        parts = {template.endpoint.numerator: "numerator", template.endpoint.denominator: "denominator"}
        mark = f"  [bold]{parts[gate.id]}[/]" if gate.id in parts else ""
        text = f"[bold]{gate.id}[/]  {escape(_describe(gate))}{mark}"
        nodes[gate.id] = nodes[gate.parent].add(text)
    console.print(tree)
    for name, spec in template.transforms.items():
        parameters = ", ".join(f"{k} = {v:g}" for k, v in spec.model_dump(exclude={"kind"}).items())
        console.print(f"transform {name}: {spec.kind}, {parameters}", soft_wrap=True)
    console.print(f"compensation: {template.compensation.source}")


def _describe(gate: Gate) -> str:
    if isinstance(gate, BooleanGate):
        if gate.operator == "not":
            return f"not {gate.operands[0]}"
        return f" {gate.operator} ".join(gate.operands)
    where = " x ".join(gate.dimensions)
    if isinstance(gate, RangeGate):
        if gate.place is None:
            return f"{where} in [{_bound(gate.min, '-inf')}, {_bound(gate.max, 'inf')})"
        on = f" on {gate.place.reference}" if gate.place.reference else ""
        return f"{where} {gate.place.side} a cut placed by {gate.place.rule}{on}, shared by {gate.place.share}"
    if isinstance(gate, PolygonGate):
        return f"{where} " + (f"band placed by {gate.place.rule}" if gate.place else f"polygon of {len(gate.vertices)}")
    if isinstance(gate, RectangleGate):
        return f"{where} rectangle"
    if isinstance(gate, EllipsoidGate):
        return f"{where} ellipsoid"
    return f"{where} quadrant" if isinstance(gate, QuadrantGate) else where


def _bound(value: float | None, unbounded: str) -> str:
    return unbounded if value is None else f"{value:g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _word(status: str) -> str:
    return _WORDS.get(status, status)
