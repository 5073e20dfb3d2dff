"""A simulated batch on disk: FCS files, `manifest.csv`, `study.toml`, `truth.csv` and a README that says what it is.

Levels, spreads and effect sizes are loosely anchored on published values (Treg of lymphocytes around 1 % with a
coefficient of variation of 40 % between subjects and 14 % within, a rise of about 1.7 times at week 12); they
reproduce no trial. Each tube's stream of random numbers hangs on the batch's seed and the tube's file name alone, so a
tube stays the same whatever else is in the batch, and its labels are had again by simulating it again.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from statistics import NormalDist
from typing import Final

import numpy as np

from tregflow.errors import TregflowError
from tregflow.fcs import write_fcs
from tregflow.simulate.model import DETECTORS, MARKERS, SCALE_MAX, TIMESTEP, TubeParams
from tregflow.simulate.tube import SimulatedTube, TubeTruth, simulate_tube

SAMPLE_SEED: Final = 20240312
"""The seed of the batch in `sample_fcs/`: chosen for its subjects (a non-responder, and mean folds as specified)."""
MANIFEST_COLUMNS: Final = (
    "file",
    "subject_id",
    "visit",
    "role",
    "collected_at",
    "batch_id",
    "replicate",
    "compensation",
    "lymphocytes_per_ul",
    "comment",
)
_TRUTH_COLUMNS: Final = (
    "file",
    "n_events",
    "n_lymphocytes",
    "n_cd3",
    "n_cd4",
    "n_treg",
    "treg_pct_of_lymphocytes",
    "treg_pct_of_cd4",
)
_FIRST_BASELINE: Final = datetime(2024, 3, 4, 8, 40)  # noqa: DTZ001 - a wall clock in a manifest has no zone
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitSpec:
    """A planned visit and what the drug does by then.

    `fold` is the geometric mean of the fold of the Treg frequency and `fold_sigma` its spread (natural logarithm)
    between subjects; the other folds are those of `TubeParams`, and `nk_fold` that of the NK cells.
    """

    name: str
    week: int
    fold: float = 1.0
    fold_sigma: float = 0.0
    treg_cd25_fold: float = 1.0
    treg_foxp3_fold: float = 1.0
    cd4_cd25_fold: float = 1.0
    cd4_foxp3_fold: float = 1.0
    nk_fold: float = 1.0


BASELINE: Final = VisitSpec(name="BL", week=0)
WEEK_12: Final = VisitSpec(
    name="W12",
    week=12,
    fold=1.7,
    fold_sigma=0.35,
    treg_cd25_fold=1.2,
    treg_foxp3_fold=1.12,
    cd4_cd25_fold=1.05,
    cd4_foxp3_fold=1.02,
    nk_fold=1.15,
)
WEEK_24: Final = VisitSpec(name="W24", week=24, fold=1.1, fold_sigma=0.15, treg_cd25_fold=1.04, treg_foxp3_fold=1.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """What to simulate: subjects `S01`, `S02`, ... at these visits, one batch (`B01`, ...) per subject.

    `tube` holds the settings shared by all tubes (separation, clog, drift, ...); composition, Treg frequency and drug
    effects are drawn around it. `treg_median` and `treg_sigma` describe the baseline Treg fraction of lymphocytes
    (log-normal between subjects, kept within `treg_range`), `visit_sigma` the noise of later visits. The first batch
    also gets the unstained tube and the single stains.
    """

    n_subjects: int = 3
    visits: tuple[VisitSpec, ...] = (BASELINE, WEEK_12, WEEK_24)
    tube: TubeParams = field(default_factory=TubeParams)
    treg_median: float = 0.0115
    treg_sigma: float = 0.385
    treg_range: tuple[float, float] = (0.0090, 0.0160)
    visit_sigma: float = 0.144
    batch_gain_sigma: float = 0.03
    fmo_markers: tuple[str, ...] = ("FOXP3", "CD25")
    n_fmo_events: int = 12_500
    n_single_events: int = 4_000

    def __post_init__(self) -> None:
        names = [visit.name for visit in self.visits]
        if self.n_subjects < 1 or not names or len(set(names)) != len(names):
            raise TregflowError(
                "SIMULATE_PARAMETER",
                f"a batch needs at least one subject and differently named visits, found {self.n_subjects} subjects "
                f"and visits {', '.join(names) or 'none'}.",
            )
        if odd := [name for name in names if not re.fullmatch(r"[A-Z]+\d*", name)]:
            raise TregflowError(
                "SIMULATE_PARAMETER",
                f"visits go into file names: capital letters, then digits, expected; found {', '.join(odd)}.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TubePlan:
    """One file of a batch: its manifest row, and the settings and seed that make it."""

    file: str
    subject_id: str
    visit: str
    role: str
    collected_at: datetime | None
    batch_id: str
    lymphocytes_per_ul: int | None
    comment: str
    acquired_at: datetime
    params: TubeParams
    seed: np.random.SeedSequence

    def simulate(self) -> SimulatedTube:
        """Simulate the tube: the same events, labels and truth every time."""
        return simulate_tube(self.params, self.seed)


def simulate_batch(
    out_dir: Path, spec: BatchSpec | None = None, seed: int = SAMPLE_SEED, *, overwrite: bool = False
) -> dict[str, TubeTruth]:
    """Write a simulated batch; with the defaults exactly the files of `sample_fcs/`.

    Parameters
    ----------
    out_dir
        Where to write; created if need be.
    spec
        What to simulate; the default is the batch of `sample_fcs/`.
    seed
        The same specification and seed give the same bytes.
    overwrite
        Write into a folder that is not empty: files of the same name are replaced, others are left alone.

    Returns
    -------
    dict
        True counts by file name, as in `truth.csv`.

    Raises
    ------
    TregflowError
        `SIMULATE_OUT_EXISTS` where the folder is not empty; `SIMULATE_PARAMETER` where a tube cannot exist.
    """
    plans = plan_batch(spec, seed)
    if out_dir.exists() and not overwrite and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise TregflowError("SIMULATE_OUT_EXISTS", f"{out_dir.name} exists and is not an empty folder.")
    out_dir.mkdir(parents=True, exist_ok=True)
    truths = {}
    for plan in plans:
        tube = plan.simulate()
        _write_tube(out_dir / plan.file, plan, tube)
        truths[plan.file] = tube.truth
    texts = {
        "manifest.csv": _table(MANIFEST_COLUMNS, (_manifest_row(p) for p in plans)),
        "truth.csv": _table(_TRUTH_COLUMNS, ({"file": f, **_truth_row(t)} for f, t in truths.items())),
        "study.toml": _study_toml(plans),
        "README.md": _readme(plans, truths, seed),
    }
    for name, text in texts.items():
        (out_dir / name).write_bytes(text.encode("utf-8"))
    return truths


def plan_batch(spec: BatchSpec | None = None, seed: int = SAMPLE_SEED) -> tuple[TubePlan, ...]:
    """Draw what every tube of a batch will be, without simulating any event.

    Raises
    ------
    TregflowError
        `SIMULATE_PARAMETER` where a tube cannot exist.
    """
    spec = spec or BatchSpec()
    # One score per subject, spread evenly over the normal distribution and then shuffled: a batch of three has the
    # intended mean and spread, not three draws from it.
    even = [NormalDist().inv_cdf((i + 0.5) / spec.n_subjects) for i in range(spec.n_subjects)]
    rng = np.random.Generator(np.random.PCG64(_seed(seed, "subjects")))
    level, response = rng.permutation(even), rng.permutation(even)
    plans: list[TubePlan] = []
    for i in range(spec.n_subjects):
        plans += _plan_subject(spec, seed, i + 1, float(level[i]), float(response[i]))
    return tuple(plans)


def _seed(seed: int, name: str) -> np.random.SeedSequence:
    digest = sha256(name.encode()).digest()
    return np.random.SeedSequence(seed, spawn_key=tuple(int.from_bytes(digest[i : i + 4], "big") for i in (0, 4, 8)))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A tube before it has a file, a date and a seed."""

    role: str
    params: TubeParams
    comment: str = ""
    visit: VisitSpec | None = None
    lymphocytes_per_ul: int | None = None


