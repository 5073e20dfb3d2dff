import re
from datetime import datetime, time
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import real_data

from tregflow.atomic import write_atomic
from tregflow.errors import CODES, FcsError, StudyError
from tregflow.study import (
    ManifestRow,
    TubeRules,
    duplicate_keys,
    find_manifest,
    infer_manifest,
    list_tubes,
    read_manifest,
    tube_key,
    tube_name,
    tube_names,
    tubes_below,
    write_manifest,
)
from tregflow.study.cells import guard, unguard

MAY_12 = datetime(2026, 5, 12)  # noqa: DTZ001 - a cell of a workbook has no time zone
HEADER = "file,subject_id,visit,role,collected_at,batch_id,replicate,compensation,lymphocytes_per_ul,comment"


def csv_file(folder: Path, *lines: str, header: str = HEADER, encoding: str = "utf-8") -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(("\n".join([header, *lines]) + "\n").encode(encoding))
    return path


def xlsx_file(folder: Path, *records: list[object], header: str = HEADER) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(header.split(","))
    for record in records:
        sheet.append(record)
    book.save(folder / "manifest.xlsx")
    return folder / "manifest.xlsx"


def problems(path: Path) -> list[tuple[str, str, str]]:
    with pytest.raises(StudyError, match="MANIFEST_INVALID") as caught:
        read_manifest(path)
    return [(problem.code, problem.place, problem.message) for problem in caught.value.data["problems"]]


# --- reading ---


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_of_every_kind_gives_the_same_rows(tmp_path, delimiter, encoding):
    lines = [
        "a.fcs,001,BL,,2026-03-02,B1,,,1850.5,äöü 好",
        "sub\\b.FCS,001,W12,fmo:FOXP3,2026-05-26T08:40,B1,2,c.csv,,",
    ]
    path = csv_file(
        tmp_path,
        *(line.replace(",", delimiter) for line in lines),
        header=HEADER.replace(",", delimiter),
        encoding=encoding,
    )
    assert read_manifest(path) == (
        ManifestRow("a.fcs", "001", "BL", "stained", "2026-03-02", "B1", 1, "", 1850.5, "äöü 好"),
        ManifestRow("sub/b.FCS", "001", "W12", "fmo:FOXP3", "2026-05-26T08:40", "B1", 2, "c.csv"),
    )


def test_columns_in_any_order_channels_and_quotes(tmp_path):
    path = csv_file(
        tmp_path,
        'W12,"a.fcs",S1,PE-A,"two\nlines, and a comma"',
        ",single.fcs,,,",
        header="visit,file,subject_id,channel_CD25,comment",
    )
    with pytest.raises(StudyError, match="MANIFEST_VALUE_MISSING"):
        read_manifest(path)
    path.write_text(path.read_text().replace(",single.fcs,,,", "\n,,,,"))  # the empty rows are no tubes
    (row,) = read_manifest(path)
    assert row == ManifestRow("a.fcs", "S1", "W12", comment="two\nlines, and a comma", channels={"CD25": "PE-A"})
    assert not row.is_control


def test_a_short_row_is_what_a_spreadsheet_saves(tmp_path):
    assert read_manifest(csv_file(tmp_path, "a.fcs,S1,W12")) == (ManifestRow("a.fcs", "S1", "W12"),)


def test_roles(tmp_path):
    path = csv_file(
        tmp_path, "a.fcs,S1,W12,fmo:CD25", "b.fcs,,,single:CD3", "c.fcs,,,unstained", "d.fcs,,,bridge", "e.fcs,S1,W12,"
    )
    rows = read_manifest(path)
    assert [(row.role_kind, row.role_marker, row.is_control) for row in rows] == [
        ("fmo", "CD25", True),
        ("single", "CD3", True),
        ("unstained", "", True),
        ("bridge", "", True),
        ("stained", "", False),
    ]


