"""`tregflow gate` beside a FlowKit loop: same files, same gates, equal masks, alternated whole processes.

    python benchmarks/gate.py                               # 12 files of 500,000 events, 5 pairs: a few minutes
    python benchmarks/gate.py --files 2 --events 50000 --pairs 2

Ours is the command a technician runs, with all that it does: SHA-256 of every file, gating, histograms, Gating-ML,
tables, report, ledger; once with its default jobs and once with one. Theirs reads and gates one tube after the other
and prints the counts; a loop of ours that does that and no more stands beside it. Only the ratios are worth quoting,
and only those of one run: machines differ and a shared machine wanders. Memory is measured in runs of its own, as the
resident set of every process, summed, so that what processes share is counted more than once (Linux only; elsewhere it
is left out).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import flowkit_loop
from threadpoolctl import threadpool_limits
from tubes import make_tubes

from tregflow.gating import GatingResult, gate_sample, open_tube
from tregflow.template.registry import LoadedTemplate, load_template

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE / "t7.toml"


def main() -> None:
    """Check equality, then time and weigh."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    batch = Path(tempfile.gettempdir()) / "tregflow-benchmark" / f"{options.files}x{options.events}"
    paths = make_tubes(batch, options.files, options.events)
    print(f"{options.files} files x {options.events:,} events x 14 float32 channels; {os.cpu_count()} cores")
    compare_masks(paths)
    time_engines(paths)
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            "FlowKit loop": _loop("flowkit_loop.py", batch),
            "tregflow loop, same work": _loop("tregflow_loop.py", batch),
            "tregflow gate": _tregflow(batch, Path(folder) / "default", ()),
            "tregflow gate --jobs 1": _tregflow(batch, Path(folder) / "one", ("--jobs", "1")),
        }
        time_processes(sides, options.pairs)
        if Path("/proc/self/status").exists():
            weigh_processes(sides)


def gate(path: Path, loaded: LoadedTemplate, *, draw: bool) -> GatingResult:
    """Our side of `flowkit_loop.gate`."""
    tube = open_tube(path, loaded.template)
    return gate_sample(tube.sample, loaded.template, channels=tube.channels, spillover=tube.spillover, draw=draw)


def compare_masks(paths: Sequence[Path]) -> None:
    """Every population of every file, event by event."""
    loaded, document = load_template(str(TEMPLATE)), tomllib.loads(TEMPLATE.read_text())
    n_tests = n_different = 0
    for path in paths:
        theirs = flowkit_loop.gate(path, document)
        for population in gate(path, loaded, draw=False).populations:
            n_tests += population.mask.size
            n_different += int((population.mask != theirs.get_gate_membership(population.id)).sum())
    print(f"memberships compared: {n_tests:,}; different: {n_different}")
    if n_different:
        sys.exit("the masks differ, so a comparison of speed would mean nothing")


def time_engines(paths: Sequence[Path]) -> None:
    """Read and gate, file by file, in this process, one thread, imports done: medians of the ratio by file."""
    loaded, document = load_template(str(TEMPLATE)), tomllib.loads(TEMPLATE.read_text())
    rows = []
    with threadpool_limits(1):
        for path in paths:
            calls = (
                lambda path=path: flowkit_loop.gate(path, document),
                lambda path=path: gate(path, loaded, draw=False),
                lambda path=path: gate(path, loaded, draw=True),
            )
            rows.append([_seconds(call) for call in calls])
    print("\nengine alone, per file, one thread (median over files)")
    for name, at in (("FlowKit Sample + gate_sample", 0), ("tregflow, counts", 1), ("tregflow, with histograms", 2)):
        ratio = statistics.median(row[0] / row[at] for row in rows)
        print(f"  {name:<28} {1000 * statistics.median(row[at] for row in rows):8.1f} ms   {ratio:5.1f}x")


def time_processes(sides: dict[str, Callable[[], list[str]]], pairs: int) -> None:
    """Whole processes, start to exit, alternated."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, command in sides.items():
            arguments = command()
            seconds[name].append(_seconds(lambda arguments=arguments: _run(arguments)))
    base = seconds["FlowKit loop"]
    print(f"\nwhole process, {pairs} rounds (median; ratio by round: median, lowest, highest)")
    for name, values in seconds.items():
        ratios = sorted(theirs / ours for theirs, ours in zip(base, values, strict=True))
        spread = f"{statistics.median(ratios):5.1f}x  ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        print(f"  {name:<28} {statistics.median(values):8.2f} s    {spread}")


def weigh_processes(sides: dict[str, Callable[[], list[str]]]) -> None:
    """Peak memory of all processes of a run together."""
    peaks = {name: _peak_mib(command()) for name, command in sides.items()}
    print("\npeak resident memory, summed over the processes of a run")
    for name, peak in peaks.items():
        print(f"  {name:<28} {peak:8.0f} MiB  1/{peaks['FlowKit loop'] / peak:.1f}")


def _loop(script: str, batch: Path) -> Callable[[], list[str]]:
    return lambda: [sys.executable, str(HERE / script), str(TEMPLATE), str(batch)]


def _tregflow(batch: Path, results: Path, options: Sequence[str]) -> Callable[[], list[str]]:
    """Each run gets a folder of its own: an existing one would be resumed, and nothing gated."""
    numbered: Iterator[int] = iter(range(10**6))
    start = [sys.executable, "-m", "tregflow.cli", "gate", str(batch), "--template", str(TEMPLATE), *options]
    return lambda: [*start, "--out", f"{results}{next(numbered)}"]


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def _run(arguments: Sequence[str]) -> None:
    process = _start(arguments)
    _, messages = process.communicate()
    if process.returncode != 0:
        sys.exit(f"exit code {process.returncode}: {' '.join(arguments)}\n{messages.decode()}")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak_mib(arguments: Sequence[str]) -> float:
    process = _start(arguments)
    done = threading.Event()
    threading.Thread(target=lambda: (process.communicate(), done.set()), daemon=True).start()
    peaks: dict[int, int] = {}
    while not done.wait(0.01):
        for pid in _family(process.pid):
            peaks[pid] = max(peaks.get(pid, 0), _peak_kib(pid))
    return sum(peaks.values()) / 1024


def _family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    try:
        listed = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it ended meanwhile
        return
    for child in (int(number) for numbers in listed for number in numbers):
        yield from _family(child)


def _peak_kib(pid: int) -> int:
    """The most that a process had in memory so far."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    main()
