"""What the page's templates print: plain dictionaries and strings, no decisions left to the templates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tregflow.drawing import (
    axis_title,
    column_titles,
    draft_mark,
    endpoint_column,
    format_percent,
    percent_of_parent,
    population_title,
    short,
    visit_order,
)
from tregflow.plots import gate_spec, visits_spec
from tregflow.qc.attention import INFERRED, SEVERITIES, Message, Seen, group_findings
from tregflow.report import words
from tregflow.report.inputs import INFERRED_MANIFEST
from tregflow.report.svg import panel_svg, visits_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tregflow.record import GateRecord, TubeRecord
    from tregflow.report.inputs import Results

_SEEN = ("severity", "code", "message", "remedy", "tube", "population", "observed", "limit")
STATUS_WORDS = {"not_evaluable": "not evaluable", "review": "review", "ok": "ok", "control": "control"}


def page(results: Results) -> dict[str, Any]:
    """Everything `base.html.jinja` needs."""
    template = results.template
    mark = draft_mark(template.status)
    tubes = _tubes(results)
    anchors = {t["tube"]: t["anchor"] for t in tubes}
    titles = _titles(results)
    column = endpoint_column(results.rows)
    tone, sentence = words.verdict(results.rows, column, titles[column])
    attention = _attention(results, anchors, ("fail", "review"))
    visits = visit_order([r["visit"] for r in results.rows])
    table = [_row(r, column, tubes, visits) for r in _sorted_rows(results.rows, visits)]
    charts = {column: titles[column], "treg_pct_of_cd4": titles["treg_pct_of_cd4"]}
    return {
        "mark": mark,
        "template": template,
        "versions": words.joined(sorted({r.tregflow_version for r in results.records})),
        # nothing is simply good under a draft, or beside something about the whole run that asks for a look
        "tone": "review" if tone == "ok" and (mark or attention) else tone,
        "verdict": sentence,
        "inferred": f"{INFERRED[0].upper()}{INFERRED[1:]}: check {INFERRED_MANIFEST}." if results.inferred else "",
        "attention": attention,
        "notes": _attention(results, anchors, ("info",)),
        "endpoint_title": titles[column],
        "numerator_title": titles["numerator"],
        "cd4_title": titles["treg_pct_of_cd4"],
        "rows": [r for r in table if r["role"] == "stained"],
        "controls": [r for r in table if r["role"] != "stained"],
        "combined": any(r["combined"] for r in table),
        "endpoint_csv": results.endpoint_csv,
        "visits_svg": visits_svg(results.rows, charts, mark),
        "visits_spec": visits_spec(results.rows, titles=titles, mark=mark),
        "modes": _modes(results, tubes, visits),
        "groups": _groups(tubes),
        "sheet": [t for t in tubes if t["deciding"]],
        "methods": words.methods(results.records),
    }


def _titles(results: Results) -> dict[str, str]:
    """Column titles with the populations' own names; percent of WHAT is always said."""
    template = results.template
    record = next((r for r in results.records if r.populations), results.records[0])
    numerator, denominator = (population_title(record, p) for p in (template.numerator, template.denominator))
    named = {"numerator": numerator, "endpoint_pct": f"{numerator} % of {denominator}"}
    return column_titles(results.rows) | named


def _sorted_rows(rows: Sequence[dict[str, str]], visits: Sequence[str]) -> list[dict[str, str]]:
    return sorted(rows, key=lambda r: (_natural(r["subject_id"]), visits.index(r["visit"]), r["role"], r["replicate"]))


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def _identity(row: dict[str, str]) -> tuple[str, ...]:
    return row["subject_id"], row["visit"], row["role"], row["replicate"], row["file"]


def _row(row: dict[str, str], column: str, tubes: Sequence[dict[str, Any]], visits: Sequence[str]) -> dict[str, Any]:
    tube = next((t for t in tubes if t["identity"] == _identity(row)), None)
    return {
        **_names(_identity(row), visits),
        "percent": _percent(row[column]),
        "exact": row[column],
        "interval": _interval(row, "count"),
        "combined": _interval(row, "combined"),
        "n_numerator": _count(row["n_numerator"]),
        "n_denominator": _count(row["n_denominator"]),
        "cd4": _percent(row["treg_pct_of_cd4"]),
        "n_cd4": _count(row["n_cd4"]),
        "n_events": _count(row["n_events"]),
        "status": row["status"],
        "status_words": STATUS_WORDS.get(row["status"], row["status"]),
        "codes": [c for c in re.split(r"[;,\s]+", row["finding_codes"]) if c],
        "anchor": tube["anchor"] if tube else "",
    }


