"""What a rule gives (`Estimate`), what becomes of it (`Placement`), and the space of each rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Space = Literal["scale", "transformed"]
Status = Literal["placed", "shared", "fallback"]

#: The space in which each rule takes its reference values. A dimension without a transform is in scale values in both.
SPACE: Mapping[str, Space] = {
    "negative_spread": "scale",
    "reference_quantile": "transformed",
    "fmo_quantile": "transformed",
    "valley": "transformed",
    "tail": "transformed",
    "shift_scale": "scale",
    "singlet_band": "scale",
    "ellipse": "transformed",
}
DECIMALS = 6
MAD = 1.482602218505602  # 1 / the upper quartile of the standard normal: makes a median deviation a robust SD


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a rule found, in its own space, and how sure it is.

    `values` is one cut; or intercept, slope and relative robust SD of a band; or the mean and the covariance, row by
    row, of an ellipse. `spread` is the standard error of the cut, of the band's slope, or of the ellipse's mean along
    any axis in SDs of that axis; None where it cannot be told. `n_reference` are the events it rests on.
    """

    values: tuple[float, ...]
    spread: float | None
    n_reference: int
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """A gate's placed coordinates and their evidence.

    `coordinates` are what the gate uses (on its axes, rounded): one cut, or the band's four vertices flattened, or the
    ellipse's mean and covariance flattened. `estimate` is what the rule found in its own `space`.
    """

    rule: str
    share: str
    space: Space
    status: Status
    reference: str
    coordinates: tuple[float, ...]
    estimate: Estimate
    message: str = ""
