"""The life of a template in a laboratory's own folder: each step, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from filelock import FileLock
from support import ROOT

import tregflow as tf
from tregflow import lifecycle
from tregflow.batch import make_plan, run_batch
from tregflow.errors import BatchError, TemplateError
from tregflow.lifecycle import check_folder, flag_template, new_template, release_template, retire_template
from tregflow.record import verify_ledger
from tregflow.report import write_report
from tregflow.template import registry
from tregflow.template.drafting import blank_text, draft_text, next_draft
from tregflow.template.explained import EXPLAINED
from tregflow.template.loading import parse_template
from tregflow.template.model import Template
from tregflow.template.registry import find_templates, load_template, read_registry

PBMC = "treg-foxp3-pbmc@0.1.0"
SAMPLE = ROOT / "sample_fcs"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "gating_templates"
    fill(new_template(folder, "mine", came_from=PBMC))
    release_template(folder, "mine@0.1.0-draft.1")
    return folder


@pytest.fixture
def own(released: Path, tmp_path: Path) -> Path:
    """A laboratory's own folder with the release mine@0.1.0."""
    return shutil.copytree(released, tmp_path / "trial" / "gating_templates")


def fill(path: Path, *pairs: tuple[str, str]) -> Path:
    """Say in the changelog what moves, and edit."""
    text = path.read_text(encoding="utf-8")
    for old, new in (('numbers = "" #', 'numbers = "the cuts" #'), *pairs):
        assert old in text, old
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    return path


def draft(folder: Path, *pairs: tuple[str, str], name: str = "mine@0.1.0", part: str = "minor") -> str:
    path = fill(new_template(folder, came_from=name, part=part), *pairs)
    return f"{path.parent.name}@{path.stem}"


def entries(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]


# --- new ------------------------------------------------------------------------------------------------------------


def test_a_draft_of_a_release_keeps_its_comments_and_all_else(own: Path) -> None:
    path = new_template(own, came_from="mine@0.1.0")
    assert path == own / "mine" / "0.2.0-draft.1.toml"
    before = (own / "mine" / "0.1.0.toml").read_text(encoding="utf-8")
    after = path.read_text(encoding="utf-8")
    assert after.replace("0.2.0-draft.1", "0.1.0").startswith(before.rstrip("\n"))
    assert "# T cells without CD4, nearly all CD8" in after
    loaded = load_template("mine@0.2.0-draft.1", own=own)
    assert (loaded.status, loaded.source, loaded.mark) == ("draft", "own", "DRAFT")
    assert [e.version for e in loaded.template.changelog] == ["0.1.0", "0.2.0-draft.1"]
    assert new_template(own, came_from="mine@0.1.0").name == "0.2.0-draft.2.toml"
    assert new_template(own, came_from="mine@0.1.0", part="patch").name == "0.1.1-draft.1.toml"


def test_a_new_id_begins_its_own_history(tmp_path: Path) -> None:
    path = new_template(tmp_path / "t", "other", came_from=PBMC)
    template = parse_template(path.read_text(encoding="utf-8"), path.name)
    assert (template.id, template.version) == ("other", "0.1.0-draft.1")
    assert [e.version for e in template.changelog] == ["0.1.0-draft.1"]
    assert template.changelog[0].text == f"from {PBMC} (2983aacd8e2a71f3...)"


@pytest.mark.parametrize(
    ("known", "part", "expected"),
    [
        ([], "minor", "0.1.0-draft.1"), (["0.1.0"], "minor", "0.2.0-draft.1"), (["0.1.0"], "major", "0.2.0-draft.1"),
        (["1.2.3", "0.9.0"], "major", "2.0.0-draft.1"), (["1.2.3", "1.10.0"], "minor", "1.11.0-draft.1"),
        (["1.2.3", "1.2.4-draft.9", "1.2.4-draft.10", "1.2.4-x"], "patch", "1.2.4-draft.11"),
    ],
)  # fmt: skip
def test_the_next_draft(known: list[str], part: str, expected: str) -> None:
    assert next_draft(known, part) == expected


