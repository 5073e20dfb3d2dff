"""What a simulated blood sample and cytometer are made of: populations, antigens, dyes, detectors, one tube's settings.

Every number is an assumption, chosen to look like fixed and permeabilised PBMC on a conventional cytometer whose
scale ends at 262,144. Nothing here is shared with, or derived from, the rules that place gates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from tregflow.errors import TregflowError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Population(IntEnum):
    """What an event is: the identity behind its label, whatever its brightness."""

    DEBRIS = 0
    MONOCYTE = 1
    B = 2
    NK = 3
    CD8_T = 4
    DN_T = 5
    CD4_TCONV = 6
    CD4_TCONV_ACTIVATED = 7
    TREG = 8


CD4_T: Final = (Population.CD4_TCONV, Population.CD4_TCONV_ACTIVATED, Population.TREG)
T_CELLS: Final = (Population.CD8_T, Population.DN_T, *CD4_T)
LYMPHOCYTES: Final = (Population.B, Population.NK, *T_CELLS)

MARKERS: Final = ("Viability", "CD3", "CD4", "CD8", "CD25", "CD127", "FOXP3")
DETECTORS: Final = ("BV510-A", "APC-H7-A", "BV421-A", "BV605-A", "PE-Cy7-A", "APC-A", "PE-A")
CHANNELS: Final = (
    ("Time", ""),
    ("FSC-A", ""),
    ("FSC-H", ""),
    ("SSC-A", ""),
    *zip(DETECTORS, MARKERS, strict=True),
)
SCALE_MAX: Final = 262144
"""The end of the cytometer's scale; brighter signals are recorded one below it."""
TIMESTEP: Final = 0.01
"""Seconds per unit of the Time channel."""

# Rows are dyes, columns detectors, in the order of MARKERS and DETECTORS. Pairs measured on a real eight-colour panel
# keep their measured coefficients (PE-Cy7 to PE .037, APC-H7 to PE-Cy7 .128, APC to APC-H7 .179, ...); the others
# are plausible.
SPILLOVER: Final = np.array(
    [
        # BV510 APC-H7 BV421 BV605 PE-Cy7 APC   PE
        [1.000, 0.000, 0.031, 0.142, 0.002, 0.000, 0.004],  # viability dye, BV510
        [0.000, 1.000, 0.000, 0.000, 0.128, 0.011, 0.000],  # CD3, APC-H7
        [0.061, 0.000, 1.000, 0.008, 0.000, 0.000, 0.002],  # CD4, BV421
        [0.019, 0.003, 0.024, 1.000, 0.012, 0.006, 0.004],  # CD8, BV605
        [0.000, 0.060, 0.000, 0.003, 1.000, 0.002, 0.037],  # CD25, PE-Cy7
        [0.000, 0.179, 0.000, 0.004, 0.020, 1.000, 0.000],  # CD127, APC (AF647)
        [0.001, 0.000, 0.000, 0.052, 0.006, 0.000, 1.000],  # FOXP3, PE
    ]
)
SPILLOVER.flags.writeable = False

# Per detector, in the order of DETECTORS.
PHOTOELECTRONS_PER_UNIT: Final = (0.04, 0.03, 0.08, 0.05, 0.12, 0.06, 0.04)
ELECTRONIC_NOISE: Final = (30.0, 30.0, 25.0, 25.0, 25.0, 30.0, 25.0)
AUTOFLUORESCENCE: Final = (140.0, 25.0, 60.0, 50.0, 15.0, 20.0, 40.0)
LASER: Final = (0, 1, 0, 0, 2, 1, 2)
"""Violet, red, yellow-green: detectors of one laser share its fluctuation."""
LASER_NOISE_FRAC: Final = 0.02
# Per marker: what its antibody (or the dye) leaves on a live cell that does not carry the antigen.
NONSPECIFIC: Final = (120.0, 40.0, 40.0, 40.0, 30.0, 30.0, 110.0)
NONSPECIFIC_SIGMA: Final = 0.25

CD25_CUT: Final = 700.0
FOXP3_CUT: Final = 330.0
"""Where a cell's own specific signal (scale values, no noise) counts as positive: `Labels.cd25_positive`."""


@dataclass(frozen=True, slots=True)
class State:
    """One kind of cell: medians and log-normal sigmas of its scatter and of the antigens it carries.

    `antigens` maps a marker to (median specific signal in scale values, sigma of its natural logarithm);
    `foxp3_tail` is the mean of an exponential amount of FOXP3 added to it, which makes the shoulder.
    """

    population: Population
    fsc: float
    ssc: float
    antigens: dict[str, tuple[float, float]]
    foxp3_tail: float = 0.0
    fsc_sigma: float = 0.10
    ssc_sigma: float = 0.20
    autofluorescence: float = 1.0
    stickiness: float = 1.0


