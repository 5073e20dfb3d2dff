"""What the gates of a template rest on: dependence, circles, and an order in which they can be evaluated."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from tregflow.errors import TemplateError
from tregflow.template.model import gate_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tregflow.template.model import Gate, Template


def upstream(template: Template, gate_id: str) -> frozenset[str]:
    """All populations that a gate depends on; every name must be a gate. A gate in a circle is upstream of itself."""
    return all_upstream({gate.id: gate_inputs(gate) for gate in template.gates}, [gate_id])


def all_upstream(inputs: Mapping[str, Iterable[str]], names: Iterable[str]) -> frozenset[str]:
    """All populations that some gates depend on, from the inputs of each gate."""
    found: set[str] = set()
    waiting = [other for name in names for other in inputs[name]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += inputs[name]
    return frozenset(found)


def in_circles(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """The gates that depend on themselves, sorted."""
    # what can be evaluated is in no circle; the same from the other end leaves the circles and what lies between two
    outputs: dict[str, list[str]] = {name: [] for name in inputs}
    for name, others in inputs.items():
        for other in others:
            outputs[other].append(name)
    left = _never_ready(inputs, outputs)
    left &= _never_ready({n: outputs[n] for n in left}, {n: inputs[n] for n in left})
    within = {name: [other for other in inputs[name] if other in left] for name in left}
    circle: set[str] = set()
    for name in left:
        if name not in circle:
            below = all_upstream(within, [name])
            if name in below:
                against = all_upstream({n: [o for o in outputs[n] if o in left] for n in left}, [name])
                circle |= below & against
    return sorted(circle)


def _never_ready(inputs: Mapping[str, Iterable[str]], outputs: Mapping[str, Iterable[str]]) -> set[str]:
    """The gates that stay when those without inputs are taken away, again and again."""
    waits = {name: sum(other in inputs for other in others) for name, others in inputs.items()}
    ready = [name for name, n in waits.items() if n == 0]
    while ready:
        name = ready.pop()
        del waits[name]
        for other in outputs[name]:
            if other in waits:
                waits[other] -= 1
                if waits[other] == 0:
                    ready.append(other)
    return set(waits)


def evaluation_order(template: Template) -> tuple[Gate, ...]:
    """Gates ordered so that each comes after its parent, its reference and its operands; else in file order."""
    number = {gate.id: i for i, gate in enumerate(template.gates)}
    waits = {gate.id: len(gate_inputs(gate)) for gate in template.gates}
    outputs: dict[str, list[str]] = {gate.id: [] for gate in template.gates}
    for gate in template.gates:
        for name in gate_inputs(gate):
            outputs[name].append(gate.id)
    ready = [number[name] for name, n in waits.items() if n == 0]
    heapq.heapify(ready)
    placed: list[Gate] = []
    while ready:
        gate = template.gates[heapq.heappop(ready)]
        placed.append(gate)
        for name in outputs[gate.id]:
            waits[name] -= 1
            if waits[name] == 0:
                heapq.heappush(ready, number[name])
    if len(placed) < len(template.gates):
        raise TemplateError("TEMPLATE_INVALID", f"the gates of {template.id} depend on each other in a circle.")
    return tuple(placed)
