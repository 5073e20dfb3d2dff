import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binomtest

from tregflow.errors import Finding, StudyError
from tregflow.study import (
    EndpointRow,
    FindingRow,
    ManifestRow,
    PopulationRow,
    endpoint_row,
    endpoint_schema,
    finding_row,
    population_rows,
    table_schema,
    wilson_interval,
    write_csv,
    write_parquet,
)

# DESIGN.md section 7: the names are a contract
COLUMNS = re.findall(
    r"\w+",
    "subject_id, visit, role, replicate, collected_at, batch_id, file, file_sha256, template_id, template_version, "
    "template_sha256, tregflow_version, n_events, numerator, denominator, n_numerator, n_denominator, endpoint_pct, "
    "endpoint_pct_count_low, endpoint_pct_count_high, endpoint_pct_gate_low, endpoint_pct_gate_high, "
    "endpoint_pct_comp_low, endpoint_pct_comp_high, endpoint_pct_combined_low, endpoint_pct_combined_high, "
    "treg_pct_of_lymphocytes, n_cd4, treg_pct_of_cd4, foxp3_mfi_treg, cd25_mfi_treg, status, finding_codes",
)


@dataclass(frozen=True)
class Used:
    id: str = "treg-foxp3-pbmc"
    version: str = "0.1.0"
    sha256: str = "a" * 64
    numerator: str = "treg"
    denominator: str = "lymphocytes"


@dataclass(frozen=True)
class Population:
    id: str
    parent: str | None
    n_events: int
    mfi: dict[str, float | None] = field(default_factory=dict)


TUBE = ManifestRow("S01_W12.fcs", "S01", "W12", collected_at="2026-05-26", batch_id="B1")
COUNTS = {"n_events": 60_000, "n_numerator": 820, "n_denominator": 40_000, "n_cd4": 14_600}


def build(tube=TUBE, template=Used(), status="ok", **values):
    return endpoint_row(
        tube, template, tregflow_version="0.1.0", status=status, **{"file_sha256": "b" * 64, **COUNTS, **values}
    )


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- counting ---


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe RG (1998), Stat Med 17:857-872, table I, method 3
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.00, 16.11), (1, 29, 0.61, 17.18)],
)
def test_wilson_published(k, n, low, high):
    assert wilson_interval(k, n) == pytest.approx((low, high), abs=0.0051)


@given(st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
@settings(max_examples=100, deadline=None)
def test_wilson_is_scipys(counts, level):
    k, n = counts
    expected = binomtest(k, n).proportion_ci(confidence_level=level, method="wilson")
    low, high = wilson_interval(k, n, level)
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), rel=1e-9, abs=1e-9)
    assert 0 <= low <= 100 * k / n <= high <= 100


def test_wilson_ends_are_exact():
    assert wilson_interval(0, 20_000)[0] == 0
    assert wilson_interval(20_000, 20_000)[1] == 100


@pytest.mark.parametrize(("k", "n", "level"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 95)])
def test_wilson_refuses(k, n, level):
    with pytest.raises(StudyError, match="TABLE_INVALID"):
        wilson_interval(k, n, level)


# --- the endpoint row ---


def test_the_contract():
    assert list(EndpointRow.columns()) == COLUMNS


def test_a_row_from_counts():
    row = build(
        finding_codes=["B_CODE", "A_CODE", "B_CODE"], gate=((900, 40_000), (700, 40_000)), foxp3_mfi_treg=2500.5
    )
    assert row.endpoint_pct == 2.05
    assert row.treg_pct_of_lymphocytes == 2.05
    assert row.treg_pct_of_cd4 == 100 * 820 / 14_600
    assert (row.endpoint_pct_count_low, row.endpoint_pct_count_high) == wilson_interval(820, 40_000)
    assert (row.endpoint_pct_gate_low, row.endpoint_pct_gate_high) == (1.75, 2.25)
    assert row.endpoint_pct_comp_low is None
    assert row.finding_codes == "A_CODE;B_CODE"
    assert row.collected_at == "2026-05-26"


