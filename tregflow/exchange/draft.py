"""A draft template from a foreign tree of gates, with what had to be assumed and what cannot be carried."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tregflow.errors import GateError, TemplateError
from tregflow.exchange.foreign import ForeignAxis, ForeignGate, moved
from tregflow.gates import Boolean, Ellipsoid, Polygon, Rectangle
from tregflow.sample import sample_from_array
from tregflow.template.drafting import FIRST
from tregflow.template.loading import parse_template
from tregflow.template.model import Template
from tregflow.template.panel import fold_label
from tregflow.template.writing import save_template

if TYPE_CHECKING:
    from tregflow.compensation import Spillover
    from tregflow.transforms import Transform

_SCATTER = re.compile(r"(fsc|ssc)\b|(fsc|ssc)[-_ ]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ForeignTree:
    """A tree of gates of another program, as it is.

    `stains` gives the stain of a channel where it is known; `matrices` those that gates name; `source` says in a few
    words where the tree is from. `assumed` are things that were decided before this point: (what, how).
    """

    source: str
    gates: tuple[ForeignGate, ...]
    stains: Mapping[str, str] = field(default_factory=dict)
    matrices: Mapping[str, Spillover] = field(default_factory=dict)
    assumed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GateFate:
    """What becomes of a gate: its id in the draft (empty where it is not carried) and how, in words.

    `axes` has the channel, its compensation and its scale. `off` is how far its edges are off, as a fraction of an
    axis; 0 where it is the same shape.
    """

    id: str
    foreign: str
    kind: str
    axes: tuple[ForeignAxis, ...]
    how: str
    off: float = 0.0

    @property
    def carried(self) -> bool:
        """Whether it is in the draft."""
        return bool(self.id)


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft template with what is to be known about it.

    `matrix` is the matrix to be written beside it, where the tree names one that is not the file's own.
    """

    template: Template
    text: str
    fates: tuple[GateFate, ...]
    assumed: tuple[tuple[str, str], ...]
    matrix: Spillover | None
    ids: Mapping[str, str]


def _why_not(tree: ForeignTree) -> dict[str, str]:
    """By foreign id, why a gate is not carried: itself, or what it rests on."""
    compensation = _one_compensation(tree)
    why: dict[str, str] = {}
    waiting = list(tree.gates)
    while waiting:  # parents and operands first, so that what rests on a refused gate is refused too
        known = {gate.id for gate in tree.gates} - {gate.id for gate in waiting}
        ready = [gate for gate in waiting if known.issuperset(gate.needs)]
        if not ready:
            names = ", ".join(gate.id for gate in waiting[:5])
            raise TemplateError("IMPORT_CIRCLE", f"{names}: each needs a population that cannot be found before it.")
        for gate in ready:
            lost = [name for name in gate.needs if name in why]
            reason = gate.refused or _other_compensation(gate, tree, compensation)
            if reason or lost:
                why[gate.id] = reason or f"it rests on {lost[0]}, which is not carried"
        waiting = [gate for gate in waiting if gate not in ready]
    return why


