"""Where each key of a TOML text stands, so that a problem can be shown by its line.

The text has been read by `tomllib` before, so that nothing here has to judge it.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tregflow.template.sound import Place

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}\n#]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'", re.DOTALL
)
_WORDS = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*")
_QUOTED = re.compile(r"'([^']+)'")


class Positions:
    """Line (from 1) of every table, key and list item of a TOML text, by its place in the document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._at: dict[Place, int] = {}
        self._items: dict[Place, int] = {}
        self._scan()

    def line(self, place: Iterable[int | str]) -> int | None:
        """The line of a place, or of what holds it; parts that the document does not have are passed over."""
        known = self.known(place)
        return bisect.bisect_right(self._starts, self._at[known]) if known in self._at else None

    def known(self, place: Iterable[int | str]) -> Place:
        """A place without the parts that the document does not have (the tags of a model's unions)."""
        found: Place = ()
        for part in place:
            if (*found, part) in self._at:
                found = (*found, part)
        return found

    def _scan(self) -> None:
        table: Place = ()
        end = self._skip(0)
        while end < len(self._text):
            if self._text[end] == "[":
                table, end = self._header(end)
            else:
                end = self._entry(end, table)
            end = self._skip(end)

    def _skip(self, start: int) -> int:
        found = _BLANK.match(self._text, start)
        return found.end() if found else start

    def _header(self, start: int) -> tuple[Place, int]:
        """`[a.b]` or `[[a.b]]`; of an array of tables the last one is meant."""
        brackets = 2 if self._text.startswith("[[", start) else 1
        parts, end = self._key(start + brackets)
        place: Place = ()
        for number, part in enumerate(parts, 1):
            place = (*place, part)
            self._at.setdefault(place, start)
            last = number == len(parts)
            if last and brackets == 2:
                self._items[place] = self._items.get(place, -1) + 1
            if place in self._items and (not last or brackets == 2):
                place = (*place, self._items[place])
        self._at[place] = start
        return place, end + brackets

    def _key(self, start: int) -> tuple[list[str], int]:
        """The parts of a key, `a.b`, and where it ends, blanks behind it included."""
        parts: list[str] = []
        end = self._spaces(start)
        while True:
            found = _STRING.match(self._text, end) or _BARE_KEY.match(self._text, end)
            if found is None:
                return parts, end
            parts.append(_plain(found[0]))
            end = self._spaces(found.end())
            if self._text[end : end + 1] != ".":
                return parts, end
            end = self._spaces(end + 1)

    def _spaces(self, start: int) -> int:
        found = _SPACE.match(self._text, start)
        return found.end() if found else start

    def _entry(self, start: int, table: Place) -> int:
        """`key = value`; gives where it ends."""
        parts, end = self._key(start)
        for number in range(1, len(parts) + 1):
            self._at.setdefault((*table, *parts[:number]), start)
        return self._value(self._skip(end + 1), (*table, *parts))

    def _value(self, start: int, place: Place) -> int:
        first = self._text[start : start + 1]
        if first in {'"', "'"}:
            found = _STRING.match(self._text, start)
        elif first in {"[", "{"}:
            return self._inside(start, place, "]" if first == "[" else "}")
        else:
            found = _BARE_VALUE.match(self._text, start)
        return found.end() if found else start + 1

    def _inside(self, start: int, place: Place, closing: str) -> int:
        """A list or an inline table."""
        end, item = self._skip(start + 1), 0
        while end < len(self._text) and self._text[end] != closing:
            if self._text[end] == ",":
                end = self._skip(end + 1)
                continue
            if closing == "]":
                self._at[(*place, item)] = end
                end, item = self._value(end, (*place, item)), item + 1
            else:
                end = self._entry(end, place)
            end = self._skip(end)
        return end + 1


def _plain(key: str) -> str:
    """A key as it is meant; a quoted one without its quotes and escapes."""
    if key[:1] == "'":
        return key[1:-1]
    if key[:1] != '"':
        return key

    def meant(found: re.Match[str]) -> str:
        code = found[1]
        letters = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}
        return chr(int(code[1:], 16)) if code[0] in "uU" else letters.get(code, code)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", meant, key[1:-1])


def problem_place(document: Mapping[str, Any], problem: str) -> Place:
    """Find what a problem of the whole template is about.

    Such a problem begins with its table and, of a gate, its id (`gates, cd4: ...`). Then the key that it names decides,
    else the place of a value that it quotes, else the table.
    """
    named, _, message = problem.partition(": ")
    place = _table(document, [part for words in named.split(", ") for part in words.split(".")])
    inside = dict(_leaves(_at(document, place), place))
    keys = {key[: len(place) + depth] for key in inside for depth in range(1, len(key) - len(place) + 1)}
    for word in _WORDS.findall(message):
        if (found := (*place, *word.split("."))) in keys:
            return found
    wanted = [*_QUOTED.findall(message), *(re.split(r"[ ,]+", message) if place == ("gates",) else ())]
    for text in wanted:
        same = [found for found, value in inside.items() if value in {text, f"!{text}"}]
        if same:
            return max(same) if " times" in message else same[0]
        if (found := (*place, text)) in keys:
            return found
    return place


def _table(document: Mapping[str, Any], words: Iterable[str]) -> Place:
    place: Place = ()
    for word in words:
        value = _at(document, place)
        if isinstance(value, Mapping) and word in value:
            place = (*place, word)
        elif isinstance(value, list):
            ids = [item.get("id") if isinstance(item, Mapping) else None for item in value]
            place = (*place, ids.index(word)) if word in ids else place
    return place


def _at(document: Any, place: Place) -> Any:
    for part in place:
        document = document[part]
    return document


def _leaves(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield place, value
        return
    for part, deeper in inner:
        yield from _leaves(deeper, (*place, part))
