"""What the uncertainty of the deciding cuts does to the counts of a tube."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tregflow.gating.columns import make_columns
from tregflow.gating.engine import recount
from tregflow.placement import lowered, moved_by_uncertainty

if TYPE_CHECKING:
    from tregflow.gating.engine import GatingResult
    from tregflow.gating.tube import Tube
    from tregflow.placement import Placement
    from tregflow.template.model import Template


def moved_counts(tube: Tube, template: Template, result: GatingResult) -> tuple[dict[str, int], dict[str, int]] | None:
    """Events by population with all deciding cuts moved down together, and with all moved up.

    Each cut moves by the larger of its stated uncertainty and 1.96 standard errors. None where the template states no
    uncertainty, or a cut's is not known (a fall-back without an estimate).
    """
    gates = template.deciding
    both = []
    for direction in (-1, 1):
        cuts: dict[str, Placement] = {}
        for gate in gates:
            if gate.place is None:
                continue
            transform = template.transform(gate.dimensions[0])
            cut = moved_by_uncertainty(gate.place, result.placements[gate.id], transform, direction)
            if cut is None:
                return None
            cuts[gate.id] = cut
        both.append(recount(result, tube.sample, template, cuts, channels=tube.channels, spillover=tube.spillover))
    return (both[0], both[1]) if gates else None


@dataclass(frozen=True, slots=True)
class CutEvidence:
    """How clearly the deciding cuts lie, in events.

    `n_lowered`: the numerator with every deciding cut one robust SD lower. `n_reference_positive` of `n_reference`
    events of the cuts' common reference lie beyond all of them. None where a cut has no robust SD, or no common one.
    """

    n_numerator: int
    n_lowered: int | None
    n_reference_positive: int | None
    n_reference: int | None


def cut_evidence(tube: Tube, template: Template, result: GatingResult) -> CutEvidence | None:
    """What the neighbourhood of the deciding cuts holds; None where the template has none."""
    gates = template.deciding
    if not gates:
        return None
    cuts: dict[str, Placement] = {}
    for gate in gates:
        lower = lowered(result.placements[gate.id], template.transform(gate.dimensions[0]), 1.0)
        if gate.place is not None and gate.place.side == "above" and lower is not None:
            cuts[gate.id] = lower
    n_lowered = None
    if len(cuts) == len(gates):
        counts = recount(result, tube.sample, template, cuts, channels=tube.channels, spillover=tube.spillover)
        n_lowered = counts[template.endpoint.numerator]
    return CutEvidence(result[template.endpoint.numerator].n_events, n_lowered, *_beyond(tube, template, result))


def _beyond(tube: Tube, template: Template, result: GatingResult) -> tuple[int | None, int | None]:
    """Events of the deciding cuts' one reference that lie beyond all the cuts, and how many it holds."""
    references = {gate.place.reference for gate in template.deciding if gate.place is not None}
    (reference,) = references if len(references) == 1 else (None,)
    if reference is None:
        return None, None
    found = result[reference]
    inside = np.ones(found.n_events, dtype=bool)
    columns = make_columns(tube.sample, tube.channels, tube.spillover)
    for gate in template.deciding:
        (values,) = columns.gather(gate.dimensions, found.mask)
        transform = template.transform(gate.dimensions[0])
        cut = result.placements[gate.id].coordinates[0]
        edge = cut if transform is None else transform.scale_bound(cut)
        inside &= values >= edge if gate.place is not None and gate.place.side == "above" else values < edge
    return int(np.count_nonzero(inside)), found.n_events
