"""Placement by rule on recorded tubes: what holds on them, and that the page says what the code finds."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support import ROOT, real_data

sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the installed package

from benchmarks.pages import write_block
from benchmarks.real_tubes import __main__ as page
from benchmarks.real_tubes.aurora import OWN_CELLS, RuleResult, Tube, cd127, read_tubes, run_rules
from benchmarks.real_tubes.manual import compare_diva, compare_flowsom


@pytest.fixture(scope="module")
def tubes() -> list[Tube]:
    return read_tubes(real_data("treg_foxp3_aurora"))


@pytest.fixture(scope="module")
def results(tubes: list[Tube]) -> dict[str, RuleResult]:
    return {result.rule: result for result in run_rules(tubes)}


def spread(result: RuleResult) -> np.ndarray:
    return result.cuts.std(axis=0, ddof=1) / result.cuts.mean(axis=0)


def test_cuts_on_the_spread_of_negatives_repeat_over_tubes_and_percentiles_do_not(
    results: dict[str, RuleResult],
) -> None:
    for name in (page.RELEASED_RULE, "CD25 2, FOXP3 4.75 robust SD, positives left out"):
        assert (spread(results[name]) < 0.1).all(), "one day, one voltage: the cuts lie together"
    assert spread(results["99.5th percentile of CD4- T cells"])[0] > 0.5, "real CD25+ cells live in that tail"
    assert np.isnan(results[OWN_CELLS].cuts).any(), "the counted cells themselves have no valley in some tubes"


def test_an_island_that_cd127_confirms_is_in_the_gate(tubes: list[Tube], results: dict[str, RuleResult]) -> None:
    found = cd127(tubes, results[page.RELEASED_RULE])
    assert len(found) == 6
    for tube in found:
        assert tube.inside < 0.2 * tube.others, f"{tube.tube}: CD127 was not used to gate, and Treg cells are low in it"


def test_rules_beside_gates_that_people_drew() -> None:
    rows = {
        (row.tube, row.population): row.difference
        for row in (*compare_flowsom(real_data("flowsom_68983")), *compare_diva(real_data("diva_124500")))
    }
    assert abs(rows["68983", "singlets"]) < 1
    assert abs(rows["124500", "singlets above the debris"]) < 3
    assert abs(rows["124500", "viable single cells"]) < 1


def test_the_page_has_what_the_command_writes(tubes: list[Tube], results: dict[str, RuleResult], tmp_path) -> None:
    folder, rules = real_data("treg_foxp3_aurora"), list(results.values())
    written = (ROOT / "docs" / "placement.md").read_text(encoding="utf-8")
    copy = tmp_path / "placement.md"
    copy.write_text(written, encoding="utf-8")
    write_block(copy, "real cuts", page.cuts_table(tubes, rules))
    write_block(copy, "real modes", page.modes_table(folder, rules))
    write_block(copy, "real cd127", page.cd127_table(tubes, rules))
    write_block(copy, "real manual", page.manual_table(folder.parent))
    assert copy.read_text(encoding="utf-8") == written, "run python -m benchmarks.real_tubes"
