"""Before the first tube: which template, which tubes, and what is already known of them."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tregflow.batch.tube import TubeTask
from tregflow.errors import BatchError, Finding, TregflowError
from tregflow.fcs import read_text
from tregflow.lifecycle import check_folder
from tregflow.record import sha256_file
from tregflow.sample import sample_from_text
from tregflow.study import (
    ManifestRow,
    duplicate_keys,
    find_manifest,
    find_study,
    infer_manifest,
    list_tubes,
    load_study,
    read_manifest,
    tube_names,
    tubes_below,
)
from tregflow.template.model import RangeGate, needs_baseline
from tregflow.template.panel import resolve_panel
from tregflow.template.registry import find_templates, list_templates, load_template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tregflow.study import StudyFile
    from tregflow.template.registry import LoadedTemplate


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch that can start: its template and its tubes in manifest order.

    `marks` are findings that stand on every tube (a draft marks everything it makes), `findings` those about the batch
    as a whole. `study_folder` holds `study.toml` and the placement registry, `baseline` are its baseline visits.
    `manifest` is the file that the rows were read from, None where they were inferred.
    """

    batch: Path
    template: LoadedTemplate
    rows: tuple[ManifestRow, ...]
    names: tuple[str, ...]
    inferred: bool
    marks: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    study_folder: Path | None = None
    baseline: frozenset[str] = frozenset()
    manifest: Path | None = None


def make_plan(
    batch: Path, template: str | None = None, manifest: Path | None = None, templates: Path | None = None
) -> Plan:
    """Decide on template and tubes.

    Parameters
    ----------
    batch
        Folder of FCS files.
    template
        `id@version` or a path ending in `.toml`; None takes the one pinned in `study.toml`.
    manifest
        Another manifest than the folder's own.
    templates
        The laboratory's own templates, by default the nearest `gating_templates/` in the batch folder or above it.

    Raises
    ------
    BatchError, StudyError, TemplateError
        The run cannot start; the message lists everything that is wrong with the manifest, study or template.
    """
    if not batch.is_dir():
        raise BatchError("BATCH_EMPTY", f"{batch} is not a folder.")
    study_path = find_study(batch)
    study = load_study(study_path) if study_path is not None else None
    own = find_templates(batch) if templates is None else templates
    if own is not None:
        check_folder(own)
    loaded = load_template(_template_name(batch, template, study, own), own=own)
    manifest = find_manifest(batch) if manifest is None else manifest
    if manifest is not None:
        rows, inferred = read_manifest(manifest), False
    else:
        rows, inferred = _infer(batch, study, loaded), True
    if not rows:
        raise BatchError("BATCH_EMPTY", f"{batch.name} has no tubes.")
    marks = _template_findings(loaded, study)
    findings = (*_unlisted(batch, rows), *_unnamed_batch(rows, loaded))
    folder, baseline = (
        (None, frozenset()) if study is None or study_path is None else (study_path.parent, study.baseline)
    )
    if (gates := needs_baseline(loaded.template)) and not baseline:
        raise BatchError(
            "STUDY_NO_BASELINE",
            f"{loaded.name} places {', '.join(gates)} on a subject's baseline tube, and "
            f"{'no study.toml was found' if study is None else 'study.toml names no baseline visit'}.",
        )
    return Plan(batch, loaded, rows, tube_names(rows), inferred, marks, findings, folder, baseline, manifest)


def make_tasks(plan: Plan, results: Path, jobs: int) -> tuple[TubeTask, ...]:
    """One task per manifest row, with the file's hash and what is wrong with the tube before it is opened."""

    def digest(row: ManifestRow) -> str | Finding:
        path = plan.batch / row.file
        if not path.is_file():
            return Finding("FILE_MISSING", "fail", f"{row.file} is not in the batch folder.")
        try:
            return sha256_file(path)
        except OSError as error:
            return Finding("FILE_UNREADABLE", "fail", f"{row.file}: {error.strerror or error}.")

    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        digests = list(pool.map(digest, plan.rows))
    known: dict[str, list[Finding]] = defaultdict(list)
    for name, found in zip(plan.names, digests, strict=True):
        if isinstance(found, Finding):
            known[name].append(found)
    hashes = {n: d for n, d in zip(plan.names, digests, strict=True) if isinstance(d, str)}
    _note_duplicates(plan, hashes, known)
    return tuple(
        TubeTask(row, name, plan.batch, results, hashes.get(name, ""), plan.template, (*plan.marks, *known[name]))
        for row, name in zip(plan.rows, plan.names, strict=True)
    )


