"""What a person sees on the terminal: progress, closing table, what needs attention and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.tree import Tree

from tregflow.batch.tables import endpoint_row_of
from tregflow.compensation import spillover_from_keywords
from tregflow.drawing import visit_order
from tregflow.errors import TregflowError
from tregflow.template.model import BooleanGate, EllipsoidGate, PolygonGate, QuadrantGate, RangeGate, RectangleGate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from tregflow.batch import Plan, RunResult, TubeCheck
    from tregflow.errors import Finding
    from tregflow.fcs import FcsText
    from tregflow.record import FindingRecord, TubeRecord
    from tregflow.study import EndpointRow
    from tregflow.template.model import Gate, Template
    from tregflow.template.registry import LoadedTemplate

_COLOURS = {"ok": "green", "review": "yellow", "not_evaluable": "red", "control": "dim", "fail": "red", "info": "dim"}
_WORDS = {"not_evaluable": "not evaluable"}
_SEVERITIES = ("fail", "review", "info")


def _console(*, stderr: bool = False) -> Console:
    """A console that does not fold tables into 80 columns where nobody has said how wide the screen is."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=max(console.width, 120))


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
    """The closing table, what needs attention, and where the results are."""
    console = _console()
    template = plan.template.template
    rows = [endpoint_row_of(record, template) for record in result.records]
    tubes = [row for row in rows if row.role == "stained"]
    visits = visit_order([row.visit or "" for row in tubes])
    tubes.sort(key=lambda row: (row.subject_id or "", visits.index(row.visit or ""), row.replicate))
    console.print()
    console.print(_endpoint_table(tubes, template, plan.template))
    if result.records and any(r.status == "control" for r in result.records):
        n = sum(r.status == "control" for r in result.records)
        console.print(f"{n} control tube(s) read; they give no number.")
    _print_attention(console, result)
    results = escape(str(result.results))
    console.print(f"\nReport   {results}/report.html\nTable    {results}/endpoint.csv", soft_wrap=True)


def _endpoint_table(rows: Sequence[EndpointRow], template: Template, loaded: LoadedTemplate) -> Table:
    endpoint = template.endpoint
    numerator, denominator = template.gate(endpoint.numerator).label, template.gate(endpoint.denominator).label
    draft = "" if loaded.status == "released" else f"  {loaded.status.upper()}"
    table = Table(
        title=f"{numerator} by {loaded.name}{draft}", title_justify="left", title_style="bold", box=SIMPLE_HEAD
    )
    of_cd4 = any(row.treg_pct_of_cd4 is not None for row in rows)
    table.add_column("subject", overflow="fold")
    table.add_column("visit", overflow="fold")
    longest = max(len(word) for word in denominator.split())
    table.add_column(f"% of {denominator}", justify="right", style="bold", min_width=longest)
    table.add_column("95 %, counting", justify="right", min_width=9)
    table.add_column("events", justify="right", no_wrap=True)
    if of_cd4:
        table.add_column("% of CD4+", justify="right", min_width=5)
    table.add_column("status")
    for row in rows:
        cells = [
            escape(row.subject_id or "") + (f" (replicate {row.replicate})" if row.replicate != 1 else ""),
            escape(row.visit or ""),
            _number(row.endpoint_pct),
            f"{_number(row.endpoint_pct_count_low)}-{_number(row.endpoint_pct_count_high)}"
            if row.endpoint_pct is not None
            else "",
            f"{row.n_numerator:,} of {row.n_denominator:,}" if row.n_numerator is not None else "",
            *([_number(row.treg_pct_of_cd4)] if of_cd4 else []),
            f"[{_COLOURS[row.status]}]{_word(row.status)}[/]",
        ]
        table.add_row(*cells)
    return table


def _print_attention(console: Console, result: RunResult) -> None:
    """Everything above `info`, worst first, each with what to do; the same finding in many tubes is printed once."""
    found: dict[tuple[str, str], list[tuple[str, Finding | FindingRecord]]] = {}
    everything: list[tuple[str, Finding | FindingRecord]] = [("the batch", f) for f in result.findings]
    everything += [(r.tube.tube, f) for r in result.records for f in r.findings]
    for name, finding in everything:
        if finding.severity != "info":
            found.setdefault((finding.severity, finding.code), []).append((name, finding))
    if not found:
        console.print("Nothing needs attention.")
        return
    console.print("\n[bold]Needs attention[/]")
    for (severity, code), group in sorted(found.items(), key=lambda item: (_SEVERITIES.index(item[0][0]), item[0][1])):
        console.print(f"[{_COLOURS[severity]}]{code}[/]", soft_wrap=True)
        for message in dict.fromkeys(finding.message.strip() for _, finding in group):
            names = [name for name, finding in group if finding.message.strip() == message]
            who = ", ".join(names) if len(names) <= 3 else f"{len(names)} tubes"
            console.print(f"  {escape(who)}: {escape(message)}", soft_wrap=True)
        console.print(f"  [dim]What to do:[/] {escape(group[0][1].remedy)}", soft_wrap=True)


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
        table.add_column(name)
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
    console.print(tree, soft_wrap=True)
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
