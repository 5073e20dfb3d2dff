"""The canonical content of a template and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tregflow.template.model import Strict


def canonical_json(value: object) -> bytes:
    """The one spelling of a value: sorted keys, no spaces, UTF-8; non-finite numbers are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def template_sha256(template: Strict) -> str:
    """SHA-256 of the canonical content: independent of comments, key order and the spelling of numbers.

    Keys at their default are left out, so that a key that a later tregflow adds does not change the hash of what was
    released before. The defaults of a schema therefore never change (a test pins them).
    """
    return hashlib.sha256(
        canonical_json(_one_zero(template.model_dump(mode="json", exclude_defaults=True)))
    ).hexdigest()


def _one_zero(value: Any) -> Any:
    """-0.0 is 0.0 to every gate and to every comparison, so it is the same content."""
    if isinstance(value, dict):
        return {key: _one_zero(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_one_zero(inner) for inner in value]
    return 0.0 if isinstance(value, float) and value == 0 else value
