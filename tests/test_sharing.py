"""Whose cut it is: tube, subject, batch, study; FMO tubes; fall-backs; the placement registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from test_batch import HEADER, digest, endpoint, make_batch

from tregflow.anchors import REGISTRY
from tregflow.batch import make_plan, run_batch
from tregflow.errors import BatchError
from tregflow.record import GateRecord, read_record, verify_ledger

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
    head, _, rest = PBMC.partition('id = "foxp3_pos"')
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
    assert verify_ledger(registry) == 1
    later = study(tmp_path / "study", {"S01_W12_stained.fcs": "S01,W12,stained,B07"}, "later")
    rows |= run(later, tmp_path / "r2", draft)
    assert verify_ledger(registry) == 1
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
    with pytest.raises(BatchError, match="STUDY_NO_BASELINE.*foxp3_pos.*no study.toml was found"):
        make_plan(batch, draft)
    shutil.copy(SAMPLE / "study.toml", batch)
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


def test_an_fmo_of_another_batch_never_serves(tmp_path: Path) -> None:
    draft = template(tmp_path, **FMO)
    tubes = {"S01_BL_stained.fcs": "S01,W4,stained,B02", "S01_BL_fmo-FOXP3.fcs": "S01,BL,fmo:FOXP3,B01"}
    rows = run(study(tmp_path / "study", tubes), tmp_path / "r", draft)
    assert rows["W4"]["status"] == "not_evaluable"
    assert "PLACEMENT_NO_SHARED" in rows["W4"]["finding_codes"]
    findings = read_record(tmp_path / "r" / "samples" / "S01_W4_stained.json").findings
    assert any("PLACEMENT_NO_CONTROL" in f.message for f in findings)


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
