"""What `run.json` keeps of a run's inputs, so that the run can be verified where it lies, or where it was moved to."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tregflow.record import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tregflow.batch.plan import Plan


def sources_of(plan: Plan, results: Path) -> dict[str, Any]:
    """Where the tubes, the manifest and their names came from, what was known before, and the template's whole content.

    A template may be a draft that is edited after the run, or one that the next installation does not have.
    """
    manifest = None
    if plan.manifest is not None:
        manifest = {**_place(plan.manifest, results), "sha256": sha256_file(plan.manifest)}
    return {
        "batch": _place(plan.batch, results),
        "manifest": manifest,
        "tubes": list(plan.names),
        "baseline": sorted(plan.baseline),
        "findings": [asdict(finding) for finding in plan.findings],
        "template_content": plan.template.template.model_dump(mode="json", exclude_defaults=True),
    }


def find_source(place: Mapping[str, str], results: Path) -> Path | None:
    """The folder or file of a run, where it was, or as it lay beside the results if both were moved; else None."""
    candidates = [Path(place["path"])]
    if place["from_results"]:
        candidates.append(results / place["from_results"])
    return next((path for path in candidates if path.exists()), None)


def _place(path: Path, results: Path) -> dict[str, str]:
    absolute = path.resolve()
    try:
        relative = Path(os.path.relpath(absolute, results.resolve())).as_posix()
    except ValueError:  # another drive
        relative = ""
    return {"path": absolute.as_posix(), "from_results": relative}
