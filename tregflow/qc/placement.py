"""Checks of where the deciding cuts lie. They look at slopes and shares, never at the size of the percentage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tregflow.errors import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tregflow.gating import CutEvidence
    from tregflow.template.model import PlacementLimits


def check_placement(evidence: CutEvidence, limits: PlacementLimits, numerator: str) -> Iterator[Finding]:
    """A cut that lies in a slope, and a reference that is no negative any more; both for a person to look at."""
    n, lower = evidence.n_numerator, evidence.n_lowered
    if limits.sensitive_pct is not None and lower is not None and 100 * (lower - n) > limits.sensitive_pct * n:
        more = f"{100 * (lower - n) / n:.0f} % more" if n else "not 0"
        yield Finding(
            "PLACEMENT_SENSITIVE",
            "review",
            f"with the deciding cuts one robust SD lower, {numerator} has {lower} events instead of {n}: {more}.",
            population=numerator,
            observed=f"{lower - n} events more",
            limit=f"<= {limits.sensitive_pct:g} % of {n}",
        )
    positive, total = evidence.n_reference_positive, evidence.n_reference
    limit = limits.reference_positive_pct
    if limit is not None and positive is not None and total and 100 * positive > limit * total:
        yield Finding(
            "PLACEMENT_REFERENCE_POSITIVE",
            "review",
            f"{positive} of {total} reference events ({100 * positive / total:.1f} %) lie beyond every deciding cut.",
            population=numerator,
            observed=f"{100 * positive / total:.1f} %",
            limit=f"<= {limit:g} %",
        )
