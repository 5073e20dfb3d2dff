"""Reading what was made byte by byte, and what our writer wrote, over types, widths, orders and texts."""

from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fcs_bytes import ORDERS, fcs_bytes, pack_bits, pack_words, parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tregflow.errors import FcsError
from tregflow.fcs import Keywords, read_fcs, read_text, write_fcs

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ORDER = st.sampled_from(["little", "big"])


def put(folder: Path, data: bytes) -> Path:
    path = folder / "made.fcs"
    path.write_bytes(data)
    return path


def mask(limit: int) -> int:
    """The next power of two of $PnR, less one, found by counting up."""
    power = 1
    while power < limit:
        power *= 2
    return power - 1


@st.composite
def integer_tables(draw: st.DrawFn, widths: st.SearchStrategy[int]) -> tuple[list[int], list[int], list[list[int]]]:
    bits = draw(st.lists(widths, min_size=1, max_size=5))
    ranges = [draw(st.integers(1, 1 << width)) for width in bits]
    rows = draw(st.lists(st.tuples(*(st.integers(0, (1 << width) - 1) for width in bits)), max_size=7))
    return bits, ranges, [list(row) for row in rows]


def read_integers(path: Path, ranges: list[int], rows: list[list[int]]) -> None:
    file = read_fcs(path)
    assert file.findings == ()
    expected = [[value & mask(limit) for value, limit in zip(row, ranges, strict=True)] for row in rows]
    for column in range(len(ranges)):
        assert file.raw([column])[:, 0].tolist() == [row[column] for row in expected]
    if len(rows) > 2:
        assert file.raw([0], 1, 2).tolist() == [[expected[1][0]]]


@QUICK
@given(integer_tables(st.sampled_from([8, 16, 24, 32, 40, 48, 56, 64])), ORDER)
def test_integers_of_whole_bytes(
    tmp_path: Path, table: tuple[list[int], list[int], list[list[int]]], order: str
) -> None:
    bits, ranges, rows = table
    data = pack_words(rows, bits, order)
    made = fcs_bytes(data, parameters(*bits, ranges=ranges), tot=len(rows), datatype="I", byteord=ORDERS[order])
    read_integers(put(tmp_path, made), ranges, rows)


@QUICK
@given(integer_tables(st.integers(1, 64)), ORDER)
def test_integers_packed_in_bits(
    tmp_path: Path, table: tuple[list[int], list[int], list[list[int]]], order: str
) -> None:
    bits, ranges, rows = table
    data = pack_bits(rows, bits, order)
    made = fcs_bytes(data, parameters(*bits, ranges=ranges), tot=len(rows), datatype="I", byteord=ORDERS[order])
    read_integers(put(tmp_path, made), ranges, rows)


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (3, 4, 1, 2), (2, 1, 4, 3), (2, 4, 1, 3)])
def test_any_byte_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    rows = [[0x01020304, 7], [0xFFFEFDFC, 8], [3, 0x10203040]]
    text = ",".join(map(str, order))
    made = fcs_bytes(pack_words(rows, (32, 32), order), parameters(32, 32), tot=3, datatype="I", byteord=text)
    assert read_fcs(put(tmp_path, made)).raw().tolist() == rows
    floats = np.array([[1.5, -2.25], [3e8, 1e-9]], "<f4")
    words = floats.view("<u4").tolist()
    made = fcs_bytes(pack_words(words, (32, 32), order), parameters(32, 32), tot=2, byteord=text)
    file = read_fcs(put(tmp_path, made))
    assert file.raw().tolist() == floats.tolist()
    assert file.rows(0, 2, np.array([1]), [1]).tolist() == [[float(floats[1, 1])]]


def test_words_behind_an_odd_width(tmp_path: Path) -> None:
    """CXP software writes $PnB 10 over 16-bit words; the length of DATA says which it is."""
    rows = [[1023, 5, 77], [0, 1, 512], [9, 8, 7]]
    for data, codes in (
        (pack_words(rows, (16,) * 3, "little"), ["FCS_WIDTH_WORDS"]),
        (pack_bits(rows, (10,) * 3, "little"), []),
    ):
        made = fcs_bytes(data, parameters(10, 10, 10), tot=3, datatype="I", byteord="1,2", version="FCS2.0")
        file = read_fcs(put(tmp_path, made))
        assert file.raw().tolist() == rows
        assert [finding.code for finding in file.findings] == codes


