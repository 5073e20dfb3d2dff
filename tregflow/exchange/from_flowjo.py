"""The tree of a FlowJo group as a foreign tree, and which samples have gates of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tregflow.errors import TemplateError
from tregflow.exchange.draft import ForeignTree
from tregflow.exchange.flowjo_count import ellipse_of, spillover_of
from tregflow.exchange.foreign import ForeignAxis, ForeignGate
from tregflow.exchange.scales import GatingMlAxis, LinearAxis, LogAxis, carried
from tregflow.exchange.workspace import UnknownAxis
from tregflow.gates import Boolean, Polygon, Rectangle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tregflow.compensation import Spillover
    from tregflow.exchange.foreign import Invertible
    from tregflow.exchange.workspace import Shape, Workspace, WorkspaceGate, WorkspaceGroup, WorkspaceSample

ALL = "All Samples"
OWN_MATRIX = "Acquisition-defined"  # FlowJo's name for the matrix that the file brings


@dataclass(frozen=True, slots=True)
class Difference:
    """A gate of a sample that is not its group's: which, and what is different."""

    sample: str
    gate: str
    what: str


@dataclass(frozen=True, slots=True)
class GroupTree:
    """A group's tree, the sample whose axes and matrix it is read on, and how the other samples differ."""

    group: str
    sample: WorkspaceSample
    gates: tuple[WorkspaceGate, ...]
    is_groups: bool
    differences: tuple[Difference, ...]
    n_samples: int


def group_tree(workspace: Workspace, group: str | None, sample: str | None) -> GroupTree:
    """The tree that a group's samples follow.

    It is the group's own. Where that has no gates (all were drawn on samples, or by another program), or lacks those
    that were drawn on samples, it is that of one sample: the named one, else the group's first with gates.

    Raises
    ------
    TemplateError
        `IMPORT_CHOICE`: no such group or sample, or several groups and none named. `IMPORT_REFUSED`: no gates.
    """
    chosen = _group(workspace, group)
    members = [s for s in workspace.samples if s.id in chosen.samples]
    fits = [s for s in members if sample in {None, s.name, s.file, s.id} and s.gates]
    if sample is not None and not fits:
        names = ", ".join(f"{s.name} (id {s.id})" for s in members)
        raise TemplateError("IMPORT_CHOICE", f"--sample {sample}: the group {chosen.name} has {names or 'no samples'}.")
    if not fits:
        raise TemplateError("IMPORT_REFUSED", f"no sample of the group {chosen.name} of {workspace.name} has gates.")
    model = fits[0]
    own = {gate.id for gate in chosen.gates}
    is_groups = bool(own) and sample is None and own >= {gate.id for gate in model.gates}
    gates = chosen.gates if is_groups else model.gates
    found = [difference for s in members for difference in _differences(s, model, gates)]
    return GroupTree(chosen.name, model, gates, is_groups, tuple(found), len(members))


def _group(workspace: Workspace, name: str | None) -> WorkspaceGroup:
    groups = {group.name: group for group in workspace.groups if group.samples}
    if name is None:
        own = [group for group in groups.values() if group.name != ALL]
        if len(own) == 1:
            return own[0]
        if not own and ALL in groups:
            return groups[ALL]
    elif name in groups:
        return groups[name]
    asked = "several groups; name one with --group" if name is None else f"--group {name}: no such group with samples"
    raise TemplateError("IMPORT_CHOICE", f"{workspace.name}: {asked}: {', '.join(groups) or 'none'}.")


def _differences(
    sample: WorkspaceSample, model: WorkspaceSample, gates: tuple[WorkspaceGate, ...]
) -> Iterable[Difference]:
    """What a sample does otherwise than the tree; axes count where a gate stands on them."""
    wanted = {gate.id: gate for gate in gates}
    for gate in sample.gates:
        if gate.id not in wanted:
            yield Difference(sample.name, gate.id, "only this sample has it")
        elif gate.content != wanted[gate.id].content:
            yield Difference(
                sample.name, gate.id, "its own shape" if not gate.owner else f"follows {gate.owner}, other shape"
            )
    there = {gate.id for gate in sample.gates}
    yield from (Difference(sample.name, name, "it does not have it") for name in wanted if name not in there)
    if sample is model:
        return
    names = dict.fromkeys(n for gate in gates if gate.shape is not None for n in gate.shape.names)
    for name in names:
        mine, its = sample.axes.get(name), model.axes.get(name)
        if mine != its and not (isinstance(mine, LinearAxis) and isinstance(its, LinearAxis) and mine.gain == its.gain):
            yield Difference(sample.name, name, f"another axis: {mine}, not {its}")
    if sample.matrix != model.matrix and any(sample.channel(name)[1] for name in names):
        yield Difference(sample.name, "matrix", "another spillover matrix")


