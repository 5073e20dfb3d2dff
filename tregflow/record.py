"""What a run leaves behind: the record of a tube, content hashes, atomic files and the hash-chained ledger.

`TubeRecord` is the unit of resume (`samples/<tube>.json`) and the only thing that tables, report and exports are made
from. It holds counts, placed gates, findings and binned densities, never events.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from tregflow.atomic import write_atomic
from tregflow.errors import BatchError, Severity
from tregflow.placement import Space
from tregflow.placement import Status as PlacementStatus
from tregflow.template.loading import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Status = Literal["ok", "review", "not_evaluable", "control"]
GENESIS = "0" * 64


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TransformRecord(_Record):
    """A Gating-ML transform: its kind and parameters (T, W, M, A as the kind has them)."""

    kind: str
    parameters: dict[str, float]


class DimensionRecord(_Record):
    """One axis of a gate or plot: the template's name for it and the channel it was found in."""

    name: str
    pnn: str
    pns: str
    compensated: bool
    transform: TransformRecord | None


class PlacementRecord(_Record):
    """Where a rule put a gate and why.

    `space` is the space of `raw_value` and `spread` (scale or transformed); the gate's own coordinates are always in
    transformed space. `status` is `placed`, `shared` (the batch's frozen cut) or `fallback`.
    """

    rule: str
    share: str
    space: Space
    status: PlacementStatus
    reference: str
    n_reference: int
    raw_value: tuple[float, ...]
    spread: float | None
    quality: dict[str, float]
    message: str


class GateRecord(_Record):
    """A gate as used, in compensated and transformed space.

    `geometry` by kind: rectangle `{minima, maxima}` (None = open), polygon `{vertices}`, ellipsoid `{mean, covariance,
    distance_square}`, quadrant `{dividers, cells}`, boolean `{operator, operands, complements}`.
    """

    id: str
    title: str
    parent: str | None
    kind: Literal["rectangle", "polygon", "ellipsoid", "quadrant", "boolean"]
    dimensions: tuple[DimensionRecord, ...]
    geometry: dict[str, Any]
    placement: PlacementRecord | None


class PopulationRecord(_Record):
    """Events inside a gate and all its ancestors. `mfi`: median of compensated scale values by marker."""

    id: str
    title: str
    parent: str | None
    n_events: int
    n_non_finite: int
    mfi: dict[str, float | None]


class AxisRecord(_Record):
    """A histogram axis: `bins` equal bins from `low` to `high` in transformed space (scale values if no transform).

    Events beyond an end are counted in the first or last bin.
    """

    dimension: DimensionRecord
    low: float
    high: float
    bins: int


class HistogramRecord(_Record):
    """All events of `population`, binned for drawing `gates`; `y` is None for a one-dimensional histogram.

    `counts` is base64 of zlib-compressed little-endian uint32, x-major: shape `(x.bins, y.bins)` or `(x.bins,)`.
    """

    population: str
    gates: tuple[str, ...]
    x: AxisRecord
    y: AxisRecord | None
    counts: str

    def array(self) -> NDArray[np.uint32]:
        """Counts per bin, shape `(x.bins, y.bins)`, or `(x.bins,)` without a y axis."""
        flat = np.frombuffer(zlib.decompress(base64.b64decode(self.counts)), dtype="<u4")
        return flat.reshape((self.x.bins,) if self.y is None else (self.x.bins, self.y.bins))