def test_integers_without_pne(tmp_path: Path) -> None:
    keywords = {key: value for key, value in parameters(8).items() if key != "$P1E"}
    for version, codes in (("FCS2.0", []), ("FCS3.0", ["FCS_PNE_MISSING"])):
        file = read_fcs(put(tmp_path, fcs_bytes(b"\x05", keywords, tot=1, datatype="I", version=version)))
        assert [finding.code for finding in file.findings] == codes
        assert file.scale_values([0]).tolist() == [[5.0]]


@pytest.mark.parametrize("delimited", [False, True])
def test_ascii(tmp_path: Path, *, delimited: bool) -> None:
    rows = [[12, 345, 6], [0, 1, 9]]
    if delimited:
        data, keywords = b"12,345 6\r\n0\t1,9\n", parameters("*", "*", "*")
    else:
        data, keywords = b"".join(b"%4d%5d%2d" % tuple(row) for row in rows), parameters(4, 5, 2)
    made = fcs_bytes(data, keywords, tot=2, datatype="A")
    file = read_fcs(put(tmp_path, made))
    assert file.raw().tolist() == rows
    assert file.rows(0, 2, None, [1]).tolist() == [[345.0, 1.0]]


@QUICK
@given(
    st.lists(st.tuples(*[st.floats(width=32)] * 3), max_size=6),
    st.sampled_from("FD"),
    ORDER,
    st.sampled_from(["FCS2.0", "FCS3.0", "FCS3.1", "FCS3.2"]),
)
def test_floats(tmp_path: Path, rows: list[tuple[float, ...]], datatype: str, order: str, version: str) -> None:
    code = ("<" if order == "little" else ">") + ("f" if datatype == "F" else "d") * 3
    data = b"".join(struct.pack(code, *row) for row in rows)
    keywords = parameters(*[32 if datatype == "F" else 64] * 3)
    made = fcs_bytes(data, keywords, tot=len(rows), datatype=datatype, byteord=ORDERS[order], version=version)
    file = read_fcs(put(tmp_path, made))
    np.testing.assert_array_equal(file.raw(), np.array(rows, float).reshape(-1, 3))
    index = np.arange(len(rows))[::-1][::2]
    np.testing.assert_array_equal(file.rows(0, len(rows), index, [2, 0]), file.scale_values([2, 0])[index].T)


def test_fcs32_mixes_types_and_describes_channels(tmp_path: Path) -> None:
    keywords = parameters(
        32, 16, 64, ranges=[262144, 1024, 1],
        P1DATATYPE="F", P3DATATYPE="D", P2ANALYTE="FOXP3", P2DET="V1", P2TAG="PE", P2FEATURE="Area",
        P2TYPE="Raw_Fluorescence", P3TYPE="Time", TIMESTEP="0.5",
    )  # fmt: skip
    rows = [(1.5, 0xFFFF, 2.0), (-3.0, 7, 4.0)]
    data = b"".join(struct.pack("<fHd", *row) for row in rows)
    file = read_fcs(put(tmp_path, fcs_bytes(data, keywords, tot=2, datatype="I", version="FCS3.2")))
    assert file.raw().tolist() == [[1.5, 1023.0, 2.0], [-3.0, 7.0, 4.0]]
    assert file.scale_values([2]).tolist() == [[1.0], [2.0]]
    foxp3 = file.parameters[1]
    assert (foxp3.analyte, foxp3.detector, foxp3.tag, foxp3.feature, foxp3.type) == (
        "FOXP3", "V1", "PE", "Area", "Raw_Fluorescence",
    )  # fmt: skip
    assert [parameter.datatype for parameter in file.parameters] == ["F", "I", "D"]
    assert [parameter.is_time for parameter in file.parameters] == [False, False, True]


