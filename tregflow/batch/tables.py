"""The tables of a run, made from the tubes' records and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tregflow.atomic import write_atomic
from tregflow.errors import Finding
from tregflow.study import (
    EndpointRow,
    FindingRow,
    PopulationRow,
    endpoint_row,
    endpoint_schema,
    finding_row,
    population_rows,
    write_csv,
    write_parquet,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tregflow.record import TubeRecord
    from tregflow.template.model import Template


def write_tables(results: Path, records: Sequence[TubeRecord], findings: Sequence[Finding], template: Template) -> None:
    """Write `endpoint.*`, `populations.csv` and `findings.csv`; `findings` are those about the batch as a whole."""
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
        )
    ]
    write_csv(populations, results / "populations.csv", model=PopulationRow)
    found = [finding_row(finding) for finding in findings]
    for record in records:
        found += [finding_row(Finding(**f.model_dump()), record.tube, record.tube.tube) for f in record.findings]
    write_csv(found, results / "findings.csv", model=FindingRow)


def endpoint_row_of(record: TubeRecord, template: Template) -> EndpointRow:
    """The endpoint row of a tube."""
    endpoint = template.endpoint
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
        foxp3_mfi_treg=mfi.get("FOXP3"),
        cd25_mfi_treg=mfi.get("CD25"),
    )
