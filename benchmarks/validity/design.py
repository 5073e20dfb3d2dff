"""The designed experiment: which factors, which levels, and the two tubes of every subject.

The design is a rank-1 lattice with a prime number of subjects: every level of a factor is met equally often (to within
one subject), and the lattice's generator is the one with the least correlation between any two factors. It is pure
arithmetic, so it is the same on every machine. Two seed sets are kept apart: what is tuned is tuned on one, and what is
reported comes from the other, with other subjects (a shifted lattice) and other cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from tregflow.simulate import TubeParams, positive_of_lymphocytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

SeedSet = Literal["tuning", "reporting"]

# 3,200,002 and 3,400,004 reported earlier versions of the rule and were looked at: they report nothing any more
TUNING_SEED: Final = 3_100_001
REPORTING_SEED: Final = 3_500_005
SEEDS: Final[dict[SeedSet, int]] = {"tuning": TUNING_SEED, "reporting": REPORTING_SEED}

N_SUBJECTS: Final = 907
"""Prime, for the lattice; two visits each."""

VISITS: Final = ("baseline", "week 12")

FACTORS: Final[dict[str, tuple[float, ...]]] = {
    "treg_pct": (0.3, 0.8, 2.0, 4.5),
    "treg_fold": (1.0, 1.35, 1.75),
    "n_lymphocytes": (3_000, 8_000, 20_000, 60_000, 200_000),
    "cd25_separation": (1.5, 1.0, 0.7, 0.45),
    "foxp3_separation": (1.5, 1.0, 0.7, 0.45),
    "gain_drift_pct": (-15, -10, -5, 0, 5, 10, 15),
    "spillover_error_pct": (0, 5, 10),
    "treg_cd25_fold": (1.0, 1.5, 2.0),
    "treg_foxp3_fold": (1.0, 1.5, 2.0),
    "cd4_cd25_fold": (1.0, 1.5, 2.0),
    "cd4_foxp3_fold": (1.0, 1.5, 2.0),
    "activated_pct_of_tconv": (2, 6, 15),
    "reference_positive_pct": (0, 5, 15, 30),
    "debris_pct": (5, 15, 30),
    "dead_pct": (2, 8, 20),
    "monocyte_pct": (3, 10, 20),
}
"""By factor its levels. Percentages of debris, dead cells and monocytes are of all events, those of Treg cells of
lymphocytes at baseline; times `treg_fold` they reach 7.9 % at week 12. Gain drift, the folds and the CD25 and FOXP3 of
the reference population (`reference_positive_pct` of the CD3+CD4- cells) belong to week 12, all else to both visits."""

WORDS: Final[dict[str, str]] = {
    "treg_pct": "Treg at baseline, % of lymphocytes",
    "treg_fold": "true fold of Treg at week 12",
    "n_lymphocytes": "lymphocytes",
    "cd25_separation": "CD25 separation (1.5 clear, 0.45 overlapping)",
    "foxp3_separation": "FOXP3 separation (1.5 clear, 0.45 overlapping)",
    "gain_drift_pct": "gain drift to week 12, %",
    "spillover_error_pct": "spillover error, %",
    "treg_cd25_fold": "CD25 brightening, Treg",
    "treg_foxp3_fold": "FOXP3 brightening, Treg",
    "cd4_cd25_fold": "CD25 brightening, all CD4",
    "cd4_foxp3_fold": "FOXP3 brightening, all CD4",
    "activated_pct_of_tconv": "activated CD25+FOXP3-, % of Tconv",
    "reference_positive_pct": "CD25+FOXP3+ in the reference at week 12, %",
    "debris_pct": "debris, %",
    "dead_pct": "dead cells, %",
    "monocyte_pct": "monocytes, %",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject: the levels of its factors, and the settings and seeds of its baseline and week-12 tubes."""

    id: str
    levels: dict[str, float]
    tubes: tuple[TubeParams, TubeParams]
    seeds: tuple[np.random.SeedSequence, np.random.SeedSequence]

    def generating_pct(self, visit: int) -> float:
        """The probability, in percent, that a lymphocyte of the tube is a Treg cell."""
        tube = self.tubes[visit]
        return 100 * tube.treg_of_lymphocytes * tube.treg_fold

    def positive_generating_pct(self, visit: int) -> float:
        """The probability, in percent, that a lymphocyte is CD4+ and an ideal cut calls it CD25+FOXP3+."""
        return 100 * positive_of_lymphocytes(self.tubes[visit])


