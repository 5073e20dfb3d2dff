"""The engine: a sample and a template in, exact populations out.

Gates are evaluated parents first, in stages: a stage ends where a rule needs the values of a population that has just
become known. Within a stage the events pass once, block by block; a gate sees only the events inside its parent, a
range on a monotone transform is decided in scale values by its inverted bound, and only what a polygon's or
ellipsoid's bounding box lets through is transformed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tregflow.errors import Finding
from tregflow.gates import Boolean, Dimension, Ellipsoid, NamedCell, PlacedGate, Polygon, QuadrantGrid, Rectangle
from tregflow.gating.binning import panels
from tregflow.gating.columns import Columns, make_columns
from tregflow.placement import SPACE, Placement, moved, off_events, place_band, place_cut
from tregflow.template.loading import evaluation_order
from tregflow.template.model import (
    BooleanGate,
    EllipsoidGate,
    PolygonGate,
    QuadrantGate,
    RangeGate,
    RectangleGate,
    gate_dimensions,
    gate_inputs,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tregflow.compensation import Spillover
    from tregflow.gating.binning import Panel
    from tregflow.sample import Channel, Sample
    from tregflow.template.model import Gate, Template
    from tregflow.transforms import Transform



@dataclass(frozen=True, slots=True)
class Population:
    """Events inside a gate and all its ancestors. `mask` `(n_events,)` is read-only.

    `n_non_finite` events of the parent had a value that is not finite in one of the gate's dimensions.
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
    compensated scale values, None for an empty population.
    """

    n_events: int
    populations: tuple[Population, ...]
    gates: tuple[PlacedGate, ...]
    placements: Mapping[str, Placement]
    histograms: tuple[tuple[Panel, NDArray[np.intp]], ...]
    mfi: Mapping[str, Mapping[str, float | None]]
    findings: tuple[Finding, ...]

    def __getitem__(self, population: str) -> Population:
        """The population of a gate."""
        return next(p for p in self.populations if p.id == population)


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
    run = _Run(sample, template, channels, spillover, frozen or {}, draw=draw)
    run.evaluate(evaluation_order(template))
    return run.result()


def place_gates(
    sample: Sample,
    template: Template,
    wanted: Collection[str],
    *,
    channels: Mapping[str, Channel],
    spillover: Spillover | None,
    frozen: Mapping[str, Placement] | None = None,
) -> dict[str, Placement]:
    """Place the `wanted` gates on this tube, gating no more than their placement needs; errors as `gate_sample`."""
    run = _Run(sample, template, channels, spillover, frozen or {}, draw=False)
    order = evaluation_order(template)
    needed = needed_for(template, wanted)
    run.evaluate([g for g in order if g.id in needed or g.id in wanted], stop_at=frozenset(wanted))
    return {gate: run.placements[gate] for gate in wanted}


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
    """The working state of gating one tube; lives only inside `gate_sample`."""

    def __init__(
        self,
        sample: Sample,
        template: Template,
        channels: Mapping[str, Channel],
        spillover: Spillover | None,
        frozen: Mapping[str, Placement],
        *,
        draw: bool,
    ) -> None:
        self.template = template
        self.n_events = sample.n_events
        self.columns: Columns = make_columns(sample, channels, spillover)
        self.transforms = {d: template.transform(d) for d in channels}
        self.frozen = frozen
        self.masks: dict[str | None, NDArray[np.bool_]] = {None: np.ones(self.n_events, dtype=bool)}
        self.non_finite = np.zeros(self.n_events, dtype=bool)
        self.n_non_finite: dict[str, int] = defaultdict(int)
        self.placements: dict[str, Placement] = {}
        self.testers: dict[str, _Tester] = {}
        self.findings: list[Finding] = []
        self.draw = draw
        order = evaluation_order(template)
        self.panels = panels(template, self.columns, order) if draw else ()
        self.binned: dict[Panel, NDArray[np.intp]] = {}

    def evaluate(self, order: Sequence[Gate], stop_at: Collection[str] = ()) -> None:
        """Place and apply the gates of `order`; gates in `stop_at` are placed but not applied."""
        waiting = list(order)
        while waiting:
            for gate in waiting:
                if gate.id not in self.testers and all(name in self.masks for name in gate_inputs(gate)):
                    self._make_tester(gate)
            waiting = [g for g in waiting if g.id not in stop_at or g.id not in self.testers]
            stage: list[Gate] = []
            known = set(self.masks)
            for gate in waiting:
                if gate.id in self.testers or not _is_placed_by_rule(gate):
                    if all(name in known for name in gate_inputs(gate)):
                        stage.append(gate)
                        known.add(gate.id)
            for gate in stage:
                if gate.id not in self.testers:
                    self._make_tester(gate)
            self._pass(stage)
            waiting = [g for g in waiting if g not in stage]

    def _make_tester(self, gate: Gate) -> None:
        """Fix a gate's coordinates, placing it if it has a rule."""
        placement = self._placement(gate)
        if placement is not None:
            self.placements[gate.id] = placement
        self.testers[gate.id] = _Tester(gate, placement, self.transforms)

    def _placement(self, gate: Gate) -> Placement | None:
        if not isinstance(gate, RangeGate | PolygonGate) or gate.place is None:
            return None
        frozen = self.frozen.get(gate.id)
        reference = gate.place.reference or gate.parent
        name = reference or "all events"
        if isinstance(gate, PolygonGate):
            if frozen is not None:
                return frozen
            band = self.columns.gather(gate.dimensions, self.masks[reference])
            placement, finding = place_band(gate.place, name, band, gate.id, gate.vertices)
        else:
            transform = self.transforms[gate.dimensions[0]]
            if frozen is not None:
                return self._off_events(gate, frozen, transform)
            (values,) = self.columns.gather(gate.dimensions, self.masks[reference])
            if SPACE[gate.place.rule] == "transformed" and transform is not None:
                values = transform(values)
            placement, finding = place_cut(gate.place, name, values, transform, gate.id)
            placement = self._off_events(gate, placement, transform)
        if finding is not None:
            self.findings.append(finding)
        return placement

    def _off_events(self, gate: RangeGate, placement: Placement, transform: Transform | None) -> Placement:
        """Move a cut off the events of the gate's parent that it touches."""
        (values,) = self.columns.gather(gate.dimensions, self.masks[gate.parent])
        cut = placement.coordinates[0]
        values = values[np.isfinite(values)]
        if transform is not None:
            # only the neighbourhood of the cut is transformed
            low, high = transform.scale_bound(cut - 1e-3), transform.scale_bound(cut + 1e-3)
            values = transform(values[(values >= low) & (values <= high)])
        return moved(placement, off_events(cut, values))

    def _pass(self, stage: Sequence[Gate]) -> None:
        """Apply the gates of a stage in one pass over the blocks."""
        drawn = self._panels_of(stage)
        for gate in stage:
            self.masks[gate.id] = np.zeros(self.n_events, dtype=bool)
        for start, stop in self.columns.blocks():
            cache: dict[str | None, tuple[NDArray[np.intp], dict[str, NDArray[np.float64]]]] = {}
            for gate in stage:
                if gate.parent not in cache:
                    cache[gate.parent] = self._load(gate.parent, stage, drawn, start, stop)
                index, values = cache[gate.parent]
                self._apply(gate, index, values, start)
            for panel in drawn:
                if cache[panel.population][0].size:
                    self.binned[panel] = self.binned.get(panel, 0) + panel.bin(cache[panel.population][1])
        for gate in stage:
            self.masks[gate.id].flags.writeable = False

    def _panels_of(self, stage: Sequence[Gate]) -> list[Panel]:
        ids = {gate.id for gate in stage}
        return [p for p in self.panels if p.gates[-1] in ids]

    def _load(
        self, parent: str | None, stage: Sequence[Gate], drawn: Sequence[Panel], start: int, stop: int
    ) -> tuple[NDArray[np.intp], dict[str, NDArray[np.float64]]]:
        """The events of `parent` in a block and their values in every dimension the stage needs there."""
        needed = [d for gate in stage if gate.parent == parent for d in gate_dimensions(gate)]
        needed += [d for panel in drawn if panel.population == parent for d in panel.dimensions]
        dimensions = tuple(dict.fromkeys(needed))
        index = np.flatnonzero(self.masks[parent][start:stop])
        if not index.size or not dimensions:
            return index, {d: np.empty(0) for d in dimensions}
        whole = None if index.size == stop - start else index
        return index, self.columns.values(dimensions, start, stop, whole)

    def _apply(
        self, gate: Gate, index: NDArray[np.intp], values: Mapping[str, NDArray[np.float64]], start: int
    ) -> None:
        if not index.size:
            return
        events = start + index
        if isinstance(gate, BooleanGate):
            tester = self.testers[gate.id].boolean()
            inside = tester.contains([self.masks[name][events] for name, _ in gate.terms()])
            # what was not a number in some gate is in no gate, so also not in a complement
            inside &= ~self.non_finite[events]
        else:
            for dimension in gate.dimensions:
                finite = np.isfinite(values[dimension])
                if not finite.all():
                    self.n_non_finite[gate.id] += int((~finite).sum())
                    self.non_finite[events[~finite]] = True
            inside = self.testers[gate.id].contains(values)
        self.masks[gate.id][events[inside]] = True

    def result(self) -> GatingResult:
        """Collect what was computed."""
        order = [g for g in evaluation_order(self.template) if g.id in self.masks]
        populations = tuple(
            Population(g.id, g.parent, self.masks[g.id], int(self.masks[g.id].sum()), self.n_non_finite.get(g.id, 0))
            for g in order
        )
        if self.non_finite.any():
            n = int(self.non_finite.sum())
            self.findings.append(
                Finding("EVENTS_NON_FINITE", "review", f"{n} events have a value that is not finite.", observed=str(n))
            )
        return GatingResult(
            self.n_events,
            populations,
            tuple(self.testers[g.id].placed_gate(g, self.columns, self.transforms) for g in order),
            dict(self.placements),
            tuple((p, self.binned.get(p, _empty(p))) for p in self.panels),
            {p.id: self._mfi(p) for p in populations} if self.draw else {},
            tuple(self.findings),
        )

    def _mfi(self, population: Population) -> dict[str, float | None]:
        markers = self.template.endpoint.mfi
        if not markers:
            return {}
        values = self.columns.gather(markers, population.mask)
        finite = [v[np.isfinite(v)] for v in values]
        return {m: float(np.median(v)) if v.size else None for m, v in zip(markers, finite, strict=True)}


