"""Cuts that do not belong to one tube alone: placed first, frozen, and then used by all the tubes they are for.

A gate's `share` says whose cut it is: its tube's, its subject's (placed on the baseline tube), its batch's or the
study's. Cuts of a subject or study are looked up in the placement registry beside `study.toml` and frozen there.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tregflow.anchors import Anchor, Anchors, open_anchors
from tregflow.batch.controls import control_of, is_own
from tregflow.batch.tube import TubeTask, place_tube
from tregflow.errors import BatchError, Finding, PlacementError, TregflowError
from tregflow.gating import needed_for
from tregflow.placement import Placement, from_baseline, from_template, share_cut
from tregflow.template.model import FmoQuantile, RangeGate, needs_baseline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tregflow.batch.plan import Plan
    from tregflow.batch.workers import Workers


@dataclass(frozen=True, slots=True)
class _Scope:
    """The tubes that share a cut, and those of them that it is placed on."""

    name: str
    words: str
    tubes: tuple[TubeTask, ...]
    anchors: tuple[TubeTask, ...]
    baselines: tuple[TubeTask, ...]
    kept: bool  # in the study's registry


def is_shared(gate: object) -> bool:
    """Whether a gate is placed before its tube is gated: its cut or its fall-back is not the tube's own."""
    return (
        isinstance(gate, RangeGate)
        and gate.place is not None
        and (
            gate.place.share != "tube"
            or gate.place.otherwise == "subject_baseline"
            or isinstance(gate.place, FmoQuantile)
        )
    )


def with_shared_placements(plan: Plan, tasks: Sequence[TubeTask], workers: Workers) -> tuple[TubeTask, ...]:
    """Place and freeze the shared gates, each once the gates it depends on are frozen."""
    template = plan.template.template
    waiting = [gate for gate in template.gates if isinstance(gate, RangeGate) and is_shared(gate)]
    current = {task.name: task for task in tasks}
    usable = [t for t in tasks if not any(f.severity == "fail" for f in t.known)]
    placing = [t.name for t in usable if t.row.role == "stained"]
    controls = [t for t in usable if t.row.role_kind == "fmo"]
    with open_registry(plan) as anchors:
        while waiting and placing:
            ids = {gate.id for gate in waiting}
            ready = [gate for gate in waiting if not needed_for(template, [gate.id]) & ids]
            now = [with_controls(current[name], ready, controls) for name in placing]
            placed = {t.name: found for t, found in workers.map(place_tube, now, tuple(g.id for g in ready))}
            for gate in ready:
                found = {name: placed[name][gate.id] for name in placing}
                scopes = list(_scopes(gate, plan, now))
                for scope in scopes:  # first, so that the order of the manifest does not matter
                    _keep_baselines(gate, scope, anchors, found)
                for scope in scopes:
                    _freeze(gate, scope, anchors, found, current)
            waiting = [gate for gate in waiting if gate not in ready]
    return tuple(current[task.name] for task in tasks)


def open_registry(plan: Plan) -> AbstractContextManager[Anchors | None]:
    """The study's placement registry, if the template keeps anything in it."""
    if not needs_baseline(plan.template.template):
        return nullcontext()
    if plan.study_folder is None:
        raise BatchError("STUDY_NO_BASELINE", "there is no study.toml.")
    return open_anchors(plan.study_folder, plan.template.name, plan.template.sha256)


def with_controls(task: TubeTask, gates: Sequence[RangeGate], controls: Sequence[TubeTask]) -> TubeTask:
    """The task with the FMO tube of each gate that stands on one."""
    chosen = {
        gate.id: control
        for gate in gates
        if isinstance(gate.place, FmoQuantile) and (control := control_of(task, gate.place, controls))
    }
    return replace(task, controls=chosen)


def _scopes(gate: RangeGate, plan: Plan, tasks: Sequence[TubeTask]) -> Iterator[_Scope]:
    """Whose cuts a gate has: one scope for each tube, subject, batch, or one for the study."""
    share = gate.place.share if gate.place is not None else "tube"
    by_key: dict[str, list[TubeTask]] = defaultdict(list)
    for task in tasks:
        key = {"tube": task.name, "subject": task.row.subject_id, "batch": task.row.batch_id, "study": ""}[share]
        by_key[key].append(task)
    for key, tubes in by_key.items():
        baseline = baselines(tubes, plan)
        anchors = {"subject": baseline, "study": baseline or tubes}.get(share, distinct(tubes))
        name = share if share == "study" else f"{share}:{key}"
        words = f"{share} '{key}'" if key else share
        yield _Scope(name, words, tuple(tubes), tuple(anchors), tuple(baseline), share in {"subject", "study"})


def baselines(tubes: Sequence[TubeTask], plan: Plan) -> list[TubeTask]:
    """The baseline tubes among these; of replicates the first."""
    return [t for t in tubes if t.row.visit in plan.baseline and t.row.replicate == 1]


def distinct(tubes: Sequence[TubeTask]) -> list[TubeTask]:
    """One tube for each control tube, so that an FMO that serves many tubes counts once; else all."""
    chosen: dict[str, TubeTask] = {}
    for task in sorted(tubes, key=lambda t: not any(is_own(t, c) for c in t.controls.values())):
        key = "+".join(c.name for c in task.controls.values()) or task.name
        chosen.setdefault(key, task)
    return list(chosen.values())


