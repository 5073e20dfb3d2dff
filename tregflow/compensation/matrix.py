"""The spillover matrix itself: checked, inverted once, hashed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tregflow.errors import CompensationError

Array = NDArray[np.float64]

PREFIX = "comp-"  # FlowJo, FlowKit and Diva name exported compensated channels so
SINGULAR = 1e12  # above this condition number the inverse of float64 coefficients has fewer than four digits
_PLACEHOLDER = 1e-5  # SpectroFlo writes the identity with one coefficient of 1e-6, so that readers take it for a matrix


@dataclass(frozen=True, slots=True, eq=False)
class Spillover:
    """A square spillover matrix that can be inverted.

    Parameters
    ----------
    source
        Where it came from: `file:$SPILLOVER`, `csv:name.csv`, ...
    channels
        `$PnN` of the detectors, in the order of rows and columns.
    matrix
        Shape `(n, n)`: rows sources, columns detectors, fractions. Kept as a read-only float64 copy.
    electronic
        The keyword says that the instrument has subtracted it already (`$COMP`, `$DFCmTOn`).

    Attributes
    ----------
    inverse
        Shape `(n, n)`, read-only.
    condition_number
        Ratio of the largest to the smallest singular value.
    sha256
        Of the coefficients and their names, whatever the order of the channels.

    Raises
    ------
    CompensationError
        `COMPENSATION_MALFORMED`: not square, or a name twice. `COMPENSATION_NOT_FINITE`, `COMPENSATION_SINGULAR`.
    """

    source: str
    channels: tuple[str, ...]
    matrix: Array
    electronic: bool = False
    inverse: Array = field(init=False, repr=False)
    condition_number: float = field(init=False)
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64) + 0.0  # a copy, without negative zeros
        n = len(self.channels)
        if n == 0 or matrix.shape != (n, n):
            raise malformed(self.source, f"a {n} x {n} matrix for {n} channels", f"shape {matrix.shape}")
        if len(set(self.channels)) != n:
            raise malformed(self.source, "every channel once", ", ".join(self.channels))
        if not np.isfinite(matrix).all():
            i, j = np.argwhere(~np.isfinite(matrix))[0]
            raise CompensationError(
                "COMPENSATION_NOT_FINITE",
                f"{self.source} holds {matrix[i, j]} for the spillover of {self.channels[i]} into {self.channels[j]}.",
                channel=self.channels[i],
            )
        condition = float(np.linalg.cond(matrix))
        if not condition < SINGULAR:
            raise CompensationError(
                "COMPENSATION_SINGULAR",
                f"{self.source} ({n} channels) cannot be inverted: condition number {condition:.3g}, "
                f"limit {SINGULAR:.0e}.",
            )
        order = sorted(range(n), key=self.channels.__getitem__)
        content = json.dumps([[self.channels[i] for i in order], matrix[np.ix_(order, order)].tolist()])
        values = {
            "matrix": matrix,
            "inverse": np.linalg.inv(matrix),
            "condition_number": condition,
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def is_identity(self) -> bool:
        """Whether it is the identity to within 1e-5: a placeholder, that compensates nothing."""
        return bool(np.abs(self.matrix - np.eye(len(self.channels))).max() <= _PLACEHOLDER)

    def compensate(self, raw: ArrayLike) -> Array:
        """Compensate events given as one row per channel.

        Parameters
        ----------
        raw
            Shape `(n, m)`: scale values, one row per channel in the order of `channels`, uncompensated.

        Returns
        -------
        compensated
            Shape `(n, m)`, scale values.
        """
        return self.inverse.T @ np.asarray(raw, dtype=np.float64)


def malformed(source: str, expected: str, found: str) -> CompensationError:
    """The error of a matrix that cannot be read."""
    return CompensationError("COMPENSATION_MALFORMED", f"{source}: expected {expected}; found {found}.")
