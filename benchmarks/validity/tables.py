"""From rows to tables: by method, by level of every factor, by drift level, and the aims."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.validity.design import FACTORS, VISITS
from benchmarks.validity.metrics import pooled_change_bias
from benchmarks.validity.study import BEFORE, METHODS, OURS, VALLEY, Result, Row

Mask = NDArray[np.bool_]

AIM_ERROR: Final = 0.04
AIM_CHANGE: Final = 0.05
AIM_TIMES_VALLEY: Final = 3.0
AIM_COUNTING: Final = (0.93, 0.97)
AIM_COMBINED: Final = 0.90
TRUTHS: Final = {"identity_pct": "against identity", "positive_pct": "against marker-positive"}
ENOUGH_SENSITIVITY: Final = 0.97
LARGE_ERROR: Final = 0.25
SEPARATED: Final = 0.99
"""A tube is separated where some pair of cuts reaches this F1: hardly a cell is on the wrong side of them."""
LESS_SEPARATED: Final = 0.95
FEW_LYMPHOCYTES: Final = 20_000
ENOUGH_TUBES: Final = 20
"""A level with fewer tubes says nothing about a coverage of 90 %."""
DRIFTS: Final = FACTORS["gain_drift_pct"]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of one method as arrays: tubes in the order of the design, a subject's two visits together."""

    values: Mapping[str, NDArray[np.float64]]
    codes: tuple[str, ...]
    levels: Mapping[str, NDArray[np.float64]]
    visits: tuple[str, ...]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """A column."""
        return self.values[name]

    @property
    def evaluable(self) -> Mask:
        """Which tubes have a number."""
        return np.isfinite(self["estimate_pct"])

    def error(self, truth: str = "identity_pct") -> NDArray[np.float64]:
        """Relative error against the labels; NaN where there is no number or no true cell."""
        true = self[truth]
        return np.divide(self["estimate_pct"] - true, true, out=np.full(true.shape, np.nan), where=true > 0)

    @property
    def flagged(self) -> Mask:
        """Which tubes have a finding or an error."""
        return np.array([bool(code) for code in self.codes])

    def covered(self, interval: str, truth_column: str = "generating_pct") -> Mask:
        """Whose interval (`count` or `combined`) holds the generating probability."""
        truth = self[truth_column]
        return (self[f"{interval}_low"] <= truth) & (truth <= self[f"{interval}_high"])


def sheets(result: Result) -> dict[str, Sheet]:
    """A sheet per method."""
    levels = {subject.id: subject.levels for subject in result.subjects}
    found = {}
    for method in METHODS:
        rows = [row for row in result.rows if row.method == method]
        numbers = [name for name in Row._fields if name not in {"subject", "visit", "method", "codes"}]
        found[method] = Sheet(
            {name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in numbers},
            tuple(row.codes for row in rows),
            {factor: np.array([levels[row.subject][factor] for row in rows], dtype=np.float64) for factor in FACTORS},
            tuple(row.visit for row in rows),
        )
    return found


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(sheet: Sheet, mask: Mask) -> dict[str, float]:
    """The figures of a method over some tubes; fractions and relative errors, NaN without tubes."""
    good = mask & sheet.evaluable
    error, positive = sheet.error()[good], sheet.error("positive_pct")[good]
    large = np.abs(error) > LARGE_ERROR
    return {
        "n_tubes": float(mask.sum()),
        "n_evaluable": float(good.sum()),
        "median_abs_error": _or_nan(np.nanmedian, np.abs(error)),
        "bias": _or_nan(np.nanmean, error),
        "sd": _or_nan(np.nanstd, error),
        "bias_vs_positive": _or_nan(np.nanmean, positive),
        "sd_vs_positive": _or_nan(np.nanstd, positive),
        "f1": _or_nan(np.mean, sheet["f1"][good]),
        "coverage_count": _or_nan(np.mean, sheet.covered("count")[good]),
        "coverage_combined": _or_nan(np.mean, sheet.covered("combined")[good]),
        "failures_declared": float((mask & ~sheet.evaluable).sum()),
        "large_errors": float(large.sum()),
        "large_errors_declared": float((large & sheet.flagged[good]).sum()),
        "large_errors_missed": float((large & ~sheet.flagged[good]).sum()),
        "review_frac": _or_nan(np.mean, sheet.flagged[good]),
    }


