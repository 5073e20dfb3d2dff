"""A template's gates on one tube: a page with every gate drawn, counted and put into words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tregflow.drawing import draft_mark, format_percent, population_title
from tregflow.report import environment, view, words

if TYPE_CHECKING:
    from tregflow.record import PopulationRecord, TubeRecord


def shown_page(record: TubeRecord) -> str:
    """One self-contained HTML page; all numbers are the record's."""
    return (
        environment()
        .get_template("shown.html.jinja")
        .render(
            mark=draft_mark(record.template.status),
            template=record.template,
            tube=view.tube_view(record),
            rows=tree_rows(record),
            denominator=population_title(record, record.template.denominator),
            version=record.tregflow_version,
            methods=words.methods([record]),
        )
    )


def tree_rows(record: TubeRecord) -> list[dict[str, object]]:
    """Every population below its parent, with depth, count, and percentages of its parent and of the denominator."""
    children: dict[str | None, list[PopulationRecord]] = {}
    for population in record.populations:
        children.setdefault(population.parent, []).append(population)
    whole = record.count(record.template.denominator)
    rows: list[dict[str, object]] = []
    waiting = [(population, 0, False) for population in reversed(children.get(None, []))]
    while waiting:
        population, depth, inside = waiting.pop()
        inside = inside or population.id == record.template.denominator
        of = record.n_events if population.parent is None else record.count(population.parent)
        rows.append(
            {
                "id": population.id,
                "title": population.title,
                "depth": depth,
                "parent": "all events" if population.parent is None else population_title(record, population.parent),
                "n": population.n_events,
                "pct_of_parent": format_percent(100 * population.n_events / of) if of else "",
                "pct_of_denominator": format_percent(100 * population.n_events / whole) if whole and inside else "",
            }
        )
        waiting += [(child, depth + 1, inside) for child in reversed(children.get(population.id, []))]
    return rows
