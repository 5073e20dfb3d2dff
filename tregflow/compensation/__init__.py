"""Spillover matrices: from a file's keywords or a CSV, checked, and their inverse applied once.

Rows are sources (fluorochromes), columns are detectors: `matrix[i, j]` is what source i leaves in detector j as a
fraction of what it leaves in its own. A raw event is `true @ matrix`, so `true = raw @ inverse` (Gating-ML 2.0,
spectrumMatrix). Coefficients above 1 and below 0 are legal.
"""

from tregflow.compensation.choice import check_not_compensated, require_channels, resolve_spillover
from tregflow.compensation.matrix import Spillover
from tregflow.compensation.sources import spillover_from_csv, spillover_from_keywords

__all__ = [
    "Spillover",
    "check_not_compensated",
    "require_channels",
    "resolve_spillover",
    "spillover_from_csv",
    "spillover_from_keywords",
]
