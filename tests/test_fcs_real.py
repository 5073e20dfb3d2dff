"""Every FCS file of the real data: what it is, that FlowIO, fcsparser and FlowKit agree, or why it is refused."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import flowio
import numpy as np
import pytest
from support import real_data

from tregflow.errors import FcsError
from tregflow.fcs import read_fcs, read_text

GAIN = ("FCS_GAIN_IGNORED",)
TIME = ("FCS_TIMESTEP",)
SHIFT = ("FCS_DATA_OFF_BY_ONE",)
EXTRA = ("FCS_EXTRA_BYTES",)
CALIBUR = ("FCS_TEXT_LATIN1", "FCS_LOG_OFFSET_ZERO")
ODD = "odd_fcsparser/FlowCytometers"

# pattern -> (version, data sets, findings).
# BD files carry $PnG 0.01 on Time; CellQuest writes $PnE 4,0 and a trade mark sign that is not UTF-8.
READS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "comp_cytoexplorer/*.fcs": ("FCS3.0", 1, GAIN),
    "comp_flowcore/*": ("FCS2.0", 1, CALIBUR),
    "diva_124500/124500.fcs": ("FCS3.0", 1, GAIN),
    "flowkit_misc/100715.fcs": ("FCS2.0", 1, ()),
    "flowkit_misc/history_4_color_beads/*.fcs": ("FCS3.0", 1, GAIN),
    "flowkit_misc/simple_*/*.fcs": ("FCS3.1", 1, ()),
    "flowkit_misc/test_comp_example.fcs": (
        "FCS3.0",
        1,
        GAIN + SHIFT + EXTRA,
    ),  # end of DATA one too high in HEADER and TEXT
    "flowsom_68983/68983.fcs": ("FCS3.0", 1, GAIN),
    "foxp3_cytof_batches/*.fcs": ("FCS3.0", 1, TIME),
    "foxp3_spectral_cycombine/test.fcs": ("FCS3.0", 1, ()),
    "gatingml_suite/*.fcs": ("FCS2.0", 1, ("FCS_TEXT_LATIN1", "FCS_TEXT_EMPTY_VALUE", "FCS_LOG_OFFSET_ZERO")),
    # float values that flowCore made linear, with the $PnE 4,0 of before
    "marker_mismatch_cytoqc/GvHD_QC/s10a01.fcs": ("FCS3.0", 1, ("FCS_LOG_APPLIED",)),  # has no Time
    "marker_mismatch_cytoqc/*.fcs": ("FCS3.0", 1, ("FCS_LOG_APPLIED", *TIME)),
    "metacyto_sdy736/extdata/SDY420/*.fcs": ("FCS3.0", 1, TIME),
    "metacyto_sdy736/extdata/SDY736/*.fcs": ("FCS3.0", 1, GAIN),
    "numeric_refs/reference.fcs": ("FCS3.0", 1, ()),
    f"{ODD}/FACSCaliburHTS/*.fcs": ("FCS2.0", 1, CALIBUR),
    f"{ODD}/FACS_Diva/*.fcs": ("FCS3.0", 1, GAIN),
    f"{ODD}/Fortessa/*.fcs": ("FCS3.0", 1, GAIN),
    # 4 data sets; $PnE 4,1 on floating-point values
    f"{ODD}/GuavaMuse/*.fcs": ("FCS3.0", 4, ("FCS_LOG_ON_FLOAT", "FCS_GAIN_IGNORED")),
    f"{ODD}/HTS_BD_LSR-II/*.fcs": ("FCS3.0", 1, GAIN),
    f"{ODD}/MiltenyiBiotec/FCS2.0/*.fcs": ("FCS2.0", 1, ()),
    f"{ODD}/MiltenyiBiotec/FCS3.0/*.fcs": ("FCS3.0", 1, ()),
    f"{ODD}/MiltenyiBiotec/FCS3.1/*.fcs": ("FCS3.1", 1, SHIFT),  # exclusive ends; supplemental TEXT of 124 KB in two
    f"{ODD}/cyflow_cube_8/*.fcs": ("FCS3.0", 1, ("FCS_STEXT_IGNORED",)),  # 16, 32 and 8 bits; a zip file as STEXT
    f"{ODD}/fake_bitmask_error/*.lmd": ("FCS2.0", 1, EXTRA),  # junk in the bits above $PnR
    f"{ODD}/fake_large_fcs/*.fcs": ("FCS3.0", 1, (*GAIN, "FCS_HEADER_BLANK", *EXTRA)),
    "odd_flowio/fcs_files/3FITC_4PE_004.fcs": ("FCS2.0", 1, CALIBUR),
    "odd_flowio/fcs_files/B01*.fcs": ("FCS3.1", 1, ("FCS_STEXT_IGNORED",)),  # Accuri: STEXT is TEXT again
    "odd_flowio/fcs_files/G11.fcs": ("FCS3.1", 1, ()),  # UTF-8 with a trade mark sign; TEXT filled up with blanks
    "odd_flowio/fcs_files/coulter.lmd": ("FCS2.0", 2, SHIFT + EXTRA),  # FCS 2.0 and, behind it, FCS 3.0
    "odd_flowio/fcs_files/data1.fcs": ("FCS2.0", 1, ("FCS_TEXT_LATIN1", "FCS_TEXT_EMPTY_VALUE", "FCS_LOG_OFFSET_ZERO")),
    "odd_misc/Data001.fcs": ("FCS2.0", 1, CALIBUR),
    "odd_misc/index_sorted/*.fcs": ("FCS3.0", 1, GAIN),
    "qc_peacoqc/*.fcs": ("FCS3.0", 1, GAIN),
    "treg_foxp3_aurora/*.fcs": ("FCS3.0", 1, ()),
}
REFUSED: dict[str, tuple[str, ...]] = {
    f"{ODD}/corrupted/corrupted.fcs": ("FCS_NOT_FCS",),  # 10 bytes
    f"{ODD}/cytek-nl-2000/sample_header.fcs": ("FCS_TRUNCATED",),  # nothing behind TEXT
    # cut, and HEADER and TEXT are two bytes apart with lengths that both fit
    "odd_misc/AriaFile1.fcs": ("FCS_TRUNCATED", "FCS_OFFSETS_CONFLICT"),
    # Saved by a text editor: what were bytes above 7F are U+FFFD. Offsets that fit do not bring the values back.
    "flowkit_misc/noncompliant/data_start_offset_discrepancy_example.fcs": ("FCS_REENCODED",),
    "flowkit_misc/noncompliant/data_stop_offset_discrepancy_example.fcs": ("FCS_REENCODED",),
    "odd_flowio/fcs_files/variable_int_example.fcs": ("FCS_REENCODED",),
}


def is_fcs(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(3) == b"FCS" or path.suffix.lower() in {".fcs", ".lmd"}


@cache
def every_file() -> dict[str, Path]:
    root = real_data()
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if is_fcs(path)}


def readable() -> Iterator[tuple[str, Path]]:
    return ((name, path) for name, path in every_file().items() if name not in REFUSED)


def expected(name: str) -> tuple[str, int, tuple[str, ...]]:
    return next(row for pattern, row in READS.items() if fnmatch.fnmatchcase(name, pattern))


def same(left: Any, right: Any) -> bool:
    return bool(np.array_equal(np.asarray(left, float), np.asarray(right, float), equal_nan=True))


def test_every_file_is_in_the_table_and_every_row_is_used() -> None:
    names = set(every_file())
    assert set(REFUSED) <= names
    assert len(names) == 115
    for pattern in READS:
        assert fnmatch.filter(names, pattern), pattern
    assert all(any(fnmatch.fnmatchcase(name, pattern) for pattern in READS) for name in names - set(REFUSED))


def test_every_file_reads_as_the_table_says() -> None:
    found = {}
    for name, path in readable():
        file = read_fcs(path)
        found[name] = (file.version, file.text.n_datasets, tuple(finding.code for finding in file.findings))
        assert file.raw().shape == (file.n_events, len(file.parameters))
        assert all(path.name in finding.message and finding.remedy for finding in file.findings)
    assert found == {name: expected(name) for name in found}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_right_codes(name: str) -> None:
    with pytest.raises(FcsError, match=REFUSED[name][0]) as caught:
        read_fcs(real_data(*name.split("/")))
    assert tuple(code for code, _ in caught.value.data["violations"]) == REFUSED[name]  # type: ignore[attr-defined]
    assert str(real_data()) not in str(caught.value)


def flowio_sets(path: Path) -> list[Any]:
    """FlowIO's data sets, with the repair it offers for an end one too high."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(flowio.read_multiple_data_sets(str(path), ignore_offset_error=True))