def tree_of_group(tree: GroupTree, source: str) -> ForeignTree:
    """The gates of a group, on the axes and the matrix of its sample."""
    sample = tree.sample
    matrix = None if sample.matrix is None else spillover_of(sample.matrix)
    alone = _only_rectangles(tree)
    gates = tuple(_gate(gate, sample, matrix, alone) for gate in tree.gates)
    assumed = [
        (
            "gates",
            "the group's own tree"
            if tree.is_groups
            else f"the tree of {sample.name}, because the group has none of its own",
        )
    ]
    assumed.append(("axes and matrix", f"those of {sample.name}"))
    if tree.differences:
        who = dict.fromkeys(d.sample for d in tree.differences)
        assumed.append(("samples", f"{len(who)} of {tree.n_samples} samples differ from this tree; they are listed"))
    if matrix is not None and matrix.is_identity:
        assumed.append(
            ("matrix", "the workspace's matrix is the identity, so compensated and uncompensated are the same")
        )
    named = {} if sample.matrix is None or matrix is None else {sample.matrix.name: matrix}
    # FlowJo lists compensated channels as parameters of their own, with the stain of the channel they are made of
    stains = {name: stain for name, stain in sample.stains.items() if not sample.channel(name)[1]}
    return ForeignTree(source, gates, stains, named, tuple(assumed))


def _only_rectangles(tree: GroupTree) -> set[str]:
    """Names of dimensions on which no polygon or ellipse stands."""
    shapes = [gate.shape for gate in tree.gates if gate.shape is not None]
    drawn = {name for shape in shapes if shape.kind != "rectangle" for name in shape.names}
    return {name for shape in shapes for name in shape.names} - drawn


def _gate(gate: WorkspaceGate, sample: WorkspaceSample, matrix: Spillover | None, alone: set[str]) -> ForeignGate:
    title = gate.path[-1]
    if gate.shape is None:
        operands = tuple((name, False) for name in gate.dependents)
        geometry = Boolean(gate.operator or "and", (False,) * len(operands))
        return ForeignGate(gate.id, title, gate.parent, "boolean", (), geometry, operands)
    shape = gate.shape
    axes = tuple(_axis(name, shape, sample, matrix, alone) for name in shape.names)
    refused = next((why for name in shape.names if (why := _refused(sample.axes.get(name), shape))), "")
    kind = "ellipsoid" if shape.kind == "ellipse" else shape.kind
    if refused:
        return ForeignGate(gate.id, title, gate.parent, kind, axes, outside=gate.outside, refused=refused)
    if shape.kind == "rectangle":
        kept = [(a, b) for a, b in zip(axes, shape.bounds, strict=True) if b != (None, None)]
        if not kept:
            return ForeignGate(gate.id, title, gate.parent, kind, axes, refused="it has no bounds")
        box = Rectangle(tuple(low for _, (low, _) in kept), tuple(high for _, (_, high) in kept))
        return ForeignGate(gate.id, title, gate.parent, kind, tuple(a for a, _ in kept), box, outside=gate.outside)
    if shape.kind == "ellipse":
        return ForeignGate(gate.id, title, gate.parent, kind, axes, ellipse_of(shape), outside=gate.outside)
    places = [_on(axis.space, [v[i] for v in shape.vertices]) for i, axis in enumerate(axes)]
    polygon = Polygon(tuple(zip(*places, strict=True)))
    return ForeignGate(gate.id, title, gate.parent, kind, axes, polygon, outside=gate.outside)


def _axis(name: str, shape: Shape, sample: WorkspaceSample, matrix: Spillover | None, alone: set[str]) -> ForeignAxis:
    channel, compensated = sample.channel(name)
    compensation = ""
    if compensated and matrix is not None and not matrix.is_identity and sample.matrix is not None:
        compensation = "file" if sample.matrix.name == OWN_MATRIX else sample.matrix.name
    axis = sample.axes.get(name)
    scale = "scale values" if axis is None else str(axis)
    if isinstance(axis, UnknownAxis):
        return ForeignAxis(channel, compensation, None, None, same=True, scale=scale, how="not carried")
    if isinstance(axis, LogAxis) and name in alone:
        # a log has no value at zero and below, where FlowJo's bounds still count
        how = "exact, its bounds in scale values"
        return ForeignAxis(channel, compensation, None, None, same=True, scale=scale, how=how)
    made = carried(axis)
    if shape.kind == "rectangle":  # FlowJo keeps, and decides, their bounds in scale values
        how = made.how if made.exact else "as the logicle of its decades, exact for bounds"
        return ForeignAxis(channel, compensation, None, made.transform, same=True, scale=scale, how=how)
    space: Invertible | None = axis.transform if isinstance(axis, GatingMlAxis) else axis
    return ForeignAxis(channel, compensation, space, made.transform, same=made.exact, scale=scale, how=made.how)


def _refused(axis: object, shape: Shape) -> str:
    if isinstance(axis, UnknownAxis):
        return f"its axis cannot be repeated ({axis})"
    if isinstance(axis, LinearAxis) and axis.gain != 1:
        return (
            f"FlowJo scales its channel by a gain of {axis.gain:g}, so that its coordinates are not the file's values"
        )
    if axis is None and shape.kind == "ellipse":
        return "it is an ellipse on an axis that the workspace does not describe"
    return ""


def _on(space: Invertible | None, values: list[float]) -> list[float]:
    array = np.array(values)
    return [float(v) for v in (array if space is None else space(array))]
