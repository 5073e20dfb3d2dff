"""The manifest: which file is which tube of which subject and visit."""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path, PurePosixPath

from tregflow.atomic import write_atomic
from tregflow.codes import CODES
from tregflow.errors import StudyError
from tregflow.study.cells import Cell, csv_bytes, guard, read_cells, starts_formula

COLUMNS = (
    "file",
    "subject_id",
    "visit",
    "role",
    "collected_at",
    "batch_id",
    "replicate",
    "compensation",
    "lymphocytes_per_ul",
    "comment",
)
CHANNEL_PREFIX = "channel_"
ROLE_WORDS = ("stained", "fmo:<marker>", "single:<marker>", "unstained", "bridge")

_WITH_MARKER = ("fmo", "single")
_WITHOUT_MARKER = ("stained", "unstained", "bridge")
_NEEDS_SUBJECT = ("stained", "fmo")
_IDENTIFIERS = ("subject_id", "visit", "batch_id")
_ISO_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_MONTHS = re.findall(
    r"\w+",
    "jan feb mar apr may jun jul aug sep oct nov dec january february march april june july august september october "
    "november december sept mär mrz mai okt dez janv févr mars avr juin juil août déc ene abr ago dic",
)
# 'May' and 'mai', as spreadsheets write them; never 'MAY', which may be a site
_MONTH = "(" + "|".join(sorted([*_MONTHS, *map(str.title, _MONTHS)], key=len, reverse=True)) + r")\.?"
_DATE_LIKE = re.compile(
    rf"[0-9]{{1,2}}[-. /]{{1,2}}{_MONTH}([-. /]{{1,2}}([0-9]{{2}}|[0-9]{{4}}))?"
    rf"|{_MONTH}[-. /]{{1,2}}([0-9]{{1,2}}|[0-9]{{4}})"
    r"|[0-9]{1,2}/[0-9]{1,2}(/[0-9]{2,4})?|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}|[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{2,4}"
    r"|([0-9]{4}年)?[0-9]{1,2}月([0-9]{1,2}日)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9:.]+)?"
)
_SCIENTIFIC = re.compile(r"[0-9]+(\.[0-9]+)?E[+-]?[0-9]+", re.IGNORECASE)
_ERROR_VALUE = re.compile(r"#(NAME\?|VALUE!|REF!|DIV/0!|N/A|NUM!|NULL!|SPILL!|CALC!|#*)")
_SEPARATORS = re.compile(r"[\s_/-]+|(?<![0-9])\.|\.(?![0-9])")
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])[\s._/-]+(?=[0-9])")
_WHOLE = re.compile(r"[0-9]+\.0+")  # a whole number as statistics programs save it
_SERIALS = range(40_000, 60_001)  # days from 2009 to 2064, as a spreadsheet counts them
_DAY_ZERO = date(1899, 12, 30)  # of those days, for all after February 1900
_WORDS = {
    **dict.fromkeys(("na", "n/a", "<na>", "nan", "none", "null"), "missing"),
    **dict.fromkeys(("true", "false"), "a logical value"),
}
_IDENTIFIER_LENGTH = 64
_NAME_LENGTH = 80  # with a folder above it and '.gating-ml.xml' behind it, below the 260 characters of a Windows path

TubeKey = tuple[str, str, str, int, str, str]


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One tube as the manifest names it; a value that is not given is an empty text.

    `file` is relative to the batch folder, with ``/`` on every system; `collected_at` is ISO 8601 as written;
    `lymphocytes_per_ul` is in cells per microlitre of blood; `channels` maps a marker to the channel that the column
    ``channel_<MARKER>`` names for it.
    """

    file: str
    subject_id: str = ""
    visit: str = ""
    role: str = "stained"
    collected_at: str = ""
    batch_id: str = ""
    replicate: int = 1
    compensation: str = ""
    lymphocytes_per_ul: float | None = None
    comment: str = ""
    channels: Mapping[str, str] = field(default_factory=dict, hash=False)  # a mapping proxy cannot go to a worker

    @property
    def role_kind(self) -> str:
        """The role without its marker: stained, fmo, single, unstained or bridge."""
        return self.role.partition(":")[0]

    @property
    def role_marker(self) -> str:
        """The marker of an ``fmo:`` or ``single:`` tube, else empty."""
        return self.role.partition(":")[2]

    @property
    def is_control(self) -> bool:
        """Whether the tube gives no endpoint: every role but stained."""
        return self.role != "stained"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a manifest: its code, where it is, what was found and the cure."""

    code: str
    place: str
    message: str
    remedy: str = ""  # where it can be said better than in `CODES`

    def __str__(self) -> str:
        return f"{self.code}: {self.place}: {self.message} {self.remedy or CODES[self.code].remedy}"


