"""Running a function over tubes, in this process or in a pool."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, TypeVar

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")
Task = TypeVar("Task")
_WORTH_A_WORKER = 32 * 2**20  # bytes; about as much gating as a worker takes to load


class Workers:
    """Runs a function over tubes, in this process or in a pool, and gives results back as they come."""

    def __init__(self, pool: ProcessPoolExecutor | None) -> None:
        self.pool = pool

    def map(self, function: Callable[..., T], tasks: Sequence[Task], *rest: Any) -> Iterator[tuple[Task, T]]:
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
def workers(jobs: int) -> Iterator[Workers]:
    """A pool of processes that do arithmetic on one thread each, so that workers neither fight nor differ."""
    if jobs <= 1:
        with threadpool_limits(1):
            yield Workers(None)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(["tregflow.batch.tube"])
    with ProcessPoolExecutor(jobs, context, initializer=_start_worker) as pool:
        for _ in range(jobs):
            pool.submit(os.getpid)  # workers start now, while this process looks at the files
        yield Workers(pool)


def sensible_jobs(paths: Sequence[Path]) -> int:
    """As many workers as cores, but none for less work than it takes to start one."""
    size = sum(path.stat().st_size for path in paths if path.is_file())
    return max(1, min(os.cpu_count() or 1, len(paths), size // _WORTH_A_WORKER))


def _start_worker() -> None:
    """Arithmetic on one thread; and a worker ends when the process that it works for is gone, however it went."""
    threadpool_limits(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
