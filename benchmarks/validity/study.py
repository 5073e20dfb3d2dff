"""Simulate and gate: one row per subject, visit and method."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.validity.design import VISITS, SeedSet, Subject, make_design
from benchmarks.validity.methods import (
    Outcome,
    Sharing,
    Specimen,
    by_fixed_gates,
    by_mixture,
    by_template,
    by_valley,
    run_flowkit,
    settle_fixed,
)
from benchmarks.validity.metrics import best_f1, match
from tregflow.simulate import CD4_T, LYMPHOCYTES, Population, SimulatedTube, simulate_tube
from tregflow.study import wilson_interval
from tregflow.study.intervals import combined_interval
from tregflow.template.model import Template
from tregflow.template.registry import load_template

HERE: Final = Path(__file__).resolve().parent
RELEASED: Final = "treg-foxp3-pbmc@0.2.0"
FORMER: Final = "treg-foxp3-pbmc@0.1.0"

OURS: Final = "0.2.0"
BEFORE: Final = "0.1.0"
VALLEY: Final = "valley per tube"
METHODS: Final[Mapping[str, str]] = {
    OURS: "released template 0.2.0 as it is: each tube its own cuts, on its CD3+CD4- cells",
    "0.2.0, subject": "the same rule, both visits with the baseline tube's cuts",
    "0.2.0, batch": "the same rule, both visits with the median of the two tubes' cuts",
    BEFORE: "released template 0.1.0 as it is: other k, cuts shared by the subject's two tubes (their median)",
    "fixed gates": "coordinates settled on a clear reference tube, run by FlowKit",
    VALLEY: "density minimum of CD25 and of FOXP3 among the tube's CD4+ cells, as openCyto",
    "mixture": "Gaussian mixture on CD25 and FOXP3 of the tube's CD4+ cells",
}
SMALL_SUBJECTS: Final = 7
SMALL_LYMPHOCYTES: Final = 8_000


class Row(NamedTuple):
    """One tube under one method. Percentages are of lymphocytes, 0 to 100; NaN where the method gives no number.

    `generating_pct` is the probability of a Treg cell behind the tube, `identity_pct` its labels' count;
    `positive_generating_pct` and `positive_pct` are those of the CD4 T cells that an ideal cut at baseline brightness
    calls CD25+FOXP3+. `separable` is the best F1 any two cuts reach.
    """

    subject: str
    visit: str
    method: str
    generating_pct: float
    positive_generating_pct: float
    identity_pct: float
    positive_pct: float
    separable: float
    estimate_pct: float
    sensitivity: float
    precision: float
    f1: float
    count_low: float
    count_high: float
    combined_low: float
    combined_high: float
    codes: str


@dataclass(frozen=True, slots=True)
class Result:
    """The subjects of a run and their rows, in the order of the design."""

    subjects: tuple[Subject, ...]
    rows: tuple[Row, ...]


def run_study(seed_set: SeedSet, *, jobs: int) -> Result:
    """The whole study on a seed set."""
    subjects = make_design(seed_set)
    # a fresh interpreter per worker: forking a process with threads is not safe
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        rows = [row for found in pool.map(gate_subject, subjects, chunksize=1) for row in found]
    return Result(subjects, tuple(rows))


def write_rows(path: Path, result: Result) -> None:
    """All rows as CSV, so that tables and page can be made again without a run."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(result.rows)


def read_rows(path: Path, seed_set: SeedSet) -> Result:
    """The rows of an earlier run of the same design."""
    texts = {"subject", "visit", "method", "codes"}
    with path.open(encoding="utf-8", newline="") as file:
        rows = tuple(
            Row(**{name: value if name in texts else float(value) for name, value in line.items()})
            for line in csv.DictReader(file)
        )
    return Result(make_design(seed_set), rows)


def run_small(seed_set: SeedSet = "tuning") -> Result:
    """Seven subjects of at most 8,000 lymphocytes, one after the other in this process: a few seconds."""
    subjects = tuple(_smaller(subject) for subject in make_design(seed_set, SMALL_SUBJECTS))
    return Result(subjects, tuple(row for subject in subjects for row in gate_subject(subject)))


