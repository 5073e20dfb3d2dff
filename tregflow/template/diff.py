"""What two templates differ in, by meaning: which gate, which coordinate, rule or limit, and the version it demands.

The order of keys, comments and the spelling of numbers are no difference. Two templates with the same content hash have
no difference, and two with different hashes have at least one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel

from tregflow.template.bearing import Bearing, bearing
from tregflow.template.model import RangeGate, RectangleGate, Template, gate_dimensions, gate_inputs
from tregflow.template.order import all_upstream
from tregflow.template.semver import PARTS, Part

Place = tuple[str, ...]
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `before` and `after` are values of JSON, None where there is nothing.

    `part` is the part of the version that it demands, `why` the reason in words; `note` says a coordinate in scale
    values.
    """

    place: Place
    what: Literal["added", "removed", "changed"]
    before: Any
    after: Any
    part: Part = "major"
    why: str = ""
    note: str = ""

    @property
    def where(self) -> str:
        """The place as a person reads it: `gates, cd25_pos, place, k`."""
        return ", ".join(self.place)


@dataclass(frozen=True, slots=True)
class TemplateDiff:
    """All differences from one template to another, the gravest first, and what they demand together."""

    differences: tuple[Difference, ...]

    @property
    def demand(self) -> Part:
        """The part of the version that the whole demands."""
        return max((d.part for d in self.differences), key=PARTS.index, default="none")

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"demand": self.demand, "differences": [asdict(d) for d in self.differences]}


def diff_templates(before: Template, after: Template) -> TemplateDiff:
    """Compare two templates."""
    sides = (_Side.of(before), _Side.of(after))
    found = [_judged(d, kind, sides) for d, kind in _between(before, after, ())]
    return TemplateDiff(tuple(sorted(found, key=lambda d: -PARTS.index(d.part))))


# --- finding ---------------------------------------------------------------------------------------------------------

Found = Iterator[tuple[Difference, Bearing]]


def _between(before: BaseModel, after: BaseModel, place: Place) -> Found:
    """Two models: field by field where they are of one kind, else as the keys that they write."""
    for name in dict.fromkeys((*_fields(before), *_fields(after))):
        one, other = _value(before, name), _value(after, name)
        kind = type(before) if name in _fields(before) else type(after)
        if one is not other and one != other:
            yield from _values(one, other, (*place, name), bearing(kind, name))


def _value(model: BaseModel, name: str) -> Any:
    """A field's value; one that the model does not have, or that says nothing, is absent."""
    value = getattr(model, name, _ABSENT)
    return _ABSENT if value is None else value


def _fields(model: BaseModel) -> Iterable[str]:
    return type(model).model_fields


def _values(before: Any, after: Any, place: Place, kind: Bearing) -> Found:
    if place in {("gates",), ("changelog",)}:
        key = "id" if place == ("gates",) else "version"
        yield from _listed(before, after, place, kind, key)
    elif isinstance(before, BaseModel) and isinstance(after, BaseModel):
        yield from _between(before, after, place)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            one, other = before.get(name, _ABSENT), after.get(name, _ABSENT)
            if one != other:
                yield from _values(one, other, (*place, str(name)), kind)
    elif _same_shape(before, after):
        for number, (one, other) in enumerate(zip(before, after, strict=True), 1):
            if one != other:
                yield from _values(one, other, (*place, str(number)), kind)
    else:
        yield _difference(before, after, place), _kept(before, after, kind)


def _kept(before: Any, after: Any, kind: Bearing) -> Bearing:
    """Of a whole table that comes or goes, what its keys bear on: a rule on its gate, a limit on a judgement."""
    if kind is not Bearing.INSIDE:
        return kind
    model = before if isinstance(before, BaseModel) else after
    inner = {bearing(type(model), name) for name in _fields(model)} if isinstance(model, BaseModel) else set()
    inner -= {Bearing.INSIDE, Bearing.WORDS}
    for strictest in (Bearing.ENDPOINT, Bearing.GATE, Bearing.MARKER, Bearing.TRANSFORM):
        if strictest in inner:
            return strictest
    return Bearing.JUDGEMENT if inner else Bearing.ENDPOINT


def _same_shape(before: Any, after: Any) -> bool:
    """Whether two values are lists of coordinates, or of lists of them, of one length: they differ item by item."""
    if not isinstance(before, tuple) or not isinstance(after, tuple) or len(before) != len(after):
        return False
    return all(isinstance(item, tuple) for item in (*before, *after))


def _listed(before: Any, after: Any, place: Place, kind: Bearing, key: str) -> Found:
    """Gates by their ids, entries of the changelog by their versions; and their order."""
    one, other = ({getattr(item, key): item for item in items} for items in (before, after))
    for name in dict.fromkeys((*one, *other)):
        first, second = one.get(name, _ABSENT), other.get(name, _ABSENT)
        if first is _ABSENT or second is _ABSENT:
            yield _difference(first, second, (*place, name)), _kept(first, second, kind)
        else:
            yield from _between(first, second, (*place, name))
    both = [[name for name in side if name in one and name in other] for side in (one, other)]
    if both[0] != both[1] or (len(one), len(other)) != (len(before), len(after)):
        order = _difference([getattr(i, key) for i in before], [getattr(i, key) for i in after], (*place, "order"))
        yield order, Bearing.WORDS


