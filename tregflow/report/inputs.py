"""The results folder as the report needs it: tube records and the tables of endpoint, modes and findings, checked."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tregflow.errors import BatchError
from tregflow.record import read_record
from tregflow.study.cells import unguard
from tregflow.study.endpoint import FindingRow
from tregflow.study.modes import ModeRow

if TYPE_CHECKING:
    from pathlib import Path

    from tregflow.record import TemplateRef, TubeRecord

ENDPOINT_COLUMNS = (
    "subject_id", "visit", "role", "replicate", "file", "file_sha256", "template_id", "template_version",
    "template_sha256", "tregflow_version", "n_events", "numerator", "denominator", "n_numerator", "n_denominator",
    "endpoint_pct", "endpoint_pct_count_low", "endpoint_pct_count_high", "endpoint_pct_combined_low",
    "endpoint_pct_combined_high", "treg_pct_of_lymphocytes", "n_cd4", "treg_pct_of_cd4", "status", "finding_codes",
)  # fmt: skip
INFERRED_MANIFEST = "manifest.inferred.csv"
MODES = ("fixed", "tube", "subject", "batch", "study")
MODE_COLUMNS = ("subject_id", "visit", "replicate", "file", "mode", "is_endpoint", "endpoint_pct", "why")
FINDING_COLUMNS = ("code", "severity", "tube", "population", "observed", "limit", "message", "remedy")


@dataclass(frozen=True, slots=True)
class Results:
    """What was read. Rows keep the table's text; `records` are sorted by tube name; all are of one template.

    `modes` is empty where the template asks for no other way of sharing the cuts. `inferred`: the run had no manifest
    and made one from file names or keywords.
    """

    records: tuple[TubeRecord, ...]
    rows: tuple[dict[str, str], ...]
    findings: tuple[dict[str, str], ...]
    modes: tuple[dict[str, str], ...]
    endpoint_csv: bytes
    inferred: bool

    @property
    def template(self) -> TemplateRef:
        """The template of the run."""
        return self.records[0].template


def read_results(folder: Path) -> Results:
    """Read and check what the report is made from.

    Raises
    ------
    BatchError
        `REPORT_INPUT_MISSING` (all missing files at once), `REPORT_INPUT_INVALID`.
    """
    endpoint, findings = folder / "endpoint.csv", folder / "findings.csv"
    samples = sorted((folder / "samples").glob("*.json"))
    missing = [p.name for p in (endpoint, findings) if not p.is_file()] + ([] if samples else ["samples/*.json"])
    if missing:
        raise BatchError(
            "REPORT_INPUT_MISSING",
            f"{folder.name} cannot be reported: expected endpoint.csv, findings.csv and samples/*.json; "
            f"not found: {', '.join(missing)}.",
            missing=missing,
        )
    records = tuple(_record(p) for p in samples)
    templates = sorted({f"{r.template.id} {r.template.version} ({r.template.sha256[:12]})" for r in records})
    if len(templates) > 1:
        raise BatchError(
            "REPORT_INPUT_INVALID",
            f"samples/ of {folder.name} holds tubes of {len(templates)} templates: expected one, found "
            f"{'; '.join(templates)}.",
        )
    rows = _table(endpoint, ENDPOINT_COLUMNS)
    found = _as_written(_table(findings, FINDING_COLUMNS), FindingRow.free_text)
    modes = _modes(folder / "modes.csv", rows)
    inferred = (folder / INFERRED_MANIFEST).is_file()
    return Results(records, rows, found, modes, endpoint.read_bytes(), inferred)


def _record(path: Path) -> TubeRecord:
    try:
        return read_record(path)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BatchError(
            "REPORT_INPUT_INVALID",
            f"samples/{path.name} is not a tube record: {place}: {first['msg']}.",
            file=path.name,
        ) from error


def _modes(path: Path, rows: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
    """The endpoint under other ways of sharing the cuts, where there is such a table; its tubes are the endpoint's."""
    if not path.is_file():
        return ()
    identity = ("subject_id", "visit", "replicate", "file")
    known = {tuple(row[name] for name in identity) for row in rows}
    modes = _table(path, MODE_COLUMNS)
    for number, row in enumerate(modes, 1):
        if row["mode"] not in MODES or tuple(row[name] for name in identity) not in known:
            raise BatchError(
                "REPORT_INPUT_INVALID",
                f"row {number} of {path.name}: expected a tube of endpoint.csv under one of {', '.join(MODES)}, found "
                f"subject {row['subject_id']}, visit {row['visit']}, file {row['file']} under {row['mode']!r}.",
                file=path.name,
            )
    return _as_written(modes, ModeRow.free_text)


def _as_written(rows: tuple[dict[str, str], ...], names: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    """Rows with their free texts as they were before they were kept from a spreadsheet."""
    return tuple(row | {name: unguard(row[name]) for name in names} for row in rows)


def _table(path: Path, columns: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    """Rows of a CSV file as text; every column asked for must be there, and every row complete."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        absent = [c for c in columns if c not in (reader.fieldnames or ())]
        if absent:
            raise BatchError(
                "REPORT_INPUT_INVALID", f"{path.name} lacks the columns {', '.join(absent)}.", file=path.name
            )
        rows = tuple(reader)
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise BatchError(
                "REPORT_INPUT_INVALID",
                f"row {number} of {path.name} does not have the {len(reader.fieldnames or ())} cells of the header.",
                file=path.name,
            )
    return rows
