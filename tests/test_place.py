"""`tregflow place`: where each tube would put each cut, outliers and failures first, and nothing left behind."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs
from support import ROOT
from test_batch import HEADER
from test_sharing import S01, study, template

from tregflow import cli
from tregflow.anchors import REGISTRY
from tregflow.batch import PlacedCut, make_plan, place_batch, run_batch
from tregflow.plots import figure_page, plot_placements
from tregflow.record import read_record

GATES = {"viable", "cd3", "cd4", "cd25_pos", "foxp3_pos"}


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return study(tmp_path / "study", S01)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run the command line in an empty folder; gives exit code, standard output and standard error."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "140")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tregflow", *map(str, arguments), "--jobs", "1"])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def lines(out: str) -> list[list[str]]:
    """Cells of the table's rows."""
    return [line.split() for line in out.splitlines() if line.startswith("  S01_")]


# --- place_batch -----------------------------------------------------------------------------------------------------


def test_cuts_are_those_that_each_tube_is_gated_with(batch: Path, tmp_path: Path) -> None:
    plan = make_plan(batch, template(tmp_path, share='"tube"'))
    rows = place_batch(plan)
    run_batch(plan, tmp_path / "r")
    gated = {}
    for path in (tmp_path / "r" / "samples").glob("*.json"):
        record = read_record(path)
        for gate in record.gates:
            if gate.id in GATES:
                sides = (*gate.geometry["minima"], *gate.geometry["maxima"])
                gated[record.tube.tube, gate.id] = next(side for side in sides if side is not None)
                found = next(r for r in rows if (r.tube, r.gate) == (record.tube.tube, gate.id))
                assert gate.placement is not None
                assert (found.rule, found.n_reference) == (gate.placement.rule, gate.placement.n_reference)
    assert {(r.tube, r.gate): r.cut for r in rows} == gated
    assert len(gated) == 15


def test_a_shared_cut_is_placed_on_each_tube_all_the_same(batch: Path, tmp_path: Path) -> None:
    own = place_batch(make_plan(batch, template(tmp_path, share='"tube"')))
    assert place_batch(make_plan(batch, template(tmp_path, share='"subject"'))) == own
    assert place_batch(make_plan(batch, template(tmp_path, share='"study"')), jobs=2) == own


def test_failures_come_first_then_outliers_by_distance(batch: Path, tmp_path: Path) -> None:
    rows = place_batch(make_plan(batch, template(tmp_path, min_events="8300")))
    assert [(r.tube, r.gate, r.code) for r in rows if r.cut is None] == [
        ("S01_W12_stained", "foxp3_pos", "PLACEMENT_TOO_FEW_EVENTS")
    ]
    assert rows[0].cut is None
    assert (rows[0].low, rows[0].high, rows[0].z) == (None, None, None)
    assert "8300" in rows[0].message.replace(",", "")
    distances = [abs(r.z) for r in rows[1:] if r.z is not None]
    assert len(distances) == len(rows) - 1
    assert distances == sorted(distances, reverse=True)


def test_an_unreadable_tube_has_its_code_on_every_gate(batch: Path, tmp_path: Path) -> None:
    tube = batch / "S01_W24_stained.fcs"
    tube.write_bytes(tube.read_bytes()[:5000])
    rows = place_batch(make_plan(batch, template(tmp_path)))
    lost = [r for r in rows if r.tube == "S01_W24_stained"]
    assert {r.gate for r in lost} == GATES
    assert all(r.cut is None and r.code.startswith("FCS_") for r in lost)
    assert list(rows[: len(lost)]) == lost


def test_a_fall_back_has_the_code_and_the_template_s_value(batch: Path, tmp_path: Path) -> None:
    name = template(tmp_path, min_events="8300", otherwise='"template_value"', template_value="0.33")
    rows = place_batch(make_plan(batch, name))
    fallen = next(r for r in rows if (r.tube, r.gate) == ("S01_W12_stained", "foxp3_pos"))
    assert (fallen.cut, fallen.code) == (0.33, "PLACEMENT_FALLBACK")


def test_bounds_are_about_the_cut(batch: Path, tmp_path: Path) -> None:
    for row in place_batch(make_plan(batch, template(tmp_path))):
        if row.low is not None and row.high is not None and row.cut is not None:
            assert row.low < row.cut < row.high


# --- the command -----------------------------------------------------------------------------------------------------


def test_place_prints_all_cuts_and_writes_nothing(run, batch: Path, tmp_path: Path) -> None:
    name = template(tmp_path, share='"subject"')
    before = files(tmp_path)
    code, out, err = run("place", batch, "--template", name)
    assert (code, err) == (0, "")
    assert files(tmp_path) == before
    assert not list(tmp_path.rglob(REGISTRY))
    assert {(cells[0], cells[1]) for cells in lines(out)} == {(Path(t).stem, g) for t in S01 for g in GATES}
    assert "DRAFT" in out
    assert re.search(r"15 of 15 cuts placed on 3 of 3 stained tubes; \d+ outliers?", out.splitlines()[-1])