def test_everything_wrong_is_listed_at_once(tmp_path):
    path = csv_file(
        tmp_path,
        "a.fcs,S1,,stained,12.05.2026,,0,,1e3,",
        ",S2,W12,FMO:FOXP3,2026-02-30,,,,,",
        "../b.fcs,S3,W12,blank,,,,C:\\x.csv,,",
        "c.fcs,-S4,=1+1,,,@b,,,,",
        "d.fcs,S5,W12,,,,,,,,too many",
        header=HEADER + ",batch",
    )
    found = problems(path)
    assert [(code, place) for code, place, _ in found] == [
        ("MANIFEST_COLUMN", "header"),
        ("MANIFEST_VALUE_MISSING", "row 2, visit"),
        ("MANIFEST_VALUE", "row 2, collected_at"),
        ("MANIFEST_VALUE", "row 2, replicate"),
        ("MANIFEST_VALUE", "row 2, lymphocytes_per_ul"),
        ("MANIFEST_ROLE", "row 3, role"),
        ("MANIFEST_VALUE_MISSING", "row 3, file"),
        ("MANIFEST_VALUE", "row 3, collected_at"),
        ("MANIFEST_ROLE", "row 4, role"),
        ("MANIFEST_PATH", "row 4, file"),
        ("MANIFEST_PATH", "row 4, compensation"),
        ("MANIFEST_VALUE", "row 5, subject_id"),
        ("MANIFEST_VALUE", "row 5, visit"),
        ("MANIFEST_VALUE", "row 5, batch_id"),
    ]
    assert "unknown column 'batch' (did you mean batch_id?)" in found[0][2]
    assert "(did you mean fmo:FOXP3?)" in found[5][2]
    with pytest.raises(StudyError) as caught:
        read_manifest(path)
    for code, place, message in found:  # what, where and the cure are in the text too
        assert f"{code}: {place}: {message} {CODES[code].remedy}" in str(caught.value)


