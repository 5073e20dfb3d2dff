"""Write FCS 3.1: for simulation, export and tests. Nothing is read from a clock: same input, same bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tregflow.atomic import replacing
from tregflow.errors import FcsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 65536  # events converted at a time, so that writing needs no second copy of the matrix
_HEADER_LIMIT = 99_999_999  # the widest offset the HEADER's eight characters hold
_TEXT_START = 58
_CRC = b"00000000"  # FCS 3.1: eight zeros where no CRC is computed
_DELIMITERS = "|/\\\x0c!~^\x1e"
# What describes the bytes is worked out here and cannot be given by the caller.
_OWN = re.compile(
    r"\$(BEGIN|END)(DATA|STEXT|ANALYSIS)|\$(BYTEORD|DATATYPE|MODE|NEXTDATA|PAR|TOT)|\$P\d+([BNRS]|DATATYPE)",
    re.IGNORECASE,
)
_NO_KEYWORDS: Mapping[str, str] = MappingProxyType({})


def write_fcs(
    path: str | os.PathLike[str],
    events: NDArray[Any],
    channels: Sequence[tuple[str, str]],
    *,
    keywords: Mapping[str, str] = _NO_KEYWORDS,
    datatype: str = "F",
    byteorder: str = "little",
    bits: int = 32,
    ranges: Sequence[float] | None = None,
    spillover: tuple[Sequence[str], NDArray[Any]] | None = None,
    version: str = "FCS3.1",
) -> None:
    """Write one data set; the file appears whole or not at all.

    Nothing is added to what is given: where a channel is `Time`, give its `$TIMESTEP` (seconds per tick) in
    `keywords`, or readers keep Time in ticks (`FCS_TIMESTEP`).

    Parameters
    ----------
    path
        The file to write; an existing one is replaced.
    events
        `(n_events, n_channels)`, as they shall be stored (no `$PnE` or `$PnG` is applied).
    channels
        `($PnN, $PnS)` of each column; an empty `$PnS` is left out.
    keywords
        Further keywords, as they shall be written, in this order. An empty value, which the standard forbids, is
        written as one space. `$PnE` is `0,0` where it is not given.
    datatype
        `F` (float32), `D` (float64) or `I` (unsigned integers of `bits` bits).
    byteorder
        `little` or `big`.
    bits
        8, 16, 32 or 64, for `I` only.
    ranges
        `$PnR` of each column. Without it 262144, or the next power of two above the largest value; for `I` the
        full width.
    spillover
        Channel names and matrix (rows sources, columns detectors), written as `$SPILLOVER`.
    version
        `FCS3.0`, `FCS3.1` or `FCS3.2`.

    Raises
    ------
    FcsError
        `FCS_WRITE` where the input cannot be written without changing it.
    """
    path = Path(path)
    events = np.asarray(events)
    dtype = _stored_type(path, datatype, byteorder, bits)
    _check(path, events, channels, keywords, version)
    limits = _ranges(path, events, dtype, ranges)
    described = [(pnn, pns, limit) for (pnn, pns), limit in zip(channels, limits, strict=True)]
    text_pairs = _pairs(len(events), described, keywords, dtype, spillover)
    delimiter = _delimiter(path, text_pairs)
    n_bytes = events.size * dtype.itemsize
    text, begin = _text(text_pairs, delimiter, n_bytes)
    end = begin + n_bytes - 1
    shown = (begin, end) if n_bytes and end <= _HEADER_LIMIT else (0, 0)
    header = f"{version}    {_TEXT_START:8d}{_TEXT_START + len(text) - 1:8d}{shown[0]:8d}{shown[1]:8d}{0:8d}{0:8d}"
    with replacing(path) as file:
        file.write(header.encode("ascii"))
        file.write(text)
        for block in _stored(path, events, dtype):
            file.write(block)
        file.write(_CRC)


def _fail(path: Path, message: str) -> FcsError:
    return FcsError("FCS_WRITE", f"{path.name} cannot be written: {message}.", file=path.name)


def _stored_type(path: Path, datatype: str, byteorder: str, bits: int) -> np.dtype[Any]:
    letters = {"F": "f4", "D": "f8", "I": f"u{bits // 8}"}
    if datatype not in letters or (datatype == "I" and bits not in {8, 16, 32, 64}):
        raise _fail(path, f"data type F, D or I with 8, 16, 32 or 64 bits expected, found {datatype!r}, {bits} bits")
    if byteorder not in {"little", "big"}:
        raise _fail(path, f"byte order little or big expected, found {byteorder!r}")
    return np.dtype(("<" if byteorder == "little" else ">") + letters[datatype])


def _check(
    path: Path,
    events: NDArray[Any],
    channels: Sequence[tuple[str, str]],
    keywords: Mapping[str, str],
    version: str,
) -> None:
    if events.ndim != 2 or events.shape[1] != len(channels) or not channels:
        raise _fail(path, f"events of shape (n, {len(channels)}) expected, found {events.shape}")
    if version not in {"FCS3.0", "FCS3.1", "FCS3.2"}:
        raise _fail(path, f"version FCS3.0, FCS3.1 or FCS3.2 expected, found {version!r}")
    own = sorted(key for key in keywords if _OWN.fullmatch(key.strip()))
    if own:
        raise _fail(path, f"keywords {', '.join(own)} are derived from the events and cannot be given")
    empty = [index for index, (pnn, _) in enumerate(channels, 1) if not pnn.strip()]
    if empty or any(not key.strip() for key in keywords):
        raise _fail(path, f"channel names and keywords must not be empty (channels {empty})")
    folded = [key.strip().upper() for key in keywords]
    if len(set(folded)) != len(folded):
        raise _fail(path, "a keyword is given twice (upper and lower case are the same)")


def _ranges(path: Path, events: NDArray[Any], dtype: np.dtype[Any], ranges: Sequence[float] | None) -> list[str]:
    n_channels = events.shape[1]
    if ranges is not None:
        if len(ranges) != n_channels:
            raise _fail(path, f"{n_channels} ranges expected, found {len(ranges)}")
        if dtype.kind == "u" and events.size:
            for index, (largest, limit) in enumerate(zip(events.max(axis=0), ranges, strict=True), 1):
                if largest >= limit:
                    raise _fail(path, f"channel {index} holds {largest}, not below its range {limit}")
        return [str(int(limit)) if float(limit).is_integer() else repr(float(limit)) for limit in ranges]
    if dtype.kind == "u":
        return [str(1 << (8 * dtype.itemsize))] * n_channels
    limits = []
    for column in range(n_channels):
        values = events[:, column]
        finite = values[np.isfinite(values)]
        top = float(finite.max()) if finite.size else 0.0
        limits.append(str(262144 if top < 262144 else 1 << int(np.floor(np.log2(top)) + 1)))
    return limits


def _pairs(
    n_events: int,
    channels: Sequence[tuple[str, str, str]],
    keywords: Mapping[str, str],
    dtype: np.dtype[Any],
    spillover: tuple[Sequence[str], NDArray[Any]] | None,
) -> list[tuple[str, str]]:
    given = {key.strip().upper() for key in keywords}
    little = "1,2,3,4" if dtype.newbyteorder("<") == dtype else "4,3,2,1"
    pairs = [
        ("$BEGINANALYSIS", "0"),
        ("$ENDANALYSIS", "0"),
        ("$BEGINSTEXT", "0"),
        ("$ENDSTEXT", "0"),
        ("$BYTEORD", little if dtype.itemsize > 1 else "1,2,3,4"),
        ("$DATATYPE", "I" if dtype.kind == "u" else "F" if dtype.itemsize == 4 else "D"),
        ("$MODE", "L"),
        ("$NEXTDATA", "0"),
        ("$PAR", str(len(channels))),
        ("$TOT", str(n_events)),
    ]
    for number, (pnn, pns, limit) in enumerate(channels, 1):
        pairs += [(f"$P{number}B", str(8 * dtype.itemsize)), (f"$P{number}R", limit), (f"$P{number}N", pnn)]
        if f"$P{number}E" not in given:
            pairs.append((f"$P{number}E", "0,0"))
        if pns:
            pairs.append((f"$P{number}S", pns))
    if spillover is not None:
        names, matrix = spillover
        values = [repr(float(value)) for value in np.asarray(matrix).ravel()]
        pairs.append(("$SPILLOVER", ",".join([str(len(names)), *names, *values])))
    pairs += [(key, value or " ") for key, value in keywords.items()]
    return pairs


def _delimiter(path: Path, pairs: Sequence[tuple[str, str]]) -> str:
    """Choose one that occurs nowhere; where every candidate occurs, the first will be doubled."""
    used = {character for pair in pairs for part in pair for character in part}
    for candidate in _DELIMITERS:
        if candidate not in used:
            return candidate
    first = _DELIMITERS[0]
    if any(first in key or value.startswith(first) for key, value in pairs):
        raise _fail(path, f"every delimiter occurs in the text, and {first!r} in a keyword or first in a value")
    return first


def _text(pairs: Sequence[tuple[str, str]], delimiter: str, n_bytes: int) -> tuple[bytes, int]:
    """Return TEXT and where DATA begins; the offsets are part of the text, so their own length is settled first."""
    begin = _TEXT_START
    while True:
        offsets = (begin, begin + n_bytes - 1) if n_bytes else (0, 0)
        every = [("$BEGINDATA", str(offsets[0])), ("$ENDDATA", str(offsets[1])), *pairs]
        parts = [part.replace(delimiter, delimiter * 2) for pair in every for part in pair]
        text = (delimiter + delimiter.join(parts) + delimiter).encode("utf-8")
        if _TEXT_START + len(text) == begin:
            return text, begin
        begin = _TEXT_START + len(text)


def _stored(path: Path, events: NDArray[Any], dtype: np.dtype[Any]) -> Iterator[bytes]:
    for start in range(0, len(events), _BLOCK):
        block = events[start : start + _BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):
            stored = block.astype(dtype)
        if dtype.kind == "u":
            changed = bool((stored != block).any())
        else:
            changed = bool((np.isinf(stored) & ~np.isinf(block)).any())
        if changed:
            raise _fail(path, f"events {start} to {start + len(block)} hold values that {dtype.name} cannot")
        yield stored.tobytes()