def _interval(row: dict[str, str], kind: str) -> str:
    low, high = row[f"endpoint_pct_{kind}_low"], row[f"endpoint_pct_{kind}_high"]
    return f"{_percent(low)}–{_percent(high)}" if low and high else ""


def _modes(results: Results, tubes: Sequence[dict[str, Any]], visits: Sequence[str]) -> dict[str, Any]:
    """The endpoint under each way of sharing the cuts, side by side; empty where there is only one."""
    if not results.modes:
        return {}
    anchors = {t["identity"]: t["anchor"] for t in tubes}
    found = {row["mode"]: row["is_endpoint"] == "True" for row in results.modes}
    names = [name for name in words.MODES if name in found]
    by_tube: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for row in _sorted_rows([row | {"role": "stained"} for row in results.modes], visits):
        by_tube.setdefault(_identity(row), {})[row["mode"]] = row
    return {
        "names": [{"name": name, "endpoint": found[name], "words": words.MODES[name]} for name in names],
        "rows": [
            {
                **_names(identity, visits),
                "anchor": anchors.get(identity, ""),
                "cells": [_mode_cell(modes.get(name), endpoint=found[name]) for name in names],
            }
            for identity, modes in by_tube.items()
        ],
        "findings": [f for f in results.findings if f["code"] == "MODE_CHANGES_RESULT"],
    }


def _mode_cell(row: dict[str, str] | None, *, endpoint: bool) -> dict[str, Any]:
    exact, why = (row["endpoint_pct"], row["why"]) if row else ("", "")
    return {"percent": _percent(exact), "exact": exact, "why": why, "endpoint": endpoint}


def _names(identity: tuple[str, ...], visits: Sequence[str]) -> dict[str, Any]:
    """What a row of a table calls its tube."""
    subject, visit, role, replicate, file = identity
    return {
        "subject": subject,
        "subject_short": short(subject, 28),
        "visit": visit,
        "visit_short": short(visit, 20),
        "visit_rank": visits.index(visit),
        "role": role,
        "replicate": replicate,
        "file": file,
    }


def _percent(text: str) -> str:
    return format_percent(float(text)) if text else ""


def _count(text: str) -> str:
    return f"{int(text):,}" if text else ""


def _attention(results: Results, anchors: dict[str, str], severities: tuple[str, ...]) -> list[dict[str, Any]]:
    """Findings as the terminal groups them, each tube with its link."""
    files = {r.tube.tube: r.tube.file for r in results.records}
    seen = [
        Seen(**{name: f[name] for name in _SEEN}, file=files.get(f["tube"], ""))  # the table's columns, by name
        for f in results.findings
    ]

    def linked(message: Message) -> dict[str, Any]:
        tubes = [(short(t, 48) or "whole run", t, anchors.get(t, "")) for t in message.tubes]
        return {"message": message, "tubes": tubes[:3], "more": tubes[3:]}

    return [
        {
            "group": group,
            "messages": [linked(m) for m in group.messages],
            "more": [linked(m) for m in group.more],
        }
        for group in group_findings(seen, severities)
    ]


def _tubes(results: Results) -> list[dict[str, Any]]:
    """All tubes, failed first, then review, ok and controls; within that by subject and visit."""
    visits = visit_order([r.tube.visit for r in results.records])
    rank = {status: i for i, status in enumerate(STATUS_WORDS)}
    order = sorted(
        results.records,
        key=lambda r: (
            rank[r.status], _natural(r.tube.subject_id), visits.index(r.tube.visit), r.tube.role, r.tube.replicate,
            r.tube.tube,
        ),
    )  # fmt: skip
    anchors: set[str] = set()
    return [_tube(record, number, _anchor(record.tube.tube, anchors)) for number, record in enumerate(order, 1)]


