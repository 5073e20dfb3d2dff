"""One simulated tube: cells, their light, and what the cytometer makes of it.

A cell has a state, a size, and an amount of each antigen (log-normal, CD25 and FOXP3 correlated). Each dye's light
reaches each detector through the true spillover; autofluorescence is added; the photo-electrons of a detector are
Poisson distributed around that light, the laser fluctuates, and the electronics add Gaussian noise. Spread after
compensation therefore comes from counting photons, as it does on a cytometer, and is drawn from no formula for it.

The same parameters and seed give the same events. NumPy's bit generator and its distributions are the same on every
platform, but `exp` may differ in its last bit between processors and libraries; scale values are therefore rounded to
0.1 before they are stored, so that such a difference practically never shows. A later NumPy may change a distribution
(NEP 19); the test that compares `sample_fcs/` byte for byte would show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tregflow.simulate.model import (
    AUTOFLUORESCENCE,
    CD4_T,
    CD25_CUT,
    CHANNELS,
    ELECTRONIC_NOISE,
    FOXP3_CUT,
    LASER,
    LASER_NOISE_FRAC,
    LYMPHOCYTES,
    MARKERS,
    NONSPECIFIC,
    NONSPECIFIC_SIGMA,
    PHOTOELECTRONS_PER_UNIT,
    SCALE_MAX,
    SPILLOVER,
    STATES,
    T_CELLS,
    TIMESTEP,
    Population,
    TubeParams,
    lymphocyte_mix,
    lymphocyte_share,
    written_spillover,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STATE_LIST: Final = tuple(STATES.values())
_STATE_INDEX: Final = {name: i for i, name in enumerate(STATES)}
_VIABILITY, _CD3, _CD4, _CD25, _FOXP3 = (MARKERS.index(m) for m in ("Viability", "CD3", "CD4", "CD25", "FOXP3"))
_POPULATION: Final = np.array([s.population for s in _STATE_LIST], dtype=np.uint8)
_FSC_THRESHOLD: Final = 5000.0
_HEIGHT_PER_AREA: Final = 0.88
_FLUORESCENCE_STEP: Final = 0.1
_CLOG_RATE: Final = 0.25
"""Share of the usual event rate that passes a clog."""
_POSITIVE_SEED: Final = 20_240_312


@dataclass(frozen=True, slots=True)
class Labels:
    """What each event truly is: read-only arrays of one entry per event.

    `population` holds `Population` codes (of the first cell of a doublet); `cd25_positive` and `foxp3_positive` say
    what an ideal cut, fixed at baseline brightness, would call on the noise-free specific signal: drug brightening
    moves cells across it, identity stays.
    """

    population: NDArray[np.uint8]
    doublet: NDArray[np.bool_]
    viable: NDArray[np.bool_]
    clogged: NDArray[np.bool_]
    cd25_positive: NDArray[np.bool_]
    foxp3_positive: NDArray[np.bool_]

    def is_in(self, *populations: Population) -> NDArray[np.bool_]:
        """Viable single cells of these populations, `(n_events,)`."""
        return np.isin(self.population, np.array(populations, dtype=np.uint8)) & self.viable & ~self.doublet


@dataclass(frozen=True, slots=True)
class TubeTruth:
    """True counts of a tube: viable single cells by identity."""

    n_events: int
    n_lymphocytes: int
    n_cd3: int
    n_cd4: int
    n_treg: int

    @property
    def treg_pct_of_lymphocytes(self) -> float | None:
        """Treg cells, percent of lymphocytes; None without lymphocytes."""
        return 100 * self.n_treg / self.n_lymphocytes if self.n_lymphocytes else None

    @property
    def treg_pct_of_cd4(self) -> float | None:
        """Treg cells, percent of CD4 T cells; None without CD4 T cells."""
        return 100 * self.n_treg / self.n_cd4 if self.n_cd4 else None


@dataclass(frozen=True, slots=True)
class SimulatedTube:
    """A simulated tube: `events` are `(n_events, n_channels)` float32 scale values, uncompensated, read-only."""

    params: TubeParams
    events: NDArray[np.float32]
    channels: tuple[tuple[str, str], ...]
    spillover: NDArray[np.float64]
    labels: Labels
    truth: TubeTruth


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells before the cytometer: `specific` and `background` are `(n, n_markers)`, `glow` scales autofluorescence."""

    state: NDArray[np.intp]
    fsc: NDArray[np.float64]
    ssc: NDArray[np.float64]
    specific: NDArray[np.float64]
    background: NDArray[np.float64]
    glow: NDArray[np.float64]


