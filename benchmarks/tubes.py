"""The benchmark's tubes: 14 float32 channels; even files little-endian, odd files big-endian; always the same bytes.

A rough mixture of ten populations, made in a second or two a file: enough to give gates the work that real tubes give
them (doublets, dead cells, negatives around zero after compensation, a Treg gate that cuts through its population).
It is no model of anything; `tregflow simulate` is that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tregflow.fcs import write_fcs

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARKERS = ("Viability", "CD3", "CD4", "CD8", "CD25", "FOXP3", "CD127", "CD45RA")
DETECTORS = ("BV510-A", "APC-H7-A", "BV421-A", "BV605-A", "PE-Cy7-A", "PE-A", "APC-A", "FITC-A")
SCATTER = ("FSC-A", "FSC-H", "FSC-W", "SSC-A", "SSC-H")
SECONDS, TICK = 100.0, 0.01

# fraction, forward and side scatter (thousands), then log10 brightness by marker; 0 is background
POPULATIONS = {
    "debris": (0.090, 16, 9, (2.2, 0, 0, 0, 0, 0, 0, 0)),
    "monocytes": (0.150, 118, 62, (2.3, 0, 2.8, 0, 0, 2.2, 0, 0)),
    "granulocytes": (0.100, 132, 135, (2.4, 0, 0, 0, 0, 2.3, 0, 0)),
    "dead": (0.030, 62, 40, (4.3, 2.9, 2.6, 2.6, 2.4, 2.6, 2.4, 2.6)),
    "b": (0.080, 66, 26, (2.2, 0, 0, 0, 2.3, 0, 0, 4.0)),
    "nk": (0.080, 72, 28, (2.2, 0, 0, 3.0, 0, 0, 0, 3.4)),
    "cd8": (0.150, 68, 27, (2.2, 4.2, 0, 4.3, 0, 0, 3.2, 3.7)),
    "cd4_naive": (0.160, 66, 26, (2.2, 4.1, 4.1, 0, 2.3, 0, 3.6, 4.0)),
    "cd4_memory": (0.140, 68, 27, (2.2, 4.2, 4.2, 0, 2.9, 2.2, 3.5, 0)),
    "treg": (0.020, 68, 27, (2.2, 4.1, 4.15, 0, 3.6, 3.2, 2.6, 2.5)),
}


def spillover() -> NDArray[np.float64]:
    """Dense 8 x 8, rows sources: a few per cent everywhere, 21 % at most."""
    matrix = np.random.default_rng(8).uniform(0.002, 0.04, (8, 8)).round(4)
    matrix[0, 2], matrix[5, 4], matrix[4, 5], matrix[6, 1] = 0.21, 0.12, 0.06, 0.15
    np.fill_diagonal(matrix, 1.0)
    return matrix


def make_tubes(folder: Path, n_files: int, n_events: int) -> tuple[Path, ...]:
    """Write the files that are not there yet; give the paths of all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"S{number:02d}_V1.fcs" for number in range(n_files))
    for number, path in enumerate(paths):
        if not path.exists():
            _write(path, number, n_events)
    return paths


def _write(path: Path, number: int, n_events: int) -> None:
    rng = np.random.default_rng([14, number])
    fractions = np.array([fraction for fraction, *_ in POPULATIONS.values()])
    fractions[-1] *= rng.uniform(0.5, 1.5)
    population = rng.choice(len(fractions), n_events, p=fractions / fractions.sum())
    events = np.empty((n_events, 14), np.float32)
    events[:, 0] = np.sort(rng.uniform(0, SECONDS / TICK, n_events)).astype(np.int64)
    _scatter(events, population, rng)
    events[:, 6:] = _fluorescence(population, rng)
    channels = [("Time", ""), *((name, "") for name in SCATTER), *zip(DETECTORS, MARKERS, strict=True)]
    write_fcs(
        path,
        events,
        channels,
        keywords={"$TIMESTEP": str(TICK)},
        byteorder="big" if number % 2 else "little",
        ranges=[2.0**18] * 14,
        spillover=(DETECTORS, spillover()),
    )


def _scatter(events: NDArray[np.float32], population: NDArray[np.intp], rng: np.random.Generator) -> None:
    """FSC-A, -H, -W and SSC-A, -H; one event in twenty is two cells, whose height is short of its area."""
    n = len(events)
    levels = 1000 * np.array([row[1:3] for row in POPULATIONS.values()], np.float32)
    forward, side = levels[population].T
    doublet = rng.random(n) < 0.05
    area = forward * (1 + 0.11 * rng.standard_normal(n, np.float32)) * (1 + 0.9 * doublet)
    height = 0.8 * area * (1 + 0.03 * rng.standard_normal(n, np.float32)) * (1 - 0.4 * doublet)
    side_area = side * np.exp(0.18 * rng.standard_normal(n, np.float32)) * (1 + 0.9 * doublet)
    side_height = 0.8 * side_area * (1 + 0.03 * rng.standard_normal(n, np.float32))
    columns = (area, height, 65536 * area / np.maximum(height, 1) * 0.8, side_area, side_height)
    for at, values in enumerate(columns, start=1):
        events[:, at] = np.minimum(values, 262143)


def _fluorescence(population: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
    """Log-normal brightness, spilled over, with photon noise and a background around zero."""
    n = len(population)
    brightness = np.array([levels for *_, levels in POPULATIONS.values()], np.float32)[population]
    emitted = np.where(brightness > 0, 10 ** (brightness + 0.16 * rng.standard_normal((n, 8), np.float32)), 0)
    seen = emitted @ spillover().astype(np.float32)
    noise = np.sqrt(3 * seen + 60.0**2) * rng.standard_normal((n, 8), np.float32)
    return np.minimum(seen + noise, 262143).astype(np.float32)