def test_place_names_what_failed_and_what_to_do(run, batch: Path, tmp_path: Path) -> None:
    code, out, _ = run("place", batch, "--template", template(tmp_path, min_events="8300"))
    assert code == 1
    assert lines(out)[0][:2] == ["S01_W12_stained", "foxp3_pos"]
    assert lines(out)[0][-1] == "PLACEMENT_TOO_FEW_EVENTS"
    attention = out[out.index("Needs attention") :]
    assert "S01_W12_stained: foxp3_pos" in attention
    assert "What to do: Acquire more events" in attention
    assert "14 of 15 cuts placed" in out.splitlines()[-1]


def test_a_missing_tube_is_not_passed_over(run, batch: Path, tmp_path: Path) -> None:
    (batch / "S01_BL_stained.fcs").unlink()
    code, out, _ = run("place", batch, "--template", template(tmp_path))
    assert code == 1
    assert "S01_BL_stained" in out
    assert "on 2 of 3 stained tubes" in out.splitlines()[-1]


def test_place_on_a_narrow_screen(run, batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = run("place", batch, "--template", "treg-foxp3-pbmc@0.1.0")
    assert code == 0
    table = out[: out.index("15 of 15")].splitlines()
    assert max(map(len, table)) <= 60


def test_manifest_elsewhere_and_a_batch_of_controls(run, batch: Path, tmp_path: Path) -> None:
    Path("m.csv").write_text(HEADER + "S01_BL_stained.fcs,S01,BL,fmo:FOXP3,B01\n")
    code, out, _ = run("place", batch, "--template", template(tmp_path), "--manifest", "m.csv")
    assert code == 0
    assert "no stained tube: nothing to place" in out.splitlines()[-1]


def test_place_needs_a_template_and_a_place_for_the_page(run, batch: Path, tmp_path: Path) -> None:
    code, _, err = run("place", batch)
    assert code == 2
    assert "TEMPLATE_NOT_NAMED" in err
    code, _, err = run("place", batch, "--template", template(tmp_path), "--plot", "nowhere/p.html")
    assert code == 2
    assert "cannot be written" in err


# --- the plot --------------------------------------------------------------------------------------------------------


def test_plot_is_one_page_that_asks_for_nothing_and_repeats(run, batch: Path, tmp_path: Path) -> None:
    name = template(tmp_path)
    code, out, _ = run("place", batch, "--template", name, "--plot", "p.html")
    assert code == 0
    assert "Plot     p.html" in out
    first = Path("p.html").read_bytes()
    page = first.decode()
    assert page.count(get_plotlyjs()[:200]) == 1
    around = page.replace(get_plotlyjs(), "")
    assert "default-src 'none'" in around
    assert not re.search(r"<link|<iframe|<script[^>]+src=", around)
    assert "DRAFT" in around
    run("place", batch, "--template", name, "--plot", "p.html")
    assert Path("p.html").read_bytes() == first
    assert [p.name for p in Path.cwd().iterdir()] == ["p.html"]


CUTS = (
    PlacedCut("T10", "foxp3", "valley", code="PLACEMENT_NO_VALLEY", message="none"),
    PlacedCut("T2", "foxp3", "valley", 0.5, 0.45, 0.52, 900, z=-3.5),
    PlacedCut("T1", "foxp3", "valley", 0.4, -9.0, 9.0, 900, z=0.5),
    PlacedCut("T1", "cd25", "valley", 0.3, None, None, 900, z=0.0, code="PLACEMENT_FALLBACK", message="fell"),
    PlacedCut("T2", "cd25", "valley", 0.31, 0.3, 0.32, 900, z=3.0),
)


def test_figure_marks_outliers_fall_backs_and_failures() -> None:
    figure = plot_placements(CUTS, mark="DRAFT")
    drawn = {(t.name, t.yaxis): (list(t.x), list(t.y)) for t in figure.data}
    assert drawn["fall-back", "y"] == ([0], [0.3])
    assert drawn["placed", "y"] == ([1], [0.31])  # 3 is not above 3
    assert drawn["outlier, |z| > 3", "y2"] == ([1], [0.5])
    (x,), (y,) = drawn["could not be placed", "y2"]
    low, high = figure.layout.yaxis2.range
    assert x == 2
    assert low < y < 0.4
    assert high < 1  # a bar of no use does not squeeze the others
    assert list(figure.layout.xaxis2.ticktext) == ["T1", "T2", "T10"]
    assert [figure.layout.yaxis.title.text, figure.layout.yaxis2.title.text] == ["cd25", "foxp3"]
    outlier = next(t for t in figure.data if t.name.startswith("outlier"))
    assert outlier.error_y.array[0] == pytest.approx(0.02)
    assert outlier.error_y.arrayminus[0] == pytest.approx(0.05)
    assert [t.name for t in figure.data if t.showlegend] == list(dict.fromkeys(t.name for t in figure.data))
    assert any("DRAFT" in a.text for a in figure.layout.annotations)


def test_figure_without_cuts_and_texts_that_are_markup() -> None:
    assert plot_placements(()).data == ()
    evil = "</script><script>alert(1)</script>"
    page = figure_page(plot_placements([replace(CUTS[0], tube=evil, message=evil)], title=evil), evil)
    around = page.replace(get_plotlyjs(), "")
    assert "alert(1)" in unescape(around)
    assert "<script>alert" not in around


def test_page_is_of_this_machine_in_nothing() -> None:
    assert str(ROOT) not in figure_page(plot_placements(CUTS), "t")