def test_a_changelog_in_one_line_gets_its_entry_too() -> None:
    head, _, _ = blank_text("mine").partition("[[changelog]]")
    text = 'changelog = [{ version = "0.1.0", numbers = "first" }]\n' + head.replace("0.1.0-draft.1", "0.1.0")
    made = parse_template(draft_text(text, template_id="mine", version="0.2.0-draft.1", came_from="x"), "x")
    assert [(e.version, e.numbers) for e in made.changelog] == [("0.1.0", "first"), ("0.2.0-draft.1", "")]


def test_the_blank_template_loads_and_explains_every_key() -> None:
    text = blank_text("mine")
    template = parse_template(text, "blank.toml")
    assert (template.id, template.version) == ("mine", "0.1.0-draft.1")
    assert max(map(len, text.splitlines())) <= 120

    def keys(schema: dict) -> set[str]:
        return {key for part in schema.get("$defs", {}).values() for key in part.get("properties", {})}

    missing = [key for key in keys(Template.model_json_schema()) if f"{key} =" not in text and f"[[{key}]]" not in text]
    assert not missing
    for (kind, key), words in EXPLAINED.items():
        assert f"# {words}" in text, f"{kind}.{key}"


@pytest.mark.parametrize("bad", ["../evil", "Mine", "a/b", "", "con fig", "-x", "a\n", "é"])
def test_an_id_that_is_none_never_becomes_a_path(bad: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "gating_templates"
    with pytest.raises(TemplateError, match=r"TEMPLATE_(INVALID|SYNTAX)"):
        new_template(folder, bad or " ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../mine@0.1.0", "mine@../0.1.0", "mine/../mine@0.1.0", "@", "mine@"])
def test_a_name_never_leads_out_of_the_folder(name: str, own: Path) -> None:
    with pytest.raises(TemplateError, match="TEMPLATE_UNKNOWN: there is no template"):
        load_template(name, own=own)
    with pytest.raises(TemplateError, match="TEMPLATE_UNKNOWN"):
        flag_template(own, name, reason="x")


# --- release --------------------------------------------------------------------------------------------------------


def test_a_release_is_fixed_hashed_and_in_the_ledger(own: Path) -> None:
    loaded = load_template("mine@0.1.0", own=own)
    assert (loaded.status, loaded.source, loaded.mark, loaded.findings) == ("released", "own", "", ())
    (entry,) = read_registry(own).template
    assert (entry.id, entry.version, entry.sha256, entry.status) == ("mine", "0.1.0", loaded.sha256, "released")
    (line,) = entries(own)
    assert {k: line[k] for k in ("action", "template", "sha256", "reason")} == {
        "action": "released", "template": "mine@0.1.0", "sha256": loaded.sha256, "reason": "",
    }  # fmt: skip
    assert line["user"]
    assert line["host"]
    assert line["time"].endswith("+00:00")
    assert line["draft"] == "mine@0.1.0-draft.1"
    assert verify_ledger(own / "ledger.jsonl") == 1
    assert sorted(p.name for p in own.iterdir()) == ["ledger.jsonl", "mine", "registry.toml"]


def test_an_edited_release_is_refused_with_both_hashes(own: Path) -> None:
    path = own / "mine" / "0.1.0.toml"
    registered = load_template("mine@0.1.0", own=own).sha256
    path.write_text(path.read_text(encoding="utf-8").replace("k = 4", "k = 5"), encoding="utf-8")
    with pytest.raises(TemplateError, match=r"TEMPLATE_CHANGED: mine 0\.1\.0 was released with content") as caught:
        load_template("mine@0.1.0", own=own)
    assert caught.value.data["released"] == registered
    assert caught.value.data["found"] != registered


