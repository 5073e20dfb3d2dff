"""Checks of a gated tube: what is a failure, what is a doubt, and that no numerator can fail a tube."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tregflow.errors import CODES, Finding
from tregflow.qc import check_tube
from tregflow.qc.tube import check_denominator, check_fractions, check_numerator
from tregflow.template.model import FractionLimit, Template
from tregflow.template.registry import load_template

# min_denominator_events 5000, denominator_events_review 20000, llod 20, lloq 50, numerator_events_review 100;
# cd3 = { review = [35, 92], fail = [5, 99.5] } of lymphocytes, singlets = { review = [60, 100], fail = [20, 100] }
PBMC = load_template("treg-foxp3-pbmc@0.1.0").template
COUNTS = {
    "singlets": 90_000, "viable": 85_000, "lymphocytes": 60_000, "cd3": 42_000, "cd4": 25_000, "cd4_neg_t": 17_000,
    "cd25_pos": 3000, "foxp3_pos": 2000, "treg": 1500, "treg_cd127low": 1400,
}  # fmt: skip
N_EVENTS = 100_000


def codes(findings: object) -> list[tuple[str, str]]:
    return [(f.code, f.severity) for f in findings]  # type: ignore[attr-defined]


def test_a_good_tube_has_no_findings() -> None:
    assert check_tube(COUNTS, N_EVENTS, PBMC) == ()


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, [("DENOMINATOR_TOO_FEW", "fail")]),
        (4999, [("DENOMINATOR_TOO_FEW", "fail")]),
        (5000, [("DENOMINATOR_LOW", "review")]),
        (19_999, [("DENOMINATOR_LOW", "review")]),
        (20_000, []),
    ],
)
def test_events_in_the_denominator(n: int, expected: list[tuple[str, str]]) -> None:
    assert codes(check_denominator(n, PBMC)) == expected


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, [("NUMERATOR_BELOW_LLOD", "review")]),
        (19, [("NUMERATOR_BELOW_LLOD", "review")]),
        (20, [("NUMERATOR_BELOW_LLOQ", "review")]),
        (49, [("NUMERATOR_BELOW_LLOQ", "review")]),
        (50, [("NUMERATOR_LOW", "info")]),
        (99, [("NUMERATOR_LOW", "info")]),
        (100, []),
        (10**9, []),
    ],
)
def test_events_in_the_numerator(n: int, expected: list[tuple[str, str]]) -> None:
    assert codes(check_numerator(n, PBMC)) == expected


@pytest.mark.parametrize(
    ("n_cd3", "expected"),
    [
        (0, [("POPULATION_IMPLAUSIBLE", "fail")]),
        (2999, [("POPULATION_IMPLAUSIBLE", "fail")]),
        (3000, [("POPULATION_UNEXPECTED", "review")]),  # 5 %: the ends of an interval are inside
        (20_999, [("POPULATION_UNEXPECTED", "review")]),
        (21_000, []),
        (55_200, []),
        (55_201, [("POPULATION_UNEXPECTED", "review")]),
        (59_700, [("POPULATION_UNEXPECTED", "review")]),
        (59_701, [("POPULATION_IMPLAUSIBLE", "fail")]),
    ],
)
def test_percent_of_parent(n_cd3: int, expected: list[tuple[str, str]]) -> None:
    limits = {"cd3": PBMC.qc.pct_of_parent["cd3"]}
    template = PBMC.model_copy(update={"qc": PBMC.qc.model_copy(update={"pct_of_parent": limits})})
    assert codes(check_fractions({**COUNTS, "cd3": n_cd3}, N_EVENTS, template)) == expected


def test_a_population_without_parent_is_a_percentage_of_all_events() -> None:
    (finding,) = check_fractions({**COUNTS, "singlets": 86_000}, 172_000, PBMC)
    assert finding.message == "singlets is 50.00 % of all events; expected 60 to 100 %."


def test_an_empty_parent_has_no_percentage() -> None:
    assert codes(check_fractions(dict.fromkeys(COUNTS, 0), 0, PBMC)) == []
    assert codes(check_tube(dict.fromkeys(COUNTS, 0), 0, PBMC)) == [
        ("DENOMINATOR_TOO_FEW", "fail"), ("NUMERATOR_BELOW_LLOD", "review"),
    ]  # fmt: skip


@pytest.mark.parametrize("limit", [FractionLimit(review=(35.0, 92.0)), FractionLimit(fail=(35.0, 92.0))])
def test_one_limit_is_enough(limit: FractionLimit) -> None:
    qc = PBMC.qc.model_copy(update={"pct_of_parent": {"cd3": limit}})
    found = check_fractions({**COUNTS, "cd3": 60}, N_EVENTS, PBMC.model_copy(update={"qc": qc}))
    assert [f.severity for f in found] == ["review" if limit.review else "fail"]


def test_findings_say_what_was_found_and_what_was_expected() -> None:
    counts = {**COUNTS, "lymphocytes": 6000, "cd3": 4200, "cd4": 4000, "treg": 7}
    found = {f.code: f for f in check_tube(counts, N_EVENTS, PBMC)}
    assert set(found) == {"DENOMINATOR_LOW", "NUMERATOR_BELOW_LLOD", "POPULATION_UNEXPECTED"}
    denominator, numerator = found["DENOMINATOR_LOW"], found["NUMERATOR_BELOW_LLOD"]
    assert denominator.message == "6000 events in lymphocytes; at least 20000 are wanted."
    assert (denominator.population, denominator.observed, denominator.limit) == (
        "lymphocytes", "6000 events", ">= 20000 events",
    )  # fmt: skip
    assert numerator.message == "7 events in treg, below the lower limit of detection (20)."
    assert numerator.population == "treg"
    for finding in found.values():
        assert finding.remedy == CODES[finding.code].remedy
    few = check_tube({**counts, "lymphocytes": 40, "cd3": 30, "cd4": 20}, N_EVENTS, PBMC)[0]
    assert few.message == "40 events in lymphocytes; a percentage needs at least 5000."


@settings(max_examples=100, deadline=None)
@given(treg=st.integers(0, 25_000), bright=st.integers(0, 25_000), other=st.integers(0, 25_000))
def test_no_numerator_and_nothing_it_is_made_of_fails_a_tube(treg: int, bright: int, other: int) -> None:
    """A check that fails a tube for its Treg would drop responders (DESIGN, law 2)."""
    counts = {**COUNTS, "treg": treg, "treg_cd127low": treg, "cd25_pos": bright, "foxp3_pos": other}
    assert all(f.severity != "fail" for f in check_tube(counts, N_EVENTS, PBMC))


@settings(max_examples=50, deadline=None)
@given(counts=st.fixed_dictionaries({name: st.integers(0, 10**6) for name in COUNTS}))
def test_failures_do_not_depend_on_the_numerator(counts: dict[str, int]) -> None:
    def failures(n: int) -> list[Finding]:
        return [f for f in check_tube({**counts, "treg": n}, 10**6, PBMC) if f.severity == "fail"]

    assert failures(0) == failures(counts["treg"])


@pytest.mark.parametrize("name", ["treg-foxp3-pbmc@0.1.0", "treg-foxp3-aurora@0.1.0"])
def test_every_limited_population_is_checked(name: str) -> None:
    template: Template = load_template(name).template
    counts = {gate.id: 10**6 for gate in template.gates}
    for population in template.qc.pct_of_parent:
        found = [f.population for f in check_fractions({**counts, population: 1}, 10**6, template)]
        assert population in found
