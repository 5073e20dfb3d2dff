"""Read FCS files: HEADER and TEXT alone, or with the events behind them."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from tregflow.errors import FcsError
from tregflow.fcs.events import FcsFile, map_data, read_free, timestep
from tregflow.fcs.header import CRC_LENGTH, Header, Segment, is_header, parse_offset, read_header, read_others
from tregflow.fcs.keywords import Keywords, ParsedText, parse_pairs
from tregflow.fcs.layout import read_layouts, read_parameters, whole
from tregflow.fcs.model import FcsText, Problems
from tregflow.fcs.segments import Data, locate, text_segment

# Keywords on which the events and their scale depend: two values of one of them are two readings of the file.
_DECISIVE = re.compile(r"\$(BYTEORD|DATATYPE|MODE|PAR|TOT|TIMESTEP|BEGINDATA|ENDDATA|P\d+([BEGNR]|DATATYPE))")
_SAMPLE = 4096  # bytes of DATA looked at for the marks of a text editor


def read_text(path: str | os.PathLike[str], *, dataset: int = 0) -> FcsText:
    """Read HEADER and TEXT of one data set; events are not converted, and DATA need not even be there.

    What is wrong with the place of DATA is a finding of severity `fail` here, with the code and text of the error that
    `read_fcs` raises, so that a broken file can be looked at. (`FCS_ASCII` shows only when all numbers are read.)

    Parameters
    ----------
    path
        The file.
    dataset
        0-based number of the data set, for files with several (`$NEXTDATA`).

    Raises
    ------
    FcsError
        With all violations at once: `FCS_OPEN`, `FCS_NOT_FCS`, `FCS_VERSION`, `FCS_HEADER`, `FCS_DATASET`,
        `FCS_TEXT_MISSING`, `FCS_TEXT_DELIMITER`, `FCS_TEXT_PAIRS`, `FCS_KEYWORD_MISSING`, `FCS_KEYWORD_VALUE`,
        `FCS_KEYWORD_CONFLICT`, `FCS_MODE`, `FCS_DATATYPE`, `FCS_BYTEORD`, `FCS_WIDTH`, `FCS_RANGE`.
    """
    return _open(Path(path), dataset, events=False)[0]


def read_fcs(path: str | os.PathLike[str], *, dataset: int = 0) -> FcsFile:
    """Read one data set; its events are mapped, not loaded, and converted when they are asked for.

    The place of DATA is checked against `$TOT`, the widths and the file's size before anything is mapped. The mapping
    is released with the returned object.

    Parameters
    ----------
    path
        The file.
    dataset
        0-based number of the data set, for files with several (`$NEXTDATA`).

    Raises
    ------
    FcsError
        As `read_text`, and `FCS_DATA_MISSING`, `FCS_DATA_LENGTH`, `FCS_DATA_OVERLAPS`, `FCS_OFFSETS_CONFLICT`,
        `FCS_TRUNCATED`, `FCS_REENCODED`, `FCS_ASCII`.
    """
    text, data, base = _open(Path(path), dataset, events=True)
    if data is None:
        raise FcsError("FCS_DATA_MISSING", f"{text.path.name}: DATA was not found.", file=text.path.name)
    stored = map_data(text, data, base)
    if data.layout.kind == "free":
        stored = read_free(stored.tobytes(), len(text.parameters), data.n_events, text.path.name)
        text = replace(text, n_events=len(stored))
    return FcsFile(text, data.layout, stored)


@dataclass(frozen=True, slots=True)
class _Set:
    base: int
    size: int  # bytes up to the next data set or the end of the file
    header: Header | None
    text: ParsedText | None
    problems: Problems


def _open(path: Path, dataset: int, *, events: bool) -> tuple[FcsText, Data | None, int]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            sets = _chain(file, size, path.name)
            if not 0 <= dataset < len(sets):
                message = f"{path.name}: data set {dataset + 1} asked for; the file has {len(sets)}."
                raise FcsError("FCS_DATASET", message, file=path.name)
            text, data = _read_set(file, path, sets[dataset], events=events)
            return replace(text, size=size, n_datasets=len(sets), dataset=dataset), data, sets[dataset].base
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FcsError("FCS_OPEN", f"{path.name} cannot be read: {reason}.", file=path.name) from error


def _chain(file: BinaryIO, size: int, name: str) -> list[_Set]:
    """Follow `$NEXTDATA`; each data set ends where the next begins. A broken one ends the chain, not the others."""
    sets: list[_Set] = []
    base: int | None = 0
    while base is not None:
        problems = Problems(name)
        header = read_header(file, base, problems)
        parsed = None if header is None else _primary_text(file, base, size - base, header, problems)
        following = None if parsed is None else _next(file, base, size, Keywords(parsed.pairs), problems)
        end = size if following is None else following
        sets.append(_Set(base, end - base, header, parsed, problems))
        base = following
    return sets


def _next(file: BinaryIO, base: int, size: int, keywords: Keywords, problems: Problems) -> int | None:
    """Return where the next data set begins.

    FCS 3.x counts `$NEXTDATA` from the beginning of this data set; some writers count from the beginning of the file.
    """
    offset = parse_offset(keywords.get("$NEXTDATA", ""))
    if not offset:
        return None
    for candidate in (base + offset, offset):
        if base < candidate <= size - 58 and is_header(file, candidate):
            return candidate
    message = f"$NEXTDATA {offset} of the data set at byte {base} leads to no further HEADER; it is read as the last"
    problems.finding("FCS_NEXTDATA", message, "review")
    return None


def _primary_text(file: BinaryIO, base: int, size: int, header: Header, problems: Problems) -> ParsedText | None:
    segment = header.text
    if segment is None or segment.begin < 58 or segment.end < segment.begin or segment.begin >= size:
        found = "none" if segment is None else str(segment)
        if not any(code == "FCS_HEADER" for code, _ in problems.violations):
            message = f"TEXT must lie behind HEADER and inside the {size} bytes of the data set, found {found}"
            problems.violation("FCS_TEXT_MISSING", message)
        return None
    if segment.end >= size:
        problems.violation("FCS_TRUNCATED", f"TEXT is {segment}, but the file holds {size} bytes of this data set")
        return None
    parsed = parse_pairs(_bytes(file, base, segment))
    if parsed.problem is not None:
        problems.violation(*parsed.problem)
        return None
    return parsed


def _bytes(file: BinaryIO, base: int, segment: Segment) -> bytes:
    file.seek(base + segment.begin)
    return file.read(segment.length)


def _read_set(file: BinaryIO, path: Path, chosen: _Set, *, events: bool) -> tuple[FcsText, Data | None]:
    """Read what TEXT says and find DATA; the caller fills in what concerns the whole file.

    Without `events` it is no reason to refuse the file if DATA is not where it should be.
    """
    problems = chosen.problems
    header, parsed = chosen.header, chosen.text
    if header is None or parsed is None:
        raise problems.error()
    _note_text(file, chosen.base, header, parsed, problems)
    keywords = Keywords([*parsed.pairs, *_supplement(file, chosen, header, parsed, problems)])
    _check_repeated(keywords, problems)
    analysis = _analysis(file, chosen, header, keywords, problems)
    mode = keywords.text("$MODE").upper()
    if not mode and header.version != "FCS3.2":
        problems.finding("FCS_MODE_MISSING", "$MODE is missing; DATA is read as a list of events")
    elif mode not in {"L", ""}:
        problems.violation("FCS_MODE", f"$MODE must be L (list of events), found {mode!r}; histograms hold no events")
    parameters = read_parameters(keywords, header.version, problems)
    layouts = read_layouts(keywords, parameters, problems) if parameters else ()
    if any(parameter.is_time for parameter in parameters):
        _note_timestep(keywords, header.version, problems)
    total = _total(keywords, header.version, problems)
    data = None
    if layouts and not problems.violations:
        data = locate(header, keywords, layouts, problems, n_events=total, size=chosen.size)
        if data is not None:
            _check_encoding(file, chosen, data, problems)
            _note_tail(file, chosen, keywords, data, problems)
        if not events:
            problems.violations_as_findings()
    problems.raise_if_any()
    derived = data.n_events if data is not None and total is None else total
    version, findings = header.version, problems.findings
    text = FcsText(path, 0, version, keywords, analysis, parameters, derived or 0, findings, n_datasets=1, dataset=0)
    return text, data


def _total(keywords: Keywords, version: str, problems: Problems) -> int | None:
    if keywords.text("$TOT"):
        return whole(keywords, "$TOT", problems)
    if version != "FCS2.0":
        problems.finding("FCS_TOT_DERIVED", "$TOT is missing; the number of events follows from DATA", "review")
    return None


def _note_text(file: BinaryIO, base: int, header: Header, parsed: ParsedText, problems: Problems) -> None:
    segment = header.text
    if parsed.latin1:
        problems.finding("FCS_TEXT_LATIN1", "TEXT is not UTF-8 and is read as latin-1")
    if parsed.empty:
        shown = ", ".join(parsed.empty[:5])
        problems.finding("FCS_TEXT_EMPTY_VALUE", f"{len(parsed.empty)} keywords have an empty value ({shown})")
    if parsed.stray:
        problems.finding("FCS_TEXT_END", f"the stated end of TEXT is one byte too high: {parsed.stray!r} follows")
    if parsed.unterminated and segment is not None:
        file.seek(base + segment.begin)
        delimiter = file.read(1)
        file.seek(base + segment.end + 1)
        if file.read(1) == delimiter:
            problems.finding("FCS_TEXT_END", "the stated end of TEXT is one byte too low: its last delimiter follows")
        else:
            last = parsed.pairs[-1][0]
            problems.finding("FCS_TEXT_UNTERMINATED", f"TEXT has no final delimiter; {last} may be cut", "review")


def _supplement(
    file: BinaryIO, chosen: _Set, header: Header, parsed: ParsedText, problems: Problems
) -> list[tuple[str, str]]:
    """Read supplemental TEXT (FCS 3.0 and later)."""
    segment = text_segment(Keywords(parsed.pairs), "STEXT", problems)
    primary = header.text
    if segment is None or primary is None:
        return []
    if segment.begin <= primary.end and primary.begin <= segment.end:
        message = f"supplemental TEXT ({segment}) overlaps TEXT ({primary}) and is not read again"
        problems.finding("FCS_STEXT_IGNORED", message)
        return []
    if segment.end >= chosen.size or segment.length < 2:
        problems.finding("FCS_STEXT_IGNORED", f"supplemental TEXT ({segment}) lies outside the data set", "review")
        return []
    more = parse_pairs(_bytes(file, chosen.base, segment))
    if more.problem is not None:
        message = f"supplemental TEXT ({segment}) cannot be read: {more.problem[1]}"
        problems.finding("FCS_STEXT_IGNORED", message, "review")
    return more.pairs


def _analysis(file: BinaryIO, chosen: _Set, header: Header, keywords: Keywords, problems: Problems) -> Keywords:
    """Read ANALYSIS. No number of ours depends on it, so what cannot be read is a finding."""
    segment = header.analysis or text_segment(keywords, "ANALYSIS", problems)
    if segment is None:
        return Keywords([])
    if segment.end >= chosen.size or segment.length < 2:
        problems.finding("FCS_ANALYSIS_IGNORED", f"ANALYSIS ({segment}) lies outside the data set")
        return Keywords([])
    parsed = parse_pairs(_bytes(file, chosen.base, segment))
    if parsed.problem is not None:
        problems.finding("FCS_ANALYSIS_IGNORED", f"ANALYSIS ({segment}) cannot be read: {parsed.problem[1]}")
    return Keywords(parsed.pairs)


def _check_repeated(keywords: Keywords, problems: Problems) -> None:
    for key in dict.fromkeys(keywords.repeated):
        if _DECISIVE.fullmatch(key.strip().upper()):
            message = f"{key} is written more than once with different values, and the events depend on it"
            problems.violation("FCS_KEYWORD_CONFLICT", message)
        else:
            problems.finding("FCS_KEYWORD_REPEATED", f"{key} is written more than once; the first value stands")


def _note_timestep(keywords: Keywords, version: str, problems: Problems) -> None:
    text = keywords.get("$TIMESTEP")
    if timestep(keywords) is not None or (text is None and version == "FCS2.0"):
        return  # FCS 2.0 has no $TIMESTEP
    found = "is missing" if text is None else f"is {text!r}"
    problems.finding("FCS_TIMESTEP", f"there is a Time channel but $TIMESTEP {found}; Time stays in its own ticks")


def _note_tail(file: BinaryIO, chosen: _Set, keywords: Keywords, data: Data, problems: Problems) -> None:
    """Note what lies behind the last segment: FCS 3.x puts 8 bytes of checksum (CRC) there, many writers none."""
    header = chosen.header
    if header is None or header.text is None:
        return
    named = [text_segment(keywords, name, Problems(problems.file)) for name in ("STEXT", "ANALYSIS")]
    segments = [segment for segment in (header.analysis, *named) if segment is not None]
    ends = [header.text.end, data.begin + data.length - 1, *(segment.end for segment in segments)]
    ends += read_others(file, chosen.base, header)
    extra = chosen.size - 1 - max(ends)
    if 0 < extra < CRC_LENGTH and header.version != "FCS2.0":
        message = f"the file ends after {extra} of the {CRC_LENGTH} bytes of its checksum; all events are there"
        problems.finding("FCS_CRC_CUT", message)
    elif extra > 0 and extra != CRC_LENGTH:
        message = f"{extra} bytes follow the last segment, where {CRC_LENGTH} of checksum are usual; they are not read"
        problems.finding("FCS_EXTRA_BYTES", message)


def _check_encoding(file: BinaryIO, chosen: _Set, data: Data, problems: Problems) -> None:
    """Refuse DATA that went through a text editor.

    An editor replaces every byte that is not UTF-8 by U+FFFD, three bytes EF BF BD. Binary values that happen to be
    valid UTF-8 throughout and hold that character do not occur.
    """
    file.seek(chosen.base + data.begin)
    sample = file.read(min(data.length, _SAMPLE))
    count = sample.count("\ufffd".encode())
    if count and data.layout.kind in {"bytes", "bits"}:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(sample)
        except UnicodeDecodeError:
            return
        message = f"DATA is UTF-8 text in which {count} of the first {len(sample)} bytes are U+FFFD"
        problems.violation("FCS_REENCODED", f"{message}: the file was opened and saved as text, its values are lost")
