"""The command line: exact exit codes and what a person reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, real_data

from tregflow import cli
from tregflow.version import __version__

SAMPLE = ROOT / "sample_fcs"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run the command line in an empty folder; gives exit code, standard output and standard error."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tregflow", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    folder = tmp_path / "batch"
    folder.mkdir()
    for name in ("S01_BL_stained.fcs", "S01_W12_stained.fcs", "study.toml"):
        shutil.copy(SAMPLE / name, folder)
    return folder


def test_gate_writes_beside_the_user_and_prints_the_table(run, batch: Path) -> None:
    code, out, err = run("gate", batch)
    assert code == 0
    assert "1.63" in out
    assert "of 25,619" in out
    assert "Lymphocytes" in out
    assert "[2/2]" in err  # one line per tube where there is no terminal
    assert Path("results/batch/report.html").is_file()
    assert "Report   results/batch/report.html" in out


def test_gate_says_what_needs_attention_and_what_to_do(run, batch: Path) -> None:
    tube = batch / "S01_BL_stained.fcs"
    tube.write_bytes(tube.read_bytes()[:5000])
    code, out, _ = run("gate", batch, "--jobs", "1")
    assert code == 1
    assert "not evaluable" in out
    attention = out[out.index("Needs attention") :]
    assert "FCS_" in attention
    assert "What to do:" in attention


def test_fail_on_review(run, batch: Path) -> None:
    # 8,546 and 8,076 CD4- T cells: the second tube cannot place the cut itself, which a person should look at
    text = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text()
    text = text.replace('version = "0.1.0"', 'version = "0.2.0-draft"')
    Path("mine.toml").write_text(text)
    assert run("gate", batch, "--template", "mine.toml")[0] == 0
    code, out, _ = run("gate", batch, "--template", "mine.toml", "--fail-on", "review")
    assert code == 1
    assert "DRAFT" in out


def test_gate_starts_from_a_manifest_elsewhere(run, batch: Path) -> None:
    Path("m.csv").write_text("file,subject_id,visit,role\nS01_W12_stained.fcs,X9,V1,stained\n")
    code, out, _ = run("gate", batch, "--manifest", "m.csv", "--out", "r")
    assert code == 0
    assert "X9" in out
    assert "FILE_UNLISTED" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gate", "nowhere"), "BATCH_EMPTY: nowhere is not a folder."),
        (("gate", SAMPLE, "--template", "treg@1.0.0"), "TEMPLATE_UNKNOWN: there is no template 'treg@1.0.0'"),
        (("inspect", "nothing.fcs"), "FCS_"),
        (("template", "show", "none@1.0.0"), "TEMPLATE_UNKNOWN"),
        (("template", "validate", "missing.toml"), "TEMPLATE_UNREADABLE: missing.toml cannot be read"),
    ],
)
def test_what_cannot_start_says_what_to_change(run, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_wrong_words_on_the_command_line(run) -> None:
    assert run("gate")[0] == 2
    assert run("gate", SAMPLE, "--jobs", "0")[0] == 2
    assert run("bake", SAMPLE)[0] == 2


def test_an_unexpected_error_is_code_3_and_loud(run, batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("tregflow.batch.make_plan", broken)
    code, _, err = run("gate", batch)
    assert code == 3
    assert "INTERNAL" in err
    assert "not foreseen" in err


def test_stopping_says_how_to_go_on(run, batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tregflow.batch.run_batch", stopped)
    code, _, err = run("gate", batch)
    assert code == 3
    assert "run the same command again" in err


def test_check(run, batch: Path) -> None:
    code, out, _ = run("check", batch)
    assert code == 0
    assert "2 of 2 tubes can be gated; subject, visit and role were inferred, check them" in out
    assert "file:$SPILLOVER" in out
    (batch / "S01_BL_stained.fcs").write_bytes(b"not an FCS file")
    code, out, _ = run("check", batch)
    assert code == 1
    assert "1 of 2 tubes can be gated" in out
    assert list(Path.cwd().iterdir()) == []


def test_inspect(run) -> None:
    code, out, _ = run("inspect", SAMPLE / "S01_BL_stained.fcs")
    assert code == 0
    assert "37,299 events" in out
    assert "FOXP3" in out
    assert "spillover: file:$SPILLOVER, 7 channels" in out
    code, out, _ = run("inspect", SAMPLE / "S01_BL_stained.fcs", "--keywords")
    assert "$TOT = 37299" in out


def test_inspect_a_file_with_several_data_sets(run) -> None:
    path = real_data("odd_flowio", "fcs_files", "coulter.lmd")
    code, out, _ = run("inspect", path, "--dataset", "2")
    assert code == 0
    assert "data set 2 of 2" in out
    assert run("inspect", path, "--dataset", "9")[0] == 2


def test_templates(run) -> None:
    code, out, _ = run("template", "list")
    assert code == 0
    assert "treg-foxp3-pbmc@0.1.0" in out
    assert "treg % of t_cells" in out
    code, out, _ = run("template", "show", "treg-foxp3-pbmc@0.1.0")
    assert code == 0
    assert "placed by negative_spread on" in out
    code, out, _ = run("template", "validate", "treg-foxp3-pbmc@0.1.0")
    assert code == 0
    assert "is valid (released)" in out


def test_validate_lists_every_problem(run) -> None:
    text = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text()
    text = text.replace('parent = "cd3"', 'parent = "cd33"').replace(
        'denominator = "lymphocytes"', 'denominator = "cell"'
    )
    Path("bad.toml").write_text(text)
    code, _, err = run("template", "validate", "bad.toml")
    assert code == 2
    assert "gates, cd4: 'cd33' is not a gate" in err
    assert "gates, cd4_neg_t: 'cd33' is not a gate" in err


def test_simulate(run) -> None:
    code, out, _ = run("simulate", "batch", "--seed", "7")
    assert code == 0
    assert "23 simulated tubes" in out
    assert Path("batch/truth.csv").is_file()
    assert run("simulate", "batch")[0] == 2  # nothing is replaced unless told
    assert run("simulate", "batch", "--overwrite")[0] == 0


def test_a_killed_run_leaves_no_worker_behind(batch: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tregflow.cli", "gate", str(SAMPLE), "--out", str(tmp_path / "r"), "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    samples = tmp_path / "r" / "samples"
    wait_until(lambda: samples.is_dir() and any(samples.iterdir()))
    process.kill()
    process.wait()

    def gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone)


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that must become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_version_and_help_are_quick_and_clean() -> None:
    for arguments in (["--version"], ["--help"], ["gate", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "tregflow.cli", *arguments], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "tregflow.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"tregflow {__version__}"