def _note_duplicates(plan: Plan, hashes: dict[str, str], known: dict[str, list[Finding]]) -> None:
    """Which of two tubes is the right one nobody can know, so both get the code."""
    names = dict(zip(map(id, plan.rows), plan.names, strict=True))
    for rows in duplicate_keys(plan.rows).values():
        files = ", ".join(row.file for row in rows)
        subject = f"subject {rows[0].subject_id}, visit {rows[0].visit}, role {rows[0].role}"
        for row in rows:
            message = f"{subject}, replicate {row.replicate} is given {len(rows)} times: {files}."
            known[names[id(row)]].append(Finding("TUBE_DUPLICATE_KEY", "fail", message))
    by_hash: dict[str, list[str]] = defaultdict(list)
    for name, digest in hashes.items():
        by_hash[digest].append(name)
    for same in by_hash.values():
        if len(same) > 1:
            for name in same:
                message = f"the same bytes are {' and '.join(same)}."
                known[name].append(Finding("TUBE_DUPLICATE_BYTES", "fail", message))


def _template_name(batch: Path, template: str | None, study: StudyFile | None, own: Path | None) -> str:
    if template is not None:
        return template
    if study is not None and study.template is not None:
        return f"{study.template.id}@{study.template.version}"
    fitting = _fitting_templates(list_tubes(batch), own)
    listing = ", ".join(fitting) if fitting else f"none; there are {', '.join(list_templates(own=own))}"
    raise BatchError(
        "TEMPLATE_NOT_NAMED",
        f"{batch.name} has no study.toml with a template, and no --template was given. "
        f"Templates whose panel fits every readable tube: {listing}.",
    )


def _fitting_templates(tubes: Sequence[Path], own: Path | None) -> list[str]:
    """Templates whose markers are found in every tube that can be read."""
    samples = []
    for path in tubes:
        try:
            samples.append(sample_from_text(read_text(path)))
        except TregflowError:
            continue  # an unreadable tube says nothing about the panel; the run will name it
    fitting = []
    for name in list_templates(own=own) if samples else ():
        try:
            template = load_template(name, own=own).template
            for sample in samples:
                resolve_panel(template, sample)
        except TregflowError:
            continue  # that is the answer: it does not fit
        fitting.append(name)
    return fitting


def _infer(batch: Path, study: StudyFile | None, loaded: LoadedTemplate) -> tuple[ManifestRow, ...]:
    tubes = list_tubes(batch)
    if not tubes:
        below = tubes_below(batch)
        there = f" {below} lie in folders below it: name one of these, or write a manifest." if below else ""
        raise BatchError("BATCH_EMPTY", f"{batch.name} has no .fcs or .lmd file and no manifest.{there}")
    rules = study.tubes if study is not None and study.tubes is not None else loaded.template.tubes
    if rules.pattern is None and not rules.keywords:
        raise BatchError(
            "MANIFEST_MISSING",
            f"{batch.name} has no manifest.csv or manifest.xlsx, and neither study.toml nor {loaded.name} says how "
            "tubes are named.",
        )
    return infer_manifest(tubes, lambda path: read_text(path).keywords, rules, folder=batch)


def _unlisted(batch: Path, rows: tuple[ManifestRow, ...]) -> tuple[Finding, ...]:
    listed = {row.file for row in rows}
    extra = [p.relative_to(batch).as_posix() for p in list_tubes(batch, rows)]
    extra = [name for name in extra if name not in listed]
    if not extra:
        return ()
    return (Finding("FILE_UNLISTED", "review", f"not in the manifest: {', '.join(extra)}.", observed=str(len(extra))),)


def _unnamed_batch(rows: tuple[ManifestRow, ...], loaded: LoadedTemplate) -> tuple[Finding, ...]:
    """Tubes without a batch are taken as one, which decides whose cuts they share."""
    shared = [g.id for g in loaded.template.gates if isinstance(g, RangeGate) and g.place and g.place.share == "batch"]
    unnamed = [row for row in rows if row.role == "stained" and not row.batch_id]
    if not shared or len(unnamed) < 2:
        return ()
    message = (
        f"{len(unnamed)} stained tubes have no batch_id; they were taken as one batch and share {', '.join(shared)}."
    )
    return (Finding("BATCH_UNNAMED", "review", message, observed=str(len(unnamed))),)


def _template_findings(loaded: LoadedTemplate, study: StudyFile | None) -> tuple[Finding, ...]:
    found = [*loaded.findings]
    pin = study.template if study is not None else None
    if pin is not None and f"{pin.id}@{pin.version}" != loaded.name:
        message = f"study.toml pins {pin.id}@{pin.version}; this run used {loaded.name}."
        found.append(Finding("TEMPLATE_NOT_PINNED", "review", message))
    return tuple(found)
