"""What the strict models refuse, in words for the person who writes the file: what is expected, what was found."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_LONGEST = 60  # characters of a value that are shown
_EXPECTED = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table of keys and values",
    "model_type": "a table of keys and values",
    "model_attributes_type": "a table of keys and values",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "{expected}",
    "string_too_short": "a text of at least {min_length} character(s)",
    "string_too_long": "a text of at most {max_length} character(s)",
    "too_short": "at least {min_length} value(s)",
    "too_long": "at most {max_length} value(s)",
}
_VERSION = "three numbers, such as 1.2.0"
PATTERNS = {
    r"^[a-z][a-z0-9_]*$": "a letter, then letters, digits and _, all small, such as cd25_pos",
    r"^[a-z][a-z0-9-]*$": "a letter, then letters, digits and -, all small, such as treg-foxp3-pbmc",
    r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$": _VERSION,
    r"^[0-9a-f]{64}$": "a SHA-256 of 64 hexadecimal digits",
}


def reason(details: ErrorDetails) -> str:
    """Say what one error of pydantic is about, without its place: ``expected a whole number; found 20.0``."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "required, and not there"
    if kind == "value_error":
        return str(context["error"])
    if kind == "union_tag_not_found":
        return f"the key {context['discriminator']}, which says what this is, is not there"
    if kind == "union_tag_invalid":
        return _unknown_tag(context)
    if kind == "string_pattern_mismatch":
        expected = PATTERNS.get(context["pattern"], f"a text that fits {context['pattern']}")
    elif kind in _EXPECTED:
        expected = _EXPECTED[kind].format(**context)
    else:
        return f"{details['msg']}; found {_shown(details['input'])}"
    found = context["actual_length"] if kind in {"too_short", "too_long"} else _shown(details["input"])
    return f"expected {expected}; found {found}"


def _unknown_tag(context: Mapping[str, Any]) -> str:
    key, known = context["discriminator"].strip("'"), context["expected_tags"]
    close = difflib.get_close_matches(context["tag"], [tag.strip(" '") for tag in known.split(",")], n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    return f"unknown {key} '{context['tag']}'{hint}; expected one of {known}"


def _shown(value: object) -> str:
    """A value as it stands in TOML, or what it is where that is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        dates = [texts for name, texts in value.items() if name in {"date", "time", "datetime"} and len(value) == 1]
        return f"the {next(iter(value))} {dates[0][0]}" if dates and isinstance(dates[0], list) else "a table"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    shown = repr(value) if isinstance(value, str | int | float) or value is None else str(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
