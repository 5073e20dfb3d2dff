"""`tregflow template`: exact exit codes, what a person reads, and input that means harm or is damaged."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path

import pytest
from support import ROOT
from test_cli import run  # noqa: F401 - the fixture

SAMPLE = ROOT / "sample_fcs"
TEXT = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text(encoding="utf-8")
TUBE = SAMPLE / "S01_W12_stained.fcs"


def edit(path: Path | str, *pairs: tuple[str, str]) -> None:
    text = Path(path).read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    Path(path).write_text(text, encoding="utf-8")


def table(*parts: str) -> list[dict[str, str]]:
    with Path(*parts).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_template_lives_from_draft_to_flag(run) -> None:  # noqa: F811
    code, out, _ = run("template", "new", "mine", "--from", "treg-foxp3-pbmc@0.1.0")
    assert code == 0
    path = "gating_templates/mine/0.1.0-draft.1.toml"
    assert out.startswith(f"{path}\nA draft")
    code, _, err = run("template", "release", "mine@0.1.0-draft.1")
    assert code == 2
    assert "TEMPLATE_NO_CHANGELOG" in err
    edit(path, ('numbers = ""', 'numbers = "the first here"'))
    code, out, _ = run("template", "release", "mine@0.1.0-draft.1")
    assert code == 0
    assert "mine@0.1.0 is released: gating_templates/mine/0.1.0.toml" in out
    assert run("template", "release", "mine@0.1.0")[0] == 2
    run("template", "new", "--from", "mine@0.1.0", "--part", "patch")
    edit("gating_templates/mine/0.1.1-draft.1.toml", ('numbers = ""', 'numbers = "more"'), ("k = 4", "k = 3.5"))
    code, _, err = run("template", "release", "mine@0.1.1-draft.1")
    assert code == 2
    assert "gates, cd25_pos, place, k: 4 -> 3.5: MAJOR, the endpoint rests on cd25_pos" in err
    code, out, _ = run("template", "release", "mine@0.1.1-draft.1", "--version", "0.2.0")
    assert code == 0
    assert "Since mine@0.1.0: what changed demands MAJOR" in out
    code, out, _ = run("template", "retire", "mine@0.1.0", "--reason", "replaced by 0.2.0")
    assert code == 0
    assert "mine@0.1.0 is RETIRED: replaced by 0.2.0." in out
    assert run("template", "flag", "mine@0.1.0")[0] == 2  # a flag has a reason
    code, out, _ = run("template", "flag", "mine@0.2.0", "--reason", "a wrong lot")
    assert code == 0
    assert "mine@0.2.0 is FLAGGED: a wrong lot." in out
    code, out, _ = run("template", "list")
    assert code == 0
    assert "mine@0.2.0 is FLAGGED: a wrong lot" in out
    code, out, _ = run("template", "show", "mine@0.2.0")
    assert code == 0
    assert out.startswith("mine@0.2.0 FLAGGED: a wrong lot")
    assert len(Path("gating_templates/ledger.jsonl").read_text().splitlines()) == 4


def test_new_needs_something_to_begin_with(run) -> None:  # noqa: F811
    code, _, err = run("template", "new")
    assert code == 2
    assert "--from" in err
    assert run("template", "new", "blank")[0] == 0
    code, out, _ = run("template", "validate", "blank@0.1.0-draft.1")
    assert (code, "is valid (draft)" in out) == (0, True)
    assert run("template", "new", "../evil")[0] == 2
    assert run("template", "new", "x", "--from", "none@1.0.0")[0] == 2
    assert run("template", "new", "x", "--part", "huge")[0] == 2
    assert sorted(p.name for p in Path("gating_templates").iterdir()) == ["blank", "registry.toml"]


def test_a_run_finds_the_laboratorys_own_templates(run, tmp_path: Path) -> None:  # noqa: F811
    batch = Path("trial/batch")
    batch.mkdir(parents=True)
    shutil.copy(TUBE, batch)
    (batch / "manifest.csv").write_text("file,subject_id,visit,role\nS01_W12_stained.fcs,S01,W12,stained\n")
    assert (
        run("template", "new", "mine", "--from", "treg-foxp3-pbmc@0.1.0", "--templates", "trial/gating_templates")[0]
        == 0
    )
    name = "mine@0.1.0-draft.1"
    code, _, err = run("gate", batch)
    assert code == 2
    assert f"{name}, " in err  # among those that fit
    code, out, _ = run("gate", batch, "--template", name)
    assert code == 0
    assert f"{name}  DRAFT" in out
    run_json = json.loads(Path("results/batch/run.json").read_bytes())
    assert (run_json["template_status"], run_json["template_source"]) == ("draft", "own")
    code, out, _ = run("check", batch, "--template", name)
    assert (code, f"{name}  DRAFT" in out) == (0, True)
    code, out, _ = run("place", batch, "--template", name)
    assert code == 0
    assert f"{name}  DRAFT" in out
    assert "TEMPLATE_DRAFT" in out
    elsewhere = tmp_path / "elsewhere"
    shutil.move("trial/gating_templates", elsewhere)
    assert run("check", batch, "--template", name)[0] == 2
    for command in ("gate", "check", "place"):
        assert run(command, batch, "--template", name, "--templates", elsewhere)[0] == 0
    code, _, err = run("check", batch, "--template", name, "--templates", tmp_path / "nowhere")
    assert code == 2
    assert "TEMPLATE_REGISTRY_INVALID" in err or "TEMPLATE_UNKNOWN" in err


def test_everything_that_a_draft_makes_says_so(run) -> None:  # noqa: F811
    Path("mine.toml").write_text(TEXT.replace('version = "0.1.0"', 'version = "0.2.0-draft.1"'), encoding="utf-8")
    Path("batch").mkdir()
    for name in ("S01_BL_stained.fcs", "S01_W12_stained.fcs", "study.toml"):
        shutil.copy(SAMPLE / name, "batch")
    code, out, _ = run("gate", "batch", "--template", "mine.toml", "--out", "r")
    assert code == 0
    assert "DRAFT" in out
    silent = {
        "endpoint.schema.json",
        "manifest.inferred.csv",
        "endpoint.parquet",
    }  # of no template; the same rows again
    for path in sorted(p for p in Path("r").rglob("*") if p.is_file() and p.name not in silent):
        assert "draft" in path.read_text(encoding="utf-8").lower(), path
    for name in ("endpoint.csv", "populations.csv"):
        rows = table("r", name)
        assert rows
        assert all("DRAFT" in " ".join(row.values()) for row in rows), name
    code, out, _ = run("template", "show", "mine.toml", "--on", TUBE, "--plot", "p.html")
    assert code == 0
    assert "DRAFT" in out
    page = Path("p.html").read_text(encoding="utf-8")
    assert 'data-mark="DRAFT"' in page


def test_show_on_a_tube_counts_as_the_engine_does(run) -> None:  # noqa: F811
    code, out, _ = run("template", "show", "treg-foxp3-pbmc@0.1.0", "--on", TUBE, "--plot", "page.html")
    assert code == 0
    assert "all events of S01_W12_stained.fcs: 35,283" in out
    assert "treg  410, 4.52 %" in out
    assert "PLACEMENT_ALONE" in out
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert '<td class="num">24,081</td>' in page
    assert "http://" not in page.partition("plotly-source")[0].replace("http://www.w3.org/2000/svg", "")
    order = [page.index(f"<small>{name}</small>") for name in ("cd4", "cd25_pos", "treg", "treg_cd127low", "cd4_neg_t")]
    assert order == sorted(order), "each population stands below its parent"
    assert run("template", "show", "treg-foxp3-pbmc@0.1.0", "--plot", "page.html")[0] == 2
    assert run("template", "show", "treg-foxp3-pbmc@0.1.0", "--on", TUBE, "--plot", "no/page.html")[0] == 2
    code, _, err = run("template", "show", "treg-foxp3-pbmc@0.1.0", "--on", "absent.fcs")
    assert (code, "FILE_MISSING: absent.fcs" in err) == (2, True)
    Path("cut.fcs").write_bytes(TUBE.read_bytes()[:9000])
    code, _, err = run("template", "show", "treg-foxp3-pbmc@0.1.0", "--on", "cut.fcs")
    assert (code, "FCS_" in err) == (2, True)


def test_list_shows_what_cannot_be_used_beside_the_others(run) -> None:  # noqa: F811
    run("template", "new", "mine", "--from", "treg-foxp3-pbmc@0.1.0")
    edit("gating_templates/mine/0.1.0-draft.1.toml", ("k = 4", "k = -4"))
    code, out, _ = run("template", "list")
    assert code == 0
    assert "unusable" in out
    assert "TEMPLATE_INVALID" in out
    assert "mine@0.1.0-draft.1 cannot be used: tregflow template validate mine@0.1.0-draft.1 says why" in out
    assert "treg-foxp3-aurora@0.1.0" in out


# --- validate -------------------------------------------------------------------------------------------------------


def test_validate_gives_line_and_key_of_every_problem(run) -> None:  # noqa: F811
    text = TEXT.replace('parent = "cd3"', 'parent = "cd33"', 1).replace("lloq_events = 50", "lloq_event = 50")
    text = text.replace("within = [0.32, 0.60]", "within = [0.7, 0.60]").replace(
        "fail = [20, 100]", "fail = [20, 1e999]"
    )
    Path("bad.toml").write_text(text, encoding="utf-8")
    code, _, err = run("template", "validate", "bad.toml")
    assert code == 2
    lines = text.splitlines()
    for words, key in [
        ("gates, cd4: 'cd33' is not a gate", 'parent = "cd33"'),
        ("endpoint, lloq_event: unknown key", "lloq_event = 50"),
        ("gates, cd25_pos: place.within is empty", "within = [0.7, 0.60]"),
        ("qc, pct_of_parent, singlets, fail, 1: expected a finite number", "singlets = { review"),
    ]:
        number = next(n for n, line in enumerate(lines, 1) if line.startswith(key))
        assert f"line {number}: {words}" in err, err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not toml at all", "TEMPLATE_SYNTAX"),
        (b"\xef\xbb\xbf" + TEXT.replace('version = "0.1.0"', 'version = "0.9.0"').encode(), ""),
        (TEXT.replace("PBMC", "Zürich").encode("latin-1"), "TEMPLATE_UNREADABLE"),
        (TEXT.encode("utf-16"), "TEMPLATE_UNREADABLE"),
        (TEXT.replace("[endpoint]", "[endpoint]\nnumerator = 'x'").encode(), "TEMPLATE_SYNTAX"),
        (TEXT.encode() + b"\x00", "TEMPLATE_SYNTAX"),
        (b"", "TEMPLATE_INVALID"),
        (b"a = " + b"[" * 100_000, "TEMPLATE_SYNTAX"),
        (b"a = " + b"[" * 3000 + b"]" * 3000, "TEMPLATE_SYNTAX"),
        (b"schema_version = " + b"9" * 5000, "TEMPLATE_SYNTAX"),
        (TEXT.replace("schema_version = 1", "schema_version = 2").encode(), "TEMPLATE_SCHEMA_NEWER"),
        (TEXT.replace('"0.1.0"\ntitle', '"../../0.1.0"\ntitle').encode(), "TEMPLATE_INVALID"),
        (TEXT.replace('id = "treg-foxp3-pbmc"', 'id = "../evil"').encode(), "TEMPLATE_INVALID"),
        (TEXT.replace("k = 4", "k = 5").encode(), "TEMPLATE_CHANGED"),
        (TEXT.replace('id = "singlets"\n', 'id = "singlets"\nparent = "cd4"\n').encode(), "depend on each other in a "),
        (TEXT.replace('id = "singlets"\n', 'id = "singlets"\nparent = "singlets"\n').encode(), "singlets depend on e"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_damaged_and_hostile_files(run, content: bytes, said: str) -> None:  # noqa: F811
    Path("x.toml").write_bytes(content)
    code, out, err = run("template", "validate", "x.toml")
    assert "Traceback" not in err
    assert code == (2 if said else 0), out + err
    assert said in err


@pytest.mark.parametrize("shape", ["chain", "circle"])
def test_ten_thousand_gates_are_checked_in_seconds(run, shape: str) -> None:  # noqa: F811
    head, _, rest = TEXT.partition("[qc]\n")
    head = head.replace('version = "0.1.0"', 'version = "0.2.0"').replace('id = "treg-foxp3-pbmc"', 'id = "many"')
    gates = []
    for i in range(10_000):
        above = f"g{(i - 1) % 10_000}" if i or shape == "circle" else "treg"
        gates.append(f'[[gates]]\nid = "g{i}"\nparent = "{above}"\nkind = "range"\ndimensions = ["CD3"]\nmin = 0.1\n')
    rest = rest.replace('version = "0.1.0"', 'version = "0.2.0"')
    Path("many.toml").write_text(head + "\n".join(gates[::-1]) + "\n[qc]\n" + rest, encoding="utf-8")
    started = time.monotonic()
    code, out, err = run("template", "validate", "many.toml")
    assert time.monotonic() - started < 30
    if shape == "chain":
        assert (code, "is valid (draft)" in out) == (0, True)
    else:
        assert code == 2
        assert "g0, g1, g10," in err
        assert "g9999 depend on each other in a circle" in err


# --- diff -----------------------------------------------------------------------------------------------------------


def test_diff_says_what_and_how_much(run) -> None:  # noqa: F811
    Path("mine.toml").write_text(
        TEXT.replace('version = "0.1.0"', 'version = "0.1.1"').replace("max = 0.45", "max = 0.47"), encoding="utf-8"
    )
    code, out, _ = run("template", "diff", "treg-foxp3-pbmc@0.1.0", "mine.toml")
    assert code == 0
    assert "from treg-foxp3-pbmc@0.1.0  content SHA-256 2983aacd8e2a71f3" in out
    assert "to   treg-foxp3-pbmc@0.1.1 DRAFT" in out
    # the scale values are FlowUtils' logicle_inverse of 0.45 and 0.47
    assert "gates, treg_cd127low, max: 0.45 -> 0.47 (in scale values 1411.69 to 1652.49): MINOR, the end" in out
    assert "what changed demands MINOR; after 0.1.0 that is 0.2.0 or higher." in out
    code, out, _ = run("template", "diff", "treg-foxp3-pbmc@0.1.0", "mine.toml", "--json")
    found = json.loads(out)
    assert (code, found["demand"], found["after"]["status"]) == (0, "minor", "draft")
    assert found["differences"][0] | {"why": "", "note": ""} == {
        "place": ["gates", "treg_cd127low", "max"], "what": "changed", "before": 0.45, "after": 0.47, "part": "minor",
        "why": "", "note": "",
    }  # fmt: skip
    code, out, _ = run("template", "diff", "treg-foxp3-pbmc@0.1.0", "treg-foxp3-pbmc@0.1.0")
    assert (code, "No difference" in out) == (0, True)
    assert run("template", "diff", "treg-foxp3-pbmc@0.1.0", "absent.toml")[0] == 2


def test_diff_on_a_batch_is_the_difference_of_two_runs(run) -> None:  # noqa: F811
    study = Path("study")
    for batch in ("one", "two"):
        (study / batch).mkdir(parents=True)
    shutil.copy(SAMPLE / "S01_BL_stained.fcs", study / "one")
    shutil.copy(SAMPLE / "S01_W12_stained.fcs", study / "two")
    visits = '\n[[visits]]\nname = "BL"\nbaseline = true\n'
    (study / "study.toml").write_text((SAMPLE / "study.toml").read_text() + visits, encoding="utf-8")
    # wide enough for S01 to change its sign, and below the limit of detection for a denominator
    Path("mine.toml").write_text(
        TEXT.replace('version = "0.1.0"', 'version = "0.2.0-draft.1"')
        .replace("k = 4", "k = 12")
        .replace("numerator_events_review = 100", "numerator_events_review = 500"),
        encoding="utf-8",
    )
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    arguments = ("template", "diff", "treg-foxp3-pbmc@0.1.0", "mine.toml", "--on", study / "one", "--on", study / "two")
    code, out, _ = run(*arguments, "--out", "effect", "--jobs", "1")
    assert code == 0
    assert "Page     effect/change.html" in out
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before, (
        "the study is not touched"
    )
    rows = {row["visit"]: row for row in table("effect", "change_tubes.csv")}
    sides = {}
    for side in ("before", "after"):
        for batch, visit in (("one", "BL"), ("two", "W12")):
            (row,) = table("effect", side, batch, "endpoint.csv")
            assert rows[visit][f"n_numerator_{side}"] == row["n_numerator"]
            assert rows[visit][f"n_denominator_{side}"] == row["n_denominator"]
            assert rows[visit][f"treg_pct_of_lymphocytes_{side}"] == row["treg_pct_of_lymphocytes"]
            sides[side, visit] = float(row["endpoint_pct"])
    for visit in ("BL", "W12"):
        moved = float(rows[visit]["endpoint_pct_moved"])
        assert moved == sides["after", visit] - sides["before", visit] < 0
        assert "now NUMERATOR_LOW" in rows[visit]["crossed"]
        assert "TEMPLATE" not in rows[visit]["crossed"]
    (change,) = table("effect", "change_from_baseline.csv")
    changes = [sides[side, "W12"] - sides[side, "BL"] for side in ("before", "after")]
    assert [float(change[f"endpoint_pct_change_{side}"]) for side in ("before", "after")] == changes
    assert change["sign_changes"] == str(changes[0] * changes[1] < 0)
    page = Path("effect/change.html").read_text(encoding="utf-8")
    for words in ("2983aacd8e2a71f3d41230e93c3ea35b2edf7132bb5b0ddf325c16952e781f33", "gates, cd25_pos, place, k",
                  'data-mark="DRAFT"', "<circle", "Approved", "now NUMERATOR_LOW", "BL to W12"):  # fmt: skip
        assert words in page, words
    assert "<script" not in page
    again = {name: Path("effect", name).read_bytes() for name in ("change.html", "change.json", "change_tubes.csv")}
    assert run(*arguments, "--out", "effect", "--jobs", "1")[0] == 0  # resumed
    assert {name: Path("effect", name).read_bytes() for name in again} == again


def test_diff_on_leaves_the_studys_placement_registry_alone(run) -> None:  # noqa: F811
    Path("study/batch").mkdir(parents=True)
    for name in ("S01_BL_stained.fcs", "S01_W12_stained.fcs"):
        shutil.copy(SAMPLE / name, "study/batch")
    visits = '\n[[visits]]\nname = "BL"\nbaseline = true\n'
    Path("study/study.toml").write_text((SAMPLE / "study.toml").read_text() + visits, encoding="utf-8")
    for version, k in (("0.8.0", "4"), ("0.9.0", "5")):
        text = TEXT.replace('version = "0.1.0"', f'version = "{version}"').replace(
            'share = "batch"', 'share = "subject"'
        )
        Path(f"{version}.toml").write_text(text.replace("k = 4", f"k = {k}"), encoding="utf-8")
    assert run("gate", "study/batch", "--template", "0.8.0.toml")[0] == 0
    kept = Path("study/placements.jsonl").read_bytes()
    code, _, _ = run("template", "diff", "0.8.0.toml", "0.9.0.toml", "--on", "study/batch", "--out", "d", "--jobs", "1")
    assert code == 0
    assert Path("study/placements.jsonl").read_bytes() == kept
    assert sorted(p.name for p in Path("study").iterdir()) == ["batch", "placements.jsonl", "study.toml"]
    own = Path("results/batch/endpoint.csv").read_text(encoding="utf-8")
    assert Path("d/before/batch/endpoint.csv").read_text(encoding="utf-8") == own, "on the cuts that were frozen"
