"""Synthetic tubes with known truth, for the demonstration, the tests and validation.

Nothing here is shared with what is judged by it: of tregflow, only `errors` and `fcs` are imported.
"""

from tregflow.simulate.batch import (
    BASELINE,
    MANIFEST_COLUMNS,
    SAMPLE_SEED,
    WEEK_12,
    WEEK_24,
    BatchSpec,
    TubePlan,
    VisitSpec,
    plan_batch,
    simulate_batch,
)
from tregflow.simulate.model import (
    CD4_T,
    CHANNELS,
    DETECTORS,
    LYMPHOCYTES,
    MARKERS,
    SPILLOVER,
    T_CELLS,
    Population,
    TubeParams,
)
from tregflow.simulate.tube import Labels, SimulatedTube, TubeTruth, positive_of_lymphocytes, simulate_tube

__all__ = [
    "BASELINE",
    "CD4_T",
    "CHANNELS",
    "DETECTORS",
    "LYMPHOCYTES",
    "MANIFEST_COLUMNS",
    "MARKERS",
    "SAMPLE_SEED",
    "SPILLOVER",
    "T_CELLS",
    "WEEK_12",
    "WEEK_24",
    "BatchSpec",
    "Labels",
    "Population",
    "SimulatedTube",
    "TubeParams",
    "TubePlan",
    "TubeTruth",
    "VisitSpec",
    "plan_batch",
    "positive_of_lymphocytes",
    "simulate_batch",
    "simulate_tube",
]
