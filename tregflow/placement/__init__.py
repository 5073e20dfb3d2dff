"""Rules that place a gate from a population's values: pure functions of arrays, without random numbers.

Each rule takes the values of its reference population in the space that it declares (`SPACE`) and returns an
`Estimate`: where, how certain, from how many events. `within`, `min_events` and `otherwise` of the template are applied
in one place, `tregflow.placement.place`.
"""

from tregflow.placement.band import band_vertices, singlet_band
from tregflow.placement.density import tail, valley
from tregflow.placement.ellipse import ellipse, ellipse_coordinates, ellipse_shape
from tregflow.placement.estimate import DECIMALS, SPACE, Estimate, Placement, Space, Status
from tregflow.placement.place import from_baseline, from_template, place_band, place_cut, place_ellipse
from tregflow.placement.quantiles import (
    negative_spread,
    reference_quantile,
    robust_negative,
    shift_scale,
    without_positives,
)
from tregflow.placement.share import TOUCHING, lowered, moved, moved_by_uncertainty, off_events, share_cut

__all__ = [
    "DECIMALS",
    "SPACE",
    "TOUCHING",
    "Estimate",
    "Placement",
    "Space",
    "Status",
    "band_vertices",
    "ellipse",
    "ellipse_coordinates",
    "ellipse_shape",
    "from_baseline",
    "from_template",
    "lowered",
    "moved",
    "moved_by_uncertainty",
    "negative_spread",
    "off_events",
    "place_band",
    "place_cut",
    "place_ellipse",
    "reference_quantile",
    "robust_negative",
    "share_cut",
    "shift_scale",
    "singlet_band",
    "tail",
    "valley",
    "without_positives",
]
