"""The second opinion: an untouched run is confirmed, and whatever is changed in it is found and named."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import ROOT, real_data
from typer.testing import CliRunner

import tregflow.template.registry as registry_module
from tregflow.batch import make_plan, run_batch
from tregflow.batch.folder import run_sha256
from tregflow.cli import app
from tregflow.errors import BatchError, VerifyError
from tregflow.fcs import read_fcs, write_fcs
from tregflow.record import GENESIS, read_record, sha256_bytes, sha256_file, write_record
from tregflow.report import write_report
from tregflow.template.loading import canonical_json
from tregflow.verify import Certificate, Problem, compare_tables, readers, verify_results, write_certificate
from tregflow.verify import tube as tube_module
from tregflow.verify.exports import remade_export
from tregflow.verify.folder import open_results
from tregflow.verify.ledger import check_files, check_ledger
from tregflow.verify.origin import check_rows, check_software, check_template
from tregflow.verify.page import certificate_html, certificate_json
from tregflow.verify.tables import TABLES, check_percentages, check_tables
from tregflow.verify.tube import TubeToVerify, verify_tube

SAMPLE = ROOT / "sample_fcs"
BL, W12 = "S01_BL_stained", "S01_W12_stained"
MANIFEST = """file,subject_id,visit,role,batch_id
S01_BL_stained.fcs,S01,BL,stained,B01
S01_W12_stained.fcs,S01,W12,stained,B01
S01_W24_stained.fcs,S01,W24,stained,B01
B01_unstained.fcs,,,unstained,B01
"""


@dataclass(frozen=True)
class Run:
    """A batch folder and its results; the third stained tube is cut, so it has no number."""

    batch: Path
    results: Path

    def verify(self) -> Certificate:
        return verify_results(self.results, batch=self.batch, jobs=1)

    def opened(self) -> Any:
        return open_results(self.results, self.batch)

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.results / name
        text = path.read_text(encoding="utf-8")
        changed = change(text)
        assert changed != text, "the test changes nothing"
        path.write_bytes(changed.encode())

    def edit_run(self, **values: Any) -> None:
        path = self.results / "run.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | values, indent=1) + "\n")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("verify")
    batch = folder / "batch"
    batch.mkdir()
    for name in (f"{BL}.fcs", f"{W12}.fcs", "B01_unstained.fcs"):
        shutil.copy(SAMPLE / name, batch)
    pinned = (SAMPLE / "study.toml").read_text(encoding="utf-8").replace('version = "0.2.0"', 'version = "0.1.0"')
    (batch / "study.toml").write_text(pinned, encoding="utf-8")
    (batch / "S01_W24_stained.fcs").write_bytes((SAMPLE / "S01_W24_stained.fcs").read_bytes()[:900_000])
    (batch / "manifest.csv").write_text(MANIFEST)
    # the template whose cuts are partly shared, so that both kinds are met
    run_batch(make_plan(batch, "treg-foxp3-pbmc@0.1.0"), folder / "results", render=write_report)
    return Run(batch, folder / "results")


@pytest.fixture
def run(untouched: Run, tmp_path: Path) -> Run:
    """A copy to spoil."""
    for folder in (untouched.batch, untouched.results):
        shutil.copytree(folder, tmp_path / folder.name)
    return Run(tmp_path / "batch", tmp_path / "results")


def forge(run: Run) -> None:
    """Write ledger and run.json anew, so that they agree with what lies in the folder: what a careful forger does."""
    lines, previous = [], GENESIS
    description = json.loads((run.results / "run.json").read_bytes())
    for line in (run.results / "ledger.jsonl").read_text().splitlines():
        entry = json.loads(line) | {"previous": previous}
        if entry["action"] == "tube_done":
            paths = {
                "record_sha256": f"samples/{entry['tube']}.json",
                "gates_sha256": f"gates/{entry['tube']}.gating-ml.xml",
            }
            entry |= {k: sha256_file(run.results / p) if (run.results / p).is_file() else "" for k, p in paths.items()}
        if entry["action"] == "run_ended":
            entry["outputs"] = {name: sha256_file(run.results / name) for name in entry["outputs"]}
            entry["run_sha256"] = run_sha256(description)
        lines.append(canonical_json(entry))
        previous = sha256_bytes(lines[-1])
    (run.results / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    run.edit_run(ledger={"entries": len(lines), "sha256": previous})


def codes(problems: tuple[Problem, ...] | list[Problem]) -> set[str]:
    return {p.code for p in problems}


def found(problems: Any, code: str) -> Problem:
    """The one problem with a code."""
    (problem,) = (p for p in problems if p.code == code)
    return problem


# --- untouched ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(untouched: Run) -> Certificate:
    return untouched.verify()


def test_an_untouched_run_is_confirmed(certificate: Certificate) -> None:
    assert certificate.problems == ()
    assert certificate.exit_code == 0
    assert [check.verdict for check in certificate.checks] == ["ok"] * 13
    assert [(t.name, t.status, t.cross_reader) for t in certificate.tubes] == [
        (BL, "ok", "fcsparser"),
        (W12, "ok", "fcsparser"),
        ("S01_W24_stained", "not_evaluable", ""),
        ("B01_unstained", "control", "fcsparser"),
    ]


def test_record_engine_and_flowkit_agree_event_by_event(certificate: Certificate, untouched: Run) -> None:
    record = read_record(untouched.results / "samples" / f"{W12}.json")
    (tube,) = (t for t in certificate.tubes if t.name == W12)
    assert [p.id for p in tube.populations] == [p.id for p in record.populations]
    for population in tube.populations:
        assert population.recorded == population.ours == population.flowkit == record.count(population.id)
        assert (population.n_different, population.n_left_out) == (0, 0)
    assert (tube.n_placed_again, tube.n_as_recorded) == (4, 2)  # CD25 and FOXP3 are shared over the batch


def test_verifying_changes_nothing_and_repeats(untouched: Run, certificate: Certificate) -> None:
    before = {p: p.read_bytes() for p in untouched.results.rglob("*") if p.is_file()}
    again = untouched.verify()
    assert {p: p.read_bytes() for p in untouched.results.rglob("*") if p.is_file()} == before
    assert replace(again, time="") == replace(certificate, time="")


def test_what_goes_to_a_worker_and_back_can_be_sent(untouched: Run, certificate: Certificate) -> None:
    results = untouched.opened()
    _, template = check_template(results)
    task = TubeToVerify(results.records[BL], untouched.batch / f"{BL}.fcs", results.export_of(BL), template, {})
    sent = ForkingPickler.loads(bytes(ForkingPickler.dumps(task)))
    assert sent.record == task.record
    assert ForkingPickler.loads(bytes(ForkingPickler.dumps(certificate.tubes))) == certificate.tubes


def test_results_and_tubes_that_moved_together_are_found(run: Run, untouched: Run) -> None:
    description = json.loads((run.results / "run.json").read_bytes())
    gone = run.results.parent / "gone"
    for name in ("batch", "manifest"):
        description[name]["path"] = (gone / Path(description[name]["path"]).name).as_posix()
    run.edit_run(**description)
    results = open_results(run.results)
    assert results.batch is not None
    assert results.batch.resolve() == run.batch.resolve()
    assert check_rows(results).verdict == "ok"


def test_real_tubes_are_confirmed(tmp_path: Path) -> None:
    batch = real_data("treg_foxp3_aurora")
    run_batch(make_plan(batch, "treg-foxp3-aurora@0.1.0"), tmp_path / "r", jobs=1)
    certificate = verify_results(tmp_path / "r", jobs=1)
    assert certificate.problems == ()
    assert [t.cross_reader for t in certificate.tubes] == ["FlowIO"] * 6
    (note,) = next(check.notes for check in certificate.checks if check.id == "raw")
    assert note.startswith("INF052_00_Ctrl_stained, INF052_00_SEB_stained, INF100_00_Ctrl_stained and 3 more: read by")
    assert "fcsparser" in note, "they are big-endian"
    assert all(p.n_different == 0 for t in certificate.tubes for p in t.populations)
    assert sum(len(t.populations) for t in certificate.tubes) >= 6 * 5


# --- the five that must be found, on the whole ----------------------------------------------------------------------


def test_one_flipped_bit_in_an_fcs_file_is_found(run: Run) -> None:
    path = run.batch / f"{W12}.fcs"
    data = bytearray(path.read_bytes())
    data[1_000_000] ^= 0b100
    path.write_bytes(data)
    certificate = run.verify()
    problem = found(certificate.problems, "VERIFY_FILE_CHANGED")
    assert problem.message == f"{W12}.fcs is not the file that was gated"
    assert (problem.file, problem.tube, problem.column) == (f"{W12}.fcs", W12, "SHA-256")
    assert problem.found == sha256_bytes(bytes(data))
    assert len(certificate.problems) == 1
    assert certificate.exit_code == 1
    notes = {c.id: c.notes for c in certificate.checks}
    assert notes["events"] == (f"{W12}: not gated again, because of what is said above",)


def test_one_edited_number_in_a_table_is_found(run: Run) -> None:
    run.edit("endpoint.csv", lambda text: text.replace(",430,25619,", ",530,25619,"))
    certificate = run.verify()
    assert codes(certificate.problems) == {"VERIFY_RESULT_CHANGED", "VERIFY_TABLE", "VERIFY_PERCENTAGE"}
    problem = found(certificate.problems, "VERIFY_TABLE")
    assert problem.message == f"endpoint.csv, {BL}.fcs: n_numerator differs"
    assert (problem.file, problem.column, problem.expected, problem.found) == (
        "endpoint.csv", "n_numerator", "430", "530",
    )  # fmt: skip
    wrong = {p.column for p in certificate.problems if p.code == "VERIFY_PERCENTAGE"}
    assert {"endpoint_pct", "endpoint_pct_count_low", "treg_pct_of_cd4"} <= wrong


def move_gate(text: str) -> str:
    """The FOXP3 cut of an export, a little higher."""
    root, cut = text.split('gating:id="foxp3_pos"')
    before, minimum, after = cut.split('"', 2)[0], *cut.partition('gating:min="')[1:]
    value, rest = after.split('"', 1)
    assert before is not None
    head = cut[: cut.index('gating:min="')]
    return f'{root}gating:id="foxp3_pos"{head}{minimum}{float(value) + 0.02!r}"{rest}'


def test_one_moved_gate_in_an_export_is_found(run: Run) -> None:
    run.edit(f"gates/{BL}.gating-ml.xml", move_gate)
    certificate = run.verify()
    assert codes(certificate.problems) == {"VERIFY_RESULT_CHANGED", "VERIFY_EXPORT", "VERIFY_EVENTS"}
    problem = found(certificate.problems, "VERIFY_EXPORT")
    assert problem.message == f"{BL}: foxp3_pos, dimension 1, min is not what the record says"
    assert float(problem.found) == pytest.approx(float(problem.expected) + 0.02)
    assert {p.column for p in certificate.problems if p.code == "VERIFY_EVENTS"} == {
        "foxp3_pos", "treg", "treg_cd127low",
    }  # fmt: skip
    assert {p.tube for p in certificate.problems} == {BL}


def test_one_deleted_row_is_found(run: Run) -> None:
    run.edit("endpoint.csv", lambda text: "".join(x for x in text.splitlines(keepends=True) if f"{W12}.fcs" not in x))
    certificate = run.verify()
    problem = found(certificate.problems, "VERIFY_TABLE")
    assert problem.message == f"endpoint.csv lacks a row: S01, W12, stained, 1, B01, {W12}.fcs"
    assert (problem.expected, problem.found) == ("1 rows", "0 rows")
    assert codes(certificate.problems) == {"VERIFY_RESULT_CHANGED", "VERIFY_TABLE"}


@pytest.mark.parametrize("lines", [1, 2, 6])
def test_a_ledger_truncated_at_a_line_is_found(run: Run, lines: int) -> None:
    run.edit("ledger.jsonl", lambda text: "".join(text.splitlines(keepends=True)[:-lines]))
    problem = found(check_ledger(run.opened()).problems, "VERIFY_LEDGER")
    assert problem.message == f"the ledger was cut: 6 entries when the run ended, {6 - lines} now"
    assert (problem.column, problem.expected, problem.found) == ("entries", "6", str(6 - lines))
    if lines == 1:
        certificate = run.verify()
        assert certificate.problems == (problem,)
        assert certificate.exit_code == 1


# --- the ledger and the files ---------------------------------------------------------------------------------------


def test_a_ledger_cut_inside_a_line_is_found(run: Run) -> None:
    run.edit("ledger.jsonl", lambda text: text[:-20])
    problems = check_ledger(run.opened()).problems
    assert any("it was cut" in p.message for p in problems)
    assert codes(problems) == {"VERIFY_LEDGER"}


def test_a_ledger_that_is_gone_or_broken_is_found(run: Run) -> None:
    run.edit("ledger.jsonl", lambda text: text.replace('"status":"ok"', '"status":"OK"', 1))
    problem = found(check_ledger(run.opened()).problems, "VERIFY_LEDGER")
    assert "does not continue the line before it" in problem.message
    assert problem.column == "line 3"
    (run.results / "ledger.jsonl").unlink()
    assert found(check_ledger(run.opened()).problems, "VERIFY_LEDGER").message == "there is no ledger"
    assert check_files(run.opened()).verdict == "failed"


def test_an_edited_last_line_is_found(run: Run) -> None:
    run.edit("ledger.jsonl", lambda text: text[: text.rindex('"user":')] + '"user":"someone else"}\n')
    problem = found(check_ledger(run.opened()).problems, "VERIFY_LEDGER")
    assert problem.message == "entry 6 is not the one with which the run ended"


def test_the_lines_of_a_later_run_cannot_be_cut_either(run: Run) -> None:
    """The ledger then ends with an earlier run that ended well."""
    run_batch(make_plan(run.batch, "treg-foxp3-pbmc@0.1.0"), run.results, render=write_report)
    assert check_ledger(run.opened()).verdict == "ok"
    text = (run.results / "ledger.jsonl").read_text().splitlines(keepends=True)
    assert len(text) == 8
    (run.results / "ledger.jsonl").write_text("".join(text[:6]))
    assert "8 entries when the run ended, 6 now" in found(check_ledger(run.opened()).problems, "VERIFY_LEDGER").message


def test_an_edited_run_json_is_found_by_the_ledger(run: Run) -> None:
    run.edit_run(started="2020-01-01T00:00:00+00:00")
    problem = found(check_ledger(run.opened()).problems, "VERIFY_RESULT_CHANGED")
    assert problem.message == "run.json is not what it was when the run ended"


def test_a_run_of_which_run_json_does_not_tell_is_found(run: Run) -> None:
    path = run.results / "ledger.jsonl"
    previous = sha256_bytes(path.read_bytes().splitlines()[-1])
    path.write_bytes(path.read_bytes() + canonical_json({"action": "run_started", "previous": previous}) + b"\n")
    problem = found(check_ledger(run.opened()).problems, "VERIFY_LEDGER")
    assert problem.message == "entry 7 is of a run that run.json does not tell of"


def test_a_later_entry_of_another_kind_is_a_note_and_its_hashes_count(run: Run) -> None:
    path = run.results / "ledger.jsonl"
    previous = sha256_bytes(path.read_bytes().splitlines()[-1])
    (run.results / "report.html").write_text("made again")
    outputs = {"report.html": sha256_file(run.results / "report.html")}
    entry = {"action": "report_written", "previous": previous, "outputs": outputs}
    path.write_bytes(path.read_bytes() + canonical_json(entry) + b"\n")
    assert check_ledger(run.opened()).notes == ("1 later entries: report_written",)
    assert check_files(run.opened()).problems == ()


@pytest.mark.parametrize("state", ["running", "incomplete"])
def test_a_run_that_did_not_end_is_not_confirmed(run: Run, state: str) -> None:
    run.edit_run(state=state)
    problem = found(check_ledger(run.opened()).problems, "VERIFY_RUN_INCOMPLETE")
    assert problem.message == f"the run is not complete: run.json says {state}"
    assert "Run the same `tregflow gate` command again" in problem.remedy


@pytest.mark.parametrize(
    "name",
    ["report.html", "endpoint.csv", "endpoint.parquet", "endpoint.schema.json", "populations.csv", "findings.csv"],
)
def test_an_edited_and_a_missing_file_of_the_results_is_found(run: Run, name: str) -> None:
    path = run.results / name
    path.write_bytes(path.read_bytes() + b" ")
    problem = found(check_files(run.opened()).problems, "VERIFY_RESULT_CHANGED")
    assert problem.message == f"{name} was changed since it was written"
    path.unlink()
    assert found(check_files(run.opened()).problems, "VERIFY_RESULT_CHANGED").message == f"{name} is gone"


def test_an_added_file_and_a_missing_export_are_found(run: Run) -> None:
    (run.results / "gates" / f"{BL}.gating-ml.xml").rename(run.results / "gates" / "other.gating-ml.xml")
    messages = {p.message for p in check_files(run.opened()).problems}
    assert messages == {f"gates/{BL}.gating-ml.xml is gone", "gates/other.gating-ml.xml is not of this run"}
    tube = verify_one(run, BL)
    assert found(tube.problems["exports"], "VERIFY_EXPORT").message == f"the gates of {BL} are not there"
    assert "cannot be read" in found(tube.problems["events"], "VERIFY_EVENTS").message


# --- rows, template, software ---------------------------------------------------------------------------------------


def test_a_row_added_to_removed_from_or_changed_in_the_manifest_is_found(run: Run) -> None:
    path = run.batch / "manifest.csv"
    run.edit_run(manifest={"path": path.as_posix(), "from_results": "", "sha256": sha256_file(path)})
    assert check_rows(run.opened()).verdict == "ok"
    text = path.read_text().replace("W12_stained.fcs,S01,W12", "W12_stained.fcs,S01,W13")
    path.write_text(text + "S02_BL_stained.fcs,S02,BL,stained,B02\n")
    check = check_rows(run.opened())
    assert codes(check.problems) == {"VERIFY_ROWS"}
    assert {p.message for p in check.problems} == {
        f"{W12} is in no row of manifest.csv",
        "S01_W13_stained of manifest.csv has no record",
        "S02_BL_stained of manifest.csv has no record",
    }
    assert check.notes == ("manifest.csv was changed since the run; its rows are compared as they are now",)
    path.write_text(MANIFEST.replace("S01,BL,stained,B01", "S01,BL,stained,B02"))
    problem = found(check_rows(run.opened()).problems, "VERIFY_ROWS")
    assert (problem.message, problem.expected, problem.found) == (
        f"batch_id of {BL} is not what manifest.csv says", "B02", "B01",
    )  # fmt: skip


def test_a_missing_and_an_unreadable_record_are_found(run: Run) -> None:
    (run.results / "samples" / f"{BL}.json").unlink()
    run.edit(f"samples/{W12}.json", lambda text: text.replace('"schema_version": 1', '"schema_version": 7'))
    results = run.opened()
    messages = {p.tube: p.message for p in check_rows(results).problems if p.code == "VERIFY_RECORD"}
    assert messages[BL].startswith(f"the record of {BL} cannot be read")
    assert "schema_version" in messages[W12]
    assert "2 records cannot be read" in check_tables(results, check_template(results)[1].template).problems[0].message


def test_a_record_under_another_name_is_found(run: Run) -> None:
    for folder, suffix in (("samples", ".json"), ("gates", ".gating-ml.xml")):
        shutil.copy(run.results / folder / f"{BL}{suffix}", run.results / folder / f"{W12}{suffix}")
    problem = found(check_rows(run.opened()).problems, "VERIFY_RECORD")
    assert problem.message == f"the record of {W12} is of another tube"


@pytest.fixture
def own_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "gating_templates"
    shutil.copytree(ROOT / "gating_templates", folder)
    monkeypatch.setattr(registry_module, "templates_folder", lambda: folder)
    return folder


def test_a_changed_template_is_found(run: Run, own_templates: Path) -> None:
    path = own_templates / "treg-foxp3-pbmc" / "0.1.0.toml"
    path.write_text(path.read_text().replace("llod_events = 20", "llod_events = 19"))
    check, template = check_template(run.opened())
    problem = found(check.problems, "VERIFY_TEMPLATE")
    assert "TEMPLATE_CHANGED" in problem.message
    assert problem.found != problem.expected
    assert template is not None, "the run's own content is still there to gate by"


def test_a_template_that_this_installation_lacks_or_has_flagged_is_said(run: Run, own_templates: Path) -> None:
    registry = own_templates / "registry.toml"
    text = registry.read_text()
    at = text.index('id = "treg-foxp3-pbmc"\nversion = "0.1.0"')
    status = text.index('status = "released"', at)
    flagged = 'status = "flagged"\nreason = "cut misplaced"'
    registry.write_text(text[:status] + flagged + text[status + len('status = "released"') :])
    check, _ = check_template(run.opened())
    assert check.problems == ()
    assert check.notes == ("treg-foxp3-pbmc@0.1.0 is now FLAGGED: cut misplaced",)
    (own_templates / "treg-foxp3-pbmc" / "0.1.0.toml").unlink()
    check, _ = check_template(run.opened())
    assert "TEMPLATE_UNKNOWN" in found(check.problems, "VERIFY_TEMPLATE").message


def test_a_template_changed_in_run_json_is_found(run: Run) -> None:
    content = json.loads((run.results / "run.json").read_bytes())["template_content"]
    content["endpoint"]["llod_events"] = 19
    run.edit_run(template_content=content)
    check, template = check_template(run.opened())
    assert "is not the one that the run names" in found(check.problems, "VERIFY_TEMPLATE").message
    assert template is None
    run.edit_run(template_content={"id": "none"})
    assert "no template that can be" in found(check_template(run.opened())[0].problems, "VERIFY_TEMPLATE").message


def test_a_record_of_another_template_or_program_is_found(run: Run) -> None:
    path = run.results / "samples" / f"{BL}.json"
    record = read_record(path)
    other = record.template.model_copy(update={"version": "9.0.0"})
    write_record(path, record.model_copy(update={"template": other, "tregflow_version": "9.9"}))
    results = run.opened()
    assert found(check_template(results)[0].problems, "VERIFY_TEMPLATE").tube == BL
    problem = found(check_software(results).problems, "VERIFY_SOFTWARE")
    assert (problem.tube, problem.found) == (BL, "9.9")


def test_other_software_now_is_a_note(run: Run) -> None:
    dependencies = json.loads((run.results / "run.json").read_bytes())["dependencies"]
    run.edit_run(dependencies=dependencies | {"numpy": "1.0", "gone": "1"}, python="3.0.1")
    check = check_software(run.opened())
    assert check.verdict == "note"
    assert f"numpy: 1.0 then, {np.__version__} now" in check.notes
    assert "gone: 1 then, not installed now" in check.notes


def test_a_draft_is_confirmed_with_its_own_content_and_marked(tmp_path: Path, untouched: Run) -> None:
    batch = tmp_path / "b"
    batch.mkdir()
    shutil.copy(SAMPLE / f"{BL}.fcs", batch)
    (batch / "manifest.csv").write_text("".join(MANIFEST.splitlines(keepends=True)[:2]))
    text = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text()
    draft = tmp_path / "draft.toml"
    draft.write_text(text.replace('version = "0.1.0"', 'version = "0.1.1"'))
    run_batch(make_plan(batch, str(draft)), tmp_path / "r", render=write_report)
    draft.unlink()
    certificate = verify_results(tmp_path / "r", jobs=1)
    assert certificate.problems == ()
    assert any("was a DRAFT" in note for check in certificate.checks for note in check.notes)
    assert '<span class="mark">DRAFT</span>' in certificate_html(certificate)


# --- tubes ----------------------------------------------------------------------------------------------------------


def verify_one(run: Run, name: str) -> Any:
    results = run.opened()
    owners = {record.file_sha256: tube for tube, record in results.records.items()}
    record = results.records[name]
    return verify_tube(
        TubeToVerify(record, results.file_of(record), results.export_of(name), check_template(results)[1], owners)
    )


def test_swapped_files_are_found_by_their_names(run: Run) -> None:
    first, second = run.batch / f"{BL}.fcs", run.batch / f"{W12}.fcs"
    bytes_of_first = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(bytes_of_first)
    assert found(verify_one(run, BL).problems["inputs"], "VERIFY_FILE_CHANGED").message == (
        f"{BL}.fcs holds the bytes of {W12}"
    )


def test_a_file_that_is_gone_is_found(run: Run) -> None:
    (run.batch / f"{BL}.fcs").unlink()
    problem = found(verify_one(run, BL).problems["inputs"], "VERIFY_FILE_MISSING")
    assert problem.message == f"{BL}.fcs is not found"
    assert "--batch" in problem.remedy


def edited_gate(run: Run, name: str, gate: str, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Move a gate in the record and export of a tube, and write ledger and run.json anew: all but the counts agree."""
    path = run.results / "samples" / f"{name}.json"
    record = read_record(path)
    gates = tuple(g.model_copy(update={"geometry": edit(g.geometry)}) if g.id == gate else g for g in record.gates)
    record = record.model_copy(update={"gates": gates})
    write_record(path, record)
    (run.results / "gates" / f"{name}.gating-ml.xml").write_bytes(remade_export(record))
    forge(run)


