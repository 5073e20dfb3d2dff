"""The self-test of an installation: known answers, the sample batch and its verification, and a study in small."""

from __future__ import annotations

import getpass
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tregflow.batch import make_plan, run_batch
from tregflow.errors import TemplateError, VerifyError
from tregflow.record import sha256_bytes, sha256_file
from tregflow.report import write_report
from tregflow.selftest.conformance import check_conformance
from tregflow.selftest.known import check_known_answer, golden_table
from tregflow.selftest.study import StudyTube, check_study, run_small_study
from tregflow.simulate import simulate_batch
from tregflow.template.loading import canonical_json
from tregflow.template.registry import list_templates, load_template, templates_folder
from tregflow.verify import Check, Problem, verify_results
from tregflow.verify.origin import software

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tregflow.template.registry import LoadedTemplate
    from tregflow.verify import Certificate


@dataclass(frozen=True, slots=True)
class Installation:
    """What a self-test found: checks, the tubes of the study, and what was tested, where and when (UTC, ISO 8601).

    `hashes` are SHA-256: of the installed program, its template, the known table and the cases.
    """

    template: str
    checks: tuple[Check, ...]
    tubes: tuple[StudyTube, ...]
    machine: Mapping[str, str]
    software: Mapping[str, str]
    hashes: Mapping[str, str]
    seconds: float
    time: str

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem, in the order of the checks."""
        return tuple(problem for check in self.checks for problem in check.problems)

    @property
    def exit_code(self) -> int:
        """0 as it should be; 1 not."""
        return int(bool(self.problems))


def run_selftest(
    *, batch: Path | None = None, jobs: int = 1, progress: Callable[[str], None] | None = None
) -> Installation:
    """Test this installation; leaves nothing behind.

    Parameters
    ----------
    batch
        The folder `sample_fcs`; None simulates it, which gives the same files.
    progress
        Is told what is being done.

    Raises
    ------
    VerifyError
        `SELFTEST_INCOMPLETE`: the installation lacks what it is tested with, or `batch` is no sample batch.
    """
    said = progress if progress is not None else _silent
    known = golden_table()
    start = datetime.now(UTC)
    said("known answers of transforms, gates and compensation")
    checks = list(check_conformance())
    with tempfile.TemporaryDirectory(prefix="tregflow-selftest-") as made:
        folder = Path(made)
        if batch is None:
            said("simulating the sample batch")
            batch = folder / "sample_fcs"
            simulate_batch(batch)
        elif not (batch / "study.toml").is_file():
            raise VerifyError("SELFTEST_INCOMPLETE", f"{batch} is not the folder sample_fcs: it has no study.toml.")
        said("gating it")
        plan = make_plan(batch)
        run_batch(plan, folder / "results", jobs=jobs, render=write_report)
        checks.append(check_known_answer(folder / "results" / "endpoint.csv", known))
        said("verifying it by FlowKit and other readers")
        checks.append(_verified(verify_results(folder / "results", batch=batch, jobs=jobs)))
        said("simulating and gating tubes with known truth")
        tubes = run_small_study(folder / "study", (batch / "study.toml").read_bytes(), jobs=jobs)
    checks.append(check_study(tubes, plan.template.name))
    checks.append(_check_templates())
    end = datetime.now(UTC)
    return Installation(
        template=plan.template.name,
        checks=tuple(checks),
        tubes=tubes,
        machine=_machine(),
        software=software(),
        hashes=_hashes(plan.template, known),
        seconds=round((end - start).total_seconds(), 1),
        time=end.isoformat(timespec="seconds"),
    )


def _silent(_: str) -> None:
    return None


def _verified(certificate: Certificate) -> Check:
    """The certificate of the sample batch as one check of the installation."""
    n = sum(len(t.populations) for t in certificate.tubes)
    scope = f"{len(certificate.checks)} checks on {len(certificate.tubes)} tubes, {n} populations event by event"
    notes = tuple(f"{c.title}: {note}" for c in certificate.checks for note in c.notes)
    return Check("verified", "Sample batch verified by FlowKit and other readers", scope, certificate.problems, notes)


def _check_templates() -> Check:
    """Every released template that ships has its registered content."""
    problems, drafts, names = [], [], list_templates()
    for name in names:
        try:
            if load_template(name).status == "draft":
                drafts.append(name)
        except TemplateError as error:
            message = f"{name} cannot be used: {error.message.rstrip('.')}"
            problems.append(Problem("VERIFY_TEMPLATE", message, f"{name}.toml", "", "", "as released", error.code))
    notes = (f"not registered, so a draft: {', '.join(drafts)}",) if drafts else ()
    return Check("templates", "Templates as registered", f"{len(names)} templates", tuple(problems), notes)


def _machine() -> dict[str, str]:
    return {
        "host": platform.node(),
        "user": getpass.getuser(),
        "system": platform.platform(),
        "processor": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "Python": sys.version.split()[0],
        "byte order": sys.byteorder,
    }


def _hashes(template: LoadedTemplate, known: Path) -> dict[str, str]:
    package = Path(__file__).resolve().parent.parent
    return {
        "program": _of_files(package, package.rglob("*.py")),
        "templates": _of_files(templates_folder(), templates_folder().rglob("*.toml")),
        template.name: template.sha256,
        "known table": sha256_file(known),
        "known answers": sha256_file(package / "selftest" / "cases.toml"),
    }


def _of_files(folder: Path, paths: Iterable[Path]) -> str:
    """One hash of the names and bytes of files: equal for equal installations, wherever they lie."""
    # text, so that the line ends of another system make no other program
    named = {p.relative_to(folder).as_posix(): sha256_bytes(p.read_text("utf-8").encode()) for p in paths}
    return sha256_bytes(canonical_json(named))
