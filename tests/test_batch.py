"""A batch to a results folder: rows out = rows in, same bytes, resume, refusals, and the numbers of the samples."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, real_data

import tregflow as tf
from tregflow.batch import check_batch, make_plan, run_batch
from tregflow.batch import run as run_module
from tregflow.compensation import spillover_from_keywords
from tregflow.errors import BatchError, StudyError, TemplateError
from tregflow.fcs import read_fcs, write_fcs
from tregflow.record import read_record, verify_ledger
from tregflow.report import write_report
from tregflow.simulate import LYMPHOCYTES, Population, plan_batch

SAMPLE = ROOT / "sample_fcs"
GOLDEN = ROOT / "tests" / "golden" / "endpoint.csv"
HEADER = "file,subject_id,visit,role,batch_id\n"
CLOCKED = {"run.json", "run.log", "ledger.jsonl"}


def make_batch(folder: Path, tubes: dict[str, str], *, study: bool = True) -> Path:
    """A batch folder of sample tubes; `tubes` maps a sample's name to its manifest row behind the file name."""
    folder.mkdir(parents=True)
    for name in tubes:
        if (SAMPLE / name).exists():
            shutil.copy(SAMPLE / name, folder)
    (folder / "manifest.csv").write_text(HEADER + "".join(f"{n},{row}\n" for n, row in tubes.items()))
    if study:
        shutil.copy(SAMPLE / "study.toml", folder)
    return folder


TWO = {"S01_BL_stained.fcs": "S01,BL,stained,B01", "S01_W12_stained.fcs": "S01,W12,stained,B01"}


def endpoint(results: Path) -> list[dict[str, str]]:
    with (results / "endpoint.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that must repeat."""
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name not in CLOCKED]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def gate(batch: Path, results: Path, **options: object) -> object:
    return run_batch(make_plan(batch, options.pop("template", None)), results, render=write_report, **options)


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("sample") / "sample_fcs"
    gate(SAMPLE, results, jobs=2)
    return results


# --- the samples ------------------------------------------------------------------------------------------------------


