"""Which FMO tube serves which stained tube."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tregflow.batch.tube import TubeTask


def control_of(task: TubeTask, marker: str, controls: Sequence[TubeTask]) -> TubeTask | None:
    """The FMO tube of a marker for a stained tube: of its own subject and visit, else of its batch.

    In its batch, one of its own subject comes first, then by name. A tube of another batch never serves: it was stained
    and acquired on another day.
    """
    fitting = [c for c in controls if c.row.role_marker.casefold() == marker.casefold()]
    own = [c for c in fitting if is_own(task, c)]
    batch = [c for c in fitting if c.row.batch_id == task.row.batch_id]
    batch.sort(key=lambda c: (c.row.subject_id != task.row.subject_id, c.name))
    return next(iter((*own, *batch)), None)


def is_own(task: TubeTask, control: TubeTask) -> bool:
    """Whether a control is of the tube's own subject and visit."""
    return (control.row.subject_id, control.row.visit) == (task.row.subject_id, task.row.visit)
