"""The self-test of an installation: passes here, and fails where anything is not as known."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT
from typer.testing import CliRunner

from tregflow.cli import app
from tregflow.errors import VerifyError
from tregflow.selftest import Installation, run_selftest, study, write_installation
from tregflow.selftest import known as known_module
from tregflow.selftest.conformance import check_conformance, gate_case, read_cases
from tregflow.selftest.known import check_known_answer, golden_table
from tregflow.selftest.page import installation_html
from tregflow.selftest.study import CLEAR_LIMIT, CORNERS, SILENT_LIMIT, StudyTube, check_study

GOLDEN = ROOT / "tests" / "golden" / "endpoint.csv"


# --- the whole ------------------------------------------------------------------------------------------------------


def test_this_installation_passes() -> None:
    installation = run_selftest(batch=ROOT / "sample_fcs")
    assert installation.problems == ()
    assert installation.exit_code == 0
    assert [check.id for check in installation.checks] == [
        "transforms", "gates", "gating_ml", "known", "verified", "study", "templates",
    ]  # fmt: skip
    assert len(installation.tubes) == 2 * len(CORNERS) == 12
    assert set(installation.hashes) == {"program", "templates", installation.template, "known table", "known answers"}
    assert all(len(value) == 64 for value in installation.hashes.values())
    assert installation.machine["system"]
    assert installation.software["flowkit"] != "not installed"
    off = [abs(tube.error_pct) for tube in installation.tubes if tube.clear and tube.error_pct is not None]
    assert len(off) == 6
    assert max(off) < CLEAR_LIMIT


def test_the_clear_corners_are_clear_and_the_others_are_not() -> None:
    assert sum(corner.clear for corner in CORNERS) == 3
    for corner in CORNERS:
        assert corner.clear == (corner.drift == corner.reference_positive == 0 and corner.tube.cd25_separation >= 1)


@pytest.fixture
def installation() -> Installation:
    """A record made up by hand."""
    tubes = (StudyTube("few Treg cells, clear", True, "S01_BL_stained", 0.537, 0.55, ()),)
    hashes = {"program": "a" * 64}
    machine = {"host": "h", "user": "u", "system": "s", "processor": "p", "byte order": "little"}
    software = {"tregflow": "0.1.0", "Python": "3.11"}
    checks = (check_study(tubes, "t@1.0.0"),)
    return Installation("t@1.0.0", checks, tubes, machine, software, hashes, 1.5, "2026-01-01T00:00:00+00:00")


def test_the_record_is_one_offline_page_and_json(installation: Installation, tmp_path: Path) -> None:
    page, data = write_installation(installation, tmp_path / "a" / "b")
    document = json.loads(data.read_bytes())
    assert document["verdict"] == "passed"
    assert document["checks"][0]["verdict"] == "ok"
    assert document["tubes"][0]["found_pct"] == 0.55
    text = page.read_text(encoding="utf-8")
    assert "PASSED" in text
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert sorted(p.name for p in page.parent.iterdir()) == ["installation.html", "installation.json"]


def test_a_failure_is_said_and_escaped(installation: Installation) -> None:
    check = check_study([replace(installation.tubes[0], found_pct=9.9, corner="<few>")], "t@1.0.0")
    failed = replace(installation, checks=(check,))
    assert failed.exit_code == 1
    page = installation_html(failed)
    assert "FAILED: 1 thing not as known. Do not use this installation." in page
    assert "&lt;few&gt;" in page
    assert "<few>" not in page


def test_the_command_prints_a_table_writes_the_record_and_exits(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    asked: dict[str, Any] = {}

    def known(**options: Any) -> Installation:
        asked.update(options)
        options["progress"]("simulating")
        return installation

    monkeypatch.setattr("tregflow.selftest.run_selftest", known)
    result = CliRunner().invoke(app, ["selftest", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "PASSED: this installation gives the known answers."
    assert "few Treg cells, clear" in result.output
    assert (tmp_path / "out" / "installation.json").is_file()
    assert asked["batch"] is None
    bad = replace(installation, checks=(check_study([replace(installation.tubes[0], found_pct=None)], "t@1.0.0"),))
    monkeypatch.setattr("tregflow.selftest.run_selftest", lambda **_: bad)
    result = CliRunner().invoke(app, ["selftest", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "SELFTEST_TRUTH" in result.output
    assert "expected 0.537 %, found no number" in result.output


def test_a_folder_that_is_no_sample_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match=r"SELFTEST_INCOMPLETE: .* has no study\.toml"):
        run_selftest(batch=tmp_path)


# --- the known table ------------------------------------------------------------------------------------------------


def test_the_known_table_is_the_golden_table_of_the_tests() -> None:
    """One source: `pytest --regen-golden` writes it, and a wheel carries it."""
    assert golden_table() == GOLDEN


def test_an_installed_package_has_the_table_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "tregflow"
    (package / "golden").mkdir(parents=True)
    (package / "selftest").mkdir()
    (package / "golden" / "endpoint.csv").write_bytes(GOLDEN.read_bytes())
    monkeypatch.setattr(known_module, "__file__", str(package / "selftest" / "known.py"))
    assert golden_table() == package / "golden" / "endpoint.csv"
    (package / "golden" / "endpoint.csv").unlink()
    with pytest.raises(VerifyError, match="SELFTEST_INCOMPLETE: the known endpoint table is not in the package"):
        golden_table()


def test_one_count_that_is_not_the_known_one_is_found(tmp_path: Path) -> None:
    table = tmp_path / "endpoint.csv"
    rows = GOLDEN.read_text().splitlines(keepends=True)
    at = next(i for i, row in enumerate(rows) if "S01_W12_stained" in row)
    cells = rows[at].split(",")
    column = rows[0].split(",").index("n_numerator")
    cells[column] = str(int(cells[column]) + 1)
    table.write_text("".join([*rows[:at], ",".join(cells), *rows[at + 1 :]]))
    (problem,) = check_known_answer(table, GOLDEN).problems
    assert (problem.code, problem.column, problem.found) == ("SELFTEST_KNOWN_ANSWER", "n_numerator", cells[column])
    assert problem.tube == "S01_W12_stained.fcs"
    assert "--batch" in problem.remedy


# --- the known answers -----------------------------------------------------------------------------------------------


def spoiled(kind: str, edit: Any) -> dict[str, Any]:
    cases = copy.deepcopy(read_cases())
    edit(cases[kind])
    return cases


def test_every_case_says_why_and_expects_something_of_every_gate() -> None:
    for case in read_cases()["cases"]:
        assert case["why"].endswith(".")
        assert list(case["expected"]) == [gate["id"] for gate in case["gates"]]
        assert all(1 <= event <= len(case["events"]) for events in case["expected"].values() for event in events)


def test_hand_computed_values_are_found_there_and_back() -> None:
    def edit(transforms: list[dict[str, Any]]) -> None:
        transforms[0]["points"][0][1] += 1e-6

    checks = {check.id: check for check in check_conformance(spoiled("transforms", edit))}
    assert [p.code for p in checks["transforms"].problems] == ["SELFTEST_CONFORMANCE"] * 2
    assert "is not the known value" in checks["transforms"].problems[0].message
    assert checks["gates"].problems == ()


def test_one_event_on_an_edge_is_told_by_engine_and_gate() -> None:
    def edit(cases: list[dict[str, Any]]) -> None:
        case = next(c for c in cases if c["id"] == "polygon edges")
        case["expected"]["square"].append(4)  # as if the right edge were in

    checks = {check.id: check for check in check_conformance(spoiled("cases", edit))}
    assert [p.message for p in checks["gates"].problems] == [
        "tregflow finds other events in gate square of case polygon edges"
    ]
    assert [p.message for p in checks["gating_ml"].problems] == [
        "FlowKit finds other events in gate square of case polygon edges"
    ]
    assert checks["gates"].problems[0].found == "[1, 2, 3, 6]"


def test_hand_computed_compensation_is_the_inverse_of_the_spillover() -> None:
    case = next(c for c in read_cases()["cases"] if c["id"] == "compensation")
    true = np.array([[1000.0, 400.0], [1000.0, 0.0], [0.0, 400.0]])
    np.testing.assert_array_equal(true @ np.array(case["spillover"]), np.array(case["events"]))
    _, spillover = gate_case(case)
    assert spillover is not None
    np.testing.assert_allclose(np.array(case["events"]) @ spillover.inverse, true, atol=1e-9)


# --- the study in small -----------------------------------------------------------------------------------------------


def tube(found: float | None, *, clear: bool, codes: tuple[str, ...] = ()) -> StudyTube:
    return StudyTube("corner", clear, "S01_BL_stained", 2.0, found, codes)


@pytest.mark.parametrize(
    ("found", "clear", "codes", "template", "n_problems", "n_notes"),
    [
        (2.0 * (1 + CLEAR_LIMIT / 100) - 1e-9, True, (), "t@1.0.0", 0, 0),
        (2.0 * (1 + CLEAR_LIMIT / 100) + 1e-9, True, (), "t@1.0.0", 1, 0),
        (2.0 * (1 - CLEAR_LIMIT / 100) - 1e-9, True, ("NUMERATOR_LOW",), "t@0.1.0", 1, 0),
        (None, True, ("FCS_TRUNCATED",), "t@1.0.0", 1, 0),
        (None, False, ("FCS_TRUNCATED",), "t@1.0.0", 0, 0),
        (2.0 * (1 + SILENT_LIMIT / 100) + 1e-9, False, (), "t@1.0.0", 1, 0),
        (2.0 * (1 + SILENT_LIMIT / 100) + 1e-9, False, (), "t@0.9.0", 0, 1),
        (2.0 * (1 + SILENT_LIMIT / 100) + 1e-9, False, ("NUMERATOR_LOW",), "t@1.0.0", 0, 0),
    ],
)
def test_clear_tubes_are_judged_by_their_count_others_by_what_is_said(
    found: float | None, clear: bool, codes: tuple[str, ...], template: str, n_problems: int, n_notes: int
) -> None:
    check = check_study([tube(found, clear=clear, codes=codes)], template)
    assert (len(check.problems), len(check.notes)) == (n_problems, n_notes)
    assert {p.code for p in check.problems} <= {"SELFTEST_TRUTH"}


def test_a_template_whose_cut_is_wrong_fails_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on one clear corner with a draft that cuts FOXP3 far too high."""
    monkeypatch.setattr(study, "CORNERS", CORNERS[1:2])
    text = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text()
    at = text.index('id = "foxp3_pos"')
    k = text.index("k = ", at)
    end = text.index("\n", k)
    wrong = text[:k] + "k = 12.0" + text[end:]
    draft = tmp_path / "wrong.toml"
    draft.write_text(wrong.replace('version = "0.1.0"', 'version = "0.1.1"'))
    plan = study.make_plan
    monkeypatch.setattr(study, "make_plan", lambda batch: plan(batch, str(draft)))
    tubes = study.run_small_study(tmp_path / "s", b'[template]\nid = "treg-foxp3-pbmc"\nversion = "0.1.0"\n')
    check = check_study(tubes, "treg-foxp3-pbmc@0.1.1")
    assert [p.code for p in check.problems] == ["SELFTEST_TRUTH"] * 2
    assert all(t.error_pct is not None and t.error_pct < -CLEAR_LIMIT for t in tubes)
