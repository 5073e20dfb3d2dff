"""Every code of the reader and writer: what breaks which rule, what is repaired, and that all is said at once."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fcs_bytes import fcs_bytes, parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import real_data

from tregflow.errors import CODES, FcsError
from tregflow.fcs import read_fcs, read_text, write_fcs

EVENTS = struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)
TWO = parameters(32, 32)


def made(keywords: dict[str, str] = TWO, data: bytes = EVENTS, **options: Any) -> bytes:
    return fcs_bytes(data, keywords, **({"tot": 2} | options))


def header(raw: bytes, at: int, text: str) -> bytes:
    return raw[:at] + text.encode().rjust(8) + raw[at + 8 :]


REENCODED = struct.pack("<4f", -1.5, 2.0, -30.25, 4.0).decode("utf-8", "replace").encode()[:16]

REFUSED: list[tuple[str, str, bytes]] = [
    ("FCS_NOT_FCS", "found 0 bytes", b""),
    ("FCS_NOT_FCS", "b'PK", b"PK\x03\x04" * 20),
    ("FCS_VERSION", "found 'FCS1.0'", made(version="FCS1.0")),
    ("FCS_HEADER", "DATA as two whole numbers", header(made(), 26, "12x")),
    ("FCS_TEXT_MISSING", "found none", header(made(), 10, "0")),
    ("FCS_TEXT_MISSING", "found 58 to 10", header(made(), 18, "10")),
    ("FCS_TRUNCATED", "TEXT is 58 to 9999", header(made(), 18, "9999")),
    ("FCS_TEXT_DELIMITER", "b'D'", header(made(), 10, "60")),
    ("FCS_TEXT_PAIRS", "keyword without a value", made(extra=b"LOST|")),
    ("FCS_TEXT_PAIRS", "has an empty keyword", made(TWO | {" ": "x"})),
    ("FCS_KEYWORD_MISSING", r"\$PAR is missing", made(drop=["$PAR"])),
    ("FCS_KEYWORD_MISSING", r"\$BYTEORD is missing", made(drop=["$BYTEORD"])),
    ("FCS_KEYWORD_MISSING", r"\$PnB is given for 1", made(drop=["$P2B"])),
    ("FCS_KEYWORD_VALUE", r"\$TOT must be a whole number, found '-2'", made(tot=-2)),
    ("FCS_KEYWORD_VALUE", r"\$PAR must be a whole number", made(TWO | {"$PAR": "9" * 5000})),
    ("FCS_KEYWORD_VALUE", r"\$P1E must be two numbers", made(TWO | {"$P1E": "4"})),
    ("FCS_KEYWORD_VALUE", r"\$P1E must be two numbers", made(TWO | {"$P1E": "-4,1"})),
    ("FCS_KEYWORD_CONFLICT", r"\$p1b is written more than once", made(TWO | {"$p1b": "16"})),
    ("FCS_MODE", "found 'H'", made(TWO | {"$MODE": "H"})),
    ("FCS_DATATYPE", "found 'X'", made(datatype="X")),
    ("FCS_DATATYPE", r"\$P2DATATYPE", made(TWO | {"$P2DATATYPE": "A"}, version="FCS3.2")),
    ("FCS_BYTEORD", "each once", made(byteord="1,2,2,1")),
    ("FCS_BYTEORD", r"words of 4 bytes, .* \[16\]", made(parameters(16, 16), byteord="3,4,1,2", datatype="I")),
    ("FCS_BYTEORD", "words of 1 bytes", made(byteord="1")),
    ("FCS_WIDTH", "found 65", made(parameters(65, 32), datatype="I")),
    ("FCS_WIDTH", r"is \* for some", made(parameters("*", 8), datatype="A")),
    ("FCS_RANGE", r"\$P2R of an integer", made(TWO | {"$P2R": "none"}, datatype="I")),
    ("FCS_DATA_MISSING", "neither HEADER nor", made(header=None, written=None)),
    ("FCS_DATA_LENGTH", r"3 events of 64 bits \(24 bytes\)", made(tot=3)),
    ("FCS_DATA_LENGTH", "2 events of 64 bits", made(header=(0, 3), written=(0, 2), tail=b"0000")),
    ("FCS_DATA_LENGTH", "0 events", made(tot=0)),
    ("FCS_DATA_LENGTH", "whole events of", made(tot=None, version="FCS2.0", header=(0, 2), written=None, tail=b"00")),
    ("FCS_DATA_OVERLAPS", "overlaps HEADER or TEXT", made(header=(-4, -4), written=None)),
    ("FCS_OFFSETS_CONFLICT", "more than one place fits", made(header=(-4, -4), gap=b"    ")),
    ("FCS_OFFSETS_CONFLICT", "more than one place fits", made(header=(-4, -3), written=(0, 1), gap=b"    ", tail=b"0")),
    ("FCS_TRUNCATED", "ends at byte", made()[:-3]),
    ("FCS_REENCODED", "opened and saved as text", made(data=REENCODED)),
    ("FCS_ASCII", "holds 3 numbers, expected 2 x 2", made(parameters("*", "*"), b"1 2 3", datatype="A")),
    ("FCS_ASCII", "whole numbers", made(parameters("*", "*"), b"1 2 x 4", datatype="A")),
]  # fmt: skip


def codes(raw: bytes, folder: Path) -> list[str]:
    path = folder / "made.fcs"
    path.write_bytes(raw)
    return [finding.code for finding in read_fcs(path).findings]


@pytest.mark.parametrize(("code", "text", "raw"), REFUSED, ids=[f"{row[0]}-{n}" for n, row in enumerate(REFUSED)])
def test_refused(code: str, text: str, raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "made.fcs"
    path.write_bytes(raw)
    with pytest.raises(FcsError, match=rf"(?s)^{code}: made\.fcs: .*({text})") as caught:
        read_fcs(path)
    assert caught.value.code == code
    assert str(caught.value).endswith(CODES[code].remedy)
    assert str(tmp_path) not in str(caught.value)


REPAIRED: list[tuple[list[str], bytes]] = [
    ([], made()),
    ([], made(written=None, version="FCS2.0")),
    ([], made(tot=None, version="FCS2.0")),
    ([], made(gap=b"   ", tail=b"00000000")),
    ([], made(extra=b"  \r\n\x00")),
    (["FCS_TEXT_LATIN1"], made(extra=b"WHO|J\xf6rg|")),
    (["FCS_TEXT_EMPTY_VALUE"], made(extra=b"WHO||WHERE|here|")),
    (["FCS_TEXT_EMPTY_VALUE"], made(extra=b"WHO||")),
    (["FCS_TEXT_END"], made(text_end=1, gap=b"0")),
    (["FCS_TEXT_END"], made(text_end=-1)),
    (["FCS_TEXT_UNTERMINATED"], made(extra=b"WHO|me")),
    (["FCS_TEXT_OFFSETS_MISSING"], made(written=None)),
    (["FCS_MODE_MISSING"], made(drop=["$MODE"])),
    ([], made(drop=["$MODE"], version="FCS3.2")),
    ([], made(drop=["$P1E"])),
    (["FCS_TEXT_OFFSETS_UNREADABLE", "FCS_TEXT_OFFSETS_MISSING"], made(TWO | {"$BEGINDATA": "here"}, written=None)),
    (["FCS_KEYWORD_REPEATED"], made(extra=b"WHO|me|Who|you|")),
    (["FCS_NEXTDATA"], made(TWO | {"$NEXTDATA": "77"})),
    (["FCS_NEXTDATA"], made(TWO | {"$NEXTDATA": "999999"})),
    (["FCS_DATA_OFF_BY_ONE"], made(header=(0, 1), written=(0, 1))),
    (["FCS_DATA_OFF_BY_ONE"], made(header=(0, 1), written=(0, 1), tail=b"00000000")),
    (["FCS_DATA_OFF_BY_ONE"], made(header=(0, -1), written=(0, -1))),
    (["FCS_DATA_OFF_BY_ONE"], made(header=(0, 1), written=None, tot=None, version="FCS2.0")),
    (["FCS_HEADER_TEXT_DIFFER"], made(header=(-3, 5), tail=b"00000000")),
    (["FCS_HEADER_TEXT_DIFFER"], made(written=(-50, 500))),
    (["FCS_HEADER_TEXT_DIFFER"], made(header=(-5, -5))),  # would fit, but lies over TEXT
    (["FCS_HEADER_TEXT_DIFFER"], made(written=(0, 1))),
    (["FCS_HEADER_BLANK"], made(header=None)),
    (["FCS_TOT_DERIVED"], made(tot=None)),
    (["FCS_WIDTH_FLOAT"], made(parameters(16, 16))),
    (["FCS_RANGE_UNKNOWN"], made(TWO | {"$P1R": "?"})),
    (["FCS_DUPLICATE_PNN"], made(TWO | {"$P2N": "P1"})),
    (["FCS_PNN_MISSING"], made(drop=["$P2N"])),
    (["FCS_LOG_ON_FLOAT"], made(TWO | {"$P2E": "4,1"})),
    (["FCS_LOG_APPLIED"], made(TWO | {"$P2E": "4,0", "transformation": "applied"})),
    (["FCS_GAIN_INVALID"], made(TWO | {"$P2G": "0"})),
    (["FCS_GAIN_IGNORED"], made(TWO | {"$P2N": "Time", "$P2G": "0.01", "$TIMESTEP": "0.1"})),
    (["FCS_TIME_NOT_LINEAR"], made(TWO | {"$P2N": "Time", "$P2E": "4,1", "$TIMESTEP": "0.1"})),
    (["FCS_EXTRA_BYTES"], made(tail=b"00000000" + b"\0" * 1000)),
    (["FCS_EXTRA_BYTES"], made(tail=b"0" * 9, version="FCS2.0")),
    (["FCS_CRC_CUT"], made(tail=b"0000000")),
    (["FCS_CRC_CUT"], made(tail=b"0")),
    (["FCS_TIMESTEP"], made(TWO | {"$P2N": "Time"})),
    (["FCS_TIMESTEP"], made(TWO | {"$P2N": "Time", "$TIMESTEP": "xxx"})),
    ([], made(TWO | {"$P2N": "Time"}, version="FCS2.0")),
    (["FCS_STEXT_IGNORED"], made(TWO | {"$BEGINSTEXT": "58", "$ENDSTEXT": "90"})),
    (["FCS_STEXT_IGNORED"], made(TWO | {"$BEGINSTEXT": "5800", "$ENDSTEXT": "5900"})),
    (["FCS_ANALYSIS_IGNORED"], made(TWO | {"$BEGINANALYSIS": "5800", "$ENDANALYSIS": "5900"})),
    (["FCS_ANALYSIS_IGNORED"], header(made(), 42, "x")),
    (["FCS_ANALYSIS_IGNORED"], header(header(made(), 42, "60"), 50, "99")),
    ([], header(header(made(), 42, "0"), 50, "-1")),
]


@pytest.mark.parametrize(
    ("expected", "raw"), REPAIRED, ids=[f"{'-'.join(row[0])}-{n}" for n, row in enumerate(REPAIRED)]
)
def test_read_with_these_findings(expected: list[str], raw: bytes, tmp_path: Path) -> None:
    assert codes(raw, tmp_path) == expected
    np.testing.assert_array_equal(read_fcs(tmp_path / "made.fcs").raw(), [[1, 2], [3, 4]])


def test_every_code_has_its_test() -> None:
    ours = {code for code in CODES if code.startswith("FCS_")}
    elsewhere = {"FCS_OPEN", "FCS_DATASET", "FCS_WRITE"}  # below
    by_integers = {"FCS_LOG_OFFSET_ZERO", "FCS_WIDTH_WORDS", "FCS_PNE_MISSING"}  # in the round trips
    assert ours == {row[0] for row in REFUSED} | {code for row in REPAIRED for code in row[0]} | elsewhere | by_integers


@pytest.mark.parametrize(
    ("tail", "text"), [(b"0" * 8 + b"\0" * 1000, "1008 bytes follow"), (b"0" * 5, "after 5 of the 8 bytes")]
)
def test_bytes_behind_the_last_segment(tail: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "made.fcs"
    path.write_bytes(made(tail=tail))
    for findings in (read_text(path).findings, read_fcs(path).findings):
        (finding,) = findings
        assert finding.severity == "info"
        assert text in finding.message


def test_segments_that_lie_behind_data_are_no_extra_bytes(tmp_path: Path) -> None:
    """ANALYSIS, supplemental TEXT and, of HEADER's own list behind its 58 bytes, OTHER segments."""
    more = b"|a|b|" + b"-" * 995
    raw = made(gap=b" " * 16, tail=more + b"0" * 8)
    end = len(raw) - 9
    begin = end - 999
    assert codes(raw, tmp_path) == ["FCS_EXTRA_BYTES"]
    assert codes(header(header(raw, 42, str(begin)), 50, str(begin + 4)), tmp_path) == ["FCS_EXTRA_BYTES"]
    moved = raw[:58] + b" " * 16 + raw[58:].replace(b" " * 16, b"", 1)
    moved = header(header(moved, 10, "74"), 18, str(int(moved[18:26]) + 16))
    assert codes(header(header(moved, 58, str(begin)), 66, str(end)), tmp_path) == []
    assert codes(header(header(moved, 58, "junk"), 66, "\x01"), tmp_path) == ["FCS_EXTRA_BYTES"]


