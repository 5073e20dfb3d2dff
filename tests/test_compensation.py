"""Spillover: reading, refusing and applying; against FlowUtils, FlowKit and R flowCore."""

from __future__ import annotations

import csv
from pathlib import Path

import flowkit
import flowutils.compensate as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import real_data

from tregflow.compensation import (
    Spillover,
    check_not_compensated,
    require_channels,
    resolve_spillover,
    spillover_from_csv,
    spillover_from_keywords,
)
from tregflow.errors import CompensationError
from tregflow.fcs import read_fcs, read_text

PNN = ("FSC-A", "FITC-A", "PE-A", "APC Cy7-A", "Time")
THREE = "3,FITC-A,PE-A,APC Cy7-A,1,0.1,0,0.02,1,1.5,-0.01,0,1"
MATRIX = np.array([[1, 0.1, 0], [0.02, 1, 1.5], [-0.01, 0, 1]])


def from_text(text: str, key: str = "$SPILLOVER") -> Spillover:
    spillover, findings = spillover_from_keywords({key: text}, PNN)
    assert spillover is not None
    assert findings == ()
    return spillover


@pytest.mark.parametrize("key", ["$SPILLOVER", "SPILL", "spill", "$Spill", "SPILLOVER"])
def test_reads_every_spelling_of_the_keyword(key: str) -> None:
    spillover = from_text(THREE, key)
    assert spillover.source == f"file:{key.upper()}"
    assert spillover.channels == PNN[1:4]
    np.testing.assert_array_equal(spillover.matrix, MATRIX)  # above 1 and below 0 are legal
    assert spillover.condition_number == pytest.approx(np.linalg.cond(MATRIX))
    assert not spillover.matrix.flags.writeable
    assert not spillover.inverse.flags.writeable
    assert not spillover.is_identity
    assert check_not_compensated(spillover, PNN) == ()


def test_line_breaks_spaces_and_trailing_commas_are_no_content() -> None:
    assert from_text(THREE.replace(",", " ,\n ") + ",,").sha256 == from_text(THREE).sha256


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("2,fitc-a,PE -A,1,0,0.1,1", ("FITC-A", "PE-A")),
        ("2,2,3,1,0,0.1,1", ("FITC-A", "PE-A")),
        ("2,Comp-FITC-A,PE-A,1,0,0.1,1", ("FITC-A", "PE-A")),
    ],
)
def test_another_spelling_is_accepted_where_one_reading_fits_and_is_a_finding(
    text: str, channels: tuple[str, ...]
) -> None:
    spillover, (finding,) = spillover_from_keywords({"$SPILLOVER": text}, PNN)
    assert spillover is not None
    assert spillover.channels == channels
    assert (finding.code, finding.severity) == ("COMPENSATION_NAMES", "info")


@pytest.mark.parametrize(
    ("names", "pnn"),
    [
        ("FITC-A,BV421-A", PNN),  # none
        ("FITC-A,pe-a", (*PNN, "PE -A")),  # two, loosely
        ("FITC-A,PE-A", (*PNN, "PE-A")),  # two, exactly
        ("2,9", PNN),  # no such number
    ],
)
def test_a_name_that_is_not_exactly_one_channel(names: str, pnn: tuple[str, ...]) -> None:
    with pytest.raises(CompensationError, match=r"COMPENSATION_CHANNELS: file:SPILL names .* expected exactly one"):
        spillover_from_keywords({"SPILL": f"2,{names},1,0,0,1"}, pnn)


