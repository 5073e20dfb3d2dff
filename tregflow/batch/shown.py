"""One tube by itself as a record: for showing a template's gates on it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tregflow.batch.tube import TubeTask, process_tube
from tregflow.errors import BatchError, Finding
from tregflow.record import sha256_file
from tregflow.study import ManifestRow
from tregflow.template.model import RangeGate

if TYPE_CHECKING:
    from tregflow.record import TubeRecord
    from tregflow.template.registry import LoadedTemplate


def shown_record(path: Path, template: LoadedTemplate) -> TubeRecord:
    """Gate a tube outside any batch, as a run would; cuts that tubes share are placed on this one alone.

    Raises
    ------
    BatchError
        `FILE_MISSING`, `FILE_UNREADABLE`, or the code of what keeps the tube from being gated.
    """
    if not path.is_file():
        raise BatchError("FILE_MISSING", f"{path.name} is not there.")
    try:
        digest = sha256_file(path)
    except OSError as error:
        raise BatchError("FILE_UNREADABLE", f"{path.name}: {error.strerror or error}.") from error
    shared = [g.id for g in template.template.gates if isinstance(g, RangeGate) and g.place and g.place.share != "tube"]
    alone = f"{', '.join(shared)}: shared by {template.name} between tubes, placed here on {path.name} alone."
    remedy = "Look in the batch's report for the cuts that its tubes share."
    known = (*template.findings, *([Finding("PLACEMENT_ALONE", "review", alone, remedy=remedy)] if shared else []))
    with TemporaryDirectory() as folder:
        results = Path(folder)
        for name in ("samples", "gates"):
            (results / name).mkdir()
        row = ManifestRow(path.name)
        outcome = process_tube(TubeTask(row, path.stem, path.parent, results, digest, template, known))
    record = outcome.record
    failed = next((f for f in record.findings if f.severity == "fail"), None)
    if failed is not None:
        raise BatchError(failed.code, f"{path.name}: {failed.message}", remedy=failed.remedy)
    return record