def test_a_true_zero_is_zero():
    row = build(n_numerator=0)
    assert (row.endpoint_pct, row.endpoint_pct_count_low, row.treg_pct_of_cd4) == (0, 0, 0)
    assert 0 < row.endpoint_pct_count_high < 0.01


def test_a_column_named_for_another_denominator_is_empty():
    row = build(template=replace(Used(), denominator="t_cells"))
    assert row.endpoint_pct == 2.05
    assert row.treg_pct_of_lymphocytes is None
    assert row.treg_pct_of_cd4 is not None
    other = build(template=replace(Used(), numerator="b_cells"), n_cd4=5)
    assert (other.endpoint_pct, other.treg_pct_of_lymphocytes, other.treg_pct_of_cd4) == (2.05, None, None)


def test_a_tube_that_is_not_evaluable_has_counts_and_a_reason_and_no_value():
    row = build(status="not_evaluable", finding_codes=["TOO_FEW"], cd25_mfi_treg=5.0, gate=((1, 2), (1, 2)))
    assert (row.n_numerator, row.n_denominator, row.n_events) == (820, 40_000, 60_000)
    assert {name for name, value in row if value is None} == {
        name for name in COLUMNS if name.startswith(("endpoint_pct", "treg_pct")) or name.endswith("_mfi_treg")
    }
    unread = endpoint_row(TUBE, Used(), tregflow_version="0.1.0", status="not_evaluable", finding_codes=["FCS_X"])
    assert (unread.n_events, unread.n_denominator, unread.file_sha256) == (None, None, None)


def test_a_control_tube_has_a_row_without_numbers():
    row = build(ManifestRow("u.fcs", role="unstained"), status="control", foxp3_mfi_treg=1.0)
    assert all(value is None for name, value in row if name.startswith(("n_", "endpoint_", "treg_", "foxp3", "cd25")))
    assert (row.subject_id, row.role, row.file_sha256) == (None, "unstained", "b" * 64)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"n_numerator": 40_001}, "40001 of 40000 events"),
        ({"n_cd4": 819}, "820 of 819 events"),
        ({"n_denominator": 0, "n_numerator": 0}, "needs n_numerator and a denominator above 0"),
        ({"n_numerator": None}, "needs n_numerator"),
        ({"n_events": None}, "needs n_events"),
        ({"n_events": 39_999}, "more events than the file"),
        ({"file_sha256": ""}, "needs n_events and file_sha256"),
        ({"file_sha256": "B" * 64}, "file_sha256: String should match pattern"),
        ({"status": "review"}, "needs a reason in finding_codes"),
        ({"status": "not_evaluable"}, "needs a reason in finding_codes"),
        ({"status": "fine"}, "status: Input should be 'ok'"),
        ({"n_numerator": -1}, "-1 of 40000"),
        ({"n_cd4": 14_600.0}, "n_cd4"),
        ({"foxp3_mfi_treg": float("nan")}, "foxp3_mfi_treg: Input should be a finite number"),
        ({"finding_codes": ["no code"]}, "finding_codes: String should match"),
        ({"tube": replace(TUBE, visit="")}, "a stained tube needs subject_id and visit"),
        ({"status": "control"}, "a stained tube is no control"),
        ({"tube": replace(TUBE, role="fmo:FOXP3")}, "a tube with role fmo:FOXP3 has no endpoint"),
        ({"tube": replace(TUBE, role="blank")}, "role: String should match"),
    ],
)
def test_impossible_rows(values, text):
    with pytest.raises(StudyError, match="TABLE_INVALID") as caught:
        build(**values)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint_pct": 2.0},
        {"endpoint_pct": None},
        {"treg_pct_of_cd4": 0.0},
        {"endpoint_pct_gate_low": 1.0},
        {"endpoint_pct_gate_low": 3.0, "endpoint_pct_gate_high": 2.0},
        {"status": "control"},
        {"status": "not_evaluable", "finding_codes": "X"},
        {"treg_pct": 2.05},
    ],
)
def test_a_row_cannot_be_made_to_lie(change):
    with pytest.raises(ValidationError):
        EndpointRow(**{**build().model_dump(), **change})
    assert EndpointRow(**build().model_dump()) == build()


