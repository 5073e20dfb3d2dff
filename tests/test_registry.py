"""The shipped templates and the registry of what was released."""

from __future__ import annotations

import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from support import ROOT

from tregflow.errors import TemplateError
from tregflow.template import registry
from tregflow.template.model import build_transform
from tregflow.template.order import evaluation_order
from tregflow.template.registry import list_templates, load_template, read_registry, templates_folder

SHIPPED = sorted(f"{path.parent.name}@{path.stem}" for path in (ROOT / "gating_templates").glob("*/*.toml"))
NAME = "treg-foxp3-pbmc@0.1.0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped templates with nothing released."""
    target = tmp_path / "gating_templates"
    shutil.copytree(ROOT / "gating_templates", target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (target / "registry.toml").write_text("# nothing\n", encoding="utf-8")
    return target


def register(folder: Path, **entry: str) -> None:
    lines = "".join(f'{key} = "{value}"\n' for key, value in entry.items())
    with (folder / "registry.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n[[template]]\n{lines}")


def release(folder: Path, name: str = NAME, **more: str) -> str:
    """Register the content that the file has now."""
    template_id, _, version = name.partition("@")
    sha256 = load_template(name, folder).sha256
    register(folder, id=template_id, version=version, sha256=sha256, **more)
    return sha256


def edit(folder: Path, old: str, new: str, name: str = NAME) -> None:
    path = folder / name.partition("@")[0] / f"{name.partition('@')[2]}.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# --- the shipped templates ------------------------------------------------------------------------------------------


def test_there_are_shipped_templates() -> None:
    assert templates_folder() == ROOT / "gating_templates"
    assert list_templates() == tuple(SHIPPED)
    assert {name.partition("@")[0] for name in SHIPPED} >= {"treg-foxp3-pbmc", "treg-foxp3-aurora"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_template_loads_and_is_consistent(name: str) -> None:
    loaded = load_template(name)  # refuses a released template whose hash is not the registry's
    template = loaded.template
    assert loaded.name == name
    assert template.title
    assert template.description
    assert template.endpoint.numerator == "treg"
    assert [gate.id for gate in evaluation_order(template)]
    for spec in template.transforms.values():
        build_transform(spec)
    for gate in template.gates:
        assert gate.label, f"{gate.id} has no name for people"
    assert template.changelog[-1].version == template.version


def test_every_released_version_has_its_file() -> None:
    released = {f"{entry.id}@{entry.version}" for entry in read_registry(ROOT / "gating_templates").template}
    assert released <= set(SHIPPED)


def test_lymphocytes_and_t_cells_are_not_mixed_up() -> None:
    assert load_template(NAME).template.endpoint.denominator == "lymphocytes"
    aurora = load_template("treg-foxp3-aurora@0.1.0").template
    assert aurora.endpoint.denominator == "t_cells"
    assert "lymphocytes" not in {gate.id for gate in aurora.gates}


# --- loading by name and by path ------------------------------------------------------------------------------------


def test_what_is_not_registered_is_a_draft(folder: Path) -> None:
    assert load_template(NAME, folder).status == "draft"


@pytest.mark.parametrize("status", ["released", "retired", "flagged"])
def test_the_registry_gives_the_status(folder: Path, status: str) -> None:
    sha256 = release(folder, status=status, reason="the CD25 cut was too low")
    loaded = load_template(NAME, folder)
    assert (loaded.status, loaded.reason, loaded.sha256) == (status, "the CD25 cut was too low", sha256)


def test_a_released_template_may_change_its_comments_only(folder: Path) -> None:
    sha256 = release(folder)
    edit(folder, "[endpoint]", "# a comment\n\n[endpoint]  # another")
    assert load_template(NAME, folder).sha256 == sha256


def test_a_changed_released_template_is_refused_with_both_hashes(folder: Path) -> None:
    released = release(folder)
    edit(folder, "min_denominator_events = 5000", "min_denominator_events = 4999")
    with pytest.raises(
        TemplateError, match=r"TEMPLATE_CHANGED: treg-foxp3-pbmc 0.1.0 was released with content"
    ) as caught:
        load_template(NAME, folder)
    error = caught.value
    assert error.data["released"] == released
    found = str(error.data["found"])
    assert found != released
    assert len(found) == 64
    assert released[:16] in str(error)
    assert found[:16] in str(error)
    assert str(error).endswith("Restore the released file; a change needs a new version.")


def test_a_path_loads_a_draft_from_anywhere(folder: Path, tmp_path: Path) -> None:
    release(folder)
    edit(folder, 'version = "0.1.0"', 'version = "0.2.0-try.1"')
    edit(folder, '[[changelog]]\nversion = "0.1.0"', '[[changelog]]\nversion = "0.2.0-try.1"')
    mine = tmp_path / "mine.toml"
    shutil.move(folder / "treg-foxp3-pbmc" / "0.1.0.toml", mine)
    loaded = load_template(str(mine), folder)
    assert (loaded.status, loaded.name) == ("draft", "treg-foxp3-pbmc@0.2.0-try.1")


def test_a_path_to_a_copy_of_a_released_version_must_have_its_content(folder: Path, tmp_path: Path) -> None:
    release(folder)
    copy = tmp_path / "copy.toml"
    shutil.copy(folder / "treg-foxp3-pbmc" / "0.1.0.toml", copy)
    assert load_template(str(copy), folder).status == "released"
    copy.write_text(copy.read_text(encoding="utf-8").replace("k = 4", "k = 3"), encoding="utf-8")
    with pytest.raises(TemplateError, match=r"TEMPLATE_CHANGED: .* but copy.toml now has"):
        load_template(str(copy), folder)


def test_a_file_must_be_what_its_name_says(folder: Path) -> None:
    (folder / "treg-foxp3-pbmc" / "0.1.0.toml").rename(folder / "treg-foxp3-pbmc" / "9.9.9.toml")
    with pytest.raises(
        TemplateError, match=r"TEMPLATE_CHANGED: treg-foxp3-pbmc/9.9.9.toml calls itself treg-foxp3-pbmc@0.1.0\."
    ):
        load_template("treg-foxp3-pbmc@9.9.9", folder)


@pytest.mark.parametrize(
    "name",
    ["treg-foxp3-pbmc", "treg-foxp3-pbmc@9.0.0", "nothing@0.1.0", "../gating_templates/treg-foxp3-pbmc@0.1.0", ""],
)
def test_an_unknown_name_is_refused_with_what_there_is(name: str, folder: Path) -> None:
    with pytest.raises(
        TemplateError,
        match=rf"TEMPLATE_UNKNOWN: there is no template '.*'; there are: {', '.join(SHIPPED)}\.",
    ):
        load_template(name, folder)


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"TEMPLATE_UNREADABLE: absent.toml cannot be read"):
        load_template(str(tmp_path / "absent.toml"))


# --- the registry itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[[template]\n", "it is not TOML: Expected"),
        (b"\xff\xfe", "it is not UTF-8 text .byte 0xFF in line 1, column 1"),
        (b"colour = 1\n", "colour: unknown key"),
        (b"when = 2024-01-01\n", "when: unknown key"),
        (
            b'[[template]]\nid = "a"\nversion = "1.0.0"\nsha256 = "abc"\n',
            "template, 0, sha256: expected a SHA-256 of 64 hex.*; found 'abc'",
        ),
        (b'[[template]]\nid = "a"\nversion = "1.0.0"\n', "template, 0, sha256: required, and not there"),
        (
            b'[[template]]\nid = "a"\nversion = "1.0.0"\nstatus = "flagged"\nsha256 = "' + b"0" * 64 + b'"\n',
            "a flagged version needs a reason",
        ),
        (
            (b'[[template]]\nid = "a"\nversion = "1.0.0"\nsha256 = "' + b"0" * 64 + b'"\n') * 2,
            "listed more than once: a@1.0.0",
        ),
    ],
)
def test_a_registry_that_cannot_be_used(content: bytes, reason: str, folder: Path) -> None:
    (folder / "registry.toml").write_bytes(content)
    with pytest.raises(TemplateError, match=f"TEMPLATE_REGISTRY_INVALID: registry.toml cannot be used: .*{reason}"):
        load_template(NAME, folder)


def test_a_missing_registry_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(
        TemplateError, match=r"TEMPLATE_REGISTRY_INVALID: registry.toml cannot be used: No such"
    ) as caught:
        read_registry(tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_an_installation_without_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "tregflow" / "template" / "registry.py"))
    with pytest.raises(
        TemplateError, match=r"TEMPLATE_FOLDER_MISSING: no gating_templates/registry.toml beside or inside"
    ):
        load_template(NAME)


def test_templates_are_found_inside_an_installed_package_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "tregflow" / "gating_templates")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "tregflow" / "template" / "registry.py"))
    assert templates_folder() == tmp_path / "tregflow" / "gating_templates"
    assert load_template(NAME).status == "draft"


def test_a_loaded_template_cannot_be_changed(folder: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        load_template(NAME, folder).status = "released"  # type: ignore[misc]
