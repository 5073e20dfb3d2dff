"""Where templates are found, and which content each released version has."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tregflow.errors import TemplateError, not_utf8
from tregflow.template.loading import load_template_file, template_sha256
from tregflow.template.model import Strict, Template
from tregflow.template.reasons import reason

LifeCycle = Literal["draft", "released", "retired", "flagged"]


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
    """A template with its content hash and life-cycle status."""

    template: Template
    sha256: str
    status: LifeCycle
    reason: str = ""

    @property
    def name(self) -> str:
        """`id@version`, as a person types it."""
        return f"{self.template.id}@{self.template.version}"


def templates_folder() -> Path:
    """The shipped templates: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "gating_templates", package.parent / "gating_templates"):
        if (folder / "registry.toml").is_file():
            return folder
    raise TemplateError("TEMPLATE_FOLDER_MISSING", "no gating_templates/registry.toml beside or inside the package.")


def read_registry(folder: Path) -> Registry:
    """The registry of a template folder; `TEMPLATE_REGISTRY_INVALID` where it cannot be used."""
    path = folder / "registry.toml"
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


def list_templates(folder: Path | None = None) -> tuple[str, ...]:
    """`id@version` of every template in the folder, sorted."""
    folder = templates_folder() if folder is None else folder
    return tuple(sorted(f"{path.parent.name}@{path.stem}" for path in folder.glob("*/*.toml")))


def load_template(name: str, folder: Path | None = None) -> LoadedTemplate:
    """Load `id@version` from the shipped templates, or a template from a path ending in `.toml`.

    A file that is in the registry must have the registered content, wherever it lies; one that is not is a draft.

    Raises
    ------
    TemplateError
        `TEMPLATE_UNKNOWN` with the list of what there is, `TEMPLATE_CHANGED` with both hashes, or what is wrong in
        the file (see `parse_template`).
    """
    folder = templates_folder() if folder is None else folder
    if name.endswith(".toml"):
        path = Path(name)
    else:
        path = folder / name.partition("@")[0] / f"{name.partition('@')[2]}.toml"
        if name not in list_templates(folder):
            known = ", ".join(list_templates(folder)) or "none"
            raise TemplateError("TEMPLATE_UNKNOWN", f"there is no template '{name}'; there are: {known}.", name=name)
    template = load_template_file(path)
    if not name.endswith(".toml") and f"{template.id}@{template.version}" != name:
        raise TemplateError(
            "TEMPLATE_CHANGED",
            f"{path.parent.name}/{path.name} calls itself {template.id}@{template.version}.",
            name=name,
        )
    sha256 = template_sha256(template)
    entry = read_registry(folder).find(template.id, template.version)
    if entry is None:
        return LoadedTemplate(template, sha256, "draft")
    if entry.sha256 != sha256:
        raise TemplateError(
            "TEMPLATE_CHANGED",
            f"{template.id} {template.version} was released with content {entry.sha256[:16]}..., "
            f"but {path.name} now has {sha256[:16]}....",
            released=entry.sha256,
            found=sha256,
        )
    return LoadedTemplate(template, sha256, entry.status, entry.reason)