def make_draft(tree: ForeignTree, template_id: str, numerator: str, denominator: str) -> Draft:
    """Turn a tree into a draft template.

    Parameters
    ----------
    template_id
        The draft's id.
    numerator, denominator
        Populations of the tree, by id, title, path or id in the draft.

    Raises
    ------
    TemplateError
        `IMPORT_CHOICE`: numerator or denominator is not one population of the tree. `IMPORT_REFUSED`: it is one that
        cannot be carried. `TEMPLATE_INVALID`: what was made is no valid template, with every problem.
    """
    tree, targets, why = _carried(tree)
    ids = _ids(tree)
    chosen = {"numerator": numerator, "denominator": denominator}
    ends = {name: _choose(tree, ids, text, name) for name, text in chosen.items()}
    for name, foreign in ends.items():
        if foreign in why:
            raise TemplateError("IMPORT_REFUSED", f"the {name} {foreign} cannot be carried: {why[foreign]}.")
    kept = [gate for gate in tree.gates if gate.id not in why]
    markers, named = _markers(kept, tree)
    source, matrix, said = _compensation(tree)
    fates = _fates(tree, ids, targets, why)
    gates: list[dict[str, Any]] = []
    comments: dict[tuple[str, ...], str] = {}
    for gate, fate in zip(tree.gates, fates, strict=True):
        if fate.carried:
            written = _gate(gate, ids, markers, targets)
            gates += written
            comments["gates", written[0]["id"]] = "\n".join(
                [f"{fate.foreign}: {fate.how}", *map(axis_words, fate.axes)]
            )
    assumed = (*tree.assumed, *named, ("compensation", said), *_endpoint_words(ends, ids))
    document = {
        "schema_version": 1,
        "id": template_id,
        "version": FIRST,
        "title": f"Imported from {tree.source}",
        "endpoint": {end: ids[foreign] for end, foreign in ends.items()},
        "panel": {marker: _panel_entry(channel, marker) for channel, marker in markers.items()},
        "compensation": {"source": source},
        "transforms": {markers[channel]: _spec(target) for channel, target in targets.items() if target is not None},
        "gates": gates,
        "changelog": [{"version": FIRST, "numbers": "", "text": f"imported from {tree.source}"}],
    }
    head = "\n".join([f"Imported from {tree.source}. Assumed on the way:", *(f"- {a}: {b}" for a, b in assumed)])
    template = _checked(document, tree.source)
    text = save_template(template, {(): head} | comments)
    return Draft(template, text, fates, assumed, matrix, {g.id: ids[g.id] for g in kept})


def survey(tree: ForeignTree) -> tuple[GateFate, ...]:
    """What would become of each gate, whatever the endpoint is."""
    tree, targets, why = _carried(tree)
    return _fates(tree, _ids(tree), targets, why)


def _fates(
    tree: ForeignTree, ids: Mapping[str, str], targets: Mapping[str, Transform | None], why: Mapping[str, str]
) -> tuple[GateFate, ...]:
    found = []
    for gate in tree.gates:
        if gate.id in why:
            found.append(GateFate("", _named(gate), gate.kind, gate.axes, f"not carried: {why[gate.id]}"))
            continue
        off = 0.0 if gate.kind == "boolean" else moved(gate, [targets[axis.channel] for axis in gate.axes]).off
        found.append(GateFate(ids[gate.id], _named(gate), gate.kind, gate.axes, _how(gate, off), off))
    return tuple(found)


def _carried(tree: ForeignTree) -> tuple[ForeignTree, dict[str, Transform | None], dict[str, str]]:
    """The tree with what cannot exist in a template refused, the transform of each channel, and why gates are not kept.

    A shape can fail on the channel's one transform (a bound where a log has no value): then its gate is refused, and
    what is left is looked at again.
    """
    while True:
        why = _why_not(tree)
        targets = _targets([gate for gate in tree.gates if gate.id not in why])
        failed: dict[str, str] = {}
        for gate in tree.gates:
            if gate.id not in why and not isinstance(gate.geometry, Boolean):
                try:
                    moved(gate, [targets[axis.channel] for axis in gate.axes])
                except GateError as error:
                    failed[gate.id] = error.message.rstrip(".")
        if not failed:
            return tree, targets, why
        gates = tuple(replace(g, refused=failed[g.id]) if g.id in failed else g for g in tree.gates)
        tree = replace(tree, gates=gates)


def _checked(document: dict[str, Any], source: str) -> Template:
    """The template, after a loading as strict as that of a file."""
    template = Template.model_validate_json(json.dumps(document))
    return parse_template(save_template(template), f"the draft from {source}")


# --- names -----------------------------------------------------------------------------------------------------------


def slug(title: str) -> str:
    """An id for a population: `TNFa+IFNg-` becomes `tnfa_pos_ifng_neg`."""
    text = re.sub(r"(?<=[\w)])\+", "_pos_", title)
    text = re.sub(r"(?<=[\w)])-(?=$|[^a-z0-9]|[A-Z]\w*[+-])", "_neg_", text)
    text = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return text if re.match(r"[a-z]", text) else f"g_{text}".rstrip("_")


