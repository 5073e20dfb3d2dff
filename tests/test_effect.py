"""What another template does to the numbers: known answers by hand, and the page that says them."""

from __future__ import annotations

import json

import pytest
from support import ROOT

from tregflow.report.change import Change, change_json, render_change, scatter_svg, summary, write_change
from tregflow.study import EndpointRow, ManifestRow, endpoint_row
from tregflow.study.effect import ChangeEffect, TubeEffect, change_effects, tube_effects
from tregflow.template.diff import diff_templates
from tregflow.template.loading import parse_template
from tregflow.template.registry import LoadedTemplate, load_template

TEXT = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text(encoding="utf-8")


class Used:
    id, version, sha256 = "treg-foxp3-pbmc", "0.1.0", "a" * 64
    numerator, denominator = "treg", "lymphocytes"


def row(
    subject: str, visit: str, n: int | None, of: int | None = 1000, codes: tuple[str, ...] = (), **more
) -> EndpointRow:
    tube = ManifestRow(
        f"{subject}_{visit}.fcs", subject, visit, more.get("role", "stained"), replicate=more.get("rep", 1)
    )
    status = more.get("status", "ok" if n is not None else "not_evaluable")
    whole, cd4 = (1000, 200) if n is not None else (None, None)
    counts = {"n_numerator": n, "n_denominator": whole, "n_cd4": cd4}
    codes = codes or (() if status in {"ok", "control"} else ("FCS_TRUNCATED",))
    return endpoint_row(
        tube, Used, tregflow_version="0.1.0", status=status, finding_codes=codes, file_sha256="b" * 64,
        n_events=5000 if n is not None else None, **counts,
    )  # fmt: skip


FMO = row("S3", "BL", None, role="fmo:CD25", status="control")
BEFORE = [
    row("S1", "BL", 10), row("S1", "W12", 12), row("S2", "BL", 20), row("S2", "W12", 30), row("S3", "BL", 10),
    row("S3", "W12", 10), row("S1", "BL", 99, rep=2), row("S4", "W12", 10), FMO,
]  # fmt: skip
AFTER = [
    row("S1", "BL", 14), row("S1", "W12", 12, codes=("NUMERATOR_LOW", "TEMPLATE_DRAFT"), status="review"),
    row("S2", "BL", 20), row("S2", "W12", None), row("S3", "BL", 10), row("S3", "W12", 10), row("S1", "BL", 99, rep=2),
    row("S4", "W12", 0), FMO,
]  # fmt: skip


@pytest.fixture
def tubes() -> tuple[TubeEffect, ...]:
    return tube_effects("B1", BEFORE, AFTER[::-1])


def test_tubes_are_paired_whatever_their_order(tubes: tuple[TubeEffect, ...]) -> None:
    assert [(t.subject_id, t.visit, t.replicate) for t in tubes] == [
        ("S1", "BL", 1), ("S1", "W12", 1), ("S2", "BL", 1), ("S2", "W12", 1), ("S3", "BL", 1), ("S3", "W12", 1),
        ("S1", "BL", 2), ("S4", "W12", 1),
    ]  # fmt: skip
    first, second, _, lost, same, *_, gone = tubes
    assert first.moved("n_numerator") == 4
    assert first.moved("endpoint_pct") == pytest.approx(0.4)
    assert first.moved("treg_pct_of_cd4") == pytest.approx(2)
    assert (first.crossed, first.same) == ((), False)
    assert second.crossed == ("now NUMERATOR_LOW",), "what is said of the template is no limit"
    assert lost.crossed == ("not evaluable any more", "now FCS_TRUNCATED")
    assert lost.moved("n_numerator") is None
    assert lost.moved("endpoint_pct") is None
    assert same.same
    assert gone.moved("endpoint_pct") == -1, "a true zero is a number"


