"""The end of a run on the screen: it fits, the worst is last, and the last line says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from records import make_record

from tregflow.batch import RunResult
from tregflow.errors import Finding
from tregflow.record import FindingRecord, MovedCounts, TubeRecord
from tregflow.screen.run import print_run
from tregflow.template.registry import load_template


def finding(severity: str, code: str, tube: str, message: str) -> FindingRecord:
    found = Finding(code, severity, message)
    values = {name: getattr(found, name) for name in FindingRecord.model_fields}
    return FindingRecord(**values | {"tube": tube})


def lost(tube: str, message: str = "cut", **values: str) -> TubeRecord:
    found = (finding("fail", "FCS_TRUNCATED", tube, f"{tube}.fcs: {message}"),)
    found += (finding("review", "PLACEMENT_NOT_OWN", tube, "shared"),)
    return make_record(tube, status="not_evaluable", gated=False, findings=found, **values)


def to_review(tube: str) -> TubeRecord:
    found = (finding("review", "NUMERATOR_LOW", tube, "few events"),)
    return make_record(tube, status="review", findings=found, subject=tube)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What `print_run` prints on so many columns."""

    def call(*records: TubeRecord, columns: int = 80, inferred: bool = False, crashes: tuple[str, ...] = ()) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        plan = SimpleNamespace(template=load_template("treg-foxp3-pbmc@0.1.0"), inferred=inferred)
        print_run(RunResult(Path("results/b"), records, (), crashes), plan)
        return capsys.readouterr().out

    return call


def table_of(text: str) -> list[str]:
    return text[: text.index("\nReport")].split("Needs attention", maxsplit=1)[0].splitlines()


@pytest.mark.parametrize("columns", [60, 70, 80, 100, 120])
def test_table_fits_and_keeps_percentage_and_status_whole(shown, columns: int) -> None:
    long = make_record("a", subject="S01" + "x" * 300, visit="00_Control")
    lines = table_of(shown(long, lost("b", subject="S02"), columns=columns))
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    assert "not evaluable" in text
    assert "Lymphocytes" in text
    assert re.search(r"\b\d+\.\d\d\b", text)
    assert "S01xx" in text
    assert sum("S01xx" in line for line in lines) == 1  # one tube, one line


def test_the_interval_goes_before_percent_of_cd4(shown) -> None:
    records = (make_record("a"), lost("b", subject="S02"))
    wide, middle, narrow = ("\n".join(table_of(shown(*records, columns=c))[1:]) for c in (100, 80, 60))
    assert "counting" in wide
    assert "counting" not in middle
    assert middle.count("CD4+") == 1
    assert "events" in middle
    assert "CD4+" not in narrow


def test_the_interval_holds_the_cuts_where_every_tube_has_it(shown) -> None:
    plain = make_record("a")
    whole = plain.count("lymphocytes")
    moved = tuple(MovedCounts(direction=d, n_numerator=n, n_denominator=whole) for d, n in (("down", 150), ("up", 90)))
    both = plain.model_copy(update={"moved": moved})
    heading = " ".join(shown(both, lost("b", subject="S02"), columns=120).split())
    assert "95 %, counting and cuts" in heading
    mixed = " ".join(
        shown(
            both, plain.model_copy(update={"tube": plain.tube.model_copy(update={"visit": "W2"})}), columns=120
        ).split()
    )
    assert "95 %, counting " in mixed
    assert "and cuts" not in mixed


def test_replicates_are_told_apart(shown) -> None:
    first = make_record("a")
    second = make_record("b", seed=2)
    second = second.model_copy(update={"tube": second.tube.model_copy(update={"replicate": 2})})
    assert "replicate" in shown(first, second)
    assert "replicate" not in shown(first)


def test_worst_comes_last_above_what_to_do(shown) -> None:
    text = shown(to_review("r"), lost("b"), make_record("a"))
    places = [text.index(w) for w in ("Needs attention", "NUMERATOR_LOW", "FCS_TRUNCATED", "Report ", "Table ")]
    assert places == sorted(places)
    assert text.splitlines()[-1].startswith("2 of 3 stained tubes evaluable, 1 of them to review; 1 not evaluable. ")
    assert "Start with the codes in red" in text.splitlines()[-1]


def test_a_lost_tube_shows_its_failures_only(shown) -> None:
    assert "PLACEMENT_NOT_OWN" not in shown(lost("b"))


def test_one_message_over_many_tubes_is_one_line(shown) -> None:
    text = shown(*(lost(f"t{i}") for i in range(32)))
    assert "t0, t1, t2 and 29 more: cut" in text
    assert "see findings.csv" not in text


def test_many_messages_of_one_code_are_three_lines(shown) -> None:
    text = shown(*(lost(f"t{i}", f"{i} bytes") for i in range(32)))
    assert re.findall(r"(\d+) bytes", text) == ["0", "1", "2"]
    assert "and 29 more, see findings.csv" in text


def test_batch_of_controls(shown) -> None:
    text = shown(make_record("F", role="fmo:FOXP3", status="control"))
    assert "no stained tube: nothing to gate" in text.splitlines()[-1]
    assert "subject " not in text


def test_inferred_manifest(shown) -> None:
    text = " ".join(shown(make_record("a"), inferred=True).split())
    words = "subject, visit and role were inferred from file names or keywords: check results/b/manifest.inferred.csv"
    assert words in text
    assert "inferred" not in shown(make_record("a"))


@pytest.mark.parametrize(
    ("records", "crashes", "words"),
    [
        ((make_record("a"),), (), "1 of 1 stained tube evaluable. Nothing needs attention."),
        ((to_review("r"),), (), "1 of 1 stained tube evaluable, 1 of them to review. Look at the report"),
        ((lost("b"),), ("b",), "Results are incomplete: run the same command again"),
    ],
)
def test_last_line(shown, records: tuple[TubeRecord, ...], crashes: tuple[str, ...], words: str) -> None:
    assert words in shown(*records, crashes=crashes).splitlines()[-1]
