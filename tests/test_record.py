"""Records on disk: written is read, files are whole or not there, and the ledger shows what was done to it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pydantic import ValidationError

from tregflow import atomic
from tregflow.atomic import write_atomic
from tregflow.errors import BatchError, TregflowError
from tregflow.record import (
    GENESIS,
    AxisRecord,
    CompensationRecord,
    DimensionRecord,
    FindingRecord,
    GateRecord,
    HistogramRecord,
    Ledger,
    PlacementRecord,
    PopulationRecord,
    TemplateRef,
    TransformRecord,
    TubeIdentity,
    TubeRecord,
    pack_counts,
    read_record,
    sha256_bytes,
    sha256_file,
    verify_ledger,
    write_record,
)

CD4 = DimensionRecord(
    name="CD4",
    pnn="BV421-A",
    pns="CD4 – naïve",
    compensated=True,
    transform=TransformRecord(kind="logicle", parameters={"T": 262144, "W": 0.5, "M": 4.5, "A": 0}),
)


def axis(bins: int, low: float = 0.0, high: float = 1.0) -> AxisRecord:
    return AxisRecord(dimension=CD4, low=low, high=high, bins=bins)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tube_record(value: float = 0.1 + 0.2) -> TubeRecord:
    """A record with something in every field, and a number that needs all its digits."""
    placement = PlacementRecord(
        rule="negative_spread", share="batch", space="scale", status="shared", reference="cd4_neg_t", n_reference=999,
        raw_value=(value, 1 / 3), spread=None, quality={"median": value}, message="median of 9 tube(s)",
    )  # fmt: skip
    return TubeRecord(
        tregflow_version="0.1.0",
        template=TemplateRef(
            id="t", version="0.1.0", sha256="a" * 64, status="draft", title="T", numerator="treg",
            denominator="lymphocytes", also_of=("cd4",),
        ),
        tube=TubeIdentity(
            tube="S01", file="S01.fcs", subject_id="001", visit="W00", role="stained", replicate=1,
            collected_at="2021-03-04", batch_id="B1", comment="Zürich, 'quoted', \u2028 and ✓",
        ),
        key="k", status="review", file_sha256="b" * 64, n_events=12_345, acquisition={"$CYT": "LSR"},
        compensation=CompensationRecord(
            source="file:$SPILLOVER", sha256="c" * 64, condition_number=value, channels=("PE-A",), matrix=((1.0,),)
        ),
        populations=(
            PopulationRecord(id="cd4", title="CD4+", parent=None, n_events=77, n_non_finite=1, mfi={"CD4": value}),
            PopulationRecord(id="treg", title="Treg", parent="cd4", n_events=0, n_non_finite=0, mfi={"CD4": None}),
        ),
        gates=(
            GateRecord(
                id="cd4", title="CD4+", parent=None, kind="rectangle", dimensions=(CD4,),
                geometry={"minima": [value], "maxima": [None]}, placement=placement,
            ),
        ),
        histograms=(
            HistogramRecord(
                population="cd4", gates=("treg",), x=axis(2), y=axis(3), counts=pack_counts(np.arange(6).reshape(2, 3))
            ),
        ),
        findings=(
            FindingRecord(
                code="NUMERATOR_LOW", severity="info", message="few", tube="S01", population="treg", observed="0",
                limit=">= 100", remedy="Nothing.",
            ),
        ),
    )  # fmt: skip


# --- tube records ---------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    record, path = tube_record(), tmp_path / "S01.json"
    write_record(path, record)
    assert read_record(path) == record
    assert names(tmp_path) == ["S01.json"]


@settings(max_examples=50, deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_keeps_its_last_bit(value: float) -> None:
    record = tube_record(value)
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    read = TubeRecord.model_validate_json(text)
    assert read == record
    placement = read.gates[0].placement
    assert placement is not None
    assert math.copysign(1, placement.raw_value[0]) == math.copysign(1, value)


def test_the_same_record_is_the_same_bytes(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", tube_record())
    write_record(tmp_path / "b.json", read_record(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write_record(tmp_path / "S01.json", tube_record(math.nan).model_copy())
    assert names(tmp_path) == []


def test_counts_are_found_by_population() -> None:
    record = tube_record()
    assert (record.count("cd4"), record.count("treg"), record.count("cd8")) == (77, 0, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"n_events": 77', '"n_event": 77'),
        ('"schema_version": 1', '"schema_version": 2'),
        ('"status": "review"', '"status": "fine"'),
    ],
)  # fmt: skip
def test_a_record_with_another_layout_is_not_read(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "S01.json"
    write_record(path, tube_record())
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValidationError):
        read_record(path)


# --- histograms -----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(counts=arrays(np.int64, array_shapes(min_dims=1, max_dims=2, max_side=9), elements=st.integers(0, 2**32 - 1)))
def test_packed_counts_come_back(counts: np.ndarray) -> None:
    y = axis(counts.shape[1]) if counts.ndim == 2 else None
    histogram = HistogramRecord(population="cd4", gates=(), x=axis(counts.shape[0]), y=y, counts=pack_counts(counts))
    np.testing.assert_array_equal(histogram.array(), counts)
    assert histogram.array().shape == counts.shape
    assert not histogram.array().flags.writeable
    assert pack_counts(np.asfortranarray(counts)) == histogram.counts


def test_packed_counts_are_what_the_record_says() -> None:
    text = pack_counts(np.array([[1, 2], [3, 70000]]))
    assert zlib.decompress(base64.b64decode(text)) == np.array([1, 2, 3, 70000], dtype="<u4").tobytes()


def test_counts_of_another_shape_are_refused() -> None:
    histogram = HistogramRecord(population="a", gates=(), x=axis(4), y=None, counts=pack_counts(np.arange(3)))
    with pytest.raises(ValueError, match="cannot reshape"):
        histogram.array()


# --- files ----------------------------------------------------------------------------------------------------------


def test_hashes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "data").write_bytes(data)
    assert sha256_file(tmp_path / "data") == sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_an_interrupted_write_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.txt", b"new")
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "absent" / "a.txt", b"new")


# --- the ledger -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    book = Ledger(path)
    for i in range(4):
        book.append({"action": "tube_done", "tube": f"S0{i}", "comment": "Zürich \u2028 \r\n next"})
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def broken_at(path: Path) -> object:
    with pytest.raises(
        BatchError, match=r"LEDGER_BROKEN: line .* of ledger.jsonl does not continue the line before it"
    ) as e:
        verify_ledger(path)
    return e.value.data["line"]


def test_a_ledger_is_a_chain(ledger: Path) -> None:
    lines = lines_of(ledger)
    assert verify_ledger(ledger) == len(lines) == 4
    assert json.loads(lines[0])["previous"] == GENESIS
    for one, other in itertools.pairwise(lines):
        assert json.loads(other)["previous"] == hashlib.sha256(one).hexdigest()
    assert list(json.loads(lines[0])) == ["action", "comment", "previous", "tube"]


def test_append_returns_the_hash_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert Ledger(path).append({"a": 1}) == hashlib.sha256(lines_of(path)[0]).hexdigest()


def test_a_reopened_ledger_goes_on(ledger: Path) -> None:
    Ledger(ledger).append({"action": "later"})
    assert verify_ledger(ledger) == 5


def test_an_entry_cannot_choose_its_place(ledger: Path) -> None:
    Ledger(ledger).append({"action": "later", "previous": GENESIS})
    assert verify_ledger(ledger) == 5


def test_an_empty_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    assert verify_ledger(path) == 0
    Ledger(path).append({"a": 1})
    assert verify_ledger(path) == 1


@pytest.mark.parametrize("line", [0, 1, 2])
def test_an_edited_line_shows_in_the_next(ledger: Path, line: int) -> None:
    lines = lines_of(ledger)
    lines[line] = lines[line].replace(b'"tube":"S', b'"tube":"T')
    ledger.write_bytes(b"\n".join(lines) + b"\n")
    assert broken_at(ledger) == line + 2


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_missing_line_shows(ledger: Path, line: int) -> None:
    lines = lines_of(ledger)
    del lines[line]
    ledger.write_bytes(b"\n".join(lines) + b"\n")
    assert broken_at(ledger) == line + 1


def test_reordered_repeated_and_added_lines_show(ledger: Path) -> None:
    a, b, c, d = lines_of(ledger)
    for changed, line in (
        ([a, c, b, d], 2),
        ([a, b, b, c, d], 3),
        ([a, b, c, d, b'{"action":"x"}'], 5),
        ([a, b, b"", c, d], 3),
    ):
        ledger.write_bytes(b"\n".join(changed) + b"\n")
        assert broken_at(ledger) == line


@pytest.mark.parametrize("line", [b"[]", b"null", b"3", b"not json", b'{"previous": 7}', b"\xff"])
def test_a_line_that_is_no_entry_shows(ledger: Path, line: bytes) -> None:
    ledger.write_bytes(ledger.read_bytes() + line + b"\n")
    assert broken_at(ledger) == 5


def test_line_ends_changed_by_an_editor_show(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes().replace(b"\n", b"\r\n"))
    assert broken_at(ledger) == 2


def test_a_line_cut_by_a_killed_run_is_dropped_and_noted(ledger: Path) -> None:
    whole = ledger.read_bytes()
    for cut in (1, 20, len(lines_of(ledger)[-1])):
        ledger.write_bytes(whole[:-cut])
        left = whole[:-cut].rfind(b"\n") + 1
        Ledger(ledger)
        assert verify_ledger(ledger) == 4
        entry = json.loads(lines_of(ledger)[-1])
        assert entry["action"] == "ledger_repaired"
        assert entry["dropped_bytes"] == len(whole) - cut - left
        assert ledger.read_bytes().startswith(whole[:left])


def test_a_ledger_cut_in_its_first_line_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"action":"run_st')
    Ledger(path).append({"a": 1})
    assert verify_ledger(path) == 2


@pytest.mark.parametrize("entry", [{"value": math.nan}, {"value": object()}])
def test_what_cannot_be_written_leaves_the_ledger_as_it_was(ledger: Path, entry: dict[str, object]) -> None:
    before = ledger.read_bytes()
    book = Ledger(ledger)
    with pytest.raises((ValueError, TypeError)):
        book.append(entry)
    assert ledger.read_bytes() == before
    book.append({"a": 1})
    assert verify_ledger(ledger) == 5


def test_the_chain_cannot_show_a_missing_end_but_the_returned_hash_does(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    book = Ledger(path)
    book.append({"a": 1})
    last = book.append({"a": 2})
    path.write_bytes(lines_of(path)[0] + b"\n")
    assert verify_ledger(path) == 1
    assert sha256_bytes(lines_of(path)[-1]) != last


def test_a_broken_ledger_is_a_tregflow_error_with_a_remedy(ledger: Path) -> None:
    ledger.write_bytes(b"{}\n")
    with pytest.raises(TregflowError, match=r"expected previous = 000000000000..., found no readable"):
        verify_ledger(ledger)
