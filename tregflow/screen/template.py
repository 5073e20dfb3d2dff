"""What a person sees of templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from tregflow.screen.console import open_console
from tregflow.template.model import BooleanGate, EllipsoidGate, PolygonGate, QuadrantGate, RangeGate, RectangleGate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tregflow.template.model import Gate
    from tregflow.template.registry import LoadedTemplate


def print_templates(loaded: Iterable[LoadedTemplate]) -> None:
    """All templates with their status."""
    console = open_console()
    table = Table()
    for name in ("template", "status", "numerator % of denominator", "title"):
        table.add_column(name, no_wrap=name in {"template", "status"})
    for item in loaded:
        endpoint = item.template.endpoint
        table.add_row(item.name, item.status, f"{endpoint.numerator} % of {endpoint.denominator}", item.template.title)
    console.print(table)


def print_template(loaded: LoadedTemplate) -> None:
    """The tree of gates."""
    console = open_console()
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
        text = f"[bold]{gate.id}[/]  {escape(describe(gate))}{mark}"
        nodes[gate.id] = nodes[gate.parent].add(text)
    console.print(tree)
    for name, spec in template.transforms.items():
        parameters = ", ".join(f"{k} = {v:g}" for k, v in spec.model_dump(exclude={"kind"}).items())
        console.print(f"transform {name}: {spec.kind}, {parameters}", soft_wrap=True)
    console.print(f"compensation: {template.compensation.source}")


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
