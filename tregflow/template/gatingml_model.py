"""What a Gating-ML 2.0 document says, as data: gates, their dimensions and transforms, spectrum matrices.

A document can say more than a template of ours or a tube's record: ratios of channels, bounds of a transform, several
matrices, the file's own compensation. This is the whole of it; `template.gatingml` writes it and
`template.gatingml_reader` reads it.

References
----------
Gating-ML 2.0, ISAC Recommendation, schemas 2.0.121207.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tregflow.errors import CompensationError, GateError
from tregflow.gates import Boolean, Ellipsoid, Polygon, QuadrantGrid, Rectangle

if TYPE_CHECKING:
    from tregflow.transforms import Ratio, Transform

Array = NDArray[np.float64]

#: What a compensation-ref can be besides a matrix of the document: nothing is applied, or the file's own matrix.
UNCOMPENSATED, FROM_FILE = "uncompensated", "FCS"

_SINGULAR = 1e12  # as `tregflow.compensation` has it


@dataclass(frozen=True, slots=True)
class SpectrumMatrix:
    """A matrix of the document: rows are fluorochromes, columns detectors; not square where there are more detectors.

    Parameters
    ----------
    id
        What a compensation-ref says.
    fluorochromes, detectors
        Names of the compensated dimensions, and `$PnN` of what is measured. Detectors are at least as many.
    rows
        One row per fluorochrome, one coefficient per detector; where `inverted`, one row per detector and one
        coefficient per fluorochrome.
    inverted
        The matrix is what events are multiplied with, and is not inverted again.

    Raises
    ------
    CompensationError
        `COMPENSATION_MALFORMED`: sizes do not fit, or a name twice. `COMPENSATION_NOT_FINITE`, `COMPENSATION_SINGULAR`.
    """

    id: str
    fluorochromes: tuple[str, ...]
    detectors: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    inverted: bool = False
    info: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, m = len(self.fluorochromes), len(self.detectors)
        shape = (m, n) if self.inverted else (n, m)
        if not 2 <= n <= m or len(self.rows) != shape[0] or any(len(row) != shape[1] for row in self.rows):
            found = f"{len(self.rows)} rows of {sorted({len(row) for row in self.rows})}"
            raise CompensationError(
                "COMPENSATION_MALFORMED",
                f"matrix {self.id}: expected {shape[0]} rows of {shape[1]} coefficients for {n} fluorochromes in {m} "
                f"detectors, two or more and no fewer detectors than fluorochromes; found {found}.",
            )
        if len(set(self.fluorochromes)) < n or len(set(self.detectors)) < m:
            raise CompensationError(
                "COMPENSATION_MALFORMED",
                f"matrix {self.id}: expected every fluorochrome and every detector once; found "
                f"{', '.join(self.fluorochromes)} in {', '.join(self.detectors)}.",
            )
        values = np.array(self.rows)
        if not np.isfinite(values).all():
            raise CompensationError("COMPENSATION_NOT_FINITE", f"matrix {self.id} holds a value that is not finite.")
        condition = float(np.linalg.cond(values))
        if not condition < _SINGULAR:
            raise CompensationError(
                "COMPENSATION_SINGULAR",
                f"matrix {self.id} cannot be inverted: condition number {condition:.3g}, limit {_SINGULAR:.0e}.",
            )

    @property
    def is_square(self) -> bool:
        """Whether there are as many detectors as fluorochromes."""
        return len(self.fluorochromes) == len(self.detectors)

    @property
    def unmixing(self) -> Array:
        """Shape `(n_detectors, n_fluorochromes)`: events by detectors, times this, are events by fluorochromes.

        The inverse of a square matrix; else its pseudoinverse, which is the least-squares solution.
        """
        values = np.array(self.rows)
        if self.inverted:
            return values
        return np.linalg.inv(values) if self.is_square else np.linalg.pinv(values)


@dataclass(frozen=True, slots=True)
class Scale:
    """A transform with optional bounds: transformed values below `bound_min` become it, those above `bound_max` too.

    Raises
    ------
    GateError
        `TRANSFORM_PARAMETER`: a bound that is not finite, or `bound_min > bound_max`.
    """

    transform: Transform
    bound_min: float | None = None
    bound_max: float | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.bound_min, self.bound_max)

    def __call__(self, x: Array) -> Array:
        """Transform scale values of any shape."""
        return clip(self.transform(x), self.bound_min, self.bound_max)


@dataclass(frozen=True, slots=True)
class RatioOf:
    """A dimension that is the ratio of two channels of the file (`fratio`), with optional bounds.

    Raises
    ------
    GateError
        `TRANSFORM_PARAMETER`: as `Scale`.
    """

    ratio: Ratio
    x: str
    y: str
    bound_min: float | None = None
    bound_max: float | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.bound_min, self.bound_max)

    def __str__(self) -> str:
        """`PE-A / APC-A`, as messages name it."""
        return f"{self.x} / {self.y}"


@dataclass(frozen=True, slots=True)
class DocumentDimension:
    """One axis of a gate: a channel (`$PnN`, or a fluorochrome of the matrix) or a ratio, compensation, transform.

    `compensation` is `uncompensated`, `FCS` or the id of a matrix.
    """

    channel: str | RatioOf
    compensation: str = UNCOMPENSATED
    scale: Scale | None = None


@dataclass(frozen=True, slots=True)
class DocumentGate:
    """A gate of a document. As `tregflow.gates.PlacedGate`, but for its dimensions.

    `parent` and `operands` name gates, or quadrants: a quadrant gate itself is no population.
    """

    id: str
    title: str
    parent: str | None
    kind: Literal["rectangle", "polygon", "ellipsoid", "quadrant", "boolean"]
    dimensions: tuple[DocumentDimension, ...]
    geometry: Rectangle | Polygon | Ellipsoid | QuadrantGrid | Boolean
    operands: tuple[tuple[str, bool], ...] = ()
    info: Mapping[str, str] = field(default_factory=dict)

    @property
    def populations(self) -> tuple[str, ...]:
        """The ids that a parent or an operand can name: the gate's own, or those of its quadrants."""
        return tuple(c.id for c in self.geometry.cells) if isinstance(self.geometry, QuadrantGrid) else (self.id,)


@dataclass(frozen=True, slots=True)
class GatingDocument:
    """A document: gates in the order of the file, matrices, and what the document says of itself."""

    gates: tuple[DocumentGate, ...]
    matrices: tuple[SpectrumMatrix, ...] = ()
    info: Mapping[str, str] = field(default_factory=dict)

    def owner(self, population: str) -> DocumentGate:
        """The gate that a population is, or that it is a quadrant of."""
        return next(gate for gate in self.gates if population in gate.populations)

    @property
    def populations(self) -> tuple[str, ...]:
        """All populations, in the order of the file."""
        return tuple(name for gate in self.gates for name in gate.populations)


def clip(values: Array, low: float | None, high: float | None) -> Array:
    """Move values beyond a bound to it; NaN stays."""
    return values if low is None and high is None else np.clip(values, low, high)


def _check_bounds(low: float | None, high: float | None) -> None:
    bounds = [bound for bound in (low, high) if bound is not None]
    if not all(np.isfinite(bounds)) or bounds != sorted(bounds):
        raise GateError(
            "TRANSFORM_PARAMETER",
            f"these bounds of a transform are impossible: expected finite numbers, boundMin <= boundMax; found "
            f"boundMin {low}, boundMax {high}.",
        )
