"""How an event lies in the file: parameters, widths, byte order, masks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tregflow.fcs.model import Parameter, Problems

if TYPE_CHECKING:
    from tregflow.fcs.keywords import Keywords

_MOST_DECADES = 100  # far above any amplifier, far below where 10 to this power overflows
_FLOAT_BITS = {"F": 32, "D": 64}


@dataclass(frozen=True, slots=True)
class Column:
    """One parameter's place in an event: `offset` and `bits` in bits, and the mask `$PnR` sets for integers."""

    offset: int
    bits: int
    letter: str
    mask: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How one event is stored.

    `kind` is `bytes` (every width a whole number of bytes), `bits` (packed without gaps), `ascii` (characters of a
    fixed number) or `free` (ASCII numbers between delimiters). `order` gives, for a word, which byte (0 = least
    significant) comes first, second, ...: (0, 1, 2, 3) for `$BYTEORD` 1,2,3,4.
    """

    kind: Literal["bytes", "bits", "ascii", "free"]
    columns: tuple[Column, ...]
    order: tuple[int, ...]
    event_bits: int

    def n_bytes(self, n_events: int) -> int:
        """Bytes of `n_events` events; the last byte of packed bits is filled up."""
        return (n_events * self.event_bits + 7) // 8

    def n_events(self, n_bytes: int) -> int | None:
        """Events in a segment of `n_bytes`; None where they do not fill it, or where more than one number does."""
        if not self.event_bits:
            return None
        count = n_bytes * 8 // self.event_bits
        return count if self.n_bytes(count - 1) < self.n_bytes(count) == n_bytes else None

    @property
    def little(self) -> bool:
        """Least significant byte first."""
        return self.order == tuple(range(len(self.order)))

    @property
    def big(self) -> bool:
        """Most significant byte first."""
        return self.order == tuple(reversed(range(len(self.order))))


def read_parameters(keywords: Keywords, version: str, problems: Problems) -> tuple[Parameter, ...]:
    """Read every `$Pn` keyword; violations and findings go to `problems`."""
    n_parameters = whole(keywords, "$PAR", problems)
    if n_parameters is None:
        return ()
    described = sum(f"$P{n}B" in keywords for n in range(1, min(n_parameters, len(keywords)) + 1))
    if n_parameters < 1 or described < n_parameters:
        message = f"$PAR is {n_parameters}, but $PnB is given for {described} parameters"
        problems.violation("FCS_KEYWORD_MISSING", message)
        return ()
    default = keywords.text("$DATATYPE").upper()
    if default not in {"I", "F", "D", "A"}:
        problems.violation("FCS_DATATYPE", f"$DATATYPE must be I, F, D or A, found {default!r}")
        return ()
    parameters = tuple(_parameter(keywords, n, default, version, problems) for n in range(1, n_parameters + 1))
    _note_names(parameters, problems)
    return parameters


def whole(keywords: Keywords, key: str, problems: Problems) -> int | None:
    """Return a required keyword that must be a whole number, or None with a violation."""
    text = keywords.text(key)
    if not text:
        problems.violation("FCS_KEYWORD_MISSING", f"the required keyword {key} is missing or empty")
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        problems.violation("FCS_KEYWORD_VALUE", f"{key} must be a whole number, found {text!r}")
        return None
    return int(text)


def _parameter(keywords: Keywords, n: int, default: str, version: str, problems: Problems) -> Parameter:
    name = f"$P{n}"
    pnn = keywords.text(f"{name}N")
    kind = keywords.text(f"{name}TYPE")
    is_time = pnn.upper() == "TIME" or kind.upper() == "TIME"
    datatype = default
    if version == "FCS3.2" and f"{name}DATATYPE" in keywords:
        datatype = keywords.text(f"{name}DATATYPE").upper()
        if datatype not in {"I", "F", "D"} or default == "A":
            message = f"{name}DATATYPE must be I, F or D beside a $DATATYPE of I, F or D; found {datatype!r}"
            problems.violation("FCS_DATATYPE", f"{message} beside {default!r}")
            datatype = default
    log_amp = _log_amp(keywords, name, datatype, problems, version=version, is_time=is_time)
    return Parameter(
        index=n - 1,
        pnn=pnn,
        pns=keywords.text(f"{name}S"),
        bits=_bits(keywords, name, datatype, problems),
        range=_range(keywords, name, datatype, problems),
        datatype=datatype,
        log_amp=log_amp,
        gain=_gain(keywords, name, problems, is_time=is_time, is_log=log_amp is not None),
        is_time=is_time,
        analyte=keywords.text(f"{name}ANALYTE"),
        detector=keywords.text(f"{name}DET"),
        tag=keywords.text(f"{name}TAG"),
        feature=keywords.text(f"{name}FEATURE"),
        type=kind,
    )


def _bits(keywords: Keywords, name: str, datatype: str, problems: Problems) -> int:
    text = keywords.text(f"{name}B")
    if datatype == "A" and text == "*":
        return 0
    bits = whole(keywords, f"{name}B", problems)
    if bits is None:
        return 0
    if bits < 1 or (datatype == "I" and bits > 64):
        problems.violation("FCS_WIDTH", f"{name}B of an integer must be 1 to 64 bits, found {text}")
        return 0
    return bits


def _range(keywords: Keywords, name: str, datatype: str, problems: Problems) -> float:
    text = keywords.text(f"{name}R")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value > 0:
        return value
    if datatype == "I":  # without it the mask is unknown, and with the mask the values
        problems.violation("FCS_RANGE", f"{name}R of an integer must be a positive number, found {text!r}")
    else:
        problems.finding("FCS_RANGE_UNKNOWN", f"{name}R must be a positive number, found {text!r}")
    return math.nan


def _log_amp(
    keywords: Keywords, name: str, datatype: str, problems: Problems, *, version: str, is_time: bool
) -> tuple[float, float] | None:
    """Read `$PnE`. FCS 3.1: decades above 0 with an offset of 0 shall be read as an offset of 1."""
    text = keywords.text(f"{name}E")
    if not text and datatype == "I" and version != "FCS2.0":
        problems.finding("FCS_PNE_MISSING", f"{name}E is missing; the values are read as linear", "review")
    decades, offset = _amplification(text, name, problems)
    if decades == 0:
        return None
    if is_time:
        problems.finding("FCS_TIME_NOT_LINEAR", f"{name}E is {text}, but Time must be linear and is read so", "review")
        return None
    if datatype in {"F", "D"}:
        if keywords.text("transformation").lower() in {"applied", "custom"}:
            message = f"{name}E is {text}, but its keyword 'transformation' says flowCore made the values linear"
            problems.finding("FCS_LOG_APPLIED", message)
            return None
        message = f"{name}E is {text}, but floating-point values must be linear (0,0)"
        problems.finding("FCS_LOG_ON_FLOAT", message, "review")
    if offset == 0:
        problems.finding("FCS_LOG_OFFSET_ZERO", f"{name}E is {text}; the offset 0 is read as 1, as the standard says")
        offset = 1.0
    return decades, offset


def _amplification(text: str, name: str, problems: Problems) -> tuple[float, float]:
    """Return decades and offset as written; (0, 0), linear, where `$PnE` is absent."""
    try:
        decades, offset = (float(part) for part in text.split(",")) if text else (0.0, 0.0)
    except ValueError:
        decades = offset = math.nan
    if 0 <= decades <= _MOST_DECADES and 0 <= offset < math.inf:
        return decades, offset
    message = f"{name}E must be two numbers with a comma, 0 to {_MOST_DECADES} decades and an offset, found {text!r}"
    problems.violation("FCS_KEYWORD_VALUE", message)
    return 0.0, 0.0


def _gain(keywords: Keywords, name: str, problems: Problems, *, is_time: bool, is_log: bool) -> float:
    text = keywords.text(f"{name}G")
    if not text:
        return 1.0
    try:
        gain = float(text)
    except ValueError:
        gain = math.nan
    if not 0 < gain < math.inf:
        problems.finding("FCS_GAIN_INVALID", f"{name}G must be above 0, found {text!r}; no gain is applied", "review")
        return 1.0
    if gain != 1 and (is_time or is_log):
        where = "Time" if is_time else "a logarithmic parameter"
        problems.finding("FCS_GAIN_IGNORED", f"{name}G is {text} on {where}, where a gain has no meaning")
    return gain


def _note_names(parameters: tuple[Parameter, ...], problems: Problems) -> None:
    names = [parameter.pnn for parameter in parameters]
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        places = [f"$P{parameter.index + 1}N {parameter.pnn}" for parameter in parameters if parameter.pnn in twice]
        message = f"channel names must be unique, but repeated are {', '.join(places)}"
        problems.finding("FCS_DUPLICATE_PNN", message, "review")
    nameless = [f"$P{parameter.index + 1}N" for parameter in parameters if not parameter.pnn]
    if nameless:
        problems.finding("FCS_PNN_MISSING", f"channels without a name: {', '.join(nameless)}", "review")


def read_layouts(
    keywords: Keywords, parameters: tuple[Parameter, ...], problems: Problems
) -> tuple[tuple[str, Layout], ...]:
    """Return the layouts TEXT can mean, the declared one first, each with the name of the repair it needs ('' = none).

    Further ones: floating-point values have the width of their type whatever `$PnB` says; integers of an odd width
    may lie in words of `$BYTEORD`'s length (CXP software writes `$PnB` 10 over 16-bit words).
    """
    order = _byte_order(keywords, problems)
    if order is None or problems.violations:
        return ()
    if parameters[0].datatype == "A":
        if any(parameter.bits == 0 for parameter in parameters):
            if any(parameter.bits for parameter in parameters):
                problems.violation("FCS_WIDTH", "$PnB is * for some ASCII parameters and a width for others")
                return ()
            return (("", Layout("free", _columns(keywords, parameters, [0] * len(parameters)), order, 0)),)
        widths = [8 * parameter.bits for parameter in parameters]  # $PnB counts characters here
        return (("", Layout("ascii", _columns(keywords, parameters, widths), order, sum(widths))),)
    declared = [parameter.bits for parameter in parameters]
    natural = [_FLOAT_BITS.get(parameter.datatype, parameter.bits) for parameter in parameters]
    words = [
        _word(bits, order) if parameter.datatype == "I" else bits
        for bits, parameter in zip(natural, parameters, strict=True)
    ]
    layouts = [("" if natural == declared else "FCS_WIDTH_FLOAT", natural)]
    if words != natural:
        layouts.append(("FCS_WIDTH_WORDS", words))
    return tuple((name, _layout(keywords, parameters, widths, order, problems)) for name, widths in layouts)


def _word(bits: int, order: tuple[int, ...]) -> int:
    return bits if bits % 8 == 0 else max(8 * len(order), (bits + 7) // 8 * 8)


def _layout(
    keywords: Keywords,
    parameters: tuple[Parameter, ...],
    widths: list[int],
    order: tuple[int, ...],
    problems: Problems,
) -> Layout:
    kind: Literal["bytes", "bits"] = "bytes" if all(bits % 8 == 0 for bits in widths) else "bits"
    layout = Layout(kind, _columns(keywords, parameters, widths), order, sum(widths))
    if layout.little == layout.big:  # neither, or a single byte
        bad = sorted({bits for bits in widths if bits not in {8, 8 * len(order)}})
        if bad:
            message = f"$BYTEORD {keywords.text('$BYTEORD')} orders words of {len(order)} bytes, but $PnB holds {bad}"
            problems.violation("FCS_BYTEORD", message)
    return layout


def _columns(keywords: Keywords, parameters: tuple[Parameter, ...], widths: list[int]) -> tuple[Column, ...]:
    columns = []
    offset = 0
    for parameter, bits in zip(parameters, widths, strict=True):
        mask = _mask(keywords.text(f"$P{parameter.index + 1}R"), bits) if parameter.datatype == "I" else 0
        columns.append(Column(offset, bits, parameter.datatype, mask))
        offset += bits
    return tuple(columns)


def _mask(text: str, bits: int) -> int:
    """Return the bits that count: those below the next power of two of `$PnR` (FCS 3.1, `$PnR`)."""
    limit = int(text) if text.isdigit() else math.ceil(float(text))
    return (1 << min(bits, (limit - 1).bit_length())) - 1


def _byte_order(keywords: Keywords, problems: Problems) -> tuple[int, ...] | None:
    text = keywords.text("$BYTEORD")
    if not text:
        problems.violation("FCS_KEYWORD_MISSING", "the required keyword $BYTEORD is missing or empty")
        return None
    parts = [part.strip() for part in text.split(",")]
    if sorted(parts) != [str(number) for number in range(1, len(parts) + 1)] or len(parts) > 8:
        problems.violation("FCS_BYTEORD", f"$BYTEORD must hold 1 to n, each once, found {text!r}")
        return None
    # $BYTEORD 1,2,3,4: the first byte written is number 1, the least significant.
    return tuple(int(part) - 1 for part in parts)