def test_the_registry_keeps_its_comments(own: Path) -> None:
    path = own / "registry.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("[[template]]", "# the first\n[[template]]  # mine"))
    release_template(own, draft(own))
    retire_template(own, "mine@0.1.0", reason="replaced by 0.2.0")
    text = path.read_text(encoding="utf-8")
    assert "# the first\n[[template]]  # mine\n" in text
    assert text.startswith("# Released versions and the SHA-256 of their canonical content")
    document = tomllib.loads(text)["template"]
    assert [(e["version"], e["status"]) for e in document] == [("0.1.0", "retired"), ("0.2.0", "released")]


@pytest.mark.parametrize(
    ("edit", "version", "demand", "at_least"),
    [
        (("k = 4", "k = 3.5"), "0.1.1", "MAJOR", "0.2.0"),
        (("W = 1.0", "W = 0.9"), "0.1.1", "MAJOR", "0.2.0"),
        (('aliases = ["FOXP3"]', 'aliases = ["Foxp3"]'), "0.1.1", "MAJOR", "0.2.0"),
        (('denominator = "lymphocytes"', 'denominator = "cd3"'), "0.1.1", "MAJOR", "0.2.0"),
        (("lloq_events = 50", "lloq_events = 60"), "0.1.1", "MINOR", "0.2.0"),
        (("review = [60, 100]", "review = [50, 100]"), "0.1.1", "MINOR", "0.2.0"),
    ],
)
def test_a_version_that_is_too_low_is_refused_with_what_demands_more(
    edit: tuple[str, str], version: str, demand: str, at_least: str, own: Path
) -> None:
    before = (own / "registry.toml").read_bytes()
    name = draft(own, edit, part="patch")
    assert name.startswith("mine@0.1.1-draft")
    with pytest.raises(
        TemplateError,
        match=rf"TEMPLATE_VERSION: mine@{version} is a step of PATCH above mine@0\.1\.0, and what changed demands "
        rf"{demand}, that is {at_least} or higher:\n  - [a-z].*: {demand}, ",
    ):
        release_template(own, name)
    assert (own / "registry.toml").read_bytes() == before
    assert not (own / "mine" / f"{version}.toml").exists()
    assert release_template(own, name, version=at_least).name == f"mine@{at_least}"
    assert load_template(f"mine@{at_least}", own=own).status == "released"


def test_from_1_0_0_on_major_is_major(own: Path) -> None:
    release_template(own, draft(own), version="1.0.0")
    name = draft(own, ("k = 4", "k = 3.5"), name="mine@1.0.0")
    with pytest.raises(TemplateError, match=r"is a step of MINOR above mine@1\.0\.0.* demands MAJOR, that is 2\.0\.0"):
        release_template(own, name)
    words = release_template(
        own, draft(own, ('title = "Singlets"', 'title = "Single"'), name="mine@1.0.0", part="patch")
    )
    assert (words.name, words.earlier, words.diff.demand) == ("mine@1.0.1", "mine@1.0.0", "patch")
    assert entries(own)[-1]["compared_with"] == "mine@1.0.0"
    # an older line may go on: it is compared with the highest release below it
    older = release_template(own, draft(own, ("k = 4", "k = 3")), version="0.3.0")
    assert older.earlier == "mine@0.1.0"
    with pytest.raises(TemplateError, match=r"TEMPLATE_VERSION: mine@0\.0\.9 is below every release \(0\.1\.0, "):
        release_template(own, draft(own), version="0.0.9")


@pytest.mark.parametrize("version", ["1.0", "1.0.0-rc.1", "01.0.0", "x", "../1.0.0"])
def test_what_cannot_be_a_release(version: str, own: Path) -> None:
    with pytest.raises(TemplateError, match=r"TEMPLATE_VERSION: '.*' cannot be released; expected three numbers"):
        release_template(own, draft(own), version=version)