def test_golden_endpoint_of_sample_fcs(sample_run: Path, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--regen-golden"):
        GOLDEN.write_bytes((sample_run / "endpoint.csv").read_bytes())
    assert (sample_run / "endpoint.csv").read_text() == GOLDEN.read_text()


def test_treg_counts_of_sample_fcs_are_within_5_percent_of_their_labels(sample_run: Path) -> None:
    labels = {plan.file: plan for plan in plan_batch()}
    stained = [row for row in endpoint(sample_run) if row["role"] == "stained"]
    assert len(stained) == 9
    for row in stained:
        truth = labels[row["file"]].simulate()
        n_treg = int(truth.labels.is_in(Population.TREG).sum())
        n_lymphocytes = int(truth.labels.is_in(*LYMPHOCYTES).sum())
        assert abs(int(row["n_numerator"]) - n_treg) <= 0.05 * n_treg, row["file"]
        assert abs(int(row["n_denominator"]) - n_lymphocytes) <= 0.05 * n_lymphocytes, row["file"]


def test_every_manifest_row_has_a_row_and_controls_have_no_numbers(sample_run: Path) -> None:
    rows = endpoint(sample_run)
    with (SAMPLE / "manifest.csv").open(newline="") as file:
        assert sorted(r["file"] for r in rows) == sorted(r["file"] for r in csv.DictReader(file))
    controls = [r for r in rows if r["role"] != "stained"]
    assert {r["status"] for r in controls} == {"control"}
    assert all(r["n_numerator"] == r["endpoint_pct"] == "" for r in controls)


def test_results_folder_holds_exactly_what_the_design_names(sample_run: Path) -> None:
    assert {p.name for p in sample_run.iterdir()} == {
        "endpoint.csv",
        "endpoint.parquet",
        "endpoint.schema.json",
        "populations.csv",
        "findings.csv",
        "modes.csv",
        "samples",
        "gates",
        "report.html",
        "run.json",
        "ledger.jsonl",
        "run.log",
    }
    tubes = {p.stem for p in (sample_run / "samples").iterdir()}
    assert len(tubes) == 23
    assert len(list((sample_run / "gates").iterdir())) == 9
    assert verify_ledger(sample_run / "ledger.jsonl") == 25  # start, 23 tubes, end
    assert [p.name for p in sample_run.parent.iterdir()] == ["sample_fcs"]  # no lock stays behind


def test_counts_of_nested_populations_and_percentages_agree(sample_run: Path) -> None:
    path = sample_run / "samples" / "S02_W12_stained.json"
    record = read_record(str(path))  # as the README has it
    assert record == read_record(path)
    counts = {p.id: p.n_events for p in record.populations}
    row = next(r for r in endpoint(sample_run) if r["file"] == "S02_W12_stained.fcs")
    assert int(row["n_numerator"]) == counts["treg"]
    assert float(row["endpoint_pct"]) == 100 * counts["treg"] / counts["lymphocytes"]
    assert float(row["treg_pct_of_cd4"]) == 100 * counts["treg"] / counts["cd4"]
    assert row["treg_pct_of_lymphocytes"] == row["endpoint_pct"]
    for panel in record.histograms:
        parent = counts[panel.population] if panel.population else record.n_events
        assert int(panel.array().sum()) == parent


def test_a_template_that_shares_over_a_batch_gives_it_one_cut(tmp_path: Path) -> None:
    gate(SAMPLE, tmp_path / "r", jobs=2, template="treg-foxp3-pbmc@0.1.0")
    cuts: dict[str, set[tuple[float | None, ...]]] = {}
    for path in (tmp_path / "r" / "samples").glob("S*_stained.json"):
        record = read_record(path)
        for gate_id in ("cd25_pos", "foxp3_pos"):
            used = next(g for g in record.gates if g.id == gate_id)
            assert used.placement is not None
            assert used.placement.status == "shared"
            cuts.setdefault(f"{record.tube.batch_id} {gate_id}", set()).add(tuple(used.geometry["minima"]))
    assert len(cuts) == 6
    assert all(len(values) == 1 for values in cuts.values()), "a batch has one cut, whatever the visit"


def test_aurora_tubes_against_flowjo_and_the_regression_of_their_own_cuts(tmp_path: Path) -> None:
    """CD4+ of T cells is compared with FlowJo's counts.

    The Treg range is a regression check only: the rule's k was read off these same tubes.
    """
    batch = real_data("treg_foxp3_aurora")
    gate(batch, tmp_path / "r", template="treg-foxp3-aurora@0.1.0", jobs=2)
    flowjo: dict[str, dict[str, int]] = {}
    with (batch / "flowjo_vs_flowkit_counts.csv").open(newline="") as file:
        for r in csv.DictReader(file):
            flowjo.setdefault(r["sample"], {})[r["gate_path"].split("/")[-1]] = int(r["FlowJo_10.10_count"])
    rows = endpoint(tmp_path / "r")
    assert len(rows) == 6
    for row in rows:
        record = read_record(next((tmp_path / "r" / "samples").glob(f"{row['subject_id']}_{row['visit']}_*.json")))
        counts = {p.id: p.n_events for p in record.populations}
        theirs = 100 * flowjo[row["file"]]["CD4+"] / flowjo[row["file"]]["Tcells"]
        assert abs(100 * counts["cd4"] / counts["t_cells"] - theirs) < 1.0, row["file"]
        assert 1.3 < float(row["treg_pct_of_cd4"]) < 3.0, row["file"]
        assert row["denominator"] == "t_cells"
        assert row["treg_pct_of_lymphocytes"] == ""  # these files do not hold lymphocytes
        cd127 = {p.id: p.mfi["CD127"] for p in record.populations}
        assert cd127["treg"] is not None
        assert cd127["cd4"] is not None
        assert cd127["treg"] <= cd127["cd4"] / 4, row["file"]


def test_ungateable_tubes_are_rows_with_codes(tmp_path: Path) -> None:
    """Item 5 of the issue: one truncated, one swapped and short of a channel, one fine."""
    batch = make_batch(
        tmp_path / "b",
        {
            "S01_BL_stained.fcs": "S01,BL,stained,B01",
            "S01_W12_stained.fcs": "S01,W12,stained,B01",
            "S01_W24_stained.fcs": "S01,W24,stained,B01",
        },
    )
    truncated = batch / "S01_BL_stained.fcs"
    truncated.write_bytes(truncated.read_bytes()[:900_000])
    _swap_cd25_and_foxp3_without_cd127(batch / "S01_W12_stained.fcs")
    result = gate(batch, tmp_path / "r")
    rows = {r["visit"]: r for r in endpoint(tmp_path / "r")}
    assert list(rows) == ["BL", "W12", "W24"]
    assert rows["BL"]["status"] == rows["W12"]["status"] == "not_evaluable"
    assert rows["BL"]["finding_codes"].startswith("FCS_")
    assert rows["W12"]["finding_codes"] == "PANEL_MARKER_MISSING"
    assert rows["BL"]["endpoint_pct"] == rows["W12"]["endpoint_pct"] == ""
    assert float(rows["W24"]["endpoint_pct"]) > 1
    assert result.exit_code() == 1


def _swap_cd25_and_foxp3_without_cd127(path: Path) -> None:
    file = read_fcs(path)
    other = {"CD25": "FOXP3", "FOXP3": "CD25"}
    kept = [p for p in file.parameters if p.pns != "CD127"]
    channels = [(p.pnn, other.get(p.pns, p.pns)) for p in kept]
    events = file.raw([p.index for p in kept]).copy()
    del file
    write_fcs(path, events, channels)


# --- what the manifest and the folder say -----------------------------------------------------------------------------


def test_missing_file_duplicate_key_and_duplicate_bytes_are_coded_rows(tmp_path: Path) -> None:
    batch = make_batch(
        tmp_path / "b",
        TWO
        | {
            "gone.fcs": "S01,W24,stained,B01",
            "S02_BL_stained.fcs": "S02,BL,stained,B01",
            "S02_W12_stained.fcs": "S02,BL,stained,B01",
            "S03_BL_stained.fcs": "S03,BL,stained,B01",
            "copy.fcs": "S03,W12,stained,B01",
        },
    )
    shutil.copy(batch / "S03_BL_stained.fcs", batch / "copy.fcs")
    result = gate(batch, tmp_path / "r")
    codes = {r["file"]: r["finding_codes"] for r in endpoint(tmp_path / "r")}
    assert codes["gone.fcs"] == "FILE_MISSING"
    assert codes["S02_BL_stained.fcs"] == codes["S02_W12_stained.fcs"] == "TUBE_DUPLICATE_KEY"
    assert codes["S03_BL_stained.fcs"] == codes["copy.fcs"] == "TUBE_DUPLICATE_BYTES"
    assert [r["status"] for r in endpoint(tmp_path / "r") if r["subject_id"] == "S01"] == ["ok", "ok", "not_evaluable"]
    assert result.exit_code() == 1


def test_unreadable_file_is_a_coded_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    real = run_module.make_tasks.__globals__["sha256_file"]

    def refuse(path: Path) -> str:
        if path.name == "S01_BL_stained.fcs":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setitem(run_module.make_tasks.__globals__, "sha256_file", refuse)
    gate(batch, tmp_path / "r")
    assert [r["finding_codes"] for r in endpoint(tmp_path / "r")] == ["FILE_UNREADABLE", ""]


def test_unlisted_tubes_are_a_finding_of_the_batch(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    shutil.copy(SAMPLE / "S02_BL_stained.fcs", batch / "forgotten.FCS")
    result = gate(batch, tmp_path / "r")
    assert [f.code for f in result.findings] == ["FILE_UNLISTED"]
    assert "forgotten.FCS" in (tmp_path / "r" / "findings.csv").read_text()
    assert result.exit_code() == 0
    assert result.exit_code("review") == 1


def test_unknown_roles_and_columns_keep_the_run_from_starting(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    text = "file,subject_id,visit,role,colour\na.fcs,S1,BL,stain,red\nb.fcs,S1,W12,fmo,red\n"
    (batch / "manifest.csv").write_text(text)
    with pytest.raises(StudyError, match="MANIFEST_INVALID") as caught:
        make_plan(batch)
    assert all(word in str(caught.value) for word in ("colour", "'stain'", "'fmo'"))


def test_tubes_are_inferred_without_a_manifest_and_written_out_to_check(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    (batch / "manifest.csv").unlink()
    gate(batch, tmp_path / "r")
    with (tmp_path / "r" / "manifest.inferred.csv").open(newline="") as file:
        assert [(r["subject_id"], r["visit"], r["role"]) for r in csv.DictReader(file)] == [
            ("S01", "BL", "stained"),
            ("S01", "W12", "stained"),
        ]


def test_no_manifest_and_no_rule_is_said(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO, study=False)
    (batch / "manifest.csv").unlink()
    with pytest.raises(BatchError, match=r"MANIFEST_MISSING.*neither study.toml nor treg-foxp3-pbmc@0.1.0"):
        make_plan(batch, "treg-foxp3-pbmc@0.1.0")


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    shutil.copy(SAMPLE / "study.toml", tmp_path)
    with pytest.raises(BatchError, match="BATCH_EMPTY"):
        make_plan(tmp_path)
    with pytest.raises(BatchError, match="BATCH_EMPTY"):
        make_plan(tmp_path / "no such folder", "treg-foxp3-pbmc@0.1.0")


# --- the template -----------------------------------------------------------------------------------------------------


def test_template_is_never_guessed_but_those_that_fit_are_listed(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO, study=False)
    with pytest.raises(BatchError, match=r"TEMPLATE_NOT_NAMED.*every readable tube: treg-foxp3-pbmc@0.1.0"):
        make_plan(batch)
    with pytest.raises(TemplateError, match=r"TEMPLATE_UNKNOWN.*treg-foxp3-aurora@0.1.0"):
        make_plan(batch, "treg@9")


def test_another_template_than_the_pinned_one_marks_every_row(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    text = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text()
    draft = tmp_path / "mine.toml"
    draft.write_text(text.replace('version = "0.1.0"', 'version = "0.2.0-draft"'))
    gate(batch, tmp_path / "r", template=str(draft))
    rows = endpoint(tmp_path / "r")
    assert [r["finding_codes"] for r in rows] == ["TEMPLATE_DRAFT;TEMPLATE_NOT_PINNED"] * 2
    assert {r["status"] for r in rows} == {"review"}
    assert "DRAFT" in (tmp_path / "r" / "report.html").read_text()
    with (tmp_path / "r" / "populations.csv").open(newline="", encoding="utf-8") as file:
        assert {r["template"] for r in csv.DictReader(file)} == {"treg-foxp3-pbmc@0.2.0-draft DRAFT"}


def test_a_gate_shared_by_the_batch_that_one_or_no_tube_can_place(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO | {"S02_BL_stained.fcs": "S02,BL,stained,B02"})
    text = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text()
    # between the 8,547 CD4- T cells of one tube and the 8,076 of the other; subject S02 has 8,358
    draft = tmp_path / "mine.toml"
    text = text.replace('version = "0.1.0"', 'version = "0.2.0-draft"')
    draft.write_text(text.replace("min_events = 500\n", "min_events = 8400\n"))
    gate(batch, tmp_path / "r", template=str(draft))
    codes = {r["file"]: r["finding_codes"] for r in endpoint(tmp_path / "r")}
    assert "PLACEMENT" not in codes["S01_BL_stained.fcs"]
    assert "PLACEMENT_NOT_OWN" in codes["S01_W12_stained.fcs"]
    assert "PLACEMENT_NO_SHARED" in codes["S02_BL_stained.fcs"]
    cuts = [
        next(g for g in read_record(p).gates if g.id == "foxp3_pos").geometry["minima"]
        for p in sorted((tmp_path / "r" / "samples").glob("S01*.json"))
    ]
    assert cuts[0] == cuts[1]


# --- same bytes, resume, refusals -------------------------------------------------------------------------------------


def test_one_worker_and_two_give_the_same_bytes(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO | {"gone.fcs": "S01,W24,stained,B01"})
    gate(batch, tmp_path / "one", jobs=1)
    gate(batch, tmp_path / "two", jobs=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


class Stop:
    """A progress that ends the run as a person would, after some tubes."""

    def __init__(self, after: int) -> None:
        self.left = after

    def started(self, n_tubes: int, n_done: int) -> None:
        self.n_done = n_done

    def tube(self, record: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO | {"S01_W24_stained.fcs": "S01,W24,stained,B01"})
    gate(batch, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        gate(batch, tmp_path / "stopped", progress=Stop(after=2))
    assert not (tmp_path / "stopped" / "endpoint.csv").exists()
    stamps = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "stopped" / "samples").iterdir()}
    assert len(stamps) == 2
    again = Stop(after=100)
    gate(batch, tmp_path / "stopped", progress=again)
    assert again.n_done == 2
    for path in (tmp_path / "stopped" / "samples").iterdir():
        assert path.stat().st_mtime_ns == stamps.get(path.name, path.stat().st_mtime_ns)
    assert digest(tmp_path / "stopped") == digest(tmp_path / "whole")
    assert verify_ledger(tmp_path / "stopped" / "ledger.jsonl") > 0


def test_a_damaged_record_is_made_again(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    gate(batch, tmp_path / "r")
    before = digest(tmp_path / "r")
    record = tmp_path / "r" / "samples" / "S01_BL_stained.json"
    record.write_bytes(record.read_bytes()[:500])
    gate(batch, tmp_path / "r")
    assert digest(tmp_path / "r") == before


def test_files_edited_or_removed_since_are_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    gate(batch, tmp_path / "r")
    before = digest(tmp_path / "r")
    record = tmp_path / "r" / "samples" / "S01_BL_stained.json"
    record.write_text(record.read_text().replace('"n_events": 25619', '"n_events": 25620'))
    (tmp_path / "r" / "gates" / "S01_W12_stained.gating-ml.xml").unlink()
    gate(batch, tmp_path / "r")
    assert digest(tmp_path / "r") == before
    assert caplog.text.count("its files are not what the ledger says") == 2


def test_an_edited_ledger_stops_the_next_run(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    gate(batch, tmp_path / "r")
    ledger = tmp_path / "r" / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(BatchError, match=r"LEDGER_BROKEN: line 2 of ledger.jsonl"):
        gate(batch, tmp_path / "r")


def test_what_a_kill_leaves_half_written_is_cleared(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".run.json.123.part").write_bytes(b"{")
    gate(batch, tmp_path / "r")
    (tmp_path / "r" / "samples" / ".S01_BL_stained.json.123.part").write_bytes(b"{")
    gate(batch, tmp_path / "r")
    assert not list((tmp_path / "r").rglob(".*.part"))


def test_tubes_without_a_batch_are_one_batch_and_that_is_said(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", {name: row.removesuffix("B01") for name, row in TWO.items()})
    result = gate(batch, tmp_path / "r", template="treg-foxp3-pbmc@0.1.0")
    assert [f.code for f in result.findings] == ["BATCH_UNNAMED"]
    assert "2 stained tubes have no batch_id" in result.findings[0].message


def test_a_tube_without_events_is_said_as_such(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    file = read_fcs(batch / "S01_BL_stained.fcs")
    channels = [(p.pnn, p.pns) for p in file.parameters]
    del file
    write_fcs(batch / "S01_BL_stained.fcs", np.empty((0, len(channels))), channels)
    assert [c.ok for c in check_batch(make_plan(batch))] == [False, True]
    gate(batch, tmp_path / "r")
    assert endpoint(tmp_path / "r")[0]["finding_codes"] == "TUBE_NO_EVENTS"


# --- one tube by itself -----------------------------------------------------------------------------------------------


def test_one_tube_with_its_record_has_the_counts_of_the_run(sample_run: Path) -> None:
    template = tf.load_template("treg-foxp3-pbmc@0.2.0")
    for name in ("S01_W12", "S03_BL"):
        record = tf.read_record(sample_run / "samples" / f"{name}_stained.json")
        result = tf.gate(SAMPLE / f"{name}_stained.fcs", template, record=record)
        assert {p.id: p.n_events for p in result.populations} == {p.id: p.n_events for p in record.populations}
        assert result.findings == ()


def test_one_tube_alone_says_that_its_cuts_are_its_own() -> None:
    template = tf.load_template("treg-foxp3-pbmc@0.1.0")
    result = tf.gate(str(SAMPLE / "S01_W12_stained.fcs"), template)
    assert (result["treg"].n_events, result["lymphocytes"].n_events) == (410, 24081)
    assert [f.code for f in result.findings] == ["PLACEMENT_ALONE"]
    with pytest.raises(KeyError, match=r"there is no population 'tregs'; there are: singlets, viable"):
        result["tregs"]


def test_one_tube_with_its_record_has_the_matrix_of_the_run(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    file = read_fcs(batch / "S01_BL_stained.fcs")
    spillover, _ = spillover_from_keywords(file.keywords, [p.pnn for p in file.parameters])
    del file
    halved = np.eye(7) + (spillover.matrix - np.eye(7)) / 2
    lines = [",".join(spillover.channels), *(",".join(map(repr, row.tolist())) for row in halved)]
    (batch / "m.csv").write_text("\n".join(lines) + "\n")
    head = HEADER.replace("batch_id", "batch_id,compensation")
    (batch / "manifest.csv").write_text(head + "S01_BL_stained.fcs,S01,BL,stained,B01,m.csv\n")
    text = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text()
    text = text.replace('version = "0.1.0"', 'version = "0.2.0-draft"')
    draft = tmp_path / "mine.toml"
    draft.write_text(text.replace('source = "file"', 'source = "file"\nalternatives = ["manifest"]'))
    gate(batch, tmp_path / "r", template=str(draft))
    record = tf.read_record(tmp_path / "r" / "samples" / "S01_BL_stained.json")
    # the tube has a matrix of its own; the one that was named for it is used, and that is said
    assert record.compensation is not None
    assert record.compensation.source == "csv:m.csv"
    assert "COMPENSATION_ALTERNATIVE" in {f.code for f in record.findings}
    result = tf.gate(batch / "S01_BL_stained.fcs", tf.load_template(str(draft)), record=record)
    assert {p.id: p.n_events for p in result.populations} == {p.id: p.n_events for p in record.populations}


def test_a_record_without_gates_is_refused(sample_run: Path) -> None:
    record = tf.read_record(sample_run / "samples" / "S01_BL_stained.json")
    bare = record.model_copy(update={"gates": (), "populations": ()})
    with pytest.raises(BatchError, match=r"RECORD_DIFFERENT.*holds no gates"):
        tf.gate(SAMPLE / "S01_BL_stained.fcs", tf.load_template("treg-foxp3-pbmc@0.1.0"), record=bare)


def test_a_record_of_another_tube_is_refused(sample_run: Path) -> None:
    record = tf.read_record(sample_run / "samples" / "S01_BL_stained.json")
    with pytest.raises(BatchError, match="RECORD_DIFFERENT: the record of S01_BL_stained"):
        tf.gate(SAMPLE / "S01_W12_stained.fcs", tf.load_template("treg-foxp3-pbmc@0.1.0"), record=record)


# --- same bytes, resume, refusals, continued --------------------------------------------------------------------------


def test_another_run_is_refused_and_replaced_only_when_told(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    gate(batch, tmp_path / "r")
    before = digest(tmp_path / "r")
    lines = verify_ledger(tmp_path / "r" / "ledger.jsonl")
    (batch / "manifest.csv").write_text(HEADER + "S01_BL_stained.fcs,S01,BL,stained,B01\n")
    with pytest.raises(BatchError, match=r"RUN_DIFFERENT.*r holds a run of other files"):
        gate(batch, tmp_path / "r")
    assert digest(tmp_path / "r") == before
    gate(batch, tmp_path / "r", overwrite=True)
    assert len(endpoint(tmp_path / "r")) == 1
    assert [p.name for p in (tmp_path / "r" / "samples").iterdir()] == ["S01_BL_stained.json"]
    assert verify_ledger(tmp_path / "r" / "ledger.jsonl") > lines


def test_a_changed_tube_is_another_run(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    gate(batch, tmp_path / "r")
    shutil.copy(SAMPLE / "S03_BL_stained.fcs", batch / "S01_BL_stained.fcs")
    with pytest.raises(BatchError, match="RUN_DIFFERENT"):
        gate(batch, tmp_path / "r")


def test_folders_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.docx").write_text("mine")
    with pytest.raises(BatchError, match="RUN_NOT_RESULTS"):
        gate(batch, other, overwrite=True)
    with pytest.raises(BatchError, match="RUN_INSIDE_BATCH"):
        gate(batch, batch / "results")
    assert [p.name for p in other.iterdir()] == ["thesis.docx"]
    assert not (batch / "results").exists()


def test_two_runs_on_one_folder_are_kept_apart(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO)

    class Second(Stop):
        def started(self, n_tubes: int, n_done: int) -> None:
            with pytest.raises(BatchError, match="RUN_LOCKED"):
                gate(batch, tmp_path / "r")

    gate(batch, tmp_path / "r", progress=Second(after=100))
    assert len(endpoint(tmp_path / "r")) == 2


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(tmp_path / "b", TWO)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "r" / "run.json"))

    monkeypatch.setattr(run_module, "write_run", full)
    with pytest.raises(BatchError, match=r"RUN_CANNOT_WRITE: run.json: No space left on device"):
        gate(batch, tmp_path / "r")


def test_a_crash_in_one_tube_hides_neither_itself_nor_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(tmp_path / "b", TWO)
    scope = run_module.process_tube.__globals__
    real = scope["gate_sample"]

    def crash(sample: object, *args: object, **options: object) -> object:
        if sample.name == "S01_BL_stained.fcs":
            raise ZeroDivisionError("not foreseen")
        return real(sample, *args, **options)

    monkeypatch.setitem(scope, "gate_sample", crash)
    result = gate(batch, tmp_path / "r")
    rows = endpoint(tmp_path / "r")
    assert [(r["status"], r["finding_codes"]) for r in rows] == [("not_evaluable", "INTERNAL"), ("ok", "")]
    assert result.exit_code() == 3
    assert "ZeroDivisionError: not foreseen" in (tmp_path / "r" / "run.log").read_text()
    assert json.loads((tmp_path / "r" / "run.json").read_text())["state"] == "incomplete"
    monkeypatch.setitem(scope, "gate_sample", real)
    result = gate(batch, tmp_path / "r")
    assert result.exit_code() == 0
    assert [r["status"] for r in endpoint(tmp_path / "r")] == ["ok", "ok"]


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_finds_what_gating_would_refuse_and_writes_nothing(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", TWO | {"gone.fcs": "S01,W24,stained,B01"})
    _swap_cd25_and_foxp3_without_cd127(batch / "S01_W12_stained.fcs")
    before = digest(batch)
    checks = check_batch(make_plan(batch))
    assert [c.ok for c in checks] == [True, False, False]
    assert [f.code for c in checks for f in c.findings] == ["PANEL_MARKER_MISSING", "FILE_MISSING"]
    assert checks[0].compensation == "file:$SPILLOVER"
    assert digest(batch) == before
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
