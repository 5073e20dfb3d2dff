"""A template written as TOML: it reads back as the same template, and says what it is told to say."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ROOT
from templates import documents, template_of, with_changelog

from tregflow.template.loading import canonical_json, load_template_file, parse_template, template_sha256
from tregflow.template.positions import Positions
from tregflow.template.writing import save_template

SHIPPED = sorted((ROOT / "gating_templates").glob("*/*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_template_is_written_and_read_back(path) -> None:
    template = load_template_file(path)
    text = save_template(template)
    again = parse_template(text, "again.toml")
    assert again == template
    assert template_sha256(again) == template_sha256(template)
    assert save_template(again) == text
    words = ("numbers = ", "text = ")  # of the changelog: one line, however long
    # a line of the description, a marker with many aliases
    assert max(len(line) for line in text.splitlines() if not line.startswith(words)) <= 120 + 24


def test_comments_stand_above_what_they_are_about() -> None:
    template = load_template_file(ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml")
    comments = {
        (): "Imported from a workspace.\nLook at everything.",
        ("panel", "CD3"): "named CD3 there",
        ("compensation",): "assumed",
        ("gates", "cd4"): "a gate",
        ("gates", "cd25_pos", "place", "k"): "a key of its rule",
        ("qc",): "none there",
    }
    lines = save_template(template, comments).splitlines()
    assert lines[:4] == ["# Imported from a workspace.", "# Look at everything.", "", "schema_version = 1"]
    for text, below in [
        ("# named CD3 there", 'CD3 = { aliases = ["CD3"], kind = "fluorescence" }'),
        ("# assumed", "[compensation]"),
        ("# a gate", "[[gates]]"),
        ("# a key of its rule", "k = 4"),
        ("# none there", "[qc.pct_of_parent]"),
    ]:
        assert lines[lines.index(text) + 1] == below
    assert parse_template("\n".join(lines), "x") == template


def test_a_comment_that_would_be_lost_is_refused() -> None:
    template = load_template_file(SHIPPED[0])
    with pytest.raises(KeyError, match="no line for a comment on \\('gates', 'cd5'\\)"):
        save_template(template, {("gates", "cd5"): "gone"})


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_what_is_written_reads_back_as_the_same_template(document: dict[str, Any]) -> None:
    template = template_of(document)
    text = save_template(template)
    again = parse_template(text, "again.toml")
    assert again == template
    assert template_sha256(again) == template_sha256(template)
    assert save_template(again) == text
    assert json.loads(canonical_json(again.model_dump(mode="json"))) == json.loads(
        canonical_json(template.model_dump(mode="json"))
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents(), st.data())
def test_every_place_of_a_text_has_its_line(document: dict[str, Any], data: st.DataObject) -> None:
    """Of the writer's layout and of tomlkit's: the line of a key is where the key is written."""
    template = template_of(document)
    text = data.draw(st.sampled_from([save_template(template), tomlkit.dumps(with_changelog(document))]))
    positions, lines = Positions(text), text.split("\n")
    for place in places(tomllib.loads(text)):
        line = positions.line(place)
        assert line is not None, place
        assert positions.known(place) == place
        name = next(part for part in reversed(place) if isinstance(part, str))
        spelled = {name, json.dumps(name), json.dumps(name, ensure_ascii=False), f"'{name}'"}
        around = "\n".join(lines[max(line - 30, 0) : line])  # an item of a list stands below its key
        assert any(word in (lines[line - 1] if isinstance(place[-1], str) else around) for word in spelled), place


def test_positions_in_every_way_that_toml_has_to_write_a_key() -> None:
    text = "\n".join(
        [
            "# a comment with [brackets] = 1",
            'a.b = { c = 1, "d e" = [1, [2, 3]] } # { not = "this" }',
            "'lit.eral' = '''",
            "[not] a = 'table' ''''",
            '"esc\\u00e9" = """\\',
            '  x = 1 \\""" y """""',
            "[t . u]",
            "v = [ # in a list",
            "  { w = '#' },",
            "  1979-05-27T07:32:00Z,",
            "]",
            "[[t.n]]",
            "k = 1",
            "[[t.n]]",
            "k = 2",
            "[t.n.deep]",
            "k = 3",
        ]
    )
    document = tomllib.loads(text)
    positions = Positions(text)
    assert {place: positions.line(place) for place in places(document)} == {
        ("a",): 2, ("a", "b"): 2, ("a", "b", "c"): 2, ("a", "b", "d e"): 2, ("a", "b", "d e", 0): 2,
        ("a", "b", "d e", 1): 2, ("a", "b", "d e", 1, 0): 2, ("a", "b", "d e", 1, 1): 2,
        ("lit.eral",): 3, ("escé",): 5, ("t",): 7, ("t", "u"): 7, ("t", "u", "v"): 8, ("t", "u", "v", 0): 9,
        ("t", "u", "v", 0, "w"): 9, ("t", "u", "v", 1): 10, ("t", "n"): 12, ("t", "n", 0): 12, ("t", "n", 0, "k"): 13,
        ("t", "n", 1): 14, ("t", "n", 1, "k"): 15, ("t", "n", 1, "deep"): 16, ("t", "n", 1, "deep", "k"): 17,
    }  # fmt: skip
    assert positions.line(("t", "u", "absent")) == 7
    assert positions.line(("absent",)) is None


def places(value: object, *above: int | str) -> Iterator[tuple[int | str, ...]]:
    """Every place of a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, deeper in inside:
        yield (*above, part)
        yield from places(deeper, *above, part)