def _or_nan(of: Callable[[NDArray[np.float64]], np.floating], values: NDArray[np.float64]) -> float:
    return float(of(values)) if values.size and not np.isnan(values).all() else math.nan


@dataclass(frozen=True, slots=True)
class Bias:
    """Bias of a mean change relative to the true one, its standard error over subjects, and how many there are."""

    bias: float
    se: float
    n: int


def change_bias(sheet: Sheet, subjects: Mask, truth: str = "identity_pct") -> list[Bias]:
    """Bias of the week-12 change by drift level."""
    estimate, true = sheet["estimate_pct"], sheet[truth]
    change, true_change = estimate[1::2] - estimate[::2], true[1::2] - true[::2]
    drift = sheet.levels["gain_drift_pct"][::2]
    able = subjects & np.isfinite(change)
    groups = [able & (drift == level) for level in DRIFTS]
    return [Bias(*pooled_change_bias(change[g], true_change[g]), int(g.sum())) for g in groups]


def sensitive_subjects(sheet: Sheet) -> Mask:
    """The subjects whose change is judged: both visits have a number, baseline sensitivity is high enough."""
    good = sheet.evaluable
    return good[::2] & good[1::2] & (np.nan_to_num(sheet["sensitivity"][::2]) >= ENOUGH_SENSITIVITY)


# --- aims -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aim:
    """One aim of the study, what was found, whether it is met, and by how much it is missed."""

    name: str
    limit: str
    found: str
    met: bool
    missed_by: str = ""
    judged: bool = True

    @property
    def verdict(self) -> str:
        """What the tables say of it."""
        return ("met" if self.met else "missed") if self.judged else "reported"


def aims(found: Mapping[str, Sheet], method: str) -> tuple[Aim, ...]:
    """The aims of the study for one method."""
    sheet = found[method]
    everything = figures(sheet, np.ones(len(sheet.codes), dtype=bool))
    return (
        _at_most("median absolute relative error against the labels", everything["median_abs_error"], AIM_ERROR),
        _change_aim(sheet, "positive_pct"),
        _valley_aim(sheet, found[VALLEY], "positive_pct"),
        _counting_aim(sheet),
        _combined_aim(sheet),
        _missed_aim(int(everything["large_errors_missed"]), int(everything["large_errors"])),
    )


def reported(found: Mapping[str, Sheet], method: str) -> tuple[Aim, ...]:
    """What stands beside the aims and is not judged: the other truth, and where the drug leaves conventional cells."""
    sheet, valley = found[method], found[VALLEY]
    unmoved = (sheet.levels["cd4_foxp3_fold"] == 1) & (sheet.levels["cd4_cd25_fold"] == 1)
    rows = (
        _change_aim(sheet, "identity_pct"),
        _valley_aim(sheet, valley, "identity_pct"),
        _scatter(sheet, valley),
        _counting_aim(sheet, "positive_generating_pct"),
        _unmoved_change(sheet, unmoved),
        _unmoved_coverage(sheet, sheet.levels["cd4_foxp3_fold"] == 1),
    )
    return tuple(replace(row, judged=False, missed_by="") for row in rows)


def _scatter(sheet: Sheet, valley: Sheet) -> Aim:
    """The SD over subjects of the error of the change, in percentage points: ours beside the valley's."""
    subjects = sensitive_subjects(sheet) & valley.evaluable[::2] & valley.evaluable[1::2]
    drift = sheet.levels["gain_drift_pct"][::2]
    texts, ratios = [], []
    for level in DRIFTS:
        spreads = []
        for each in (sheet, valley):
            off = each["estimate_pct"] - each["positive_pct"]
            error = (off[1::2] - off[::2])[subjects & (drift == level)]
            spreads.append(float(np.std(error, ddof=1)) if error.size > 1 else math.nan)
        ratios.append(spreads[1] / spreads[0] if spreads[0] else math.nan)
        if not math.isnan(spreads[0]):
            texts.append(f"{level:+g} %: {spreads[0]:.2f} against {spreads[1]:.2f}")
    name = "SD of the error of the week-12 change against the valley's, same subjects, points, against marker-positive"
    least = min((r for r in ratios if not math.isnan(r)), default=None)
    text = "too few subjects" if least is None else f"{', '.join(texts)}; at least {least:.1f} x smaller"
    return Aim(name, "", text, met=False)