def _difference(before: Any, after: Any, place: Place) -> Difference:
    before, after = (None if value is _ABSENT else value for value in (before, after))
    what: Literal["added", "removed", "changed"] = "changed"
    if before is None or after is None:
        what = "added" if before is None else "removed"
    return Difference(place, what, _plain(before), _plain(after))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


# --- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two templates, and what its endpoint rests on."""

    template: Template
    gates: frozenset[str]
    dimensions: frozenset[str]
    specs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, template: Template) -> _Side:
        """Numerator and denominator, all that they rest on, and the dimensions of all these gates."""
        parts = [template.endpoint.numerator, template.endpoint.denominator]
        inputs = {gate.id: gate_inputs(gate) for gate in template.gates}
        gates = frozenset(parts) | all_upstream(inputs, parts)
        used = [gate for gate in template.gates if gate.id in gates]
        controls = [getattr(getattr(gate, "place", None), "control", None) for gate in used]
        names = {name for gate in used for name in gate_dimensions(gate)} | {name for name in controls if name}
        specs = {name: template.transform_spec(name) for name in template.panel}
        return cls(template, gates, frozenset(names), specs)


def _judged(found: Difference, kind: Bearing, sides: tuple[_Side, _Side]) -> Difference:
    """The difference with the part of the version that it demands, and why."""
    part, why = _JUDGES[kind](found, sides)
    return replace(found, part=part, why=why, note=_in_scale_values(found, sides))


def _gate(found: Difference, sides: tuple[_Side, _Side]) -> tuple[Part, str]:
    name = found.place[1] if len(found.place) > 1 else ""
    if any(name in side.gates for side in sides):
        return "major", f"the endpoint rests on {name}"
    return "minor", f"the endpoint does not rest on {name}"


def _marker(found: Difference, sides: tuple[_Side, _Side]) -> tuple[Part, str]:
    name = found.place[1] if len(found.place) > 1 else ""
    if any(name in side.dimensions for side in sides):
        return "major", f"gates that the endpoint rests on use {name}: it may be another channel"
    return "minor", f"no gate that the endpoint rests on uses {name}"


def _transform(found: Difference, sides: tuple[_Side, _Side]) -> tuple[Part, str]:
    one, other = sides
    name = found.place[1] if len(found.place) > 1 else "default"
    moved = {d for d in {*one.specs, *other.specs} if one.specs.get(d) != other.specs.get(d)}
    if name != "default":
        moved &= {name}
    used = sorted(moved & (one.dimensions | other.dimensions))
    if used:
        return "major", f"it moves the gates on {', '.join(used)}, which the endpoint rests on"
    if moved:
        return "minor", f"it moves gates on {', '.join(sorted(moved))}, on which the endpoint does not rest"
    return "patch", "no dimension has another transform"


def _version(found: Difference, _: tuple[_Side, _Side]) -> tuple[Part, str]:
    if found.place[0] == "changelog" and found.what != "added":
        return "patch", "the record of an earlier version is written otherwise"
    return "none", "the version itself"


def _endpoint(found: Difference, _: tuple[_Side, _Side]) -> tuple[Part, str]:
    if found.place == ("id",):
        return "major", "another template: its versions say nothing of this one's"
    return "major", "it changes what the endpoint means, or can move every count"


_JUDGEMENT = "no count that the endpoint is made of can move; flags, evaluable or not, and numbers beside it can"
_JUDGES = {
    Bearing.ENDPOINT: _endpoint,
    Bearing.INSIDE: _endpoint,
    Bearing.GATE: _gate,
    Bearing.MARKER: _marker,
    Bearing.TRANSFORM: _transform,
    Bearing.JUDGEMENT: lambda *_: ("minor", _JUDGEMENT),
    Bearing.WORDS: lambda *_: ("patch", "nothing that is computed changes"),
    Bearing.VERSION: _version,
}


def _in_scale_values(found: Difference, sides: tuple[_Side, _Side]) -> str:
    """A moved bound of a range or rectangle as scale values, where its axis is transformed."""
    if len(found.place) < 3 or found.place[0] != "gates" or found.place[2] not in {"min", "max"}:
        return ""
    said = []
    for side, value in zip(sides, (found.before, found.after), strict=True):
        gate = next((g for g in side.template.gates if g.id == found.place[1]), None)
        if not isinstance(gate, RangeGate | RectangleGate) or not isinstance(value, float):
            return ""
        dimension = found.place[3] if len(found.place) > 3 else gate.dimensions[0]
        transform = side.template.transform(dimension)
        if transform is None:
            return ""
        said.append(f"{float(transform.inverse(value)):.6g}")
    return f"in scale values {said[0]} to {said[1]}"
