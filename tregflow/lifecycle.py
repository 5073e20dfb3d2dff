"""The life of a template in a laboratory's own folder: new, released, retired, flagged; each step in a ledger.

The folder is `gating_templates/` with `<id>/<version>.toml`, `registry.toml` (content hash and status of what was
released) and `ledger.jsonl` (who did what when, hash-chained). The registry is what a run reads, and it must be what
the ledger says. What is shipped with tregflow is never written; a laboratory retires or flags it in its own registry.
"""

from __future__ import annotations

import getpass
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit
from filelock import FileLock, Timeout

from tregflow.atomic import write_atomic
from tregflow.errors import TemplateError
from tregflow.record import Ledger, read_ledger
from tregflow.template.diff import Difference, TemplateDiff, diff_templates
from tregflow.template.drafting import FIRST, blank_text, draft_text, next_draft, released_text
from tregflow.template.loading import read_template
from tregflow.template.registry import (
    FOLDER,
    REGISTRY,
    find_templates,
    list_templates,
    load_template,
    read_registry,
    template_file,
    templates_folder,
)
from tregflow.template.semver import PARTS, Version, enough, parse_version, step
from tregflow.template.text import read_text
from tregflow.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tregflow.template.loading import ReadTemplate
    from tregflow.template.registry import LoadedTemplate, RegistryEntry
    from tregflow.template.semver import Part

LEDGER = "ledger.jsonl"
_PATIENCE = 10  # seconds that a command waits for another one to end
_ACTIONS = ("released", "retired", "flagged")
_HEAD = """# Released versions and the SHA-256 of their canonical content, as `tregflow template release`, `retire`
# and `flag` write them, and ledger.jsonl with them. A released file is immutable; what is not listed is a draft.
"""


@dataclass(frozen=True, slots=True)
class Release:
    """A release that was made: its file, hash, and what it was compared with."""

    path: Path
    name: str
    sha256: str
    earlier: str
    diff: TemplateDiff


def working_folder(named: Path | None, start: Path, beside: Path | None = None) -> Path:
    """The folder to write templates in: the one named, the nearest own one, or a new one beside the study file.

    Raises
    ------
    TemplateError
        `TEMPLATE_READ_ONLY`: it would be the folder that is shipped. In a source tree it can be named.
    """
    inside = Path(__file__).resolve().parent / FOLDER
    folder = named or find_templates(start) or (beside or start).resolve() / FOLDER
    shipped = templates_folder().resolve()
    if folder.resolve() in {shipped, inside} and (named is None or folder.resolve() == inside):
        raise TemplateError("TEMPLATE_READ_ONLY", f"{folder.name} is what is shipped with tregflow.")
    return folder


def new_template(
    folder: Path, template_id: str | None = None, *, came_from: str | None = None, part: Part = "minor"
) -> Path:
    """Write a new draft and return its path.

    Parameters
    ----------
    folder
        The laboratory's own templates; made if it is not there.
    template_id
        Its id, by default that of `came_from`.
    came_from
        The template that the draft begins as, named as for `load_template`; without one it begins blank.
    part
        Which part of the highest release the draft is to move.

    Raises
    ------
    TemplateError
        `TEMPLATE_INVALID` where the id cannot be one, `TEMPLATE_EXISTS`, `TEMPLATE_CANNOT_WRITE`.
    """
    origin = None if came_from is None else load_template(came_from, own=_own(folder))
    template_id = template_id or ("new-template" if origin is None else origin.template.id)
    known = [name.partition("@") for name in list_templates(own=folder)]
    versions = [version for other, _, version in known if other == template_id]
    version = next_draft(versions, part) if versions else FIRST
    if came_from is None or origin is None:
        draft = blank_text(template_id, version)
    else:
        words = f"{origin.name} ({origin.sha256[:16]}...)"
        text = read_text(template_file(came_from, own=folder))
        draft = draft_text(text, template_id=template_id, version=version, came_from=words)
    read_template(draft, f"{version}.toml")  # an id that is no id ends here, before it is a path
    path = folder / template_id / f"{version}.toml"
    with _held(folder):
        if path.exists():
            raise TemplateError("TEMPLATE_EXISTS", f"{path.parent.name}/{path.name} is there.")
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, draft.encode())
    return path


