"""The results folder to be verified, opened without trusting it: what cannot be read is a problem, not an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tregflow.batch import read_run
from tregflow.batch.origin import find_source
from tregflow.errors import VerifyError
from tregflow.record import read_record
from tregflow.verify.model import Problem

if TYPE_CHECKING:
    from tregflow.record import TubeRecord

_NEEDED: Mapping[str, type] = {
    "template": str,
    "template_sha256": str,
    "tubes": list,
    "batch": dict,
    "baseline": list,
    "findings": list,
    "template_content": dict,
    "dependencies": dict,
}


@dataclass(frozen=True, slots=True)
class Results:
    """A results folder: `run.json`, the records that can be read, and where the tubes lie now (None: not found).

    `unread` are tubes whose record is missing or cannot be read, with the problem.
    """

    folder: Path
    run: Mapping[str, Any]
    records: Mapping[str, TubeRecord]
    unread: Mapping[str, Problem]
    batch: Path | None

    def file_of(self, record: TubeRecord) -> Path | None:
        """The FCS file of a tube where it is found."""
        path = None if self.batch is None else self.batch / record.tube.file
        return path if path is not None and path.is_file() else None

    def export_of(self, tube: str) -> Path:
        """Where the tube's gates are exported to."""
        return self.folder / "gates" / f"{tube}.gating-ml.xml"


def open_results(folder: Path, batch: Path | None = None) -> Results:
    """Open a results folder.

    Parameters
    ----------
    batch
        Where the FCS files lie; None looks where they were when the run was made, or as they lay beside the results.

    Raises
    ------
    VerifyError
        `VERIFY_NOT_RESULTS`: there is no `run.json` with tubes, or it is older than verification.
    """
    run = read_run(folder)
    if run is None:
        raise VerifyError("VERIFY_NOT_RESULTS", f"{folder} has no run.json that can be read.")
    if wrong := [name for name, kind in _NEEDED.items() if not isinstance(run.get(name), kind)]:
        raise VerifyError("VERIFY_NOT_RESULTS", f"run.json of {folder.name} lacks {', '.join(wrong)}.")
    if not run["tubes"] or any(not isinstance(name, str) or Path(name).name != name for name in run["tubes"]):
        raise VerifyError("VERIFY_NOT_RESULTS", f"run.json of {folder.name} lists no tubes that can be.")
    if batch is not None and not batch.is_dir():
        raise VerifyError("VERIFY_NOT_RESULTS", f"--batch {batch} is not a folder.", remedy="Check its path.")
    records: dict[str, TubeRecord] = {}
    unread: dict[str, Problem] = {}
    for name in run["tubes"]:
        found = _read(folder, name)
        if isinstance(found, Problem):
            unread[name] = found
        else:
            records[name] = found
    return Results(folder, run, records, unread, batch or find_source(run["batch"], folder))


def _read(folder: Path, name: str) -> TubeRecord | Problem:
    file = f"samples/{name}.json"
    try:
        record = read_record(folder / file)
    except OSError as error:
        message = f"the record of {name} cannot be read: {error.strerror or error}"
        return Problem("VERIFY_RECORD", message, file, name, "", "a tube record", "none")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        message = f"the record of {name} is none: {place}: {first['msg']}"
        return Problem("VERIFY_RECORD", message, file, name, place, "a tube record", str(first["msg"]))
    if record.tube.tube != name:
        message = f"the record of {name} is of another tube"
        return Problem("VERIFY_RECORD", message, file, name, "tube", name, record.tube.tube)
    return record
