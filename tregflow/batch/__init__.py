"""A folder of tubes to a results folder."""

from tregflow.batch.check import TubeCheck, check_batch
from tregflow.batch.folder import read_run
from tregflow.batch.place import PlacedCut, place_batch
from tregflow.batch.plan import Plan, make_plan, make_tasks
from tregflow.batch.run import Progress, RunResult, run_batch
from tregflow.batch.tube import TubeTask, open_task
from tregflow.batch.workers import sensible_jobs

__all__ = [
    "PlacedCut",
    "Plan",
    "Progress",
    "RunResult",
    "TubeCheck",
    "TubeTask",
    "check_batch",
    "make_plan",
    "make_tasks",
    "open_task",
    "place_batch",
    "read_run",
    "run_batch",
    "sensible_jobs",
]