def _anchor(tube: str, taken: set[str]) -> str:
    """Make an id for links that keeps a tube's name readable, of letters, digits, `.`, `_` and `-` alone."""
    base = "tube-" + (re.sub(r"[^A-Za-z0-9._-]+", "-", tube).strip("-") or "x")
    anchor, n = base, 1
    while anchor in taken:
        n += 1
        anchor = f"{base}-{n}"
    taken.add(anchor)
    return anchor


def _groups(tubes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    groups = [
        {"status": status, "title": title, "tubes": [t for t in tubes if t["status"] == status]}
        for status, title in STATUS_WORDS.items()
    ]
    return [g for g in groups if g["tubes"]]


def tube_view(record: TubeRecord) -> dict[str, Any]:
    """One tube by itself, as `_tube.html.jinja` needs it."""
    return _tube(record, 1, _anchor(record.tube.tube, set()))


def _tube(record: TubeRecord, number: int, anchor: str) -> dict[str, Any]:
    identity = record.tube
    path = _path(record)
    panels = [_panel(record, i, f"p{number}-{i + 1}", path) for i in range(len(record.histograms))]
    return {
        "tube": identity.tube,
        "tube_short": short(identity.tube, 48),
        "anchor": anchor,
        "identity": (identity.subject_id, identity.visit, identity.role, str(identity.replicate), identity.file),
        "record": record,
        "status": record.status,
        "status_words": STATUS_WORDS[record.status],
        "hash": record.file_sha256[:12],
        "headline": _headline(record),
        "compensation": words.compensation_words(record),
        "panels": panels,
        "deciding": next((p for p in panels if record.template.numerator in p["gates"]), None),
        "gates": [_gate(record, g) for g in record.gates],
        "findings": sorted(record.findings, key=lambda f: (SEVERITIES.index(f.severity), f.code)),
    }


def _path(record: TubeRecord) -> list[str]:
    """List populations from the root to the numerator."""
    parents = {p.id: p.parent for p in record.populations}
    path: list[str] = []
    here: str | None = record.template.numerator
    while here in parents and here not in path:
        path.insert(0, here)
        here = parents[here]
    return path


def _headline(record: TubeRecord) -> str:
    """Put counts and percentages of the numerator into words; empty for a tube that was not counted."""
    template = record.template
    inside = record.count(template.numerator)
    if inside is None or record.status == "control":
        return ""
    parts = []
    for population in (template.denominator, *template.also_of):
        whole = record.count(population)
        if whole:
            title = population_title(record, population)
            parts.append(f"{format_percent(100 * inside / whole)} % of {title} ({inside:,} of {whole:,})")
    return f"{population_title(record, template.numerator)}: {words.joined(parts)}" if parts else ""


def _panel(record: TubeRecord, index: int, key: str, path: Sequence[str]) -> dict[str, Any]:
    histogram = record.histograms[index]
    gates = [g for g in record.gates if g.id in histogram.gates]
    step = next((str(path.index(g.id) + 1) for g in gates if g.id in path), "")
    return {
        "key": key,
        "step": step,
        "gates": histogram.gates,
        "svg": panel_svg(record, histogram, key),
        "spec": gate_spec(record, histogram, density=False),
        "counts": histogram.counts,
        "bins": [histogram.x.bins] if histogram.y is None else [histogram.x.bins, histogram.y.bins],
        "parent": population_title(record, histogram.population),
        "captions": [_gate(record, g) for g in gates],
    }


def _gate(record: TubeRecord, gate: GateRecord) -> dict[str, Any]:
    percent = percent_of_parent(record, gate)
    population = next((p for p in record.populations if p.id == gate.id), None)
    placement = gate.placement
    return {
        "title": gate.title or gate.id,
        "kind": gate.kind,
        "parent": "all events" if gate.parent is None else population_title(record, gate.parent),
        "axes": [axis_title(d) for d in gate.dimensions],
        "limits": words.limits(record, gate),
        "n": "" if population is None else f"{population.n_events:,}",
        "percent": "" if percent is None else format_percent(percent),
        "non_finite": 0 if population is None else population.n_non_finite,
        "medians": [] if population is None else [(m, v) for m, v in population.mfi.items() if v is not None],
        "placement": "" if placement is None else words.placement_words(record, gate, placement),
        "fallback": placement is not None and placement.status == "fallback",
    }