def test_scale_values(tmp_path: Path) -> None:
    keywords = parameters(
        16, 16, 16, 16, 16, ranges=[1024] * 5,
        P1E="4,0", P2E="4,0.1", P2G="8", P3G="4", P4N="TIME", P4G="0.01", P4E="4,1", P5G="0", TIMESTEP="0.1",
    )  # fmt: skip
    rows = [[0, 0, 0, 0, 0], [256, 512, 100, 30, 9], [1023, 1023, 1023, 1023, 1023]]
    made = fcs_bytes(pack_words(rows, [16] * 5, "big"), keywords, tot=3, datatype="I", byteord="4,3,2,1")
    file = read_fcs(put(tmp_path, made))
    expected = [[10 ** (4 * a / 1024), 10 ** (4 * b / 1024) * 0.1, c / 4, d * 0.1, e] for a, b, c, d, e in rows]
    np.testing.assert_allclose(file.scale_values(range(5)), expected, rtol=1e-15)
    assert [finding.code for finding in file.findings] == [
        "FCS_LOG_OFFSET_ZERO", "FCS_GAIN_IGNORED", "FCS_TIME_NOT_LINEAR", "FCS_GAIN_INVALID",
    ]  # fmt: skip
    assert file.parameters[0].log_amp == (4.0, 1.0)
    assert file.parameters[2].log_amp is None


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@QUICK
@given(
    st.integers(0, 5), st.sampled_from(["F", "D", "I"]), ORDER,
    st.dictionaries(TEXT.filter(lambda key: key.strip() and not key.strip().startswith("$")), TEXT, max_size=5),
    st.lists(st.tuples(TEXT.filter(str.strip), TEXT), min_size=1, max_size=4),
)  # fmt: skip
def test_what_is_written_is_read(
    tmp_path: Path, n: int, datatype: str, order: str, keywords: dict[str, str], channels: list[tuple[str, str]]
) -> None:
    events = np.arange(n * len(channels)).reshape(n, len(channels)) * 3
    keywords = {
        key: value
        for key, value in keywords.items()
        if sum(k.strip().upper() == key.strip().upper() for k in keywords) == 1
    }
    path = tmp_path / "written.fcs"
    write_fcs(path, events, channels, keywords=keywords, datatype=datatype, byteorder=order)
    first = path.read_bytes()
    write_fcs(path, events, channels, keywords=keywords, datatype=datatype, byteorder=order)
    assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir() if "tmp" in entry.name] == []
    file = read_fcs(path)
    assert {code.code for code in file.findings} <= {"FCS_DUPLICATE_PNN", "FCS_TIMESTEP"}
    np.testing.assert_array_equal(file.raw(), events)
    blanks = " \t\r\n\x00"
    assert [(p.pnn, p.pns) for p in file.parameters] == [(a.strip(blanks), b.strip(blanks)) for a, b in channels]
    assert {key: file.keywords[key] for key in keywords} == {key: value or " " for key, value in keywords.items()}


def test_doubled_delimiters_and_every_delimiter_used(tmp_path: Path) -> None:
    path = tmp_path / "escaped.fcs"
    every = "a|/\\\x0c!~^\x1e||b|"
    write_fcs(path, np.zeros((1, 1)), [("A", "x||y")], keywords={"ALL": every, "LAST": "|end|".strip("|") + "|"})
    assert path.read_bytes()[58:59] == b"|"
    file = read_fcs(path)
    assert (file.keywords["ALL"], file.keywords["last"], file.parameters[0].pns) == (every, "end|", "x||y")


def test_spillover_ranges_and_widths_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.fcs"
    matrix = np.array([[1, 0.1], [1 / 3, 1]])
    write_fcs(path, np.array([[3e6, 1.0]]), [("A", ""), ("B", "")], spillover=(["A", "B"], matrix))
    text = read_text(path)
    assert text.keywords["$spillover"] == "2,A,B,1.0,0.1,0.3333333333333333,1.0"
    assert [parameter.range for parameter in text.parameters] == [4194304, 262144]
    write_fcs(path, np.array([[255, 0]]), [("A", ""), ("B", "")], datatype="I", bits=8, ranges=[256, 10])
    assert read_fcs(path).raw().dtype == np.uint8


def test_keywords_are_as_written_and_found_in_any_case() -> None:
    keywords = Keywords([("$Fil", " a.fcs "), ("Sample ID", "7"), ("SAMPLE id", "8"), ("$FIL", "a.fcs")])
    assert list(keywords.items()) == [("$Fil", " a.fcs "), ("Sample ID", "7")]
    assert (keywords["$FIL"], keywords.text("$fil"), keywords.get("sample ID"), "x" in keywords) == (
        " a.fcs ",
        "a.fcs",
        "7",
        False,
    )
    assert keywords.repeated == ("SAMPLE id",)


def with_segments(more: bytes, analysis: bytes) -> bytes:
    """One event 2.5, supplemental TEXT, and ANALYSIS named by HEADER."""
    keywords = parameters(32) | {"$BEGINSTEXT": "0" * 8, "$ENDSTEXT": "0" * 8}
    begin = len(fcs_bytes(struct.pack("<f", 2.5), keywords, tot=1))
    keywords |= {"$BEGINSTEXT": f"{begin:08d}", "$ENDSTEXT": f"{begin + len(more) - 1:08d}"}
    made = bytearray(fcs_bytes(struct.pack("<f", 2.5), keywords, tot=1, tail=more + analysis))
    made[42:58] = b"%8d%8d" % (begin + len(more), begin + len(more) + len(analysis) - 1)
    return bytes(made)