@pytest.mark.parametrize("name", ["visit", "subject_id", "file"])
def test_a_column_that_is_missing_must_be_added(tmp_path, name):
    columns = [column for column in ("file", "subject_id", "visit") if column != name]
    path = csv_file(tmp_path, ",".join("x" * len(columns)), header=",".join(columns))
    with pytest.raises(StudyError, match=f"column '{name}' is missing. Add it, and fill in every row.\n") as caught:
        read_manifest(path)
    assert "Rename" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "lines", "code", "text"),
    [
        ("subject_id,visit", ["S1,W12"] * 2, "MANIFEST_COLUMN", "column 'file' is missing"),
        ("file,subject_id", ["a.fcs,S1", "b.fcs,S1"], "MANIFEST_COLUMN", "column 'visit' is missing"),
        ("file,file,role", ["a.fcs,b.fcs,bridge"], "MANIFEST_COLUMN", "is there 2 times"),
        ("file,subject_id,visit", ["a.fcs,S1,W12,extra"], "MANIFEST_COLUMN", "more cells than the header"),
        ("file,subject_id,visit,", ["a.fcs,S1,W12,extra"], "MANIFEST_COLUMN", "unknown column ''"),
        ("file,role,channel_", ["a.fcs,bridge,x"], "MANIFEST_COLUMN", "unknown column 'channel_'"),
        ("file,subject_id,visit", [], "MANIFEST_EMPTY", "no tubes"),
        ("file,role", ["/a.fcs,unstained"], "MANIFEST_PATH", "'/a.fcs' is not a path inside"),
        ("file,role", ["..\\a.fcs,unstained"], "MANIFEST_PATH", "is not a path inside"),
        ("file,role", ["a.fcs,fmo"], "MANIFEST_ROLE", "unknown role 'fmo'"),
        ("file,role", ["a.fcs,unstained:CD3"], "MANIFEST_ROLE", "unknown role"),
        ("file,role", ["=a.fcs,unstained"], "MANIFEST_VALUE", "run it as a formula"),
        ("file,subject_id,visit", ['a.fcs,"S\n1",W12'], "MANIFEST_VALUE", "control character"),
        ("file,role,collected_at", ["a.fcs,bridge,2026-W12"], "MANIFEST_VALUE", "not an ISO 8601 date"),
        ("file,role,collected_at", ["a.fcs,bridge,20260512"], "MANIFEST_VALUE", "not an ISO 8601 date"),
        ("file,role,replicate", ["a.fcs,bridge,1.5"], "MANIFEST_VALUE", "not a replicate number"),
        ("file,subject_id,visit", [f"a.fcs,{'S' * 65},W12"], "MANIFEST_VALUE", "has 65 characters; at most 64"),
        ("file,subject_id,visit", [f"a.fcs,S1,{'W' * 65}"], "MANIFEST_VALUE", "has 65 characters; at most 64"),
        ("file,role,batch_id", [f"a.fcs,bridge,{'B' * 65}"], "MANIFEST_VALUE", "has 65 characters; at most 64"),
        ("file,subject_id,visit", ["a.fcs,S1,45789"], "MANIFEST_SPREADSHEET", "'45789' is the day 2025-05-12 as"),
        ("file,subject_id,visit", ["a.fcs,S1,12.0"], "MANIFEST_SPREADSHEET", "'12.0' is a number, as"),
        ("file,subject_id,visit", ["a.fcs,12.0,W12"], "MANIFEST_SPREADSHEET", "'12.0' is a number, as"),
    ],
)
def test_each_problem_by_itself(tmp_path, header, lines, code, text):
    assert [(found, text in message) for found, _, message in problems(csv_file(tmp_path, *lines, header=header))] == [
        (code, True)
    ]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("manifest.csv", b"file;subject_id,visit\n", "expected one delimiter"),
        ("manifest.csv", "file,comment\na.fcs,äö\n".encode("latin-1"), "not UTF-8"),
        ("manifest.csv", "file\n".encode("utf-16"), "not UTF-8"),
        ("manifest.csv", "file\n".encode("utf-16-le"), "NUL"),
        ("manifest.csv", b'file,comment\na.fcs,"x"y\n', "not well-formed"),
        ("manifest.xlsx", b"\xd0\xcf\x11\xe0 an old workbook, or one with a password", "not an .xlsx workbook"),
        ("manifest.ods", b"", "expected .csv or .xlsx"),
        ("missing.csv", None, "No such file"),
        ("missing.xlsx", None, "No such file"),
    ],
)
def test_no_table_at_all(tmp_path, name, content, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=f"MANIFEST_UNREADABLE.*{text}"):
        read_manifest(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("manifest.csv", "file,comment\na.fcs,äö\n".encode("latin-1"), "byte 0xE4 in line 2, column 7.*'CSV UTF-8'"),
        ("missing.csv", None, "No such file or directory. Check the path.$"),
        ("missing.xlsx", None, "No such file or directory. Check the path.$"),
        ("manifest.ods", b"", "found '.ods'. Save it"),
    ],
)
def test_what_to_do_with_a_file_that_cannot_be_read(tmp_path, name, content, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=f"MANIFEST_UNREADABLE: {name}.*{text}"):
        read_manifest(tmp_path / name)


@pytest.mark.parametrize("column", ["subject_id", "visit", "batch_id"])
@pytest.mark.parametrize("word", ["NA", "na", "N/A", "nan", "NaN", "None", "NULL", "null", "<NA>", "TRUE", "false"])
def test_words_that_statistics_programs_read_as_missing_or_logical(tmp_path, column, word):
    values = {"subject_id": "S1", "visit": "W12", "batch_id": "B1"} | {column: word}
    path = csv_file(tmp_path, ",".join(["a.fcs", *values.values()]), header=f"file,{','.join(values)}")
    ((code, place, message),) = problems(path)
    assert (code, place) == ("MANIFEST_VALUE", f"row 2, {column}")
    assert message.startswith(f"'{word}' is read as ")


@pytest.mark.parametrize("word", ["NAN1", "nancy", "T", "F", "NULLA", "39999", "60001", "S45789"])
def test_identifiers_that_only_look_like_it(tmp_path, word):
    assert read_manifest(csv_file(tmp_path, f"a.fcs,{word},{word}"))[0].visit == word