def release_template(folder: Path, name: str, *, version: str | None = None) -> Release:
    """Release a draft: its content is fixed, and its hash goes into the registry.

    Parameters
    ----------
    name
        `id@version` of a draft in the folder, or the path of a draft anywhere.
    version
        What it is released as; by default the draft's version without what stands behind the hyphen.

    Raises
    ------
    TemplateError
        `TEMPLATE_STATUS` (it is released already), `TEMPLATE_NO_CHANGELOG`, `TEMPLATE_VERSION` (too low for what
        changed since the highest release below it), `TEMPLATE_EXISTS` (another file has its place), or what is wrong
        in the template. Nothing is written then.
    """
    draft, text = _draft(folder, name)
    final = draft.template.version.partition("-")[0] if version is None else version
    number = parse_version(final)
    if number is None or number.pre:
        message = f"{final!r} cannot be released; expected three numbers without leading zeros, such as 1.2.0."
        raise TemplateError("TEMPLATE_VERSION", message)
    text = released_text(text, final)
    read = read_template(text, f"{final}.toml")
    check_folder(folder, doing=("released", f"{read.template.id}@{final}"))
    _refuse_released(folder, read)
    _refuse_without_changelog(read)
    earlier, diff = _compare(folder, read, number)
    target = folder / read.template.id / f"{final}.toml"
    with _held(folder) as ledger:
        if target.exists() and read_text(target) != text:
            raise TemplateError("TEMPLATE_EXISTS", f"{target.parent.name}/{target.name} is there with other content.")
        target.parent.mkdir(exist_ok=True)
        write_atomic(target, text.encode())
        about = {"compared_with": earlier, "demand": diff.demand, "draft": draft.name, "draft_sha256": draft.sha256}
        released = {"id": read.template.id, "version": final, "sha256": read.sha256, "status": "released"}
        _note(folder, ledger, released, about)
    return Release(target, f"{read.template.id}@{final}", read.sha256, earlier, diff)


def retire_template(folder: Path, name: str, *, reason: str = "") -> LoadedTemplate:
    """Mark a released version as replaced; it still runs and says so. `TEMPLATE_STATUS` where it is no release."""
    return _mark(folder, name, "retired", reason)


def flag_template(folder: Path, name: str, *, reason: str) -> LoadedTemplate:
    """Mark a released version as faulty: every run with it warns, with the reason. A flag stays.

    Raises
    ------
    TemplateError
        `TEMPLATE_STATUS`: it is no release, or no reason was given.
    """
    if not reason.strip():
        raise TemplateError("TEMPLATE_STATUS", f"{name} cannot be flagged without a reason.")
    return _mark(folder, name, "flagged", reason.strip())


def check_folder(folder: Path, *, doing: tuple[str, str] | None = None) -> None:
    """See that registry and ledger of a laboratory's own folder agree; one without a ledger has nothing to check.

    Parameters
    ----------
    doing
        Action and template of a step that is about to be made: where just this step was cut off after its line in the
        ledger, it can be made again.

    Raises
    ------
    TemplateError
        `TEMPLATE_LEDGER`: the registry is not what the ledger says.
    BatchError
        `LEDGER_BROKEN`.
    """
    if not (folder / LEDGER).is_file():
        return
    said: dict[str, dict[str, Any]] = {}
    before: dict[str, dict[str, Any] | None] = {}
    for entry in read_ledger(folder / LEDGER):
        if entry.get("action") in _ACTIONS:
            name = entry["template"]
            before[name] = said.get(name)
            said[name] = {"status": entry["action"], "sha256": entry["sha256"], "reason": entry["reason"]}
    listed = {
        f"{e.id}@{e.version}": {"status": e.status, "sha256": e.sha256, "reason": e.reason}
        for e in read_registry(folder).template
    }
    if doing is not None and doing[0] == said.get(doing[1], {}).get("status"):
        name = doing[1]
        if listed.get(name) == before[name]:
            earlier = before[name]
            said = {k: v for k, v in said.items() if k != name} | ({name: earlier} if earlier else {})
    wrong = [
        f"{name}: the ledger says {_words(said.get(name))}, {REGISTRY} {_words(listed.get(name))}"
        for name in sorted({*said, *listed})
        if said.get(name) != listed.get(name)
    ]
    if wrong:
        raise TemplateError("TEMPLATE_LEDGER", f"{'; '.join(wrong)}.", wrong=tuple(wrong))


def _words(state: dict[str, Any] | None) -> str:
    if state is None:
        return "nothing"
    return f"{state['status']} {state['sha256'][:16]}..." + (f" ({state['reason']})" if state["reason"] else "")


# --- steps of a release ----------------------------------------------------------------------------------------------


def _draft(folder: Path, name: str) -> tuple[LoadedTemplate, str]:
    """A draft and its text."""
    loaded = load_template(name, own=_own(folder))
    if loaded.status != "draft":
        raise TemplateError("TEMPLATE_STATUS", f"{loaded.name} is {loaded.status}; only a draft can be released.")
    return loaded, read_text(template_file(name, own=folder))


def _own(folder: Path) -> Path | None:
    """The folder, once it is one of templates."""
    return folder if (folder / REGISTRY).is_file() else None


def _refuse_released(folder: Path, read: ReadTemplate) -> None:
    template = read.template
    for place in (templates_folder(), folder):
        entry = read_registry(place).find(template.id, template.version) if _own(place) else None
        if entry is not None:
            message = f"{template.id}@{template.version} is {entry.status}, with content {entry.sha256[:16]}...."
            raise TemplateError("TEMPLATE_STATUS", message, released=entry.sha256, found=read.sha256)


def _refuse_without_changelog(read: ReadTemplate) -> None:
    template = read.template
    said = [entry.numbers for entry in template.changelog if entry.version == template.version]
    if not any(numbers.strip() for numbers in said):
        message = f"the changelog entry of {template.id}@{template.version} has no `numbers`."
        raise TemplateError("TEMPLATE_NO_CHANGELOG", message)