def _unmoved_change(sheet: Sheet, unmoved: Mask) -> Aim:
    subjects = sensitive_subjects(sheet) & unmoved[::2]
    estimate, true = ((sheet[name][1::2] - sheet[name][::2])[subjects] for name in ("estimate_pct", "identity_pct"))
    bias = Bias(*pooled_change_bias(estimate, true), estimate.size)
    name = "bias of the week-12 change, all drift levels, no brightening of conventional CD4 cells, against identity"
    return Aim(name, f"within {AIM_CHANGE:.0%}", _told(bias), met=False)


def _unmoved_coverage(sheet: Sheet, unmoved: Mask) -> Aim:
    few = sheet.evaluable & (sheet.levels["n_lymphocytes"] <= FEW_LYMPHOCYTES) & unmoved
    covered = sheet.covered("count")[few & (sheet["separable"] >= SEPARATED)]
    text = f"{_or_nan(np.mean, covered.astype(float)):.1%} (n={covered.size})"
    name = "counting interval covers the generating probability, separated, no brightening of conventional FOXP3"
    return Aim(name, f"{AIM_COUNTING[0]:.0%} to {AIM_COUNTING[1]:.0%}", text, met=False)


def _at_most(name: str, value: float, limit: float) -> Aim:
    met = value <= limit
    return Aim(name, f"<= {limit:.0%}", f"{value:.1%}", met, "" if met else f"{100 * (value - limit):.1f} points")


def _change_aim(sheet: Sheet, truth: str) -> Aim:
    """A drift level without a subject is said to have none, and is not judged."""
    name = f"bias of the week-12 change at every drift level, baseline sensitivity >= 0.97, {TRUTHS[truth]}"
    biases = change_bias(sheet, sensitive_subjects(sheet), truth)
    text = ", ".join(f"{drift:+g} %: {_told(found)}" for drift, found in zip(DRIFTS, biases, strict=True))
    worst = max((abs(found.bias) for found in biases if not math.isnan(found.bias)), default=math.inf)
    met = worst <= AIM_CHANGE
    return Aim(name, f"within {AIM_CHANGE:.0%}", text, met, "" if met else f"{100 * (worst - AIM_CHANGE):.1f} points")


def _told(found: Bias) -> str:
    if math.isnan(found.bias):
        return "no subject"
    error = "" if math.isnan(found.se) else f" ± {found.se:.1%}"
    return f"{found.bias:+.1%}{error} (n={found.n})"


def _valley_aim(sheet: Sheet, valley: Sheet, truth: str) -> Aim:
    name = f"that bias against the per-tube valley's, same subjects, at every drift level, {TRUTHS[truth]}"
    limit = f">= {AIM_TIMES_VALLEY:g} x smaller"
    subjects = sensitive_subjects(sheet)
    ours, theirs = (np.abs([b.bias for b in change_bias(s, subjects, truth)]) for s in (sheet, valley))
    both = np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        return Aim(name, limit, "no subject", met=False, missed_by="nothing to judge")
    ours, theirs = ours[both], theirs[both]
    times = np.divide(theirs, ours, out=np.full(ours.shape, np.inf), where=ours > 0)
    n_met = int((times >= AIM_TIMES_VALLEY).sum())
    text = f"{n_met} of {len(times)} levels; mean absolute bias {np.mean(ours):.1%} against {np.mean(theirs):.1%}"
    met = n_met == len(times)
    return Aim(name, limit, text, met, "" if met else f"worst level {float(times.min()):.1f} x")


def _counting_aim(sheet: Sheet, truth: str = "generating_pct") -> Aim:
    few = sheet.evaluable & (sheet.levels["n_lymphocytes"] <= FEW_LYMPHOCYTES)
    parts = []
    for separable in (SEPARATED, LESS_SEPARATED):
        covered = sheet.covered("count", truth)[few & (sheet["separable"] >= separable)]
        parts.append((separable, _or_nan(np.mean, covered.astype(float)), covered.size))
    value = parts[0][1]
    low, high = AIM_COUNTING
    met = low <= value <= high
    missed = "" if met else f"{100 * max(low - value, value - high):.1f} points"
    text = "; ".join(f"{each:.1%} where the best F1 >= {separable:g} (n={n})" for separable, each, n in parts)
    what = "generating probability" if truth == "generating_pct" else "generating probability of marker-positive"
    name = f"counting interval covers the {what}, separated tubes of up to 20,000 lymphocytes"
    return Aim(name, f"{low:.0%} to {high:.0%}", text, met, missed)


