"""Two findings proposed for the product, tried here: neither looks at the size of the percentage or its change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

SENSITIVE_FRAC: Final = 0.25
"""Both cuts one robust SD lower add more than this share to the numerator: they lie in a slope."""
REFERENCE_POSITIVE_FRAC: Final = 0.10
"""More than this share of the reference population is CD25+FOXP3+ itself, so it is no negative any more."""


def proposed_findings(n: int, n_lowered: int, n_reference_positive: int, n_reference: int) -> Iterator[str]:
    """Codes of the proposed findings of a tube; all counts are of events."""
    if n_lowered - n > SENSITIVE_FRAC * n:
        yield "PLACEMENT_SENSITIVE"
    if n_reference_positive > REFERENCE_POSITIVE_FRAC * n_reference:
        yield "REFERENCE_POSITIVE"
