"""The engine: a tube and a template in, exact populations out."""

from tregflow.gating.binning import BINS, Axis, Panel
from tregflow.gating.engine import GatingResult, Population, gate_sample, needed_for, place_gates, recount
from tregflow.gating.tube import Tube, open_tube
from tregflow.gating.uncertainty import moved_counts

__all__ = [
    "BINS",
    "Axis",
    "GatingResult",
    "Panel",
    "Population",
    "Tube",
    "gate_sample",
    "moved_counts",
    "needed_for",
    "open_tube",
    "place_gates",
    "recount",
]