def _plan_subject(spec: BatchSpec, seed: int, number: int, level: float, response: float) -> list[TubePlan]:
    """Draw all tubes of one subject, and the controls of its batch."""
    rng = np.random.Generator(np.random.PCG64(_seed(seed, f"S{number:02d}")))
    first = replace(_draw_subject(spec, level, rng), spillover_seed=spec.tube.spillover_seed + number)
    count = 1150 * math.exp(0.25 * rng.standard_normal())
    drafts = []
    for index, visit in enumerate(spec.visits):
        params = _at_visit(spec, first, visit, response, rng)
        cells = round(count * math.exp(0.08 * rng.standard_normal()))
        drafts.append(_Draft("stained", params, "", visit, cells))
        if index == 0:
            for marker in spec.fmo_markers:
                stained = tuple(m for m in MARKERS if m != marker)
                fmo = replace(params, stained=stained, n_events=spec.n_fmo_events, n_lymphocytes=None)
                drafts.append(_Draft(f"fmo:{marker}", fmo, f"all but {marker}", visit))
    if number == 1:
        drafts += _compensation_controls(spec, first)
    started = _FIRST_BASELINE + timedelta(days=7 * (number - 1))
    # The visits of a subject are stored frozen and run on one day, after the last of them.
    last = started + timedelta(weeks=max(visit.week for visit in spec.visits) + 2)
    acquired = last.replace(hour=10, minute=0)
    return [
        _settle(draft, number, seed, started, acquired + timedelta(minutes=4 * order))
        for order, draft in enumerate(drafts)
    ]


