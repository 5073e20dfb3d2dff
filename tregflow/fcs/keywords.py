"""TEXT, supplemental TEXT and ANALYSIS: from bytes to keywords.

Two ways of reading a doubled delimiter are in use. The standard's (FCS 3.1, TEXT): a doubled delimiter stands
for the character itself. That of writers who leave a value empty, which the standard forbids: the delimiters around
nothing. A keyword never holds the delimiter and is never empty, and that decides which of the two was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_BLANK = " \t\r\n\x00"  # NUL: segments are sometimes filled up with it


class Keywords(Mapping[str, str]):
    """Keywords in file order, as written; looked up without regard to case or surrounding blanks.

    Of a keyword that is written twice the first value counts; `repeated` lists those whose values differ.
    """

    __slots__ = ("_index", "_pairs", "repeated")

    def __init__(self, pairs: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        self._pairs: list[tuple[str, str]] = []
        self._index: dict[str, int] = {}
        repeated = []
        for key, value in items:
            folded = self._fold(key)
            if folded in self._index:
                if self._pairs[self._index[folded]][1].strip() != value.strip():
                    repeated.append(key)
                continue
            self._index[folded] = len(self._pairs)
            self._pairs.append((key, value))
        self.repeated: tuple[str, ...] = tuple(repeated)

    @staticmethod
    def _fold(key: str) -> str:
        return key.strip().upper()

    def __getitem__(self, key: str) -> str:
        return self._pairs[self._index[self._fold(key)]][1]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._fold(key) in self._index

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return f"Keywords({dict(self._pairs)!r})"

    def text(self, key: str) -> str:
        """Return the value without surrounding blanks, or an empty text where the keyword is absent."""
        return self.get(key, "").strip(_BLANK)


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A TEXT-like segment: its pairs, and what about its form is worth knowing."""

    pairs: list[tuple[str, str]]
    latin1: bool = False
    empty: tuple[str, ...] = ()  # keywords with an empty value
    unterminated: bool = False  # the last value is not closed by a delimiter
    stray: str = ""  # what follows the last delimiter without being a pair
    problem: tuple[str, str] | None = None  # code and text; there are no pairs then


def parse_pairs(raw: bytes) -> ParsedText:
    """Split a TEXT, supplemental TEXT or ANALYSIS segment into keywords and values.

    Within a value a run of n delimiters stands for n // 2 of them and ends the value if n is odd, which is the
    standard's rule; directly after a keyword one further delimiter is an empty value. UTF-8 is tried first (FCS 3.1
    and later), then latin-1, for the segment as a whole.
    """
    code = raw[0] if raw else 0
    if not 0 < code < 127 or chr(code).isalnum() or code == ord("$"):
        message = f"the segment must begin with its delimiter, an ASCII character; it begins with {raw[:1]!r}"
        return ParsedText([], problem=("FCS_TEXT_DELIMITER", message))
    try:
        text, latin1 = raw[1:].decode("utf-8"), False
    except UnicodeDecodeError:
        text, latin1 = raw[1:].decode("latin-1"), True
    delimiter = chr(code)
    pieces = text.split(delimiter)
    tail = pieces.pop()
    unterminated = bool(tail.strip(_BLANK))
    if unterminated:
        pieces.append(tail)
    return _pair_up(pieces, delimiter, latin1=latin1, unterminated=unterminated)


def _pair_up(pieces: list[str], delimiter: str, *, latin1: bool, unterminated: bool) -> ParsedText:
    pairs: list[tuple[str, str]] = []
    at = 0
    while at + 1 < len(pieces):
        key, value = pieces[at], pieces[at + 1]
        at += 2
        while at + 1 < len(pieces) and not pieces[at]:  # a doubled delimiter
            value += delimiter + pieces[at + 1]
            at += 2
        if not key.strip():
            before = f" after {pairs[-1][0]!r}" if pairs else ""
            return ParsedText([], problem=("FCS_TEXT_PAIRS", f"pair {len(pairs) + 1}{before} has an empty keyword"))
        pairs.append((key, value))
    left = pieces[at] if at < len(pieces) else ""
    if len(left) > 1:
        message = f"keywords and values must alternate; {left[:40]!r} at the end is a keyword without a value"
        return ParsedText([], problem=("FCS_TEXT_PAIRS", message))
    return ParsedText(
        pairs,
        latin1=latin1,
        empty=tuple(key for key, value in pairs if not value),
        unterminated=unterminated and not left,
        stray=left,
    )