def test_a_subject_may_have_any_number(tmp_path):
    assert read_manifest(csv_file(tmp_path, "a.fcs,45789,W12"))[0].subject_id == "45789"


def test_one_visit_is_written_in_one_way(tmp_path):
    lines = ["a.fcs,S1,W12", "b.fcs,S2,w12", "c.fcs,S3,W 12", "d.fcs,S4,W12", "e.fcs,S5,W_12", "f.fcs,S1,BL"]
    path = csv_file(tmp_path, *lines, "g.fcs,S2,bl", "h.fcs,S6,W 1 2", "i.fcs,S6,W24")
    assert problems(path) == [
        (
            "MANIFEST_VISITS",
            "column visit",
            "'W12' (row 2, row 5), 'w12' (row 3), 'W 12' (row 4), 'W_12' (row 6) differ only by case or separators.",
        ),
        ("MANIFEST_VISITS", "column visit", "'BL' (row 7), 'bl' (row 8) differ only by case or separators."),
    ]


@pytest.mark.parametrize("visits", [("1-2", "12"), ("W1.5", "W15"), ("C1D1", "C1D11"), ("W1", "W01"), ("-", "_")])
def test_visits_that_differ_by_more(tmp_path, visits):
    rows = [ManifestRow("a.fcs", "S1", "x" + visits[0]), ManifestRow("b.fcs", "S1", "x" + visits[1])]
    write_manifest(tmp_path / "manifest.csv", rows)
    if visits == ("-", "_"):
        assert problems(tmp_path / "manifest.csv")[0][0] == "MANIFEST_VISITS"
    else:
        assert read_manifest(tmp_path / "manifest.csv") == tuple(rows)


def test_visits_are_compared_when_they_are_inferred_too():
    rules = TubeRules(pattern=r"^(?P<subject>S\d+)_(?P<visit>[A-Za-z]+ ?\d+)")
    with pytest.raises(
        StudyError, match=r"TUBES_NOT_INFERRED.*\n.*MANIFEST_VISITS: column visit: 'W12' \(S1_W12.fcs\)"
    ):
        infer_manifest([Path("S1_W12.fcs"), Path("S2_w12.fcs")], no_keywords, rules)


def test_two_rows_that_are_the_same_are_two_rows(tmp_path):
    rows = read_manifest(csv_file(tmp_path, "a.fcs,S1,W12", "a.fcs,S1,W12", "b.fcs,S1,BL"))
    assert rows == (ManifestRow("a.fcs", "S1", "W12"),) * 2 + (ManifestRow("b.fcs", "S1", "BL"),)
    assert list(duplicate_keys(rows).values()) == [rows[:2]]