def _settle(draft: _Draft, number: int, seed: int, started: datetime, acquired: datetime) -> TubePlan:
    """Give a tube its file name, dates and seed."""
    subject, batch, visit = f"S{number:02d}", f"B{number:02d}", draft.visit
    owner = batch if visit is None else f"{subject}_{visit.name}"
    file = f"{owner}_{_role_word(draft.role)}.fcs"
    return TubePlan(
        file=file,
        subject_id="" if visit is None else subject,
        visit="" if visit is None else visit.name,
        role=draft.role,
        collected_at=None if visit is None else started + timedelta(weeks=visit.week),
        batch_id=batch,
        lymphocytes_per_ul=draft.lymphocytes_per_ul,
        comment=draft.comment,
        acquired_at=acquired,
        params=draft.params,
        seed=_seed(seed, file),
    )


def _draw_subject(spec: BatchSpec, level: float, rng: np.random.Generator) -> TubeParams:
    """Draw what is a subject's own: composition, Treg level, and the gain of the day its tubes are run."""
    return replace(
        spec.tube,
        cd3_of_lymphocytes=_draw(rng, spec.tube.cd3_of_lymphocytes, 0.06, 0.55, 0.80),
        cd4_of_cd3=_draw(rng, spec.tube.cd4_of_cd3, 0.06, 0.40, 0.66),
        nk_of_lymphocytes=_draw(rng, spec.tube.nk_of_lymphocytes, 0.03, 0.07, 0.18),
        memory_of_tconv=_draw(rng, spec.tube.memory_of_tconv, 0.06, 0.3, 0.6),
        activated_of_tconv=_draw(rng, spec.tube.activated_of_tconv, 0.007, 0.04, 0.08),
        treg_of_lymphocytes=float(
            np.clip(spec.treg_median * math.exp(spec.treg_sigma * level), *spec.treg_range),
        ),
        gain=spec.tube.gain * math.exp(spec.batch_gain_sigma * rng.standard_normal()),
    )


def _draw(rng: np.random.Generator, mean: float, sigma: float, low: float, high: float) -> float:
    """Draw around a mean; bounds that exclude the mean (an unusual specification) give way to it."""
    return float(np.clip(mean + sigma * rng.standard_normal(), min(low, mean), max(high, mean)))