def test_a_gate_moved_everywhere_is_found_where_its_rule_can_place_it_again(run: Run) -> None:
    edited_gate(run, BL, "singlets", lambda s: {"vertices": [[x, y + 1e-3] for x, y in s["vertices"]]})
    results = run.opened()
    assert check_ledger(results).problems == check_files(results).problems == ()
    tube = verify_one(run, BL)
    assert tube.problems["exports"] == ()
    problem = found(tube.problems["gates"], "VERIFY_GATE")
    assert problem.message == f"singlets of {BL} is not where its rule puts it on this tube"


def test_a_fixed_gate_moved_everywhere_is_found_by_the_template(run: Run) -> None:
    record = read_record(run.results / "samples" / f"{BL}.json")
    fixed = next(g for g in record.gates if g.placement is None and g.kind == "polygon")
    edited_gate(run, BL, fixed.id, lambda s: {"vertices": [[x, y + 1e-3] for x, y in s["vertices"]]})
    problem = found(verify_one(run, BL).problems["gates"], "VERIFY_GATE")
    assert problem.message == f"{fixed.id} of {BL} is not where the template puts it"


def test_a_shared_cut_moved_everywhere_is_found_by_its_counts(run: Run) -> None:
    edited_gate(run, BL, "foxp3_pos", lambda s: s | {"minima": [s["minima"][0] + 0.02]})
    tube = verify_one(run, BL)
    wrong = {p.column for p in tube.problems["counts"]}
    assert {"foxp3_pos, n_events", "treg, n_events"} <= wrong
    assert codes(tube.problems["counts"]) == {"VERIFY_RECORD"}