def test_schema_describes_every_column():
    schema = endpoint_schema()
    assert list(schema["properties"]) == COLUMNS == schema["required"]
    for name, column in schema["properties"].items():
        assert column["description"], name
        assert column["unit"] == "%" if "_pct" in name else "unit" in column, name
    assert "counting only" in schema["properties"]["endpoint_pct_count_low"]["description"]
    assert json.dumps(schema) == json.dumps(endpoint_schema())


def test_rows_fit_the_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = endpoint_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for row in (build(), build(ManifestRow("u.fcs", role="unstained"), status="control")):
        jsonschema.validate(row.model_dump(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**build().model_dump(), "endpoint_pct": 101.0}, schema)


# --- populations and findings ---

TREE = [
    Population("singlets", None, 900, {"CD4": 10.5, "CD25": -3.25}),
    Population("lymphocytes", "singlets", 500, {"CD4": 1.0, "CD25": 2.0}),
    Population("monocytes", "singlets", 100, {"CD4": 1.0, "CD25": 2.0}),
    Population("cd4", "lymphocytes", 200, {"CD4": 1.0, "CD25": 2.0}),
    Population("treg", "cd4", 0, {"CD4": None, "CD25": None}),
    Population("none", "treg", 0, {"CD4": None, "CD25": None}),
]


def test_populations():
    rows = population_rows(TUBE, "S01_W12_stained", TREE, n_events=1000, denominator="lymphocytes", template="t@1.0.0")
    assert [(row.population, row.parent, row.n_parent, row.pct_of_parent, row.pct_of_denominator) for row in rows] == [
        ("singlets", None, 1000, 90.0, None),
        ("lymphocytes", "singlets", 900, 100 * 500 / 900, 100.0),
        ("monocytes", "singlets", 900, 100 * 100 / 900, None),
        ("cd4", "lymphocytes", 500, 40.0, 40.0),
        ("treg", "cd4", 200, 0.0, 0.0),
        ("none", "treg", 0, None, 0.0),
    ]
    with pytest.raises(StudyError, match=r"TABLE_INVALID: S01_W12\.fcs: 1100 of 1000"):
        population_rows(
            TUBE, "x", [Population("singlets", None, 1100)], n_events=1000, denominator="singlets", template="t@1.0.0"
        )


def test_populations_csv(tmp_path):
    rows = population_rows(TUBE, "S01_W12_stained", TREE, n_events=1000, denominator="lymphocytes", template="t@1.0.0")
    write_csv(rows, tmp_path / "populations.csv")
    table = read(tmp_path / "populations.csv")
    assert list(table[0]) == [*PopulationRow.columns(), "mfi_CD4", "mfi_CD25"]
    assert [row["population"] for row in table] == sorted(population.id for population in TREE)
    singlets = next(row for row in table if row["population"] == "singlets")
    assert (singlets["mfi_CD4"], singlets["mfi_CD25"], singlets["pct_of_denominator"]) == ("10.5", "-3.25", "")
    write_parquet(rows, tmp_path / "populations.parquet")
    assert pq.read_table(tmp_path / "populations.parquet").column("mfi_CD25")[5].as_py() is None
    other = population_rows(
        TUBE, "T", [Population("cd4", None, 1, {"CD8": 1.0})], n_events=5, denominator="cd4", template="t@1.0.0"
    )
    write_csv([*rows, *other], tmp_path / "populations.csv")  # a marker that only some tubes have
    table = read(tmp_path / "populations.csv")
    assert [name for name in table[0] if name.startswith("mfi_")] == ["mfi_CD4", "mfi_CD25", "mfi_CD8"]
    assert (table[-1]["mfi_CD4"], table[-1]["mfi_CD8"]) == ("", "1.0")


