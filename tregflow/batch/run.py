"""A batch to a results folder. One bad tube never stops or hides the others; a stopped run goes on where it stopped."""

from __future__ import annotations

import getpass
import json
import logging
import multiprocessing
import os
import platform
import shutil
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits

from tregflow.batch.plan import Plan, make_tasks
from tregflow.batch.tables import write_tables
from tregflow.batch.tube import Outcome, TubeTask, crashed, place_tube, process_tube
from tregflow.errors import BatchError, Finding, PlacementError, TregflowError
from tregflow.gating import needed_for
from tregflow.placement import Placement, share_cut
from tregflow.record import Ledger, TubeRecord, read_record, sha256_bytes, sha256_file, write_atomic
from tregflow.study import write_manifest
from tregflow.template.loading import canonical_json
from tregflow.template.model import RangeGate
from tregflow.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

log = logging.getLogger("tregflow")
T = TypeVar("T")
RUN_FILES = ("run.json", "run.log", "ledger.jsonl")
DEPENDENCIES = ("numpy", "scipy", "pydantic", "plotly", "pyarrow", "jinja2")


class Progress(Protocol):
    """Is told how a run goes; the screen's side of it."""

    def started(self, n_tubes: int, n_done: int) -> None:
        """Called once; `n_done` tubes were finished by an earlier run."""

    def tube(self, record: TubeRecord) -> None:
        """Called for each tube as it is done."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, the tubes' records in manifest order, findings about the batch, crashed tubes."""

    results: Path
    records: tuple[TubeRecord, ...]
    findings: tuple[Finding, ...]
    crashes: tuple[str, ...]

    def exit_code(self, fail_on: str = "fail") -> int:
        """0 all evaluable; 1 at least one not (or one to review, with `fail_on="review"`); 3 incomplete."""
        if self.crashes:
            return 3
        bad = {"not_evaluable"} | ({"review"} if fail_on == "review" else set())
        doubtful = fail_on == "review" and any(f.severity == "review" for f in self.findings)
        return int(doubtful or any(r.status in bad for r in self.records))


def run_batch(
    plan: Plan,
    results: Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
    render: Callable[[Path], object] | None = None,
) -> RunResult:
    """Gate every tube of a plan into a results folder.

    Parameters
    ----------
    results
        Made if it is not there; resumed if it holds this same run; refused if it holds anything else.
    jobs
        Worker processes; 1 works in this process. The bytes of the results do not depend on it.
    overwrite
        Replace another run's results; its ledger is kept and continued.
    render
        Called with the folder when the tables are written, to add the report.

    Raises
    ------
    BatchError
        `RUN_DIFFERENT`, `RUN_NOT_RESULTS`, `RUN_INSIDE_BATCH`, `RUN_LOCKED` or `RUN_CANNOT_WRITE`: nothing was changed.
    """
    _refuse_inside(plan.batch, results)
    try:
        with _locked(results):
            return _run(plan, results, jobs, progress, command, render, overwrite=overwrite)
    except OSError as error:
        place = Path(error.filename).name if error.filename else results.name
        raise BatchError("RUN_CANNOT_WRITE", f"{place}: {error.strerror or error}.") from error


def _run(
    plan: Plan,
    results: Path,
    jobs: int,
    progress: Progress | None,
    command: Sequence[str],
    render: Callable[[Path], object] | None,
    *,
    overwrite: bool,
) -> RunResult:
    tasks = make_tasks(plan, results, jobs)
    identity = _identity(plan, tasks)
    _prepare_folder(results, identity, overwrite=overwrite)
    ledger = Ledger(results / "ledger.jsonl")
    who = {"user": getpass.getuser(), "host": platform.node(), "tregflow": __version__}
    about = {"template": plan.template.name, "template_sha256": plan.template.sha256, "n_tubes": len(tasks)}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    run = {"identity": identity, "command": list(command), "started": started, **about, **_environment()}
    _write_run(results, run | {"state": "running"})
    ledger.append({"action": "run_started", "time": started, **who, **about})
    with _log_to(results / "run.log"), _workers(jobs) as workers:
        log.info("%s tubes, template %s, %s job(s)", len(tasks), plan.template.name, jobs)
        tasks = _with_shared_placements(tasks, workers)
        outcomes = _process(tasks, workers, ledger, progress)
        records = tuple(outcomes[task.name].record for task in tasks)
        crashes = tuple(task.name for task in tasks if outcomes[task.name].crash)
        if plan.inferred:
            write_manifest(results / "manifest.inferred.csv", plan.rows)
        write_tables(results, records, plan.findings, plan.template.template)
        if render is not None:
            render(results)
        result = RunResult(results, records, plan.findings, crashes)
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        state = "incomplete" if crashes else "complete"
        _write_run(results, run | {"state": state, "ended": ended, "jobs": jobs, "crashed": list(crashes)})
        endpoint = sha256_file(results / "endpoint.csv")
        ledger.append({"action": "run_ended", "time": ended, **who, "state": state, "endpoint_sha256": endpoint})
        log.info("%s", state)
    return result