def test_an_edited_count_and_median_of_a_record_are_found(run: Run) -> None:
    path = run.results / "samples" / f"{BL}.json"
    record = read_record(path)
    edited = tuple(
        p.model_copy(update={"n_events": p.n_events + 1, "mfi": p.mfi | {"FOXP3": 1.0}}) if p.id == "treg" else p
        for p in record.populations
    )
    write_record(path, record.model_copy(update={"populations": edited}))
    forge(run)
    places = {p.column: (p.expected, p.found) for p in verify_one(run, BL).problems["counts"]}
    assert places["treg, n_events"] == ("430", "431")
    assert places["treg, mfi_FOXP3"][1] == "1.0"
    assert len(places) == 2


def test_a_record_that_cannot_be_is_a_problem_and_no_crash(run: Run) -> None:
    edit = {"minima": [5.0], "maxima": [1.0]}
    path = run.results / "samples" / f"{BL}.json"
    record = read_record(path)
    gates = tuple(g.model_copy(update={"geometry": edit}) if g.id == "foxp3_pos" else g for g in record.gates)
    write_record(path, record.model_copy(update={"gates": gates}))
    problem = found(verify_one(run, BL).problems["exports"], "VERIFY_RECORD")
    assert "gates that cannot be" in problem.message
    write_record(path, record.model_copy(update={"file_sha256": ""}))
    assert "no hash" in found(verify_one(run, BL).problems["inputs"], "VERIFY_RECORD").message


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda t: t.replace("<gating:Gating-ML", '<!DOCTYPE a [<!ENTITY b "c">]>\n<gating:Gating-ML', 1),
            "document type",
        ),
        (lambda t: t[:-30], "not well-formed"),
    ],
)
def test_an_export_that_no_parser_should_get_is_refused(run: Run, change: Callable[[str], str], why: str) -> None:
    run.edit(f"gates/{BL}.gating-ml.xml", change)
    tube = verify_one(run, BL)
    assert why in found(tube.problems["exports"], "VERIFY_EXPORT").message
    assert found(tube.problems["events"], "VERIFY_EVENTS").found == "none"