def test_find_manifest(tmp_path):
    assert find_manifest(tmp_path) is None
    assert find_manifest(csv_file(tmp_path).parent) == tmp_path / "manifest.csv"
    xlsx_file(tmp_path).rename(tmp_path / "Manifest.XLSX")
    with pytest.raises(StudyError, match=r"MANIFEST_AMBIGUOUS.*Manifest\.XLSX and manifest\.csv"):
        find_manifest(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    assert find_manifest(tmp_path) == tmp_path / "Manifest.XLSX"
    assert find_manifest(tmp_path / "gone") is None


# --- what a spreadsheet does ---


@pytest.mark.parametrize(
    "visit",
    ["12-May", "May-12", "12. Mai", "12-mai", "5月12日", "2026年5月12日", "5/12", "5/12/2026", "2026/5/12",
     "2026-05-12", "12.05.2026", "2026-05-12 00:00:00", "1.00E+05", "1E5", "#NAME?", "#VALUE!", "########"],
)  # fmt: skip
def test_a_visit_that_a_spreadsheet_changed(tmp_path, visit):
    ((code, place, message),) = problems(csv_file(tmp_path, f"a.fcs,S1,{visit}"))
    assert (code, place) == ("MANIFEST_SPREADSHEET", "row 2, visit")
    assert f"'{visit}'" in message


@pytest.mark.parametrize(
    "visit", ["W5-12", "BL", "12", "1.10", "V-2", "MAR-12", "week 12", "D1", "0", "W12.5", "C1D15", "5-12"]
)
def test_a_visit_that_no_spreadsheet_made(tmp_path, visit):
    (row,) = read_manifest(csv_file(tmp_path, f"a.fcs,S1,{visit}"))
    assert row.visit == visit


def test_a_batch_may_be_a_day(tmp_path):
    (row,) = read_manifest(csv_file(tmp_path, "a.fcs,S1,W12,,,2026-05-12"))
    assert row.batch_id == "2026-05-12"
    assert problems(csv_file(tmp_path, "a.fcs,S1,W12,,,12-May"))[0][:2] == ("MANIFEST_SPREADSHEET", "row 2, batch_id")


def test_lost_leading_zeros(tmp_path):
    found = problems(csv_file(tmp_path, "a.fcs,007,BL", "b.fcs,8,BL", "c.fcs,1234,BL", "d.fcs,S1,BL"))
    assert [(code, place) for code, place, _ in found] == [("MANIFEST_SPREADSHEET", "row 3, subject_id")]
    assert "'008' was probably meant" in found[0][2]
    assert len(read_manifest(csv_file(tmp_path, "a.fcs,7,0", "b.fcs,12,12"))) == 2  # nothing says they had zeros


def test_xlsx_is_read_as_text(tmp_path):
    path = xlsx_file(
        tmp_path,
        ["a.fcs", "007", "W12", None, MAY_12, "B1", 2, None, 1850, "ok"],
        ["b.fcs", "101", 12, "stained", MAY_12.replace(hour=8, minute=40), None, None, None, 1850.5, "1"],
        [],
        ["c.fcs", None, None, "unstained"],
    )
    assert read_manifest(path) == (
        ManifestRow("a.fcs", "007", "W12", "stained", "2026-05-12T00:00:00", "B1", 2, "", 1850.0, "ok"),
        ManifestRow("b.fcs", "101", "12", "stained", "2026-05-12T08:40:00", "", 1, "", 1850.5, "1"),
        ManifestRow("c.fcs", role="unstained"),
    )
    book = openpyxl.load_workbook(path)
    book.active["E2"].number_format = "yyyy-mm-dd"
    book.save(path)
    assert read_manifest(path)[0].collected_at == "2026-05-12"


@pytest.mark.parametrize(
    ("cell", "value", "number_format", "text"),
    [
        ("C2", MAY_12, "d-mmm", "'2026-05-12' (shown as d-mmm) is a date"),
        ("C2", time(5, 12), "h:mm", "'05:12:00' is a date"),
        ("C2", 100000, "0.00E+00", "'100000' (shown in scientific notation (0.00E+00)) is a number"),
        ("B2", 7, "000", "'7' (shown as 007) is a number"),
        ("B2", 1234567890123456789, "General", "digits beyond the fifteenth are lost"),
        ("C2", 1.1, "General", "'1.1' is a number"),
        ("C2", True, "General", "the boolean 'TRUE'"),
        ("C2", "=B2", "General", "the formula '=B2'"),
        ("J2", "#NAME?", "General", "the error '#NAME?'"),
        ("B2", 7, "General", "'007' was probably meant"),
    ],
)  # fmt: skip
def test_a_cell_that_excel_changed(tmp_path, cell, value, number_format, text):
    path = xlsx_file(tmp_path, ["a.fcs", "001", "W12"], ["b.fcs", "002", "W12"])
    book = openpyxl.load_workbook(path)
    book.active[cell].value = value
    book.active[cell].number_format = number_format
    book.save(path)
    ((code, place, message),) = problems(path)
    assert (code, place) == ("MANIFEST_SPREADSHEET", f"cell {cell}")
    assert text in message


def test_sheets_of_a_workbook(tmp_path):
    path = xlsx_file(tmp_path, ["a.fcs", "S1", "W12"])
    book = openpyxl.load_workbook(path)
    book.create_sheet("empty")
    book.save(path)
    assert len(read_manifest(path)) == 1
    book.create_sheet("notes").append(["x", "y"])
    book.save(path)
    with pytest.raises(StudyError, match=r"MANIFEST_UNREADABLE.*'Sheet', 'notes'"):
        read_manifest(path)
    book["Sheet"].title = "Manifest"
    book.save(path)
    assert len(read_manifest(path)) == 1
    book["Manifest"].merge_cells("B2:C2")
    book.save(path)
    with pytest.raises(
        StudyError, match=r"MANIFEST_UNREADABLE.*B2:C2 are merged.* Unmerge the cells and fill every row"
    ):
        read_manifest(path)


# --- writing ---

_TEXT = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
_ID = _TEXT.map(lambda text: f"S{text}")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            ManifestRow,
            file=_ID.map(lambda text: text.replace("/", "_").replace("\\", "_").replace(":", "_") + ".fcs"),
            subject_id=_ID,
            visit=_ID,
            role=st.sampled_from(["stained", "fmo:FOXP3", "single:CD3", "unstained", "bridge"]),
            collected_at=st.sampled_from(["", "2026-05-12", "2026-05-12T08:40", "2026-05-12T08:40:00+08:00"]),
            replicate=st.integers(1, 99),
            lymphocytes_per_ul=st.none() | st.integers(0, 10**6).map(lambda n: n / 8),
            comment=st.text("=+-@' ,;\"\nab好", max_size=8).map(str.strip),
            channels=st.dictionaries(st.sampled_from(["CD25", "FOXP3"]), _ID, max_size=2),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda row: row.file,
    )
)
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("round") / "manifest.csv"
    write_manifest(path, rows)
    assert read_manifest(path) == tuple(rows)


