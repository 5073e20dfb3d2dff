"""Where templates are found, and which content each released version has."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tregflow.errors import Finding, TemplateError, not_utf8
from tregflow.template.loading import read_template_file
from tregflow.template.model import Strict, Template
from tregflow.template.reasons import reason

LifeCycle = Literal["draft", "released", "retired", "flagged"]
Source = Literal["shipped", "own"]
FOLDER, REGISTRY = "gating_templates", "registry.toml"
_STATUS_CODES = {"draft": "TEMPLATE_DRAFT", "retired": "TEMPLATE_RETIRED", "flagged": "TEMPLATE_FLAGGED"}
GRAVITY: tuple[LifeCycle, ...] = ("draft", "released", "retired", "flagged")


class RegistryEntry(Strict):
    """A released version and the SHA-256 of its canonical content."""

    id: str
    version: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    status: Literal["released", "retired", "flagged"] = "released"
    reason: str = ""

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.status == "flagged" and not self.reason:
            raise ValueError("a flagged version needs a reason")
        return self


class Registry(Strict):
    """`gating_templates/registry.toml`."""

    template: tuple[RegistryEntry, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [f"{e.id}@{e.version}" for e in self.template]
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"listed more than once: {', '.join(repeated)}")
        return self

    def find(self, template_id: str, version: str) -> RegistryEntry | None:
        """The entry of a version, None for one that was never released."""
        return next((e for e in self.template if (e.id, e.version) == (template_id, version)), None)


@dataclass(frozen=True, slots=True)
class LoadedTemplate:
    """A template with its content hash and life-cycle status; `source` says which folder's registry gave the status."""

    template: Template
    sha256: str
    status: LifeCycle
    reason: str = ""
    source: Source = "shipped"

    @property
    def name(self) -> str:
        """`id@version`, as a person types it."""
        return f"{self.template.id}@{self.template.version}"

    @property
    def mark(self) -> str:
        """The status in capitals, as everything made with the template says it; empty for a release."""
        return "" if self.status == "released" else self.status.upper()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What stands on every tube that is gated with a draft, a retired or a flagged template."""
        if self.status == "released":
            return ()
        reason = f" ({self.reason})" if self.reason else ""
        return (Finding(_STATUS_CODES[self.status], "review", f"{self.name} is {self.mark}{reason}."),)


def templates_folder() -> Path:
    """The shipped templates: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / FOLDER, package.parent / FOLDER):
        if (folder / REGISTRY).is_file():
            return folder
    raise TemplateError("TEMPLATE_FOLDER_MISSING", "no gating_templates/registry.toml beside or inside the package.")


def find_templates(start: Path) -> Path | None:
    """The laboratory's own templates: the nearest `gating_templates/` with a registry, in a folder or above it.

    It lies beside `study.toml`, or above several studies. The shipped folder is never the laboratory's own.
    """
    for place in (start.resolve(), *start.resolve().parents):
        folder = place / FOLDER
        if (folder / REGISTRY).is_file():
            return None if folder == templates_folder().resolve() else folder
    return None


def read_registry(folder: Path) -> Registry:
    """The registry of a template folder; `TEMPLATE_REGISTRY_INVALID` where it cannot be used."""
    path = folder / REGISTRY
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return Registry.model_validate_json(json.dumps(document, default=str))
    except OSError as error:
        why = error.strerror or type(error).__name__
    except ValidationError as error:
        why = "; ".join(f"{', '.join(map(str, e['loc'])) or 'registry'}: {reason(e)}" for e in error.errors())
    except UnicodeDecodeError as error:
        why = f"it is {not_utf8(error)}"
    except tomllib.TOMLDecodeError as error:
        why = f"it is not TOML: {error}"
    raise TemplateError("TEMPLATE_REGISTRY_INVALID", f"{path.name} cannot be used: {why}.", file=path.name)