@pytest.mark.parametrize("numbers", ['""', '"  "'])
def test_a_release_says_whether_a_count_can_move(numbers: str, own: Path) -> None:
    path = new_template(own, came_from="mine@0.1.0")
    text = path.read_text(encoding="utf-8").replace('numbers = "" #', f"numbers = {numbers} #")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError, match=r"TEMPLATE_NO_CHANGELOG: the changelog entry of mine@0\.2\.0 has no `"):
        release_template(own, "mine@0.2.0-draft.1")


def test_what_is_released_cannot_be_released_again(own: Path) -> None:
    with pytest.raises(TemplateError, match=r"TEMPLATE_STATUS: mine@0\.1\.0 is released; only a draft can be released"):
        release_template(own, "mine@0.1.0")
    with pytest.raises(TemplateError, match=r"TEMPLATE_STATUS: mine@0\.1\.0 is released, with content"):
        release_template(own, draft(own, ("k = 4", "k = 1")), version="0.1.0")
    with pytest.raises(TemplateError, match=r"TEMPLATE_STATUS: treg-foxp3-pbmc@0\.1\.0 is released"):
        release_template(own, PBMC)


def test_a_draft_from_anywhere_is_released_into_the_folder(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.toml"
    shutil.move(fill(new_template(own, "third", came_from=PBMC)), path)
    made = release_template(own, str(path))
    assert made.path == own / "third" / "0.1.0.toml"
    assert load_template("third@0.1.0", own=own).status == "released"
    name = draft(own)
    (own / "mine" / "0.2.0.toml").write_text("in the way", encoding="utf-8")
    with pytest.raises(TemplateError, match=r"TEMPLATE_EXISTS: mine/0\.2\.0\.toml is there with other content"):
        release_template(own, name)


def test_a_template_with_problems_is_not_released(own: Path) -> None:
    name = draft(own, ('parent = "cd3"', 'parent = "cd33"'))
    with pytest.raises(TemplateError, match=r"TEMPLATE_INVALID(.|\n)*line \d+: gates, cd4: 'cd33' is not a gate"):
        release_template(own, name)


# --- retire and flag ------------------------------------------------------------------------------------------------


def test_retired_and_flagged_with_reason_and_ledger(own: Path) -> None:
    assert retire_template(own, "mine@0.1.0").status == "retired"
    flagged = flag_template(own, "mine@0.1.0", reason="a wrong lot of CD25")
    assert (flagged.status, flagged.reason, flagged.mark) == ("flagged", "a wrong lot of CD25", "FLAGGED")
    (finding,) = flagged.findings
    assert (finding.code, finding.severity) == ("TEMPLATE_FLAGGED", "review")
    assert finding.message == "mine@0.1.0 is FLAGGED (a wrong lot of CD25)."
    assert [(e["action"], e["reason"]) for e in entries(own)] == [
        ("released", ""), ("retired", ""), ("flagged", "a wrong lot of CD25"),
    ]  # fmt: skip
    assert verify_ledger(own / "ledger.jsonl") == 3
    with pytest.raises(TemplateError, match=r"TEMPLATE_STATUS: mine@0\.1\.0 is flagged; expected released to be"):
        retire_template(own, "mine@0.1.0")
    assert flag_template(own, "mine@0.1.0", reason="and worse").reason == "and worse"


def test_a_draft_is_neither_retired_nor_flagged_and_a_flag_has_a_reason(own: Path) -> None:
    name = draft(own)
    with pytest.raises(TemplateError, match=r"TEMPLATE_STATUS: .* is draft; expected a release to be flagged"):
        flag_template(own, name, reason="x")
    with pytest.raises(TemplateError, match=r"TEMPLATE_STATUS: .* is draft; expected a release to be retired"):
        retire_template(own, name)
    with pytest.raises(TemplateError, match=r"TEMPLATE_STATUS: mine@0\.1\.0 cannot be flagged without a reason"):
        flag_template(own, "mine@0.1.0", reason="  ")


def test_a_laboratory_flags_a_shipped_template_for_itself(own: Path) -> None:
    shipped = (ROOT / "gating_templates" / "registry.toml").read_bytes()
    flagged = flag_template(own, PBMC, reason="not for our panel")
    assert (flagged.status, flagged.source) == ("flagged", "own")
    assert load_template(PBMC).status == "released"
    assert (ROOT / "gating_templates" / "registry.toml").read_bytes() == shipped


def test_a_flag_is_in_every_run_and_report(own: Path, tmp_path: Path) -> None:
    batch = own.parent / "batch"
    batch.mkdir()
    for name in ("S01_BL_stained.fcs", "S01_W12_stained.fcs"):
        shutil.copy(SAMPLE / name, batch)
    tubes = SAMPLE.joinpath("study.toml").read_text(encoding="utf-8").partition("[tubes]")[2]
    pin = '[template]\nid = "mine"\nversion = "0.1.0"\n\n[tubes]'
    (own.parent / "study.toml").write_text(pin + tubes, encoding="utf-8")
    assert make_plan(batch).template.status == "released"
    results = tmp_path / "results"
    run(batch, results)
    assert json.loads((results / "run.json").read_bytes())["template_status"] == "released"
    flag_template(own, "mine@0.1.0", reason="a wrong lot of CD25")
    with pytest.raises(BatchError, match="RUN_DIFFERENT"):  # what was finished before the flag is not kept as it was
        run(batch, results)
    run(batch, results, overwrite=True)
    about = json.loads((results / "run.json").read_bytes())
    assert {k: about[f"template_{k}"] for k in ("status", "reason", "source")} == {
        "status": "flagged", "reason": "a wrong lot of CD25", "source": "own",
    }  # fmt: skip
    for name in ("endpoint.csv", "findings.csv"):
        assert (results / name).read_text(encoding="utf-8").count("TEMPLATE_FLAGGED") == 2, name
    for name in ("populations.csv", "report.html", "run.log", "ledger.jsonl"):
        assert "flagged" in (results / name).read_text(encoding="utf-8").lower(), name
    report = (results / "report.html").read_text(encoding="utf-8")
    assert "a wrong lot of CD25" in report
    assert 'data-mark="FLAGGED"' in report
    gates = (results / "gates" / "S01_BL_stained.gating-ml.xml").read_text(encoding="utf-8")
    assert ">flagged<" in gates
    record = tf.read_record(results / "samples" / "S01_BL_stained.json")
    loaded = tf.load_template(str(own / "mine" / "0.1.0.toml"))  # by path, too
    assert tf.gate(batch / "S01_BL_stained.fcs", loaded, record=record).findings[0].code == "TEMPLATE_FLAGGED"


def run(batch: Path, results: Path, *, overwrite: bool = False) -> None:
    run_batch(make_plan(batch), results, render=write_report, overwrite=overwrite)


# --- where templates are --------------------------------------------------------------------------------------------


def test_the_nearest_folder_with_a_registry_is_the_laboratorys_own(own: Path, tmp_path: Path) -> None:
    deep = own.parent / "batch" / "deeper"
    deep.mkdir(parents=True)
    (deep / "gating_templates").mkdir()  # without a registry it is none
    assert find_templates(deep) == own
    assert find_templates(own.parent) == own
    assert find_templates(tmp_path) is None
    assert find_templates(SAMPLE) is None, "what is shipped is never the laboratory's own"


def test_one_version_with_two_contents_is_refused(own: Path) -> None:
    copy = own / "treg-foxp3-pbmc"
    shutil.copytree(ROOT / "gating_templates" / "treg-foxp3-pbmc", copy)
    assert load_template(PBMC, own=own).status == "released"
    path = copy / "0.1.0.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("k = 4", "k = 5"), encoding="utf-8")
    with pytest.raises(
        TemplateError,
        match=r"TEMPLATE_TWICE: treg-foxp3-pbmc@0.1.0 is shipped with tregflow with content 2983",
    ):
        load_template(PBMC, own=own)


def test_what_is_shipped_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TemplateError, match="TEMPLATE_READ_ONLY: gating_templates is what is shipped with tregflow"):
        lifecycle.working_folder(None, ROOT)
    assert lifecycle.working_folder(ROOT / "gating_templates", ROOT) == ROOT / "gating_templates"  # in a source tree
    installed = tmp_path / "tregflow"
    shutil.copytree(ROOT / "gating_templates", installed / "gating_templates")
    monkeypatch.setattr(registry, "__file__", str(installed / "template" / "registry.py"))
    monkeypatch.setattr(lifecycle, "__file__", str(installed / "lifecycle.py"))
    with pytest.raises(TemplateError, match="TEMPLATE_READ_ONLY"):
        lifecycle.working_folder(installed / "gating_templates", tmp_path)
    assert lifecycle.working_folder(None, tmp_path / "a", tmp_path / "b") == tmp_path / "b" / "gating_templates"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "gating_templates").write_text("a file", encoding="utf-8")
    with pytest.raises(TemplateError, match="TEMPLATE_CANNOT_WRITE: gating_templates: "):
        new_template(tmp_path / "gating_templates", "mine")


