"""What is known of an FCS data set before its events are touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tregflow.errors import FcsError, Finding, Severity

if TYPE_CHECKING:
    from tregflow.fcs.keywords import Keywords


@dataclass(frozen=True, slots=True)
class Parameter:
    """One `$Pn`: a column of the events.

    `index` counts from 0, `$Pn` from 1. `bits` is the width in the file (0 for free-format ASCII). `range` is `$PnR`
    (NaN where a floating-point parameter has none). `log_amp` is `$PnE` as (decades, offset) after the rule that an
    offset of 0 means 1, None where linear. `gain` is `$PnG`, 1.0 where absent or unusable. The last five are FCS 3.2
    keywords, empty where absent.
    """

    index: int
    pnn: str
    pns: str
    bits: int
    range: float
    datatype: str
    log_amp: tuple[float, float] | None
    gain: float
    is_time: bool
    analyte: str = ""
    detector: str = ""
    tag: str = ""
    feature: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class FcsText:
    """HEADER and TEXT of one data set.

    `n_events` is `$TOT`, or what the DATA segment holds where FCS 2.0 leaves `$TOT` out. `n_datasets` counts the data
    sets of the file, `dataset` is the 0-based number of this one.
    """

    path: Path
    size: int
    version: str
    keywords: Keywords
    analysis: Keywords
    parameters: tuple[Parameter, ...]
    n_events: int
    findings: tuple[Finding, ...]
    n_datasets: int
    dataset: int


@dataclass(slots=True)
class Problems:
    """Collects what is wrong with one file, so that all of it is said at once."""

    file: str
    violations: list[tuple[str, str]] = field(default_factory=list)
    _doubts: dict[str, tuple[Severity, list[str]]] = field(default_factory=dict)

    def violation(self, code: str, message: str) -> None:
        """Note a rule the file breaks in a way that cannot be repaired."""
        self.violations.append((code, message))

    def finding(self, code: str, message: str, severity: Severity = "info") -> None:
        """Note a repair, or something doubtful; what has one code becomes one finding."""
        self._doubts.setdefault(code, (severity, []))[1].append(message)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was noted, one finding per code, in the order of first mention."""
        return tuple(
            Finding(code, severity, f"{self.file}: {'; '.join(messages)}.", tube=self.file)
            for code, (severity, messages) in self._doubts.items()
        )

    def violations_as_findings(self) -> None:
        """Turn the violations noted so far into findings of severity `fail`."""
        for code, message in self.violations:
            self.finding(code, message, "fail")
        self.violations.clear()

    def raise_if_any(self) -> None:
        """Raise `error` if there are violations."""
        if self.violations:
            raise self.error()

    def error(self) -> FcsError:
        """Return one error with the code of the first violation and the text of all of them."""
        code, message = self.violations[0]
        others = "".join(f" Also {other}: {text}." for other, text in self.violations[1:])
        return FcsError(code, f"{self.file}: {message}.{others}", file=self.file, violations=tuple(self.violations))
