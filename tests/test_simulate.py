"""The simulator: repeatable, true to its own labels, and unlike the code it is there to judge."""

from __future__ import annotations

import ast
import csv
import re
import tomllib
from dataclasses import replace

import flowio
import numpy as np
import pytest
from support import ROOT

from tregflow.errors import TregflowError
from tregflow.fcs import read_fcs
from tregflow.simulate import (
    BASELINE,
    CD4_T,
    CHANNELS,
    DETECTORS,
    LYMPHOCYTES,
    MANIFEST_COLUMNS,
    MARKERS,
    SPILLOVER,
    T_CELLS,
    BatchSpec,
    Population,
    TubeParams,
    VisitSpec,
    plan_batch,
    simulate_batch,
    simulate_tube,
)

SAMPLE = ROOT / "sample_fcs"
SMALL = TubeParams(n_lymphocytes=4000)
PLANS = {plan.file: plan for plan in plan_batch()}
STAINED = [file for file, plan in PLANS.items() if plan.role == "stained"]
COLUMN = {marker: index for index, (_, marker) in enumerate(CHANNELS) if marker}


def compensated(tube):
    """Scale values by marker, through the tube's own matrix."""
    values = tube.events[:, 4:].astype(np.float64) @ np.linalg.inv(tube.spillover)
    return dict(zip(MARKERS, values.T, strict=True))


