"""What the uncertainty of the deciding cuts does to the counts of a tube."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tregflow.gating.engine import recount
from tregflow.placement import moved_by_uncertainty

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