def test_changes_from_baseline_by_hand(tubes: tuple[TubeEffect, ...]) -> None:
    rises, lost, still = change_effects(tubes, frozenset({"BL"}))
    assert (rises.subject_id, rises.baseline, rises.visit) == ("S1", "BL", "W12")
    assert (rises.before, rises.after) == (pytest.approx(0.2), pytest.approx(-0.2))
    assert rises.moved == pytest.approx(-0.4)
    assert (rises.cd4_before, rises.cd4_after) == (pytest.approx(1), pytest.approx(-1))
    assert rises.sign
    assert not rises.lost_or_won
    assert (lost.before, lost.after, lost.moved, lost.sign, lost.lost_or_won) == (
        pytest.approx(1),
        None,
        None,
        False,
        True,
    )
    assert (still.before, still.after, still.sign) == (0, 0, False)
    assert change_effects(tubes, frozenset()) == ()
    assert change_effects(tubes, frozenset({"SCR"})) == ()


def test_the_summary_begins_with_the_gravest(tubes: tuple[TubeEffect, ...]) -> None:
    changes = change_effects(tubes, frozenset({"BL"}))
    assert summary(tubes, changes) == [
        "The change from baseline has another sign in S1 W12.",
        "1 of 8 tubes not evaluable any more: S2 W12.",
        "2 of 8 tubes cross a limit or have another finding.",
        "The endpoint moves in 2 of 8 tubes, by -1.000 to +0.400 points (mean -0.086).",
        "The change from baseline moves by -0.400 to +0.000 points (mean -0.200; 2 changes).",
    ]
    same = tube_effects("B1", BEFORE, BEFORE)
    assert summary(same, ()) == ["Nothing moves: all counts and findings of 8 tubes are the same."]
    won = tube_effects("B1", AFTER[3:4], BEFORE[3:4])
    assert summary(won, ())[0] == "1 of 1 tubes evaluable now: S2 W12."


def change(tubes: tuple[TubeEffect, ...], changes: tuple[ChangeEffect, ...], **edits: str) -> Change:
    before = load_template("treg-foxp3-pbmc@0.1.0")
    text = TEXT.replace('version = "0.1.0"', 'version = "0.2.0"').replace("k = 4", "k = 3")
    for old, new in edits.items():
        text = text.replace(old, new)
    after = LoadedTemplate(parse_template(text, "x"), "c" * 64, "draft")
    return Change(
        before, after, diff_templates(before.template, after.template), tubes, changes, ("BL",) if changes else ()
    )


def test_the_page_holds_what_a_form_needs(tubes: tuple[TubeEffect, ...], tmp_path) -> None:
    changes = change_effects(tubes, frozenset({"BL"}))
    made = change(tubes, changes)
    page = render_change(made)
    for words in (
        "2983aacd8e2a71f3d41230e93c3ea35b2edf7132bb5b0ddf325c16952e781f33", "c" * 64, "gates, cd25_pos, place, k",
        "0.2.0 is far enough above 0.1.0", "<b>another sign</b>", "<b>no change any more</b>", "not evaluable any more",
        "Proposed", "Reviewed", "Approved", "Signature", "BL to W12", 'data-mark="DRAFT"',
    ):  # fmt: skip
        assert words in page, words
    assert "<script" not in page
    assert render_change(made) == page
    write_change(made, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "change.html", "change.json", "change_from_baseline.csv", "change_tubes.csv",
    ]  # fmt: skip
    found = json.loads((tmp_path / "change.json").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(change_json(made)))
    assert (found["demand"], found["changes"][0]["sign_changes"]) == ("major", True)


def test_a_page_without_baseline_or_effect_says_so() -> None:
    page = render_change(change((), ()))
    assert "No study file names a baseline visit" in page
    assert "Nothing moves" in page
    assert str(scatter_svg((), ("a", "b"))) == ""


def test_what_people_wrote_is_escaped() -> None:
    tubes = tube_effects("<b>", [row("<script>", "=1+1", 5)], [row("<script>", "=1+1", 6)])
    page = render_change(change(tubes, (), **{'title = "CD4+': 'title = "<img> CD4+'}))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
