"""Where each tube would put each cut by its own rule, without gating the batch and without freezing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tregflow.batch.plan import Plan, make_tasks
from tregflow.batch.sharing import with_controls
from tregflow.batch.tube import place_tube
from tregflow.batch.workers import workers
from tregflow.errors import TregflowError
from tregflow.placement.estimate import MAD
from tregflow.template.model import RangeGate

if TYPE_CHECKING:
    from tregflow.placement import Placement


@dataclass(frozen=True, slots=True)
class PlacedCut:
    """One cut on one tube, on the transformed axis.

    `low` and `high` are the cut moved by 1.96 standard errors, `z` its robust distance from the median of the tubes in
    robust SDs; all None where the tube could not place it, and then `code` and `message` say why.
    """

    tube: str
    gate: str
    rule: str
    cut: float | None = None
    low: float | None = None
    high: float | None = None
    n_reference: int = 0
    z: float | None = None
    code: str = ""
    message: str = ""


def place_batch(plan: Plan, jobs: int = 1) -> tuple[PlacedCut, ...]:
    """Place every cut that has a rule on every stained tube; outliers and failures first.

    A cut that the template shares is placed on each tube here all the same: that is what there is to compare.
    """
    template = plan.template.template
    gates = [g for g in template.gates if isinstance(g, RangeGate) and g.place is not None]
    tasks = make_tasks(plan, plan.batch, jobs)
    usable = [t for t in tasks if not any(f.severity == "fail" for f in t.known)]
    controls = [t for t in usable if t.row.role_kind == "fmo"]
    placing = [with_controls(t, gates, controls) for t in usable if t.row.role == "stained"]
    with workers(jobs) as pool:
        found = {task.name: placed for task, placed in pool.map(place_tube, placing, tuple(g.id for g in gates))}
    rows = []
    for gate in gates:
        placed = {name: found[name][gate.id] for name in sorted(found)}
        rows += _rows(gate, placed, plan)
    return tuple(sorted(rows, key=lambda row: (row.cut is not None, not row.code, -abs(row.z or 0.0))))


def _rows(gate: RangeGate, placed: dict[str, Placement | TregflowError], plan: Plan) -> list[PlacedCut]:
    rule = gate.place.rule if gate.place is not None else ""
    cuts = {name: p.coordinates[0] for name, p in placed.items() if not isinstance(p, TregflowError)}
    middle = float(np.median(list(cuts.values()))) if cuts else 0.0
    spread = MAD * float(np.median([abs(c - middle) for c in cuts.values()])) if cuts else 0.0
    transform = plan.template.template.transform(gate.dimensions[0])
    rows = []
    for name, found in placed.items():
        if isinstance(found, TregflowError):
            rows.append(PlacedCut(name, gate.id, rule, code=found.code, message=found.message))
            continue
        low = high = None
        if found.estimate.spread is not None and found.estimate.values:
            ends = np.array([found.estimate.values[0] + s * 1.96 * found.estimate.spread for s in (-1, 1)])
            moved = ends if found.space == "transformed" or transform is None else transform(ends)
            low, high = float(moved[0]), float(moved[1])
        z = (cuts[name] - middle) / spread if spread > 0 else 0.0
        code = "PLACEMENT_FALLBACK" if found.status == "fallback" else ""
        n = found.estimate.n_reference
        rows.append(PlacedCut(name, gate.id, rule, cuts[name], low, high, n, z, code, found.message))
    return rows
