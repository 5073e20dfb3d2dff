"""Whose cut it is: tube, subject, batch, study; FMO tubes; fall-backs; the placement registry."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT
from test_batch import HEADER, digest, endpoint, make_batch

from tregflow.anchors import REGISTRY
from tregflow.batch import make_plan, run_batch
from tregflow.batch.single import gate
from tregflow.compensation import spillover_from_keywords
from tregflow.errors import BatchError
from tregflow.fcs import read_fcs, write_fcs
from tregflow.gating import gate_sample, moved_counts, open_tube
from tregflow.record import GateRecord, read_record, verify_ledger
from tregflow.study import TubeModes, mode_findings
from tregflow.template.registry import load_template

SAMPLE = ROOT / "sample_fcs"
PBMC = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text()
STUDY = """
[[visits]]
name = "BL"
baseline = true
day = 1

[[visits]]
name = "W12"
day = 85
window = [78, 92]
"""
S01 = {
    "S01_BL_stained.fcs": "S01,BL,stained,B01",
    "S01_W12_stained.fcs": "S01,W12,stained,B01",
    "S01_W24_stained.fcs": "S01,W24,stained,B01",
}


def template(folder: Path, **changes: str) -> str:
    """A draft of the shipped template with the FOXP3 rule changed: `key=value` replaces, `key=""` drops."""
    # the cuts that decide the endpoint have one share
    pbmc = PBMC.replace('share = "batch"', f"share = {changes.pop('share')}") if "share" in changes else PBMC
    head, _, rest = pbmc.partition('id = "foxp3_pos"')
    block, end, tail = rest.partition("within = [0.30, 0.56]\n")
    lines = {line.split(" = ")[0]: line for line in block.splitlines() if " = " in line}
    for key, value in changes.items():
        block = block.replace(lines[key] + "\n", f"{key} = {value}\n" if value else "") if key in lines else block
        if key not in lines:
            block += f"{key} = {value}\n"
    path = folder / "draft.toml"
    end = end.replace("0.30", "0.20")  # an FMO tube lacks the dye, and with it the spread that compensation leaves
    text = f'{head}id = "foxp3_pos"{block}{end}{tail}'
    path.write_text(text.replace('version = "0.1.0"', 'version = "0.2.0-draft"'))
    return str(path)


def study(folder: Path, tubes: dict[str, str], name: str = "b") -> Path:
    """A batch inside a study folder, with `study.toml` above it."""
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(STUDY)
    return make_batch(folder / name, tubes, study=False)


def run(batch: Path, results: Path, draft: str, **options: Any) -> dict[str, Any]:
    run_batch(make_plan(batch, draft), results, **options)
    return {r["visit"]: r for r in endpoint(results) if r["role"] == "stained"}


def foxp3(results: Path, tube: str) -> GateRecord:
    return next(g for g in read_record(results / "samples" / f"{tube}.json").gates if g.id == "foxp3_pos")


def cut(results: Path, tube: str) -> float:
    return float(foxp3(results, tube).geometry["minima"][0])


def test_a_subjects_cut_is_its_baseline_tubes_own_and_is_kept_for_later_batches(tmp_path: Path) -> None:
    draft = template(tmp_path, share='"subject"')
    first = study(tmp_path / "study", {"S01_BL_stained.fcs": "S01,BL,stained,B01"})
    rows = run(first, tmp_path / "r1", draft)
    registry = tmp_path / "study" / REGISTRY
    assert verify_ledger(registry) == 2  # CD25 and FOXP3
    later = study(tmp_path / "study", {"S01_W12_stained.fcs": "S01,W12,stained,B07"}, "later")
    rows |= run(later, tmp_path / "r2", draft)
    assert verify_ledger(registry) == 2  # CD25 and FOXP3
    assert cut(tmp_path / "r1", "S01_BL_stained") == cut(tmp_path / "r2", "S01_W12_stained")
    assert "PLACEMENT" not in rows["BL"]["finding_codes"] + rows["W12"]["finding_codes"]
    alone = template(tmp_path, share='"tube"')
    run(first, tmp_path / "r3", alone)
    assert cut(tmp_path / "r3", "S01_BL_stained") == cut(tmp_path / "r1", "S01_BL_stained")


def test_gating_again_or_in_another_order_changes_no_row(tmp_path: Path) -> None:
    draft = template(tmp_path, share='"subject"')
    whole = study(tmp_path / "study", S01)
    run(whole, tmp_path / "r1", draft)
    run(whole, tmp_path / "again", draft)
    assert digest(tmp_path / "r1") == digest(tmp_path / "again")
    # the same tubes a day later, the last visit first
    for name in ("S01_W24_stained.fcs", "S01_W12_stained.fcs", "S01_BL_stained.fcs"):
        single = study(tmp_path / "study", {name: S01[name]}, name)
        run(single, tmp_path / name, draft)
        tube = name.removesuffix(".fcs")
        assert cut(tmp_path / name, tube) == cut(tmp_path / "r1", tube)


def test_a_later_visit_before_its_baseline_says_why_it_has_no_number(tmp_path: Path) -> None:
    draft = template(tmp_path, share='"subject"')
    later = study(tmp_path / "study", {"S01_W12_stained.fcs": "S01,W12,stained,B07"})
    rows = run(later, tmp_path / "r", draft)
    assert rows["W12"]["status"] == "not_evaluable"
    assert "PLACEMENT_NO_ANCHOR" in rows["W12"]["finding_codes"]
    assert rows["W12"]["endpoint_pct"] == ""


def test_another_baseline_file_does_not_move_what_was_frozen(tmp_path: Path) -> None:
    draft = template(tmp_path, share='"subject"')
    run(study(tmp_path / "study", {"S01_BL_stained.fcs": "S01,BL,stained,B01"}), tmp_path / "r1", draft)
    other = study(tmp_path / "study", {"S02_BL_stained.fcs": "S01,BL,stained,B01"}, "other")
    rows = run(other, tmp_path / "r2", draft)
    assert cut(tmp_path / "r1", "S01_BL_stained") == cut(tmp_path / "r2", "S01_BL_stained")
    assert "PLACEMENT_ANCHOR_OTHER" in rows["BL"]["finding_codes"]


def test_a_study_has_one_cut(tmp_path: Path) -> None:
    draft = template(tmp_path, share='"study"')
    run(study(tmp_path / "study", S01), tmp_path / "r1", draft)
    second = study(tmp_path / "study", {"S02_BL_stained.fcs": "S02,BL,stained,B02"}, "second")
    run(second, tmp_path / "r2", draft)
    cuts = {cut(tmp_path / "r1", name.removesuffix(".fcs")) for name in S01} | {cut(tmp_path / "r2", "S02_BL_stained")}
    assert len(cuts) == 1


def test_a_baseline_is_needed_and_that_is_said_before_anything_is_gated(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "b", S01, study=False)
    draft = template(tmp_path, share='"subject"')
    with pytest.raises(BatchError, match=r"STUDY_NO_BASELINE.*foxp3_pos.*no study.toml was found"):
        make_plan(batch, draft)
    (batch / "study.toml").write_text('[[visits]]\nname = "W12"\n')
    with pytest.raises(BatchError, match=r"STUDY_NO_BASELINE.*study.toml names no baseline visit"):
        make_plan(batch, draft)


def test_an_edited_registry_is_refused(tmp_path: Path) -> None:
    draft = template(tmp_path, share='"subject"')
    batch = study(tmp_path / "study", S01)
    run(batch, tmp_path / "r1", draft)
    registry = tmp_path / "study" / REGISTRY
    registry.write_bytes(registry.read_bytes() * 2)
    with pytest.raises(BatchError, match="LEDGER_BROKEN"):
        run(batch, tmp_path / "r2", draft)


# --- fall-backs -------------------------------------------------------------------------------------------------------


def test_a_visit_that_cannot_place_its_own_cut_has_its_baselines(tmp_path: Path) -> None:
    # 8,546 CD4- T cells at baseline, 8,076 at week 12
    draft = template(tmp_path, share='"tube"', otherwise='"subject_baseline"', min_events="8400")
    rows = run(study(tmp_path / "study", S01), tmp_path / "r", draft)
    assert cut(tmp_path / "r", "S01_W12_stained") == cut(tmp_path / "r", "S01_BL_stained")
    assert "PLACEMENT_FALLBACK" in rows["W12"]["finding_codes"]
    assert rows["W12"]["status"] == "review"
    assert "PLACEMENT" not in rows["BL"]["finding_codes"]


def test_a_baseline_serves_whatever_the_order_of_the_manifest(tmp_path: Path) -> None:
    draft = template(tmp_path, share='"tube"', otherwise='"subject_baseline"', min_events="8400")
    backwards = dict(reversed(S01.items()))
    rows = run(study(tmp_path / "study", backwards), tmp_path / "r", draft)
    assert rows["W12"]["status"] == "review"
    assert cut(tmp_path / "r", "S01_W12_stained") == cut(tmp_path / "r", "S01_BL_stained")


def test_a_batch_without_a_cut_has_the_templates_value(tmp_path: Path) -> None:
    value = {"otherwise": '"template_value"', "template_value": "0.33"}
    draft = template(tmp_path, share='"batch"', min_events="90000", **value)
    rows = run(study(tmp_path / "study", S01), tmp_path / "r", draft)
    assert {cut(tmp_path / "r", name.removesuffix(".fcs")) for name in S01} == {0.33}
    assert all("PLACEMENT_FALLBACK" in row["finding_codes"] for row in rows.values())
    assert foxp3(tmp_path / "r", "S01_BL_stained").placement.status == "fallback"


# --- FMO tubes --------------------------------------------------------------------------------------------------------

FMO = {"rule": '"fmo_quantile"', "k": "", "reference": "", "uncertainty": "0.01", "q": "0.995", "control": '"FOXP3"'}


def test_an_fmo_tube_places_the_cut_of_its_batch_gated_by_its_stained_tube(tmp_path: Path) -> None:
    draft = template(tmp_path, **FMO)
    tubes = S01 | {"S01_BL_fmo-FOXP3.fcs": "S01,BL,fmo:FOXP3,B01"}
    rows = run(study(tmp_path / "study", tubes), tmp_path / "r", draft)
    cuts = {cut(tmp_path / "r", name.removesuffix(".fcs")) for name in S01}
    assert len(cuts) == 1
    used = foxp3(tmp_path / "r", "S01_W12_stained").placement
    assert used.reference == "cd4 of S01_BL_fmo-FOXP3"
    assert used.rule == "fmo_quantile"
    assert all("PLACEMENT" not in row["finding_codes"] for row in rows.values())
    # by hand: the quantile of FOXP3 on the CD4+ T cells of the FMO tube, cut out by the baseline tube's own gates
    assert 0.25 < cuts.pop() < 0.30


def test_an_fmo_tube_need_not_name_the_marker_it_lacks(tmp_path: Path) -> None:
    draft = template(tmp_path, **FMO)
    tubes = S01 | {"S01_BL_fmo-FOXP3.fcs": "S01,BL,fmo:FOXP3,B01"}
    run(study(tmp_path / "study", tubes), tmp_path / "named", draft)
    batch = tmp_path / "study" / "b"
    file = read_fcs(batch / "S01_BL_fmo-FOXP3.fcs")
    channels = [(p.pnn, "" if p.pns == "FOXP3" else p.pns) for p in file.parameters]
    spillover, _ = spillover_from_keywords(file.keywords, [p.pnn for p in file.parameters])
    events = file.raw().copy()
    del file
    matrix = (spillover.channels, spillover.matrix)
    write_fcs(batch / "S01_BL_fmo-FOXP3.fcs", events, channels, keywords={"$TIMESTEP": "0.01"}, spillover=matrix)
    run(batch, tmp_path / "unnamed", draft)
    assert cut(tmp_path / "unnamed", "S01_BL_stained") == cut(tmp_path / "named", "S01_BL_stained")


def test_one_tube_with_its_record_has_the_cut_of_its_fmo(tmp_path: Path) -> None:
    draft = template(tmp_path, **FMO | {"share": '"tube"'})
    run(study(tmp_path / "study", S01 | {"S01_BL_fmo-FOXP3.fcs": "S01,BL,fmo:FOXP3,B01"}), tmp_path / "r", draft)
    record = read_record(tmp_path / "r" / "samples" / "S01_BL_stained.json")
    result = gate(SAMPLE / "S01_BL_stained.fcs", load_template(draft), record=record)
    assert {p.id: p.n_events for p in result.populations} == {p.id: p.n_events for p in record.populations}


def test_an_fmo_of_another_batch_never_serves(tmp_path: Path) -> None:
    draft = template(tmp_path, **FMO)
    tubes = {"S01_BL_stained.fcs": "S01,W4,stained,B02", "S01_BL_fmo-FOXP3.fcs": "S01,BL,fmo:FOXP3,B01"}
    rows = run(study(tmp_path / "study", tubes), tmp_path / "r", draft)
    assert rows["W4"]["status"] == "not_evaluable"
    assert "PLACEMENT_NO_SHARED" in rows["W4"]["finding_codes"]
    findings = read_record(tmp_path / "r" / "samples" / "S01_W4_stained.json").findings
    assert any("PLACEMENT_NO_CONTROL" in f.message for f in findings)


def borrowing(folder: Path, draft: str, drawn: str, marker: str = "FOXP3") -> tuple[Path, dict[str, Any]]:
    """A week-4 tube of batch B02 drawn on 10 March, and an FMO tube of batch B01 drawn on another day."""
    batch = study(folder, {"S01_BL_stained.fcs": "", "S01_BL_fmo-FOXP3.fcs": ""})
    (batch / "manifest.csv").write_text(
        "file,subject_id,visit,role,batch_id,collected_at\n"
        "S01_BL_stained.fcs,S01,W4,stained,B02,2020-03-10T09:00\n"
        f"S01_BL_fmo-FOXP3.fcs,S01,BL,fmo:{marker},B01,{drawn}\n"
    )
    return batch, run(batch, folder / "r", draft)


def test_an_fmo_of_another_batch_serves_inside_the_declared_window_and_the_penalty_is_said(tmp_path: Path) -> None:
    window = FMO | {"window_days": "7", "window_penalty": "0.02", "share": '"tube"'}
    (tmp_path / "with").mkdir()
    draft = template(tmp_path / "with", **window)
    batch, rows = borrowing(tmp_path / "near", draft, "2020-03-05")
    assert "PLACEMENT_CONTROL_BORROWED" in rows["W4"]["finding_codes"]
    record = read_record(tmp_path / "near" / "r" / "samples" / "S01_W4_stained.json")
    finding = next(f for f in record.findings if f.code == "PLACEMENT_CONTROL_BORROWED")
    assert finding.message == (
        "foxp3_pos: placed on cd4 of S01_BL_fmo-FOXP3, an FMO tube of another batch, 5 days apart."
    )
    assert finding.severity == "review"
    quality = foxp3(tmp_path / "near" / "r", "S01_W4_stained").placement.quality
    assert (quality["control_days"], quality["penalty"]) == (5, 0.02)
    # the same cut, and an interval that is wider by the penalty: moved by 0.01 + 0.02 where it was 0.01
    (tmp_path / "without").mkdir()
    free = template(tmp_path / "without", **window | {"window_penalty": "0"})
    run(batch, tmp_path / "free", free)
    assert cut(tmp_path / "free", "S01_W4_stained") == cut(tmp_path / "near" / "r", "S01_W4_stained")
    wide, narrow = (
        [m.n_numerator for m in read_record(r / "samples" / "S01_W4_stained.json").moved]
        for r in (tmp_path / "near" / "r", tmp_path / "free")
    )
    assert wide[0] > narrow[0]
    assert wide[1] < narrow[1]


@pytest.mark.parametrize("drawn", ["2020-03-02", "", "2020-03-18"])
def test_an_fmo_outside_the_window_or_without_a_date_does_not_serve(tmp_path: Path, drawn: str) -> None:
    draft = template(tmp_path, **FMO | {"window_days": "7", "share": '"tube"'})
    _, rows = borrowing(tmp_path / "far", draft, drawn)
    assert rows["W4"]["status"] == "not_evaluable"


def test_an_unstained_tube_never_places_a_cut(tmp_path: Path) -> None:
    draft = template(tmp_path, **FMO)
    tubes = S01 | {"B01_unstained.fcs": ",,unstained,B01"}
    rows = run(study(tmp_path / "study", tubes), tmp_path / "r", draft)
    assert {row["status"] for row in rows.values()} == {"not_evaluable"}  # no FMO tube, and nothing in its place
    own = template(tmp_path, share='"batch"')
    alone = run(study(tmp_path / "alone", S01), tmp_path / "r1", own)
    beside = run(study(tmp_path / "beside", tubes), tmp_path / "r2", own)
    assert [r["n_numerator"] for r in alone.values()] == [r["n_numerator"] for r in beside.values()]
    assert all("unstained" not in foxp3(tmp_path / "r2", t.removesuffix(".fcs")).placement.message for t in S01)


def test_an_fmo_that_cannot_be_gated_is_said(tmp_path: Path) -> None:
    draft = template(tmp_path, **FMO)
    batch = study(tmp_path / "study", S01 | {"S01_BL_fmo-FOXP3.fcs": "S01,BL,fmo:FOXP3,B01"})
    fmo = batch / "S01_BL_fmo-FOXP3.fcs"
    fmo.write_bytes(fmo.read_bytes()[:9000])
    rows = run(batch, tmp_path / "r", draft)
    findings = read_record(tmp_path / "r" / "samples" / "S01_BL_stained.json").findings
    assert any("PLACEMENT_NO_CONTROL" in f.message and "FCS_" in f.message for f in findings)
    assert rows["BL"]["status"] == "not_evaluable"


def test_one_worker_and_two_share_alike(tmp_path: Path) -> None:
    draft = template(tmp_path, **FMO)
    batch = study(tmp_path / "study", S01 | {"S01_BL_fmo-FOXP3.fcs": "S01,BL,fmo:FOXP3,B01"})
    run(batch, tmp_path / "one", draft, jobs=1)
    run(batch, tmp_path / "two", draft, jobs=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_the_header_of_a_manifest_is_what_these_tests_think() -> None:
    assert HEADER.startswith("file,subject_id,visit,role")


# --- modes ------------------------------------------------------------------------------------------------------------


def with_modes(folder: Path) -> str:
    """A draft that counts every tube under all modes."""
    text = PBMC.replace('version = "0.1.0"', 'version = "0.2.0-draft"')
    text = text.replace('mfi = ["FOXP3"', 'sensitivity = ["fixed", "tube", "subject"]\nmfi = ["FOXP3"')
    text = text.replace("within = [0.32, 0.60]", "within = [0.32, 0.60]\ntemplate_value = 0.38")
    text = text.replace("within = [0.30, 0.56]", "within = [0.30, 0.56]\ntemplate_value = 0.325")
    (folder / "modes.toml").write_text(text)
    return str(folder / "modes.toml")


def modes(results: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (results / "modes.csv").open(newline="", encoding="utf-8") as file:
        return {(r["visit"], r["mode"]): r for r in csv.DictReader(file)}


def test_modes_stand_side_by_side_and_are_what_gating_under_them_gives(tmp_path: Path) -> None:
    batch = study(tmp_path / "study", S01)
    rows = run(batch, tmp_path / "r", with_modes(tmp_path))
    found = modes(tmp_path / "r")
    assert {mode for _, mode in found} == {"fixed", "tube", "subject", "batch"}
    assert [r["mode"] for r in found.values() if r["is_endpoint"] == "True"] == ["batch"] * 3
    assert not (tmp_path / "study" / REGISTRY).exists()  # a comparison freezes nothing
    for visit, row in rows.items():
        assert found[visit, "batch"]["n_numerator"] == row["n_numerator"]
    for mode in ("tube", "subject"):
        other = run(batch, tmp_path / mode, template(tmp_path, share=f'"{mode}"'))
        for visit, row in other.items():
            assert found[visit, mode]["n_numerator"] == row["n_numerator"], (mode, visit)


def test_a_tube_without_a_baseline_has_no_subject_mode_and_says_why(tmp_path: Path) -> None:
    run(study(tmp_path / "study", {"S01_W12_stained.fcs": "S01,W12,stained,B01"}), tmp_path / "r", with_modes(tmp_path))
    row = modes(tmp_path / "r")["W12", "subject"]
    assert row["n_numerator"] == row["endpoint_pct"] == ""
    assert "no tube to place it on (subject)" in row["why"]


def counted(subject: str, visit: str, pct: float, **modes: float) -> TubeModes:
    """A tube of 10,000 lymphocytes; the deciding cuts move its percentage by 0.1 points either way."""
    pair = lambda value: (round(100 * value), 10_000)  # noqa: E731
    moved = (pair(pct + 0.1), pair(pct - 0.1))
    return TubeModes(subject, visit, pair(pct), moved, {name: pair(value) for name, value in modes.items()})


def test_a_subject_whose_change_depends_on_the_mode_is_named() -> None:
    tubes = [
        counted("S1", "BL", 1.0, fixed=1.0, tube=1.0),
        counted("S1", "W12", 1.2, fixed=0.9, tube=1.2),
        counted("S2", "BL", 1.0, fixed=1.0),
        counted("S2", "W12", 2.0, fixed=2.0),
        counted("S3", "W12", 2.0, fixed=9.0),  # no baseline, no change
    ]
    (finding,) = mode_findings(tubes, frozenset({"BL"}), "batch")
    assert finding.code == "MODE_CHANGES_RESULT"
    assert finding.message == (
        "subject S1, BL to W12: +0.20 points with cuts shared by batch, -0.10 under mode fixed: another sign."
    )


def test_a_difference_within_the_uncertainty_of_shared_cuts_is_no_finding() -> None:
    first = TubeModes("S1", "BL", (100, 10_000), ((110, 10_000), (90, 10_000)), {"fixed": (100, 10_000)})
    # both cuts down: 1.1 to 2.4 is 0.3 more than 1.0 to 2.0
    later = TubeModes("S1", "W12", (200, 10_000), ((240, 10_000), (170, 10_000)), {"fixed": (229, 10_000)})
    assert mode_findings([first, later], frozenset({"BL"}), "batch") == ()
    later = replace(later, modes={"fixed": (231, 10_000)})
    (finding,) = mode_findings([first, later], frozenset({"BL"}), "batch")
    assert finding.limit == "+-0.30 points"


# --- uncertainty of the cuts ------------------------------------------------------------------------------------------


def test_the_interval_of_the_cuts_is_what_gating_with_moved_cuts_gives(tmp_path: Path) -> None:
    loaded = load_template("treg-foxp3-pbmc@0.1.0")
    plain = loaded.template
    tube = open_tube(SAMPLE / "S02_W12_stained.fcs", plain)
    where = {"channels": tube.channels, "spillover": tube.spillover}
    result = gate_sample(tube.sample, plain, **where)
    counts = moved_counts(tube, plain, result)
    assert counts is not None
    for direction, moved in zip((-1, 1), counts, strict=True):
        cuts = {}
        for gate_id in ("cd25_pos", "foxp3_pos"):
            placed = result.placements[gate_id]
            sd, spread = placed.estimate.quality["robust_sd"], placed.estimate.spread
            assert spread is not None
            value = placed.estimate.values[0] + direction * max(1.0 * sd, 1.96 * spread)
            cut = float(plain.transform(gate_id.removesuffix("_pos").upper())(np.array([value]))[0])
            cuts[gate_id] = replace(placed, coordinates=(round(cut, 6),))
        again = gate_sample(tube.sample, plain, frozen={**result.placements, **cuts}, draw=False, **where)
        assert moved == {p.id: p.n_events for p in again.populations}
    assert counts[0]["treg"] > result["treg"].n_events > counts[1]["treg"]


def test_a_lost_or_retired_template_marks_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(tmp_path / "b", {"S01_BL_stained.fcs": "S01,BL,stained,B01"}, study=False)
    for status, code in (("retired", "TEMPLATE_RETIRED"), ("flagged", "TEMPLATE_FLAGGED")):
        loaded = replace(load_template("treg-foxp3-pbmc@0.1.0"), status=status, reason="a wrong lot of CD25")
        monkeypatch.setattr("tregflow.batch.plan.load_template", lambda name, loaded=loaded, **_: loaded)
        plan = make_plan(batch, "treg-foxp3-pbmc@0.1.0")
        run_batch(plan, tmp_path / status)
        (row,) = endpoint(tmp_path / status)
        assert row["finding_codes"] == code
        assert row["status"] == "review"
        (finding,) = read_record(tmp_path / status / "samples" / "S01_BL_stained.json").findings
        assert "a wrong lot of CD25" in finding.message
