"""The engine: a sample and a template in, exact populations out.

It goes in turns. What can be placed is placed: a rule needs the values of its reference population, so that must be
known. Then what is placed is applied, parents first, in one pass over the blocks of events: what a block's gates need
is read and compensated once, and a gate sees only the events inside its parent.

A value that is not finite puts an event in no gate, nor in a gate's complement: whether it is inside is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tregflow.errors import Finding, PlacementError
from tregflow.gating.binning import panels
from tregflow.gating.columns import Block, make_columns
from tregflow.gating.fixed import FixedGate
from tregflow.placement import (
    DECIMALS,
    SPACE,
    Placement,
    moved,
    off_events,
    place_band,
    place_cut,
    place_ellipse,
)
from tregflow.template.model import (
    BooleanGate,
    EllipsoidGate,
    FmoQuantile,
    PolygonGate,
    RangeGate,
    gate_dimensions,
    gate_inputs,
    has_rule,
)
from tregflow.template.order import evaluation_order

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tregflow.compensation import Spillover
    from tregflow.gates import PlacedGate
    from tregflow.gating.binning import Panel
    from tregflow.gating.columns import Columns
    from tregflow.sample import Channel, Sample
    from tregflow.template.model import Gate, Template


@dataclass(frozen=True, slots=True)
class Population:
    """Events inside a gate and all its ancestors. `mask` `(n_events,)` is read-only.

    `n_non_finite` events of the parent have a value that is not finite in one of the gate's dimensions.
    """

    id: str
    parent: str | None
    mask: NDArray[np.bool_] = field(repr=False)
    n_events: int
    n_non_finite: int


@dataclass(frozen=True, slots=True)
class GatingResult:
    """What gating a tube gives: populations in evaluation order, gates as used, placements, drawings, findings.

    `histograms` pairs each panel with its counts, flattened x-major; `mfi[population][marker]` is the median of
    compensated scale values, None for an empty population, rounded to 6 decimals so that it does not depend on the
    last bits of how a processor inverts the spillover. `unknown[gate]` marks events with a value that is not finite.
    """

    n_events: int
    populations: tuple[Population, ...]
    gates: tuple[PlacedGate, ...]
    placements: Mapping[str, Placement]
    histograms: tuple[tuple[Panel, NDArray[np.intp]], ...]
    mfi: Mapping[str, Mapping[str, float | None]]
    findings: tuple[Finding, ...]
    unknown: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict, repr=False)

    def __getitem__(self, population: str) -> Population:
        """The population of a gate; `KeyError` names those there are."""
        for found in self.populations:
            if found.id == population:
                return found
        known = ", ".join(p.id for p in self.populations)
        raise KeyError(f"there is no population '{population}'; there are: {known}")


def gate_sample(
    sample: Sample,
    template: Template,
    *,
    channels: Mapping[str, Channel],
    spillover: Spillover | None,
    frozen: Mapping[str, Placement] | None = None,
    draw: bool = True,
) -> GatingResult:
    """Gate a tube.

    Parameters
    ----------
    channels
        Channel by dimension, from `tregflow.template.panel.resolve_panel`.
    spillover
        The one matrix to apply, None for unmixed data.
    frozen
        Placements shared by the batch, by gate; a gate in here is not placed again.
    draw
        Whether to bin the drawings and compute the MFIs; counts do not depend on it.

    Raises
    ------
    PlacementError
        Where a rule cannot place its gate and the template says `otherwise = "fail"`.
    """
    run = _Run(sample, template, channels, spillover, frozen or {})
    order = evaluation_order(template)
    drawn = panels(template, run.columns, order) if draw else ()
    run.evaluate(order, drawn=drawn)
    return run.result(order, drawn, template.endpoint.mfi if draw else ())


def place_gates(
    sample: Sample,
    template: Template,
    wanted: Collection[str],
    *,
    channels: Mapping[str, Channel],
    spillover: Spillover | None,
    frozen: Mapping[str, Placement] | None = None,
    as_control: bool = False,
) -> dict[str, Placement]:
    """Place the `wanted` gates, which have rules, gating no more than that needs; errors as `gate_sample`.

    With `as_control` the sample is the control tube of rules that stand on one (`fmo_quantile`); elsewhere such a rule
    raises `PLACEMENT_NO_CONTROL`.
    """
    run = _Run(sample, template, channels, spillover, frozen or {}, as_control=as_control)
    needed = needed_for(template, wanted)
    order = [gate for gate in evaluation_order(template) if gate.id in needed or gate.id in wanted]
    run.evaluate(order, only_placed=frozenset(wanted) - needed)
    return {gate: run.placements[gate] for gate in wanted}


def recount(
    result: GatingResult,
    sample: Sample,
    template: Template,
    cuts: Mapping[str, Placement],
    *,
    channels: Mapping[str, Channel],
    spillover: Spillover | None,
) -> dict[str, int]:
    """Events of every population had these gates been placed otherwise.

    Only the gates in `cuts` and those that depend on them are applied again; `result` is this tube's, as gated.
    """
    order = evaluation_order(template)
    affected: set[str] = set(cuts)
    for gate in order:
        if affected.intersection(gate_inputs(gate)):
            affected.add(gate.id)
    run = _Run(sample, template, channels, spillover, {**result.placements, **cuts})
    run.masks = {p.id: p.mask for p in result.populations if p.id not in affected}
    run.unknown = {gate: mask for gate, mask in result.unknown.items() if gate not in affected}
    run.evaluate([gate for gate in order if gate.id in affected])
    return {gate: int(np.count_nonzero(mask)) for gate, mask in run.masks.items()}


def needed_for(template: Template, gates: Iterable[str]) -> frozenset[str]:
    """The populations that placing these gates needs, and all that those depend on."""
    needed: set[str] = set()
    waiting = [name for gate in gates for name in gate_inputs(template.gate(gate))]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += gate_inputs(template.gate(name))
    return frozenset(needed)


class _Run:
    """The working state of gating one tube; lives only inside `gate_sample` and `place_gates`."""

    def __init__(
        self,
        sample: Sample,
        template: Template,
        channels: Mapping[str, Channel],
        spillover: Spillover | None,
        frozen: Mapping[str, Placement],
        *,
        as_control: bool = False,
    ) -> None:
        self.template = template
        self.as_control = as_control
        self.n_events = sample.n_events
        self.columns: Columns = make_columns(sample, channels, spillover)
        self.transforms = {d: template.transform(d) for d in channels}
        self.frozen = frozen
        self.placements: dict[str, Placement] = {}
        self.fixed = {g.id: FixedGate(g, None, self.transforms) for g in template.gates if not has_rule(g)}
        self.masks: dict[str, NDArray[np.bool_]] = {}
        self.unknown: dict[str, NDArray[np.bool_]] = {}  # by gate: events of its parent with a value not finite
        self.histograms: dict[Panel, NDArray[np.intp]] = {}
        self.findings: list[Finding] = []

    def evaluate(
        self, order: Sequence[Gate], *, drawn: Sequence[Panel] = (), only_placed: Collection[str] = frozenset()
    ) -> None:
        """Place and apply the gates of `order`, parents first; those in `only_placed` are not applied."""
        waiting = list(order)
        while waiting:
            for gate in waiting:
                if gate.id not in self.fixed and self.masks.keys() >= set(gate_inputs(gate)):
                    self.place(gate)
            waiting = [g for g in waiting if g.id not in only_placed or g.id not in self.fixed]
            stage = self.applicable(waiting)
            names = [gate.id for gate in stage]
            self.apply(stage, [panel for panel in drawn if panel.gates[-1] in names])
            waiting = [gate for gate in waiting if gate.id not in names]

    def applicable(self, waiting: Sequence[Gate]) -> list[Gate]:
        """The gates whose coordinates are fixed and whose inputs are known, or will be when their turn comes."""
        stage: list[Gate] = []
        known = set(self.masks)
        for gate in waiting:
            if gate.id in self.fixed and known >= set(gate_inputs(gate)):
                stage.append(gate)
                known.add(gate.id)
        return stage

    def place(self, gate: Gate) -> None:
        """Fix the coordinates of a gate that has a rule."""
        placement = self.frozen.get(gate.id)
        if placement is None:
            placement = self.by_rule(gate)
        if isinstance(gate, RangeGate):
            placement = self.off_events(gate, placement)
        self.placements[gate.id] = placement
        self.fixed[gate.id] = FixedGate(gate, placement, self.transforms)

    def by_rule(self, gate: Gate) -> Placement:
        """Place a gate on the values of its reference population."""
        if not isinstance(gate, RangeGate | PolygonGate | EllipsoidGate) or gate.place is None:
            raise TypeError(gate.id)
        if isinstance(gate.place, FmoQuantile) and not self.as_control:
            message = f"{gate.id}: its rule stands on the FMO tube of {gate.place.control}, and this tube has none."
            raise PlacementError("PLACEMENT_NO_CONTROL", message, gate=gate.id)
        reference = gate.place.reference or gate.parent
        name = reference or "all events"
        values = self.columns.gather(gate.dimensions, self.mask(reference))
        if SPACE[gate.place.rule] == "transformed":
            transforms = [self.transforms[d] for d in gate.dimensions]
            values = [v if t is None else t(v) for v, t in zip(values, transforms, strict=True)]
        if isinstance(gate, PolygonGate):
            placement, finding = place_band(gate.place, name, values, gate.id, gate.vertices)
        elif isinstance(gate, EllipsoidGate):
            fallback = (*gate.mean, *(v for row in gate.covariance for v in row))
            placement, finding = place_ellipse(gate.place, name, values, gate.id, fallback)
        else:
            placement, finding = place_cut(gate.place, name, values[0], self.transforms[gate.dimensions[0]], gate.id)
        if finding is not None:
            self.findings.append(finding)
        return placement

    def off_events(self, gate: RangeGate, placement: Placement) -> Placement:
        """Move a cut off the events of the gate's parent that it touches."""
        cut = placement.coordinates[0]
        transform = self.transforms[gate.dimensions[0]]
        (values,) = self.columns.gather(gate.dimensions, self.mask(gate.parent))
        values = values[np.isfinite(values)]
        if transform is not None:
            # only the neighbourhood of the cut is transformed
            low, high = transform.scale_bound(cut - 1e-3), transform.scale_bound(cut + 1e-3)
            values = transform(values[(values >= low) & (values <= high)])
        return moved(placement, off_events(cut, values))

    def mask(self, population: str | None) -> NDArray[np.bool_] | None:
        """The events of a population, None for all events."""
        return None if population is None else self.masks[population]

    def apply(self, stage: Sequence[Gate], drawn: Sequence[Panel]) -> None:
        """Find the events of a stage's gates and bin its drawings, in one pass over the blocks."""
        names = [gate.id for gate in stage]
        outer = {gate.parent: self.mask(gate.parent) for gate in stage if gate.parent not in names}
        needed = [d for gate in stage for d in gate_dimensions(gate)]
        needed += [d for panel in drawn for d in panel.dimensions]
        dimensions = tuple(dict.fromkeys(needed))
        self.masks |= {name: np.zeros(self.n_events, dtype=bool) for name in names}
        self.histograms |= {panel: panel.empty() for panel in drawn}
        for start, stop in self.columns.blocks():
            block = Block(self.columns, dimensions, start, stop, outer)
            for gate in stage:
                if block.holds(gate.parent):
                    block.enter(gate.id, gate.parent, self.inside(gate, block))
                    self.masks[gate.id][block.events(gate.id)] = True
            for panel in drawn:
                if block.holds(panel.population):
                    self.histograms[panel] += panel.bin(block.values(panel.population, panel.dimensions))
        for name in names:
            self.masks[name].flags.writeable = False

    def inside(self, gate: Gate, block: Block) -> NDArray[np.bool_]:
        """Which of the parent's events in a block are inside a gate."""
        if isinstance(gate, BooleanGate):
            events, negated = block.events(gate.parent), gate.operator == "not"
            terms = [self.operand(name, events, outside=complement != negated) for name, complement in gate.terms()]
            return self.fixed[gate.id].combine(terms)
        for dimension in gate.dimensions:
            if not block.all_finite(dimension):
                (values,) = block.values(gate.parent, (dimension,))
                unknown = self.unknown.setdefault(gate.id, np.zeros(self.n_events, dtype=bool))
                unknown[block.events(gate.parent)] |= ~np.isfinite(values)
        return self.fixed[gate.id].contains(block.values(gate.parent, gate.dimensions))

    def operand(self, name: str, events: NDArray[np.intp], *, outside: bool) -> NDArray[np.bool_]:
        """The mask of a population; where its outside is asked for, events that are neither count as inside."""
        mask = self.masks[name][events]
        if outside:
            for gate in _rests_on(self.template, name) & self.unknown.keys():
                mask |= self.unknown[gate][events]
        return mask

    def result(self, order: Sequence[Gate], drawn: Sequence[Panel], markers: Sequence[str]) -> GatingResult:
        """Collect what was computed."""
        unknown = {name: int(np.count_nonzero(mask)) for name, mask in self.unknown.items()}
        if any(unknown.values()):
            n = int(np.count_nonzero(np.logical_or.reduce(list(self.unknown.values()))))
            message = f"{n} events have a value that is not finite."
            self.findings.append(Finding("EVENTS_NON_FINITE", "review", message, observed=str(n)))
        return GatingResult(
            self.n_events,
            tuple(
                Population(g.id, g.parent, mask, int(np.count_nonzero(mask)), unknown.get(g.id, 0))
                for g in order
                for mask in (self.masks[g.id],)
            ),
            tuple(self.fixed[g.id].as_placed(self.columns) for g in order),
            dict(self.placements),
            tuple((panel, self.histograms[panel]) for panel in drawn),
            _medians(self.columns, self.masks, markers),
            tuple(self.findings),
            dict(self.unknown),
        )


def _medians(
    columns: Columns, masks: Mapping[str, NDArray[np.bool_]], markers: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Median of each marker in each population, one marker's values at a time."""
    medians: dict[str, dict[str, float | None]] = {name: {} for name in masks} if markers else {}
    for marker in markers:
        (values,) = columns.gather((marker,), None)
        for name, mask in masks.items():
            found = values[mask]
            found = found[np.isfinite(found)]
            medians[name][marker] = round(float(np.median(found)), DECIMALS) if found.size else None
    return medians


def _rests_on(template: Template, name: str) -> set[str]:
    """The gates that decide which events a population holds: itself, its ancestors, and operands, with theirs."""
    gate = template.gate(name)
    inputs = [] if gate.parent is None else [gate.parent]
    if isinstance(gate, BooleanGate):
        inputs += [operand for operand, _ in gate.terms()]
    return {name}.union(*(_rests_on(template, each) for each in inputs))
