"""Cuts that a batch shares: placed on each of its tubes, frozen, then used by all of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from tregflow.batch.tube import TubeTask, place_tube
from tregflow.errors import Finding, PlacementError, TregflowError
from tregflow.gating import needed_for
from tregflow.placement import Placement, share_cut
from tregflow.template.model import RangeGate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tregflow.batch.workers import Workers


def with_shared_placements(tasks: Sequence[TubeTask], workers: Workers) -> tuple[TubeTask, ...]:
    """Place and freeze the gates that a batch shares, each once the gates it depends on are frozen."""
    template = tasks[0].template.template
    waiting = [g for g in template.gates if isinstance(g, RangeGate) and g.place and g.place.share == "batch"]
    current = {task.name: task for task in tasks}
    placing = [t for t in tasks if not t.row.is_control and not any(f.severity == "fail" for f in t.known)]
    while waiting and placing:
        ids = {gate.id for gate in waiting}
        ready = [gate for gate in waiting if not needed_for(template, [gate.id]) & ids]
        now = [current[task.name] for task in placing]
        placed = {task.name: found for task, found in workers.map(place_tube, now, tuple(g.id for g in ready))}
        for gate in ready:
            _freeze(gate, placing, placed, current)
        waiting = [gate for gate in waiting if gate not in ready]
    return tuple(current[task.name] for task in tasks)


def _freeze(
    gate: RangeGate,
    placing: Sequence[TubeTask],
    placed: Mapping[str, Mapping[str, Placement | TregflowError]],
    current: dict[str, TubeTask],
) -> None:
    """Give every tube of a batch the batch's cut of `gate`, and a finding to those that could not place it."""
    batches: dict[str, list[TubeTask]] = defaultdict(list)
    for task in placing:
        batches[task.row.batch_id].append(task)
    for batch, tubes in batches.items():
        found = {task.name: placed[task.name][gate.id] for task in tubes}
        own = [p for p in found.values() if isinstance(p, Placement) and p.status == "placed"]
        template = tubes[0].template.template
        cut = share_cut(gate.place, own, template.transform(gate.dimensions[0])) if gate.place and own else None
        for task in tubes:
            now, mine = current[task.name], found[task.name]
            frozen = now.frozen if cut is None else {**now.frozen, gate.id: cut}
            known = (*now.known, *_not_own(gate.id, mine, batch, shared=cut is not None))
            current[task.name] = replace(now, known=known, frozen=frozen)


def _not_own(gate: str, placed: Placement | TregflowError, batch: str, *, shared: bool) -> Iterator[Finding]:
    """What it means for a tube that it could not place a gate of its batch.

    An error of another kind than placement (a truncated file, a missing marker) is left to the gating, which says it.
    """
    if isinstance(placed, Placement):
        why = placed.message if placed.status != "placed" else ""
    else:
        why = f"{placed.code}: {placed.message}" if isinstance(placed, PlacementError) else ""
    if not why:
        return
    if shared:
        yield Finding("PLACEMENT_NOT_OWN", "review", f"{gate}: {why}", population=gate)
    else:
        message = f"{gate}: no tube of batch '{batch}' could place it. This tube: {why}"
        yield Finding("PLACEMENT_NO_SHARED", "fail", message, population=gate)
