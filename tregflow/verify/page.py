"""A certificate on disk: JSON for programs, one page of HTML for people, which opens offline and prints on a sheet."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from tregflow.atomic import write_atomic
from tregflow.errors import BatchError

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment

    from tregflow.verify.model import Certificate

SCHEMA_VERSION = 1


def write_certificate(certificate: Certificate, folder: Path) -> tuple[Path, Path]:
    """Write `certificate.html` and `certificate.json` into a folder, each atomically; gives their paths.

    The same certificate gives the same bytes.

    Raises
    ------
    BatchError
        `RUN_CANNOT_WRITE`.
    """
    return write_pages(folder, "certificate", certificate_html(certificate), certificate_json(certificate))


def write_pages(folder: Path, name: str, page: str, data: bytes) -> tuple[Path, Path]:
    """Write `<name>.html` and `<name>.json` atomically; `RUN_CANNOT_WRITE` where the disk refuses."""
    pages = folder / f"{name}.html", folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in zip(pages, (page.encode(), data), strict=True):
            write_atomic(path, content)
    except OSError as error:
        why = error.strerror or str(error)
        remedy = "Check permissions and free space, or choose another folder with --out."
        raise BatchError("RUN_CANNOT_WRITE", f"{folder}: {why}.", remedy=remedy) from error
    return pages


def certificate_json(certificate: Certificate) -> bytes:
    """The certificate for programs."""
    verdict = {"schema_version": SCHEMA_VERSION, "verdict": "failed" if certificate.exit_code else "agrees"}
    checks = [
        {
            **asdict(check),
            "verdict": check.verdict,
            "problems": [{**asdict(p), "remedy": p.remedy} for p in check.problems],
        }
        for check in certificate.checks
    ]
    document = {**verdict, **asdict(certificate), "checks": checks}
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def certificate_html(certificate: Certificate) -> str:
    """The certificate for people."""
    shown = [t for t in certificate.tubes if t.gated or t.n_problems]
    return (
        environment("tregflow.verify")
        .get_template("certificate.html.jinja")
        .render(
            c=certificate,
            verdict=verdict(certificate),
            shown=shown,
            others=[t for t in certificate.tubes if not (t.gated or t.n_problems)],
        )
    )


def verdict(certificate: Certificate) -> str:
    """The certificate in a sentence or two."""
    n = len(certificate.problems)
    if n:
        things = "1 thing does" if n == 1 else f"{n:,} things do"
        return f"NOT CONFIRMED: {things} not agree. Do not use these results before it is known why."
    tubes = [t for t in certificate.tubes if t.populations]
    if not tubes:
        return "CONFIRMED: everything was found as recorded. No tube has gates, so there was nothing to gate again."
    return (
        f"CONFIRMED: everything was found as recorded, and FlowKit finds the same events in "
        f"{sum(len(t.populations) for t in tubes):,} populations of {len(tubes)} tubes."
    )


def environment(*packages: str) -> Environment:
    """Templates of these packages, everything escaped; a name that is not given is an error."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only pages need it

    made = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["count"] = lambda n: "" if n is None else f"{n:,}"
    return made
