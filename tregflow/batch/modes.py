"""The deciding cuts under the sensitivity modes: where they would be if the template shared them otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tregflow.batch.sharing import baselines, distinct, open_registry, with_controls
from tregflow.batch.tube import TubeTask, place_tube
from tregflow.errors import PlacementError, TregflowError
from tregflow.placement import Placement, from_template, share_cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tregflow.anchors import Anchors
    from tregflow.batch.plan import Plan
    from tregflow.batch.workers import Workers
    from tregflow.template.model import Mode, RangeGate

Found = dict[str, dict[str, "Placement | TregflowError"]]


def with_modes(plan: Plan, tasks: Sequence[TubeTask], workers: Workers) -> tuple[TubeTask, ...]:
    """Give every stained tube its deciding cuts under each mode of `endpoint.sensitivity`.

    All modes start from what each tube's own rule gives; they differ in whose cut is used. Nothing is frozen in the
    study's registry for them: a subject's cut is looked up there, or taken from the baseline tube in this run.
    """
    template = plan.template.template
    modes, gates = template.endpoint.sensitivity, template.deciding
    stained = [t for t in tasks if t.row.role == "stained" and not any(f.severity == "fail" for f in t.known)]
    if not modes or not stained:
        return tuple(tasks)
    controls = [t for t in tasks if t.row.role_kind == "fmo" and not any(f.severity == "fail" for f in t.known)]
    own = [
        with_controls(
            replace(t, frozen={g: p for g, p in t.frozen.items() if g not in {d.id for d in gates}}), gates, controls
        )
        for t in stained
    ]
    found: Found = {task.name: placed for task, placed in workers.map(place_tube, own, tuple(g.id for g in gates))}
    with open_registry(plan) as anchors:
        chosen: dict[str, dict[str, Mapping[str, Placement] | str]] = {
            task.name: {mode: _cuts(mode, task, gates, own, found, plan, anchors) for mode in modes} for task in own
        }
    return tuple(replace(task, modes=chosen.get(task.name, {})) for task in tasks)


def _cuts(
    mode: Mode,
    task: TubeTask,
    gates: Sequence[RangeGate],
    tasks: Sequence[TubeTask],
    found: Found,
    plan: Plan,
    anchors: Anchors | None,
) -> Mapping[str, Placement] | str:
    """The cuts of a tube under a mode, or why it has none."""
    cuts = {}
    for gate in gates:
        cut = _cut(mode, task, gate, tasks, found, plan, anchors)
        if isinstance(cut, str):
            return cut
        cuts[gate.id] = cut
    return cuts


def _cut(
    mode: Mode,
    task: TubeTask,
    gate: RangeGate,
    tasks: Sequence[TubeTask],
    found: Found,
    plan: Plan,
    anchors: Anchors | None,
) -> Placement | str:
    rule = gate.place
    if rule is None:
        return f"{gate.id} has no rule"
    if mode == "fixed":
        return from_template(rule, gate.id, PlacementError("PLACEMENT_FALLBACK", "the fixed mode.", gate=gate.id))[0]
    if mode == "subject" and anchors is not None:
        kept = anchors.find(gate.id, f"subject:{task.row.subject_id}")
        if kept is not None:
            return kept.placement
    sharing = {
        "tube": [task],
        "batch": distinct([t for t in tasks if t.row.batch_id == task.row.batch_id]),
        "subject": baselines([t for t in tasks if t.row.subject_id == task.row.subject_id], plan),
    }[mode]
    placed = [p for t in sharing if isinstance(p := found[t.name][gate.id], Placement) and p.status == "placed"]
    if not placed:
        return f"{gate.id}: no tube to place it on ({mode})"
    transform = plan.template.template.transform(gate.dimensions[0])
    return placed[0] if mode == "tube" else share_cut(rule, placed, transform)
