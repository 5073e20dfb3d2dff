"""Cells of a CSV or XLSX sheet as text, with what a spreadsheet program did to them; text files written in one step."""

from __future__ import annotations

import csv
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from tregflow.errors import StudyError, not_utf8

if TYPE_CHECKING:
    from openpyxl.cell.cell import Cell as SheetCell
    from openpyxl.worksheet.worksheet import Worksheet

Kind = Literal["text", "integer", "number", "date", "boolean", "formula", "error"]

_DELIMITERS = (",", ";", "\t")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_EXACT_INTEGER = 10**15  # a spreadsheet keeps 15 digits of a number


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as text.

    `place` is how a person finds it ("cell C7", "row 7, visit"), `row` likewise for its row; `kind` is what the sheet
    stores there; `note` says how a stored value differs from what is shown or was typed, where that is known.
    """

    text: str
    place: str
    row: str
    kind: Kind = "text"
    note: str = ""


def guard(text: str) -> str:
    """Put an apostrophe before a free text that a spreadsheet would run as a formula; a plain number stays."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unguard(text: str) -> str:
    """Undo `guard`: `unguard(guard(x)) == x` for every text."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def starts_formula(text: str) -> bool:
    """Whether a spreadsheet would take the text for a formula: it starts with ``=``, ``+``, ``-`` or ``@``."""
    return text[:1] in {"=", "+", "-", "@"}


def csv_bytes(header: Sequence[str], records: Iterable[Sequence[str]], *, bom: bool = False) -> bytes:
    r"""Return a CSV file: comma, ``\n``, UTF-8, quotes only where needed.

    With `bom` a byte order mark is added if there is text beyond ASCII, because Excel needs it to read UTF-8.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(records)
    value = text.getvalue()
    return value.encode("utf-8-sig" if bom and not value.isascii() else "utf-8")


def read_cells(path: Path) -> list[list[Cell]]:
    """Read all rows of a ``.csv`` or ``.xlsx`` sheet, the header first; entirely empty rows are left out.

    Raises
    ------
    StudyError
        ``MANIFEST_UNREADABLE``: not UTF-8, no such file, more than one delimiter, broken quotes, not a workbook, ...
    """
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".xlsx"}:
        raise StudyError("MANIFEST_UNREADABLE", f"{path.name}: expected .csv or .xlsx, found '{suffix}'.")
    try:
        rows = _read_xlsx(path) if suffix == ".xlsx" else _read_csv(path)
    except OSError as error:
        remedy = "Check the path." if isinstance(error, FileNotFoundError) else "Check that you may read the file."
        reason = error.strerror or type(error).__name__
        raise StudyError("MANIFEST_UNREADABLE", f"{path.name}: {reason}.", remedy=remedy) from error
    return [row for row in rows if any(cell.text for cell in row)]