def problems_error(code: str, heading: str, problems: Sequence[object]) -> StudyError:
    """Return one error that lists all problems, one per line; its `data` has them as ``problems``."""
    listed = "".join(f"\n  {problem}" for problem in problems)
    return StudyError(code, f"{heading}{listed}\n", problems=tuple(problems))


# --- reading and writing ----------------------------------------------------------------------------------------------


def find_manifest(folder: Path) -> Path | None:
    """Return ``manifest.csv`` or ``manifest.xlsx`` of a batch folder, in whatever case, or None.

    Raises
    ------
    StudyError
        ``MANIFEST_AMBIGUOUS`` if both are there.
    """
    found = [path for path in folder.glob("*") if path.name.lower() in {"manifest.csv", "manifest.xlsx"}]
    if len(found) > 1:
        names = " and ".join(sorted(path.name for path in found))
        raise StudyError("MANIFEST_AMBIGUOUS", f"{folder.name} holds {names}; expected one manifest.")
    return found[0] if found else None


def read_manifest(path: Path) -> tuple[ManifestRow, ...]:
    """Read a manifest as text, from CSV (UTF-8; comma, semicolon or tab) or XLSX, in its own order.

    Whether the files exist, and whether two rows are the same tube (`duplicate_keys`) or the same in everything, is
    left to the batch, where each becomes a row with a code.

    Raises
    ------
    StudyError
        ``MANIFEST_UNREADABLE`` if there is no table in the file; ``MANIFEST_INVALID`` with the complete list of
        problems (``MANIFEST_COLUMN``, ``MANIFEST_EMPTY``, ``MANIFEST_VALUE_MISSING``, ``MANIFEST_ROLE``,
        ``MANIFEST_VALUE``, ``MANIFEST_SPREADSHEET``, ``MANIFEST_PATH``, ``MANIFEST_VISITS``) otherwise.
    """
    sheet = read_cells(path)
    header, body = (sheet[0], sheet[1:]) if sheet else ([], [])
    problems = _check_header(header, body)
    names = [cell.text for cell in header]
    rows, places = [], []
    for cells in body:
        row, found = parse_row({name: cell for name, cell in zip(names, cells, strict=False) if name})
        problems += found
        if row is not None:
            rows.append(row)
            places.append(cells[0].row)
    for column in _IDENTIFIERS:
        if column in names:
            index = names.index(column)
            damaged = {problem.place for problem in problems}
            problems += _check_zeros([cells[index] for cells in body if cells[index].place not in damaged])
    problems += check_visits(rows, places)
    problems = list(dict.fromkeys(problems))  # a missing column is one problem, not one per row
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise problems_error("MANIFEST_INVALID", f"{path.name} has {count}:", problems)
    return tuple(rows)


def write_manifest(path: Path, rows: Sequence[ManifestRow]) -> None:
    r"""Write a manifest as CSV: all columns, ``\n``, UTF-8, in the order given; `read_manifest` gives the same rows.

    A comment that a spreadsheet would run as a formula is written with an apostrophe before it, which reading removes.

    Raises
    ------
    StudyError
        ``MANIFEST_UNREADABLE`` if `path` does not end in ``.csv``.
    """
    if path.suffix.lower() != ".csv":
        raise StudyError("MANIFEST_UNREADABLE", f"{path.name}: a manifest is written as .csv only.")
    markers = list(dict.fromkeys(marker for row in rows for marker in row.channels))
    header = [*COLUMNS, *(CHANNEL_PREFIX + marker for marker in markers)]
    records = [
        [
            *(guard("" if (value := getattr(row, name)) is None else str(value)) for name in COLUMNS),
            *(row.channels.get(marker, "") for marker in markers),
        ]
        for row in rows
    ]
    write_atomic(path, csv_bytes(header, records, bom=True))