def simulate_tube(params: TubeParams, seed: int | np.random.SeedSequence) -> SimulatedTube:
    """Simulate one tube.

    Parameters
    ----------
    params
        Its settings.
    seed
        The same parameters and seed give the same tube.

    Returns
    -------
    SimulatedTube
        Events in the order of their Time, with identity labels and true counts.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    spillover = written_spillover(params)
    single, dead, doublets = _draw_states(params, rng)
    cells = _draw_cells(single, params, rng)
    cells = _kill(cells, dead, rng)
    partners = _draw_cells(_draw_mix(doublets, params, rng), params, rng)
    height = _HEIGHT_PER_AREA * cells.fsc * (1 + 0.024 * rng.standard_normal(len(single)))
    pairs = np.arange(len(single) - doublets, len(single))
    cells, height = _join(cells, height, pairs, partners, rng)
    doublet = np.zeros(len(single), dtype=bool)
    doublet[pairs] = True

    order = rng.permutation(len(single))
    time, clogged = _draw_times(len(single), params, rng)
    passing = np.where(clogged, 0.55 + 0.45 * rng.random(len(single)), 1.0)
    light = _light(cells, params)[:, order] * passing
    signals = _detect(light, time, params, rng)
    events = np.empty((len(single), len(CHANNELS)), dtype=np.float32)
    events[:, 0] = time
    for column, scatter in enumerate((cells.fsc[order], height[order], cells.ssc[order]), start=1):
        events[:, column] = np.clip(np.round(scatter * passing), 1, SCALE_MAX - 1)
    for column, signal in enumerate(signals, start=4):
        rounded = np.round(signal / _FLUORESCENCE_STEP) * _FLUORESCENCE_STEP
        events[:, column] = np.minimum(rounded, SCALE_MAX - 1)
    labels = Labels(
        population=_POPULATION[cells.state][order],
        doublet=doublet[order],
        viable=~dead[order],
        clogged=clogged,
        cd25_positive=(cells.specific[:, _CD25] >= CD25_CUT)[order],
        foxp3_positive=(cells.specific[:, _FOXP3] >= FOXP3_CUT)[order],
    )
    for array in (events, spillover, *(getattr(labels, name) for name in Labels.__slots__)):
        array.flags.writeable = False
    return SimulatedTube(params, events, CHANNELS, spillover, labels, _count(labels))


def positive_of_lymphocytes(params: TubeParams, n: int = 60_000) -> float:
    """The probability that a lymphocyte is a CD4 T cell that an ideal cut calls CD25+FOXP3+ (`Labels.cd25_positive`).

    Drawn, `n` cells of each CD4 state, with a seed of its own: the same for the same settings.
    """
    mix = lymphocyte_mix(params)
    names = [name for name in mix if STATES[name].population in CD4_T]
    rng = np.random.Generator(np.random.PCG64(_POSITIVE_SEED))
    specific = _draw_antigens(np.repeat([_STATE_INDEX[name] for name in names], n), params, rng)
    positive = (specific[:, _CD25] >= CD25_CUT) & (specific[:, _FOXP3] >= FOXP3_CUT)
    return float(positive.reshape(len(names), n).mean(axis=1) @ np.array([mix[name] for name in names]))


def _count(labels: Labels) -> TubeTruth:
    return TubeTruth(
        n_events=len(labels.population),
        n_lymphocytes=int(labels.is_in(*LYMPHOCYTES).sum()),
        n_cd3=int(labels.is_in(*T_CELLS).sum()),
        n_cd4=int(labels.is_in(*CD4_T).sum()),
        n_treg=int(labels.is_in(Population.TREG).sum()),
    )


def _draw_states(params: TubeParams, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.bool_], int]:
    """Draw the state of every event, which are dead, and how many, at the end, are doublets."""
    share = lymphocyte_share(params)
    others = (params.monocyte_frac, params.debris_frac, params.dead_frac, params.doublet_frac)
    if params.n_lymphocytes is not None:
        lymphocytes = params.n_lymphocytes
        rest = round(lymphocytes * (1 - share) / share)
        counts = rng.multinomial(rest, np.array(others) / (1 - share)) if rest else np.zeros(4, dtype=np.int64)
    else:
        counts = rng.multinomial(params.n_events or 0, (share, *others))
        lymphocytes, counts = int(counts[0]), counts[1:]
    monocytes, debris, dying, doublets = (int(c) for c in counts)
    mix = lymphocyte_mix(params)
    names = list(mix)
    drawn = rng.multinomial(lymphocytes, np.array(list(mix.values())))
    state = np.concatenate(
        [
            np.repeat([_STATE_INDEX[n] for n in names], drawn),
            np.full(monocytes, _STATE_INDEX["monocyte"]),
            np.full(debris, _STATE_INDEX["debris"]),
            _draw_mix(dying, params, rng),
            _draw_mix(doublets, params, rng),
        ]
    ).astype(np.intp)
    dead = np.zeros(len(state), dtype=bool)
    dead[len(state) - doublets - dying : len(state) - doublets] = True
    return state, dead, doublets


def _draw_mix(n: int, params: TubeParams, rng: np.random.Generator) -> NDArray[np.intp]:
    """States of `n` cells: lymphocytes and monocytes in the tube's proportion, in random order."""
    mix = lymphocyte_mix(params) | {"monocyte": params.monocyte_frac / lymphocyte_share(params)}
    edges = np.cumsum(list(mix.values()))
    index = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
    drawn: NDArray[np.intp] = np.array([_STATE_INDEX[name] for name in mix], dtype=np.intp)[index]
    return drawn


