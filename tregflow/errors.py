"""Errors and findings; each carries a code from the one list (`tregflow.codes`).

Cannot compute: a `TregflowError`. Computed but doubtful: a `Finding`. Both carry a code from `CODES`; a code that is
not listed there cannot be raised. An error's text says what, where, expected, found, and ends with what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tregflow.codes import CODES

Severity = Literal["info", "review", "fail"]


class TregflowError(Exception):
    """Something cannot be computed.

    Parameters
    ----------
    code
        A key of `CODES`.
    message
        What is wrong, where, what was expected and what was found. The remedy of the code is added unless `remedy`
        is given.
    remedy
        What to do, where it can be said better than in `CODES`.
    data
        The same facts for programs (`file=`, `channel=`, `gate=`, ...).
    """

    def __init__(self, code: str, message: str, *, remedy: str | None = None, **data: object) -> None:
        self.code = code
        self.message = message
        self.remedy = CODES[code].remedy if remedy is None else remedy
        self.data = data
        super().__init__(f"{code}: {message} {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """Travel whole from a worker process: an exception is rebuilt from its text alone if nobody says how."""
        return _rebuild, (type(self), self.code, self.message, self.remedy, self.data), self.__dict__


def _rebuild(kind: type[TregflowError], code: str, message: str, remedy: str, data: dict[str, object]) -> TregflowError:
    return kind(code, message, remedy=remedy, **data)


class FcsError(TregflowError):
    """A file breaks the FCS standard in a way that has more than one reading, or none."""


class PanelError(TregflowError):
    """A marker of the template is not exactly one channel of the tube."""


class CompensationError(TregflowError):
    """The spillover is missing, partial, singular or applied before."""


class GateError(TregflowError):
    """A gate or transform is impossible."""


class TemplateError(TregflowError):
    """A gating template is invalid, changed after release, or unknown."""


class PlacementError(TregflowError):
    """A rule could not place its gate."""


class StudyError(TregflowError):
    """The study file or the manifest is invalid, or a tube cannot be identified."""


class BatchError(TregflowError):
    """A run cannot start or go on."""


class VerifyError(TregflowError):
    """A verification or self-test that cannot start."""


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say that a text is not UTF-8 and where, as an editor counts lines and columns."""
    before = error.object[: error.start]
    line = before.rpartition(b"\n")[2].decode("utf-8", "replace")
    place = f"line {before.count(bytes([10])) + 1}, column {len(line) + 1}"
    return f"not UTF-8 text (byte 0x{error.object[error.start]:02X} in {place})"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something computed but doubtful, or worth knowing.

    `observed` and `limit` are texts with their unit; `tube` and `population` are empty where they do not apply.
    """

    code: str
    severity: Severity
    message: str
    tube: str = ""
    population: str = ""
    observed: str = ""
    limit: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        remedy = CODES[self.code].remedy  # looked up in any case: an unknown code cannot pass
        if not self.remedy:
            object.__setattr__(self, "remedy", remedy)
