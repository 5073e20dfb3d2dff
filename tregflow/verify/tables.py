"""The tables of a run, made again from its records and compared cell by cell; and percentages from counts alone."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tregflow.batch.tables import write_tables
from tregflow.errors import Finding, StudyError
from tregflow.study import EndpointRow, FindingRow, ModeRow, PopulationRow
from tregflow.verify.model import Check, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tregflow.template.model import Template
    from tregflow.verify.folder import Results

Row = dict[str, str]

TABLES: Mapping[str, tuple[str, ...]] = {
    "endpoint.csv": EndpointRow.key_columns,
    "populations.csv": PopulationRow.key_columns,
    "findings.csv": FindingRow.key_columns,
    "modes.csv": ModeRow.key_columns,
}
_CLOSE = 1e-9
_ONE_FILE = 20  # problems told of one table; the rest is counted


def check_tables(results: Results, template: Template | None) -> Check:
    """Every table is, cell by cell, the one that the records give."""
    title, names = "Tables as the records give them", [*TABLES, "endpoint.parquet", "endpoint.schema.json"]
    if template is None or results.unread:
        why = "the template is not known" if template is None else f"{len(results.unread)} records cannot be read"
        problem = Problem("VERIFY_TABLE", f"the tables cannot be made again: {why}", "endpoint.csv")
        return Check("tables", title, "no table", (problem,))
    with tempfile.TemporaryDirectory(prefix="tregflow-verify-") as made:
        again = Path(made)
        records = [results.records[name] for name in results.run["tubes"]]
        findings = [Finding(**finding) for finding in results.run["findings"]]
        try:
            write_tables(again, records, findings, template, frozenset(results.run["baseline"]))
        except StudyError as error:
            message = f"the records give no table: {error.message.removesuffix('.')}"
            return Check("tables", title, "no table", (Problem("VERIFY_TABLE", message, "endpoint.csv"),))
        problems = [problem for name in names for problem in _compare_file(again / name, results.folder / name)]
        n_rows = {name: len(_read(again / name)[1]) for name in TABLES if (again / name).is_file()}
    scope = ", ".join(f"{n:,} rows of {name.removesuffix('.csv')}" for name, n in n_rows.items())
    return Check("tables", title, scope, tuple(problems))


def compare_tables(
    expected: bytes, found: bytes, name: str, *, key: Sequence[str], ignore: frozenset[str] = frozenset()
) -> list[Problem]:
    """Every cell in which a CSV table differs from the expected one; rows are told by their key.

    Bytes that differ though every cell is equal (another program saved the file) are one problem, but not where
    columns are to be ignored.
    """
    if expected == found:
        return []
    try:
        (columns, rows), (columns_now, rows_now) = _parsed(expected), _parsed(found)
    except (ValueError, csv.Error) as error:
        return [Problem("VERIFY_TABLE", f"{name} cannot be read: {error}", name, "", "", "a CSV table", "none")]
    if columns != columns_now:
        message = f"{name} has other columns"
        return [Problem("VERIFY_TABLE", message, name, "", "header", ", ".join(columns), ", ".join(columns_now))]
    problems = list(_rows(rows, rows_now, name, key, ignore))
    if not problems and not ignore:
        message = f"{name} has equal cells and other bytes: another program saved it"
        problems.append(Problem("VERIFY_TABLE", message, name, "", "", "the bytes written", "other bytes"))
    return problems


def check_percentages(results: Results) -> Check:
    """Percentages and Wilson bounds of the tables as they lie there, from the counts beside them, by scipy."""
    problems: list[Problem] = []
    n = 0
    for name in ("endpoint.csv", "populations.csv", "modes.csv"):
        path = results.folder / name
        if not path.is_file():
            continue
        try:
            _, rows = _read(path)
            for row in rows:
                for column, value in _percentages(name, row):
                    n += 1
                    problems += _off(name, row, column, value)
        except (ValueError, KeyError, csv.Error) as error:
            message = f"{name} holds what is no count: {error}"
            problems.append(Problem("VERIFY_PERCENTAGE", message, name, "", "", "a count", str(error)))
    return Check("percentages", "Percentages from their counts", f"{n:,} percentages and bounds", tuple(problems))


# --- cells ------------------------------------------------------------------------------------------------------------


def _compare_file(again: Path, there: Path) -> list[Problem]:
    name = there.name
    if not there.is_file():
        if not again.is_file():
            return []
        return [Problem("VERIFY_TABLE", f"{name} is not there", name, "", "", "the table", "no file")]
    if not again.is_file():
        return [Problem("VERIFY_TABLE", f"{name} is no table of this run", name, "", "", "no file", "a table")]
    if name in TABLES:
        problems = compare_tables(again.read_bytes(), there.read_bytes(), name, key=TABLES[name])
    elif name.endswith(".parquet"):
        problems = _compare_parquet(again, there)
    elif again.read_bytes() != there.read_bytes():
        problems = [
            Problem("VERIFY_TABLE", f"{name} is not the schema of the table", name, "", "", "the schema", "other")
        ]
    else:
        problems = []
    if (more := len(problems) - _ONE_FILE) > 0:
        message = f"{name}: {more:,} more differences"
        problems = [*problems[:_ONE_FILE], Problem("VERIFY_TABLE", message, name, "", "", "", f"{more:,} more")]
    return problems


def _rows(
    rows: Sequence[Row], rows_now: Sequence[Row], name: str, key: Sequence[str], ignore: frozenset[str]
) -> Iterator[Problem]:
    expected, found = _by_key(rows, key), _by_key(rows_now, key)
    for each in dict.fromkeys([*expected, *found]):
        left, right = expected.get(each, []), found.get(each, [])
        tube = _tube((left or right)[0])
        if len(left) != len(right):
            what = "lacks a row" if len(left) > len(right) else "has a row too many"
            row = ", ".join(filter(None, each))
            message = f"{name} {what}: {row}"
            yield Problem("VERIFY_TABLE", message, name, tube, "row", f"{len(left)} rows", f"{len(right)} rows")
        for before, now in zip(left, right, strict=False):
            for column in before:
                if column not in ignore and before[column] != now[column]:
                    message = f"{name}, {tube}: {column} differs"
                    yield Problem("VERIFY_TABLE", message, name, tube, column, before[column], now[column])
    order = [tuple(row[part] for part in key) for row in rows]
    if list(expected) == list(found) or sorted(expected) != sorted(found):
        return
    order_now = [tuple(row[part] for part in key) for row in rows_now]
    at = next(i for i, (left, right) in enumerate(zip(order, order_now, strict=False)) if left != right)
    message = f"{name} has its rows in another order, from row {at + 1} on"
    yield Problem("VERIFY_TABLE", message, name, "", f"row {at + 1}", ", ".join(order[at]), ", ".join(order_now[at]))


def _by_key(rows: Sequence[Row], key: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    found: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[part] for part in key)].append(row)
    return dict(found)


def _tube(row: Row) -> str:
    """The tube a row is of; of a table without tubes' names, its file."""
    name = row.get("tube") or row.get("file") or ""
    return f"{name}, {row['population']}" if row.get("population") else name


