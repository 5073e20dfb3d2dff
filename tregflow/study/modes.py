"""The endpoint under other modes of sharing its cuts: a table, and the subjects whose change depends on the mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from tregflow.errors import Finding
from tregflow.study.tables import Count, Percent, TableRow, Text, column, percent

Pair = tuple[int, int]


class ModeRow(TableRow):
    """One tube under one mode."""

    key_columns = ("subject_id", "visit", "replicate", "file", "mode")
    free_text = ("why",)

    subject_id: Text = column("", "Subject, as in the manifest.")
    visit: Text = column("", "Visit, as in the manifest.")
    replicate: int = column("", "Replicate, from 1.", default=..., ge=1)
    batch_id: Text = column("", "Batch of staining and acquisition.")
    file: str = column("", "FCS file, from the batch folder.", default=..., min_length=1)
    template: str = column(
        "", "Gating template, id@version, and its status if not released.", default=..., min_length=1
    )
    mode: str = Field(
        description="Whose cuts decide: fixed (the template's), tube, subject (its baseline tube), batch or study.",
        pattern="^(fixed|tube|subject|batch|study)$",
        json_schema_extra={"unit": ""},
    )
    is_endpoint: bool = column("", "Whether this mode is the template's endpoint.", default=...)
    numerator: str = column("", "Population counted in n_numerator.", default=..., min_length=1)
    denominator: str = column("", "Population counted in n_denominator.", default=..., min_length=1)
    n_numerator: Count = column("events", "Events in the numerator under this mode.")
    n_denominator: Count = column("events", "Events in the denominator under this mode.")
    endpoint_pct: Percent = column("%", "100 n_numerator / n_denominator.")
    why: Text = column("", "Why there is no number.")

    def percentages(self) -> dict[str, float | None]:
        """Return the columns that are made from counts."""
        return {"endpoint_pct": percent(self.n_numerator, self.n_denominator)}


@dataclass(frozen=True, slots=True)
class TubeModes:
    """One usable tube: its counts as the endpoint, with the deciding cuts moved down and up, and under other modes."""

    subject_id: str
    visit: str
    endpoint: Pair
    moved: tuple[Pair, ...]
    modes: Mapping[str, Pair]


def mode_findings(tubes: Iterable[TubeModes], baseline: frozenset[str], endpoint_mode: str) -> tuple[Finding, ...]:
    """Name the subjects whose change from baseline depends on the mode.

    A change depends on the mode where it has another sign, or differs by more than the placement uncertainty of the
    change: the largest shift with the deciding cuts of both visits moved together. In percentage points.
    """
    by_subject: dict[str, list[TubeModes]] = {}
    for tube in tubes:
        by_subject.setdefault(tube.subject_id, []).append(tube)
    found: list[Finding] = []
    for subject in sorted(by_subject):
        first = next((t for t in by_subject[subject] if t.visit in baseline), None)
        for later in by_subject[subject] if first is not None else ():
            if first is not None and later.visit not in baseline:
                found += _compare(subject, first, later, endpoint_mode)
    return tuple(found)


def _compare(subject: str, first: TubeModes, later: TubeModes, endpoint_mode: str) -> Sequence[Finding]:
    change = _pct(later.endpoint) - _pct(first.endpoint)
    moved = [_pct(b) - _pct(a) - change for a, b in zip(first.moved, later.moved, strict=False)]
    uncertainty = max((abs(shift) for shift in moved), default=0.0)
    found: list[Finding] = []
    for mode in sorted(first.modes.keys() & later.modes.keys()):
        other = _pct(later.modes[mode]) - _pct(first.modes[mode])
        sign = change * other < 0
        if not sign and abs(other - change) <= uncertainty:
            continue
        how = "another sign" if sign else f"a difference above the placement uncertainty of {uncertainty:.2f} points"
        message = (
            f"subject {subject}, {first.visit} to {later.visit}: {change:+.2f} points with cuts shared by "
            f"{endpoint_mode}, {other:+.2f} under mode {mode}: {how}."
        )
        found.append(
            Finding(
                "MODE_CHANGES_RESULT",
                "review",
                message,
                observed=f"{other - change:+.2f} points",
                limit=f"+-{uncertainty:.2f} points",
            )
        )
    return found


def _pct(pair: Pair) -> float:
    return 100 * pair[0] / pair[1]