def _draw_cells(state: NDArray[np.intp], params: TubeParams, rng: np.random.Generator) -> _Cells:
    """Scatter, antigens and background of cells in these states."""
    n = len(state)

    def of(name: str) -> NDArray[np.float64]:
        return np.array([getattr(s, name) for s in _STATE_LIST], dtype=np.float64)[state]

    size = rng.standard_normal(n)
    fsc = of("fsc") * np.exp(of("fsc_sigma") * size)
    ssc = of("ssc") * np.exp(of("ssc_sigma") * (0.45 * size + 0.9 * rng.standard_normal(n)))
    debris = state == _STATE_INDEX["debris"]
    # Debris thins out above the threshold of the instrument, where it is cut off sharply.
    fsc[debris] = _FSC_THRESHOLD + rng.standard_exponential(int(debris.sum())) * 9000.0
    specific = _draw_antigens(state, params, rng)
    sticky = of("stickiness")
    background = np.empty((n, len(MARKERS)))
    for m, marker in enumerate(MARKERS):
        amount = NONSPECIFIC[m] * sticky * np.exp(NONSPECIFIC_SIGMA * rng.standard_normal(n) + 0.1 * size)
        background[:, m] = amount if marker in params.stained else 0.0
    glow = of("autofluorescence") * np.exp(0.2 * rng.standard_normal(n) + 0.12 * size)
    return _Cells(state, fsc, ssc, specific, background, glow)


def _draw_antigens(state: NDArray[np.intp], params: TubeParams, rng: np.random.Generator) -> NDArray[np.float64]:
    """Specific signal of each marker, `(n, n_markers)` scale values, with the drug's effect, stained or not."""
    n = len(state)
    specific = np.zeros((n, len(MARKERS)))
    shared = rng.standard_normal(n)
    for m, marker in enumerate(MARKERS):
        table = [s.antigens.get(marker, (0.0, 0.0)) for s in _STATE_LIST]
        median, sigma = (np.array(column)[state] for column in zip(*table, strict=True))
        z = rng.standard_normal(n)
        if marker in {"CD25", "FOXP3"}:
            z = 0.6 * shared + 0.8 * z
        elif marker == "CD127":
            z = -0.3 * shared + 0.954 * z
        specific[:, m] = median * np.exp(sigma * z)
    # A few cells have taken some of their CD3 and CD4 in.
    internalised = np.where(rng.random(n) < 0.03, 0.4 + 0.6 * rng.random(n), 1.0)
    specific[:, _CD3] *= internalised
    specific[:, _CD4] *= internalised
    tail = np.array([s.foxp3_tail for s in _STATE_LIST])[state]
    specific[:, _FOXP3] += tail * rng.standard_exponential(n)

    population = _POPULATION[state]
    treg = population == Population.TREG
    cd4 = np.isin(population, CD4_T)
    specific[treg, _CD25] *= params.cd25_separation * params.treg_cd25_fold
    specific[treg, _FOXP3] *= params.foxp3_separation * params.treg_foxp3_fold
    specific[cd4, _CD25] *= params.cd4_cd25_fold
    specific[cd4, _FOXP3] *= params.cd4_foxp3_fold
    return specific