def _ids(tree: ForeignTree) -> dict[str, str]:
    """An id of the draft for each gate: from its title, with its parent's where two have the same."""
    parents = {gate.id: gate for gate in tree.gates}
    wanted = {gate.id: slug(gate.title or gate.id) for gate in tree.gates}
    often = Counter(wanted.values())
    found: dict[str, str] = {}
    taken: set[str] = set()
    for gate in tree.gates:
        name = wanted[gate.id]
        if often[name] > 1 and gate.parent is not None and gate.parent in parents:
            name = f"{wanted[gate.parent]}_{name}"
        candidate, n = name, 1
        while taken & {candidate, f"{candidate}_inside"}:
            n += 1
            candidate = f"{name}_{n}"
        found[gate.id] = candidate
        taken |= {candidate, f"{candidate}_inside"}  # what is inside a gate of which the outside is meant
    return found


def _choose(tree: ForeignTree, ids: Mapping[str, str], text: str, end: str) -> str:
    """The foreign id of a population that a person named."""
    for fits in (
        [g.id for g in tree.gates if text in {g.id, ids[g.id]}],
        [g.id for g in tree.gates if text == g.title],
        [g.id for g in tree.gates if text.casefold() in {g.title.casefold(), g.id.casefold()}],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            break
    else:
        fits = [gate.id for gate in tree.gates]
    problem = "several populations have that name" if text in {g.title for g in tree.gates} else "there is none"
    raise TemplateError(
        "IMPORT_CHOICE", f"--{end} {text}: expected one population of {tree.source}; {problem}: {', '.join(fits)}."
    )


def _endpoint_words(ends: Mapping[str, str], ids: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, f"{ids[foreign]} ({foreign}), as given") for name, foreign in ends.items()] + [
        ("limits", "events for detection, quantification and the denominator are the defaults; no check has a limit")
    ]


# --- panel, transforms, compensation ---------------------------------------------------------------------------------


def _kind(channel: str) -> str:
    if _SCATTER.match(channel):
        return "scatter"
    return "time" if channel.casefold().startswith("time") else "fluorescence"


