"""Which FMO tube serves which stained tube."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tregflow.study import ManifestRow
    from tregflow.template.model import FmoQuantile


class _Tube(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def row(self) -> ManifestRow: ...


T = TypeVar("T", bound=_Tube)


def control_of(task: T, rule: FmoQuantile, controls: Sequence[T]) -> T | None:
    """The FMO tube that a rule stands on: of the tube's own subject and visit, else of its batch, else in the window.

    In its batch, one of its own subject comes first, then by name. A tube of another batch was stained and acquired on
    another day: it serves only where the rule declares a window, the nearest in days first, then by name.
    """
    fitting = [c for c in controls if c.row.role_marker.casefold() == rule.control.casefold()]
    own = [c for c in fitting if is_own(task, c)]
    batch = [c for c in fitting if c.row.batch_id == task.row.batch_id]
    batch.sort(key=lambda c: (c.row.subject_id != task.row.subject_id, c.name))
    near = []
    if rule.window_days is not None:
        days = {c.name: apart for c in fitting if (apart := days_apart(task, c)) is not None}
        near = [c for c in fitting if c.name in days and days[c.name] <= rule.window_days]
        near.sort(key=lambda c: (days[c.name], c.name))
    return next(iter((*own, *batch, *near)), None)


def is_own(task: _Tube, control: _Tube) -> bool:
    """Whether a control is of the tube's own subject and visit."""
    return (control.row.subject_id, control.row.visit) == (task.row.subject_id, task.row.visit)


def is_borrowed(task: _Tube, control: _Tube) -> bool:
    """Whether a control is of another batch and another draw."""
    return control.row.batch_id != task.row.batch_id and not is_own(task, control)


def days_apart(task: _Tube, control: _Tube) -> int | None:
    """Days between the draws of two tubes; None where one has no date."""
    first, second = (_date(each.row.collected_at) for each in (task, control))
    return None if first is None or second is None else abs((first - second).days)


def _date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text[:10])  # the day alone: times may lack a zone
    except ValueError:
        return None
