"""One tube: its bytes, its raw values, its gates and its events, each by another way. This is what a worker does."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tregflow.batch.convert import geometry_record
from tregflow.batch.single import gate as gate_again
from tregflow.errors import TregflowError
from tregflow.fcs import read_fcs
from tregflow.record import sha256_file
from tregflow.verify.engines import compare_events, flowkit_masks
from tregflow.verify.exports import check_export
from tregflow.verify.model import Problem, TubeFound
from tregflow.verify.readers import cross_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from tregflow.gating import GatingResult
    from tregflow.record import GateRecord, TubeRecord
    from tregflow.template.registry import LoadedTemplate

_SAME_CUT = 2e-6  # placed coordinates are rounded to 6 decimals; another processor may round the last one otherwise
_SAME_MEDIAN = 1e-6


@dataclass(frozen=True, slots=True)
class TubeToVerify:
    """What a worker needs: the record, where the file lies (None: not found), the export, and the run's template.

    `owners` are the recorded hashes of all tubes, by hash, so that a swapped file is told by its name.
    """

    record: TubeRecord
    path: Path | None
    export: Path
    template: LoadedTemplate | None
    owners: Mapping[str, str]


def verify_tube(task: TubeToVerify) -> TubeFound:
    """Verify one tube; gives back figures and problems, never events."""
    record = task.record
    problems: dict[str, tuple[Problem, ...]] = {"inputs": tuple(_input(task))}
    found = TubeFound(record.tube.tube, record.tube.role, record.status, record.n_events, bool(record.gates))
    document = None
    if record.gates:
        document, problems["exports"] = check_export(record, task.export)
    path = None if problems["inputs"] or not record.file_sha256 else task.path
    if path is None or record.n_events is None:
        return replace(found, problems=problems)
    try:
        file = read_fcs(path)
    except TregflowError as error:
        return replace(found, problems={**problems, "raw": (_unreadable(task, error),)})
    reader, why, problems["raw"] = cross_read(file, path, record.tube.tube)
    del file
    found = replace(found, cross_reader=reader, why=why)
    if not record.gates or task.template is None:
        return replace(found, problems=problems)
    return _gated(task, path, document, found, problems)


def _gated(
    task: TubeToVerify,
    path: Path,
    document: bytes | None,
    found: TubeFound,
    problems: dict[str, tuple[Problem, ...]],
) -> TubeFound:
    """Gate the tube again by our engine and by FlowKit, and compare both with the record."""
    record, name = task.record, task.record.tube.tube
    again = [g for g in record.gates if _placed_alone(g)]
    kept = [g for g in record.gates if g.placement is not None and not _placed_alone(g)]
    try:
        result, problems["gates"] = _gate_again(task, path)
    except (TregflowError, ValueError, KeyError, TypeError) as error:
        # a record that was edited can hold gates, channels or a matrix that cannot be
        message = f"{name} cannot be gated again from its record: {error}"
        file = f"samples/{name}.json"
        problems["gates"] = (Problem("VERIFY_RECORD", message, file, name, "", "the run's counts", "none"),)
        return replace(found, problems=problems)
    problems["counts"] = tuple(_counts(record, result))
    theirs: dict[str, NDArray[np.bool_]] | str = "its exported gates cannot be read"
    if document is not None:
        try:
            theirs = flowkit_masks(document, path)
        except Exception as error:  # noqa: BLE001 - whatever FlowKit fails with, there is no second opinion
            theirs = f"{type(error).__name__}: {error}"
    agreements, problems["events"] = compare_events(record, result, theirs)
    left_out = max((a.n_left_out or 0 for a in agreements), default=0)
    notes = (f"{name}: {left_out:,} events with a value that is not finite were not compared",) if left_out else ()
    return replace(
        found,
        populations=agreements,
        n_placed_again=len(again),
        n_as_recorded=len(kept),
        problems=problems,
        notes={"events": notes},
    )


def _input(task: TubeToVerify) -> Iterator[Problem]:
    """The file's bytes against the record; a tube that the run could not read has no hash to compare with."""
    record, path = task.record, task.path
    name, tube = record.tube.file, record.tube.tube
    if record.gates and (not record.file_sha256 or record.n_events is None):
        message = f"the record of {tube} has gates, but no hash or no events of its file"
        yield Problem("VERIFY_RECORD", message, f"samples/{tube}.json", tube, "file_sha256", "a hash", "none")
        return
    if not record.file_sha256:
        return
    if path is None:
        yield Problem("VERIFY_FILE_MISSING", f"{name} is not found", name, tube, "", record.file_sha256, "no file")
        return
    try:
        found = sha256_file(path)
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror or error}"
        yield Problem("VERIFY_FILE_MISSING", message, name, tube, "", record.file_sha256, "unreadable")
        return
    if found != record.file_sha256:
        owner = task.owners.get(found)
        what = f"holds the bytes of {owner}" if owner else "is not the file that was gated"
        yield Problem("VERIFY_FILE_CHANGED", f"{name} {what}", name, tube, "SHA-256", record.file_sha256, found)