def _markers(gates: Sequence[ForeignGate], tree: ForeignTree) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Marker by channel; from the stain where it is known and no other channel has it."""
    channels = list(dict.fromkeys(axis.channel for gate in gates for axis in gate.axes))
    stains = {c: tree.stains.get(c, "") for c in channels}
    often = Counter(fold_label(stain) for stain in tree.stains.values())
    own = {c: s if s and often[fold_label(s)] == 1 and _kind(c) == "fluorescence" else c for c, s in stains.items()}
    named = [c for c in channels if own[c] != c]
    unnamed = [c for c in channels if own[c] == c and _kind(c) == "fluorescence"]
    said = []
    if named:
        said.append(("panel", f"markers from $PnS, else by channel: {', '.join(f'{c} is {own[c]}' for c in named)}"))
    if unnamed:
        said.append(("panel", f"no stain is known, so markers are named as their channel: {', '.join(unnamed)}"))
    return own, said


def _panel_entry(channel: str, marker: str) -> dict[str, Any]:
    feature = sample_from_array("", np.empty((0, 1)), [(channel, "")]).channels[0].feature or "area"
    aliases = [channel] if marker == channel else [marker, channel]
    return {"aliases": aliases, "kind": _kind(channel), "feature": feature}


def _targets(gates: Sequence[ForeignGate]) -> dict[str, Transform | None]:
    """The one transform of each channel: that of most polygons and ellipses on it, else of most gates."""
    votes: dict[str, Counter[Transform | None]] = {}
    for gate in gates:
        for axis in gate.axes:
            weight = 1 if gate.kind == "rectangle" else 1000
            votes.setdefault(axis.channel, Counter())[axis.target] += weight
    return {channel: counter.most_common(1)[0][0] for channel, counter in votes.items()}


def _one_compensation(tree: ForeignTree) -> str:
    """What most gates on fluorescence are compensated with."""
    votes = Counter(a.compensation for g in tree.gates for a in g.axes if _kind(a.channel) == "fluorescence")
    return votes.most_common(1)[0][0] if votes else ""


def _other_compensation(gate: ForeignGate, tree: ForeignTree, usual: str) -> str:
    """Why a gate cannot be carried because of its compensation, else empty."""
    for axis in gate.axes:
        own = axis.compensation
        if _kind(axis.channel) == "fluorescence":
            if own != usual:
                here, there = compensation_words(own), compensation_words(usual)
                return f"{axis.channel} is {here} here and {there} in most gates; a template compensates a tube once"
        elif own in tree.matrices and axis.channel in tree.matrices[own].channels:
            return f"{axis.channel} is scatter or time and is compensated by {own}"
    return ""


def _compensation(tree: ForeignTree) -> tuple[str, Spillover | None, str]:
    """Source of the template, the matrix to write beside it, and what is said of it."""
    usual = _one_compensation(tree)
    if not usual:
        return "unmixed", None, "no gate is on a compensated channel, so tubes must carry no matrix, or the identity"
    if usual == "file":
        return "file", None, "every tube's own matrix is required; a tube without one is an error"
    return "manifest", tree.matrices[usual], f"the matrix {usual}, to be named in the manifest's column compensation"


# --- gates -----------------------------------------------------------------------------------------------------------


def _gate(
    gate: ForeignGate, ids: Mapping[str, str], markers: Mapping[str, str], targets: Mapping[str, Transform | None]
) -> list[dict[str, Any]]:
    """A gate as tables of the template: two where the outside of a shape is meant."""
    base: dict[str, Any] = {"id": ids[gate.id], "title": gate.title}
    if gate.parent is not None:
        base["parent"] = ids[gate.parent]
    if isinstance(gate.geometry, Boolean):
        operands = [f"{'!' if complement else ''}{ids[name]}" for name, complement in gate.operands]
        return [base | {"kind": "boolean", "operator": gate.geometry.operator, "operands": operands}]
    shape = moved(gate, [targets[axis.channel] for axis in gate.axes])
    table = base | _shape(shape.geometry, [markers[axis.channel] for axis in gate.axes])
    if not gate.outside:
        return [table]
    inner = f"{ids[gate.id]}_inside"
    table |= {"id": inner, "title": f"{gate.title}, inside of the gate"}
    return [table, base | {"kind": "boolean", "operator": "not", "operands": [inner]}]


def _shape(geometry: Rectangle | Polygon | Ellipsoid, dimensions: list[str]) -> dict[str, Any]:
    if isinstance(geometry, Polygon):
        return {"kind": "polygon", "dimensions": dimensions, "vertices": [list(v) for v in geometry.vertices]}
    if isinstance(geometry, Ellipsoid):
        return {
            "kind": "ellipsoid",
            "dimensions": dimensions,
            "mean": list(geometry.mean),
            "covariance": [list(row) for row in geometry.covariance],
            "distance_square": geometry.distance_square,
        }
    bounds = [
        {end: {d: v for d, v in zip(dimensions, values, strict=True) if v is not None}}
        for end, values in (("min", geometry.minima), ("max", geometry.maxima))
    ]
    if len(dimensions) == 1:
        (marker,) = dimensions
        own = {end: value[marker] for part in bounds for end, value in part.items() if marker in value}
        return {"kind": "range", "dimensions": dimensions, **own}
    return {"kind": "rectangle", "dimensions": dimensions, **bounds[0], **bounds[1]}


def _spec(transform: Transform) -> dict[str, Any]:
    kind = type(transform)
    return {"kind": kind.__name__.lower(), **{name: float(getattr(transform, name)) for name in kind.__slots__}}


def _how(gate: ForeignGate, off: float) -> str:
    shape = {"rectangle": "same bounds", "boolean": "same operands"}.get(gate.kind, "same shape")
    how = shape if off == 0 else f"edges within {100 * off:.3f} % of an axis"
    return f"{how}, outside as a boolean not" if gate.outside else how


def _named(gate: ForeignGate) -> str:
    """How the other program calls it: a path ends in its title, an id of a document does not."""
    return gate.id if gate.id.endswith(gate.title) else f"{gate.title} ({gate.id})"


def axis_words(axis: ForeignAxis) -> str:
    """An axis in words: the channel, whether it is compensated, its scale, and how that is carried."""
    return f"{axis.channel}, {compensation_words(axis.compensation)}, {axis.scale}: {axis.how}"


def compensation_words(compensation: str) -> str:
    """What is applied to a channel, in words."""
    words = {"": "uncompensated", "file": "compensated by the file's own matrix"}
    return words.get(compensation, f"compensated by {compensation}")
