"""Sample: the events of one tube in scale values, uncompensated, with its channels and keywords."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from tregflow.fcs import Keywords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tregflow.fcs import FcsFile, FcsText, Parameter

Feature = Literal["area", "height", "width", ""]

_SUFFIX = re.compile(r"[-_ .](a|h|w|area|height|width)$", re.IGNORECASE)
_FEATURES: dict[str, Feature] = {"a": "area", "h": "height", "w": "width"}


class EventSource(Protocol):
    """Where a sample's scale values come from: a mapped file or an array."""

    @property
    def n_events(self) -> int:
        """Number of events."""

    def rows(
        self, start: int, stop: int, index: NDArray[np.intp] | None, columns: Sequence[int]
    ) -> NDArray[np.float64]:
        """Scale values `(len(columns), m)` of events `start + index` (all of `start:stop` if index is None)."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One column of DATA. `index` is 0-based; `limit` is `$PnR`; `feature` is empty where the file does not say."""

    index: int
    pnn: str
    pns: str = ""
    analyte: str = ""
    feature: Feature = ""
    limit: float = 262144.0

    @property
    def label(self) -> str:
        """`PE-A 'FOXP3'`, as messages name a channel."""
        return f"{self.pnn} '{self.pns}'" if self.pns else self.pnn


@dataclass(frozen=True, slots=True)
class _ArraySource:
    events: NDArray[np.float64]

    @property
    def n_events(self) -> int:
        return int(self.events.shape[0])

    def rows(
        self, start: int, stop: int, index: NDArray[np.intp] | None, columns: Sequence[int]
    ) -> NDArray[np.float64]:
        block = self.events[start:stop]
        return np.stack([block[:, c] if index is None else block[index, c] for c in columns])


@dataclass(frozen=True, slots=True)
class Sample:
    """Events by channels in scale values (after `$PnE`, `$PnG`, `$TIMESTEP`), uncompensated and read-only."""

    name: str
    channels: tuple[Channel, ...]
    source: EventSource
    keywords: Keywords = field(default_factory=lambda: Keywords(()))

    @property
    def n_events(self) -> int:
        """Number of events in the tube."""
        return self.source.n_events

    def rows(
        self, start: int, stop: int, index: NDArray[np.intp] | None, columns: Sequence[int]
    ) -> NDArray[np.float64]:
        """Scale values `(len(columns), m)` of events `start + index`; `index` None means all of `start:stop`."""
        return self.source.rows(start, stop, index, columns)

    def __repr__(self) -> str:
        """One line."""
        return f"Sample({self.name!r}, {self.n_events:,} events, {len(self.channels)} channels)"


def sample_from_fcs(file: FcsFile) -> Sample:
    """A sample over an FCS file; its events stay in the mapped file until they are asked for."""
    return Sample(file.path.name, tuple(_channel(p) for p in file.parameters), file, file.keywords)


def sample_from_text(text: FcsText) -> Sample:
    """A sample without events over the HEADER and TEXT of a file, for looking at its panel."""
    channels = tuple(_channel(p) for p in text.parameters)
    return Sample(text.path.name, channels, _ArraySource(np.empty((0, len(channels)))), text.keywords)


def sample_from_array(name: str, events: NDArray[np.float64], channels: Sequence[tuple[str, str]]) -> Sample:
    """A sample over an array `(n_events, n_channels)` of scale values; `channels` gives `(pnn, pns)` per column."""
    values = np.array(events, dtype=np.float64)
    values.flags.writeable = False
    named = tuple(Channel(i, pnn, pns, feature=_feature(pnn, "")) for i, (pnn, pns) in enumerate(channels))
    return Sample(name, named, _ArraySource(values))


def _channel(parameter: Parameter) -> Channel:
    return Channel(
        index=parameter.index,
        pnn=parameter.pnn,
        pns=parameter.pns,
        analyte=parameter.analyte,
        feature=_feature(parameter.pnn, parameter.feature),
        limit=parameter.range,
    )


def _feature(pnn: str, keyword: str) -> Feature:
    """The pulse feature from `$PnFEATURE`, else from the last part of `$PnN` (`FSC-A`, `FSC-Height`)."""
    if keyword:
        return _FEATURES.get(keyword[0].lower(), "")
    match = _SUFFIX.search(pnn)
    return _FEATURES[match[1][0].lower()] if match else ""
