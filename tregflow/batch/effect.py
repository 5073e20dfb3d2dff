"""Batches gated under two templates: what the second does to their numbers. The study's own files are not touched."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tregflow.anchors import REGISTRY
from tregflow.batch.plan import make_plan
from tregflow.batch.run import run_batch
from tregflow.batch.tables import endpoint_row_of
from tregflow.batch.workers import sensible_jobs
from tregflow.study import find_study, load_study
from tregflow.study.effect import ChangeEffect, TubeEffect, change_effects, tube_effects

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tregflow.batch.plan import Plan
    from tregflow.batch.run import Progress, RunResult
    from tregflow.template.registry import LoadedTemplate

SIDES = ("before", "after")


@dataclass(frozen=True, slots=True)
class Effect:
    """The tubes of all batches under both templates, and the changes from baseline that come of them.

    `baseline` are the visits that were taken as baseline; where there are none, there are no changes. `incomplete`
    names tubes on which the program itself failed.
    """

    before: LoadedTemplate
    after: LoadedTemplate
    tubes: tuple[TubeEffect, ...]
    changes: tuple[ChangeEffect, ...]
    baseline: tuple[str, ...]
    incomplete: tuple[str, ...]


def gate_under_both(
    batches: Sequence[Path],
    templates: tuple[LoadedTemplate, LoadedTemplate],
    names: tuple[str, str],
    out: Path,
    *,
    own: Path | None = None,
    baseline: Sequence[str] = (),
    jobs: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    render: Callable[[Path], object] | None = None,
) -> Effect:
    """Gate batches under two templates into `out/before` and `out/after`, and compare.

    Parameters
    ----------
    templates, names
        Both templates, and how each is named for `load_template`.
    out
        Results folders are made in it, resumed if they are there; cuts that a template keeps for a study are looked up
        in a copy of its placement registry, and frozen in that copy alone.
    baseline
        Visits to take as baseline, by default those that the batches' study files name.

    Raises
    ------
    TregflowError
        What keeps a batch from being gated, as `make_plan` and `run_batch` say it.
    """
    plans = [
        [make_plan(batch, name, templates=own) for batch in batches] for name in names
    ]  # both, before anything is written
    folders = _distinct([batch.resolve().name for batch in batches])
    visits = frozenset(baseline) or _baseline(batches)
    tubes: list[TubeEffect] = []
    incomplete: list[str] = []
    for number, folder in enumerate(folders):
        results: list[RunResult] = []
        for side, side_plans in zip(SIDES, plans, strict=True):
            plan = _apart(side_plans[number], out / side)
            n_jobs = jobs or sensible_jobs([plan.batch / row.file for row in plan.rows])
            results.append(
                run_batch(plan, out / side / folder, jobs=n_jobs, overwrite=overwrite, progress=progress, render=render)
            )
            incomplete += [f"{folder}, {side}: {tube}" for tube in results[-1].crashes]
        rows = [
            [endpoint_row_of(record, loaded.template) for record in result.records]
            for result, loaded in zip(results, templates, strict=True)
        ]
        tubes += tube_effects(folder, *rows)
    changes = change_effects(tubes, visits)
    return Effect(*templates, tuple(tubes), changes, tuple(sorted(visits)), tuple(incomplete))


def _apart(plan: Plan, folder: Path) -> Plan:
    """The plan with a copy of the study's placement registry, so that nothing is frozen in the study itself."""
    if plan.study_folder is None:
        return plan
    apart = folder / "placements" / plan.study_folder.name
    apart.mkdir(parents=True, exist_ok=True)
    kept = plan.study_folder / REGISTRY
    if kept.is_file() and not (apart / REGISTRY).exists():
        shutil.copyfile(kept, apart / REGISTRY)
    return replace(plan, study_folder=apart)


def _baseline(batches: Sequence[Path]) -> frozenset[str]:
    studies = {path for batch in batches if (path := find_study(batch)) is not None}
    return frozenset().union(*(load_study(path).baseline for path in studies))


def _distinct(names: Sequence[str]) -> list[str]:
    """Names for folders: those of the batches, numbered where two are the same."""
    return [name if names.count(name) == 1 else f"{name}-{names[: i + 1].count(name)}" for i, name in enumerate(names)]