def test_one_event_that_flowkit_places_otherwise_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tube_module.flowkit_masks

    def otherwise(document: bytes, path: Path) -> dict[str, Any]:
        masks = real(document, path)
        masks["treg"][122] ^= True
        return masks

    monkeypatch.setattr(tube_module, "flowkit_masks", otherwise)
    tube = verify_one(run, BL)
    problem = found(tube.problems["events"], "VERIFY_EVENTS")
    assert problem.message == f"FlowKit places 1 events of treg of {BL} otherwise (events 123)"
    assert next(p.n_different for p in tube.populations if p.id == "treg") == 1


def test_a_tube_that_flowkit_cannot_gate_has_no_second_opinion_and_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(document: bytes, path: Path) -> dict[str, Any]:
        raise RuntimeError("no parser for this")

    monkeypatch.setattr(tube_module, "flowkit_masks", fails)
    problem = found(verify_one(run, BL).problems["events"], "VERIFY_EVENTS")
    assert problem.message == f"FlowKit could not gate {BL}: RuntimeError: no parser for this"


def test_events_that_are_not_finite_are_left_out_of_the_comparison_and_counted(tmp_path: Path) -> None:
    batch = tmp_path / "b"
    batch.mkdir()
    file = read_fcs(SAMPLE / f"{BL}.fcs")
    events = file.raw().copy()
    record = read_fcs(SAMPLE / f"{BL}.fcs")
    column = next(p.index for p in record.parameters if p.pns == "FOXP3")
    events[[100, 5000, 9000], column] = (np.nan, np.inf, -np.inf)
    spillover = file.keywords["$SPILLOVER"].split(",")
    n = int(spillover[0])
    matrix = np.array(spillover[1 + n :], dtype=float).reshape(n, n)
    write_fcs(
        batch / f"{BL}.fcs",
        events,
        [(p.pnn, p.pns) for p in file.parameters],
        ranges=[262144.0] * len(file.parameters),
        spillover=(tuple(spillover[1 : 1 + n]), matrix),
    )
    (batch / "manifest.csv").write_text("".join(MANIFEST.splitlines(keepends=True)[:2]))
    run_batch(make_plan(batch, "treg-foxp3-pbmc@0.1.0"), tmp_path / "r")
    certificate = verify_results(tmp_path / "r", jobs=1)
    assert certificate.problems == ()
    events_check = next(c for c in certificate.checks if c.id == "events")
    assert len(events_check.notes) == 1
    assert "with a value that is not finite were not compared" in events_check.notes[0]
    left_out = {p.id: p.n_left_out for p in certificate.tubes[0].populations}
    assert left_out["singlets"] == 0, "scatter is finite"
    assert (left_out["viable"] or 0) > 0


