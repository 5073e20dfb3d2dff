"""What a verification finds: problems, checks, tubes and the certificate, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tregflow.codes import CODES

if TYPE_CHECKING:
    from collections.abc import Mapping

Verdict = Literal["ok", "note", "failed"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One disagreement: in which file, for which tube, in which column or place, what was expected and what is there.

    `column` is a column of a table, a gate and its place, a population or a keyword; parts that do not apply are empty.
    """

    code: str
    message: str
    file: str = ""
    tube: str = ""
    column: str = ""
    expected: str = ""
    found: str = ""

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return CODES[self.code].remedy


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked: on how much, what disagreed, and what a reader should know though nothing did."""

    id: str
    title: str
    scope: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Failed with a problem; a note where there is something to read."""
        return "failed" if self.problems else "note" if self.notes else "ok"


@dataclass(frozen=True, slots=True)
class PopulationAgreement:
    """Events of one population by the record, by our engine now, and by FlowKit from the exported gates.

    `n_different` are events that our engine and FlowKit place differently, `n_left_out` those that were not compared,
    because a value of theirs is not finite. Both are None where FlowKit gave no mask.
    """

    id: str
    recorded: int
    ours: int | None
    flowkit: int | None
    n_different: int | None
    n_left_out: int | None


@dataclass(frozen=True, slots=True)
class TubeFound:
    """What was found of one tube. `cross_reader` is who read its raw values again; empty if nobody did, then `why`.

    `n_placed_again` cuts were placed again by their rule, `n_as_recorded` were taken from the record: they are shared,
    stand on a control tube, or are a fall-back.
    """

    name: str
    role: str
    status: str
    n_events: int | None
    gated: bool
    cross_reader: str = ""
    why: str = ""
    populations: tuple[PopulationAgreement, ...] = ()
    n_placed_again: int = 0
    n_as_recorded: int = 0
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def n_problems(self) -> int:
        """How many disagreements there are on this tube."""
        return sum(map(len, self.problems.values()))


@dataclass(frozen=True, slots=True)
class Certificate:
    """A verification: of which results, with what, what was checked and what was found.

    `run` tells which run it is about, `software` what verified it, `time` when (UTC, ISO 8601).
    """

    results: str
    run: Mapping[str, Any]
    checks: tuple[Check, ...]
    tubes: tuple[TubeFound, ...]
    software: Mapping[str, str]
    time: str

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem, in the order of the checks."""
        return tuple(problem for check in self.checks for problem in check.problems)

    @property
    def exit_code(self) -> int:
        """0 everything agrees; 1 at least one thing does not."""
        return int(bool(self.problems))