def test_written_manifest(tmp_path):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [ManifestRow("a.fcs", "S1", "BL", comment="=cmd()"), ManifestRow("b.fcs", role="unstained")])
    assert path.read_bytes() == (f"{HEADER}\na.fcs,S1,BL,stained,,,1,,,'=cmd()\nb.fcs,,,unstained,,,1,,,\n").encode()
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]
    with pytest.raises(StudyError, match=r"MANIFEST_UNREADABLE.*written as \.csv only"):
        write_manifest(tmp_path / "manifest.xlsx", [])


@given(st.text("=+-@'\t1.a", max_size=5))
def test_guard_is_undone(text):
    assert unguard(guard(text)) == text
    assert guard(text)[:1] not in {"=", "+", "@", "-"} or re.fullmatch(r"[+-]\d+(\.\d+)?", text)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.csv"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


# --- identity and names ---


def test_duplicate_keys():
    first, second = ManifestRow("a.fcs", "S1", "W12"), ManifestRow("b.fcs", "S1", "W12", batch_id="B2")
    others = [
        ManifestRow("c.fcs", "S1", "W12", replicate=2),
        ManifestRow("d.fcs", "S1", "W12", role="fmo:CD25"),
        ManifestRow("e.fcs", role="unstained", batch_id="B1"),
        ManifestRow("f.fcs", role="unstained", batch_id="B1"),
    ]
    assert duplicate_keys([first, *others, second]) == {("S1", "W12", "stained", 1, "", ""): (first, second)}
    assert tube_key(others[2]) == ("", "", "unstained", 1, "B1", "e.fcs")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (ManifestRow("a.fcs", "S01", "W12"), "S01_W12_stained"),
        (ManifestRow("a.fcs", "S01", "BL", "fmo:FOXP3"), "S01_BL_fmo-FOXP3"),
        (ManifestRow("a.fcs", "S01", "BL", replicate=2), "S01_BL_stained_r2"),
        (ManifestRow("controls/CD3 beads.fcs", role="single:CD3", batch_id="B1"), "B1_single-CD3_CD3-beads"),
        (ManifestRow("a.fcs", "NUL", "a.b/c?"), "NUL_a-b-c_stained"),
        (ManifestRow("con.fcs", role="unstained"), "unstained_con"),
        (ManifestRow("B1_single-CD3.fcs", role="single:CD3", batch_id="B1"), "B1_single-CD3"),
        (ManifestRow("unstained.fcs", role="unstained", batch_id="B1"), "B1_unstained"),
        (ManifestRow("a.fcs", "患者1", "???"), "患者1_x_stained"),
    ],
)
def test_tube_name(row, name):
    assert tube_name(row) == name


