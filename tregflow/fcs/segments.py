"""Where DATA lies: HEADER and TEXT each say so, `$TOT` and the widths say how long it is, and they must agree.

Every pair of offsets that is written somewhere is a witness. A witness fits if its length is what `$TOT` and the
widths ask for, and nearly fits if its end is one byte too high or too low (the two usual slips: an exclusive end, and
a count in place of an end). The events are read only if exactly one place is left; witnesses that fit outrank those
that nearly fit. A stated beginning is believed: where the length is one byte off, it is the end that is moved.
Nothing is moved otherwise, and no event count is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tregflow.fcs.header import LENGTH, Header, Segment, parse_offset

if TYPE_CHECKING:
    from tregflow.fcs.keywords import Keywords
    from tregflow.fcs.layout import Layout
    from tregflow.fcs.model import Problems

_HEADER_LIMIT = 99_999_999


@dataclass(frozen=True, slots=True)
class Data:
    """The place of the events: `begin` counted from the beginning of the data set."""

    begin: int
    length: int
    layout: Layout
    n_events: int | None  # None for free-format ASCII without $TOT


@dataclass(frozen=True, slots=True)
class _Reading:
    source: str
    declared: Segment
    segment: Segment
    n_events: int | None
    repair: str  # of the layout
    layout: Layout

    @property
    def shift(self) -> int:
        return self.declared.end - self.segment.end


def text_segment(keywords: Keywords, name: str, problems: Problems) -> Segment | None:
    """Read `$BEGIN...` and `$END...` of DATA, STEXT or ANALYSIS; None where absent or 0."""
    begin, end = (parse_offset(keywords.get(f"${word}{name}", "")) for word in ("BEGIN", "END"))
    if begin is None or end is None:
        found = f"{keywords.get(f'$BEGIN{name}')!r} and {keywords.get(f'$END{name}')!r}"
        problems.finding("FCS_TEXT_OFFSETS_UNREADABLE", f"$BEGIN{name} and $END{name} are not whole numbers: {found}")
        return None
    return Segment(begin, end) if begin > 0 and end > 0 else None


def locate(
    header: Header,
    keywords: Keywords,
    layouts: tuple[tuple[str, Layout], ...],
    problems: Problems,
    *,
    n_events: int | None,
    size: int,
) -> Data | None:
    """Find the one place of DATA that fits, or add violations and return None.

    `n_events` is `$TOT` (None where FCS 2.0 leaves it out), `size` what the file holds of this data set.
    """
    written = text_segment(keywords, "DATA", problems)
    witnesses = [(name, seg) for name, seg in (("HEADER", header.data), ("TEXT", written)) if seg is not None]
    if n_events == 0 and all(segment.length <= 1 for _, segment in witnesses):  # 1: an exclusive end
        return Data(0, 0, layouts[0][1], 0)
    if not witnesses:
        message = "neither HEADER nor $BEGINDATA and $ENDDATA say where DATA lies"
        problems.violation("FCS_DATA_MISSING", message)
        return None
    readings = [
        reading
        for source, segment in witnesses
        for repair, layout in layouts
        if (reading := _fit(source, segment, repair, layout, n_events)) is not None
    ]
    clear = [reading for reading in readings if not _overlaps(reading.segment, header.text)]
    chosen = _choose(clear, size)
    if chosen is None and readings and not clear:
        message = f"DATA ({readings[0].segment}) overlaps HEADER or TEXT ({header.text})"
        problems.violation("FCS_DATA_OVERLAPS", message)
    elif chosen is None:
        _explain(witnesses, clear, problems, layout=layouts[0][1], n_events=n_events, size=size)
    if chosen is None:
        return None
    _note(chosen, header, written, problems)
    return Data(chosen.segment.begin, chosen.segment.length, chosen.layout, chosen.n_events)


def _fit(source: str, declared: Segment, repair: str, layout: Layout, n_events: int | None) -> _Reading | None:
    for shift in (0, 1, -1):
        segment = Segment(declared.begin, declared.end - shift)
        if segment.length < 1:
            return None
        if layout.kind == "free":
            return _Reading(source, declared, segment, n_events, repair, layout)
        if n_events is not None:
            count = n_events if layout.n_bytes(n_events) == segment.length else None
        else:  # nothing but the stated length says how many, so it is only ever cut to whole events
            count = layout.n_events(segment.length) if shift >= 0 else None
        if count is not None:
            return _Reading(source, declared, segment, count, repair, layout)
    return None


def _overlaps(data: Segment, text: Segment | None) -> bool:
    """Tell whether DATA reaches into HEADER or TEXT; TEXT's last byte may be DATA's first, where its end slipped."""
    return data.begin < LENGTH or (text is not None and data.begin < text.end and text.begin <= data.end)


def _choose(readings: list[_Reading], size: int) -> _Reading | None:
    """Return the one place that fits inside the file; None where there is none, or more than one."""
    inside = [reading for reading in readings if reading.segment.end < size]
    for rank in (
        [reading for reading in inside if not reading.shift and not reading.repair],
        [reading for reading in inside if not reading.repair],
        inside,
    ):
        places = {(reading.segment, reading.repair) for reading in rank}
        if len(places) == 1:
            return rank[0]
        if places:
            return None
    return None


def _explain(
    witnesses: list[tuple[str, Segment]],
    readings: list[_Reading],
    problems: Problems,
    *,
    layout: Layout,
    n_events: int | None,
    size: int,
) -> None:
    said = ", ".join(f"{source} says {segment}" for source, segment in witnesses)
    beyond = [segment.end for _, segment in witnesses if segment.end > size]
    if beyond:
        message = f"DATA ({said}) ends at byte {max(beyond)}, but the file holds only {size} bytes of this data set"
        problems.violation("FCS_TRUNCATED", message)
    if len({(reading.segment.begin, reading.repair) for reading in readings}) > 1:
        message = f"HEADER and TEXT disagree on DATA and more than one place fits $TOT and the widths: {said}"
        problems.violation("FCS_OFFSETS_CONFLICT", message)
    elif not readings:
        count = "whole" if n_events is None else str(n_events)
        needed = "" if n_events is None else f" ({layout.n_bytes(n_events)} bytes)"
        message = f"no stated place of DATA holds {count} events of {layout.event_bits} bits{needed}: {said}"
        problems.violation("FCS_DATA_LENGTH", message)
    elif not beyond:
        message = f"DATA ({said}) reaches past the {size} bytes the file holds of this data set"
        problems.violation("FCS_TRUNCATED", message)


def _note(chosen: _Reading, header: Header, written: Segment | None, problems: Problems) -> None:
    """Record what was repaired, and what is merely unusual."""
    used = chosen.segment
    if chosen.shift:
        message = f"DATA is said to be {chosen.declared} in {chosen.source}; $TOT and the widths leave only {used}"
        problems.finding("FCS_DATA_OFF_BY_ONE", message)
    if chosen.repair == "FCS_WIDTH_FLOAT":
        problems.finding("FCS_WIDTH_FLOAT", "$PnB is not the width of the floating-point type; DATA fits the type")
    elif chosen.repair:
        message = "$PnB is not a whole number of bytes; only words of whole bytes fit DATA"
        problems.finding(chosen.repair, message, "review")
    if header.data is not None and written is not None and header.data != written:
        message = f"DATA is {header.data} in HEADER and {written} in TEXT; only {used} fits $TOT and the file's size"
        problems.finding("FCS_HEADER_TEXT_DIFFER", message, "review")
    if header.data is None and written is not None and written.end <= _HEADER_LIMIT:
        message = f"HEADER leaves DATA blank although TEXT has it at {written}, within HEADER's reach"
        problems.finding("FCS_HEADER_BLANK", message)
    if header.data is not None and written is None and header.version != "FCS2.0":
        problems.finding("FCS_TEXT_OFFSETS_MISSING", f"$BEGINDATA and $ENDDATA are absent; HEADER has {header.data}")
