"""The engine: a tube and a template in, exact populations out."""

from tregflow.gating.binning import BINS, Axis, Panel
from tregflow.gating.engine import GatingResult, Population, gate_sample, needed_for, place_gates
from tregflow.gating.tube import Tube, gate, open_tube

__all__ = [
    "BINS",
    "Axis",
    "GatingResult",
    "Panel",
    "Population",
    "Tube",
    "gate",
    "gate_sample",
    "needed_for",
    "open_tube",
    "place_gates",
]
