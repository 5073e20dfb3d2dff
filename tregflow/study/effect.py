"""What another template does to the numbers of the same tubes: counts, percentages, changes from baseline, limits.

Pure: rows of the endpoint table under both templates in, differences out. A number that one side does not have gives no
difference, never a 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tregflow.study.endpoint import EndpointRow

_USABLE = ("ok", "review")


@dataclass(frozen=True, slots=True)
class Side:
    """A tube under one template. `codes` are what was found, without what is said of the template itself."""

    status: str
    n_numerator: int | None
    n_denominator: int | None
    endpoint_pct: float | None
    treg_pct_of_lymphocytes: float | None
    treg_pct_of_cd4: float | None
    codes: frozenset[str]

    @property
    def evaluable(self) -> bool:
        """Whether there is a number."""
        return self.status in _USABLE and self.endpoint_pct is not None


@dataclass(frozen=True, slots=True)
class TubeEffect:
    """One stained tube under both templates."""

    batch: str
    subject_id: str
    visit: str
    replicate: int
    file: str
    file_sha256: str
    before: Side
    after: Side

    def moved(self, name: str) -> float | None:
        """After less before of a number of `Side`; None where one of them is missing."""
        return _less(getattr(self.after, name), getattr(self.before, name))

    @property
    def crossed(self) -> tuple[str, ...]:
        """The limits that the tube crosses, in words: evaluable or not, and every finding that comes or goes."""
        found = []
        if self.before.evaluable != self.after.evaluable:
            found.append("evaluable now" if self.after.evaluable else "not evaluable any more")
        found += [f"now {code}" for code in sorted(self.after.codes - self.before.codes)]
        found += [f"no longer {code}" for code in sorted(self.before.codes - self.after.codes)]
        return tuple(found)

    @property
    def same(self) -> bool:
        """Whether nothing at all differs."""
        return self.before == self.after


@dataclass(frozen=True, slots=True)
class ChangeEffect:
    """A subject's change from baseline under both templates, in percentage points; None where it has none."""

    subject_id: str
    baseline: str
    visit: str
    before: float | None
    after: float | None
    cd4_before: float | None
    cd4_after: float | None

    @property
    def moved(self) -> float | None:
        """After less before."""
        return _less(self.after, self.before)

    @property
    def sign(self) -> bool:
        """Whether a rise becomes a fall or the other way round."""
        return self.before is not None and self.after is not None and self.before * self.after < 0

    @property
    def lost_or_won(self) -> bool:
        """Whether one template gives a change and the other none."""
        return (self.before is None) != (self.after is None)


def tube_effects(batch: str, before: Iterable[EndpointRow], after: Iterable[EndpointRow]) -> tuple[TubeEffect, ...]:
    """Pair the stained tubes of one batch under both templates, in the order of `before`."""
    others = {_key(row): row for row in after}
    return tuple(
        TubeEffect(
            batch,
            row.subject_id or "",
            row.visit or "",
            row.replicate,
            row.file,
            row.file_sha256 or "",
            _side(row),
            _side(others[_key(row)]),
        )
        for row in before
        if row.role == "stained"
    )


def change_effects(tubes: Sequence[TubeEffect], baseline: frozenset[str]) -> tuple[ChangeEffect, ...]:
    """Every subject's change from its baseline visit to each later one; of replicates the first is taken."""
    first = [tube for tube in tubes if tube.replicate == 1]
    starts = {tube.subject_id: tube for tube in reversed(first) if tube.visit in baseline}
    found = []
    for tube in first:
        start = starts.get(tube.subject_id)
        if start is None or tube.visit in baseline:
            continue
        changes = [
            _change(getattr(tube, side), getattr(start, side), name)
            for name in ("endpoint_pct", "treg_pct_of_cd4")
            for side in ("before", "after")
        ]
        found.append(ChangeEffect(tube.subject_id, start.visit, tube.visit, *changes))
    return tuple(found)


def _change(later: Side, start: Side, name: str) -> float | None:
    return _less(getattr(later, name), getattr(start, name)) if later.evaluable and start.evaluable else None


def _key(row: EndpointRow) -> tuple[object, ...]:
    return row.subject_id, row.visit, row.role, row.replicate, row.file


def _side(row: EndpointRow) -> Side:
    usable = row.status in _USABLE
    codes = frozenset(
        code for code in (row.finding_codes or "").split(";") if code and not code.startswith("TEMPLATE_")
    )
    return Side(
        row.status,
        row.n_numerator,
        row.n_denominator,
        row.endpoint_pct if usable else None,
        row.treg_pct_of_lymphocytes if usable else None,
        row.treg_pct_of_cd4 if usable else None,
        frozenset(codes),
    )


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
