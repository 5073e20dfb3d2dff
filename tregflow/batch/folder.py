"""The results folder: whose it is, who is writing it, and what it says of its run."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tregflow.atomic import write_atomic
from tregflow.errors import BatchError
from tregflow.record import sha256_bytes, sha256_file
from tregflow.template.loading import canonical_json
from tregflow.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger("tregflow")
FOLDERS = ("samples", "gates")
CERTIFICATE = "verify"
OUTPUTS = (
    "endpoint.csv",
    "endpoint.parquet",
    "endpoint.schema.json",
    "populations.csv",
    "findings.csv",
    "modes.csv",
    "manifest.inferred.csv",
    "report.html",
)
DEPENDENCIES = ("numpy", "scipy", "pydantic", "plotly", "pyarrow", "jinja2")


def refuse_inside(batch: Path, results: Path) -> None:
    """Data folders are never written to: `RUN_INSIDE_BATCH`."""
    if results.resolve().is_relative_to(batch.resolve()):
        raise BatchError(
            "RUN_INSIDE_BATCH", f"the results would go to {results.resolve()}, inside the batch {batch.resolve()}."
        )


@contextmanager
def claimed(results: Path) -> Iterator[None]:
    """Hold the folder for one run; what the disk refuses meanwhile is said in the run's own words.

    The lock lies beside the folder, hidden, and goes with the run.

    Raises
    ------
    BatchError
        `RUN_LOCKED`, `RUN_CANNOT_WRITE`.
    """
    path = results.parent / f".{results.name}.lock"
    try:
        results.mkdir(parents=True, exist_ok=True)  # says at once what cannot be made or reached
        with FileLock(path, timeout=0):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    except Timeout:
        raise BatchError("RUN_LOCKED", f"{results.name} is being written by another run.") from None
    except OSError as error:
        place = Path(error.filename).name if error.filename else results.name
        raise BatchError("RUN_CANNOT_WRITE", f"{place}: {error.strerror or error}.") from error


def prepare_folder(results: Path, run: dict[str, Any], *, overwrite: bool) -> None:
    """Make the folder, or check that it is this run's; with `overwrite`, clear another run's results first.

    What is not ours, and the ledger, stays.
    """
    earlier = read_run(results)
    _clear_parts(results)
    if results.is_dir() and earlier is None and any(results.iterdir()):
        raise BatchError("RUN_NOT_RESULTS", f"{results.resolve()} is not empty and has no run.json.")
    if earlier is not None and earlier.get("identity") != run["identity"]:
        if not overwrite:
            what = ", ".join(f"{k} {earlier.get(k)}" for k in ("template", "n_tubes", "started"))
            raise BatchError(
                "RUN_DIFFERENT",
                f"{results.name} holds a run of other files, another manifest, template or program version ({what}).",
            )
        for folder in (*FOLDERS, CERTIFICATE):  # a certificate of the results that go says nothing of those that come
            shutil.rmtree(results / folder, ignore_errors=True)
        for name in OUTPUTS:
            (results / name).unlink(missing_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    write_run(results, run | environment() | {"state": "running"})
    for folder in FOLDERS:
        (results / folder).mkdir(exist_ok=True)


def _clear_parts(results: Path) -> None:
    """Remove what a killed run left half-written; nobody else writes here while the folder is claimed."""
    for folder in (results, *(results / name for name in FOLDERS)):
        for part in folder.glob(".*.part"):
            part.unlink()


def read_run(results: Path) -> dict[str, Any] | None:
    """`run.json` of a results folder, None where there is none that can be read."""
    try:
        run = json.loads((results / "run.json").read_bytes())
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) else None


def write_run(results: Path, run: dict[str, Any]) -> None:
    """Write `run.json`."""
    write_atomic(results / "run.json", (json.dumps(run, indent=1, ensure_ascii=False) + "\n").encode())


def run_sha256(run: Mapping[str, Any]) -> str:
    """SHA-256 of what `run.json` says, but for what it says of the ledger, which is written after."""
    return sha256_bytes(canonical_json({key: value for key, value in run.items() if key != "ledger"}))


def hashes_of_outputs(results: Path) -> dict[str, str]:
    """SHA-256 of every table and page in a results folder, by name."""
    return {name: sha256_file(results / name) for name in OUTPUTS if (results / name).is_file()}


def environment() -> dict[str, Any]:
    """Program, Python, machine and library versions."""
    return {
        "tregflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "dependencies": {name: metadata.version(name) for name in DEPENDENCIES},
    }


@contextmanager
def log_to(path: Path) -> Iterator[None]:
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