def test_supplemental_text_and_analysis(tmp_path: Path) -> None:
    file = read_fcs(put(tmp_path, with_segments(b"|EXTRA|1|$FIL|a.fcs|", b"|G1|40.5|")))
    assert (file.keywords["extra"], file.keywords["$FIL"]) == ("1", "a.fcs")
    assert file.text.analysis["g1"] == "40.5"
    assert file.raw().tolist() == [[2.5]]
    with pytest.raises(FcsError, match=r"FCS_KEYWORD_CONFLICT: made\.fcs: \$DATATYPE is written more than once"):
        read_fcs(put(tmp_path, with_segments(b"|$DATATYPE|I|", b"||")))


def test_several_data_sets(tmp_path: Path) -> None:
    one = fcs_bytes(struct.pack("<f", 1.0), parameters(32) | {"$NEXTDATA": "000"}, tot=1)
    one = one.replace(b"$NEXTDATA|000", b"$NEXTDATA|%03d" % len(one))
    two = fcs_bytes(struct.pack("<2f", 2.0, 3.0), parameters(32), tot=2)
    path = put(tmp_path, one + one + two)
    for dataset, values in enumerate(([1.0], [1.0], [2.0, 3.0])):
        file = read_fcs(path, dataset=dataset)
        assert (file.text.n_datasets, file.text.dataset, file.raw()[:, 0].tolist()) == (3, dataset, values)
    broken = put(tmp_path, one + b"FCS3.1" + b"x" * 60)
    assert read_fcs(broken).n_events == 1
    with pytest.raises(FcsError, match="FCS_HEADER"):
        read_fcs(broken, dataset=1)


def test_offsets_above_two_gigabytes_in_a_sparse_file(tmp_path: Path) -> None:
    far = 2**31 + 12345
    events = np.arange(12, dtype=">f4").reshape(4, 3)
    keywords = parameters(32, 32, 32) | {"$BEGINDATA": str(far), "$ENDDATA": str(far + events.nbytes - 1)}
    path = put(tmp_path, fcs_bytes(b"", keywords, tot=4, byteord="4,3,2,1", header=None, written=None))
    with path.open("r+b") as file:
        file.seek(far)
        file.write(events.tobytes())
    tracemalloc.start()
    read = read_fcs(path)
    assert read.raw().tolist() == events.tolist()
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert read.findings == ()
    assert read.text.size > 2**31


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files in /proc")
def test_no_handle_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "a.fcs"
    write_fcs(path, np.ones((10, 2)), [("A", ""), ("B", "")])
    bad = tmp_path / "bad.fcs"
    bad.write_bytes(path.read_bytes()[:-30])

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - /proc is no folder to walk

    before = open_files()
    kept: list[Any] = []
    for _ in range(500):
        file = read_fcs(path)
        kept.append(file.raw())
        kept.append(file.rows(0, 10, None, [1]))
        with pytest.raises(FcsError):
            read_fcs(bad)
    del file
    assert open_files() == before


def test_rows_are_the_same_by_every_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    events = rng.integers(0, 1000, (20_000, 9))
    channels = [(f"C{n}", "") for n in range(9)]
    index = np.sort(rng.choice(9_000, 4_000, replace=False))
    for options in ({"datatype": "F"}, {"datatype": "D"}, {"datatype": "I"}, {"datatype": "I", "bits": 16}):
        for order in ("little", "big"):
            path = tmp_path / "rows.fcs"
            write_fcs(path, events, channels, byteorder=order, **options)  # type: ignore[arg-type]
            file = read_fcs(path)
            for columns in ([4], [8, 0, 3, 3], range(9)):
                got = file.rows(1_000, 10_000, index, columns)
                assert got.flags.c_contiguous
                assert got.dtype == np.float64
                np.testing.assert_array_equal(got, events[1_000:10_000][index][:, list(columns)].T)
                np.testing.assert_array_equal(
                    file.rows(500, 19_999, None, columns), events[500:19_999, list(columns)].T
                )
    with pytest.raises(IndexError):
        file.rows(0, 20_001, None, [0])
