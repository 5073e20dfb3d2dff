"""Events: mapped bytes to raw and scale values, only for the columns and rows that are asked for."""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tregflow.errors import FcsError, Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tregflow.fcs.keywords import Keywords
    from tregflow.fcs.layout import Column, Layout
    from tregflow.fcs.model import FcsText, Parameter
    from tregflow.fcs.segments import Data

_BLOCK = 8192  # events converted at a time: a block of ordinary width stays in the second-level cache
_SEPARATORS = re.compile(rb"[ ,\t\r\n\x00]+")
_BLANKS = b" ,\t\r\n\x00"


@dataclass(frozen=True, slots=True, eq=False)
class FcsFile:
    """One data set: its text, and its events behind a read-only mapping that is released with this object.

    Raw values are as stored, integers after the mask of `$PnR`. Scale values are float64: `10**(f1 * x / $PnR) * f2`
    for `$PnE` f1,f2; `x / $PnG` for linear parameters; `x * $TIMESTEP` for Time (FCS 3.1, under these keywords). A
    gain is never applied to a logarithmic parameter or to Time.
    """

    text: FcsText
    _layout: Layout
    _stored: NDArray[Any]  # bytes of DATA; (n_events, n_parameters) numbers for free-format ASCII

    @property
    def path(self) -> Path:
        """The file."""
        return self.text.path

    @property
    def keywords(self) -> Keywords:
        """Keywords of TEXT and supplemental TEXT."""
        return self.text.keywords

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """One per column."""
        return self.text.parameters

    @property
    def n_events(self) -> int:
        """Number of events."""
        return self.text.n_events

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was repaired or is doubtful."""
        return self.text.findings

    @property
    def version(self) -> str:
        """`FCS2.0`, `FCS3.0`, `FCS3.1` or `FCS3.2`."""
        return self.text.version

    def __repr__(self) -> str:
        return f"FcsFile({self.path.name!r}, {self.version}, {self.n_events} events x {len(self.parameters)} channels)"

    def raw(self, columns: Sequence[int] | None = None, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return values as stored.

        Parameters
        ----------
        columns
            0-based; all if None.
        start, stop
            Events, as in a slice.

        Returns
        -------
        NDArray
            `(n, k)`, native byte order, a copy. Columns of different types are given in the smallest type that
            holds them all.
        """
        start, stop, _ = slice(start, stop).indices(self.n_events)
        matrix = self._matrix()
        if matrix is not None and columns is None:
            return matrix[start:stop].astype(matrix.dtype.newbyteorder("="))
        wanted = range(len(self.parameters)) if columns is None else columns
        kinds = [_native(self._layout.columns[column]) for column in wanted]
        out = np.empty((max(0, stop - start), len(kinds)), np.result_type(*kinds) if kinds else np.float64)
        for first in range(start, stop, _BLOCK):
            last = min(first + _BLOCK, stop)
            for at, column in enumerate(wanted):
                out[first - start : last - start, at] = self._column(column, first, last)
        return out

    def scale_values(self, columns: Sequence[int], start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Return scale values.

        Parameters
        ----------
        columns
            0-based.
        start, stop
            Events, as in a slice.

        Returns
        -------
        NDArray
            `(n, k)`, float64.

        Raises
        ------
        FcsError
            `FCS_LOG_ON_FLOAT` for a floating-point column with a logarithmic `$PnE`.
        """
        start, stop, _ = slice(start, stop).indices(self.n_events)
        return self.rows(start, max(start, stop), None, columns).T

    def rows(
        self, start: int, stop: int, index: NDArray[np.intp] | None, columns: Sequence[int]
    ) -> NDArray[np.float64]:
        """Return scale values of some events, one contiguous row per channel.

        Parameters
        ----------
        start, stop
            The block of events, `0 <= start <= stop <= n_events`.
        index
            Events of the block, counted from `start`; None for all of them.
        columns
            0-based.

        Returns
        -------
        NDArray
            `(k, m)`, float64, C-contiguous.

        Raises
        ------
        FcsError
            `FCS_LOG_ON_FLOAT` for a floating-point column with a logarithmic `$PnE`.
        """
        if not 0 <= start <= stop <= self.n_events:
            message = f"events {start} to {stop} of {self.n_events} do not exist"
            raise IndexError(message)
        out = np.empty((len(columns), stop - start if index is None else len(index)))
        matrix = self._matrix()
        if matrix is not None:
            _gather(matrix[start:stop], index, columns, out)
        else:
            for at, column in enumerate(columns):
                values = self._column(column, start, stop)
                out[at] = values if index is None else values[index]
        with np.errstate(over="ignore"):  # values near the end of float64 become infinite, and so are in no gate
            for at, column in enumerate(columns):
                self._scale(out[at], self.parameters[column])
        return out

    def _scale(self, values: NDArray[np.float64], parameter: Parameter) -> None:
        """Turn raw into scale values, in place."""
        if parameter.is_time:
            step = timestep(self.keywords)
            if step is not None and step != 1:
                values *= step
        elif parameter.log_amp is not None:
            if parameter.datatype in {"F", "D"}:
                name = f"$P{parameter.index + 1}E"
                message = f"{self.path.name}: {name} of {parameter.pnn!r} is {self.keywords.text(name)}"
                expected = "floating-point values must be linear (0,0), so their scale has two readings"
                raise FcsError("FCS_LOG_ON_FLOAT", f"{message}; {expected}.", file=self.path.name)
            decades, offset = parameter.log_amp
            values *= decades
            values /= parameter.range
            np.power(10.0, values, out=values)
            values *= offset
        elif parameter.gain != 1:
            values /= parameter.gain

    def _matrix(self) -> NDArray[Any] | None:
        """Return a view `(n_events, n_parameters)` of the mapping, where every column is one plain float type."""
        first = self._layout.columns[0]
        dtype = _plain(first, self._layout) if self._layout.kind == "bytes" else None
        if dtype is None or first.letter == "I":
            return None
        if any(column.letter != first.letter or column.bits != first.bits for column in self._layout.columns):
            return None
        return self._stored.view(dtype).reshape(self.n_events, len(self._layout.columns))

    def _column(self, column: int, start: int, stop: int) -> NDArray[Any]:
        """Return one column of raw values in native byte order."""
        layout, place = self._layout, self._layout.columns[column]
        if layout.kind == "free":
            return self._stored[start:stop, column]
        if layout.kind == "bits":
            return _unpack(self._stored, layout, place, start, stop)
        events = self._stored.reshape(self.n_events, layout.event_bits // 8)[start:stop]
        at, width = place.offset // 8, place.bits // 8
        if layout.kind == "ascii":
            texts = np.ascontiguousarray(events[:, at : at + width]).view(f"S{width}")[:, 0]
            return _numbers(texts, self.path.name)
        dtype = _plain(place, layout)
        native = _native(place)
        if dtype is not None:
            values = np.ascontiguousarray(events[:, at : at + width]).view(dtype)[:, 0].astype(native, copy=False)
        else:
            values = _assemble(events[:, at : at + width], layout)
            values = values.view(native) if place.letter in {"F", "D"} else values.astype(native, copy=False)
        return values & native.type(place.mask) if _needs_mask(place) else values


def timestep(keywords: Keywords) -> float | None:
    """Return `$TIMESTEP` in seconds per tick, or None where it is absent or no positive number."""
    try:
        step = float(keywords.text("$TIMESTEP"))
    except ValueError:
        return None
    return step if 0 < step < float("inf") else None


def map_data(text: FcsText, data: Data, base: int) -> NDArray[Any]:
    """Map the DATA segment; free-format ASCII is parsed at once, since its numbers have no fixed place."""
    if not data.length:
        return np.empty(0, np.uint8)
    start = base + data.begin
    page = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with text.path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), start - page + data.length, access=mmap.ACCESS_READ, offset=page)
    return np.frombuffer(mapping, np.uint8, count=data.length, offset=start - page)


def read_free(raw: bytes, n_parameters: int, n_events: int | None, name: str) -> NDArray[Any]:
    """Read ASCII numbers between delimiters (`$PnB` is `*`) as `(n_events, n_parameters)`, or raise `FCS_ASCII`."""
    texts = _SEPARATORS.split(raw.strip(_BLANKS)) if raw.strip(_BLANKS) else []
    if len(texts) % n_parameters or n_events not in {None, len(texts) // n_parameters}:
        expected = f"a multiple of {n_parameters}" if n_events is None else f"{n_events} x {n_parameters}"
        message = f"{name}: DATA holds {len(texts)} numbers, expected {expected}."
        raise FcsError("FCS_ASCII", message, file=name)
    return _numbers(np.array(texts, dtype="S"), name).reshape(-1, n_parameters)


def _numbers(texts: NDArray[np.bytes_], name: str) -> NDArray[np.int64]:
    try:
        return texts.astype(np.int64)
    except (ValueError, OverflowError) as error:
        raise FcsError("FCS_ASCII", f"{name}: DATA must hold whole numbers in ASCII; {error}.", file=name) from error


def _native(place: Column) -> np.dtype[Any]:
    if place.letter in {"F", "D"}:
        return np.dtype(np.float32 if place.letter == "F" else np.float64)
    if place.letter == "A":
        return np.dtype(np.int64)
    return np.dtype(f"u{next(size for size in (1, 2, 4, 8) if 8 * size >= place.bits)}")


def _plain(place: Column, layout: Layout) -> np.dtype[Any] | None:
    """Return the NumPy type of a column, where its width and byte order have one."""
    if place.bits not in {8, 16, 32, 64} or not (layout.little or layout.big or place.bits == 8):
        return None
    return _native(place).newbyteorder("<" if layout.little else ">")


def _needs_mask(place: Column) -> bool:
    return place.letter == "I" and place.mask != (1 << place.bits) - 1


def _assemble(raw: NDArray[np.uint8], layout: Layout) -> NDArray[Any]:
    """Put words together byte by byte: 24 bits, or a mixed `$BYTEORD`."""
    width = raw.shape[1]
    if layout.little:
        order: Sequence[int] = range(width)
    elif layout.big:
        order = range(width - 1, -1, -1)
    else:
        order = layout.order
    values = np.zeros(len(raw), np.uint32 if width <= 4 else np.uint64)
    for at, significance in enumerate(order):
        values = values | raw[:, at].astype(values.dtype) << values.dtype.type(8 * significance)
    return values


def _unpack(stored: NDArray[np.uint8], layout: Layout, place: Column, start: int, stop: int) -> NDArray[Any]:
    """Take one column out of packed bits.

    The stream is read from the most significant bit where the most significant byte comes first, and from the least
    significant bit otherwise, so that a value's bits are neighbours in either order.
    """
    out = np.empty(stop - start, _native(place))
    positions = range(place.bits) if layout.little else range(place.bits - 1, -1, -1)
    for first in range(start, stop, _BLOCK):
        last = min(first + _BLOCK, stop)
        begin, end = first * layout.event_bits, last * layout.event_bits
        bits = np.unpackbits(stored[begin // 8 : (end + 7) // 8], bitorder="little" if layout.little else "big")
        block = bits[begin % 8 : begin % 8 + end - begin].reshape(last - first, layout.event_bits)
        values = np.zeros(last - first, np.uint64)
        for at, position in enumerate(positions):
            values |= block[:, place.offset + at].astype(np.uint64) << np.uint64(position)
        out[first - start : last - start] = values & np.uint64(place.mask)
    return out


def _gather(
    matrix: NDArray[Any], index: NDArray[np.intp] | None, columns: Sequence[int], out: NDArray[np.float64]
) -> None:
    """Copy columns of the mapped matrix into rows of `out`, through the file once, block by block.

    `take` is no help here: DATA rarely begins at a multiple of four bytes, and `take` first copies all of an
    unaligned array.
    """
    n_rows = out.shape[1]
    if index is not None and 4 * len(columns) <= matrix.shape[1]:  # whole rows would be mostly waste
        for at, column in enumerate(columns):
            out[at] = matrix[index, column]
        return
    for first in range(0, n_rows, _BLOCK):
        last = min(first + _BLOCK, n_rows)
        block = matrix[first:last] if index is None else matrix[index[first:last]]
        for at, column in enumerate(columns):
            out[at, first:last] = block[:, column]
