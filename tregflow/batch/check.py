"""Everything short of gating: manifest, headers, panel, compensation. Reads, writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tregflow.batch.plan import Plan, make_tasks
from tregflow.batch.tube import open_task
from tregflow.errors import Finding, TregflowError
from tregflow.fcs import read_fcs

if TYPE_CHECKING:
    from pathlib import Path

    from tregflow.batch.tube import TubeTask


@dataclass(frozen=True, slots=True)
class TubeCheck:
    """What is known of a tube without gating it. `compensation` is empty where it was not looked for (controls)."""

    name: str
    role: str
    n_events: int | None
    compensation: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing keeps the tube from being gated."""
        return all(f.severity != "fail" for f in self.findings)


def check_batch(plan: Plan, jobs: int = 1) -> tuple[TubeCheck, ...]:
    """Check every tube of a plan, in manifest order."""
    results: Path = plan.batch  # nothing is written
    return tuple(_check(task) for task in make_tasks(plan, results, jobs))


def _check(task: TubeTask) -> TubeCheck:
    known = task.known
    if any(f.severity == "fail" for f in known):
        return TubeCheck(task.name, task.row.role, None, "", known)
    try:
        if task.row.is_control:
            file = read_fcs(task.path)
            return TubeCheck(task.name, task.row.role, file.n_events, "", (*known, *file.findings))
        tube = open_task(task)
    except TregflowError as error:
        failure = Finding(error.code, "fail", error.message, remedy=error.remedy)
        return TubeCheck(task.name, task.row.role, None, "", (*known, failure))
    source = "unmixed" if tube.spillover is None else tube.spillover.source
    return TubeCheck(task.name, task.row.role, tube.file.n_events, source, (*known, *tube.findings))