def _smaller(subject: Subject) -> Subject:
    n = min(int(subject.levels["n_lymphocytes"]), SMALL_LYMPHOCYTES)
    first, second = (replace(tube, n_lymphocytes=n) for tube in subject.tubes)
    return replace(subject, levels={**subject.levels, "n_lymphocytes": n}, tubes=(first, second))


def gate_subject(subject: Subject) -> list[Row]:
    """Simulate a subject's two tubes and gate them by every method."""
    with threadpool_limits(1), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specimens = [
            Specimen(simulate_tube(tube, seed), folder / f"{at}.fcs")
            for at, (tube, seed) in enumerate(zip(subject.tubes, subject.seeds, strict=True))
        ]
        outcomes = dict(_ours(specimens)) | _others(specimens)
        return [
            row
            for at, specimen in enumerate(specimens)
            for row in _rows(subject, at, specimen, {method: outcomes[method][at] for method in METHODS})
        ]


def _ours(specimens: Sequence[Specimen]) -> Iterator[tuple[str, list[Outcome]]]:
    sharings: tuple[tuple[str, str, tuple[Sharing, ...]], ...] = (
        (OURS, RELEASED, ("tube", "subject", "batch")),
        (BEFORE, FORMER, ("batch",)),
    )
    for name, template, modes in sharings:
        found = by_template(specimens, _template(template), modes)
        for sharing, outcomes in found.items():
            yield name if sharing == modes[0] else f"{name}, {sharing}", outcomes


def _others(specimens: Sequence[Specimen]) -> dict[str, list[Outcome]]:
    template = _template(FORMER)
    found: dict[str, list[Outcome]] = {"fixed gates": [], VALLEY: [], "mixture": []}
    for specimen in specimens:
        upstream = run_flowkit(specimen, template, _fixed_cuts())
        found["fixed gates"].append(by_fixed_gates(upstream))
        found[VALLEY].append(by_valley(specimen, upstream, template))
        found["mixture"].append(by_mixture(specimen, upstream, template))
    return found


@lru_cache(maxsize=4)
def _template(name: str) -> Template:
    return load_template(name).template


@lru_cache(maxsize=1)
def _fixed_cuts() -> dict[str, tuple[float, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        return settle_fixed(_template(FORMER), Path(folder))


def _rows(subject: Subject, visit: int, specimen: Specimen, outcomes: Mapping[str, Outcome]) -> Iterable[Row]:
    tube = specimen.simulated
    treg = tube.labels.is_in(Population.TREG)
    cd4 = tube.labels.is_in(*CD4_T)
    separable = best_f1((specimen.marker("CD25")[cd4], specimen.marker("FOXP3")[cd4]), treg[cd4])
    positive = 100 * _n_positive(tube) / int(tube.labels.is_in(*LYMPHOCYTES).sum())
    truth = tube.truth.treg_pct_of_lymphocytes or 0.0
    generating = (subject.generating_pct(visit), subject.positive_generating_pct(visit))
    known = (*generating, truth, positive, separable)
    for method, outcome in outcomes.items():
        figures = (np.nan,) * 8
        if outcome.numerator is not None and outcome.n_denominator:
            agreement = match(outcome.numerator, treg)
            estimate, *bounds = _estimate(outcome, int(np.count_nonzero(outcome.numerator)))
            figures = (estimate, agreement.sensitivity, agreement.precision, agreement.f1, *bounds)
        rounded = (round(float(v), 6) for v in (*known, *figures))
        yield Row(subject.id, VISITS[visit], method, *rounded, " ".join(dict.fromkeys(outcome.codes)))


def _estimate(outcome: Outcome, n: int) -> tuple[float, float, float, float, float]:
    """Percentage, counting interval, and that combined with the placement's where the method has one."""
    total = outcome.n_denominator or 0
    estimate, counting = 100 * n / total, wilson_interval(n, total)
    if outcome.moved is None:
        return estimate, *counting, *counting
    low, high = (100 * moved / total for moved in outcome.moved)
    return estimate, *counting, *combined_interval(estimate, [counting, (low, high)])


def _n_positive(tube: SimulatedTube) -> int:
    labels = tube.labels
    return int(np.count_nonzero(labels.is_in(*CD4_T) & labels.cd25_positive & labels.foxp3_positive))
