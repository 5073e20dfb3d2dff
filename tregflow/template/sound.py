"""The part of a broken template that can still be checked, so that one pass reports as much as it can."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tregflow.template.model import gate_inputs

if TYPE_CHECKING:
    from tregflow.template.model import Template

Place = tuple[int | str, ...]

_TABLES = ("endpoint", "panel", "transforms", "tubes", "gates", "qc", "changelog")
# Stand-ins for what the model requires; nothing is said about them
_REQUIRED: Mapping[str, Any] = {
    "schema_version": 1,
    "id": "unknown",
    "version": "0.0.0",
    "title": "",
    "compensation": {"source": "unmixed"},
    "endpoint": {},
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """What was left out of a template: `places` in the document, and the gates among them as they are written."""

    places: frozenset[Place] = frozenset()
    gates: tuple[Mapping[str, Any], ...] = ()

    def touches(self, *place: str) -> bool:
        """Whether something at a place, inside it or around it was left out."""
        return any(place[: len(other)] == other[: len(place)] for other in self.places)

    @property
    def gate_ids(self) -> tuple[str, ...]:
        """The ids of the gates left out, as far as they have one."""
        return tuple(gate["id"] for gate in self.gates if isinstance(gate.get("id"), str))

    @property
    def nameless(self) -> bool:
        """Whether a gate left out has no id, so that any name may be meant for it."""
        return len(self.gate_ids) < len(self.gates)


NO_DOUBT = Doubt()


def sound_part(document: Mapping[str, Any], broken: Iterable[Place]) -> tuple[dict[str, Any], Doubt] | None:
    """Return a document without what is broken, and what that was; None where too little is left.

    Parameters
    ----------
    document
        The template's TOML.
    broken
        The places that the model refuses, as pydantic gives them.
    """
    units = frozenset(_unit(place) for place in broken)
    if not units.isdisjoint({("gates",), ("panel",)}):
        return None
    rest = copy.deepcopy(dict(document))
    gates = [
        gate if isinstance(gate, dict) else {}
        for index, gate in enumerate(document["gates"])
        if ("gates", index) in units
    ]
    for unit in units:
        *path, last = unit
        table: Any = rest
        for part in path:
            table = table.get(part, {})
        if isinstance(table, dict):
            table.pop(last, None)
    for name in ("gates", "changelog"):
        if name in rest:
            rest[name] = [entry for index, entry in enumerate(rest[name]) if (name, index) not in units]
    for key, value in _REQUIRED.items():
        rest.setdefault(key, copy.copy(value))
    for key in ("numerator", "denominator"):
        rest["endpoint"].setdefault(key, "unknown")
    if not rest["gates"]:
        return None
    return rest, Doubt(units, tuple(gates))


def _unit(place: Place) -> Place:
    """The smallest part that can be left out: a gate, a marker, a transform, a key of a table, a key."""
    if place[:2] == ("qc", "pct_of_parent"):
        return place[:3]
    return place[:2] if place[0] in _TABLES else place[:1]


def names_meant(template: Template) -> Iterator[str]:
    """Every name by which a population is meant somewhere in a template."""
    endpoint = template.endpoint
    yield from (endpoint.numerator, endpoint.denominator, *endpoint.also_of, *template.qc.pct_of_parent)
    yield from (name for gate in template.gates for name in gate_inputs(gate))


def broken_gate_problems(template: Template, known: Container[str], doubt: Doubt) -> Iterator[str]:
    """What can still be said of the gates that were left out: their parents and dimensions."""
    for gate in doubt.gates:
        place, parent, dimensions = f"gates, {gate.get('id')}", gate.get("parent"), gate.get("dimensions")
        if isinstance(parent, str) and parent not in known and not doubt.nameless:
            yield f"{place}: '{parent}' is not a gate"
        for dimension in dimensions if isinstance(dimensions, list) else ():
            if isinstance(dimension, str) and dimension not in template.panel and not doubt.touches("panel", dimension):
                yield f"{place}: dimension '{dimension}' is not in the panel"
