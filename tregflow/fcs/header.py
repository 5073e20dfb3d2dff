"""HEADER: the first 58 bytes of a data set, and the chain of data sets in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from tregflow.fcs.model import Problems

VERSIONS = ("FCS2.0", "FCS3.0", "FCS3.1", "FCS3.2")
LENGTH = 58
CRC_LENGTH = 8  # bytes behind the last segment (FCS 3.0 and later)
_MOST_OTHERS = 64  # far more user-defined segments than any writer lists


@dataclass(frozen=True, slots=True)
class Segment:
    """First and last byte, both inclusive, counted from the beginning of the data set."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.end - self.begin + 1

    def __str__(self) -> str:
        return f"{self.begin} to {self.end}"


@dataclass(frozen=True, slots=True)
class Header:
    """Version and segments; a segment that is absent (blank, zero or negative offsets) is None."""

    version: str
    text: Segment | None
    data: Segment | None
    analysis: Segment | None


def read_header(file: BinaryIO, base: int, problems: Problems) -> Header | None:
    """Read the HEADER at `base`; None, with violations, where there is none (`FCS_NOT_FCS`, `FCS_VERSION`)."""
    file.seek(base)
    raw = file.read(LENGTH)
    if raw[:3] != b"FCS" or len(raw) < LENGTH:
        expected = f"an FCS file begins with 'FCS' and a HEADER of {LENGTH} bytes"
        problems.violation("FCS_NOT_FCS", f"{expected}; found {len(raw)} bytes beginning {raw[:10]!r}")
        return None
    version = raw[:6].decode("latin-1")
    if version not in VERSIONS:
        problems.violation("FCS_VERSION", f"version {', '.join(VERSIONS)} expected, found {version!r}")
        return None
    fields = [raw[at : at + 8].decode("latin-1").strip(" \x00") for at in range(10, LENGTH, 8)]
    return Header(
        version,
        _segment("TEXT", fields[0], fields[1], problems),
        _segment("DATA", fields[2], fields[3], problems),
        _segment("ANALYSIS", fields[4], fields[5], problems),
    )


def read_others(file: BinaryIO, base: int, header: Header) -> list[int]:
    """Return the last bytes of the user-defined OTHER segments, which HEADER lists behind its 58 bytes."""
    if header.text is None or header.text.begin <= LENGTH:
        return []
    file.seek(base + LENGTH)
    raw = file.read(min(header.text.begin - LENGTH, 16 * _MOST_OTHERS)).decode("latin-1")
    ends = (parse_offset(raw[at : at + 8]) for at in range(8, len(raw), 16))
    return [end for end in ends if end is not None]


def is_header(file: BinaryIO, offset: int) -> bool:
    """Tell whether a HEADER of a known version begins at `offset`."""
    file.seek(offset)
    return file.read(6).decode("latin-1") in VERSIONS


def parse_offset(text: str) -> int | None:
    """Return the offset a text holds, 0 where it is blank, None where it is no whole number."""
    text = text.strip(" \t\r\n\x00")
    if not text:
        return 0
    try:
        return int(text) if "_" not in text else None
    except ValueError:
        return None


def _segment(name: str, first: str, last: str, problems: Problems) -> Segment | None:
    begin, end = parse_offset(first), parse_offset(last)
    if begin is None or end is None:
        message = f"HEADER must give {name} as two whole numbers, found {first!r} and {last!r}"
        if name == "ANALYSIS":
            problems.finding("FCS_ANALYSIS_IGNORED", message)
        else:
            problems.violation("FCS_HEADER", message)
        return None
    # A negative end of an absent segment is written by some (FACS Aria II: ANALYSIS 0 to -1).
    return Segment(begin, end) if begin > 0 and end > 0 else None
