"""Past schemas of template files, and how their documents become the present one, in memory.

A schema that is no longer the present one stays here with a frozen copy of its model: the content hash of a file is
taken under the schema it was written in, so that what was released stays what was released. `PAST` maps its number to
that model and a pure function from its document to the next schema's. Schema 1 is the first, so there is none yet;
`tests/data/templates` keeps a template of every schema with its counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tregflow.template.model import Strict

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PastSchema:
    """The model of a past schema as it was, and the way to the next."""

    model: type[Strict]
    migrate: Callable[[Document], Document]


PAST: Mapping[int, PastSchema] = {}


def migrated(document: Document, past: Mapping[int, PastSchema]) -> Document:
    """The document in the newest schema that the chain leads to; what was given stays as it is."""
    document = copy.deepcopy(document)
    while (step := past.get(document["schema_version"])) is not None:
        number = document["schema_version"]
        document = step.migrate(document)
        if document["schema_version"] != number + 1:
            raise ValueError(f"the migration of schema {number} leads to schema {document['schema_version']}")
    return document
