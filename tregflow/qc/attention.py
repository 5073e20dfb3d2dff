"""What needs attention, in as few lines as tell it: findings by code, the same on the screen and in the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INFERRED = "subject, visit and role were inferred from file names or keywords"
SEVERITIES = ("fail", "review", "info")
_SHOWN = 3  # messages of one code; the others are in findings.csv


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding where it was found; `tube` and `file` are empty for one about the whole run."""

    severity: str
    code: str
    message: str
    remedy: str
    tube: str = ""
    file: str = ""
    population: str = ""
    observed: str = ""
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One text and the tubes it stands on; `population`, `observed` and `limit` where all of them share it."""

    text: str
    tubes: tuple[str, ...]
    population: str
    observed: str
    limit: str


@dataclass(frozen=True, slots=True)
class Group:
    """A code with what to do about it: the messages to show, and those there is no room for."""

    severity: str
    code: str
    remedy: str
    messages: tuple[Message, ...]
    more: tuple[Message, ...]

    @property
    def n(self) -> int:
        """Findings in the group."""
        return sum(len(m.tubes) for m in (*self.messages, *self.more))

    @property
    def n_more(self) -> int:
        """Findings among them that there is no room for."""
        return sum(len(m.tubes) for m in self.more)


def group_findings(findings: Sequence[Seen], severities: Sequence[str]) -> list[Group]:
    """Group findings by code and remedy: worst first, then those of most tubes.

    Of a tube that failed only the failures count: a review of a number that does not exist helps nobody. Messages that
    differ only by the file they name are one.
    """
    failed = {f.tube for f in findings if f.severity == "fail" and f.tube}
    groups: dict[tuple[str, str, str], dict[str, list[Seen]]] = {}
    for finding in findings:
        moot = finding.severity == "review" and finding.tube in failed
        if finding.severity in severities and not moot:
            key = (finding.severity, finding.code, finding.remedy)
            groups.setdefault(key, {}).setdefault(_without_file(finding), []).append(finding)
    found = []
    for (severity, code, remedy), by_text in groups.items():
        messages = tuple(_message(text, same) for text, same in by_text.items())
        found.append(Group(severity, code, remedy, messages[:_SHOWN], messages[_SHOWN:]))
    return sorted(found, key=lambda g: (SEVERITIES.index(g.severity), -g.n, g.code, g.remedy))


def _message(text: str, same: Sequence[Seen]) -> Message:
    return Message(
        text,
        tuple(dict.fromkeys(f.tube for f in same)),
        _shared(f.population for f in same),
        _shared(f.observed for f in same),
        _shared(f.limit for f in same),
    )


def _shared(values: Iterable[str]) -> str:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else ""


def _without_file(finding: Seen) -> str:
    """Text of a message without its own file's name: the tube is named beside it."""
    text = finding.message.strip()
    for name in (finding.file, finding.file.rpartition("/")[2]):
        if name:
            text = text.removeprefix(f"{name}: ").replace(name, "the file")
    return text
