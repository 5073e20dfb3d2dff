"""The study's page for the documentation, written by the command that made its numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.validity.design import FACTORS, REPORTING_SEED, TUNING_SEED, WORDS, SeedSet
from benchmarks.validity.study import BEFORE, HERE, METHODS, OURS, VALLEY, Result
from benchmarks.validity.tables import (
    DRIFTS,
    Sheet,
    aims,
    aims_table,
    as_markdown,
    change_bias,
    figures,
    levels_of,
    sensitive_subjects,
)

TRIED = HERE / "tried.md"
COMMAND = "python -m benchmarks.validity"
_JUDGED = (
    "The change is judged against the marker-positive truth: a cut on negatives says which cells are positive, and "
    "where the drug brightens conventional CD4 cells more of them are. That those are no Treg cells by identity no "
    "such cut can see: the rows that are `reported` and not judged say what it does to the change. The counting "
    "interval is judged against the probability of a Treg cell by identity, the stricter reading. "
    "Bias comes with its standard error over subjects."
)


def page(result: Result, found: Mapping[str, Sheet], seed_set: SeedSet) -> str:
    """The whole page."""
    parts = [
        "# The validation study",
        _preface(len(result.subjects), seed_set),
        "## Methods\n\n" + as_markdown(("method", "what it does"), list(METHODS.items())),
        "## Aims\n\n" + _JUDGED + "\n\n" + as_markdown(*aims_table(found)),
        TRIED.read_text(encoding="utf-8").strip(),
        "## Percentage of lymphocytes, all tubes\n\n" + _methods(found),
        "## Bias of the week-12 change by gain drift\n\n" + _drift(found),
        "## By level of every factor\n\n" + _levels(found),
        "All methods: `methods.csv`, `levels.csv`, `change.csv` and `aims.csv` in `benchmarks/validity/results/`.",
    ]
    return "\n\n".join(parts) + "\n"


def summary(found: Mapping[str, Sheet]) -> str:
    """The study in two tables, for the page of the immunologist."""
    rows = [(aim.name, aim.limit, aim.found, aim.verdict) for aim in aims(found, OURS)]
    return (
        f"Template {OURS}, on subjects that nothing was tuned on:\n\n"
        + as_markdown(("aim", "limit", "found", "verdict"), rows)
        + "\n\nAll methods, all tubes:\n\n"
        + _methods(found)
    )


def _preface(n: int, seed_set: SeedSet) -> str:
    return (
        f"Written by `{COMMAND}`; do not edit. {n} simulated subjects, {2 * n} tubes, seed set `{seed_set}` (tuning "
        f"seed {TUNING_SEED}, reporting seed {REPORTING_SEED}: what was tuned was tuned on the first, what is reported "
        "comes from the second). The cells are simulated; the figures say how the rules behave where the truth is "
        "known, and nothing about any patient.\n\n"
        "Two truths. *Identity*: what the cell is. *Marker-positive*: what an ideal cut, fixed at baseline brightness "
        "and free of noise, would call CD25+FOXP3+. A drug that brightens conventional CD4 cells moves the second and "
        "not the first, and no cut anchored on negatives can hide that. Errors and F1 are against the labels of the "
        "tube, so counting error is not in them; coverage is of the probability that generated the tube."
    )


def _methods(found: Mapping[str, Sheet]) -> str:
    rows = []
    for method, sheet in found.items():
        f = figures(sheet, np.ones(len(sheet.codes), dtype=bool))
        rows.append(
            (
                method,
                f"{f['n_evaluable']:.0f}",
                f"{f['failures_declared']:.0f}",
                _pct(f["median_abs_error"]),
                f"{_signed(f['bias'])} ± {_pct(f['sd'])}",
                f"{_signed(f['bias_vs_positive'])} ± {_pct(f['sd_vs_positive'])}",
                f"{f['f1']:.3f}",
                _pct(f["coverage_count"]),
                _pct(f["coverage_combined"]),
                f"{f['large_errors']:.0f}",
                f"{f['large_errors_missed']:.0f}",
                _pct(f["review_frac"]),
            )
        )
    header = (
        "method",
        "tubes with a number",
        "failures declared",
        "median abs. error",
        "bias ± SD, identity",
        "bias ± SD, marker-positive",
        "F1",
        "counting interval covers",
        "combined covers",
        "errors > 25 %",
        "of these without a finding",
        "tubes with a finding",
    )
    return as_markdown(header, rows)


def _drift(found: Mapping[str, Sheet]) -> str:
    parts = []
    everyone = np.ones(len(next(iter(found.values())).codes) // 2, dtype=bool)
    header = ("method", *(f"{drift:+g} %" for drift in DRIFTS))
    for title, truth, judged in (
        (
            "Subjects whose baseline sensitivity is at least 0.97 with that method, marker-positive",
            "positive_pct",
            True,
        ),
        ("The same, identity", "identity_pct", True),
        ("All subjects with two numbers, identity", "identity_pct", False),
    ):
        rows = []
        for method, sheet in found.items():
            subjects = sensitive_subjects(sheet) if judged else everyone
            cells = [f"{_signed(b.bias)} ± {_pct(b.se)} ({b.n})" for b in change_bias(sheet, subjects, truth)]
            rows.append((method, *cells))
        parts.append(f"{title} (subjects):\n\n" + as_markdown(header, rows))
    note = (
        "Bias of the mean change in percentage points, as a share of the true mean change. Seven drift levels, each "
        "for itself: averaged over signs, opposite biases would hide each other."
    )
    return "\n\n".join([note, *parts])


def _levels(found: Mapping[str, Sheet]) -> str:
    methods = (OURS, BEFORE, "fixed gates", VALLEY, "mixture")
    rows = []
    last = ""
    for factor, level, mask in levels_of(found[OURS]):
        cells = []
        for method in methods:
            f = figures(found[method], mask)
            cells.append(f"{_signed(f['bias'])} ± {_pct(f['sd'])}; {f['f1']:.2f}; {_pct(f['coverage_combined'])}")
        rows.append((WORDS[factor] if factor != last else "", f"{level:g}", *cells))
        last = factor
    note = f"Bias ± SD against identity; F1; coverage of the combined interval. {len(FACTORS)} factors, both visits."
    return note + "\n\n" + as_markdown(("factor", "level", *methods), rows)


def _pct(value: float) -> str:
    return "" if np.isnan(value) else f"{100 * value:.1f} %"


def _signed(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:+.1f} %"