# --- other readers --------------------------------------------------------------------------------------------------


def test_where_fcsparser_cannot_read_flowio_does_and_it_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> Any:
        raise ValueError("newbyteorder was removed")

    monkeypatch.setattr(readers, "_by_fcsparser", fails)
    file = read_fcs(run.batch / f"{BL}.fcs")
    assert readers.cross_read(file, file.path, BL) == ("FlowIO", "fcsparser: newbyteorder was removed", ())

    def missing(path: Path) -> Any:
        raise ImportError(name="fcsparser")

    monkeypatch.setattr(readers, "_by_fcsparser", missing)
    monkeypatch.setattr(readers, "_by_flowio", fails)
    assert readers.cross_read(file, file.path, BL) == (
        "", "fcsparser is not installed; FlowIO: newbyteorder was removed", (),
    )  # fmt: skip


def test_a_value_that_another_reader_reads_otherwise_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = readers._by_fcsparser

    def otherwise(path: Path) -> Any:
        events = real(path).copy()
        events[7, 2] += 1
        return events

    monkeypatch.setattr(readers, "_by_fcsparser", otherwise)
    file = read_fcs(run.batch / f"{BL}.fcs")
    problem = found(readers.cross_read(file, file.path, BL)[2], "VERIFY_RAW_VALUES")
    assert problem.message == f"fcsparser reads 1 events of {file.parameters[2].pnn} of {BL} otherwise, the first is 8"
    assert float(problem.found) == float(problem.expected) + 1
    monkeypatch.setattr(readers, "_by_fcsparser", lambda path: real(path)[:-1])
    assert "another number of events" in readers.cross_read(file, file.path, BL)[2][0].message