def sample_rows(name):
    with (SAMPLE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- repeatability ----------------------------------------------------------------------------------------------------


def test_sample_fcs_is_reproduced_byte_for_byte(tmp_path):
    simulate_batch(tmp_path / "batch")
    made = {path.name: path.read_bytes() for path in (tmp_path / "batch").iterdir()}
    assert sorted(made) == sorted(path.name for path in SAMPLE.iterdir())
    different = [name for name, content in made.items() if content != (SAMPLE / name).read_bytes()]
    assert different == []


def test_one_seed_is_one_tube():
    first, again, other = (simulate_tube(SMALL, seed) for seed in (1, 1, 2))
    assert first.events.tobytes() == again.events.tobytes()
    assert first.labels.population.tobytes() == again.labels.population.tobytes()
    assert first.events.tobytes() != other.events.tobytes()


def test_a_tube_does_not_depend_on_the_tubes_beside_it():
    lean = {plan.file: plan for plan in plan_batch(BatchSpec(fmo_markers=()))}
    file = "S02_W12_stained.fcs"
    assert lean[file].params == PLANS[file].params
    assert lean[file].seed.spawn_key == PLANS[file].seed.spawn_key


def test_arrays_are_read_only():
    tube = simulate_tube(SMALL, 1)
    with pytest.raises(ValueError, match="read-only"):
        tube.events[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        tube.labels.viable[0] = False


# --- the sample batch -------------------------------------------------------------------------------------------------


def test_sample_manifest_lists_every_file_once():
    rows = sample_rows("manifest.csv")
    assert tuple(rows[0]) == MANIFEST_COLUMNS
    files = [row["file"] for row in rows]
    assert sorted(files) == sorted(path.name for path in SAMPLE.glob("*.fcs"))
    assert len(set(files)) == len(files)
    stained = [(row["subject_id"], row["visit"]) for row in rows if row["role"] == "stained"]
    assert stained == [(s, v) for s in ("S01", "S02", "S03") for v in ("BL", "W12", "W24")]
    roles = {role: [row["batch_id"] for row in rows if row["role"] == role] for role in ("fmo:FOXP3", "fmo:CD25")}
    assert all(batches == ["B01", "B02", "B03"] for batches in roles.values())
    singles = {row["role"] for row in rows if row["batch_id"] == "B01"}
    assert singles >= {"unstained", *(f"single:{marker}" for marker in MARKERS)}


def test_study_file_reads_the_names_as_the_manifest_does():
    tubes = tomllib.loads((SAMPLE / "study.toml").read_text(encoding="utf-8"))["tubes"]
    for row in sample_rows("manifest.csv"):
        match = re.search(tubes["pattern"], row["file"])
        assert match, row["file"]
        assert (match["subject"] or "", match["visit"] or "") == (row["subject_id"], row["visit"])
        assert tubes["roles"].get(match["role"], match["role"]) == row["role"]


def test_sample_is_small_and_its_tubes_are_large():
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 25_000_000
    truth = {row["file"]: row for row in sample_rows("truth.csv")}
    assert all(int(truth[file]["n_lymphocytes"]) >= 20_000 for file in STAINED)
    levels = {file: float(truth[file]["treg_pct_of_lymphocytes"]) for file in STAINED}
    for subject in ("S01", "S02", "S03"):
        assert 0.8 <= levels[f"{subject}_BL_stained.fcs"] <= 1.8
    for visit, fold in (("W12", 1.7), ("W24", 1.1)):
        folds = [levels[f"{s}_{visit}_stained.fcs"] / levels[f"{s}_BL_stained.fcs"] for s in ("S01", "S02", "S03")]
        assert np.exp(np.mean(np.log(folds))) == pytest.approx(fold, rel=0.1)
        assert max(folds) > 1.1 * min(folds)


def test_truth_table_and_readme_say_what_the_labels_say():
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    truth = {row["file"]: row for row in sample_rows("truth.csv")}
    assert set(truth) == set(PLANS)
    for file in ("S01_BL_stained.fcs", "S03_W12_stained.fcs", "B01_single-CD25.fcs"):
        labels = PLANS[file].simulate().labels
        row = truth[file]
        treg, lymphocytes = labels.is_in(Population.TREG).sum(), labels.is_in(*LYMPHOCYTES).sum()
        assert int(row["n_treg"]) == treg
        assert int(row["n_lymphocytes"]) == lymphocytes
        assert int(row["n_cd3"]) == labels.is_in(*T_CELLS).sum()
        assert int(row["n_cd4"]) == labels.is_in(*CD4_T).sum()
        assert float(row["treg_pct_of_lymphocytes"]) == 100 * treg / lymphocytes
    assert (
        f"| {int(truth[STAINED[0]]['n_treg']):,} | {float(truth[STAINED[0]]['treg_pct_of_lymphocytes']):.3f}" in readme
    )
    assert "simulated" in readme
    assert "do not reproduce the trial" in readme


def test_a_file_holds_the_simulated_tube():
    plan = PLANS["S02_BL_fmo-CD25.fcs"]
    tube = plan.simulate()
    path = SAMPLE / plan.file
    assert np.array_equal(read_fcs(path).raw(), tube.events)
    other = flowio.FlowData(str(path))
    assert np.array_equal(np.reshape(other.events, (-1, len(CHANNELS))), tube.events)
    assert other.pnn_labels == [pnn for pnn, _ in CHANNELS]
    assert other.pns_labels == [pns for _, pns in CHANNELS]
    n, *rest = other.text["spillover"].split(",")
    assert tuple(rest[: int(n)]) == DETECTORS
    assert np.array_equal(np.array(rest[int(n) :], dtype=float).reshape(7, 7), SPILLOVER)
    assert float(other.text["timestep"]) == 0.01


@pytest.mark.parametrize("file", STAINED)
def test_plain_cuts_recover_the_true_tregs(file):
    """Clear by default: rectangles in scale values, and cuts from the tube's own CD4- T cells, come within 5 %."""
    tube = PLANS[file].simulate()
    value = compensated(tube)
    fsc, height, ssc = (tube.events[:, column].astype(float) for column in (1, 2, 3))
    t_cell = (abs(height / fsc - 0.88) < 0.1) & (fsc > 42e3) & (fsc < 125e3) & (ssc < 42e3)
    t_cell &= (value["Viability"] < 1400) & (value["CD3"] > 4000)
    cd4 = t_cell & (value["CD4"] > 5000)
    treg = cd4.copy()
    for marker in ("CD25", "FOXP3"):
        negative = value[marker][t_cell & ~cd4]
        middle = np.median(negative)
        treg &= value[marker] >= middle + 4 * 1.4826 * np.median(middle - negative[negative < middle])
    assert abs(treg.sum() / tube.truth.n_treg - 1) < 0.05
    assert abs(cd4.sum() / tube.truth.n_cd4 - 1) < 0.01
    assert np.median(value["CD127"][treg]) < np.median(value["CD127"][cd4 & ~treg]) / 4


# --- the physics ------------------------------------------------------------------------------------------------------


def test_single_stains_give_back_the_spillover():
    for row, marker in enumerate(MARKERS):
        tube = PLANS[f"B01_single-{marker}.fcs"].simulate()
        live = np.isin(tube.labels.population, LYMPHOCYTES) & ~tube.labels.doublet & tube.labels.viable
        stain = tube.events[:, 4 + row]
        bright, dim = live & (stain > 5000), live & (stain < 1500)
        if marker == "Viability":  # the dead cells carry it; their own light differs from that of the live
            continue
        shift = np.median(tube.events[bright, 4:], axis=0) - np.median(tube.events[dim, 4:], axis=0)
        assert shift / shift[row] == pytest.approx(SPILLOVER[row], abs=0.005)


def test_spread_comes_from_counting_photons():
    """Without CD25 antibody, cells spread more in its detector where CD3 spills light into it, around one centre."""
    tube = PLANS["S01_BL_fmo-CD25.fcs"].simulate()
    value = compensated(tube)["CD25"]
    t_cells, b_cells = tube.labels.is_in(*T_CELLS), tube.labels.is_in(Population.B)
    assert abs(np.median(value[t_cells]) - np.median(value[b_cells])) < 20
    assert np.std(value[t_cells]) > 3 * np.std(value[b_cells])


def test_doublets_and_dead_cells_stand_apart():
    tube = simulate_tube(SMALL, 3)
    ratio = tube.events[:, 2] / tube.events[:, 1]
    single = ~tube.labels.doublet
    assert np.median(ratio[single]) == pytest.approx(0.88, abs=0.01)
    assert np.mean(ratio[~single] < 0.8) > 0.9
    viability = compensated(tube)["Viability"]
    assert np.median(viability[~tube.labels.viable]) > 20 * np.median(viability[tube.labels.viable])


def test_fmo_lacks_one_marker_and_unstained_all():
    value = compensated(PLANS["S01_BL_fmo-FOXP3.fcs"].simulate())
    full = compensated(PLANS["S01_BL_stained.fcs"].simulate())
    assert np.quantile(value["FOXP3"], 0.995) < 500 < np.quantile(full["FOXP3"], 0.995)
    assert np.quantile(value["CD25"], 0.99) == pytest.approx(np.quantile(full["CD25"], 0.99), rel=0.15)
    unstained = PLANS["B01_unstained.fcs"].simulate()
    cells = unstained.labels.is_in(*LYMPHOCYTES)
    assert all(abs(np.median(values[cells])) < 200 for values in compensated(unstained).values())


# --- the knobs --------------------------------------------------------------------------------------------------------


def test_sizes_are_as_asked():
    assert simulate_tube(SMALL, 1).truth.n_lymphocytes == 4000
    by_events = simulate_tube(TubeParams(n_lymphocytes=None, n_events=3000), 1)
    assert len(by_events.events) == by_events.truth.n_events == 3000


def test_a_percentage_of_nothing_is_missing():
    truth = simulate_tube(TubeParams(n_lymphocytes=50, cd4_of_cd3=0.0, treg_of_lymphocytes=0.0), 1).truth
    assert truth.treg_pct_of_cd4 is None
    assert truth.treg_pct_of_lymphocytes == 0


def test_drug_moves_frequency():
    more = simulate_tube(replace(SMALL, n_lymphocytes=40_000, treg_fold=2.0), 1).truth
    assert more.treg_pct_of_lymphocytes == pytest.approx(2 * 1.1, rel=0.15)
    assert more.treg_pct_of_cd4 == pytest.approx(2 * 1.1 / (0.68 * 0.52), rel=0.15)


def test_drug_brightness_moves_positivity_and_not_identity():
    plain, bright = (simulate_tube(replace(SMALL, cd4_cd25_fold=fold, cd4_foxp3_fold=fold), 1) for fold in (1.0, 2.0))
    assert plain.truth == bright.truth
    assert np.array_equal(plain.labels.population, bright.labels.population)
    assert bright.labels.cd25_positive.sum() > 1.3 * plain.labels.cd25_positive.sum()
    assert bright.labels.foxp3_positive.sum() > plain.labels.foxp3_positive.sum()
    only_treg = simulate_tube(replace(SMALL, treg_cd25_fold=2.0), 1)
    others = ~np.isin(plain.labels.population, [Population.TREG]) & ~plain.labels.doublet
    assert np.array_equal(only_treg.labels.cd25_positive[others], plain.labels.cd25_positive[others])


def test_positivity_and_identity_agree_at_baseline():
    tube = simulate_tube(TubeParams(), 5)
    both = tube.labels.is_in(*CD4_T) & tube.labels.cd25_positive & tube.labels.foxp3_positive
    assert both.sum() == pytest.approx(tube.truth.n_treg, rel=0.05)


def test_reference_cells_can_be_made_positive():
    labels = simulate_tube(replace(SMALL, cd8_positive_frac=0.2), 1).labels
    cd8 = labels.is_in(Population.CD8_T)
    assert np.mean((labels.cd25_positive & labels.foxp3_positive)[cd8]) == pytest.approx(0.2, abs=0.04)


def test_separation_makes_tregs_dimmer():
    clear, hard = (simulate_tube(replace(SMALL, foxp3_separation=s, cd25_separation=s), 1) for s in (1.0, 0.4))
    for marker in ("CD25", "FOXP3"):
        medians = [np.median(compensated(tube)[marker][tube.labels.is_in(Population.TREG)]) for tube in (clear, hard)]
        assert medians[1] < 0.6 * medians[0]


def test_gain_drift_and_gain():
    tube = simulate_tube(replace(SMALL, gain=1.5, gain_drift=0.4), 1)
    cells, plain = tube.labels.is_in(*CD4_T), simulate_tube(SMALL, 1)
    signal, time = tube.events[cells, COLUMN["CD4"]], tube.events[cells, 0]
    early, late = (np.median(signal[part]) for part in (time < time.max() * 0.2, time > time.max() * 0.8))
    assert late / early == pytest.approx(1.16 / 0.84, rel=0.05)
    before = np.median(plain.events[plain.labels.is_in(*CD4_T), COLUMN["CD4"]])
    assert np.median(signal) == pytest.approx(1.5 * before, rel=0.03)


def test_clog_lets_few_and_weak_events_pass():
    tube = simulate_tube(replace(SMALL, clog=(0.4, 0.6)), 1)
    time, clogged = tube.events[:, 0], tube.labels.clogged
    assert np.all(np.diff(time) >= 0)
    assert clogged[(time > 0.42 * time[-1]) & (time < 0.58 * time[-1])].all()
    assert not clogged[(time < 0.38 * time[-1]) | (time > 0.62 * time[-1])].any()
    assert clogged.mean() == pytest.approx(0.05 / 0.85, abs=0.01)
    cells = tube.labels.is_in(*T_CELLS)
    assert np.median(tube.events[cells & clogged, 1]) < 0.9 * np.median(tube.events[cells & ~clogged, 1])


def test_spillover_error_is_in_the_keyword_and_not_in_the_light():
    right, wrong = (simulate_tube(replace(SMALL, spillover_error=e), 1) for e in (0.0, 0.1))
    assert np.array_equal(right.events, wrong.events)
    assert np.array_equal(right.spillover, SPILLOVER)
    assert np.array_equal(np.diag(wrong.spillover), np.ones(7))
    off = SPILLOVER[(SPILLOVER > 0) & (SPILLOVER < 1)]
    error = wrong.spillover[(SPILLOVER > 0) & (SPILLOVER < 1)] / off - 1
    assert 0.05 < error.std() < 0.15
    plans = plan_batch(BatchSpec(n_subjects=2, tube=replace(SMALL, spillover_error=0.1)))
    carried = {plan.batch_id: set() for plan in plans}
    for plan in plans:
        carried[plan.batch_id].add(plan.simulate().spillover.tobytes())
    assert [len(matrices) for matrices in carried.values()] == [1, 1]
    assert carried["B01"] != carried["B02"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"n_events": 100}, "exactly one of n_lymphocytes and n_events"),
        ({"n_lymphocytes": 0}, "at least 1"),
        ({"dead_frac": -0.1}, "dead_frac must be 0 to 1"),
        ({"treg_fold": 0.0}, "treg_fold must be positive"),
        ({"treg_fold": 90.0}, "more Treg cells than CD4 T cells"),
        ({"gain": float("nan")}, "gain must be positive"),
        ({"gain_drift": 1.5}, "gain_drift must be between"),
        ({"spillover_error": 2.0}, "spillover_error must be"),
        ({"cd3_of_lymphocytes": 0.95}, "exceed 1 together"),
        ({"memory_of_tconv": 0.99}, "memory_of_tconv and activated_of_tconv"),
        ({"debris_frac": 0.9}, "less than 5 % of the events"),
        ({"clog": (0.6, 0.4)}, "clog must be"),
        ({"stained": ("CD19",)}, "unknown markers in stained: CD19"),
    ],
)
def test_impossible_tubes_are_refused(settings, problem):
    with pytest.raises(TregflowError, match=f"SIMULATE_PARAMETER: .*{problem}"):
        TubeParams(**settings)


