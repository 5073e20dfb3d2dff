"""The placement registry of a study: cuts frozen for a subject or for the whole study.

It lies beside `study.toml` and is append-only and hash-chained like a ledger. A subject's cut is placed on its baseline
tube and frozen when that is first gated; later batches use it, in whatever order and however often they are gated.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tregflow.placement import Estimate, Placement
from tregflow.record import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

REGISTRY = "placements.jsonl"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A frozen cut and the tubes it was placed on, as SHA-256 by tube name."""

    placement: Placement
    tubes: Mapping[str, str]


class Anchors:
    """Frozen cuts of one template, by gate and scope (`subject:S01` or `study`).

    Raises
    ------
    BatchError
        `LEDGER_BROKEN` if the registry was edited.
    """

    def __init__(self, path: Path, template: str, template_sha256: str) -> None:
        self._ledger = Ledger(path)
        self._template = {"template": template, "template_sha256": template_sha256}

    def find(self, gate: str, scope: str) -> Anchor | None:
        """The frozen cut of a gate, None where none was frozen yet."""
        for entry in self._ledger.entries:
            wanted = {"action": "frozen", "gate": gate, "scope": scope, **self._template}
            if all(entry.get(key) == value for key, value in wanted.items()):
                return Anchor(_placement(entry["placement"]), entry["tubes"])
        return None

    def freeze(self, gate: str, scope: str, placement: Placement, tubes: Mapping[str, str]) -> None:
        """Keep a cut for good."""
        what = {"gate": gate, "scope": scope, "placement": asdict(placement), "tubes": dict(tubes)}
        self._ledger.append({"action": "frozen", **self._template, **what})


@contextmanager
def open_anchors(folder: Path, template: str, template_sha256: str) -> Iterator[Anchors]:
    """The registry in a study's folder, held against other runs while cuts are looked up and frozen."""
    path = folder / REGISTRY
    lock = folder / f".{REGISTRY}.lock"
    with FileLock(lock):
        try:
            yield Anchors(path, template, template_sha256)
        finally:
            lock.unlink(missing_ok=True)


def _placement(stored: Mapping[str, Any]) -> Placement:
    estimate = stored["estimate"]
    return Placement(
        **{
            **stored,
            "coordinates": tuple(stored["coordinates"]),
            "estimate": Estimate(**{**estimate, "values": tuple(estimate["values"])}),
        }
    )