# --- tables ---------------------------------------------------------------------------------------------------------


def tables_of(run: Run) -> Any:
    results = run.opened()
    return check_tables(results, check_template(results)[1].template)


@pytest.mark.parametrize("name", ["endpoint.csv", "populations.csv", "findings.csv"])
def test_any_edited_cell_of_any_table_is_found_by_column(untouched: Run, name: str) -> None:
    original = (untouched.results / name).read_bytes()
    rows = list(csv.reader(io.StringIO(original.decode(), newline="")))
    for at in range(1, len(rows)):
        for column, title in enumerate(rows[0]):
            edited = [list(row) for row in rows]
            edited[at][column] = f"{edited[at][column]}1"
            problems = compare_tables(original, _csv(edited), name, key=TABLES[name])
            assert codes(problems) == {"VERIFY_TABLE"}
            if title in TABLES[name]:
                assert [p.column for p in problems] == ["row", "row"], "one is lacking, one is too many"
            else:
                (problem,) = problems
                places = (problem.column, problem.expected, problem.found)
                assert places == (title, rows[at][column], edited[at][column])
    assert compare_tables(original, original, name, key=TABLES[name]) == []


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows[:-1]], "lacks a row"),
        (lambda rows: [*rows, rows[-1]], "has a row too many"),
        (lambda rows: [rows[0], rows[2], rows[1], *rows[3:]], "has its rows in another order, from row 1 on"),
        (lambda rows: [row[:-1] for row in rows], "has other columns"),
        (lambda rows: [*rows[:-1], rows[-1][:-1]], "cannot be read"),
    ],
)
def test_rows_and_columns_that_are_gone_added_or_moved_are_found(
    run: Run, change: Callable[[list[list[str]]], list[list[str]]], message: str
) -> None:
    path = run.results / "populations.csv"
    rows = list(csv.reader(io.StringIO(path.read_text(), newline="")))
    path.write_bytes(_csv(change(rows)))
    assert message in found(tables_of(run).problems, "VERIFY_TABLE").message


