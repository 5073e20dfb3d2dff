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
_NOWHERE = np.empty(0, dtype=np.intp)


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
        if not dimensions:
            return {}
        mixed = [d for d in dimensions if d in self.weights]
        plain = [d for d in dimensions if d not in self.weights]
        detectors = self.detectors if mixed else ()
        rows = self.sample.rows(start, stop, index, (*detectors, *(self.channels[d].index for d in plain)))
        out = dict(zip(plain, rows[len(detectors) :], strict=True))
        if mixed:
            weights = np.stack([self.weights[d] for d in mixed])
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so, and is found later
                out.update(zip(mixed, weights @ rows[: len(detectors)], strict=True))
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


def make_columns(sample: Sample, channels: Mapping[str, Channel], spillover: Spillover | None) -> Columns:
    """Columns of a sample; `spillover` None means that nothing is to be compensated (unmixed data)."""
    if spillover is None:
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


class Block:
    """The events of one block that a stage of gates looks at, their values, and which of them each population holds.

    `outer` are the populations known from an earlier stage, with their masks (None: all events); the block is theirs.
    Places are positions among the block's events.
    """

    def __init__(
        self,
        columns: Columns,
        dimensions: Sequence[str],
        start: int,
        stop: int,
        outer: Mapping[str | None, NDArray[np.bool_] | None],
    ) -> None:
        masks = {population: mask[start:stop] for population, mask in outer.items() if mask is not None}
        index = np.flatnonzero(np.logical_or.reduce(list(masks.values()))) if len(masks) == len(outer) else None
        self._events = np.arange(start, stop) if index is None else start + index
        self._values = columns.values(dimensions, start, stop, index)
        # by population; None is all of the block, which then needs no copy
        self._places: dict[str | None, NDArray[np.intp] | None] = dict.fromkeys(outer)
        if len(outer) > 1:
            for population, mask in masks.items():
                self._places[population] = np.flatnonzero(mask if index is None else mask[index])
        self._taken: dict[tuple[str | None, str], NDArray[np.float64]] = {}
        self._finite: dict[str, bool] = {}

    def enter(self, population: str, parent: str | None, inside: NDArray[np.bool_]) -> None:
        """Make a population known: those of the parent's events that are inside."""
        places = self._places[parent]
        self._places[population] = np.flatnonzero(inside) if places is None else places[inside]

    def holds(self, population: str | None) -> bool:
        """Whether the block has events of a population; one that was never entered had no parent's events."""
        places = self._places.get(population, _NOWHERE)
        return self._events.size > 0 if places is None else places.size > 0

    def events(self, population: str | None) -> NDArray[np.intp]:
        """The indices, in the sample, of the block's events that a population holds."""
        places = self._places[population]
        return self._events if places is None else self._events[places]

    def values(self, population: str | None, dimensions: Sequence[str]) -> list[NDArray[np.float64]]:
        """Compensated scale values of a population's events, one array per dimension."""
        places = self._places[population]
        if places is None:
            return [self._values[d] for d in dimensions]
        for d in dimensions:
            if (population, d) not in self._taken:
                self._taken[population, d] = self._values[d][places]
        return [self._taken[population, d] for d in dimensions]

    def all_finite(self, dimension: str) -> bool:
        """Whether every value of the block in a dimension is finite."""
        if dimension not in self._finite:
            self._finite[dimension] = bool(np.isfinite(self._values[dimension]).all())
        return self._finite[dimension]
