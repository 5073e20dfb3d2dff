"""The engine: a tube and a template in, exact populations out."""

from tregflow.gating.binning import BINS, Axis, Panel
from tregflow.gating.engine import GatingResult, Population, gate_sample, needed_for, place_gates, recount
from tregflow.gating.tube import Tube, open_tube
from tregflow.gating.uncertainty import CutEvidence, cut_evidence, moved_counts

__all__ = [
    "BINS",
    "Axis",
    "CutEvidence",
    "GatingResult",
    "Panel",
    "Population",
    "Tube",
    "cut_evidence",
    "gate_sample",
    "moved_counts",
    "needed_for",
    "open_tube",
    "place_gates",
    "recount",
]