def test_a_table_that_another_program_saved_is_found(run: Run) -> None:
    run.edit("endpoint.csv", lambda text: text.replace("\n", "\r\n"))
    assert "another program saved it" in found(tables_of(run).problems, "VERIFY_TABLE").message


def test_many_edits_are_told_up_to_a_number(run: Run) -> None:
    run.edit("populations.csv", lambda text: text.replace("treg-foxp3-pbmc@0.1.0,", "treg-foxp3-pbmc@0.2.0,"))
    (run.results / "findings.csv").unlink()
    problems = tables_of(run).problems
    assert (
        found([p for p in problems if p.file == "findings.csv"], "VERIFY_TABLE").message == "findings.csv is not there"
    )
    one = [p for p in problems if p.file == "populations.csv"]
    assert len(one) == 20, "two tubes of ten populations"


def test_an_edited_cell_and_a_deleted_row_of_the_parquet_table_are_found(run: Run) -> None:
    path = run.results / "endpoint.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    at = next(i for i, row in enumerate(rows) if row["file"] == f"{W12}.fcs")
    pq.write_table(pa.Table.from_pylist([r for r in rows if r is not rows[at]], schema=table.schema), path)
    assert "lacks a row" in found(tables_of(run).problems, "VERIFY_TABLE").message
    rows[at]["n_numerator"] += 1
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    problem = found(tables_of(run).problems, "VERIFY_TABLE")
    assert (problem.column, problem.tube) == ("n_numerator", f"{W12}.fcs")
    pq.write_table(table.drop_columns(["n_cd4"]), path)
    assert "other columns" in found(tables_of(run).problems, "VERIFY_TABLE").message
    path.write_bytes(b"PAR1")
    assert "cannot be read" in found(tables_of(run).problems, "VERIFY_TABLE").message


