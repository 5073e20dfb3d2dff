"""What a person sees of a check and of the cuts of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tregflow.drawing import OUTLIER, is_outlier
from tregflow.errors import Finding
from tregflow.qc.attention import INFERRED, Seen, group_findings
from tregflow.screen.console import Column, fill, open_console, print_attention
from tregflow.template.model import RangeGate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tregflow.batch import PlacedCut, Plan, TubeCheck
    from tregflow.template.registry import LoadedTemplate


def print_check(checks: Sequence[TubeCheck], plan: Plan) -> None:
    """One line per tube, then what needs attention."""
    console = open_console()
    table = Table(
        title=f"{plan.batch.resolve().name}, template {plan.template.name}{_mark(plan.template)}", title_justify="left"
    )
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
    console = open_console()
    console.print()
    if rows:
        console.print(_placement_table(rows, plan.template, console.width))
    files = dict(zip(plan.names, (row.file for row in plan.rows), strict=True))
    found = [("", "", f) for f in (*plan.marks, *plan.findings)]
    for row in rows:
        if row.code:
            finding = Finding(row.code, "fail" if row.cut is None else "review", row.message)
            found.append((row.tube, files[row.tube], finding))
    seen = [Seen(f.severity, f.code, f.message, f.remedy, tube, file) for tube, file, f in found]
    print_attention(console, group_findings(seen, ("fail", "review")), "the lines above")
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


def _mark(loaded: LoadedTemplate) -> str:
    return f"  {loaded.mark}" if loaded.mark else ""


def _placement_table(rows: Sequence[PlacedCut], loaded: LoadedTemplate, width: int) -> Table:
    table = Table(
        title=f"Cuts on the transformed axis, each tube's own, by {loaded.name}{_mark(loaded)}",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
    )
    bounds = ["" if r.low is None or r.high is None else f"{r.low:.3f} to {r.high:.3f}" for r in rows]
    columns = [
        Column("tube", [r.tube for r in rows], cut=14),
        Column("gate", [r.gate for r in rows], cut=12),
        Column("rule", [r.rule for r in rows], cut=15),
        Column("cut", ["" if r.cut is None else f"{r.cut:.3f}" for r in rows], "right", main=True),
        Column("±1.96 SE", bounds, "right"),
        Column("reference events", ["" if r.cut is None else f"{r.n_reference:,}" for r in rows], "right"),
        Column("z", ["" if r.z is None else f"{round(r.z, 1) + 0.0:.1f}" for r in rows], "right"),
        Column("code", [r.code or ("outlier" if is_outlier(r) else "") for r in rows], cut=14),
    ]
    colours = ["red" if r.code else "yellow" if is_outlier(r) else "" for r in rows]
    fill(table, columns, width, ("rule", "reference events", "±1.96 SE"), colours)
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