def _compare(folder: Path, read: ReadTemplate, number: Version) -> tuple[str, TemplateDiff]:
    """The highest release below the new version, and what changed since; the version must be far enough above it."""
    template = read.template
    released = sorted(_releases(folder, template.id), key=lambda v: v.numbers)
    if not released:
        return "", TemplateDiff(())
    lower = [version for version in released if version.numbers < number.numbers]
    if not lower:
        message = f"{template.id}@{number} is below every release ({', '.join(map(str, released))})."
        raise TemplateError("TEMPLATE_VERSION", message)
    earlier = f"{template.id}@{lower[-1]}"
    diff = diff_templates(load_template(earlier, own=_own(folder)).template, template)
    if not enough(lower[-1], number, diff.demand):
        taken = step(lower[-1], number)
        grave = [d for d in diff.differences if PARTS.index(d.part) > PARTS.index(taken)]
        listing = "".join(f"\n  - {difference_words(d)}" for d in grave)
        raise TemplateError(
            "TEMPLATE_VERSION",
            f"{template.id}@{number} is a step of {taken.upper()} above {earlier}, and what changed demands "
            f"{diff.demand.upper()}, that is {lower[-1].after(diff.demand)} or higher:{listing}\n",
            demand=diff.demand,
            at_least=str(lower[-1].after(diff.demand)),
        )
    return earlier, diff


def difference_words(difference: Difference) -> str:
    """One line: what changed, from what to what, what it demands and why."""
    values = {
        "changed": f"{_shown(difference.before)} -> {_shown(difference.after)}",
        "added": f"added {_shown(difference.after)}",
        "removed": f"removed {_shown(difference.before)}",
    }[difference.what]
    note = f" ({difference.note})" if difference.note else ""
    demand = "" if difference.part == "none" else f": {difference.part.upper()}, {difference.why}"
    return f"{difference.where}: {values}{note}{demand}"


def _shown(value: object, most: int = 100) -> str:
    text = f"{value:g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _releases(folder: Path, template_id: str) -> Sequence[Version]:
    """All versions of an id that were ever released, retired and flagged ones included."""
    entries: list[RegistryEntry] = []
    for place in (templates_folder(), folder):
        if _own(place):
            entries += read_registry(place).template
    versions = {entry.version for entry in entries if entry.id == template_id}
    return [version for text in versions if (version := parse_version(text)) is not None]


# --- marks -----------------------------------------------------------------------------------------------------------


def _mark(folder: Path, name: str, status: str, reason: str) -> LoadedTemplate:
    """Give a release another status, in the laboratory's own registry whoever released it."""
    loaded = load_template(name, own=_own(folder))
    check_folder(folder, doing=(status, loaded.name))
    allowed = {"retired": {"released"}, "flagged": {"released", "retired", "flagged"}}[status]
    if loaded.status not in allowed:
        wanted = "a release" if loaded.status == "draft" else " or ".join(sorted(allowed))
        message = f"{loaded.name} is {loaded.status}; expected {wanted} to be {status}."
        raise TemplateError("TEMPLATE_STATUS", message)
    template = loaded.template
    marked = {"id": template.id, "version": template.version, "sha256": loaded.sha256, "status": status}
    with _held(folder) as ledger:
        _note(folder, ledger, marked | ({"reason": reason} if reason else {}), {})
    return load_template(name, own=folder)


@contextmanager
def _held(folder: Path) -> Iterator[Ledger]:
    """The folder, held against other commands while it is changed; made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / f".{REGISTRY}.lock"
        with FileLock(lock, timeout=_PATIENCE):
            try:
                if not (folder / REGISTRY).exists():
                    write_atomic(folder / REGISTRY, _HEAD.encode())
                yield Ledger(folder / LEDGER)
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise TemplateError("TEMPLATE_CANNOT_WRITE", f"{folder.name} is being written by another command.") from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise TemplateError("TEMPLATE_CANNOT_WRITE", f"{folder.name}: {why}.") from error


def _note(folder: Path, ledger: Ledger, entry: dict[str, str], about: dict[str, str]) -> None:
    """The ledger first, then the registry: what is cut off between the two is seen, and can be done again."""
    document = tomlkit.parse((folder / REGISTRY).read_text(encoding="utf-8-sig"))
    ledger.append(
        {
            "action": entry["status"],
            "template": f"{entry['id']}@{entry['version']}",
            "sha256": entry["sha256"],
            "reason": entry.get("reason", ""),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "user": getpass.getuser(),
            "host": platform.node(),
            "tregflow": __version__,
            **about,
        }
    )
    tables = document.setdefault("template", tomlkit.aot())
    same = [t for t in tables if (t["id"], t["version"]) == (entry["id"], entry["version"])]
    if same:
        same[0].update(entry)
    else:
        table = tomlkit.table()
        table.update(entry)
        table.trivia.indent = "\n"
        tables.append(table)
    write_atomic(folder / REGISTRY, tomlkit.dumps(document).encode())