_CD3 = (14000.0, 0.22)
_CD4 = (16000.0, 0.18)
STATES: Final[dict[str, State]] = {
    "debris": State(Population.DEBRIS, 9000, 6000, {}, 0.0, 0.0, 0.7, 0.35, 0.5),
    "monocyte": State(
        Population.MONOCYTE,
        118000,
        68000,
        {"CD4": (1900, 0.35), "CD25": (90, 0.6), "CD3": (90, 0.5), "CD8": (70, 0.5)},
        0.0,
        0.11,
        0.19,
        3.2,
        2.2,
    ),
    "b": State(Population.B, 70000, 16500, {"CD25": (160, 0.8)}, 3.0),
    "nk": State(Population.NK, 78000, 20500, {"CD25": (40, 0.8)}, 3.0),
    "nk_cd8dim": State(Population.NK, 79000, 21000, {"CD8": (2600, 0.55), "CD25": (40, 0.8)}, 3.0),
    "cd8": State(Population.CD8_T, 75000, 18500, {"CD3": _CD3, "CD8": (14000, 0.3), "CD127": (2600, 0.5)}, 5.0),
    "cd8_effector": State(
        Population.CD8_T,
        77000,
        20500,
        {"CD3": (12500, 0.24), "CD8": (11000, 0.42), "CD127": (330, 0.7), "CD25": (35, 0.8)},
        6.0,
    ),
    "cd8_activated": State(
        Population.CD8_T,
        80000,
        20500,
        {"CD3": (12800, 0.24), "CD8": (12500, 0.35), "CD127": (900, 0.7), "CD25": (420, 1.0)},
        15.0,
    ),
    "cd8_cd25_foxp3": State(
        Population.CD8_T,
        82000,
        20500,
        {
            "CD3": (13000, 0.22),
            "CD8": (12500, 0.3),
            "CD127": (700, 0.6),
            "CD25": (2200, 0.5),
            "FOXP3": (900, 0.45),
        },
        20.0,
    ),
    "dn": State(Population.DN_T, 75000, 19000, {"CD3": (17500, 0.26), "CD8": (160, 1.0), "CD127": (1500, 0.7)}, 5.0),
    "naive": State(
        Population.CD4_TCONV, 73000, 17500, {"CD3": _CD3, "CD4": _CD4, "CD25": (110, 0.75), "CD127": (3600, 0.38)}, 6.0
    ),
    "memory": State(
        Population.CD4_TCONV,
        75000,
        18500,
        {"CD3": _CD3, "CD4": (17000, 0.19), "CD25": (430, 0.7), "CD127": (3300, 0.5)},
        10.0,
    ),
    "activated": State(
        Population.CD4_TCONV_ACTIVATED,
        81000,
        20000,
        {"CD3": (12800, 0.24), "CD4": (16500, 0.2), "CD25": (1500, 0.6), "CD127": (1700, 0.6)},
        44.0,
    ),
    "treg_resting": State(
        Population.TREG,
        74000,
        18000,
        {"CD3": (13200, 0.22), "CD4": (15200, 0.18), "CD25": (2700, 0.6), "CD127": (620, 0.5), "FOXP3": (1000, 0.54)},
        10.0,
    ),
    "treg_effector": State(
        Population.TREG,
        77000,
        18500,
        {"CD3": (12800, 0.22), "CD4": (15000, 0.19), "CD25": (5200, 0.48), "CD127": (330, 0.6), "FOXP3": (2000, 0.5)},
        10.0,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TubeParams:
    """Settings of one simulated tube. Fractions are 0 to 1; folds are multipliers, 1 = no effect.

    Exactly one of `n_lymphocytes` (true viable single lymphocytes) and `n_events` (all events) is given.

    `treg_of_lymphocytes` is the baseline fraction, `treg_fold` the drug's effect on it; the composition of the other
    lymphocytes is not changed by it (`cd3_of_lymphocytes` and `cd4_of_cd3` include the Treg cells).
    `cd25_separation` and `foxp3_separation` multiply the brightness of Treg cells (1 = clear). Drug effects on
    brightness: `treg_cd25_fold`, `treg_foxp3_fold` on Treg cells only; `cd4_cd25_fold`, `cd4_foxp3_fold` on all CD4 T
    cells, Treg included. `cd8_positive_frac` of the CD8 T cells carry CD25 and FOXP3.

    Debris, monocytes, doublets and dead cells are fractions of all events. `gain` multiplies every fluorescence
    detector; `gain_drift` is the relative change of the gain from the first event to the last, centred on the
    middle. `spillover_error` is the relative standard deviation between the written spillover and the true one;
    tubes with the same `spillover_seed` are written with the same one.
    `clog` is (begin, end) as fractions of the acquisition: few events pass and their signals are weak and ragged.

    `stained` lists the markers whose antibody or dye is in the tube. With `surrogate`, dim markers (CD25, CD127,
    FOXP3) are replaced by a CD4 antibody in the same dye, as laboratories do for single stains.
    """

    n_lymphocytes: int | None = 24_000
    n_events: int | None = None
    cd3_of_lymphocytes: float = 0.68
    cd4_of_cd3: float = 0.52
    nk_of_lymphocytes: float = 0.13
    treg_of_lymphocytes: float = 0.011
    activated_of_tconv: float = 0.06
    memory_of_tconv: float = 0.45
    debris_frac: float = 0.13
    monocyte_frac: float = 0.11
    doublet_frac: float = 0.04
    dead_frac: float = 0.05
    cd25_separation: float = 1.0
    foxp3_separation: float = 1.0
    treg_fold: float = 1.0
    treg_cd25_fold: float = 1.0
    treg_foxp3_fold: float = 1.0
    cd4_cd25_fold: float = 1.0
    cd4_foxp3_fold: float = 1.0
    cd8_positive_frac: float = 0.0
    gain: float = 1.0
    gain_drift: float = 0.0
    spillover_error: float = 0.0
    spillover_seed: int = 0
    clog: tuple[float, float] | None = None
    events_per_second: float = 900.0
    stained: tuple[str, ...] = MARKERS
    surrogate: bool = False

    def __post_init__(self) -> None:
        problems = [*_range_problems(self), *_joint_problems(self)]
        if problems:
            raise TregflowError("SIMULATE_PARAMETER", "impossible tube: " + "; ".join(problems) + ".")


def _range_problems(params: TubeParams) -> list[str]:
    """List settings that are impossible on their own."""
    problems = []
    for field in fields(params):
        value = getattr(params, field.name)
        if field.name.endswith(("_frac", "_of_lymphocytes", "_of_cd3", "_of_tconv")) and not 0 <= value <= 1:
            problems.append(f"{field.name} must be 0 to 1, found {value!r}")
        if field.name.endswith(("_fold", "_separation", "_per_second", "gain")) and not 0 < value < np.inf:
            problems.append(f"{field.name} must be positive, found {value!r}")
    if not abs(params.gain_drift) < 1:
        problems.append(f"gain_drift must be between -1 and 1, found {params.gain_drift!r}")
    if not 0 <= params.spillover_error < 1:
        problems.append(f"spillover_error must be 0 to 1, found {params.spillover_error!r}")
    return problems


def _joint_problems(params: TubeParams) -> list[str]:
    """List settings that do not go together."""
    problems = []
    if (params.n_lymphocytes is None) == (params.n_events is None):
        problems.append("give exactly one of n_lymphocytes and n_events")
    elif (params.n_lymphocytes or params.n_events or 0) < 1:
        problems.append("n_lymphocytes or n_events must be at least 1")
    if params.cd3_of_lymphocytes + params.nk_of_lymphocytes > 1:
        problems.append("cd3_of_lymphocytes and nk_of_lymphocytes exceed 1 together")
    if params.treg_of_lymphocytes * params.treg_fold > params.cd3_of_lymphocytes * params.cd4_of_cd3:
        problems.append("more Treg cells than CD4 T cells")
    if params.memory_of_tconv + params.activated_of_tconv > 1:
        problems.append("memory_of_tconv and activated_of_tconv exceed 1 together")
    if lymphocyte_share(params) < 0.05:
        problems.append("debris, monocytes, doublets and dead cells leave less than 5 % of the events")
    if params.clog is not None and not 0 <= params.clog[0] < params.clog[1] <= 1:
        problems.append(f"clog must be (begin, end) within 0 to 1, found {params.clog!r}")
    unknown = sorted(set(params.stained) - set(MARKERS))
    if unknown:
        problems.append(f"unknown markers in stained: {', '.join(unknown)}; known are {', '.join(MARKERS)}")
    return problems


def lymphocyte_share(params: TubeParams) -> float:
    """Viable single lymphocytes as a fraction of all events."""
    return 1 - params.debris_frac - params.monocyte_frac - params.doublet_frac - params.dead_frac


def lymphocyte_mix(params: TubeParams) -> dict[str, float]:
    """Share of each lymphocyte state among lymphocytes; sums to 1."""
    cd3 = params.cd3_of_lymphocytes
    cd4 = cd3 * params.cd4_of_cd3
    treg = params.treg_of_lymphocytes * params.treg_fold
    tconv = cd4 - treg
    cd8 = (cd3 - cd4) * 0.92
    cd8_other = cd8 * (1 - params.cd8_positive_frac)
    nk = params.nk_of_lymphocytes
    return {
        "b": 1 - cd3 - nk,
        "nk": nk * 0.65,
        "nk_cd8dim": nk * 0.35,
        "cd8": cd8_other * 0.62,
        "cd8_effector": cd8_other * 0.34,
        "cd8_activated": cd8_other * 0.04,
        "cd8_cd25_foxp3": cd8 * params.cd8_positive_frac,
        "dn": (cd3 - cd4) * 0.08,
        "naive": tconv * (1 - params.memory_of_tconv - params.activated_of_tconv),
        "memory": tconv * params.memory_of_tconv,
        "activated": tconv * params.activated_of_tconv,
        "treg_resting": treg * 0.4,
        "treg_effector": treg * 0.6,
    }


def written_spillover(params: TubeParams) -> NDArray[np.float64]:
    """Return the spillover matrix a tube carries: the true one, or one with relative errors, to 6 decimals."""
    rng = np.random.Generator(np.random.PCG64(params.spillover_seed))
    error = rng.standard_normal(SPILLOVER.shape) * params.spillover_error
    matrix = np.round(SPILLOVER * (1 + error), 6)
    np.fill_diagonal(matrix, 1.0)
    return matrix