def test_impossible_batches_are_refused():
    with pytest.raises(TregflowError, match=r"SIMULATE_PARAMETER: .*at least one subject"):
        BatchSpec(n_subjects=0)
    with pytest.raises(TregflowError, match=r"SIMULATE_PARAMETER: .*differently named visits"):
        BatchSpec(visits=(BASELINE, BASELINE))
    with pytest.raises(TregflowError, match="SIMULATE_PARAMETER: visits go into file names"):
        BatchSpec(visits=(BASELINE, VisitSpec(name="week 2", week=2)))


def test_a_folder_in_use_is_refused(tmp_path):
    spec = BatchSpec(n_subjects=1, visits=(BASELINE,), tube=TubeParams(n_lymphocytes=500), n_fmo_events=300)
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")
    with pytest.raises(TregflowError, match="SIMULATE_OUT_EXISTS"):
        simulate_batch(tmp_path, spec)
    truths = simulate_batch(tmp_path, spec, overwrite=True)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "kept"
    assert sorted(truths) == sorted(path.name for path in tmp_path.glob("*.fcs"))


def test_larger_batches_vary_as_specified():
    plans = [p for p in plan_batch(BatchSpec(n_subjects=18), seed=7) if p.role == "stained"]
    assert len(plans) == 54
    folds = {v: np.log([p.params.treg_fold for p in plans if p.visit == v]) for v in ("BL", "W12", "W24")}
    assert np.all(folds["BL"] == 0)
    assert np.exp(folds["W12"].mean()) == pytest.approx(1.7, rel=0.1)
    assert np.exp(folds["W24"].mean()) == pytest.approx(1.1, rel=0.1)
    assert 0.25 < folds["W12"].std() < 0.5


# --- the law ----------------------------------------------------------------------------------------------------------


def test_simulator_shares_no_code_with_what_it_judges():
    imported = set()
    for path in (ROOT / "tregflow" / "simulate").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    own = {name for name in imported if name.startswith("tregflow") and not name.startswith("tregflow.simulate")}
    assert own == {"tregflow.errors", "tregflow.fcs"}