def test_a_batch_finding_is_made_again_from_run_json(run: Run) -> None:
    shutil.copy(SAMPLE / "B01_unstained.fcs", run.batch / "forgotten.fcs")
    results = run.results.parent / "again"
    run_batch(make_plan(run.batch, "treg-foxp3-pbmc@0.1.0"), results)
    assert "FILE_UNLISTED" in (results / "findings.csv").read_text()
    assert tables_of(Run(run.batch, results)).problems == ()


def test_a_percentage_that_its_counts_do_not_give_is_found_in_the_table_alone(run: Run) -> None:
    path = run.results / "endpoint.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    value = next(row["endpoint_pct"] for row in rows if row["file"] == f"{BL}.fcs")
    low = next(row["endpoint_pct_count_low"] for row in rows if row["file"] == f"{BL}.fcs")
    assert check_percentages(run.opened()).problems == ()
    run.edit("endpoint.csv", lambda text: text.replace(f",{value},{low},", f",{float(value) + 0.01!r},{low},", 1))
    problem = found(check_percentages(run.opened()).problems, "VERIFY_PERCENTAGE")
    assert (problem.column, problem.expected) == ("endpoint_pct", value)
    run.edit("endpoint.csv", lambda text: text.replace(",25619,", ",many,", 1))
    assert "no count" in found(check_percentages(run.opened()).problems, "VERIFY_PERCENTAGE").message


# --- the certificate and the command --------------------------------------------------------------------------------


def test_the_certificate_is_one_offline_page_that_escapes_what_it_shows(certificate: Certificate) -> None:
    check = replace(
        certificate.checks[0],
        problems=(Problem("VERIFY_LEDGER", "<script>alert(1)</script>", "l", "t", "c", "<b>", "&"),),
    )
    spoiled = replace(certificate, checks=(check, *certificate.checks[1:]), results="<i>r</i>")
    page = certificate_html(spoiled)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;i&gt;r&lt;/i&gt;" in page
    assert "NOT CONFIRMED: 1 thing does not agree" in page
    for each in (page, certificate_html(certificate)):
        assert "http" not in each.replace("http-equiv", "")
        assert "default-src 'none'" in each
    assert "FlowKit finds the same events in 20 populations of 2 tubes" in certificate_html(certificate)


def test_the_certificate_in_json_has_all_of_it_and_repeats(certificate: Certificate, tmp_path: Path) -> None:
    page, data = write_certificate(certificate, tmp_path / "deep" / "out")
    document = json.loads(data.read_bytes())
    assert document["verdict"] == "agrees"
    assert document["schema_version"] == 1
    assert [c["verdict"] for c in document["checks"]] == ["ok"] * 13
    assert document["run"]["ledger_sha256"]
    assert data.read_bytes() == certificate_json(certificate)
    assert page.read_text(encoding="utf-8") == certificate_html(certificate)
    assert sorted(p.name for p in page.parent.iterdir()) == ["certificate.html", "certificate.json"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_writes_a_certificate_and_exits_with_0_or_1(run: Run, command: Callable[..., Any]) -> None:
    result = command("verify", run.results, "--batch", run.batch, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert "CONFIRMED" in result.output.splitlines()[-1]
    assert (run.results / "verify" / "certificate.html").is_file()
    (run.batch / f"{BL}.fcs").unlink()
    run.edit("ledger.jsonl", lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    result = command("verify", run.results, "--batch", run.batch, "--jobs", 1, "--out", run.results.parent / "out")
    assert result.exit_code == 1
    assert "VERIFY_LEDGER" in result.output
    assert "VERIFY_FILE_MISSING" in result.output
    assert "What to do:" in result.output
    assert result.output.splitlines()[-1].startswith("NOT CONFIRMED: 2 things do not agree.")
    assert max(map(len, result.output.split("VERIFY_")[0].splitlines())) <= 100
    assert json.loads((run.results.parent / "out" / "certificate.json").read_bytes())["verdict"] == "failed"


def test_a_certificate_that_cannot_be_written_is_an_error_that_says_where(
    certificate: Certificate, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BatchError, match=r"RUN_CANNOT_WRITE: .*choose another folder with --out"):
        write_certificate(certificate, tmp_path / "file")


def test_what_is_no_run_cannot_be_verified(run: Run, tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match=r"VERIFY_NOT_RESULTS: .* has no run\.json"):
        verify_results(tmp_path)
    with pytest.raises(VerifyError, match=r"VERIFY_NOT_RESULTS: --batch .* is not a folder"):
        verify_results(run.results, batch=tmp_path / "none")
    run.edit_run(tubes=["../../secret"])
    with pytest.raises(VerifyError, match="lists no tubes that can be"):
        verify_results(run.results)
    run.edit_run(tubes=None, template_content=None)
    with pytest.raises(VerifyError, match=r"VERIFY_NOT_RESULTS: run\.json of results lacks tubes, template_content"):
        verify_results(run.results)


def test_results_that_are_replaced_take_their_certificate_with_them(run: Run, certificate: Certificate) -> None:
    write_certificate(certificate, run.results / "verify")
    (run.batch / "manifest.csv").write_text("".join(MANIFEST.splitlines(keepends=True)[:2]))
    run_batch(make_plan(run.batch, "treg-foxp3-pbmc@0.1.0"), run.results, overwrite=True)
    assert not (run.results / "verify").exists()