def _check_header(header: Sequence[Cell], body: Sequence[Sequence[Cell]]) -> list[Problem]:
    problems = []
    names = [cell.text for cell in header]
    for index, cell in enumerate(header):
        filled = any(index < len(row) and row[index].text for row in body)
        if (not cell.text and filled) or (cell.text and not _known_column(cell.text)):
            close = difflib.get_close_matches(cell.text.lower(), COLUMNS, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            problems.append(Problem("MANIFEST_COLUMN", "header", f"unknown column '{cell.text}'{hint}."))
    problems += [
        Problem("MANIFEST_COLUMN", "header", f"column {name} is there {count} times; expected once.")
        for name, count in Counter(name for name in names if name).items()
        if count > 1
    ]
    if any(len(row) > len(header) and any(cell.text for cell in row[len(header) :]) for row in body):
        problems.append(Problem("MANIFEST_COLUMN", "header", "some rows have more cells than the header has columns."))
    if "file" not in names:
        problems.append(_missing_column("file"))
    if not body:
        problems.append(Problem("MANIFEST_EMPTY", "all rows", "no tubes are listed."))
    return problems


def _missing_column(name: str) -> Problem:
    return Problem("MANIFEST_COLUMN", "header", f"column '{name}' is missing.", "Add it, and fill in every row.")


def _known_column(name: str) -> bool:
    return name in COLUMNS or (name.startswith(CHANNEL_PREFIX) and len(name) > len(CHANNEL_PREFIX))


def _check_zeros(cells: Sequence[Cell]) -> list[Problem]:
    """Find whole numbers shorter than zero-padded ones of the same column: 7 beside 001 and 002."""
    numbers = [cell for cell in cells if re.fullmatch("[0-9]+", cell.text)]
    width = max((len(cell.text) for cell in numbers if len(cell.text) > 1 and cell.text[0] == "0"), default=0)
    return [
        Problem(
            "MANIFEST_SPREADSHEET",
            cell.place,
            f"'{cell.text}' has lost its leading zeros: others have {width} digits, so '{cell.text.zfill(width)}' was "
            "probably meant.",
        )
        for cell in numbers
        if len(cell.text) < width
    ]


def check_visits(rows: Sequence[ManifestRow], places: Sequence[str]) -> list[Problem]:
    """Find visits that differ only by case or separators (W12, w12, W 12): they would be counted as different ones."""
    spellings: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row, place in zip(rows, places, strict=True):
        spellings[_fold(row.visit)][row.visit].append(place)
    return [
        Problem(
            "MANIFEST_VISITS",
            "column visit",
            ", ".join(f"'{visit}' ({_some(where)})" for visit, where in alike.items())
            + " differ only by case or separators.",
        )
        for alike in spellings.values()
        if len(alike) > 1
    ]


def _fold(visit: str) -> str:
    """Return a visit without case and separators; between two digits a separator counts: 1-2 is not 12."""
    text = unicodedata.normalize("NFKC", visit).casefold()
    return _SEPARATORS.sub("", _BETWEEN_DIGITS.sub(".", text))


def _some(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")


# --- one row ----------------------------------------------------------------------------------------------------------


def parse_row(cells: Mapping[str, Cell]) -> tuple[ManifestRow | None, list[Problem]]:
    """Return the tube that named cells describe, or None with everything that is wrong with them."""
    problems = [problem for name, cell in cells.items() if (problem := _spreadsheet_damage(name, cell))]
    damaged = {problem.place for problem in problems}
    text = {name: "" if cell.place in damaged else cell.text for name, cell in cells.items()}

    def found(code: str, name: str, message: str) -> None:
        if name not in cells:
            problems.append(_missing_column(name))
        elif cells[name].place not in damaged:
            problems.append(Problem(code, cells[name].place, message))

    role = text.get("role", "") or "stained"
    if not is_role(role):
        kind, colon, marker = role.partition(":")
        meant = kind.strip().lower() + colon + marker.strip()
        hint = f" (did you mean {meant}?)" if is_role(meant) else ""
        found("MANIFEST_ROLE", "role", f"unknown role '{role}'{hint}; expected one of {', '.join(ROLE_WORDS)}.")
    whose = is_role(role) and role.partition(":")[0] in _NEEDS_SUBJECT
    needed = ("file", "subject_id", "visit") if whose else ("file",)
    for name in needed:
        if not text.get(name):
            found("MANIFEST_VALUE_MISSING", name, f"{name} is empty; a {role} tube needs {', '.join(needed)}.")
    for name, value in text.items():
        if wrong := _value_problem(name, value):
            found(wrong[0], name, wrong[1])
    if problems:
        return None, problems
    concentration = text.get("lymphocytes_per_ul", "")
    row = ManifestRow(
        file=_posix(text["file"]),
        subject_id=text.get("subject_id", ""),
        visit=text.get("visit", ""),
        role=role,
        collected_at=text.get("collected_at", ""),
        batch_id=text.get("batch_id", ""),
        replicate=int(text.get("replicate") or 1),
        compensation=_posix(text["compensation"]) if text.get("compensation") else "",
        lymphocytes_per_ul=float(concentration) if concentration else None,
        comment=text.get("comment", ""),
        channels={
            name.removeprefix(CHANNEL_PREFIX): value
            for name, value in text.items()
            if name.startswith(CHANNEL_PREFIX) and value
        },
    )
    return row, []


def is_role(role: str) -> bool:
    """Whether a text is a role: stained, fmo:<marker>, single:<marker>, unstained or bridge."""
    kind, colon, marker = role.partition(":")
    if kind in _WITH_MARKER:
        return bool(marker) and marker == marker.strip()
    return not colon and kind in _WITHOUT_MARKER


def _spreadsheet_damage(name: str, cell: Cell) -> Problem | None:
    """Return what a spreadsheet program did to a cell that was typed as text."""
    note = f" ({cell.note})" if cell.note else ""
    if cell.kind in {"error", "formula", "boolean"}:
        reason = f"the cell holds the {cell.kind} '{cell.text}', not text"
    elif _ERROR_VALUE.fullmatch(cell.text):
        reason = f"'{cell.text}' is a spreadsheet's error value"
    elif name not in _IDENTIFIERS:
        return None
    elif cell.kind == "date" or (
        _DATE_LIKE.fullmatch(cell.text) and not (name == "batch_id" and _ISO_DATE.fullmatch(cell.text))
    ):
        reason = f"'{cell.text}'{note} is a date, as a spreadsheet makes of texts such as 5-12"
    elif name == "visit" and re.fullmatch("[0-9]{5}", cell.text) and int(cell.text) in _SERIALS:
        day = _DAY_ZERO + timedelta(days=int(cell.text))
        reason = f"'{cell.text}' is the day {day} as a spreadsheet counts days"
    elif (
        cell.kind == "number"
        or _SCIENTIFIC.fullmatch(cell.text)
        or (name != "batch_id" and _WHOLE.fullmatch(cell.text))
    ):
        reason = f"'{cell.text}'{note} is a number, as a spreadsheet makes of texts such as 1E5, 1.10 or 007"
    else:
        return None
    return Problem("MANIFEST_SPREADSHEET", cell.place, f"{reason}.")


def _is_iso_date(value: str) -> bool:
    if not _ISO_DATE.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _posix(value: str) -> str:
    return PurePosixPath(value.replace("\\", "/")).as_posix()


def _stays_inside(value: str) -> bool:
    path = PurePosixPath(value.replace("\\", "/"))
    return bool(path.parts) and not (path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", value))


# what a column holds besides text: the test, the code and the message for what fails it
_VALUES: dict[str, tuple[Callable[[str], object], str, str]] = {
    "file": (_stays_inside, "MANIFEST_PATH", "is not a path inside the batch folder"),
    "compensation": (_stays_inside, "MANIFEST_PATH", "is not a path inside the batch folder"),
    "collected_at": (
        _is_iso_date,
        "MANIFEST_VALUE",
        "is not an ISO 8601 date such as 2026-05-12 or 2026-05-12T08:40",
    ),
    "replicate": (
        re.compile("[1-9][0-9]{0,5}").fullmatch,
        "MANIFEST_VALUE",
        "is not a replicate number; expected 1, 2, ...",
    ),
    "lymphocytes_per_ul": (
        re.compile(r"[0-9]+(\.[0-9]+)?").fullmatch,
        "MANIFEST_VALUE",
        "is not a number of cells per microlitre such as 1850 or 1850.5",
    ),
}


def _value_problem(name: str, value: str) -> tuple[str, str] | None:
    """Return what is wrong with one value by itself, as (code, message)."""
    if not value or name == "comment":
        return None
    test, code, message = _VALUES.get(name, (bool, "", ""))
    if not test(value):
        return code, f"'{value}' {message}."
    if starts_formula(value):
        return "MANIFEST_VALUE", f"'{value}' starts with '{value[0]}': a spreadsheet would run it as a formula."
    if not value.isprintable():
        return "MANIFEST_VALUE", f"{value!r} holds a line break or a control character."
    if name in _IDENTIFIERS and (read_as := _WORDS.get(value.casefold())):
        return "MANIFEST_VALUE", f"'{value}' is read as {read_as} by R, SAS or pandas, so it names nothing."
    if name in _IDENTIFIERS and len(value) > _IDENTIFIER_LENGTH:
        shown = f"'{value[:16]}...'"
        return "MANIFEST_VALUE", f"{shown} has {len(value)} characters; at most {_IDENTIFIER_LENGTH} are allowed."
    return None


# --- identity and names -----------------------------------------------------------------------------------------------


def tube_key(row: ManifestRow) -> TubeKey:
    """Identify a tube: (subject, visit, role, replicate, batch, file).

    The last two are empty where subject and visit are known, so that two files for one key are found; a control
    without subject or visit is its file.
    """
    if row.subject_id and row.visit:
        return (row.subject_id, row.visit, row.role, row.replicate, "", "")
    return (row.subject_id, row.visit, row.role, row.replicate, row.batch_id, row.file)


def duplicate_keys(rows: Iterable[ManifestRow]) -> dict[TubeKey, tuple[ManifestRow, ...]]:
    """Return the keys that more than one row has, with these rows: which of them is the tube, nobody can know."""
    groups: dict[TubeKey, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        groups[tube_key(row)].append(row)
    return {key: tuple(group) for key, group in groups.items() if len(group) > 1}


def tube_name(row: ManifestRow) -> str:
    """Return a name for the files about a tube, safe on Windows too: ``S01_W12_stained``, ``S01_BL_fmo-FOXP3``.

    Letters, digits, ``_`` and ``-`` only; a control without subject or visit has its file's name, and before it
    batch and role if that name does not hold them; a replicate other than 1 is added as ``_r2``. Use `tube_names`
    where names must be unique.
    """
    if row.subject_id and row.visit:
        parts = [row.subject_id, row.visit, row.role]
    else:
        stem = _slug(PurePosixPath(row.file).stem)
        parts = [row.subject_id, row.visit, row.batch_id, row.role]
        parts = [*(part for part in parts if _slug(part) not in stem), stem]
    if row.replicate != 1:
        parts.append(f"r{row.replicate}")
    # a name of a Windows device (CON, COM1) cannot come out of this: every name holds a role
    name = "_".join(_slug(part) for part in parts if part)
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 9]}-{_digest(row)}"


def tube_names(rows: Sequence[ManifestRow]) -> tuple[str, ...]:
    """Return one unique name per row, in order; rows whose names would be equal all get a hash of their file.

    Equal means equal on a file system that ignores case. Of rows that are the same in file and key, the second gets
    ``-2`` behind the hash, the third ``-3``.
    """
    plain = [tube_name(row) for row in rows]
    count = Counter(name.casefold() for name in plain)
    names = tuple(
        name if count[name.casefold()] == 1 else f"{name}-{_digest(row)}" for name, row in zip(plain, rows, strict=True)
    )
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name.casefold()] += 1
        repeat = seen[name.casefold()]
        unique.append(name if repeat == 1 else f"{name}-{repeat}")
    return tuple(unique)


def _slug(text: str) -> str:
    return re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFKC", text)).strip("-") or "x"


def _digest(row: ManifestRow) -> str:
    return hashlib.sha256("\0".join(map(str, (row.file, *tube_key(row)))).encode()).hexdigest()[:8]