def test_raw_values_and_keywords_equal_flowio() -> None:
    compared = 0
    for name, path in readable():
        if "fake_large" in name:
            continue  # FlowIO cannot read a blank HEADER
        for dataset, other in enumerate(flowio_sets(path)):
            file = read_fcs(path, dataset=dataset)
            assert same(file.raw().ravel(), np.array(other.events)), name
            if not name.endswith("data1.fcs"):  # FlowIO reads past its empty values
                ours = {key.strip().lower().replace("$", ""): value for key, value in file.keywords.items()}
                assert {key: ours.get(key.strip()) for key in other.text} == other.text, name
            compared += 1
    assert compared == 112  # 108 files, one with three more data sets and one with one more


def swapped(path: Path, to: Path) -> Path:
    """The file with its words in the machine's byte order, for a reader that knows no other."""
    raw = bytearray(path.read_bytes())
    file = read_text(path)
    keywords = file.keywords
    if keywords.text("$BYTEORD") == "4,3,2,1":
        width = file.parameters[0].bits // 8
        assert {parameter.bits for parameter in file.parameters} == {8 * width}
        begin = int(raw[26:34]) if raw[26:34].strip() else int(keywords.text("$BEGINDATA"))
        end = begin + file.n_events * len(file.parameters) * width
        raw[begin:end] = np.frombuffer(raw[begin:end], f"u{width}").byteswap().tobytes()
        raw = raw.replace(b"4,3,2,1", b"1,2,3,4", 1)
    to.write_bytes(raw)
    return to


