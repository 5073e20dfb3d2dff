"""The tables of a run, made from the tubes' records and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tregflow.atomic import write_atomic
from tregflow.errors import Finding
from tregflow.record import ModeRecord, TemplateRef, TubeRecord
from tregflow.study import (
    EndpointRow,
    FindingRow,
    ModeRow,
    PopulationRow,
    TubeModes,
    endpoint_row,
    endpoint_schema,
    finding_row,
    mode_findings,
    percent,
    population_rows,
    write_csv,
    write_parquet,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tregflow.template.model import Template


def write_tables(
    results: Path,
    records: Sequence[TubeRecord],
    findings: Sequence[Finding],
    template: Template,
    baseline: frozenset[str] = frozenset(),
) -> tuple[Finding, ...]:
    """Write `endpoint.*`, `populations.csv`, `modes.csv` where there are modes, and `findings.csv`.

    `findings` are those about the batch as a whole; they come back with what the comparison of modes adds.
    """
    rows = [endpoint_row_of(record, template) for record in records]
    write_csv(rows, results / "endpoint.csv", model=EndpointRow)
    write_parquet(rows, results / "endpoint.parquet", model=EndpointRow)
    schema = json.dumps(endpoint_schema(), indent=1, ensure_ascii=False) + "\n"
    write_atomic(results / "endpoint.schema.json", schema.encode())
    populations = [
        row
        for record in records
        if record.n_events is not None
        for row in population_rows(
            record.tube,
            record.tube.tube,
            record.populations,
            n_events=record.n_events,
            denominator=record.template.denominator,
            template=template_mark(record.template),
        )
    ]
    write_csv(populations, results / "populations.csv", model=PopulationRow)
    if template.endpoint.sensitivity:
        write_csv([row for r in records for row in _mode_rows(r, template)], results / "modes.csv", model=ModeRow)
        findings = (*findings, *mode_findings(_usable(records, template), baseline, endpoint_mode(template)))
    found = [finding_row(finding) for finding in findings]
    for record in records:
        found += [finding_row(Finding(**f.model_dump()), record.tube, record.tube.tube) for f in record.findings]
    write_csv(found, results / "findings.csv", model=FindingRow)
    return tuple(findings)


def template_mark(template: TemplateRef) -> str:
    """`id@version`, and its status in capitals where it is not released: a draft marks all that it makes."""
    status = "" if template.status == "released" else f" {template.status.upper()}"
    return f"{template.id}@{template.version}{status}"


def endpoint_mode(template: Template) -> str:
    """The mode that is the endpoint: whose the deciding cuts are."""
    return next((gate.place.share for gate in template.deciding if gate.place), "fixed")


def _mode_rows(record: TubeRecord, template: Template) -> Iterator[ModeRow]:
    """A stained tube under the endpoint's mode and under each other; without counts where it is not evaluable."""
    if record.tube.role != "stained" or not record.modes:
        return
    usable, endpoint = record.status in {"ok", "review"}, template.endpoint
    own = ModeRecord(
        mode=endpoint_mode(template),
        n_numerator=record.count(endpoint.numerator),
        n_denominator=record.count(endpoint.denominator),
    )
    for mode in (own, *record.modes):
        n, of = (mode.n_numerator, mode.n_denominator) if usable else (None, None)
        yield ModeRow(
            subject_id=record.tube.subject_id,
            visit=record.tube.visit,
            replicate=record.tube.replicate,
            batch_id=record.tube.batch_id,
            file=record.tube.file,
            template=template_mark(record.template),
            mode=mode.mode,
            is_endpoint=mode is own,
            numerator=endpoint.numerator,
            denominator=endpoint.denominator,
            n_numerator=n,
            n_denominator=of,
            endpoint_pct=percent(n, of),
            why=mode.why if usable else "not evaluable",
        )


def _usable(records: Sequence[TubeRecord], template: Template) -> Iterator[TubeModes]:
    """The tubes that give a number, with their counts under each mode; of replicates the first."""
    endpoint = template.endpoint
    for record in records:
        counts = record.count(endpoint.numerator), record.count(endpoint.denominator)
        if record.status not in {"ok", "review"} or record.tube.replicate != 1 or None in counts or not counts[1]:
            continue
        yield TubeModes(
            record.tube.subject_id,
            record.tube.visit,
            (counts[0] or 0, counts[1]),
            tuple((m.n_numerator, m.n_denominator) for m in record.moved),
            {
                m.mode: (m.n_numerator, m.n_denominator)
                for m in record.modes
                if m.n_numerator is not None and m.n_denominator
            },
        )


def endpoint_row_of(record: TubeRecord, template: Template) -> EndpointRow:
    """The endpoint row of a tube."""
    endpoint = template.endpoint
    moved = [(m.n_numerator, m.n_denominator) for m in record.moved]
    mfi = next((p.mfi for p in record.populations if p.id == endpoint.numerator), {})
    return endpoint_row(
        record.tube,
        record.template,
        tregflow_version=record.tregflow_version,
        status=record.status,
        finding_codes=[f.code for f in record.findings],
        file_sha256=record.file_sha256,
        n_events=record.n_events,
        n_numerator=record.count(endpoint.numerator),
        n_denominator=record.count(endpoint.denominator),
        n_cd4=record.count("cd4") if "cd4" in endpoint.also_of else None,
        gate=(moved[0], moved[1]) if moved else None,
        foxp3_mfi_treg=mfi.get("FOXP3"),
        cd25_mfi_treg=mfi.get("CD25"),
    )