def test_time_in_ticks_is_no_reason_to_look_at_a_tube(tmp_path: Path) -> None:
    path = tmp_path / "made.fcs"
    path.write_bytes(made(TWO | {"$P2N": "Time"}))
    assert [(finding.code, finding.severity) for finding in read_fcs(path).findings] == [("FCS_TIMESTEP", "info")]


OF_DATA = {
    "FCS_DATA_MISSING", "FCS_DATA_LENGTH", "FCS_DATA_OVERLAPS",
    "FCS_OFFSETS_CONFLICT", "FCS_TRUNCATED", "FCS_REENCODED",
}  # fmt: skip


@pytest.mark.parametrize("raw", [row[2] for row in REFUSED], ids=[f"{row[0]}-{n}" for n, row in enumerate(REFUSED)])
def test_what_is_wrong_with_data_is_a_finding_where_only_the_text_is_read(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "made.fcs"
    path.write_bytes(raw)
    with pytest.raises(FcsError) as caught:
        read_fcs(path)
    violations = dict(caught.value.data.get("violations", ()))  # type: ignore[call-overload]
    if violations.keys() <= OF_DATA and violations and "TEXT is" not in str(caught.value):
        failed = [finding for finding in read_text(path).findings if finding.severity == "fail"]
        assert {finding.code: finding.message for finding in failed} == {
            code: f"made.fcs: {message}." for code, message in violations.items()
        }
    elif "FCS_ASCII" not in str(caught.value):
        with pytest.raises(FcsError, match=caught.value.code):
            read_text(path)


def test_all_violations_are_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "made.fcs"
    path.write_bytes(made(TWO | {"$MODE": "C", "$P1E": "x,y", "$P2R": "", "$P2E": "1"}, tot=-1, datatype="I"))
    with pytest.raises(FcsError) as caught:
        read_text(path)
    listed = [code for code, _ in caught.value.data["violations"]]  # type: ignore[attr-defined]
    assert listed == ["FCS_MODE", "FCS_KEYWORD_VALUE", "FCS_KEYWORD_VALUE", "FCS_RANGE", "FCS_KEYWORD_VALUE"]
    assert all(code in str(caught.value) for code in listed)


SEEDS = [
    made(TWO | {"$P2N": "Time", "$TIMESTEP": "0.1", "$BEGINSTEXT": "0", "$ENDSTEXT": "0"}, tail=b"00000000"),
    made(parameters("*", "*"), b"1 2 3 4", datatype="A"),
    made(parameters(10, 10, P1E="4,1"), b"\x01\x02\x03\x04\x05", datatype="I"),
    made(parameters(24, 24), b"abcdef" * 2, datatype="I", byteord="4,3,2,1"),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(
            st.integers(0, 330),
            st.integers(0, 3),
            st.binary(max_size=3) | st.text("0123456789-,*| FDIA", max_size=3).map(str.encode),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_no_damage_raises_anything_but_an_fcs_error(
    tmp_path: Path, seed: bytes, damage: list[tuple[int, int, bytes]]
) -> None:
    for at, cut, put in damage:
        seed = seed[:at] + put + seed[at + cut :]
    path = tmp_path / "made.fcs"
    path.write_bytes(seed)
    with contextlib.suppress(FcsError):
        file = read_fcs(path)
        raw = file.raw()
        scaled = file.rows(0, file.n_events, None, range(len(file.parameters)))
        assert raw.shape == scaled.T.shape == (file.n_events, len(file.parameters))


def test_no_such_file_and_no_such_data_set(tmp_path: Path) -> None:
    with pytest.raises(FcsError, match=r"^FCS_OPEN: none\.fcs cannot be read: No such file"):
        read_text(tmp_path / "none.fcs")
    (tmp_path / "made.fcs").write_bytes(made())
    for dataset in (1, -1):
        with pytest.raises(FcsError, match=rf"^FCS_DATASET: made\.fcs: data set {dataset + 1} asked for; .* has 1\."):
            read_fcs(tmp_path / "made.fcs", dataset=dataset)


def test_a_promise_beyond_the_file_costs_no_memory(tmp_path: Path) -> None:
    huge = 10**14
    raw = made(TWO | {"$BEGINDATA": "500", "$ENDDATA": str(500 + 8 * huge - 1)}, tot=huge, header=None, written=None)
    path = tmp_path / "made.fcs"
    path.write_bytes(raw)
    tracemalloc.start()
    with pytest.raises(FcsError, match="FCS_TRUNCATED"):
        read_fcs(path)
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()
    assert read_text(path).n_events == huge


@pytest.mark.parametrize("name", ["data_start", "data_stop"])
def test_real_offsets_that_differ_are_repaired(name: str, tmp_path: Path) -> None:
    """HEADER and TEXT of two of FlowIO's files, over events that were not saved as text."""
    source = real_data("flowkit_misc", "noncompliant", f"{name}_offset_discrepancy_example.fcs")
    rows = [[*range(n, n + 25), 10_000 + n] for n in (1, 300)]
    data = b"".join(struct.pack("<25HI", *row) for row in rows)
    path = tmp_path / "made.fcs"
    path.write_bytes(source.read_bytes()[:6081] + data)
    widths = [parameter.bits for parameter in read_text(path).parameters]
    assert sorted(widths) == [16] * 25 + [32]
    order = widths.index(32)
    path.write_bytes(source.read_bytes()[:6081] + b"".join(mixed(row, order) for row in rows))
    file = read_fcs(path)
    assert "FCS_HEADER_TEXT_DIFFER" in [finding.code for finding in file.findings]
    assert file.raw().tolist() == [[*row[:order], row[25], *row[order:25]] for row in rows]


def mixed(row: list[int], at: int) -> bytes:
    return struct.pack(f"<{at}HI{25 - at}H", *row[:at], row[25], *row[at:25])


BAD_WRITES: list[tuple[str, Callable[[Path], None]]] = [
    ("shape", lambda path: write_fcs(path, np.zeros(3), [("A", "")])),
    ("not be empty", lambda path: write_fcs(path, np.zeros((1, 1)), [(" ", "")])),
    ("data type", lambda path: write_fcs(path, np.zeros((1, 1)), [("A", "")], datatype="A")),
    ("byte order", lambda path: write_fcs(path, np.zeros((1, 1)), [("A", "")], byteorder="middle")),
    ("version", lambda path: write_fcs(path, np.zeros((1, 1)), [("A", "")], version="FCS2.0")),
    (r"\$p1b are derived", lambda path: write_fcs(path, np.zeros((1, 1)), [("A", "")], keywords={"$p1b": "8"})),
    ("twice", lambda path: write_fcs(path, np.zeros((1, 1)), [("A", "")], keywords={"a": "8", "A": "9"})),
    ("1 ranges expected", lambda path: write_fcs(path, np.zeros((1, 1)), [("A", "")], ranges=[1, 2])),
    ("not below its range", lambda path: write_fcs(path, np.full((1, 1), 9), [("A", "")], datatype="I", ranges=[9])),
    ("hold values", lambda path: write_fcs(path, np.full((1, 1), -1), [("A", "")], datatype="I")),
    ("hold values", lambda path: write_fcs(path, np.full((1, 1), 1e300), [("A", "")])),
    ("every delimiter", lambda path: write_fcs(path, np.zeros((1, 1)), [("A", "|/\\\x0c!~^\x1e")])),
]  # fmt: skip


@pytest.mark.parametrize(("text", "write"), BAD_WRITES, ids=range(len(BAD_WRITES)))
def test_what_cannot_be_written_leaves_the_old_file(text: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "old.fcs"
    path.write_bytes(b"old")
    with pytest.raises(FcsError, match=rf"^FCS_WRITE: old\.fcs cannot be written: .*{text}"):
        write(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["old.fcs"]