def test_two_commands_do_not_write_at_once(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_PATIENCE", 0.05)
    with (
        FileLock(own / ".registry.toml.lock"),
        pytest.raises(
            TemplateError, match="TEMPLATE_CANNOT_WRITE: gating_templates is being written by another command"
        ),
    ):
        flag_template(own, "mine@0.1.0", reason="x")


# --- registry and ledger --------------------------------------------------------------------------------------------


def test_a_registry_that_was_edited_by_hand_is_noticed_before_a_run(own: Path) -> None:
    flag_template(own, "mine@0.1.0", reason="faulty")
    path = own / "registry.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('status = "flagged"', 'status = "released"').replace('reason = "faulty"\n', ""))
    shutil.copy(SAMPLE / "S01_BL_stained.fcs", own.parent)
    with pytest.raises(
        TemplateError,
        match=r"TEMPLATE_LEDGER: mine@0\.1\.0: the ledger says flagged .* \(faulty\), registry.toml rel",
    ):
        make_plan(own.parent, "mine@0.1.0")
    with pytest.raises(TemplateError, match="TEMPLATE_LEDGER"):
        retire_template(own, "mine@0.1.0")  # not a way to lose a flag
    path.write_text("", encoding="utf-8")
    with pytest.raises(TemplateError, match=r"TEMPLATE_LEDGER: .*registry.toml nothing"):
        check_folder(own)


def test_a_ledger_that_was_edited_is_broken(own: Path) -> None:
    release_template(own, draft(own))
    path = own / "ledger.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"user":"', '"user":"x', 1), encoding="utf-8")
    with pytest.raises(BatchError, match=r"LEDGER_BROKEN: line 2 of ledger\.jsonl"):
        check_folder(own)


@pytest.mark.parametrize("step", ["release", "flag"])
def test_a_step_that_was_cut_off_is_seen_and_can_be_made_again(
    step: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = draft(own)

    def make() -> None:
        if step == "release":
            release_template(own, name)
        else:
            flag_template(own, "mine@0.1.0", reason="x")

    write = lifecycle.write_atomic

    def no_registry(path: Path, data: bytes) -> None:
        if path.name == "registry.toml":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(lifecycle, "write_atomic", no_registry)
    with pytest.raises(TemplateError, match="TEMPLATE_CANNOT_WRITE: gating_templates: No space left on device"):
        make()
    monkeypatch.setattr(lifecycle, "write_atomic", write)
    with pytest.raises(TemplateError, match="TEMPLATE_LEDGER"):
        check_folder(own)
    with pytest.raises(TemplateError, match="TEMPLATE_LEDGER"):
        retire_template(own, "mine@0.1.0")  # only the same step
    make()
    check_folder(own)
    assert not list(own.glob(".*"))


def test_checking_writes_nothing(own: Path) -> None:
    with (own / "ledger.jsonl").open("a") as file:
        file.write('{"cut off')
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    check_folder(own)
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