def _unreadable(task: TubeToVerify, error: TregflowError) -> Problem:
    message = f"{task.record.tube.file} was read by the run and cannot be now: {error.code}: {error.message}"
    return Problem("VERIFY_RAW_VALUES", message, task.record.tube.file, task.record.tube.tube, "", "events", error.code)


def _placed_alone(gate: GateRecord) -> bool:
    """Whether a rule placed the gate on this tube's own events, so that it can be placed again without another tube."""
    used = gate.placement
    return used is not None and (used.status, used.share) == ("placed", "tube") and used.rule != "fmo_quantile"


def _gate_again(task: TubeToVerify, path: Path) -> tuple[GatingResult, tuple[Problem, ...]]:
    """Our engine on the tube, and where its gates are not the record's.

    Cuts that a rule placed on this tube alone are placed again, fixed gates come from the template, and shared cuts
    from the record: so a gate that was moved in the record shows even where everything else was moved with it.
    """
    record, template = task.record, task.template
    if template is None:
        raise TypeError("a tube is gated again by its template")
    free = [g.model_copy(update={"placement": None}) if _placed_alone(g) else g for g in record.gates]
    result = gate_again(path, template, record=record.model_copy(update={"gates": tuple(free)}))
    problems = tuple(_gates(record, result))
    if not problems and any(_placed_alone(g) for g in record.gates):
        # to the last bit as in the record: what is compared event by event is what the record says
        result = gate_again(path, template, record=record)
    return result, problems


def _gates(record: TubeRecord, result: GatingResult) -> Iterator[Problem]:
    tube, file = record.tube.tube, f"samples/{record.tube.tube}.json"
    placed = {g.id: g for g in result.gates}
    if list(placed) != [g.id for g in record.gates]:
        message = f"the record of {tube} does not hold the gates of the template"
        expected, found = ", ".join(placed), ", ".join(g.id for g in record.gates)
        yield Problem("VERIFY_GATE", message, file, tube, "gates", expected, found)
        return
    for gate in record.gates:
        now = placed[gate.id]
        shape = geometry_record(now.geometry, now.operands)
        if not _alike(shape, gate.geometry):
            by = "its rule puts it on this tube" if _placed_alone(gate) else "the template puts it"
            message = f"{gate.id} of {tube} is not where {by}"
            yield Problem("VERIFY_GATE", message, file, tube, gate.id, _short(shape), _short(gate.geometry))
        channels = [(d.pnn, d.compensated) for d in gate.dimensions]
        if [(d.channel, d.compensated) for d in now.dimensions] != channels or now.parent != gate.parent:
            message = f"{gate.id} of {tube} is on other channels, or in another parent, than the template says"
            expected = ", ".join(f"{d.channel}" for d in now.dimensions)
            found = ", ".join(pnn for pnn, _ in channels)
            yield Problem("VERIFY_GATE", message, file, tube, gate.id, expected, found)


def _alike(left: object, right: object) -> bool:
    """Equal but for the last decimal of a coordinate."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_alike(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_alike, left, right))
    if isinstance(left, float | int) and isinstance(right, float | int) and not isinstance(left, bool):
        return math.isclose(left, right, rel_tol=1e-12, abs_tol=_SAME_CUT)
    return left == right


def _short(shape: object) -> str:
    text = str(shape)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _counts(record: TubeRecord, result: GatingResult) -> Iterator[Problem]:
    """Recorded counts and medians against those of gating again."""
    tube, file = record.tube.tube, f"samples/{record.tube.tube}.json"
    if record.n_events != result.n_events:
        message = f"the record of {tube} has another number of events"
        yield Problem("VERIFY_RECORD", message, file, tube, "n_events", str(result.n_events), str(record.n_events))
    now = {p.id: p for p in result.populations}
    if list(now) != [p.id for p in record.populations]:
        message = f"the record of {tube} does not hold the populations of the template"
        listed = ", ".join(p.id for p in record.populations)
        yield Problem("VERIFY_RECORD", message, file, tube, "populations", ", ".join(now), listed)
        return
    for population in record.populations:
        name, again = population.id, now[population.id]
        for part in ("parent", "n_events", "n_non_finite"):
            expected, found = getattr(again, part), getattr(population, part)
            if expected != found:
                message = f"{part} of {name} in the record of {tube} is not what gating it again gives"
                place = f"{name}, {part}"
                yield Problem("VERIFY_RECORD", message, file, tube, place, str(expected), str(found))
        medians = result.mfi.get(name, {})
        for marker in dict.fromkeys([*medians, *population.mfi]):
            expected, found = medians.get(marker), population.mfi.get(marker)
            if not _same_median(expected, found):
                message = f"the median {marker} of {name} in the record of {tube} is not what gating it again gives"
                place = f"{name}, mfi_{marker}"
                yield Problem("VERIFY_RECORD", message, file, tube, place, repr(expected), repr(found))


def _same_median(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=_SAME_MEDIAN)