def _at_visit(
    spec: BatchSpec, first: TubeParams, visit: VisitSpec, response: float, rng: np.random.Generator
) -> TubeParams:
    """Give the settings of a subject's stained tube at a visit: the drug's effect, and what varies anyway."""
    noise = spec.visit_sigma if visit.week > 0 else 0.0
    fold = visit.fold * math.exp(visit.fold_sigma * response + noise * rng.standard_normal())
    cd3 = _draw(rng, first.cd3_of_lymphocytes, 0.015, 0.5, 0.82)
    size = 0.97 + 0.1 * rng.random()

    def about(value: float) -> float:
        return value * float(0.85 + 0.3 * rng.random())

    return replace(
        first,
        n_lymphocytes=None if first.n_lymphocytes is None else round(first.n_lymphocytes * size),
        n_events=None if first.n_events is None else round(first.n_events * size),
        cd3_of_lymphocytes=cd3,
        cd4_of_cd3=_draw(rng, first.cd4_of_cd3, 0.012, 0.38, 0.68),
        nk_of_lymphocytes=min(first.nk_of_lymphocytes * visit.nk_fold, 1 - cd3),
        treg_fold=first.treg_fold * fold,
        treg_cd25_fold=first.treg_cd25_fold * visit.treg_cd25_fold,
        treg_foxp3_fold=first.treg_foxp3_fold * visit.treg_foxp3_fold,
        cd4_cd25_fold=first.cd4_cd25_fold * visit.cd4_cd25_fold,
        cd4_foxp3_fold=first.cd4_foxp3_fold * visit.cd4_foxp3_fold,
        debris_frac=about(first.debris_frac),
        monocyte_frac=about(first.monocyte_frac),
        doublet_frac=about(first.doublet_frac),
        dead_frac=about(first.dead_frac),
    )


def _compensation_controls(spec: BatchSpec, first: TubeParams) -> list[_Draft]:
    """Draft the unstained tube and the single stains."""
    clean = TubeParams(
        n_lymphocytes=None,
        n_events=spec.n_single_events,
        debris_frac=0.06,
        monocyte_frac=0.06,
        doublet_frac=0.03,
        dead_frac=0.02,
        gain=first.gain,
        spillover_error=first.spillover_error,
        spillover_seed=first.spillover_seed,
        stained=(),
        surrogate=True,
    )
    controls = [_Draft("unstained", clean)]
    for marker, detector in zip(MARKERS, DETECTORS, strict=True):
        dye = "AF647" if detector == "APC-A" else detector.removesuffix("-A")
        comment = f"{marker} antibody in {dye}"
        if marker == "Viability":
            comment = f"half of the cells killed by heat; {dye} viability dye"
        elif marker in {"CD25", "CD127", "FOXP3"}:
            comment = f"CD4 antibody in {dye} instead of {marker}"
        dead = 0.4 if marker == "Viability" else clean.dead_frac
        controls.append(_Draft(f"single:{marker}", replace(clean, stained=(marker,), dead_frac=dead), comment))
    return controls


def _write_tube(path: Path, plan: TubePlan, tube: SimulatedTube) -> None:
    seconds = float(tube.events[-1, 0]) * TIMESTEP
    start = plan.acquired_at
    keywords = {
        "$FIL": plan.file,
        "$CYT": "Simulated cytometer",
        "$COM": "Simulated by tregflow: no person, no site, no measurement",
        "$SRC": plan.subject_id or plan.batch_id,
        "$DATE": f"{start.day:02d}-{_MONTHS[start.month - 1]}-{start.year}",
        "$BTIM": _clock(start),
        "$ETIM": _clock(start + timedelta(seconds=seconds)),
        "$TIMESTEP": str(TIMESTEP),
        "TUBE NAME": " ".join(part for part in (plan.visit, plan.role) if part),
    }
    write_fcs(
        path,
        tube.events,
        tube.channels,
        keywords=keywords,
        ranges=[SCALE_MAX] * len(tube.channels),
        spillover=(DETECTORS, tube.spillover),
    )