def _kill(cells: _Cells, dead: NDArray[np.bool_], rng: np.random.Generator) -> _Cells:
    """Dead cells: shrunk, granular, full of viability dye, brighter by themselves, and sticky for every antibody."""
    n = int(dead.sum())
    fsc, ssc, glow = cells.fsc.copy(), cells.ssc.copy(), cells.glow.copy()
    specific, background = cells.specific.copy(), cells.background.copy()
    fsc[dead] *= 0.74 * np.exp(0.17 * rng.standard_normal(n))
    ssc[dead] *= 1.35 * np.exp(0.30 * rng.standard_normal(n))
    glow[dead] *= 1.8 * np.exp(0.3 * rng.standard_normal(n))
    stickiness = np.exp(1.3 + 0.8 * rng.standard_normal(n))
    background[dead] *= stickiness[:, np.newaxis]
    specific[dead] *= 0.75
    # One in eight is only just dying: between the live cells and the dead.
    dying = rng.random(n) < 0.125
    faint, full = (2500, 0.35), (14000, 0.45)
    median, sigma = (np.where(dying, a, b) for a, b in zip(faint, full, strict=True))
    uptake = median * np.exp(sigma * rng.standard_normal(n))
    specific[dead, _VIABILITY] = uptake
    return _Cells(cells.state, fsc, ssc, specific, background, glow)


def _join(
    cells: _Cells,
    height: NDArray[np.float64],
    pairs: NDArray[np.intp],
    partners: _Cells,
    rng: np.random.Generator,
) -> tuple[_Cells, NDArray[np.float64]]:
    """Add a second cell to each event in `pairs`: areas add up, the pulse height only where the cells overlap."""
    fsc, ssc, glow, height = cells.fsc.copy(), cells.ssc.copy(), cells.glow.copy(), height.copy()
    specific, background = cells.specific.copy(), cells.background.copy()
    larger = np.maximum(fsc[pairs], partners.fsc)
    smaller = np.minimum(fsc[pairs], partners.fsc)
    overlap = 0.05 + 0.45 * rng.random(len(pairs)) ** 2
    height[pairs] = _HEIGHT_PER_AREA * (larger + overlap * smaller)
    fsc[pairs] += partners.fsc
    ssc[pairs] += partners.ssc
    glow[pairs] += partners.glow
    specific[pairs] += partners.specific
    background[pairs] += partners.background
    return _Cells(cells.state, fsc, ssc, specific, background, glow), height


def _light(cells: _Cells, params: TubeParams) -> NDArray[np.float64]:
    """Mean light in each detector, `(n_detectors, n)` scale values: dyes through the spillover, and the cell's own."""
    dye = cells.background.copy()
    for m, marker in enumerate(MARKERS):
        if marker in params.stained:
            dim = params.surrogate and marker in {"CD25", "CD127", "FOXP3"}
            dye[:, m] += 0.8 * cells.specific[:, _CD4] if dim else cells.specific[:, m]
    light = np.empty((len(AUTOFLUORESCENCE), len(dye)))
    for d, own in enumerate(AUTOFLUORESCENCE):
        light[d] = own * cells.glow
        # One dye after the other, not a matrix product: the order of the sum is then the same on every machine.
        for m in range(len(MARKERS)):
            light[d] += dye[:, m] * SPILLOVER[m, d]
    return light


def _detect(
    light: NDArray[np.float64], time: NDArray[np.float64], params: TubeParams, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Measured scale values of each detector: laser fluctuation, photon counting, electronics, gain."""
    n = light.shape[1]
    lasers = [1 + LASER_NOISE_FRAC * rng.standard_normal(n) for _ in range(max(LASER) + 1)]
    gain = params.gain * (1 + params.gain_drift * (time / max(time[-1], 1.0) - 0.5))
    signals = []
    for d, electrons in enumerate(PHOTOELECTRONS_PER_UNIT):
        mean = np.maximum(light[d] * lasers[LASER[d]], 0.0) * electrons
        photons = rng.poisson(mean) / electrons
        signals.append(gain * (photons + ELECTRONIC_NOISE[d] * rng.standard_normal(n)))
    return signals


def _draw_times(n: int, params: TubeParams, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Time of each event in TIMESTEP units (whole numbers, rising) and whether it passed during the clog."""
    arrival = np.cumsum(rng.standard_exponential(n))
    arrival /= arrival[-1]
    clogged = np.zeros(n, dtype=bool)
    if params.clog is not None:
        # Clock time runs on while few events pass: map the share of events onto the clock piece by piece.
        begin, end = params.clog
        usual = 1 - (end - begin) * (1 - _CLOG_RATE)
        events_at = np.array([0, begin, begin + (end - begin) * _CLOG_RATE, usual]) / usual
        clogged = (arrival >= events_at[1]) & (arrival < events_at[2])
        arrival = np.interp(arrival, events_at, [0, begin, end, 1])
        n = round(n / usual)
    return np.floor(arrival * (n / params.events_per_second / TIMESTEP)), clogged