def pack_counts(counts: NDArray[np.integer]) -> str:
    """Histogram counts as text for `HistogramRecord.counts`."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(counts, dtype="<u4").tobytes(), 6)).decode("ascii")


class FindingRecord(_Record):
    """A `tregflow.errors.Finding` on disk."""

    code: str
    severity: Severity
    message: str
    tube: str
    population: str
    observed: str
    limit: str
    remedy: str


class MovedCounts(_Record):
    """Numerator and denominator with the deciding cuts moved by their uncertainty, all together, one way."""

    direction: Literal["down", "up"]
    n_numerator: int
    n_denominator: int


class ModeRecord(_Record):
    """Numerator and denominator under a sensitivity mode, with its deciding cuts by gate; or why there are none."""

    mode: str
    cuts: dict[str, float] = {}
    n_numerator: int | None = None
    n_denominator: int | None = None
    why: str = ""


class CompensationRecord(_Record):
    """The one matrix that was applied, and once. `source` is `unmixed` where none was needed."""

    source: str
    sha256: str
    condition_number: float | None
    channels: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]


class TimeRecord(_Record):
    """What the acquisition check saw over time and what it set aside; Time is in scale values.

    `edges` has one value more than there are bins. `flags` says for each bin why it was set aside, empty where it was
    not. `medians` is by dimension, in transformed space, None for a bin without events. `intervals` are half-open and
    became gates. `n_numerator_all` and `n_denominator_all` are the endpoint's counts with nothing set aside.
    """

    verdict: Literal["clean", "cleaned", "unclean", "not_evaluable"]
    why: str
    channel: str
    edges: tuple[float, ...] = ()
    n_events: tuple[int, ...] = ()
    medians: dict[str, tuple[float | None, ...]] = {}
    flags: tuple[str, ...] = ()
    intervals: tuple[tuple[float, float], ...] = ()
    n_set_aside: int = 0
    n_numerator_all: int | None = None
    n_denominator_all: int | None = None


class ResidualRecord(_Record):
    """Compensation left over on the tube itself: where `source`'s positives sit in `detector` against its negatives.

    `shift` is the difference of the medians in robust SD of the negatives, `slope` the same as a fraction of the
    source's signal (the spillover coefficient that would remove it), each with its standard error.
    """

    source: str
    detector: str
    shift: float
    shift_se: float
    slope: float
    slope_se: float
    n_negative: int
    n_positive: int


class TemplateRef(_Record):
    """Which template, exactly."""

    id: str
    version: str
    sha256: str
    status: str
    title: str
    numerator: str
    denominator: str
    also_of: tuple[str, ...]


class TubeIdentity(_Record):
    """The manifest row."""

    tube: str
    file: str
    subject_id: str
    visit: str
    role: str
    replicate: int
    collected_at: str
    batch_id: str
    comment: str


class TubeRecord(_Record):
    """Everything that is known of one tube after a run."""

    schema_version: Literal[1] = 1
    tregflow_version: str
    template: TemplateRef
    tube: TubeIdentity
    key: str
    status: Status
    file_sha256: str
    n_events: int | None
    acquisition: dict[str, str]
    compensation: CompensationRecord | None
    populations: tuple[PopulationRecord, ...]
    gates: tuple[GateRecord, ...]
    histograms: tuple[HistogramRecord, ...]
    moved: tuple[MovedCounts, ...] = ()
    modes: tuple[ModeRecord, ...] = ()
    time: TimeRecord | None = None
    residuals: tuple[ResidualRecord, ...] = ()
    findings: tuple[FindingRecord, ...]

    def count(self, population: str) -> int | None:
        """Events in a population; None where the tube was not gated."""
        return next((p.n_events for p in self.populations if p.id == population), None)


def sha256_bytes(data: bytes) -> str:
    """SHA-256 as lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes as lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(path: Path, record: TubeRecord) -> None:
    """Write `samples/<tube>.json` atomically, with stable bytes."""
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def read_record(path: Path | str) -> TubeRecord:
    """Read a tube's record."""
    return TubeRecord.model_validate_json(Path(path).read_bytes())


class Ledger:
    """Append-only JSON lines; each carries the SHA-256 of the line before, so that an edit or a gap shows.

    The hash of a line is taken over its bytes without the newline; the first line points to 64 zeros. The chain is
    checked when the ledger is opened. It cannot show that its last lines are gone or its last line was edited: for
    that, compare the hash that `append` returned. Only the holder of the results folder's lock may append.

    Raises
    ------
    BatchError
        `LEDGER_BROKEN` with the line's number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._entries, self._last = _chain(whole, path.name)
        if len(whole) < len(data):
            # a line without its newline is a write that was killed before anyone was told that it was made
            with path.open("r+b") as file:
                file.truncate(len(whole))
            self.append({"action": "ledger_repaired", "dropped_bytes": len(data) - len(whole)})

    @property
    def entries(self) -> tuple[Mapping[str, Any], ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    def append(self, entry: Mapping[str, Any]) -> str:
        """Add one entry and return the hash of its line."""
        chained = {**entry, "previous": self._last}
        line = canonical_json(chained)
        with self.path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._entries.append(chained)
        self._last = sha256_bytes(line)
        return self._last


def verify_ledger(path: Path) -> int:
    """Check a ledger's chain and return the number of entries; a break raises `LEDGER_BROKEN` with its line."""
    return len(_chain(path.read_bytes(), path.name)[0])


def read_ledger(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The entries of a ledger without changing it; a last line that was cut off is no entry. `LEDGER_BROKEN`."""
    data = path.read_bytes()
    return tuple(_chain(data[: data.rfind(b"\n") + 1], path.name)[0])


def _chain(data: bytes, name: str) -> tuple[list[Mapping[str, Any]], str]:
    """The entries of a ledger and the hash of its last line."""
    entries: list[Mapping[str, Any]] = []
    expected = GENESIS
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n") if data else [], 1):
        try:
            entry = json.loads(line)
            found = entry["previous"]
        except (ValueError, KeyError, TypeError):
            entry, found = {}, "no readable hash"
        if found != expected:
            raise BatchError(
                "LEDGER_BROKEN",
                f"line {number} of {name} does not continue the line before it: "
                f"expected previous = {expected[:12]}..., found {str(found)[:12]}....",
                line=number,
            )
        entries.append(entry)
        expected = sha256_bytes(line)
    return entries, expected
