"""A results folder to a certificate: every check, one tube at a time on each worker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tregflow.batch.workers import sensible_jobs, workers
from tregflow.record import sha256_file
from tregflow.verify.folder import open_results
from tregflow.verify.ledger import check_files, check_ledger, ledger_head
from tregflow.verify.model import Certificate, Check, TubeFound
from tregflow.verify.origin import check_rows, check_software, check_template, software
from tregflow.verify.tables import check_percentages, check_tables
from tregflow.verify.tube import TubeToVerify, verify_tube

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tregflow.template.registry import LoadedTemplate
    from tregflow.verify.folder import Results


def verify_results(
    folder: Path,
    *,
    batch: Path | None = None,
    jobs: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Certificate:
    """Verify a results folder; nothing in it is changed.

    Parameters
    ----------
    batch
        Where the FCS files lie; None looks where they were when the run was made, or as they lay beside the results.
    jobs
        Worker processes; 1 works in this process, None as many as pay. The certificate does not depend on it.
    progress
        Is told a tube's name, how many are done, and how many there are.

    Raises
    ------
    VerifyError
        `VERIFY_NOT_RESULTS`: there is nothing that could be verified.
    """
    results = open_results(folder, batch)
    template_check, template = check_template(results)
    tubes = _verify_tubes(results, template, jobs, progress)
    checks = (
        check_ledger(results),
        check_files(results),
        check_rows(results),
        template_check,
        check_software(results),
        *_of_tubes(tubes, results),
        check_tables(results, None if template is None else template.template),
        check_percentages(results),
    )
    return Certificate(
        results=folder.resolve().name,
        run=_run(results),
        checks=checks,
        tubes=tubes,
        software=software(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _verify_tubes(
    results: Results,
    template: LoadedTemplate | None,
    jobs: int | None,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[TubeFound, ...]:
    owners = {record.file_sha256: name for name, record in results.records.items() if record.file_sha256}
    tasks = [
        TubeToVerify(record, results.file_of(record), results.export_of(name), template, owners)
        for name, record in results.records.items()
    ]
    found: dict[str, TubeFound] = {}
    if jobs is None:
        jobs = sensible_jobs([task.path for task in tasks if task.path is not None])
    with workers(min(jobs, len(tasks))) as pool:
        for task, tube in pool.map(verify_tube, tasks):
            found[task.record.tube.tube] = tube
            if progress is not None:
                progress(tube.name, len(found), len(tasks))
    return tuple(found[task.record.tube.tube] for task in tasks)


def _of_tubes(tubes: Sequence[TubeFound], results: Results) -> tuple[Check, ...]:
    """The checks that each tube went through, over all tubes."""
    hashed = [t for t in tubes if results.records[t.name].file_sha256]
    read = [t for t in tubes if t.cross_reader]
    gated = [t for t in tubes if t.gated]
    compared = [p for t in tubes for p in t.populations if p.n_different is not None]
    n_memberships = sum(len(t.populations) * (t.n_events or 0) for t in tubes)
    again, kept = sum(t.n_placed_again for t in tubes), sum(t.n_as_recorded for t in tubes)
    files = f"{len(hashed)} files, SHA-256"
    n_gates = sum(len(results.records[t.name].gates) for t in gated)
    placed = f"{again:,} cuts placed again, {kept:,} as recorded (shared, on a control, or a fall-back)"
    memberships = f"{len(compared):,} populations, {n_memberships:,} memberships"
    return (
        _check(tubes, "inputs", "FCS files as recorded", files, _missing_then(tubes, results)),
        _check(tubes, "raw", "Raw values by another reader", _by_reader(read), _unread_notes(tubes)),
        _check(tubes, "exports", "Gating-ML as the records say", f"{len(gated)} documents"),
        _check(tubes, "gates", "Gates where template and rules put them", f"{n_gates:,} gates; {placed}"),
        _check(
            tubes,
            "counts",
            "Counts when gated again",
            f"{len(compared):,} populations of {sum(bool(t.populations) for t in tubes)} tubes",
        ),
        _check(tubes, "events", "FlowKit finds the same events", memberships, _not_regated(tubes)),
    )


def _check(tubes: Sequence[TubeFound], name: str, title: str, scope: str, notes: tuple[str, ...] = ()) -> Check:
    problems = tuple(problem for t in tubes for problem in t.problems.get(name, ()))
    own = tuple(note for t in tubes for note in t.notes.get(name, ()))
    return Check(name, title, scope, problems, (*notes, *own))


def _by_reader(read: Sequence[TubeFound]) -> str:
    names = sorted({t.cross_reader for t in read}, reverse=True)
    return ", ".join(f"{sum(t.cross_reader == n for t in read)} tubes by {n}" for n in names) or "no tube"


def _unread_notes(tubes: Sequence[TubeFound]) -> tuple[str, ...]:
    """Why a tube was not read by fcsparser, or by nobody, each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for tube in tubes:
        if tube.why:
            reasons.setdefault((tube.cross_reader, tube.why), []).append(tube.name)
    return tuple(
        f"{_names(names)}: {f'read by {reader}, because ' if reader else 'cross-read not available: '}{why}"
        for (reader, why), names in reasons.items()
    )


def _missing_then(tubes: Sequence[TubeFound], results: Results) -> tuple[str, ...]:
    names = [t.name for t in tubes if not results.records[t.name].file_sha256]
    return (f"{_names(names)}: not read by the run either",) if names else ()


def _not_regated(tubes: Sequence[TubeFound]) -> tuple[str, ...]:
    """Tubes that have gates and were not gated again, because what comes before failed."""
    names = [t.name for t in tubes if t.gated and not t.populations]
    return (f"{_names(names)}: not gated again, because of what is said above",) if names else ()


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _run(results: Results) -> dict[str, str]:
    """What identifies the run."""
    run, table = results.run, results.folder / "endpoint.csv"
    endpoint = next((r.template for r in results.records.values()), None)
    return {
        "template": str(run["template"]),
        "template_sha256": str(run["template_sha256"]),
        "template_status": "" if endpoint is None else endpoint.status,
        "started": str(run.get("started", "")),
        "ended": str(run.get("ended", "")),
        "tregflow": str(run.get("tregflow", "")),
        "n_tubes": str(len(run["tubes"])),
        "ledger_sha256": ledger_head(results),
        "endpoint_sha256": sha256_file(table) if table.is_file() else "",
    }