@pytest.mark.parametrize(
    "text",
    [
        "3,FITC-A,PE-A,APC Cy7-A",  # Miltenyi: names without coefficients
        "2,FITC-A,PE-A,1,0,0",
        "2,FITC-A,PE-A,1,0,0,1,1",
        "2,FITC-A,PE-A,1,0,zero,1",
        "2,FITC-A,PE-A,1,0,0,1,0,0,0,1",  # decimal commas
        "2,FITC-A,FITC-A,1,0,0,1",
        "0",
        "two,FITC-A,PE-A,1,0,0,1",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(CompensationError, match=r"COMPENSATION_MALFORMED: file:\$SPILLOVER: expected .*; found"):
        spillover_from_keywords({"$SPILLOVER": text}, PNN)


def test_not_finite_and_singular() -> None:
    with pytest.raises(CompensationError, match=r"COMPENSATION_NOT_FINITE: .* nan for the spillover of PE-A into FITC"):
        from_text("2,FITC-A,PE-A,1,0,nan,1")
    with pytest.raises(CompensationError, match=r"COMPENSATION_SINGULAR: .* condition number"):
        from_text("2,FITC-A,PE-A,1,1,1,1")
    with pytest.raises(CompensationError, match=r"COMPENSATION_SINGULAR"):
        from_text("2,FITC-A,PE-A,0,0,0,0")


def test_none_or_two() -> None:
    assert spillover_from_keywords({"$PAR": "5", "$SPILLOVER": " "}, PNN) == (None, ())
    both, _ = spillover_from_keywords({"SPILL": THREE, "$SPILLOVER": THREE.replace("0.1", "0.10")}, PNN)
    assert both is not None
    assert both.source == "file:$SPILLOVER"
    with pytest.raises(CompensationError, match=r"COMPENSATION_AMBIGUOUS: file:\$SPILLOVER and file:SPILL"):
        spillover_from_keywords({"SPILL": THREE, "$SPILLOVER": THREE.replace("0.1", "0.2")}, PNN)


def test_missing_and_partial() -> None:
    with pytest.raises(CompensationError, match=r"COMPENSATION_MISSING: a\.fcs has no spillover; .* PE-A"):
        require_channels(None, ["PE-A"], file="a.fcs")
    spillover = from_text("2,FITC-A,PE-A,1,0,0.1,1")
    assert require_channels(spillover, ["PE-A"], file="a.fcs") is spillover
    with pytest.raises(CompensationError, match=r"COMPENSATION_PARTIAL: .* a\.fcs does not cover APC Cy7-A"):
        require_channels(spillover, ["PE-A", "APC Cy7-A"], file="a.fcs")


def test_compensated_before() -> None:
    exported = ("FSC-A", "Comp-FITC-A", "Comp-PE-A")
    text = "2,FITC-A,PE-A,1,0.1,0,1"
    spillover, _ = spillover_from_keywords({"SPILL": text}, exported)
    assert spillover is not None
    with pytest.raises(
        CompensationError, match=r"COMPENSATION_TWICE: .* Comp-FITC-A, Comp-PE-A are named as compensat"
    ):
        check_not_compensated(spillover, exported)
    identity, _ = spillover_from_keywords({"SPILL": "2,FITC-A,PE-A,1,0,0,1"}, exported)
    assert identity is not None
    (finding,) = check_not_compensated(identity, exported)
    assert (finding.code, finding.severity) == ("COMPENSATION_DONE_BEFORE", "info")
    # a file that holds both: the matrix names the uncompensated ones
    both = (*exported, "FITC-A", "PE-A")
    spillover, findings = spillover_from_keywords({"SPILL": text}, both)
    assert spillover is not None
    assert (spillover.channels, findings) == (("FITC-A", "PE-A"), ())
    assert check_not_compensated(spillover, both) == ()


def test_identity_and_percentages_are_findings() -> None:
    (finding,) = check_not_compensated(from_text("2,FITC-A,PE-A,1,0,1e-6,1"), PNN)
    assert (finding.code, finding.severity) == ("COMPENSATION_IDENTITY", "review")
    (finding,) = check_not_compensated(from_text("2,FITC-A,PE-A,1,0,3,100"), PNN)
    assert (finding.code, finding.observed) == ("COMPENSATION_DIAGONAL", "100.0")


@pytest.mark.parametrize(
    ("keywords", "matrix"),
    [
        # 28.4 % of parameter 2 was subtracted from parameter 3: its spillover is 0.284
        ({"$DFC2TO3": "28.4", "$DFC3TO2": "0.0", "$DFC9TO1": "0"}, [[1, 0.284], [0, 1]]),
        # FCS 3.0: element (3, 2) is the percentage of parameter 2 subtracted (negative) from parameter 3
        ({"$COMP": "3,1,0,0,0,1,0,0,-28.4,1"}, [[1, 0.284], [0, 1]]),
        ({"$DFC2TO3": "50", "$DFC3TO2": "20"}, [[1 / 0.9, 0.5 / 0.9], [0.2 / 0.9, 1 / 0.9]]),
    ],
)
def test_what_the_instrument_subtracted_is_read_but_not_applied_again(
    keywords: dict[str, str], matrix: list[list[float]]
) -> None:
    spillover, (finding,) = spillover_from_keywords(keywords, PNN)
    assert spillover is not None
    assert spillover.electronic
    assert spillover.channels == ("FITC-A", "PE-A")
    np.testing.assert_allclose(spillover.matrix, matrix, rtol=1e-14, atol=1e-15)
    assert (finding.code, finding.severity) == ("COMPENSATION_ELECTRONIC", "review")
    with pytest.raises(CompensationError, match=r"COMPENSATION_TWICE: .* \(the instrument applied it\)"):
        check_not_compensated(spillover, PNN)


def test_instrument_keywords_of_zero_or_that_make_no_sense() -> None:
    assert spillover_from_keywords({"$DFC1TO2": "0.0", "$DFC2TO1": "0"}, PNN) == (None, ())
    assert spillover_from_keywords({"$COMP": "2,1,0,0,1"}, PNN) == (None, ())
    for keywords in ({"$DFC1TO9": "3"}, {"$DFC0TO2": "3"}, {"$DFC1TO2": "x"}, {"$COMP": "2,1,0,0"}, {"$COMP": "x"}):
        with pytest.raises(CompensationError, match=r"COMPENSATION_MALFORMED"):
            spillover_from_keywords(keywords, PNN)
    with pytest.raises(CompensationError, match=r"COMPENSATION_SINGULAR: the percentages of file:\$DFCmTOn"):
        spillover_from_keywords({"$DFC1TO2": "100", "$DFC2TO1": "100"}, PNN)
    spillover, _ = spillover_from_keywords({"$SPILLOVER": THREE, "$COMP": "2,1,0,-5,1"}, PNN)
    assert spillover is not None
    assert spillover.source == "file:$SPILLOVER"


CSV_TABLES = {
    "plain.csv": "FITC-A,PE-A,APC Cy7-A\n1,0.1,0\n0.02,1,1.5\n-0.01,0,1\n",
    "flowjo.csv": ",FITC-A,PE-A,APC Cy7-A\nFITC-A,1,0.1,0\nPE-A,0.02,1,1.5\nAPC Cy7-A,-0.01,0,1\n",
    "flowjo_markers.csv": ",FITC-A :: CD3,PE-A :: CD25,APC Cy7-A\nFITC-A :: CD3,1,0.1,0\nPE-A :: CD25,0.02,1,1.5\n"
    "APC Cy7-A,-0.01,0,1\n",
    "r.csv": '"","FITC-A","PE-A","APC Cy7-A"\n"FITC-A",1,0.1,0\n"PE-A",0.02,1,1.5\n"APC Cy7-A",-0.01,0,1\n',
    "r_table.txt": '"FITC-A" "PE-A" "APC Cy7-A"\n"FITC-A" 1 0.1 0\n"PE-A" 0.02 1 1.5\n"APC Cy7-A" -0.01 0 1\n',
    "rows_in_another_order.csv": ",FITC-A,PE-A,APC Cy7-A\nAPC Cy7-A,-0.01,0,1\nFITC-A,1,0.1,0\nPE-A,0.02,1,1.5\n",
    "tabs.tsv": "title\n<\t>\nFITC-A\tPE-A\tAPC Cy7-A\n1\t0.1\t0\n0.02\t1\t1.5\n-1e-2\t0\t1\n",
    "excel_german.csv": "\ufeff;FITC-A;PE-A;APC Cy7-A\r\nFITC-A;1;0,1;0\r\n"
    "PE-A;0,02;1;1,5\r\nAPC Cy7-A;-0,01;0;1\r\n;;;\r\n",
    "comment.csv": "# FITC-A,PE-A,APC Cy7-A\n1,0.1,0,\n0.02,1,1.5,\n-0.01,0,1,\n\n",
}


@pytest.mark.parametrize("name", CSV_TABLES)
def test_csv_dialects(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(CSV_TABLES[name], encoding="utf-8", newline="")
    spillover = spillover_from_csv(path, PNN)
    assert spillover.source == f"csv:{name}"
    np.testing.assert_array_equal(spillover.matrix, MATRIX)
    assert spillover.sha256 == from_text(THREE).sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FITC-A,PE-A\n1,0\n", "n rows of n numbers; found 0 such tables"),
        ("FITC-A,PE-A\n1,0\n0,x\n", "found 0 such tables"),
        ("FITC-A,PE-A\n1,0\n0,1,2\n", "found 0 such tables"),
        ("", "found 0 such tables"),
        (",FITC-A,PE-A\nFITC-A,1,0\nAPC-A,0,1\n", "rows named as the columns"),
    ],
)
def test_csv_that_is_no_matrix(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "matrix.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CompensationError, match=rf"COMPENSATION_MALFORMED: csv:matrix\.csv: expected .*{message}"):
        spillover_from_csv(path, PNN)


def test_csv_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"\xe9,\xff\n")
    for name in ("absent.csv", "latin.csv"):
        with pytest.raises(
            CompensationError, match=r"COMPENSATION_MALFORMED: .* a readable text file; found"
        ) as caught:
            spillover_from_csv(tmp_path / name, PNN)
        assert str(tmp_path) not in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_compensation_undoes_the_spill_and_equals_flowutils(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = np.eye(n) + rng.uniform(0, 0.5 / n, (n, n)) * (1 - np.eye(n))
    spillover = Spillover("made", tuple(f"c{i}" for i in range(n)), matrix)
    true = rng.normal(1000, 5000, (n, 200))
    raw = matrix.T @ true
    found = spillover.compensate(raw)
    np.testing.assert_allclose(found, true, atol=1e-8)
    np.testing.assert_allclose(found, oracle.compensate(raw.T, matrix).T, atol=1e-9)


def test_hash_is_of_the_content() -> None:
    names, order = PNN[1:4], [2, 0, 1]
    permuted = Spillover("csv:other", tuple(names[i] for i in order), MATRIX[np.ix_(order, order)])
    assert permuted.sha256 == from_text(THREE).sha256
    assert Spillover("a", names, MATRIX * 1.0000001).sha256 != permuted.sha256
    assert Spillover("a", ("X", *names[1:]), MATRIX).sha256 != permuted.sha256
    negative_zero = np.where(MATRIX == 0, -0.0, MATRIX)
    assert Spillover("a", names, negative_zero).sha256 == permuted.sha256


def test_a_matrix_of_the_wrong_shape() -> None:
    with pytest.raises(CompensationError, match=r"COMPENSATION_MALFORMED: made: expected a 3 x 3 matrix"):
        Spillover("made", PNN[1:4], np.eye(2))


# --- real data -------------------------------------------------------------------------------------------------------


def test_numbers_of_r_flowcore() -> None:
    file = read_fcs(real_data("numeric_refs", "reference.fcs"))
    pnn = [parameter.pnn for parameter in file.parameters]
    spillover, _ = spillover_from_keywords(file.keywords, pnn)
    assert spillover is not None
    raw = file.scale_values([pnn.index(channel) for channel in spillover.channels]).T
    compensated = dict(zip(spillover.channels, spillover.compensate(raw), strict=True))
    with real_data("numeric_refs", "golden.csv").open(encoding="utf-8", newline="") as golden:
        rows = [row for row in csv.DictReader(golden) if row["kind"] == "comp"]
    assert len(rows) == 120
    for row in rows:
        found = compensated[row["channel"]][int(row["key"])]
        assert found == pytest.approx(float(row["golden"]), rel=1e-9, abs=1e-6)


def test_arrays_of_flowutils() -> None:
    folder = real_data("numeric_refs", "test_data")
    events = np.load(folder / "test_comp_event_data.npy").astype(np.float64)
    names = (folder / "test_comp_matrix.csv").read_text().splitlines()[0].split(",")
    spillover = spillover_from_csv(folder / "test_comp_matrix.csv", names)
    raw = np.ascontiguousarray(events[:, -len(names) :] if events.shape[1] > len(names) else events)
    expected = oracle.compensate(raw, spillover.matrix)
    np.testing.assert_allclose(spillover.compensate(raw.T).T, expected, rtol=1e-10, atol=1e-9)
    with pytest.raises(CompensationError, match=r"COMPENSATION_MALFORMED: .*missing_row"):
        spillover_from_csv(folder / "test_comp_matrix_missing_row.csv", names)


@pytest.mark.parametrize("name", ["compmatrix", "compref", "compref1", "compref2", "compref3", "compref4"])
def test_matrices_of_flowcore(name: str) -> None:
    folder = real_data("comp_flowcore", "compdata")
    pnn = [parameter.pnn for parameter in read_text(folder / "data" / "060909.001").parameters]
    spillover = spillover_from_csv(folder / name, pnn)
    assert spillover.channels == ("FL1-H", "FL2-H", "FL3-H", "FL4-H")
    assert 0.1 < spillover.matrix[0, 1] < 0.3  # FL1 in FL2, not the reverse
    assert spillover.matrix[1, 0] < 0.05


REAL = {  # file -> channels, and whether a coefficient is above 1
    ("flowkit_misc", "100715.fcs"): (13, True),
    ("flowsom_68983", "68983.fcs"): (11, False),
    ("diva_124500", "124500.fcs"): (8, False),
    ("qc_peacoqc", "091.fcs"): (13, True),
    ("comp_cytoexplorer", "Compensation", "Compensation-PE.fcs"): (11, False),
}


@pytest.mark.parametrize("parts", REAL, ids=lambda parts: parts[-1])
def test_real_files_equal_flowkit(parts: tuple[str, ...]) -> None:
    file = read_fcs(real_data(*parts))
    pnn = [parameter.pnn for parameter in file.parameters]
    spillover, findings = spillover_from_keywords(file.keywords, pnn)
    assert spillover is not None
    assert findings == ()
    assert (len(spillover.channels), spillover.matrix.max() > 1) == REAL[parts]
    raw = file.scale_values([pnn.index(channel) for channel in spillover.channels])[:2000]
    theirs = flowkit.Matrix(file.keywords[spillover.source.removeprefix("file:")], list(spillover.channels))
    np.testing.assert_array_equal(theirs.matrix, spillover.matrix)
    np.testing.assert_allclose(
        spillover.compensate(raw.T).T, oracle.compensate(raw, theirs.matrix), rtol=1e-9, atol=1e-8
    )


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        (("treg_foxp3_aurora", "2025_07_26_AB_02_INF052_00_Ctrl.fcs"), "COMPENSATION_IDENTITY"),
        (("odd_flowio", "fcs_files", "coulter.lmd"), "COMPENSATION_TWICE"),
        (("odd_fcsparser", "FlowCytometers", "fake_bitmask_error", "fcs1_cleaned.lmd"), "COMPENSATION_TWICE"),
        (("odd_flowio", "fcs_files", "variable_int_example.fcs"), "COMPENSATION_CHANNELS"),
        (
            (
                "odd_fcsparser",
                "FlowCytometers",
                "MiltenyiBiotec",
                "FCS3.1",
                "EY_2013-07-19_PBS_FCS_3.1_Well_A1.001.fcs",
            ),
            "COMPENSATION_MALFORMED",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else value,
)
def test_real_files_that_must_not_be_compensated_as_they_say(parts: tuple[str, ...], code: str) -> None:
    text = read_text(real_data(*parts))
    pnn = [parameter.pnn for parameter in text.parameters]
    try:
        spillover, _ = spillover_from_keywords(text.keywords, pnn)
        assert spillover is not None
        found = [finding.code for finding in check_not_compensated(spillover, pnn)]
    except CompensationError as error:
        found = [error.code]
    assert found == [code]


# --- the choice of one source -----------------------------------------------------------------------------------------


def resolve(
    keywords: dict[str, str], sources: tuple[str, ...], csv_path: Path | None = None
) -> tuple[str | None, list[str]]:
    spillover, findings = resolve_spillover(
        keywords, PNN, needed=["FITC-A", "PE-A"], sources=sources, csv=csv_path, file="a.fcs"
    )
    return (None if spillover is None else spillover.source), [finding.code for finding in findings]


def test_the_source_that_the_template_names(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(CSV_TABLES["plain.csv"], encoding="utf-8")
    carried = {"$SPILLOVER": THREE}
    assert resolve(carried, ("file",)) == ("file:$SPILLOVER", [])
    assert resolve(carried, ("manifest",), path) == ("csv:m.csv", [])
    assert resolve({}, ("file", "manifest"), path) == ("csv:m.csv", ["COMPENSATION_ALTERNATIVE"])
    assert resolve({}, ("unmixed",)) == (None, [])
    assert resolve({"$SPILLOVER": "2,FITC-A,PE-A,1,0,0,1"}, ("unmixed",)) == (None, [])
    # what the instrument subtracted is no matrix to apply; a template that says so may use the values as they are
    assert resolve({"$DFC2TO3": "5"}, ("unmixed",)) == (None, ["COMPENSATION_ELECTRONIC"])


def test_no_source_or_one_that_the_template_does_not_name(tmp_path: Path) -> None:
    with pytest.raises(CompensationError, match=r"COMPENSATION_MISSING: a\.fcs"):
        resolve({}, ("file", "manifest"))
    with pytest.raises(CompensationError, match=r"COMPENSATION_NOT_ALLOWED: the manifest names m\.csv for a\.fcs"):
        resolve({"$SPILLOVER": THREE}, ("file",), tmp_path / "m.csv")
    with pytest.raises(CompensationError, match=r"COMPENSATION_NOT_ALLOWED: a\.fcs carries file:SPILL"):
        resolve({"SPILL": THREE}, ("unmixed",))
    with pytest.raises(CompensationError, match=r"COMPENSATION_TWICE"):
        resolve({"$DFC2TO3": "5", "$DFC3TO2": "1"}, ("file",))
    with pytest.raises(CompensationError, match=r"COMPENSATION_PARTIAL: .* PE-A"):
        resolve({"SPILL": "2,FITC-A,APC Cy7-A,1,0.1,0,1"}, ("file",))
