"""A batch to a results folder. One bad tube never stops or hides the others; a stopped run goes on where it stopped."""

from __future__ import annotations

import getpass
import logging
import platform
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from tregflow.batch.folder import (
    claimed,
    environment,
    hashes_of_outputs,
    log_to,
    prepare_folder,
    refuse_inside,
    run_sha256,
    write_run,
)
from tregflow.batch.modes import with_modes
from tregflow.batch.origin import sources_of
from tregflow.batch.plan import Plan, make_tasks
from tregflow.batch.sharing import with_shared_placements
from tregflow.batch.tables import write_tables
from tregflow.batch.tube import Outcome, TubeTask, crashed, process_tube
from tregflow.batch.workers import Workers, workers
from tregflow.record import Ledger, TubeRecord, read_record, sha256_bytes, sha256_file
from tregflow.study import write_manifest
from tregflow.template.loading import canonical_json
from tregflow.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tregflow.errors import Finding

log = logging.getLogger("tregflow")


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
    refuse_inside(plan.batch, results)
    with claimed(results), workers(jobs) as pool:
        tasks = make_tasks(plan, results, jobs)
        run = {"identity": _identity(plan, tasks), "command": list(command), "started": _now(), **_about(plan)}
        run |= sources_of(plan, results)
        prepare_folder(results, run, overwrite=overwrite)
        ledger = Ledger(results / "ledger.jsonl")
        ledger.append({"action": "run_started", "time": run["started"], **_who(), **_about(plan)})
        with log_to(results / "run.log"):
            used = plan.template
            log.info("%s tubes, template %s (%s), %s job(s)", len(tasks), used.name, used.status, jobs)
            tasks = with_modes(plan, with_shared_placements(plan, tasks, pool), pool)
            outcomes = _process(tasks, pool, ledger, progress)
            crashes = tuple(task.name for task in tasks if outcomes[task.name].crash)
            records = tuple(outcomes[task.name].record for task in tasks)
            result = RunResult(results, records, _write_results(results, records, plan, render), crashes)
            ended = {"state": "incomplete" if crashes else "complete", "ended": _now(), "crashed": list(crashes)}
            run |= environment() | ended | {"jobs": jobs}
            hashes = {"outputs": hashes_of_outputs(results), "run_sha256": run_sha256(run)}
            head = ledger.append({"action": "run_ended", "time": _now(), **_who(), **ended, **hashes})
            # each names the other's end: a ledger cut at a line, or an edited run.json, shows
            write_run(results, run | {"ledger": {"entries": len(ledger.entries), "sha256": head}})
            log.info("%s", ended["state"])
    return result


def _write_results(
    results: Path, records: Sequence[TubeRecord], plan: Plan, render: Callable[[Path], object] | None
) -> tuple[Finding, ...]:
    """The tables and the report, from the records; gives the findings about the batch as a whole."""
    if plan.inferred:
        write_manifest(results / "manifest.inferred.csv", plan.rows)
    findings = write_tables(results, records, plan.findings, plan.template.template, plan.baseline)
    if render is not None:
        render(results)
    return findings


def _about(plan: Plan) -> dict[str, object]:
    template = plan.template
    return {
        "template": template.name,
        "template_sha256": template.sha256,
        "template_status": template.status,
        "template_reason": template.reason,
        "template_source": template.source,
        "n_tubes": len(plan.rows),
    }


def _who() -> dict[str, object]:
    return {"user": getpass.getuser(), "host": platform.node(), "tregflow": __version__}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _identity(plan: Plan, tasks: Sequence[TubeTask]) -> str:
    """SHA-256 of what makes a run that run: program, template, manifest and every input file."""
    return sha256_bytes(canonical_json([__version__, plan.template.sha256, [[t.name, t.key, t.sha256] for t in tasks]]))


def _process(tasks: Sequence[TubeTask], pool: Workers, ledger: Ledger, progress: Progress | None) -> dict[str, Outcome]:
    """Records of all tubes: those that an earlier run finished are read, the others made."""
    finished = {e["tube"]: e for e in ledger.entries if e.get("action") == "tube_done"}
    done = {
        task.name: Outcome(record) for task in tasks if (record := _finished(task, finished.get(task.name))) is not None
    }
    if progress is not None:
        progress.started(len(tasks), len(done))
    for name, outcome in done.items():
        log.info("%s: kept from an earlier run (%s)", name, outcome.record.status)
    waiting = [task for task in tasks if task.name not in done]
    try:
        for task, outcome in pool.map(process_tube, waiting):
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
    entry = {"action": "tube_done", "time": _now(), "tube": task.name, "status": record.status, "key": record.key}
    ledger.append({**entry, "file_sha256": record.file_sha256, **_written(task)})
    if progress is not None:
        progress.tube(record)


def _written(task: TubeTask) -> dict[str, str]:
    """SHA-256 of what a tube has on disk, empty for a file that is not there."""
    files = {"record_sha256": task.record_path, "gates_sha256": task.gates_path}
    return {name: sha256_file(path) if path.is_file() else "" for name, path in files.items()}


def _finished(task: TubeTask, entry: Mapping[str, object] | None) -> TubeRecord | None:
    """The record of a tube that is done: made from exactly this task, and its files as the ledger has them.

    Anything else (no entry, because the run was killed between file and ledger; a file that was edited or removed
    since) is made again.
    """
    if entry is None or not entry.get("record_sha256") or entry.get("key") != task.key:
        return None
    written = _written(task)
    if any(entry.get(name) != found for name, found in written.items()):
        log.warning("%s: its files are not what the ledger says; it is gated again", task.name)
        return None
    return read_record(task.record_path)
