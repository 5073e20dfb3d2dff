"""The installation record on disk: JSON for programs, one page of HTML for the laboratory's file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from tregflow.verify.page import SCHEMA_VERSION, environment, write_pages

if TYPE_CHECKING:
    from pathlib import Path

    from tregflow.selftest.run import Installation


def write_installation(installation: Installation, folder: Path) -> tuple[Path, Path]:
    """Write `installation.html` and `installation.json` into a folder; gives their paths, errors as a certificate."""
    return write_pages(folder, "installation", installation_html(installation), installation_json(installation))


def installation_json(installation: Installation) -> bytes:
    """The record for programs."""
    checks = [
        {**asdict(c), "verdict": c.verdict, "problems": [{**asdict(p), "remedy": p.remedy} for p in c.problems]}
        for c in installation.checks
    ]
    verdict = "failed" if installation.exit_code else "passed"
    document = {"schema_version": SCHEMA_VERSION, "verdict": verdict, **asdict(installation), "checks": checks}
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def installation_html(installation: Installation) -> str:
    """The record for people."""
    page = environment("tregflow.selftest", "tregflow.verify").get_template("installation.html.jinja")
    return page.render(i=installation, verdict=installation_verdict(installation))


def installation_verdict(installation: Installation) -> str:
    """The self-test in a sentence or two."""
    n = len(installation.problems)
    if n:
        return f"FAILED: {n:,} thing{'s' if n > 1 else ''} not as known. Do not use this installation."
    return "PASSED: this installation gives the known answers."