def list_templates(folder: Path | None = None, own: Path | None = None) -> tuple[str, ...]:
    """`id@version` of every template that is shipped or in the laboratory's own folder, sorted."""
    folders = [templates_folder() if folder is None else folder, *([own] if own is not None else [])]
    return tuple(sorted({f"{path.parent.name}@{path.stem}" for place in folders for path in place.glob("*/*.toml")}))


def load_template(name: str, folder: Path | None = None, *, own: Path | None = None) -> LoadedTemplate:
    """Load `id@version` from the shipped or the laboratory's own templates, or a path ending in `.toml`.

    A file that is in a registry must have the registered content, wherever it lies; one that is in none is a draft.
    A version may be in both folders with the same content only; of two statuses the graver one counts, so that a
    laboratory can flag or retire a shipped template for itself.

    Parameters
    ----------
    folder
        Used instead of the shipped templates.
    own
        The laboratory's own templates (`find_templates`).

    Raises
    ------
    TemplateError
        `TEMPLATE_UNKNOWN` with the list of what there is, `TEMPLATE_CHANGED` or `TEMPLATE_TWICE` with both hashes, or
        what is wrong in the file (see `read_template`).
    """
    shipped = templates_folder() if folder is None else folder
    path, source = _file(name, shipped, own)
    if own is None and (path.resolve().parent.parent / REGISTRY).is_file():
        own = path.resolve().parent.parent  # a file that lies in a template folder has the status that it has there
    read = read_template_file(path)
    template = read.template
    if not name.endswith(".toml") and f"{template.id}@{template.version}" != name:
        raise TemplateError(
            "TEMPLATE_CHANGED",
            f"{path.parent.name}/{path.name} calls itself {template.id}@{template.version}.",
            name=name,
        )
    loaded = LoadedTemplate(template, read.sha256, "draft", source=source)
    folders: tuple[tuple[Source, Path | None], ...] = (("shipped", shipped), ("own", own))
    for registered, place in folders:
        entry = None if place is None else read_registry(place).find(template.id, template.version)
        if entry is None:
            continue
        if entry.sha256 != read.sha256:
            raise TemplateError(
                "TEMPLATE_CHANGED",
                f"{template.id} {template.version} was released with content {entry.sha256[:16]}..., "
                f"but {path.name} now has {read.sha256[:16]}....",
                released=entry.sha256,
                found=read.sha256,
            )
        if GRAVITY.index(entry.status) > GRAVITY.index(loaded.status):
            loaded = replace(loaded, status=entry.status, reason=entry.reason, source=registered)
    return loaded


def template_file(name: str, *, own: Path | None = None) -> Path:
    """The file of a template, named as for `load_template`."""
    return _file(name, templates_folder(), own)[0]


def _file(name: str, shipped: Path, own: Path | None) -> tuple[Path, Source]:
    """The file of a template, and whose it is."""
    if name.endswith(".toml"):
        path = Path(name)
        return path, "shipped" if path.resolve().is_relative_to(shipped.resolve()) else "own"
    known = list_templates(shipped, own)
    if name not in known:
        listing = ", ".join(known) or "none"
        raise TemplateError("TEMPLATE_UNKNOWN", f"there is no template '{name}'; there are: {listing}.", name=name)
    template_id, _, version = name.partition("@")
    files = [place / template_id / f"{version}.toml" for place in (shipped, own) if place is not None]
    there = [path for path in files if path.is_file()]
    if len(there) == 2 and (hashes := [read_template_file(path).sha256 for path in there])[0] != hashes[1]:
        raise TemplateError(
            "TEMPLATE_TWICE",
            f"{name} is shipped with tregflow with content {hashes[0][:16]}..., and the laboratory's own "
            f"{FOLDER}/ has one with {hashes[1][:16]}....",
            shipped=hashes[0],
            own=hashes[1],
        )
    return there[0], "shipped" if there[0] == files[0] else "own"
