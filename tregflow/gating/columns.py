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

#: Events per block: what a block's gates work on stays in the outer cache.
BLOCK = 32768
_STRIP = 4096  # events compensated at a time: a strip of ten detectors stays in the second-level cache


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
        detectors = self.detectors if mixed else ()
        rows = self.sample.rows(start, stop, index, (*detectors, *(self.channels[d].index for d in plain)))
        out = dict(zip(plain, rows[len(detectors) :], strict=True))
        if mixed:
            out.update(zip(mixed, _weighted_sums([self.weights[d] for d in mixed], rows[: len(detectors)]), strict=True))
        return out

    def gather(self, dimensions: Sequence[str], mask: NDArray[np.bool_] | None) -> list[NDArray[np.float64]]:
        """Compensated scale values of all events in `mask` (None: all events), one array per dimension."""
        n_events = self.sample.n_events if mask is None else int(np.count_nonzero(mask))
        out = [np.empty(n_events) for _ in dimensions]
        done = 0
        for start, stop in self.blocks():
            index = None if mask is None else np.flatnonzero(mask[start:stop])
            if index is None or index.size:
                values = self.values(dimensions, start, stop, index)
                for whole, dimension in zip(out, dimensions, strict=True):
                    whole[done : done + values[dimension].size] = values[dimension]
                done += values[dimension].size
        return out


def _weighted_sums(weights: Sequence[NDArray[np.float64]], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the detectors, `(len(weights), m)`, of weight times row, in the order of the detectors.

    A matrix product is no faster here and rounds an event's value differently on another processor, or beside other
    events; this sum depends on nothing but the event.
    """
    out = np.empty((len(weights), rows.shape[1]))
    for start in range(0, rows.shape[1], _STRIP):
        strip = rows[:, start : start + _STRIP]
        term = np.empty(strip.shape[1])
        for own, total in zip(weights, out[:, start : start + _STRIP], strict=True):
            np.multiply(strip[0], own[0], out=total)
            for weight, row in zip(own[1:], strip[1:], strict=True):
                total += np.multiply(row, weight, out=term)
    return out


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