class _Tester:
    """A gate with its coordinates fixed; tests compensated scale values."""

    def __init__(
        self, gate: Gate, placement: Placement | None, transforms: Mapping[str, Transform | None]
    ) -> None:
        self.gate = gate
        self.geometry = _geometry(gate, placement)
        self.transforms = [transforms[d] for d in gate_dimensions(gate)]
        if isinstance(self.geometry, Rectangle):
            intervals: Iterable[tuple[float | None, float | None]] = zip(
                self.geometry.minima, self.geometry.maxima, strict=True
            )
        elif isinstance(self.geometry, QuadrantGrid):
            intervals = self.geometry.quadrant(self.geometry.cells[0]).intervals
        elif isinstance(self.geometry, Boolean):
            intervals = ()
        else:
            intervals = _bounding_box(self.geometry)
        self.bounds = [
            (_in_scale(low, t, -np.inf), _in_scale(high, t, np.inf))
            for (low, high), t in zip(intervals, self.transforms, strict=True)
        ]

    def boolean(self) -> Boolean:
        """The geometry of a boolean gate."""
        if not isinstance(self.geometry, Boolean):
            raise TypeError(self.gate.id)
        return self.geometry

    def contains(self, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
        """Which events, given in compensated scale values `(m,)` by dimension, are inside."""
        points = [values[d] for d in gate_dimensions(self.gate)]
        inside = np.isfinite(points[0])
        for x, (low, high) in zip(points, self.bounds, strict=True):
            inside &= (x >= low) & (x < high)
        if isinstance(self.geometry, Polygon | Ellipsoid):
            candidates = np.flatnonzero(inside)
            transformed = [
                x[candidates] if t is None else t(x[candidates])
                for x, t in zip(points, self.transforms, strict=True)
            ]
            inside[candidates] = self.geometry.contains(transformed)
        return inside

    def placed_gate(self, gate: Gate, columns: Columns, transforms: Mapping[str, Transform | None]) -> PlacedGate:
        """The gate as used, for the record and for other engines."""
        dimensions = tuple(
            Dimension(columns.channels[d].pnn, columns.compensated(d), transforms[d]) for d in gate_dimensions(gate)
        )
        operands = gate.terms() if isinstance(gate, BooleanGate) else ()
        kind = "rectangle" if isinstance(gate, RangeGate) else gate.kind
        return PlacedGate(gate.id, gate.label, gate.parent, kind, dimensions, self.geometry, operands)


def _is_placed_by_rule(gate: Gate) -> bool:
    return isinstance(gate, RangeGate | PolygonGate) and gate.place is not None


def _geometry(
    gate: Gate, placement: Placement | None
) -> Rectangle | Polygon | Ellipsoid | QuadrantGrid | Boolean:
    if isinstance(gate, RangeGate):
        if placement is None or gate.place is None:
            return Rectangle((gate.min,), (gate.max,))
        cut = placement.coordinates[0]
        return Rectangle((cut,), (None,)) if gate.place.side == "above" else Rectangle((None,), (cut,))
    if isinstance(gate, RectangleGate):
        return Rectangle(
            tuple(gate.min.get(d) for d in gate.dimensions), tuple(gate.max.get(d) for d in gate.dimensions)
        )
    if isinstance(gate, PolygonGate):
        if placement is None:
            return Polygon(gate.vertices)
        flat = placement.coordinates
        return Polygon(tuple(zip(flat[::2], flat[1::2], strict=True)))
    if isinstance(gate, EllipsoidGate):
        return Ellipsoid(gate.mean, gate.covariance, gate.distance_square)
    if isinstance(gate, QuadrantGate):
        cell = tuple(None if c < 0 else c for c in gate.cells)
        return QuadrantGrid(gate.dividers, (NamedCell(gate.id, gate.label, cell),))
    return Boolean(gate.operator, tuple(complement for _, complement in gate.terms()))


def _bounding_box(geometry: Polygon | Ellipsoid) -> list[tuple[float, float]]:
    """A box around the gate in its own space, a little larger than needed, so that rounding cannot cut an event off."""
    if isinstance(geometry, Polygon):
        corners = np.array(geometry.vertices)
        low, high = corners.min(axis=0), corners.max(axis=0)
    else:
        reach = np.sqrt(np.diag(np.array(geometry.covariance)) * geometry.distance_square)
        low, high = np.array(geometry.mean) - reach, np.array(geometry.mean) + reach
    margin = 1e-9 * np.maximum(np.maximum(np.abs(low), np.abs(high)), 1.0)
    return [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]


def _in_scale(bound: float | None, transform: Transform | None, unbounded: float) -> float:
    """A bound on a transformed axis as the smallest scale value that reaches it (its own value without transform)."""
    if bound is None:
        return unbounded
    return bound if transform is None else transform.scale_bound(bound)


def _empty(panel: Panel) -> NDArray[np.intp]:
    return panel.bin({d: np.empty(0) for d in panel.dimensions})
