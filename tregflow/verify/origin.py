"""What the run stood on: the tubes of its manifest, its template, and the software."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tregflow.batch.folder import DEPENDENCIES
from tregflow.batch.origin import find_source
from tregflow.errors import StudyError, TemplateError
from tregflow.record import sha256_file
from tregflow.study import read_manifest, tube_names
from tregflow.template.loading import template_sha256
from tregflow.template.model import Template
from tregflow.template.registry import LoadedTemplate, load_template
from tregflow.verify.model import Check, Problem
from tregflow.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tregflow.study import ManifestRow
    from tregflow.verify.folder import Results

_ROW = ("file", "subject_id", "visit", "role", "replicate", "collected_at", "batch_id", "comment")
_SECOND = ("flowkit", "flowio", "flowutils", "fcsparser")


def check_rows(results: Results) -> Check:
    """A record for every tube of the manifest, in its order, saying of the tube what the manifest says."""
    problems = list(results.unread.values())
    run, notes = results.run, []
    listed = run.get("manifest")
    inferred = results.folder / "manifest.inferred.csv"
    path = _manifest(results, listed) if listed else inferred if inferred.is_file() else None
    if path is None:
        notes.append("the manifest is not found; the tubes are those that run.json lists")
    else:
        if listed and sha256_file(path) != listed["sha256"]:
            notes.append(f"{path.name} was changed since the run; its rows are compared as they are now")
        try:
            problems += _compare_rows(results, read_manifest(path), path.name)
        except StudyError as error:
            message = f"{path.name} cannot be read: {error.message}"
            problems.append(Problem("VERIFY_ROWS", message, path.name, "", "", "a manifest", error.code))
    where = "" if path is None else f" of {path.name}"
    return Check("rows", "A record for every row", f"{len(run['tubes'])} rows{where}", tuple(problems), tuple(notes))


def _manifest(results: Results, listed: Mapping[str, str]) -> Path | None:
    """Where the run's manifest is now: where it was, or in the batch folder that is given."""
    found = find_source(listed, results.folder)
    if found is None and results.batch is not None:
        beside = results.batch / PurePosixPath(listed["path"]).name
        found = beside if beside.is_file() else None
    return found


def _compare_rows(results: Results, rows: tuple[ManifestRow, ...], file: str) -> Iterator[Problem]:
    names = tube_names(rows)
    for name in results.run["tubes"]:
        if name not in names:
            yield Problem(
                "VERIFY_ROWS", f"{name} is in no row of {file}", file, name, "row", "no such tube", "a record"
            )
    for name, row in zip(names, rows, strict=True):
        record = results.records.get(name)
        if record is None:
            if name not in results.unread:
                yield Problem("VERIFY_ROWS", f"{name} of {file} has no record", file, name, "row", "a record", "none")
            continue
        for part in _ROW:
            expected, found = getattr(row, part), getattr(record.tube, part)
            if expected != found:
                message = f"{part} of {name} is not what {file} says"
                yield Problem("VERIFY_ROWS", message, f"samples/{name}.json", name, part, str(expected), str(found))


def check_template(results: Results) -> tuple[Check, LoadedTemplate | None]:
    """One template in all records, its content as they name it, and as it is registered here.

    Its content is the one that `run.json` keeps; None where that is not the one that the records name.
    """
    run, name = results.run, str(results.run["template"])
    problems = list(_in_records(results))
    template = None
    try:
        content = Template.model_validate_json(json.dumps(run["template_content"]))
        found = template_sha256(content)
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        message = f"run.json holds no template that can be: {first}"
        problems.append(Problem("VERIFY_TEMPLATE", message, "run.json", "", "template_content", "a template", "none"))
    else:
        if found != run["template_sha256"]:
            message = f"the content of {name} in run.json is not the one that the run names"
            expected = str(run["template_sha256"])
            problems.append(Problem("VERIFY_TEMPLATE", message, "run.json", "", "template_content", expected, found))
        else:
            statuses = {r.template.status for r in results.records.values()}
            template = LoadedTemplate(content, found, next(iter(statuses), "draft"))  # type: ignore[arg-type]
    registered, notes = _registered(results, name)
    scope = f"{name}, {str(run['template_sha256'])[:16]}"
    return Check("template", "Template as registered", scope, (*problems, *registered), notes), template


def _in_records(results: Results) -> Iterator[Problem]:
    expected = (str(results.run["template"]), str(results.run["template_sha256"]))
    for name, record in results.records.items():
        found = (f"{record.template.id}@{record.template.version}", record.template.sha256)
        if found != expected:
            message = f"{name} was gated by another template than the run"
            yield Problem(
                "VERIFY_TEMPLATE",
                message,
                f"samples/{name}.json",
                name,
                "template",
                " ".join(expected),
                " ".join(found),
            )


def _registered(results: Results, name: str) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """Whether the installation has the template with this content, and what has become of it."""
    sha256 = str(results.run["template_sha256"])
    if any(r.template.status == "draft" for r in results.records.values()):
        return (), (f"{name} was a DRAFT: no registered content to compare with",)
    try:
        known = load_template(name)
    except TemplateError as error:
        message = f"{name} cannot be confirmed: {error.code}: {error.message.rstrip('.')}"
        found = str(error.data.get("found", "none"))
        return (Problem("VERIFY_TEMPLATE", message, f"{name}.toml", "", "SHA-256", sha256, found),), ()
    if known.sha256 != sha256:
        message = f"{name} is registered with another content"
        return (Problem("VERIFY_TEMPLATE", message, f"{name}.toml", "", "SHA-256", known.sha256, sha256),), ()
    if known.status == "released":
        return (), ()
    reason = f": {known.reason}" if known.reason else ""
    return (), (f"{name} is now {known.status.upper()}{reason}",)


def check_software(results: Results) -> Check:
    """One version of tregflow made all records; what else is installed now than was then is said.

    Other versions are no failure: everything that they could change was made again here, and is compared.
    """
    run, problems, notes = results.run, [], []
    made_by = str(run.get("tregflow", ""))
    for name, record in results.records.items():
        if record.tregflow_version != made_by:
            message = f"{name} was gated by another tregflow than the run"
            file = f"samples/{name}.json"
            problems.append(
                Problem("VERIFY_SOFTWARE", message, file, name, "tregflow", made_by, record.tregflow_version)
            )
    then = {"tregflow": made_by, "Python": str(run.get("python", "")), **run["dependencies"]}
    now = {"tregflow": __version__, "Python": platform.python_version(), **_installed(tuple(run["dependencies"]))}
    notes += [f"{name}: {then[name]} then, {now[name]} now" for name in then if then[name] != now[name]]
    scope = ", ".join(f"{name} {version}" for name, version in list(then.items())[:4])
    return Check("software", "Software as recorded", scope, tuple(problems), tuple(notes))


def software() -> dict[str, str]:
    """What verifies, with its versions."""
    return {
        "tregflow": __version__,
        "Python": platform.python_version(),
        "platform": platform.platform(),
        **_installed((*DEPENDENCIES, *_SECOND)),
    }


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