def make_design(seed_set: SeedSet, n_subjects: int = N_SUBJECTS) -> tuple[Subject, ...]:
    """The subjects of a seed set; `n_subjects` must be prime."""
    levels = design_levels(n_subjects, SEEDS[seed_set])
    names = list(FACTORS)
    return tuple(
        _subject(f"{seed_set[0].upper()}{number:03d}", SEEDS[seed_set], number, dict(zip(names, row, strict=True)))
        for number, row in enumerate(levels.tolist(), start=1)
    )


def design_levels(n: int, seed: int) -> NDArray[np.float64]:
    """The level of each factor (columns, in the order of `FACTORS`) for each of `n` subjects."""
    points = _lattice(n, _generator(n), _shift(seed))
    columns = [np.array(levels)[_level(points[:, at], levels)] for at, levels in enumerate(FACTORS.values())]
    return np.stack(columns, axis=1)


def _lattice(n: int, generator: int, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """`n` points in the unit cube: point i is `i * (1, a, a^2, ...) / n`, modulo 1, shifted."""
    powers = [pow(generator, at, n) for at in range(len(FACTORS))]
    points = np.outer(np.arange(n), powers) % n
    return (points / n + shift) % 1.0


def _shift(seed: int) -> NDArray[np.float64]:
    return np.random.Generator(np.random.PCG64(seed)).random(len(FACTORS))


def _level(column: NDArray[np.float64], levels: tuple[float, ...]) -> NDArray[np.intp]:
    return np.minimum((column * len(levels)).astype(np.intp), len(levels) - 1)


@lru_cache(maxsize=4)
def _generator(n: int) -> int:
    """The generator whose unshifted design has the least correlation between any two factors."""

    def worst(generator: int) -> float:
        points = _lattice(n, generator, np.full(len(FACTORS), 0.5 / n))
        ranks = np.stack([_level(points[:, at], levels) for at, levels in enumerate(FACTORS.values())])
        correlations = np.abs(np.corrcoef(ranks)) - np.eye(len(FACTORS))
        return float(correlations.max())

    return min(range(2, n - 1), key=lambda generator: (round(worst(generator), 9), generator))


def _subject(name: str, seed: int, number: int, levels: dict[str, float]) -> Subject:
    """What is a subject's own besides the factors (composition, gain of the day) is drawn around usual values."""
    root = np.random.SeedSequence(seed, spawn_key=(number,))
    own, first, second = root.spawn(3)
    rng = np.random.Generator(np.random.PCG64(own))
    cd3, cd4, nk, memory, gain = rng.standard_normal(5)
    common = {
        "n_lymphocytes": int(levels["n_lymphocytes"]),
        "cd3_of_lymphocytes": float(np.clip(0.68 + 0.05 * cd3, 0.55, 0.80)),
        "cd4_of_cd3": float(np.clip(0.52 + 0.05 * cd4, 0.40, 0.66)),
        "nk_of_lymphocytes": float(np.clip(0.13 + 0.03 * nk, 0.07, 0.18)),
        "memory_of_tconv": float(np.clip(0.45 + 0.06 * memory, 0.3, 0.6)),
        "treg_of_lymphocytes": levels["treg_pct"] / 100,
        "activated_of_tconv": levels["activated_pct_of_tconv"] / 100,
        "debris_frac": levels["debris_pct"] / 100,
        "dead_frac": levels["dead_pct"] / 100,
        "monocyte_frac": levels["monocyte_pct"] / 100,
        "cd25_separation": levels["cd25_separation"],
        "foxp3_separation": levels["foxp3_separation"],
        "spillover_error": levels["spillover_error_pct"] / 100,
        "spillover_seed": seed + number,
    }
    gain_of_day = float(np.exp(0.03 * gain))
    baseline = TubeParams(**common, gain=gain_of_day)
    week_12 = TubeParams(
        **common,
        gain=gain_of_day * (1 + levels["gain_drift_pct"] / 100),
        treg_fold=levels["treg_fold"],
        treg_cd25_fold=levels["treg_cd25_fold"],
        treg_foxp3_fold=levels["treg_foxp3_fold"],
        cd4_cd25_fold=levels["cd4_cd25_fold"],
        cd4_foxp3_fold=levels["cd4_foxp3_fold"],
        # CD8 T cells are 92 % of the simulated CD3+CD4- cells
        cd8_positive_frac=levels["reference_positive_pct"] / 92,
    )
    return Subject(name, levels, (baseline, week_12), (first, second))
