"""Tubes of a folder without a manifest: who they are, from file names and FCS keywords."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tregflow.errors import StudyError, TregflowError
from tregflow.study.cells import Cell
from tregflow.study.manifest import (
    ROLE_WORDS,
    ManifestRow,
    Problem,
    check_visits,
    is_role,
    parse_row,
    problems_error,
)

if TYPE_CHECKING:
    from tregflow.template.model import TubeRules

SUFFIXES = (".fcs", ".lmd")

_COLUMNS = {"subject": "subject_id", "visit": "visit", "role": "role", "batch": "batch_id", "replicate": "replicate"}
_IDENTITY = ("subject_id", "visit", "role")


def list_tubes(folder: Path, rows: Sequence[ManifestRow] = ()) -> tuple[Path, ...]:
    """Return the tubes in a folder, and in those subfolders that the manifest's rows name, sorted by relative path.

    A tube ends in ``.fcs`` or ``.lmd`` in any case; hidden files (``._`` copies of macOS among them) are left out.

    Raises
    ------
    StudyError
        ``TUBES_FOLDER`` if there is no such folder.
    """
    if not folder.is_dir():
        raise StudyError("TUBES_FOLDER", f"{folder.name} is not a folder.")
    subfolders = {PurePosixPath(row.file).parent for row in rows}
    folders = [folder, *(folder.joinpath(part) for part in subfolders if part.parts)]
    tubes = [
        path
        for place in folders
        if place.is_dir()
        for path in place.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    return tuple(sorted(tubes, key=lambda path: path.relative_to(folder).as_posix()))


def tubes_below(folder: Path) -> int:
    """Count the tubes in subfolders of a folder, at any depth, for a message that says where they are.

    `list_tubes` looks into a subfolder only if a manifest names a file in it.
    """
    return sum(
        path.suffix.lower() in SUFFIXES and path.parent != folder and path.is_file()
        for path in folder.rglob("*.*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def rule_problems(rules: TubeRules) -> list[str]:
    """Say what is wrong with tube rules by themselves: the pattern, its groups, the roles; an empty list if nothing."""
    problems = [
        f"roles: '{word}' stands for the unknown role '{role}'; expected one of {', '.join(ROLE_WORDS)}."
        for word, role in rules.roles.items()
        if not is_role(role)
    ]
    if rules.pattern is None:
        return problems
    try:
        groups = re.compile(rules.pattern).groupindex
    except re.error as error:
        return [f"pattern: '{rules.pattern}' is not a regular expression: {error}.", *problems]
    unknown = [name for name in groups if name not in _COLUMNS]
    if unknown or not groups:
        found = ", ".join(unknown) or "none"
        problems.append(f"pattern: expected named groups out of {', '.join(_COLUMNS)}; found {found}.")
    return problems


def infer_manifest(
    files: Sequence[Path],
    keywords: Callable[[Path], Mapping[str, str]],
    rules: TubeRules,
    *,
    folder: Path | None = None,
) -> tuple[ManifestRow, ...]:
    """Return one manifest row per file, in the order given, from its name and keywords.

    Parameters
    ----------
    files
        Tubes, as `list_tubes` returns them.
    keywords
        Reads the FCS keywords of a file (looked up without regard to case); called only if `rules` names a keyword.
    rules
        ``pattern`` is searched in the file's name. A value that the pattern does not give is read from the keyword
        that ``keywords`` names for it. A role's word is looked up in ``roles`` without regard to case, or is a role
        itself; a tube without one is stained.
    folder
        The batch folder, to which `ManifestRow.file` is relative; without it the name alone is used.

    Raises
    ------
    StudyError
        ``TUBES_RULES`` if the rules are impossible; ``TUBES_NOT_INFERRED`` with the complete list otherwise.
    """
    if problems := rule_problems(rules):
        raise problems_error("TUBES_RULES", "the [tubes] rules cannot be used:", problems)
    rows: list[ManifestRow] = []
    places: list[str] = []
    found: list[Problem] = []
    unknown = 0
    for path in files:
        file = path.name if folder is None else path.relative_to(folder).as_posix()
        values, about = _values(path, keywords, rules)
        row, missing = parse_row(
            {name: Cell(text, f"{file}, {name}", file) for name, text in (values | {"file": file}).items()}
        )
        found += [*about, *missing]
        unknown += bool(about or missing)
        if row is not None:
            rows.append(row)
            places.append(path.name)
    alike = check_visits(rows, places)
    if alike and not found:
        raise problems_error("TUBES_NOT_INFERRED", "visits cannot be told apart:", alike)
    found += alike
    if found:
        raise problems_error("TUBES_NOT_INFERRED", f"{unknown} of {len(files)} tubes cannot be identified:", found)
    return tuple(rows)


def _values(
    path: Path, keywords: Callable[[Path], Mapping[str, str]], rules: TubeRules
) -> tuple[dict[str, str], list[Problem]]:
    """Read what name and keywords say about one tube, by manifest column."""
    problems: list[Problem] = []
    values = {"subject_id": "", "visit": ""}
    match = None if rules.pattern is None else re.search(rules.pattern, path.name)
    if rules.pattern is not None and not match:  # whatever its keywords say: it may not be the stained tube it seems
        problems.append(Problem("TUBES_PATTERN", path.name, f"the pattern '{rules.pattern}' does not fit the name."))
    if match:
        values |= {_COLUMNS[name]: text.strip() for name, text in match.groupdict().items() if text}
        if _cuts_number(match):
            message = f"the pattern ends inside a number of the name ('{match.group()}')."
            problems.append(Problem("TUBES_PATTERN", path.name, message))
    wanted = {_COLUMNS[name]: keyword for name, keyword in rules.keywords.items() if not values.get(_COLUMNS[name])}
    if wanted:
        try:
            text = keywords(path)
        except TregflowError as error:
            text = {}
            if not wanted.keys().isdisjoint(_IDENTITY):  # an unreadable tube is still a tube if its name says which
                problems.append(Problem("TUBES_KEYWORDS", path.name, f"its keywords cannot be read ({error.code})."))
        values |= {column: text.get(keyword, "").strip() for column, keyword in wanted.items()}
    if word := values.get("role"):
        by_word = {known.casefold(): role for known, role in rules.roles.items()}
        values["role"] = by_word.get(word.casefold(), word)
    return values, problems


def _cuts_number(match: re.Match[str]) -> bool:
    """Whether a match starts or ends between two digits: ``W[0-9]`` in W12 would make it visit W1."""
    start, end, name = match.start(), match.end(), match.string
    return any(0 < edge < len(name) and name[edge - 1 : edge + 1].isdecimal() for edge in (start, end))