def test_long_names_are_cut_and_stay_apart():
    rows = [ManifestRow("a.fcs", "S" * 200 + end, "W12") for end in "12"]
    names = tube_names(rows)
    assert len(set(names)) == 2
    assert all(len(name) <= 80 for name in names)


def test_names_that_would_collide_get_a_hash_of_the_file():
    rows = [ManifestRow("a.fcs", "S1", "W12"), ManifestRow("b.fcs", "s1", "w12"), ManifestRow("c.fcs", "S2", "W12")]
    names = tube_names(rows)
    assert re.fullmatch("S1_W12_stained-[0-9a-f]{8}", names[0])
    assert re.fullmatch("s1_w12_stained-[0-9a-f]{8}", names[1])
    assert names[2] == "S2_W12_stained"
    assert tube_names(rows[::-1]) == names[::-1]  # whatever their order


def test_rows_that_are_the_same_get_names_by_their_position():
    row, other = ManifestRow("a.fcs", "S1", "W12"), ManifestRow("b.fcs", "S1", "W12")
    first, second, third = tube_names([row, row, row])
    assert re.fullmatch("S1_W12_stained-[0-9a-f]{8}", first)
    assert (second, third) == (f"{first}-2", f"{first}-3")
    names = tube_names([row, other, row])
    assert (names[0], names[2]) == (first, second)
    assert names[1] not in {first, second}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text("aA_-.:/ ", max_size=3), st.text("aA_-. ", max_size=3)), max_size=6), st.booleans())
def test_names_are_unique_and_safe(ids, same_file):
    files = ("0.fcs" if same_file else f"{number}.fcs" for number in range(len(ids)))
    names = tube_names([ManifestRow(file, *pair) for file, pair in zip(files, ids, strict=True)])
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(re.fullmatch(r"[\w-]+", name) and "stained" in name for name in names)


# --- inference ---


def no_keywords(path):
    raise AssertionError(f"{path.name} was read though no keyword is asked for")