def _combined_aim(sheet: Sheet) -> Aim:
    found = {"all tubes": float(np.mean(sheet.covered("combined")[sheet.evaluable]))}
    for factor, level, mask in levels_of(sheet):
        good = mask & sheet.evaluable
        if good.sum() >= ENOUGH_TUBES:
            found[f"{factor} = {level:g}"] = float(np.mean(sheet.covered("combined")[good]))
    n_below = sum(value < AIM_COMBINED for value in found.values())
    worst = min(found, key=lambda name: found[name])
    text = f"{found['all tubes']:.1%} of all; worst {worst}: {found[worst]:.1%}; {n_below} of {len(found)} below"
    missed = f"{100 * (AIM_COMBINED - found[worst]):.1f} points" if n_below else ""
    name = "combined interval covers it, over all and at every level of every factor"
    return Aim(name, f">= {AIM_COMBINED:.0%}", text, n_below == 0, missed)


def _missed_aim(n_missed: int, n_large: int) -> Aim:
    text = f"{n_missed} without, of {n_large} tubes with such an error"
    return Aim(
        "tubes with an error above 25 % and no finding", "0", text, n_missed == 0, f"{n_missed}" if n_missed else ""
    )


def levels_of(sheet: Sheet) -> Iterator[tuple[str, float, Mask]]:
    """Every factor and level with the tubes that are at it."""
    for factor, levels in FACTORS.items():
        for level in levels:
            yield factor, level, sheet.levels[factor] == level


# --- tables -----------------------------------------------------------------------------------------------------------

Table = tuple[tuple[str, ...], list[tuple[object, ...]]]


def methods_table(found: Mapping[str, Sheet]) -> Table:
    """One row per method and visit (and both)."""
    rows = []
    names: tuple[str, ...] = ()
    for method, sheet in found.items():
        for visit in ("both", *VISITS):
            mask = np.array([visit in {"both", v} for v in sheet.visits])
            values = figures(sheet, mask)
            names = tuple(values)
            rows.append((method, visit, *(_number(v) for v in values.values())))
    return ("method", "visit", *names), rows


def levels_table(found: Mapping[str, Sheet]) -> Table:
    """One row per method, factor and level, both visits."""
    rows = []
    names: tuple[str, ...] = ()
    for method, sheet in found.items():
        for factor, level, mask in levels_of(sheet):
            values = figures(sheet, mask)
            names = tuple(values)
            rows.append((method, factor, f"{level:g}", *(_number(v) for v in values.values())))
    return ("method", "factor", "level", *names), rows


def change_table(found: Mapping[str, Sheet]) -> Table:
    """Bias of the week-12 change by method and drift level: over all subjects, and over those that are judged."""
    rows = []
    for method, sheet in found.items():
        everyone = np.ones(len(sheet.codes) // 2, dtype=bool)
        for truth in ("identity_pct", "positive_pct"):
            judged = change_bias(sheet, sensitive_subjects(sheet), truth)
            for drift, a, b in zip(DRIFTS, change_bias(sheet, everyone, truth), judged, strict=True):
                figures_of = (_number(a.bias), _number(a.se), a.n, _number(b.bias), _number(b.se), b.n)
                rows.append((method, truth.removesuffix("_pct"), f"{drift:g}", *figures_of))
    names = (
        "method",
        "truth",
        "gain_drift_pct",
        "bias",
        "se",
        "n_subjects",
        "bias_sensitive",
        "se_sensitive",
        "n_sensitive",
    )
    return names, rows


def aims_table(found: Mapping[str, Sheet]) -> Table:
    """The aims for the released template and for the version before it."""
    rows: list[tuple[object, ...]] = [
        (method, aim.name, aim.limit, aim.found, aim.verdict, aim.missed_by)
        for method in (OURS, BEFORE)
        for aim in (*aims(found, method), *reported(found, method))
    ]
    return ("method", "aim", "limit", "found", "verdict", "missed_by"), rows


def as_csv(table: Table) -> str:
    """The table as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table[0])
    writer.writerows(table[1])
    return text.getvalue()


def _number(value: float) -> str:
    """Four decimals are more than the study can tell, and stay the same on every machine."""
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.4f}"


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
