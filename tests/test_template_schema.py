"""Schemas of template files: a kept example of each with its counts, and what becomes of a file when one is added."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field
from support import ROOT

import tregflow as tf
from tregflow.errors import TemplateError
from tregflow.template import loading, schema
from tregflow.template.loading import read_template_file
from tregflow.template.model import SCHEMA_VERSION, Template
from tregflow.template.registry import LoadedTemplate
from tregflow.template.schema import PAST, PastSchema, migrated

KEPT = ROOT / "tests" / "data" / "templates"
SAMPLE = ROOT / "sample_fcs"
PBMC = ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml"


def counts(path: Path, tube: str) -> tuple[str, dict[str, int]]:
    """The content hash of a template, and every population of a tube under it."""
    read = read_template_file(path)
    result = tf.gate(SAMPLE / tube, LoadedTemplate(read.template, read.sha256, "released"))
    return read.sha256, {population.id: population.n_events for population in result.populations}


def test_an_example_of_every_schema_is_kept() -> None:
    kept = {int(path.name.removeprefix("schema_")) for path in KEPT.glob("schema_*") if any(path.glob("*.toml"))}
    assert kept == set(range(1, SCHEMA_VERSION + 1))
    assert set(PAST) == set(range(1, SCHEMA_VERSION)), "every past schema has its model and its migration"


@pytest.mark.parametrize("path", sorted(KEPT.glob("*/*.toml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_kept_example_has_the_hash_and_the_counts_that_it_had(path: Path) -> None:
    kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert read_template_file(path).schema_version == int(path.parent.name.removeprefix("schema_"))
    assert counts(path, kept["tube"]) == (kept["sha256"], kept["counts"])


# --- the day a second schema comes ----------------------------------------------------------------------------------


class Second(Template):
    """A schema that says which assay a template is for, and calls the title a name."""

    schema_version: Annotated[int, Field(ge=2, le=2)]
    assay: str


def to_second(document: schema.Document) -> schema.Document:
    return {**document, "schema_version": 2, "assay": "PBMC"}


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(loading, "PAST", {1: PastSchema(Template, to_second)})
    monkeypatch.setattr(loading, "Template", Second)


@pytest.mark.usefixtures("second")
def test_what_was_released_stays_released_when_a_schema_comes() -> None:
    read = read_template_file(PBMC)
    assert read.schema_version == 1
    assert read.template.assay == "PBMC"
    loaded = tf.load_template("treg-foxp3-pbmc@0.1.0")  # the registered hash is of schema 1 and stays valid
    assert (loaded.status, loaded.sha256) == ("released", read.sha256)
    assert loaded.sha256 != loading.template_sha256(loaded.template)
    result = tf.gate(SAMPLE / "S01_W12_stained.fcs", loaded)
    assert (result["treg"].n_events, result["lymphocytes"].n_events) == (410, 24081)


@pytest.mark.usefixtures("second")
def test_a_file_of_an_older_schema_is_checked_and_never_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "0.1.0.toml"
    text = PBMC.read_text(encoding="utf-8")
    path.write_text(text.replace('denominator = "lymphocytes"', 'denominator = "cell"'), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(TemplateError, match=r"TEMPLATE_INVALID(.|\n)*line 11: endpoint: 'cell' is not a gate"):
        read_template_file(path)
    assert path.read_bytes() == before
    path.write_text(text.replace("llod_events", "llod"), encoding="utf-8")
    with pytest.raises(TemplateError, match=r"line 14: endpoint, llod: unknown key"):
        read_template_file(path)


def test_migrations_are_steps_of_one_and_change_nothing_that_they_are_given() -> None:
    document = {"schema_version": 1, "gates": [{"id": "a"}]}

    def rename(old: schema.Document) -> schema.Document:
        for gate in old["gates"]:
            gate["name"] = gate.pop("id")
        return {**old, "schema_version": 2}

    def leap(old: schema.Document) -> schema.Document:
        return {**old, "schema_version": 4}

    chain = {1: PastSchema(Template, rename), 2: PastSchema(Template, lambda old: {**old, "schema_version": 3})}
    assert migrated(document, chain) == {"schema_version": 3, "gates": [{"name": "a"}]}
    assert document == {"schema_version": 1, "gates": [{"id": "a"}]}
    with pytest.raises(ValueError, match="the migration of schema 2 leads to schema 4"):
        migrated(document, {**chain, 2: PastSchema(Template, leap)})