def test_findings_csv(tmp_path):
    about_tube = Finding("INTERNAL", "fail", "it broke", observed="-0.3", limit=">= 5", remedy="=do(this)")
    rows = [finding_row(about_tube, TUBE, "S01_W12_stained"), finding_row(Finding("INTERNAL", "info", "@batch"))]
    write_csv([*rows, rows[0]], tmp_path / "findings.csv")
    table = read(tmp_path / "findings.csv")
    assert list(table[0]) == list(FindingRow.columns())
    assert [row["tube"] for row in table] == ["", "S01_W12_stained"]  # the same doubt twice is one row
    assert table[0]["message"] == "'@batch"  # no spreadsheet runs it
    assert (table[1]["observed"], table[1]["limit"], table[1]["remedy"]) == ("-0.3", ">= 5", "'=do(this)")
    assert table_schema(FindingRow)["properties"]["severity"]["enum"] == ["info", "review", "fail"]


# --- writing ---


def several():
    visits = ["BL", "W12", "W24"]
    rows = [build(replace(TUBE, subject_id=subject, visit=visit)) for subject in ("S01", "S02") for visit in visits]
    return [*rows, build(ManifestRow("u.fcs", role="unstained", batch_id="B1"), status="control")]


def test_endpoint_csv(tmp_path):
    path = tmp_path / "endpoint.csv"
    write_csv(several()[::-1], path)
    data = path.read_bytes()
    assert b"\r" not in data
    assert data.endswith(b"\n")
    table = read(path)
    assert list(table[0]) == COLUMNS
    assert [(row["subject_id"], row["visit"]) for row in table] == [
        ("", ""), ("S01", "BL"), ("S01", "W12"), ("S01", "W24"), ("S02", "BL"), ("S02", "W12"), ("S02", "W24")
    ]  # fmt: skip
    row = table[1]
    assert (row["n_numerator"], row["n_denominator"], row["endpoint_pct"]) == ("820", "40000", "2.05")
    assert float(row["treg_pct_of_cd4"]) == 100 * 820 / 14_600  # in full
    assert row["endpoint_pct_comp_low"] == ""
    assert table[0]["n_events"] == ""


def test_percentages_are_recomputed_on_write(tmp_path):
    write_csv([build().model_copy(update={"endpoint_pct": 99.0, "endpoint_pct_count_low": 0.0})], tmp_path / "e.csv")
    (row,) = read(tmp_path / "e.csv")
    assert float(row["endpoint_pct"]) == 2.05
    assert float(row["endpoint_pct_count_low"]) == wilson_interval(820, 40_000)[0]


def test_a_table_without_rows_has_its_header(tmp_path):
    write_csv([], tmp_path / "findings.csv", model=FindingRow)
    assert (tmp_path / "findings.csv").read_text() == ",".join(FindingRow.columns()) + "\n"
    write_parquet([], tmp_path / "e.parquet", model=EndpointRow)
    assert pq.read_table(tmp_path / "e.parquet").column_names == COLUMNS


def test_parquet(tmp_path):
    path = tmp_path / "endpoint.parquet"
    write_parquet(several(), path)
    table = pq.read_table(path)
    assert table.column_names == COLUMNS
    for name in COLUMNS:
        kind = (
            pa.int64()
            if name.startswith("n_") or name == "replicate"
            else pa.float64() if "pct" in name or "mfi" in name else pa.string()
        )  # fmt: skip
        assert table.schema.field(name).type == kind, name
    assert table.schema.field("endpoint_pct").metadata[b"unit"] == b"%"
    assert table.column("n_numerator").to_pylist() == [None] + [820] * 6
    write_csv(several(), tmp_path / "endpoint.csv")
    for written, row in zip(read(tmp_path / "endpoint.csv"), table.to_pylist(), strict=True):
        assert written == {name: "" if value is None else str(value) for name, value in row.items()}


def test_same_rows_same_bytes(tmp_path):
    rows = several()[:3]
    for writer, name in ((write_csv, "e.csv"), (write_parquet, "e.parquet")):
        found = set()
        for order in permutations(rows):
            writer(order, tmp_path / name)
            found.add((tmp_path / name).read_bytes())
        assert len(found) == 1