def _read_csv(path: Path) -> list[list[Cell]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(
            "MANIFEST_UNREADABLE",
            f"{path.name} is {not_utf8(error)}.",
            remedy="Save it as 'CSV UTF-8', or as a workbook (.xlsx).",
        ) from error
    if "\0" in text:
        raise StudyError("MANIFEST_UNREADABLE", f"{path.name} holds NUL characters: it is not a UTF-8 text file.")
    delimiter = _delimiter(path, text.lstrip("\r\n").split("\n", 1)[0])
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise StudyError("MANIFEST_UNREADABLE", f"{path.name} is not well-formed CSV: {error}.") from error
    header = next(([name.strip() for name in record] for record in records if any(record)), [])
    return [
        [
            Cell(unguard(value.strip()), f"row {number}, {name}", f"row {number}")
            # a spreadsheet drops the empty cells at the end of some rows when it saves CSV: a short row is not an error
            for name, value in zip(_padded(header, len(record)), _padded(record, len(header)), strict=True)
        ]
        for number, record in enumerate(records, start=1)
    ]


def _padded(values: Sequence[str], length: int) -> list[str]:
    return [*values, *[""] * (length - len(values))]


def _delimiter(path: Path, header: str) -> str:
    found = [delimiter for delimiter in _DELIMITERS if delimiter in header]
    if len(found) > 1:
        raise StudyError(
            "MANIFEST_UNREADABLE",
            f"{path.name}: the header line holds {' and '.join(map(repr, found))}; expected one delimiter, "
            "comma, semicolon or tab.",
        )
    return found[0] if found else ","


def _read_xlsx(path: Path) -> list[list[Cell]]:
    import openpyxl  # noqa: PLC0415 - only a workbook needs it

    if path.is_file() and not zipfile.is_zipfile(path):
        raise StudyError("MANIFEST_UNREADABLE", f"{path.name} is not an .xlsx workbook (or it has a password).")
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # openpyxl tells of styles and validations that it does not read
            book = openpyxl.load_workbook(file)  # formulas as formulas: a stored result may be stale or absent
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise StudyError("MANIFEST_UNREADABLE", f"{path.name} is not a readable .xlsx workbook: {error}.") from error
    sheet = _sheet(path, book.worksheets)
    if sheet.merged_cells.ranges:
        where = ", ".join(sorted(str(area) for area in sheet.merged_cells.ranges))
        raise StudyError(
            "MANIFEST_UNREADABLE",
            f"{path.name}: cells {where} are merged; expected one value per cell.",
            remedy="Unmerge the cells and fill every row.",
        )
    return [[_cell(cast("SheetCell", cell)) for cell in row] for row in sheet.iter_rows()]


def _sheet(path: Path, sheets: Sequence[Worksheet]) -> Worksheet:
    filled = [sheet for sheet in sheets if sheet.max_row > 1 or sheet.max_column > 1 or sheet["A1"].value is not None]
    named = [sheet for sheet in filled if sheet.title.strip().lower() == "manifest"]
    chosen = named or filled
    if len(chosen) != 1:
        names = ", ".join(f"'{sheet.title}'" for sheet in chosen) or "none"
        raise StudyError(
            "MANIFEST_UNREADABLE",
            f"{path.name}: expected one sheet with cells, or one named 'manifest'; found {names}.",
        )
    return chosen[0]


def _cell(cell: SheetCell) -> Cell:
    """One cell of a workbook: a date as ISO 8601, a whole number without a decimal point."""
    value, place, row = cell.value, f"cell {cell.coordinate}", f"row {cell.row}"
    if cell.data_type == "e":
        return Cell(str(value), place, row, "error")
    if cell.data_type == "f":
        return Cell(str(getattr(value, "text", value)), place, row, "formula")
    if isinstance(value, bool):
        return Cell(str(value).upper(), place, row, "boolean")
    if isinstance(value, datetime | date):
        return Cell(_iso(value, cell.number_format), place, row, "date", f"shown as {cell.number_format}")
    if isinstance(value, int | float):
        return _number(value, cell.number_format, place, row)
    # a rich text, a time of day or a duration: the last two are never what a manifest wants
    text = "" if value is None else str(value).strip()
    return Cell(text, place, row, "text" if value is None or isinstance(value, str) else "date")


def _iso(value: datetime | date, number_format: str) -> str:
    if not isinstance(value, datetime):
        return value.isoformat()
    if "h" not in number_format.lower() and (value.hour, value.minute, value.second) == (0, 0, 0):
        return value.date().isoformat()
    return value.replace(microsecond=0).isoformat()


def _number(value: float, number_format: str, place: str, row: str) -> Cell:
    if value != int(value):
        return Cell(repr(float(value)), place, row, "number")
    text = str(int(value))
    if abs(value) >= _EXACT_INTEGER:
        return Cell(text, place, row, "number", "digits beyond the fifteenth are lost")
    if "E" in number_format.upper() and number_format.lower() != "general":
        return Cell(text, place, row, "number", f"shown in scientific notation ({number_format})")
    if re.fullmatch(r"0{2,}", number_format) and len(text) < len(number_format):
        return Cell(text, place, row, "number", f"shown as {text.zfill(len(number_format))}")
    return Cell(text, place, row, "integer")