def _clock(time: datetime) -> str:
    return f"{time.hour:02d}:{time.minute:02d}:{time.second:02d}.{time.microsecond // 10000:02d}"


def _table(columns: tuple[str, ...], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _manifest_row(plan: TubePlan) -> dict[str, object]:
    return {
        "file": plan.file,
        "subject_id": plan.subject_id,
        "visit": plan.visit,
        "role": plan.role,
        "collected_at": "" if plan.collected_at is None else plan.collected_at.isoformat(timespec="minutes"),
        "batch_id": plan.batch_id,
        "replicate": 1,
        "compensation": "",
        "lymphocytes_per_ul": "" if plan.lymphocytes_per_ul is None else plan.lymphocytes_per_ul,
        "comment": plan.comment,
    }


def _truth_row(truth: TubeTruth) -> dict[str, object]:
    return {name: getattr(truth, name) for name in _TRUTH_COLUMNS[1:]}


def _study_toml(plans: tuple[TubePlan, ...]) -> str:
    """Pin the template, and say how the tubes are named, should the manifest be lost."""
    controls = sorted({plan.role for plan in plans if ":" in plan.role})
    roles = "".join(f'"{_role_word(role)}" = "{role}"\n' for role in controls)
    return rf"""[template]
id = "treg-foxp3-pbmc"
version = "0.2.0"

[[visits]]
name = "BL"
baseline = true

[[visits]]
name = "W12"

[[visits]]
name = "W24"

[tubes]
pattern = '^(?:(?P<subject>S\d+)_(?P<visit>[A-Z]+\d*)|(?P<batch>B\d+))_(?P<role>[A-Za-z0-9-]+)\.fcs$'

[tubes.roles]
{roles}"""


def _role_word(role: str) -> str:
    """Write a role as it stands in a file name: Windows allows no colon there."""
    return role.replace(":", "-")


def _readme(plans: tuple[TubePlan, ...], truths: Mapping[str, TubeTruth], seed: int) -> str:
    rows = []
    for plan in plans:
        if plan.role == "stained":
            t = truths[plan.file]
            percents = ("" if p is None else f"{p:.3f}" for p in (t.treg_pct_of_lymphocytes, t.treg_pct_of_cd4))
            rows.append(
                f"| {plan.file} | {t.n_events:,} | {t.n_lymphocytes:,} | {t.n_cd3:,} | {t.n_cd4:,} | {t.n_treg:,} "
                f"| {' | '.join(percents)} |"
            )
    table = "\n".join(rows)
    return f"""# A simulated batch

Everything here is simulated: no person, no site, no measurement. Frequencies, spillover and effect sizes are loosely
anchored on published values for low-dose IL-2 and for FOXP3 panels; they do not reproduce the trial, and no conclusion
about the drug can be drawn from them.

Made by `tregflow simulate` with seed {seed}; the same command writes the same bytes. Identity labels per event are
had by simulating a tube again: `tregflow.simulate.plan_batch(seed={seed})[0].simulate().labels`.

- `*_stained.fcs`: subject and visit (BL baseline, W12 and W24 weeks 12 and 24), the full panel: viability BV510,
  CD3 APC-H7, CD4 BV421, CD8 BV605, CD25 PE-Cy7, CD127 AF647 (detector APC-A), FOXP3 PE. All visits of a subject are
  one batch.
- `*_fmo-FOXP3.fcs`, `*_fmo-CD25.fcs`: baseline cells of that batch without one antibody.
- `B01_unstained.fcs`, `B01_single-*.fcs`: compensation controls of the first batch; dim markers are replaced by a CD4
  antibody in the same dye.
- `manifest.csv`, `study.toml`: what tregflow needs to run. `truth.csv`: true counts of every file.

True counts of the stained tubes: viable single cells by identity, not by brightness. Doublets, dead cells, monocytes
and debris are in the events and in no other column.

| file | events | lymphocytes | CD3+ | CD4+ | Treg | Treg, % of lymphocytes | Treg, % of CD4+ |
|---|---:|---:|---:|---:|---:|---:|---:|
{table}
"""
