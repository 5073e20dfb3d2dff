"""What a person sees of a verification: one line per check, what disagrees and what to do, and the verdict last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tregflow.drawing import short
from tregflow.screen.console import COLOURS, open_console, print_wrapped
from tregflow.selftest.page import installation_verdict
from tregflow.verify.page import verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from rich.console import Console
    from rich.status import Status

    from tregflow.selftest import Installation
    from tregflow.verify import Certificate, Check, Problem

VERDICTS = {"ok": ("ok", "ok"), "note": ("ok, note", "ok"), "failed": ("FAILED", "fail")}
_MOST = 5  # problems printed per code; the certificate has all


class VerifyProgress:
    """A bar on a terminal, on standard error, and nothing elsewhere."""

    def __init__(self) -> None:
        console = open_console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("verifying")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tube(self, name: str, n_done: int, n_tubes: int) -> None:
        """A tube is done."""
        self._bar.update(self._task, description=short(name, 40), completed=n_done, total=n_tubes)


class SelftestProgress:
    """What is being done, on standard error: a line each, or one that changes on a terminal."""

    def __init__(self) -> None:
        self._console = open_console(stderr=True)
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def said(self, what: str) -> None:
        """Something begins."""
        if not self._console.is_terminal:
            self._console.print(escape(f"{what} ..."))
            return
        if self._status is None:
            self._status = self._console.status(escape(what))
            self._status.start()
        self._status.update(escape(what))


def print_installation(installation: Installation, page: Path) -> None:
    """The checks, the study's tubes, the problems with their remedies, where the record is, and the verdict."""
    console = open_console()
    software = installation.software
    console.print(escape(f"Self-test of tregflow {software['tregflow']}, Python {software['Python']}"))
    print_checks(console, installation.checks)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("simulated tube", "what it is"):
        table.add_column(heading, overflow="fold")
    for heading in ("true %", "found %", "off by"):
        table.add_column(heading, justify="right")
    for tube in installation.tubes:
        found = "none" if tube.found_pct is None else f"{tube.found_pct:.3f}"
        off = "" if tube.error_pct is None else f"{tube.error_pct:+.1f} %"
        table.add_row(escape(tube.tube), escape(tube.corner), f"{tube.true_pct:.3f}", found, off)
    console.print(table)
    print_problems(console, installation.problems, page.name)
    console.print(f"\nRecord   {escape(str(page))}", soft_wrap=True)
    print_wrapped(console, escape(installation_verdict(installation)), 0)


def print_certificate(certificate: Certificate, page: Path) -> None:
    """The checks, the problems with their remedies, where the certificate is, and the verdict."""
    console = open_console()
    run = certificate.run
    mark = "" if run["template_status"] == "released" else f" {run['template_status'].upper()}"
    console.print(escape(f"Second opinion on {certificate.results}, gated by {run['template']}{mark}"))
    print_checks(console, certificate.checks)
    print_problems(console, certificate.problems, page.name)
    console.print(f"\nCertificate   {escape(str(page))}", soft_wrap=True)
    print_wrapped(console, escape(verdict(certificate)), 0)


def print_checks(console: Console, checks: Iterable[Check]) -> None:
    """One line per check, and what should be known though nothing disagrees."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "on", "result"):
        table.add_column(heading, overflow="fold")
    notes = []
    for check in checks:
        word, colour = VERDICTS[check.verdict]
        table.add_row(escape(check.title), escape(check.scope), f"[{COLOURS[colour]}]{word}[/]")
        notes += [f"{check.title}: {note}." for note in check.notes]
    console.print(table)
    for note in notes:
        print_wrapped(console, f"[dim]Note:[/] {escape(note)}", 0)


def print_problems(console: Console, problems: Sequence[Problem], rest: str) -> None:
    """Problems by code, each with what was expected and found, and what to do."""
    by_code: dict[str, list[Problem]] = {}
    for problem in problems:
        by_code.setdefault(problem.code, []).append(problem)
    for code, found in by_code.items():
        console.print(f"\n[red]{code}[/]")
        for problem in found[:_MOST]:
            print_wrapped(console, escape(one_line(problem)), 2)
        if len(found) > _MOST:
            print_wrapped(console, f"and {len(found) - _MOST:,} more, see {rest}", 2)
        print_wrapped(console, f"[dim]What to do:[/] {escape(found[0].remedy)}", 2)


def one_line(problem: Problem) -> str:
    """The message, with what was expected and what was found."""
    return f"{problem.message}: expected {short(problem.expected, 70) or 'nothing'}, found {short(problem.found, 70)}"