def test_list_tubes(tmp_path):
    for name in ["b.fcs", "a.FCS", "c.Lmd", "._a.fcs", ".hidden.fcs", "notes.txt", "sub/d.fcs", "other/e.fcs"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.fcs").mkdir()
    assert [path.name for path in list_tubes(tmp_path)] == ["a.FCS", "b.fcs", "c.Lmd"]
    rows = [ManifestRow("sub/d.fcs"), ManifestRow("a.FCS"), ManifestRow("gone/x.fcs")]
    assert [path.relative_to(tmp_path).as_posix() for path in list_tubes(tmp_path, rows)] == [
        "a.FCS", "b.fcs", "c.Lmd", "sub/d.fcs"
    ]  # fmt: skip
    with pytest.raises(StudyError, match="TUBES_FOLDER"):
        list_tubes(tmp_path / "gone")


def test_tubes_below(tmp_path):
    for name in ["a.fcs", "sub/b.fcs", "sub/deep/c.LMD", "sub/notes.txt", ".cache/d.fcs", "sub/._b.fcs"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    assert tubes_below(tmp_path) == 2
    assert tubes_below(tmp_path / "sub" / "deep") == 0
    assert tubes_below(tmp_path / "gone") == 0


def test_infer_from_names():
    rules = TubeRules(
        pattern=r"^(?P<subject>S\d+)_(?P<visit>[A-Z0-9]+)(_(?P<role>[A-Za-z0-9-]+))?(_r(?P<replicate>\d))?\.fcs$",
        roles={"FMO-FOXP3": "fmo:FOXP3", "full": "stained"},
    )
    names = ["S01_BL.fcs", "S01_W12_Full_r2.fcs", "S01_W12_fmo-foxp3.fcs", "S01_W12_unstained.fcs"]
    assert infer_manifest([Path(name) for name in names], no_keywords, rules) == (
        ManifestRow(names[0], "S01", "BL"),
        ManifestRow(names[1], "S01", "W12", replicate=2),
        ManifestRow(names[2], "S01", "W12", "fmo:FOXP3"),
        ManifestRow(names[3], "S01", "W12", "unstained"),
    )


def test_infer_from_keywords_where_the_name_is_silent(tmp_path):
    rules = TubeRules(pattern=r"(?P<subject>S\d+)", keywords={"subject": "PATIENT", "visit": "VISIT", "batch": "RUN"})
    rows = infer_manifest(
        [tmp_path / "sub" / "S01.fcs"],
        lambda path: {"VISIT": " W12 ", "PATIENT": "another", "RUN": "B1"},
        rules,
        folder=tmp_path,
    )
    assert rows == (ManifestRow("sub/S01.fcs", "S01", "W12", batch_id="B1"),)


def test_a_tube_that_cannot_be_read_is_still_a_tube_if_its_name_says_which():
    def unreadable(path):
        raise FcsError("INTERNAL", "broken")

    rules = TubeRules(pattern=r"^(?P<subject>S\d+)_(?P<visit>W\d+)", keywords={"visit": "VISIT", "batch": "RUN"})
    assert infer_manifest([Path("S01_W12.fcs")], unreadable, rules) == (ManifestRow("S01_W12.fcs", "S01", "W12"),)
    with pytest.raises(StudyError, match=r"TUBES_KEYWORDS: S01.fcs: .*\(INTERNAL\)"):
        infer_manifest([Path("S01.fcs")], unreadable, TubeRules(keywords={"visit": "VISIT"}))


def test_what_cannot_be_inferred_is_one_list():
    rules = TubeRules(pattern=r"(?P<subject>S\d+)_(?P<visit>W\d)(_(?P<role>\w+))?")
    names = ["S1_W4.fcs", "notes.fcs", "S1_W12.fcs", "S1_W4_beads.fcs"]
    with pytest.raises(StudyError, match="TUBES_NOT_INFERRED: 3 of 4 tubes") as caught:
        infer_manifest([Path(name) for name in names], no_keywords, rules)
    assert [(problem.code, problem.place) for problem in caught.value.data["problems"]] == [
        ("TUBES_PATTERN", "notes.fcs"),
        ("MANIFEST_VALUE_MISSING", "notes.fcs, subject_id"),
        ("MANIFEST_VALUE_MISSING", "notes.fcs, visit"),
        ("TUBES_PATTERN", "S1_W12.fcs"),  # W1 would be another visit
        ("MANIFEST_ROLE", "S1_W4_beads.fcs, role"),
    ]


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (TubeRules(pattern="(?P<subject>"), "is not a regular expression"),
        (TubeRules(pattern="S01"), "expected named groups"),
        (TubeRules(pattern="(?P<patient>S01)"), "found patient"),
        (TubeRules(roles={"full": "Stained"}), "'full' stands for the unknown role 'Stained'"),
    ],
)
def test_rules_that_cannot_be_used(rules, text):
    with pytest.raises(StudyError, match="TUBES_RULES") as caught:
        infer_manifest([], no_keywords, rules)
    assert text in str(caught.value)


def test_infer_the_real_tubes():
    tubes = list_tubes(real_data("treg_foxp3_aurora"))
    rules = TubeRules(
        pattern=r"^(?P<batch>\d{4}_\d{2}_\d{2}_AB_\d{2})_(?P<subject>INF\d+)_(?P<visit>\d{2}_(Ctrl|SEB))\.fcs$"
    )
    rows = infer_manifest(tubes, no_keywords, rules)
    assert [(row.subject_id, row.visit) for row in rows] == [
        (subject, visit) for subject in ("INF052", "INF100", "INF179") for visit in ("00_Ctrl", "00_SEB")
    ]
    assert {row.batch_id for row in rows} == {"2025_07_26_AB_02"}
    assert not duplicate_keys(rows)
