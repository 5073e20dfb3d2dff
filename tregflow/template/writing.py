"""Writing a template as TOML: the counterpart of `loading`, so that what is written reads back as the same template.

Keys at their default are left out, as in the canonical content. The layout is that of the shipped templates: a line
for each marker and transform, a table for each gate.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tregflow.template.model import Template

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")  # what TOML wants escaped in a text, but tab and newline
_TABLES = ("endpoint", "panel", "compensation", "transforms", "tubes", "qc")
_WIDTH = 120
_ONE_LINE = 100  # characters of a rule that is still written beside its gate's other keys


def save_template(template: Template, comments: Mapping[tuple[str, ...], str] | None = None) -> str:
    """Write a template as TOML text; loading the text gives an equal template with the same content hash.

    Parameters
    ----------
    comments
        What is written above the line of a place: `()` the head of the file, `("endpoint",)` a table,
        `("panel", "CD3")` a marker, `("transforms", "default")` a transform, `("gates", "cd4")` a gate by its id,
        `("gates", "cd4", "min")` a key of it. A place that has no line of its own comes above the line that holds it.

    Raises
    ------
    KeyError
        A comment is for a place that the template does not write.
    """
    writer = _Writer(template.model_dump(mode="json", exclude_defaults=True), dict(comments or {}))
    text = "\n".join(writer.document()) + "\n"
    if writer.comments:
        raise KeyError(f"no line for a comment on {', '.join(map(str, writer.comments))}")
    return text


class _Writer:
    """One document, and the comments that have not found their line yet."""

    def __init__(self, document: dict[str, Any], comments: dict[tuple[str, ...], str]) -> None:
        self.values = document
        self.comments = comments

    def document(self) -> Iterator[str]:
        head = self.comments.pop((), None)
        if head is not None:
            yield from _comment(head)
            yield ""
        single = [key for key in self.values if key not in {*_TABLES, "gates", "changelog"}]
        for key in single:
            yield from self.entry(key, self.values[key], (key,))
        for name in _TABLES[:-1]:
            yield from self.table(name, self.values.get(name, {}), (name,))
        for gate in self.values["gates"]:
            yield from self.gate(gate)
        yield from self.table("qc", self.values.get("qc", {}), ("qc",))
        for entry in self.values.get("changelog", ()):
            yield from self.table("changelog", entry, ("changelog", entry["version"]), brackets=2)

    def table(self, name: str, values: Mapping[str, Any], place: tuple[str, ...], brackets: int = 1) -> Iterator[str]:
        """A table with a header, and below it the tables of `qc` that hold tables themselves."""
        if not values:
            return
        nested = {key: value for key, value in values.items() if place == ("qc",) and isinstance(value, dict)}
        yield ""
        if len(nested) < len(values):
            yield from self.said(place)
            yield f"{'[' * brackets}{name}{']' * brackets}"
            for key, value in values.items():
                if key not in nested:
                    yield from self.entry(key, value, (*place, key))
            yield from ([""] if nested else [])
        for number, (key, value) in enumerate(nested.items()):
            yield from [""] if number else []
            yield from self.said(place)
            yield from self.said((*place, key))
            yield f"[{name}.{_key(key)}]"
            for inner, content in value.items():
                yield from self.entry(inner, content, (*place, key, inner))

    def gate(self, gate: Mapping[str, Any]) -> Iterator[str]:
        place = ("gates", gate["id"])
        yield ""
        yield from self.said(place)
        yield "[[gates]]"
        order = [key for key in ("id", "title", "parent", "kind") if key in gate]
        rule = gate.get("place")
        for key in (*order, *(key for key in gate if key not in {*order, "place"})):
            yield from self.entry(key, gate[key], (*place, key))
        if rule is None:
            return
        inner = [(*place, "place", key) for key in rule]
        if len(_value(rule)) <= _ONE_LINE and not any(said[: len(i)] == i for said in self.comments for i in inner):
            yield from self.entry("place", _rule_first(rule), (*place, "place"))
            return
        yield from self.said((*place, "place"))
        yield "[gates.place]"
        for key, value in _rule_first(rule).items():
            yield from self.entry(key, value, (*place, "place", key))

    def entry(self, key: str, value: Any, place: tuple[str, ...]) -> Iterator[str]:
        """`key = value` with the comments on it, and on what it holds, above."""
        for other in [other for other in self.comments if other[: len(place)] == place]:
            yield from self.said(other)
        text = f"{_key(key)} = {_value(value)}"
        if isinstance(value, list) and len(text) > _WIDTH:
            yield f"{_key(key)} = ["
            yield from (f"  {_value(item)}," for item in value)
            yield "]"
        else:
            yield text

    def said(self, place: tuple[str, ...]) -> Iterator[str]:
        if place in self.comments:
            yield from _comment(self.comments.pop(place))


def _comment(text: str) -> list[str]:
    return [f"# {_CONTROL.sub(' ', line)}".rstrip() for line in text.splitlines()] or ["#"]


def _rule_first(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {"rule": rule["rule"], **{key: value for key, value in rule.items() if key != "rule"}}


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    """A value of JSON in TOML. A float that is a whole number is written as one: the model reads it as the same."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _lines(value) if "\n" in value else _text(value)
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e15 and repr(value) != "-0.0"
        return str(int(value)) if whole else repr(value)
    if isinstance(value, list):
        return _list(value)
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return str(value)


def _list(values: Sequence[Any]) -> str:
    # a text with line breaks may stand in a list, but not over several lines of an inline table
    return "[" + ", ".join(_text(v) if isinstance(v, str) else _value(v) for v in values) + "]"


def _text(value: str) -> str:
    """A basic string on one line; JSON's escapes are TOML's, and TOML wants DEL escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines(value: str) -> str:
    """A basic string over several lines."""
    inside = value.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    inside = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", inside)
    if inside.endswith('"'):
        inside = inside[:-1] + '\\"'
    return f'"""\n{inside}"""'