def _freeze(
    gate: RangeGate,
    scope: _Scope,
    anchors: Anchors | None,
    found: Mapping[str, Placement | TregflowError],
    current: dict[str, TubeTask],
) -> None:
    """Give the tubes of a scope their cut of `gate`, and findings where it is not what it should be."""
    own = {t.name: p for t in scope.anchors if isinstance(p := found[t.name], Placement) and p.status == "placed"}
    kept = anchors.find(gate.id, scope.name) if anchors is not None and scope.kept else None
    cut = kept.placement if kept is not None else _share(gate, scope, own)
    if anchors is not None and scope.kept and kept is None and cut is not None:
        anchors.freeze(gate.id, scope.name, cut, {t.name: t.sha256 for t in scope.anchors if t.name in own})
    for task in scope.tubes:
        now, mine = current[task.name], found[task.name]
        if isinstance(mine, TregflowError) and not isinstance(mine, PlacementError):
            continue  # a truncated file, a missing marker: the gating of the tube says it
        used, findings = (cut, []) if cut is not None else _otherwise(gate, mine, scope, anchors, task)
        if cut is not None:
            findings = [*_doubts(gate.id, mine, scope, task, kept)]
        frozen = now.frozen if used is None else {**now.frozen, gate.id: used}
        current[task.name] = replace(now, known=(*now.known, *findings), frozen=frozen)


def _share(gate: RangeGate, scope: _Scope, own: Mapping[str, Placement]) -> Placement | None:
    """The cut of a scope from those that its tubes placed; a tube's own cut is just that."""
    if gate.place is None or not own:
        return None
    if gate.place.share == "tube":
        return next(iter(own.values()))
    template = scope.tubes[0].template.template
    return share_cut(gate.place, list(own.values()), template.transform(gate.dimensions[0]))


def _keep_baselines(
    gate: RangeGate, scope: _Scope, anchors: Anchors | None, found: Mapping[str, Placement | TregflowError]
) -> None:
    """Freeze what baseline tubes placed themselves, for later visits that cannot place their own."""
    if anchors is None or gate.place is None or gate.place.otherwise != "subject_baseline":
        return
    for task in scope.baselines:
        mine, name = found[task.name], f"subject:{task.row.subject_id}"
        if isinstance(mine, Placement) and mine.status == "placed" and anchors.find(gate.id, name) is None:
            anchors.freeze(gate.id, name, mine, {task.name: task.sha256})


def _doubts(
    gate: str, placed: Placement | TregflowError, scope: _Scope, task: TubeTask, kept: Anchor | None
) -> Iterator[Finding]:
    """What a person should know of a cut that was found elsewhere than on this tube."""
    days = None if isinstance(placed, TregflowError) else placed.estimate.quality.get("control_days")
    if days is not None and isinstance(placed, Placement):
        message = f"{gate}: placed on {placed.reference}, an FMO tube of another batch, {days:g} days apart."
        yield Finding("PLACEMENT_CONTROL_BORROWED", "review", message, population=gate)
    if task not in scope.anchors:
        return
    why = f"{placed.code}: {placed.message}" if isinstance(placed, TregflowError) else placed.message
    if isinstance(placed, TregflowError) or placed.status != "placed":
        yield Finding("PLACEMENT_NOT_OWN", "review", f"{gate}: {why}", population=gate)
    if kept is not None and task.sha256 not in kept.tubes.values():
        message = f"{gate}: the cut of {scope.words} was frozen on {', '.join(kept.tubes)}, not on this tube."
        yield Finding("PLACEMENT_ANCHOR_OTHER", "review", message, population=gate)


def _otherwise(
    gate: RangeGate, placed: Placement | TregflowError, scope: _Scope, anchors: Anchors | None, task: TubeTask
) -> tuple[Placement | None, list[Finding]]:
    """What the template says for a tube whose scope has no cut."""
    rule = gate.place
    if rule is None:
        return None, []
    if isinstance(placed, Placement) and placed.status == "fallback":
        finding = Finding("PLACEMENT_FALLBACK", "review", f"{gate.id}: {placed.message}", population=gate.id)
        return placed, [finding]
    if isinstance(placed, PlacementError):
        error = placed
    else:
        error = PlacementError("PLACEMENT_NO_ANCHOR", f"{gate.id}: {scope.words} has no cut yet.", gate=gate.id)
    if rule.otherwise == "subject_baseline" and anchors is not None:
        baseline = anchors.find(gate.id, f"subject:{task.row.subject_id}")
        if baseline is not None:
            placement, finding = from_baseline(rule, baseline.placement, gate.id, error)
            return placement, [finding]
    if rule.otherwise == "template_value" and rule.template_value is not None:
        placement, finding = from_template(rule, gate.id, error)
        return placement, [finding]
    code = "PLACEMENT_NO_ANCHOR" if scope.kept else "PLACEMENT_NO_SHARED"
    message = f"{gate.id}: there is no cut for {scope.words}. This tube: {error.code}: {error.message}"
    return None, [Finding(code, "fail", message, population=gate.id)]
