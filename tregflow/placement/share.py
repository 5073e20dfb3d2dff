"""One cut for many tubes, and a cut that no event touches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tregflow.placement.estimate import DECIMALS, Estimate, Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tregflow.template.model import CutRule
    from tregflow.transforms import Transform

TOUCHING = 1e-9  # transformed units; far above the rounding of any engine, far below the resolution of a cytometer
_WHOSE = {
    "tube": "tube(s)",
    "subject": "baseline tube(s) of the subject",
    "batch": "tube(s) of the batch",
    "study": "tube(s) of the study",
}


def share_cut(rule: CutRule, placed: Sequence[Placement], transform: Transform | None) -> Placement:
    """The one cut of a subject, batch or study: the median, in the rule's space, of the cuts that its tubes placed.

    Its standard error is that of a median of `m` tubes, `1.2533 SD / sqrt(m)`, or the tube's own if there is one.
    `placed` must not be empty and must hold placements of `rule` with status `placed`.
    """
    raw = np.array([p.estimate.values[0] for p in placed])
    value = float(np.median(raw))
    cut = value if placed[0].space == "transformed" or transform is None else float(transform(np.array([value]))[0])
    m = len(placed)
    spread = float(1.2533 * raw.std(ddof=1) / np.sqrt(m)) if m > 1 else placed[0].estimate.spread
    n = sum(p.estimate.n_reference for p in placed)
    quality = {"n_tubes": float(m), "lowest": float(raw.min()), "highest": float(raw.max())}
    if penalties := [p.estimate.quality["penalty"] for p in placed if "penalty" in p.estimate.quality]:
        quality["penalty"] = max(penalties)
    sds = [p.estimate.quality["robust_sd"] for p in placed if "robust_sd" in p.estimate.quality]
    if sds:
        quality["robust_sd"] = float(np.median(sds))
    return Placement(
        rule.rule,
        rule.share,
        placed[0].space,
        "shared",
        placed[0].reference,
        (round(cut, DECIMALS),),
        Estimate((value,), spread, n, quality),
        f"median of {m} {_WHOSE[rule.share]}",
    )


def moved_by_uncertainty(
    rule: CutRule, placement: Placement, transform: Transform | None, direction: int
) -> Placement | None:
    """The cut moved up (`direction` 1) or down (-1) by its uncertainty, None where that is not known.

    The distance is the larger of the template's stated `uncertainty`, in the rule's own unit (robust SDs for
    `negative_spread` and `shift_scale`, else the transformed axis), and 1.96 standard errors; in the rule's space. A
    cut that stands on a control of another batch moves by its penalty more.
    """
    estimate = placement.estimate
    if not estimate.values:
        return None
    stated = rule.uncertainty
    if stated is not None and placement.space == "scale":
        sd = estimate.quality.get("robust_sd")
        stated = None if sd is None else stated * sd
    known = [distance for distance in (stated, estimate.spread and 1.96 * estimate.spread) if distance is not None]
    if not known:
        return None
    value = estimate.values[0] + direction * (max(known) + estimate.quality.get("penalty", 0.0))
    cut = value if placement.space == "transformed" or transform is None else float(transform(np.array([value]))[0])
    return moved(placement, round(cut, DECIMALS)) if np.isfinite(cut) else None


def lowered(placement: Placement, transform: Transform | None, n_sd: float) -> Placement | None:
    """The cut moved `n_sd` robust SDs of its reference away from the positives; None where the SD is not known."""
    sd = placement.estimate.quality.get("robust_sd")
    if sd is None or placement.space != "scale":
        return None
    value = placement.estimate.values[0] - n_sd * sd
    cut = value if transform is None else float(transform(np.array([value]))[0])
    return moved(placement, round(cut, DECIMALS)) if np.isfinite(cut) else None


def off_events(cut: float, values: NDArray[np.float64]) -> float:
    """Move a cut that touches an event to the midpoint between that event and its lower neighbour.

    `values` `(n,)` and `cut` are transformed. The event stays above the cut, as in a half-open range, and every
    engine decides it alike whatever its last bit. Neighbours too close to cut between go above with it. A cut that
    touches nothing comes back unchanged.
    """
    touching = values[np.abs(values - cut) <= TOUCHING]
    if touching.size == 0:
        return cut
    down = np.unique(values[values <= touching.min()])[::-1]
    wide = np.flatnonzero(down[:-1] - down[1:] > 2 * TOUCHING)
    if wide.size == 0:
        return float(down[-1]) - 10.0**-DECIMALS
    return float(down[wide[0]] + down[wide[0] + 1]) / 2


def moved(placement: Placement, cut: float) -> Placement:
    """The same placement with another cut."""
    return replace(placement, coordinates=(cut,))
