"""The ledger, and every file of the results folder against the hashes that the ledger has of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tregflow.batch.folder import OUTPUTS, run_sha256
from tregflow.errors import BatchError
from tregflow.record import sha256_bytes, sha256_file, verify_ledger
from tregflow.verify.model import Check, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tregflow.verify.folder import Results

_FILE = "ledger.jsonl"
_OF_A_RUN = {"run_started", "tube_done", "run_ended"}


def check_ledger(results: Results) -> Check:
    """The chain is whole, its end is the one that `run.json` names, and `run.json` is the one that its end names.

    A ledger cut at a line is still a chain. What shows the cut is that `run.json` keeps the number of entries and the
    hash of the last; whoever edits `run.json` too changes the hash of it that the last entry holds.
    """
    entries, problems = _read(results.folder / _FILE)
    run = results.run
    if run.get("state") != "complete":
        message = f"the run is not complete: run.json says {run.get('state')}"
        problems.append(Problem("VERIFY_RUN_INCOMPLETE", message, "run.json", "", "state", "complete", _text(run)))
    elif not problems:
        problems += _end(results, entries)
    scope = f"{len(entries)} entries, last {_last(entries)[:16]}"
    later = [e for e in entries[_n_entries(run) :] if e.get("action") not in _OF_A_RUN]
    notes = (
        (f"{len(later)} later entries: {', '.join(sorted({str(e.get('action')) for e in later}))}",) if later else ()
    )
    return Check("ledger", "Ledger unbroken and complete", scope, tuple(problems), notes)


def check_files(results: Results) -> Check:
    """Every record, export, table and page is there with the bytes that the ledger has, and no other tube's."""
    entries, _ = _read(results.folder / _FILE)
    outputs: dict[str, str] = {}
    tubes: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if entry.get("action") == "run_started":
            outputs = {}  # written anew by each run
        outputs |= entry.get("outputs", {})
        if entry.get("action") == "tube_done":
            tubes[str(entry.get("tube"))] = entry
    problems: list[Problem] = []
    for name in results.run["tubes"]:
        problems += _tube(results, name, tubes.get(name))
    for name, expected in outputs.items():
        problems += _file(results.folder, name, expected)
    for path in _added(results, outputs):
        message = f"{path} is not of this run"
        problems.append(Problem("VERIFY_RESULT_CHANGED", message, path, "", "", "no such file", "a file"))
    scope = f"{len(results.run['tubes'])} tubes, {len(outputs)} tables and pages"
    return Check("files", "Results as they were written", scope, tuple(problems))


def ledger_head(results: Results) -> str:
    """The hash of the ledger's last line: to be kept elsewhere, it shows any later change."""
    return _last(_read(results.folder / _FILE)[0])


def _read(path: Path) -> tuple[list[Mapping[str, Any]], list[Problem]]:
    """The entries as far as they can be read, and what is wrong with the chain."""
    if not path.is_file():
        return [], [Problem("VERIFY_LEDGER", "there is no ledger", _FILE, "", "", "a ledger", "none")]
    data = path.read_bytes()
    problems = []
    try:
        verify_ledger(path)
    except BatchError as error:
        place = f"line {error.data['line']}"
        problems.append(
            Problem("VERIFY_LEDGER", error.message.removesuffix("."), _FILE, "", place, "a chain", "broken")
        )
    if data and not data.endswith(b"\n"):
        message = "the last line has no end: it was cut"
        problems.append(Problem("VERIFY_LEDGER", message, _FILE, "", "last line", "a whole line", "a part"))
    entries: list[Mapping[str, Any]] = []
    for line in data.removesuffix(b"\n").split(b"\n"):
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict):
            break
        entries.append({**entry, "_sha256": sha256_bytes(line)})
    return entries, problems


def _end(results: Results, entries: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    run = results.run
    n, expected = _n_entries(run), str(_ledger_of(run).get("sha256", ""))
    if len(entries) < n or not n:
        message = f"the ledger was cut: {n} entries when the run ended, {len(entries)} now"
        yield Problem("VERIFY_LEDGER", message, _FILE, "", "entries", str(n), str(len(entries)))
        return
    end = entries[n - 1]
    if end["_sha256"] != expected:
        message = f"entry {n} is not the one with which the run ended"
        yield Problem("VERIFY_LEDGER", message, _FILE, "", f"line {n}", expected, end["_sha256"])
        return
    found = run_sha256(run)
    if end.get("action") != "run_ended" or end.get("run_sha256") != found:
        message = "run.json is not what it was when the run ended"
        yield Problem(
            "VERIFY_RESULT_CHANGED", message, "run.json", "", "run_sha256", str(end.get("run_sha256", "")), found
        )
    for number, entry in enumerate(entries[n:], n + 1):
        if entry.get("action") in _OF_A_RUN:
            message = f"entry {number} is of a run that run.json does not tell of"
            found = str(entry["action"])
            yield Problem("VERIFY_LEDGER", message, _FILE, "", f"line {number}", "no later run", found)


def _tube(results: Results, name: str, entry: Mapping[str, Any] | None) -> Iterator[Problem]:
    if entry is None:
        message = f"the ledger has no entry for {name}"
        yield Problem("VERIFY_LEDGER", message, _FILE, name, "tube_done", "an entry", "none")
        return
    yield from _file(results.folder, f"samples/{name}.json", str(entry.get("record_sha256", "")), name)
    yield from _file(results.folder, f"gates/{name}.gating-ml.xml", str(entry.get("gates_sha256", "")), name)


def _file(folder: Path, name: str, expected: str, tube: str = "") -> Iterator[Problem]:
    path = folder / name
    found = sha256_file(path) if path.is_file() else ""
    if found == expected:
        return
    what = "is gone" if not found else "was added" if not expected else "was changed since it was written"
    yield Problem("VERIFY_RESULT_CHANGED", f"{name} {what}", name, tube, "SHA-256", expected or "none", found or "none")


def _added(results: Results, outputs: Mapping[str, str]) -> Iterator[str]:
    tubes = set(results.run["tubes"])
    for folder, suffix in (("samples", ".json"), ("gates", ".gating-ml.xml")):
        for path in sorted((results.folder / folder).glob("*")):
            if path.name.removesuffix(suffix) not in tubes or not path.name.endswith(suffix):
                yield f"{folder}/{path.name}"
    for name in OUTPUTS:
        if name not in outputs and (results.folder / name).exists() and outputs:
            yield name


def _n_entries(run: Mapping[str, Any]) -> int:
    n = _ledger_of(run).get("entries")
    return n if isinstance(n, int) else 0


def _ledger_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    named = run.get("ledger")
    return named if isinstance(named, dict) else {}


def _last(entries: Sequence[Mapping[str, Any]]) -> str:
    return str(entries[-1]["_sha256"]) if entries else ""


def _text(run: Mapping[str, Any]) -> str:
    return str(run.get("state", ""))