# --- tubes ------------------------------------------------------------------------------------------------------------


class _Workers:
    """Runs a function over tubes, in this process or in a pool, and gives results back as they come."""

    def __init__(self, pool: ProcessPoolExecutor | None) -> None:
        self.pool = pool

    def map(self, function: Callable[..., T], tasks: Sequence[TubeTask], *rest: Any) -> Iterator[tuple[TubeTask, T]]:
        """`(task, function(task, *rest))` in the order of completion."""
        if self.pool is None:
            for task in tasks:
                yield task, function(task, *rest)
            return
        futures = {self.pool.submit(function, task, *rest): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def _workers(jobs: int) -> Iterator[_Workers]:
    """A pool of processes that do arithmetic on one thread each, so that workers neither fight nor differ."""
    if jobs <= 1:
        with threadpool_limits(1):
            yield _Workers(None)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(["tregflow.batch.tube"])
    with ProcessPoolExecutor(jobs, context, initializer=threadpool_limits, initargs=(1,)) as pool:
        yield _Workers(pool)


def _with_shared_placements(tasks: Sequence[TubeTask], workers: _Workers) -> tuple[TubeTask, ...]:
    """Place and freeze the gates that a batch shares, each once the gates it depends on are frozen."""
    template = tasks[0].template.template
    waiting = [g for g in template.gates if isinstance(g, RangeGate) and g.place and g.place.share == "batch"]
    current = {task.name: task for task in tasks}
    placing = [t for t in tasks if not t.row.is_control and not any(f.severity == "fail" for f in t.known)]
    while waiting and placing:
        ids = {gate.id for gate in waiting}
        ready = [gate for gate in waiting if not needed_for(template, [gate.id]) & ids]
        now = [current[task.name] for task in placing]
        placed = {task.name: found for task, found in workers.map(place_tube, now, tuple(g.id for g in ready))}
        for gate in ready:
            _freeze(gate, placing, placed, current)
        waiting = [gate for gate in waiting if gate not in ready]
    return tuple(current[task.name] for task in tasks)


def _freeze(
    gate: RangeGate,
    placing: Sequence[TubeTask],
    placed: Mapping[str, Mapping[str, Placement | TregflowError]],
    current: dict[str, TubeTask],
) -> None:
    """Give every tube of a batch the batch's cut of `gate`, and a finding to those that could not place it."""
    batches: dict[str, list[TubeTask]] = defaultdict(list)
    for task in placing:
        batches[task.row.batch_id].append(task)
    for batch, tubes in batches.items():
        found = {task.name: placed[task.name][gate.id] for task in tubes}
        own = [p for p in found.values() if isinstance(p, Placement) and p.status == "placed"]
        template = tubes[0].template.template
        cut = share_cut(gate.place, own, template.transform(gate.dimensions[0])) if gate.place and own else None
        for task in tubes:
            now, mine = current[task.name], found[task.name]
            frozen = now.frozen if cut is None else {**now.frozen, gate.id: cut}
            known = (*now.known, *_not_own(gate.id, mine, batch, shared=cut is not None))
            current[task.name] = replace(now, known=known, frozen=frozen)


def _not_own(gate: str, placed: Placement | TregflowError, batch: str, *, shared: bool) -> Iterator[Finding]:
    """What it means for a tube that it could not place a gate of its batch.

    An error of another kind than placement (a truncated file, a missing marker) is left to the gating, which says it.
    """
    if isinstance(placed, Placement):
        why = placed.message if placed.status != "placed" else ""
    else:
        why = f"{placed.code}: {placed.message}" if isinstance(placed, PlacementError) else ""
    if not why:
        return
    if shared:
        yield Finding("PLACEMENT_NOT_OWN", "review", f"{gate}: {why}", population=gate)
    else:
        message = f"{gate}: no tube of batch '{batch}' could place it. This tube: {why}"
        yield Finding("PLACEMENT_NO_SHARED", "fail", message, population=gate)


def _process(
    tasks: Sequence[TubeTask], workers: _Workers, ledger: Ledger, progress: Progress | None
) -> dict[str, Outcome]:
    """Records of all tubes: those that an earlier run finished are read, the others made."""
    done = {task.name: Outcome(record) for task in tasks if (record := _finished(task)) is not None}
    if progress is not None:
        progress.started(len(tasks), len(done))
    for name, outcome in done.items():
        log.info("%s: kept from an earlier run (%s)", name, outcome.record.status)
    waiting = [task for task in tasks if task.name not in done]
    try:
        for task, outcome in workers.map(process_tube, waiting):
            _note(task, outcome, done, ledger, progress)
    except BrokenProcessPool as error:
        for task in waiting:
            if task.name not in done:
                _note(task, crashed(task, f"a worker process died: {error}"), done, ledger, progress)
    return done


def _note(
    task: TubeTask, outcome: Outcome, done: dict[str, Outcome], ledger: Ledger, progress: Progress | None
) -> None:
    done[task.name] = outcome
    record = outcome.record
    codes = ";".join(sorted({f.code for f in record.findings}))
    log.info("%s: %s events, %s %s", task.name, record.n_events, record.status, codes)
    if outcome.crash:
        log.error("%s\n%s", task.name, outcome.crash)
    entry = {"action": "tube_done", "time": datetime.now(UTC).isoformat(timespec="seconds"), "tube": task.name}
    ledger.append({**entry, "status": record.status, "key": record.key, "file_sha256": record.file_sha256})
    if progress is not None:
        progress.tube(record)


def _finished(task: TubeTask) -> TubeRecord | None:
    """The record of a tube that is done: there, whole, and made from exactly this task."""
    if not task.record_path.is_file():
        return None
    try:
        record = read_record(task.record_path)
    except ValueError:  # another schema, or not ours: it is made again
        return None
    return record if record.key == task.key else None


# --- the folder -------------------------------------------------------------------------------------------------------


def _refuse_inside(batch: Path, results: Path) -> None:
    if results.resolve().is_relative_to(batch.resolve()):
        raise BatchError("RUN_INSIDE_BATCH", f"{results.name} lies inside the batch folder {batch.resolve().name}.")


@contextmanager
def _locked(results: Path) -> Iterator[None]:
    """Two runs may not write one folder at once; the lock lies beside the folder, hidden, and goes with the run."""
    results.parent.mkdir(parents=True, exist_ok=True)
    path = results.parent / f".{results.name}.lock"
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise BatchError("RUN_LOCKED", f"{results.name} is being written by another run.") from None
    path.unlink(missing_ok=True)


def _identity(plan: Plan, tasks: Sequence[TubeTask]) -> str:
    """SHA-256 of what makes a run that run: program, template, manifest and every input file."""
    return sha256_bytes(canonical_json([__version__, plan.template.sha256, [[t.name, t.key, t.sha256] for t in tasks]]))


def _prepare_folder(results: Path, identity: str, *, overwrite: bool) -> None:
    """Make the folder, or check that it is this run's; with `overwrite`, clear another run's results first."""
    earlier = read_run(results)
    if results.is_dir() and earlier is None and any(results.iterdir()):
        raise BatchError("RUN_NOT_RESULTS", f"{results.name} is not empty and has no run.json.")
    if earlier is not None and earlier.get("identity") != identity:
        if not overwrite:
            what = f"template {earlier.get('template')}, {earlier.get('n_tubes')} tubes, started {earlier.get('started')}"
            raise BatchError(
                "RUN_DIFFERENT",
                f"{results.name} holds a run of other files, another manifest, template or program version ({what}).",
            )
        for path in results.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in RUN_FILES:
                path.unlink()
    for folder in ("samples", "gates"):
        (results / folder).mkdir(parents=True, exist_ok=True)


def read_run(results: Path) -> dict[str, Any] | None:
    """`run.json` of a results folder, None where there is none that can be read."""
    try:
        run = json.loads((results / "run.json").read_bytes())
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) else None


def _write_run(results: Path, run: dict[str, Any]) -> None:
    write_atomic(results / "run.json", (json.dumps(run, indent=1, ensure_ascii=False) + "\n").encode())


def _environment() -> dict[str, Any]:
    versions = {}
    for name in DEPENDENCIES:
        versions[name] = metadata.version(name)
    return {
        "tregflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "dependencies": versions,
    }


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """The run's log in its folder."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