def test_raw_values_equal_fcsparser(tmp_path: Path) -> None:
    fcsparser = pytest.importorskip("fcsparser")
    unread = set()
    for name, path in readable():
        copy = swapped(path, tmp_path / "copy.fcs")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _, events = fcsparser.parse(str(copy), reformat_meta=False)
        except (ValueError, fcsparser.api.ParserFeatureNotImplementedError):
            unread.add(name)
            continue
        assert same(read_fcs(path).raw(), events.to_numpy()), name
    assert unread == set()


def test_scale_values_equal_flowkit() -> None:
    """FlowKit's raw events with $PnE, $PnG and $TIMESTEP: every channel of every file it and we can scale.

    The rules differ in two places. FlowKit divides logarithmic values by $PnG as well, which the standard excludes
    (no real file here has both). It takes $PnE of floating-point values at its word, which the standard forbids: for
    values that flowCore made linear it raises 10 to them once more, and for Guava's we refuse.
    """
    flowkit = pytest.importorskip("flowkit")
    equal = log = gained = timed = 0
    for name, path in readable():
        if expected(name)[1] > 1 or "fake_large" in name or "marker_mismatch" in name:
            continue  # several data sets or a blank HEADER, which FlowKit refuses; floats with $PnE
        file = read_fcs(path)
        theirs = flowkit.Sample(str(path), ignore_offset_error=True, subsample=1).get_events("raw")
        for channel, parameter in enumerate(file.parameters):
            ours = file.scale_values([channel])[:, 0]
            assert same(ours, theirs[:, channel]), (name, parameter)
            equal += 1
            log += parameter.log_amp is not None
            gained += parameter.gain != 1 and not parameter.is_time
            timed += parameter.is_time
    assert (equal, log, gained, timed) == (1418, 43, 6, 56)


def test_log_of_floats_is_refused_only_when_asked_for() -> None:
    file = read_fcs(real_data(*f"{ODD}/GuavaMuse/Guava Muse.fcs".split("/")))
    log = [parameter.index for parameter in file.parameters if parameter.log_amp is not None]
    linear = [parameter.index for parameter in file.parameters if parameter.log_amp is None]
    assert file.scale_values(linear).shape == (108, 7)
    assert file.raw(log).shape == (108, 3)
    with pytest.raises(FcsError, match=r"FCS_LOG_ON_FLOAT: .*\$P8E of 'FSC-HLog' is 4\.0,1\.0"):
        file.scale_values(log)


def test_header_and_text_are_read_without_data() -> None:
    text = read_text(real_data(*f"{ODD}/cytek-nl-2000/sample_header.fcs".split("/")))
    assert (text.n_events, len(text.parameters), text.size) == (20000, 27, 3931)
    assert [(finding.code, finding.severity) for finding in text.findings] == [
        ("FCS_TEXT_UNTERMINATED", "review"),
        ("FCS_TRUNCATED", "fail"),
    ]


@pytest.mark.parametrize("name", [name for name in REFUSED if "corrupted" not in name])
def test_what_is_refused_can_be_inspected(name: str) -> None:
    text = read_text(real_data(*name.split("/")))
    assert tuple(f.code for f in text.findings if f.severity == "fail") == REFUSED[name]
    assert text.parameters
