"""FlowKit as the second engine: the exported gates on the FCS file, its masks against ours, event by event."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from tregflow.verify.exports import names_in_export
from tregflow.verify.model import PopulationAgreement, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tregflow.gating import GatingResult
    from tregflow.record import TubeRecord


def flowkit_masks(document: bytes, path: Path) -> dict[str, NDArray[np.bool_]]:
    """FlowKit's mask of each population, by our ids; any error is FlowKit's own."""
    import flowkit  # noqa: PLC0415 - loaded by the workers that gate

    with warnings.catch_warnings(), np.errstate(all="ignore"):  # it takes logarithms of negative values
        warnings.simplefilter("ignore")
        strategy = flowkit.parse_gating_xml(io.BytesIO(document))
        sample = flowkit.Sample(str(path), ignore_offset_error=True, subsample=1)
        results = strategy.gate_sample(sample)
        return {
            ours: np.asarray(results.get_gate_membership(theirs), dtype=bool)
            for ours, theirs in names_in_export(document).items()
        }


def compare_events(
    record: TubeRecord, ours: GatingResult, theirs: Mapping[str, NDArray[np.bool_]] | str
) -> tuple[tuple[PopulationAgreement, ...], tuple[Problem, ...]]:
    """Set record, engine and FlowKit side by side; `theirs` is why there are no masks where there are none.

    An event with a value that is not finite is in no gate here, nor in a gate's complement; FlowKit may put it
    anywhere. Such events are left out of the comparison for the populations that rest on that value, and counted.
    """
    tube, file = record.tube.tube, record.tube.file
    problems, agreements = [], []
    if isinstance(theirs, str):
        message = f"FlowKit could not gate {tube}: {theirs}"
        problems.append(Problem("VERIFY_EVENTS", message, file, tube, "", "masks by FlowKit", "none"))
        theirs = {}
    for population in record.populations:
        name = population.id
        mine = next((p.mask for p in ours.populations if p.id == name), None)
        mask = theirs.get(name)
        if mine is None or mask is None or mask.shape != mine.shape:
            n_ours = None if mine is None else int(np.count_nonzero(mine))
            n_theirs = None if mask is None else int(np.count_nonzero(mask))
            agreements.append(PopulationAgreement(name, population.n_events, n_ours, n_theirs, None, None))
            if theirs:
                message = f"{name} of {tube} cannot be compared: not every engine has it, on as many events"
                problems.append(Problem("VERIFY_EVENTS", message, file, tube, name, str(n_ours), str(n_theirs)))
            continue
        unknown = _unknown(record, ours, name)
        differ = np.flatnonzero((mine != mask) & ~unknown)
        counts = (int(np.count_nonzero(mine)), int(np.count_nonzero(mask & ~unknown)))
        left_out = int(np.count_nonzero(unknown))
        agreements.append(PopulationAgreement(name, population.n_events, *counts, differ.size, left_out))
        if differ.size:
            listed = ", ".join(f"{event + 1:,}" for event in differ[:3].tolist())
            message = f"FlowKit places {differ.size:,} events of {name} of {tube} otherwise (events {listed})"
            values = (f"{counts[0]:,} events by tregflow", f"{counts[1]:,} by FlowKit")
            problems.append(Problem("VERIFY_EVENTS", message, file, tube, name, *values))
    return tuple(agreements), tuple(problems)


def _unknown(record: TubeRecord, ours: GatingResult, name: str) -> NDArray[np.bool_]:
    """Events whose membership rests on a value that is not finite."""
    mask = np.zeros(ours.n_events, dtype=bool)
    for gate in _rests_on(record, name) & ours.unknown.keys():
        mask |= ours.unknown[gate]
    return mask


def _rests_on(record: TubeRecord, name: str) -> set[str]:
    """The gates that decide which events a population holds: itself, its ancestors and operands, with theirs."""
    gates: dict[str, Any] = {gate.id: gate for gate in record.gates}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        gate = gates.get(waiting.pop())
        if gate is None or gate.id in found:
            continue
        found.add(gate.id)
        waiting += [gate.parent] if gate.parent else []
        waiting += gate.geometry.get("operands", ())
    return found
