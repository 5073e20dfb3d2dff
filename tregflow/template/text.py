"""A template file as text: what cannot be read at all, and where in it a problem is."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any, cast

from tregflow.errors import TemplateError, not_utf8
from tregflow.template.positions import Positions

if TYPE_CHECKING:
    from pathlib import Path

    from tregflow.template.sound import Place


def read_text(path: Path) -> str:
    """The text of a template file; `TEMPLATE_UNREADABLE` if it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows editors put a byte order mark
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise TemplateError("TEMPLATE_UNREADABLE", f"{path.name} cannot be read: {why}.", file=path.name) from None
    except UnicodeDecodeError as error:
        message, remedy = f"{path.name} is {not_utf8(error)}.", "Save it as UTF-8."
        raise TemplateError("TEMPLATE_UNREADABLE", message, remedy=remedy, file=path.name) from None


def read_toml(text: str, name: str) -> dict[str, Any]:
    """The document of a TOML text in JSON's types; `TEMPLATE_SYNTAX` where it is not TOML."""
    try:
        document = tomllib.loads(text)
        return cast("dict[str, Any]", json.loads(json.dumps(document, default=_toml_only)))
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise TemplateError("TEMPLATE_SYNTAX", f"{name} is not valid TOML: {error}.", file=name) from None
    except RecursionError:
        message = f"{name} is not valid TOML: it is nested too deeply to be read."
        raise TemplateError("TEMPLATE_SYNTAX", message, file=name) from None


def _toml_only(value: object) -> dict[str, list[str]]:
    """A date or time, which no key of a template takes, as something that no key takes in JSON either."""
    return {type(value).__name__: [str(value)]}


def invalid(name: str, found: list[tuple[str, Place]], text: str) -> TemplateError:
    """All problems, each with its place in the document, as one error that gives their lines."""
    positions = Positions(text)
    problems, lines = tuple(problem for problem, _ in found), tuple(positions.line(place) for _, place in found)
    listing = "\n".join(
        f"  - line {line}: {problem}" if line else f"  - {problem}"
        for problem, line in zip(problems, lines, strict=True)
    )
    message = f"{name} has {len(problems)} problem(s):\n{listing}\n"
    return TemplateError("TEMPLATE_INVALID", message, file=name, problems=problems, lines=lines)


def place_words(document: dict[str, Any], location: Place) -> str:
    """A place as a person reads it, `gates, 3 (cd4), range, min` instead of bare indices."""
    words: list[str] = []
    for depth, part in enumerate(location):
        words.append(str(part))
        if depth == 1 and location[0] == "gates" and isinstance(part, int):
            gates = document.get("gates")
            gate = gates[part] if isinstance(gates, list) and part < len(gates) else {}
            if isinstance(gate, dict) and "id" in gate:
                words[-1] += f" ({gate['id']})"
    return ", ".join(words) or "template"
