"""A template written as TOML: it reads back as the same template, and says what it is told to say."""

from __future__ import annotations

import pytest
from support import ROOT

from tregflow.template.loading import load_template_file, parse_template, template_sha256
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
    assert max(map(len, text.splitlines())) <= 120 + 24  # a line of the description, a marker with many aliases


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
