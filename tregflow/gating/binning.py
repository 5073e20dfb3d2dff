"""Two-dimensional histograms of all events of a population, for drawing only: no count is ever taken from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tregflow.template.model import BooleanGate, RangeGate, gate_dimensions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tregflow.gating.columns import Columns
    from tregflow.template.model import Gate, Template
    from tregflow.transforms import Transform

BINS = 128
#: The transformed axis as drawn; Gating-ML transforms map the top of the scale to 1 and, with a W that fits the data,
#: the most negative events to about 0.
TRANSFORMED_RANGE = (-0.1, 1.05)


@dataclass(frozen=True, slots=True)
class Axis:
    """`BINS` equal bins from `low` to `high` in transformed space; values beyond an end go to the end's bin."""

    dimension: str
    transform: Transform | None
    low: float
    high: float

    def cells(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Bin index `(m,)` of scale values. For a transform, resolved to 1/128 of an octave of the value."""
        if self.transform is not None:
            with np.errstate(over="ignore"):
                upper = values.astype(np.float32).view(np.uint32) >> np.uint32(16)
            return np.take(_table(self), upper)
        return _bins(values, self.low, self.high)


def _bins(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """Bin index on a linear axis; what is not a number goes to the first bin."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values - low) * (BINS / (high - low))
    np.fmax(scaled, 0, out=scaled)
    np.fmin(scaled, BINS - 1, out=scaled)
    return scaled.astype(np.uint8)


@lru_cache(maxsize=64)
def _table(axis: Axis) -> NDArray[np.uint8]:
    """Bin index by the upper half of a float32's bits (sign, exponent, 7 bits of mantissa)."""
    if axis.transform is None:
        raise TypeError(axis.dimension)
    bits = (np.arange(65536, dtype=np.uint32) << np.uint32(16)) | np.uint32(0x8000)
    with np.errstate(invalid="ignore"):
        values = bits.view(np.float32).astype(np.float64)
    return _bins(axis.transform(values), axis.low, axis.high)


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing: the axes, the population whose events are binned (None: all events), the gates drawn on it."""

    population: str | None
    gates: tuple[str, ...]
    axes: tuple[Axis, ...]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions of its axes."""
        return tuple(a.dimension for a in self.axes)

    def bin(self, values: Sequence[NDArray[np.float64]]) -> NDArray[np.intp]:
        """Counts of events, given as one array of scale values `(m,)` per axis, as `empty`."""
        cells = self.axes[0].cells(values[0]).astype(np.uint16)
        for axis, more in zip(self.axes[1:], values[1:], strict=True):
            cells = cells * np.uint16(BINS) + axis.cells(more)
        return np.bincount(cells, minlength=BINS ** len(self.axes))

    def empty(self) -> NDArray[np.intp]:
        """No counts yet: flattened x-major, length `BINS ** len(axes)`."""
        return np.zeros(BINS ** len(self.axes), dtype=np.intp)


def panels(template: Template, columns: Columns, order: Sequence[Gate]) -> tuple[Panel, ...]:
    """What to draw: a panel per gate with one or two dimensions, and one for an AND of ranges on two dimensions.

    A range is drawn against its `against` dimension if it has one. `show = false` leaves a gate's own panel out.
    """
    found = []
    for gate in order:
        if not gate.show:
            continue
        drawn = _drawn_gates(gate, template)
        dimensions = list(dict.fromkeys(d for g in drawn for d in gate_dimensions(g)))
        if isinstance(gate, RangeGate) and gate.against is not None:
            dimensions.append(gate.against)
        if 1 <= len(dimensions) <= 2:
            axes = tuple(_axis(d, template, columns) for d in dimensions)
            found.append(Panel(gate.parent, (*(g.id for g in drawn if g is not gate), gate.id), axes))
    return tuple(found)


def _drawn_gates(gate: Gate, template: Template) -> tuple[Gate, ...]:
    """The gates whose shapes tell this gate: itself, or the ranges that an AND combines in the same parent."""
    if not isinstance(gate, BooleanGate):
        return (gate,)
    operands = [template.gate(name) for name, _ in gate.terms()]
    if gate.operator == "and" and all(isinstance(o, RangeGate) and o.parent == gate.parent for o in operands):
        return (*operands, gate)
    return (gate,)


def _axis(dimension: str, template: Template, columns: Columns) -> Axis:
    transform = template.transform(dimension)
    if transform is not None:
        return Axis(dimension, transform, *TRANSFORMED_RANGE)
    limit = columns.channels[dimension].limit
    return Axis(dimension, None, 0.0, limit if 0 < limit < 2**40 else 262144.0)