def _parsed(data: bytes) -> tuple[list[str], list[Row]]:
    reader = csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True)
    columns = next(reader, [])
    rows = list(reader)
    for number, cells in enumerate(rows, 2):
        if len(cells) != len(columns):
            raise ValueError(f"line {number} has {len(cells)} cells, the header {len(columns)}")
    return columns, [dict(zip(columns, cells, strict=True)) for cells in rows]


def _read(path: Path) -> tuple[list[str], list[Row]]:
    return _parsed(path.read_bytes())


def _compare_parquet(again: Path, there: Path) -> list[Problem]:
    """Schema and cells; the bytes depend on pyarrow's version, and the ledger has their hash."""
    import pyarrow as pa  # noqa: PLC0415 - only this table needs it
    import pyarrow.parquet as pq  # noqa: PLC0415

    name = there.name
    expected = pq.read_table(again)
    try:
        found = pq.read_table(there)
    except (pa.ArrowException, OSError) as error:
        return [Problem("VERIFY_TABLE", f"{name} cannot be read: {error}", name, "", "", "a Parquet table", "none")]
    if not expected.schema.equals(found.schema, check_metadata=True):
        message = f"{name} has other columns, types or descriptions"
        return [
            Problem("VERIFY_TABLE", message, name, "", "schema", str(expected.schema.names), str(found.schema.names))
        ]
    left, right = (
        [{k: "" if v is None else str(v) for k, v in row.items()} for row in table.to_pylist()]
        for table in (expected, found)
    )
    return list(_rows(left, right, name, EndpointRow.key_columns, frozenset()))


# --- percentages ------------------------------------------------------------------------------------------------------


def _percentages(name: str, row: Row) -> Iterator[tuple[str, float | None]]:
    """What each percentage of a row has to be; None where it has to be empty."""
    if name == "populations.csv":
        for of in ("parent", "denominator"):
            yield f"pct_of_{of}", _percent(row["n_events"], row[f"n_{of}"])
        return
    usable = row["status"] in {"ok", "review"} if name == "endpoint.csv" else True
    k, n = row["n_numerator"], row["n_denominator"]
    value = _percent(k, n) if usable else None
    yield "endpoint_pct", value
    if name == "modes.csv":
        return
    low, high = (None, None) if value is None else _wilson(int(k), int(n))
    yield "endpoint_pct_count_low", low
    yield "endpoint_pct_count_high", high
    treg = value is not None and row["numerator"] == "treg"
    yield "treg_pct_of_lymphocytes", value if treg and row["denominator"] == "lymphocytes" else None
    yield "treg_pct_of_cd4", _percent(k, row["n_cd4"]) if treg else None


def _percent(k: str, n: str) -> float | None:
    return 100 * int(k) / int(n) if k and n and int(n) else None


@lru_cache(maxsize=4096)
def _wilson(k: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest  # type: ignore[import-untyped] # noqa: PLC0415 - another hand's Wilson interval

    interval = binomtest(k, n).proportion_ci(0.95, "wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


def _off(name: str, row: Row, column: str, expected: float | None) -> Iterator[Problem]:
    text = row[column]
    same = not text if expected is None else bool(text) and math.isclose(float(text), expected, abs_tol=_CLOSE)
    if not same:
        tube = _tube(row)
        message = f"{name}, {tube}: {column} is not what its counts give"
        shown = "empty" if expected is None else repr(expected)
        yield Problem("VERIFY_PERCENTAGE", message, name, tube, column, shown, text or "empty")
