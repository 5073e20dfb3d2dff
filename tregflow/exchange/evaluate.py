"""The events of every population of a foreign tree of gates, by our own transforms and geometry.

A foreign tree (a Gating-ML document, a FlowJo workspace) can hold what no template of ours can: ratios, several
matrices, FlowJo's scales. Here it is evaluated as it is, on all events of a tube at once, so that a count can be held
against another program's before anything is made of the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tregflow.errors import PanelError, TemplateError
from tregflow.gates import Boolean, QuadrantGrid
from tregflow.template.gatingml_model import clip

if TYPE_CHECKING:
    from tregflow.compensation import Spillover
    from tregflow.gates import Ellipsoid, Polygon, Quadrant, Rectangle
    from tregflow.sample import Sample
    from tregflow.template.gatingml_model import DocumentDimension, DocumentGate, GatingDocument

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Node:
    """A population of a foreign tree and what decides it.

    `decide` says which events are inside its gate, and which have a finite value in each of its dimensions; a boolean
    has `boolean` and `operands` (population, complemented) instead. With `outside` the population is what the gate
    leaves out of its parent.
    """

    id: str
    parent: str | None
    decide: Callable[[], tuple[Mask, Mask]] | None = None
    boolean: Boolean | None = None
    operands: tuple[tuple[str, bool], ...] = ()
    outside: bool = False


@dataclass(slots=True)
class Masks:
    """The events of each population, and those of which it is unknown because a value is not finite."""

    n_events: int
    inside: dict[str, Mask] = field(default_factory=dict)
    unknown: dict[str, Mask] = field(default_factory=dict)

    def count(self, population: str) -> int:
        """Number of events in a population."""
        return int(np.count_nonzero(self.inside[population]))


def evaluate(nodes: Sequence[Node], n_events: int) -> Masks:
    """Find the events of every population, whatever the order of the nodes.

    An event whose value is not finite is in no gate, nor in what a gate leaves out: whether it is inside is unknown.

    Raises
    ------
    TemplateError
        `IMPORT_CIRCLE`: populations that need each other, or one that is not there.
    """
    masks = Masks(n_events)
    waiting = list(nodes)
    while waiting:
        ready = [node for node in waiting if _needs(node) <= masks.inside.keys()]
        if not ready:
            names = ", ".join(node.id for node in waiting[:5])
            raise TemplateError("IMPORT_CIRCLE", f"{names}: each needs a population that cannot be found before it.")
        for node in ready:
            _add(node, masks)
        waiting = [node for node in waiting if node.id not in masks.inside]
    return masks


def _needs(node: Node) -> set[str]:
    return {*([] if node.parent is None else [node.parent]), *(name for name, _ in node.operands)}


def _add(node: Node, masks: Masks) -> None:
    everything = np.ones(masks.n_events, dtype=bool)
    parent = everything if node.parent is None else masks.inside[node.parent]
    unknown = ~everything if node.parent is None else masks.unknown[node.parent].copy()
    if node.boolean is not None:
        inside = node.boolean.contains([masks.inside[name] for name, _ in node.operands])
        for name, _ in node.operands:
            unknown |= masks.unknown[name]
    elif node.decide is not None:
        inside, finite = node.decide()
        unknown |= ~finite
    else:
        raise TypeError(node.id)
    masks.inside[node.id] = parent & (~inside if node.outside else inside) & ~unknown
    masks.unknown[node.id] = unknown


class Values:
    """A tube's values by channel: as they are, or compensated by the file's matrix or one of the document."""

    def __init__(
        self,
        sample: Sample,
        file_spillover: Spillover | None,
        document: GatingDocument,
        *,
        absent: Literal["raw", "fail"],
    ) -> None:
        self.sample = sample
        self.absent = absent
        self.index = {channel.pnn: channel.index for channel in sample.channels}
        self.matrices = {matrix.id: matrix for matrix in document.matrices}
        self.spillover = file_spillover
        self.made: dict[str, dict[str, Array]] = {}

    def raw(self, names: Sequence[str]) -> Array:
        """Scale values, `(len(names), n_events)`."""
        if missing := sorted({name for name in names if name not in self.index}):
            known = ", ".join(self.index)
            raise PanelError(
                "PANEL_MARKER_MISSING",
                f"{self.sample.name} has no channel {', '.join(missing)}; it has {known}.",
                file=self.sample.name,
            )
        return self.sample.rows(0, self.sample.n_events, None, [self.index[name] for name in names])

    def column(self, compensation: str, name: str) -> Array:
        """One channel, compensated as a compensation-ref says."""
        made = self.compensated(compensation)
        if name in made:
            return made[name]
        if compensation in self.matrices:
            raise TemplateError(
                "IMPORT_NOT_IN_MATRIX",
                f"{name} is compensated by the matrix {compensation}, which makes {', '.join(made)}.",
            )
        column: Array = self.raw([name])[0]
        return column

    def compensated(self, compensation: str) -> dict[str, Array]:
        """What a matrix makes, by detector and by fluorochrome."""
        if compensation not in self.made:
            self.made[compensation] = self.make(compensation)
        return self.made[compensation]

    def make(self, compensation: str) -> dict[str, Array]:
        """Apply one matrix to all events."""
        if compensation in self.matrices:
            matrix = self.matrices[compensation]
            with np.errstate(over="ignore", invalid="ignore"):
                rows = matrix.unmixing.T @ self.raw(matrix.detectors)
            # as the standard has it, a compensated dimension is named by its fluorochrome; where there is one for each
            # detector, documents in use name it by the detector too
            by_detector = dict(zip(matrix.detectors, rows, strict=True)) if matrix.is_square else {}
            return by_detector | dict(zip(matrix.fluorochromes, rows, strict=True))
        if compensation == "FCS" and self.spillover is not None:
            channels = self.spillover.channels
            return dict(zip(channels, self.spillover.compensate(self.raw(channels)), strict=True))
        if compensation == "FCS" and self.absent == "fail":
            raise TemplateError(
                "IMPORT_NO_MATRIX",
                f"{self.sample.name} has no spillover matrix, and the document asks for the file's own.",
            )
        return {}


def evaluate_document(
    document: GatingDocument,
    sample: Sample,
    file_spillover: Spillover | None = None,
    *,
    absent: Literal["raw", "fail"] = "fail",
) -> Masks:
    """The events of every population of a Gating-ML document.

    Parameters
    ----------
    file_spillover
        The file's own matrix, for `compensation-ref="FCS"`.
    absent
        What is done where the document asks for the file's matrix and there is none: `fail`, or `raw`, which is what
        the standard says (uncompensated) and what no endpoint should rest on.

    Raises
    ------
    PanelError
        `PANEL_MARKER_MISSING`: a channel of the document that the tube does not have.
    TemplateError
        `IMPORT_NO_MATRIX`.
    """
    values = Values(sample, file_spillover, document, absent=absent)
    return evaluate([node for gate in document.gates for node in _nodes(gate, values)], sample.n_events)


def _nodes(gate: DocumentGate, values: Values) -> list[Node]:
    """The populations of a gate: itself, or its quadrants."""
    geometry = gate.geometry
    if isinstance(geometry, Boolean):
        return [Node(gate.id, gate.parent, boolean=geometry, operands=gate.operands)]
    shapes: dict[str, Rectangle | Polygon | Ellipsoid | Quadrant] = (
        {cell.id: geometry.quadrant(cell) for cell in geometry.cells}
        if isinstance(geometry, QuadrantGrid)
        else {gate.id: geometry}
    )

    def decide(shape: Rectangle | Polygon | Ellipsoid | Quadrant) -> tuple[Mask, Mask]:
        raw = [_raw(dimension, values) for dimension in gate.dimensions]
        finite = np.logical_and.reduce([np.isfinite(x) for x in raw])
        return shape.contains(
            [x if d.scale is None else d.scale(x) for d, x in zip(gate.dimensions, raw, strict=True)]
        ), finite

    return [Node(name, gate.parent, partial(decide, shape)) for name, shape in shapes.items()]


def _raw(dimension: DocumentDimension, values: Values) -> Array:
    """A dimension before its transform."""
    channel = dimension.channel
    if isinstance(channel, str):
        return values.column(dimension.compensation, channel)
    x, y = (values.column(dimension.compensation, name) for name in (channel.x, channel.y))
    return clip(channel.ratio(x, y), channel.bound_min, channel.bound_max)
