"""What a person sees of templates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from tregflow.errors import TregflowError
from tregflow.lifecycle import difference_words
from tregflow.screen.console import open_console, print_wrapped
from tregflow.template.model import BooleanGate, EllipsoidGate, PolygonGate, QuadrantGate, RangeGate, RectangleGate
from tregflow.template.order import evaluation_order
from tregflow.template.semver import enough, parse_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from tregflow.lifecycle import Release
    from tregflow.record import TubeRecord
    from tregflow.template.diff import TemplateDiff
    from tregflow.template.model import Gate
    from tregflow.template.registry import LoadedTemplate


_SOURCES = {"shipped": "shipped", "own": "laboratory"}
_PART_COLOURS = {"major": "red", "minor": "yellow", "patch": "", "none": "dim"}


def print_templates(found: Iterable[tuple[str, LoadedTemplate | TregflowError]]) -> None:
    """All templates with their status, whose they are, and why they are flagged or retired or cannot be used."""
    console = open_console()
    table = Table()
    for heading in ("template", "status", "from", "endpoint and title"):
        table.add_column(heading, no_wrap=heading in {"template", "status", "from"})
    said = []
    for name, item in found:
        if isinstance(item, TregflowError):
            table.add_row(name, "[red]unusable[/]", "", f"[red]{item.code}[/]")
            said.append(f"[red]{name}[/] cannot be used: tregflow template validate {name} says why")
            continue
        endpoint = item.template.endpoint
        words = f"{endpoint.numerator} % of {endpoint.denominator}\n{escape(item.template.title)}"
        table.add_row(item.name, item.status, _SOURCES[item.source], words)
        if item.reason:
            said.append(f"[red]{item.name}[/] is {item.mark}: {escape(item.reason)}")
    console.print(table)
    for line in said:
        print_wrapped(console, line, 0)


def print_template(loaded: LoadedTemplate, record: TubeRecord | None = None, plot: Path | None = None) -> None:
    """The tree of gates; with a tube's record, every gate's count and its percentage of its parent."""
    console = open_console()
    template = loaded.template
    reason = f": {escape(loaded.reason)}" if loaded.reason else ""
    status = f"({loaded.status}{reason})" if not loaded.mark else f"[bold red]{loaded.mark}[/]{reason}"
    console.print(f"[bold]{loaded.name}[/] {status}  {escape(template.title)}", soft_wrap=True)
    console.print(f"content SHA-256 {loaded.sha256}", soft_wrap=True)
    counts = {} if record is None else {population.id: population for population in record.populations}
    whole = 0 if record is None else record.n_events or 0
    tree = Tree("all events" if record is None else f"all events of {escape(record.tube.file)}: {whole:,}")
    nodes: dict[str | None, Tree] = {None: tree}
    for gate in evaluation_order(template):
        parts = {template.endpoint.numerator: "numerator", template.endpoint.denominator: "denominator"}
        mark = f"  [bold]{parts[gate.id]}[/]" if gate.id in parts else ""
        text = f"[bold]{gate.id}[/]  {escape(describe(gate))}{mark}"
        if gate.id in counts:
            n, of = counts[gate.id].n_events, whole if gate.parent is None else counts[gate.parent].n_events
            share = f", {100 * n / of:.2f} %" if of else ""
            text = f"[bold]{gate.id}[/]  [bold]{n:,}[/]{share}  [dim]{escape(describe(gate))}[/]{mark}"
        nodes[gate.id] = nodes[gate.parent].add(text)
    console.print(tree)
    for name, spec in template.transforms.items():
        parameters = ", ".join(f"{k} = {v:g}" for k, v in spec.model_dump(exclude={"kind"}).items())
        console.print(f"transform {name}: {spec.kind}, {parameters}", soft_wrap=True)
    console.print(f"compensation: {template.compensation.source}")
    for finding in record.findings if record is not None else ():
        if finding.severity != "info":
            print_wrapped(console, f"{finding.code}: {escape(finding.message)}", 0)
    if plot is not None:
        console.print(f"Plot     {escape(str(plot))}", soft_wrap=True)


def print_release(release: Release) -> None:
    """What was released, and what changed since the release before."""
    console = open_console()
    console.print(f"[bold]{release.name}[/] is released: {escape(from_here(release.path))}", soft_wrap=True)
    console.print(f"content SHA-256 {release.sha256}", soft_wrap=True)
    if release.earlier:
        console.print(f"\nSince {release.earlier}: {_demand(release.diff.demand)}", soft_wrap=True)
        _print_differences(console, release.diff)
    console.print("\nThe file is immutable from now on. Pin it in study.toml to gate with it.", soft_wrap=True)


def print_marked(loaded: LoadedTemplate) -> None:
    """What a release is marked as now."""
    reason = f": {escape(loaded.reason)}" if loaded.reason else ""
    console = open_console()
    text = f"[bold]{loaded.name}[/] is {loaded.mark}{reason}. Every run and report with it says so."
    console.print(text, soft_wrap=True)


def print_diff(before: LoadedTemplate, after: LoadedTemplate, diff: TemplateDiff) -> None:
    """Every difference, the gravest first, and what they demand together."""
    console = open_console()
    for word, side in (("from", before), ("to  ", after)):
        mark = f" {side.mark}" if side.mark else ""
        console.print(f"{word} [bold]{side.name}[/]{mark}  content SHA-256 {side.sha256}", soft_wrap=True)
    if not diff.differences:
        console.print("\nNo difference: the content is the same.")
        return
    console.print()
    _print_differences(console, diff)
    console.print(f"\n{_demand(diff.demand)}{_next_version(before, after, diff)}", style="bold", soft_wrap=True)


def _demand(part: str) -> str:
    return "no part of the version is demanded" if part == "none" else f"what changed demands {part.upper()}"


def _next_version(before: LoadedTemplate, after: LoadedTemplate, diff: TemplateDiff) -> str:
    first, second = (parse_version(side.template.version) for side in (before, after))
    if first is None or second is None or before.template.id != after.template.id or diff.demand == "none":
        return "."
    if enough(first, second, diff.demand):
        return f"; {second} is far enough above {first}."
    return f"; after {first} that is {first.after(diff.demand)} or higher."


def _print_differences(console: Console, diff: TemplateDiff) -> None:
    for difference in diff.differences:
        colour = _PART_COLOURS[difference.part]
        text = escape(difference_words(difference))
        print_wrapped(console, f"[{colour}]{text}[/]" if colour else text, 2)


def from_here(path: Path) -> str:
    """A path from the current folder where it lies in it, else whole."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def describe(gate: Gate) -> str:
    """One line on what a gate tests and who places it."""
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
