"""Values of a tube by marker: compensated once, block by block, for the events asked for and no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tregflow.compensation import Spillover
    from tregflow.sample import Channel, Sample

#: Events per block: a block of 14 float32 channels is 3.5 MiB and stays in the outer cache.
BLOCK = 65536


@dataclass(frozen=True, slots=True)
class Columns:
    """Compensated scale values of a sample, by dimension of the template.

    `weights[d]` are the coefficients over `detectors` (column indices) that make dimension `d`, i.e. its column of
    the inverse spillover; a dimension without weights (scatter, Time, unmixed) is the channel as it is.
    """

    sample: Sample
    channels: Mapping[str, Channel]
    detectors: tuple[int, ...]
    weights: Mapping[str, NDArray[np.float64]]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """`(start, stop)` of each block of events."""
        for start in range(0, self.sample.n_events, BLOCK):
            yield start, min(start + BLOCK, self.sample.n_events)

    def compensated(self, dimension: str) -> bool:
        """Whether the dimension is made by a spillover matrix."""
        return dimension in self.weights

    def values(
        self, dimensions: Sequence[str], start: int, stop: int, index: NDArray[np.intp] | None
    ) -> dict[str, NDArray[np.float64]]:
        """Compensated scale values `(m,)` of the events `start + index` (None: all of the block), by dimension."""
        mixed = [d for d in dimensions if d in self.weights]
        plain = [d for d in dimensions if d not in self.weights]
        columns = (*(self.detectors if mixed else ()), *(self.channels[d].index for d in plain))
        rows = self.sample.rows(start, stop, index, columns)
        n_detectors = len(self.detectors) if mixed else 0
        out = dict(zip(plain, rows[n_detectors:], strict=True))
        if mixed:
            matrix = np.stack([self.weights[d] for d in mixed])
            out.update(zip(mixed, matrix @ rows[:n_detectors], strict=True))
        return out

    def gather(self, dimensions: Sequence[str], mask: NDArray[np.bool_] | None) -> list[NDArray[np.float64]]:
        """Compensated scale values of all events in `mask` (None: all events), one array per dimension."""
        parts: list[dict[str, NDArray[np.float64]]] = []
        for start, stop in self.blocks():
            index = None if mask is None else np.flatnonzero(mask[start:stop])
            if index is None or index.size:
                parts.append(self.values(dimensions, start, stop, index))
        return [np.concatenate([p[d] for p in parts]) if parts else np.empty(0) for d in dimensions]


def make_columns(sample: Sample, channels: Mapping[str, Channel], spillover: Spillover | None) -> Columns:
    """Columns of a sample; `spillover` None means that nothing is to be compensated (unmixed data)."""
    if spillover is None or spillover.is_identity:
        return Columns(sample, channels, (), {})
    position = {name: i for i, name in enumerate(spillover.channels)}
    index = {channel.pnn: channel.index for channel in sample.channels}
    inverse = spillover.inverse
    weights = {
        dimension: np.ascontiguousarray(inverse[:, position[channel.pnn]])
        for dimension, channel in channels.items()
        if channel.pnn in position
    }
    return Columns(sample, channels, tuple(index[name] for name in spillover.channels), weights)