def test_keys_are_unique(tmp_path):
    first, second = build(), build(replace(TUBE, file="again.fcs"))
    for rows in ([first, first], [first, second]):  # one row twice; two numbers for one specimen
        for writer in (write_csv, write_parquet):
            with pytest.raises(StudyError, match="TABLE_INVALID: more than one EndpointRow for the key"):
                writer(rows, tmp_path / "e.csv")
    both = [
        build(replace(TUBE, file=file), status="not_evaluable", finding_codes=["TWO_TUBES"])
        for file in ("S01_W12.fcs", "again.fcs")
    ]
    write_csv(both, tmp_path / "e.csv")  # rows out = rows in
    assert len(read(tmp_path / "e.csv")) == 2


def test_a_tube_that_the_manifest_lists_twice_has_two_rows(tmp_path):
    codes = ["TUBE_DUPLICATE_BYTES", "TUBE_DUPLICATE_KEY"]
    twice = build(status="not_evaluable", finding_codes=codes)
    write_csv([twice, twice], tmp_path / "e.csv")
    write_parquet([twice, twice], tmp_path / "e.parquet")
    assert [row["file"] for row in read(tmp_path / "e.csv")] == ["S01_W12.fcs"] * 2
    assert pq.read_table(tmp_path / "e.parquet").num_rows == 2
    numbers = build(status="review", finding_codes=codes)
    for rows in ([numbers, numbers], [build(status="not_evaluable", finding_codes=["TUBE_DUPLICATE_BYTES"])] * 2):
        with pytest.raises(StudyError, match="TABLE_INVALID: more than one EndpointRow"):
            write_csv(rows, tmp_path / "e.csv")


@dataclass(frozen=True)
class Recorded:
    tube: str
    file: str = "S01_W12.fcs"
    subject_id: str = "S01"
    visit: str = "W12"
    role: str = "stained"
    replicate: int = 1
    collected_at: str = ""
    batch_id: str = ""


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"n_numerator": 40_001}, "40001 of 40000 events"),
        ({"gate": ((5, 4), (1, 2))}, "5 of 4 events"),
        ({"status": "fine"}, "status: Input should be 'ok'"),
    ],
)
def test_a_record_that_was_edited_is_named(values, text):
    with pytest.raises(
        StudyError, match=f"TABLE_INVALID: S01_W12_stained: {text}.* Delete the tube's record in samples/"
    ):
        build(Recorded("S01_W12_stained"), **values)


@pytest.mark.parametrize("parent", ["gone", "treg", "cd4"])
def test_populations_of_a_record_that_was_edited(parent):
    tree = [
        Population("cd4", parent if parent != "gone" else None, 10),
        Population("treg", parent if parent == "gone" else "cd4", 5),
    ]
    with pytest.raises(StudyError, match=r"TABLE_INVALID: S01_W12_stained: population (cd4|treg) lies in "):
        population_rows(
            Recorded("S01_W12_stained"), "S01_W12_stained", tree, n_events=20, denominator="cd4", template="t@1.0.0"
        )


def test_rows_of_one_model(tmp_path):
    with pytest.raises(StudyError, match="TABLE_INVALID: expected rows of one model, found EndpointRow, FindingRow"):
        write_csv([build()], tmp_path / "e.csv", model=FindingRow)
    with pytest.raises(StudyError, match="TABLE_INVALID: expected rows of one model, found none"):
        write_csv([], tmp_path / "e.csv")
    assert not list(tmp_path.iterdir())


def test_numpy_floats_are_written_as_numbers(tmp_path):
    write_csv([build(foxp3_mfi_treg=np.float64(0.1))], tmp_path / "e.csv")
    assert read(tmp_path / "e.csv")[0]["foxp3_mfi_treg"] == "0.1"


def test_the_room_is_light():
    code = "import sys, tregflow.study; print(sorted({'pandas', 'openpyxl', 'pyarrow', 'plotly'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
