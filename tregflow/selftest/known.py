"""The sample batch against the counts that it gave when this version was released: one table, which the tests use too.

It lies in `tests/golden` of the source and inside an installed package; `pytest --regen-golden` writes it.
"""

from __future__ import annotations

from pathlib import Path

from tregflow.errors import VerifyError
from tregflow.study import EndpointRow
from tregflow.verify import Check, Problem, compare_tables


def golden_table() -> Path:
    """The known endpoint table of `sample_fcs`; `SELFTEST_INCOMPLETE` where the installation lacks it."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "golden", package.parent / "tests" / "golden"):
        if (folder / "endpoint.csv").is_file():
            return folder / "endpoint.csv"
    raise VerifyError("SELFTEST_INCOMPLETE", "the known endpoint table is not in the package.")


def check_known_answer(table: Path, known: Path) -> Check:
    """Every cell of the endpoint table of the sample batch, to the last digit."""
    expected = known.read_bytes()
    problems = tuple(
        Problem("SELFTEST_KNOWN_ANSWER", p.message, p.file, p.tube, p.column, p.expected, p.found)
        for p in compare_tables(expected, table.read_bytes(), table.name, key=EndpointRow.key_columns)
    )
    n_rows, n_columns = expected.count(b"\n") - 1, len(EndpointRow.columns())
    return Check("known", "Sample batch gives the known table", f"{n_rows} rows, {n_columns} columns", problems)
