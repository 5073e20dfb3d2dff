"""The study file, ``study.toml``: which template a study is gated with and how its tubes are named."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tregflow.errors import StudyError, not_utf8
from tregflow.study.inference import rule_problems
from tregflow.study.manifest import problems_error
from tregflow.template.model import TubeRules
from tregflow.template.reasons import reason

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

STUDY_FILE = "study.toml"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TemplatePin(_Strict):
    """The one template, in the one version, that the study's tubes are gated with."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$")]


class StudyInfo(_Strict):
    """How the study is called."""

    id: str = ""
    title: str = ""


class VisitPlan(_Strict):
    """A planned visit: its name as in the manifest, and its day and window (days since the first dose is day 1)."""

    name: Annotated[str, Field(min_length=1)]
    baseline: bool = False
    day: int | None = None
    window: Annotated[tuple[int, int] | None, Field(strict=False)] = None  # TOML has lists


class StudyFile(_Strict):
    """A study file; a part that is not there is None."""

    study: StudyInfo | None = None
    template: TemplatePin | None = None
    tubes: TubeRules | None = None
    visits: Annotated[tuple[VisitPlan, ...], Field(strict=False)] = ()

    @property
    def baseline(self) -> frozenset[str]:
        """Names of the visits that are a baseline."""
        return frozenset(visit.name for visit in self.visits if visit.baseline)


def find_study(batch_folder: Path) -> Path | None:
    """Return the nearest ``study.toml``, in the folder itself or in a parent of it, or None."""
    folder = batch_folder.resolve()
    return next((path for place in (folder, *folder.parents) if (path := place / STUDY_FILE).is_file()), None)


def load_study(path: Path) -> StudyFile:
    """Read and check a study file.

    Raises
    ------
    StudyError
        ``STUDY_FILE_UNREADABLE`` if it is not TOML; ``STUDY_FILE_INVALID`` with every problem and its place.
    """
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig"))  # Windows editors put a byte order mark
    except OSError as error:
        raise StudyError("STUDY_FILE_UNREADABLE", f"{path.name}: {error.strerror or type(error).__name__}.") from error
    except UnicodeDecodeError as error:
        raise StudyError("STUDY_FILE_UNREADABLE", f"{path.name} is {not_utf8(error)}.") from error
    except tomllib.TOMLDecodeError as error:
        raise StudyError("STUDY_FILE_UNREADABLE", f"{path.name} is not TOML: {error}.") from error
    try:
        study = StudyFile.model_validate(document)
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors()]
        if "tubes" in document and all(details["loc"][0] != "tubes" for details in error.errors()):
            problems += _tube_problems(TubeRules.model_validate(document["tubes"]))
        raise problems_error("STUDY_FILE_INVALID", f"{path.name}:", problems) from error
    if study.tubes is not None and (problems := _tube_problems(study.tubes)):
        raise problems_error("STUDY_FILE_INVALID", f"{path.name}:", problems)
    return study


def _tube_problems(rules: TubeRules) -> list[str]:
    return [f"tubes.{problem}" for problem in rule_problems(rules)]


def _problem(details: ErrorDetails) -> str:
    """Return one pydantic error as place, what was expected, what was found."""
    place = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        known = _known_keys(details["loc"][:-1])
        close = difflib.get_close_matches(str(details["loc"][-1]), known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{place}: unknown key{hint}; known are {', '.join(known)}."
    return f"{place}: {reason(details)}."


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    parts: dict[int | str, type[BaseModel]] = {
        "study": StudyInfo, "template": TemplatePin, "tubes": TubeRules, "visits": VisitPlan
    }  # fmt: skip
    return list((parts[place[0]] if place else StudyFile).model_fields)
