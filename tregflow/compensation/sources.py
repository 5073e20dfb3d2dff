"""Where a matrix is read from: keywords of the file, or a CSV.

What the standards say of the keywords:

* `$SPILLOVER` (FCS 3.1, 3.2), and `SPILL` before it: `n, names, n x n fractions by rows`; a matrix to be applied.
* `$COMP` (FCS 3.0): `n, n x n percentages by rows` over the first n parameters, element (i, j) being the percentage
  of parameter j that has been subtracted electronically from parameter i, negative where it was subtracted.
* `$DFCmTOn` (FCS 2.0): the percentage of parameter m that has been subtracted from parameter n.

The last two describe what the instrument did before the values were written. They are read and kept, and
`check_not_compensated` refuses to apply them a second time. (Some instruments number fluorescence channels instead of
parameters in them: another reason not to build on them.)
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tregflow.compensation.matrix import PREFIX, SINGULAR, Array, Spillover, malformed
from tregflow.errors import CompensationError, Finding

_KEYWORDS = ("$SPILLOVER", "SPILLOVER", "$SPILL", "SPILL")
_DFC = re.compile(r"\$DFC(\d+)TO(\d+)")


def spillover_from_keywords(
    keywords: Mapping[str, str], pnn: Sequence[str]
) -> tuple[Spillover | None, tuple[Finding, ...]]:
    """Read the spillover that a file carries.

    Parameters
    ----------
    keywords
        The TEXT keywords; upper or lower case does not matter.
    pnn
        `$PnN` of all parameters, in the order of the file.

    Returns
    -------
    spillover
        From `$SPILLOVER` or `SPILL`; else, marked `electronic`, from `$COMP` or `$DFCmTOn` where these have a
        coefficient other than zero; else None. A keyword without a value counts as absent.
    findings
        `COMPENSATION_NAMES`: a channel was found by ignoring case and spaces, or by its number.
        `COMPENSATION_ELECTRONIC`: the instrument has compensated these values.

    Raises
    ------
    CompensationError
        `COMPENSATION_MALFORMED`, `COMPENSATION_CHANNELS`: a name is no channel, or could be two.
        `COMPENSATION_AMBIGUOUS`: two keywords that differ. `COMPENSATION_NOT_FINITE`, `COMPENSATION_SINGULAR`.
    """
    upper = {key.upper(): value for key, value in keywords.items() if value.strip()}
    read = [_parse_spillover(f"file:{key}", upper[key], pnn) for key in _KEYWORDS if key in upper]
    if len({spillover.sha256 for spillover, _ in read}) > 1:
        sources = " and ".join(spillover.source for spillover, _ in read)
        raise CompensationError("COMPENSATION_AMBIGUOUS", f"{sources} are different matrices; expected one.")
    if read:
        return read[0]
    percentages = _comp_percentages(upper, pnn)
    if percentages is None or not percentages[1].any():
        return None, ()
    source, subtracted = percentages
    used = np.flatnonzero(subtracted.any(axis=0) | subtracted.any(axis=1))
    # comp = K raw with K = 1 - subtracted.T; and comp = inverse(S).T raw, so that S = inverse(K).T
    kept = np.eye(len(used)) - subtracted[np.ix_(used, used)] / 100
    if not np.linalg.cond(kept) < SINGULAR:
        raise CompensationError("COMPENSATION_SINGULAR", f"the percentages of {source} cannot be inverted.")
    spillover = Spillover(
        source, tuple(pnn[int(i)] for i in used), np.linalg.inv(kept).astype(np.float64), electronic=True
    )
    return spillover, (
        Finding(
            "COMPENSATION_ELECTRONIC",
            "review",
            f"{source} says that the instrument has already subtracted a compensation from these values",
            observed=", ".join(spillover.channels),
        ),
    )


def spillover_from_csv(path: Path, pnn: Sequence[str]) -> Spillover:
    """Read a spillover matrix from a CSV as FlowJo, flowCore or CytoExploreR write it.

    Parameters
    ----------
    path
        A header row of two or more channel names and one row per channel, its first cell optionally the row's name;
        separated by commas, tabs, semicolons (then also with decimal commas) or spaces. Lines before the header are
        skipped.
    pnn
        `$PnN` of all parameters of the tube.

    Raises
    ------
    CompensationError
        `COMPENSATION_MALFORMED`: no or more than one way to read it as a square matrix, or rows and columns named
        differently. Otherwise as `spillover_from_keywords`.
    """
    source = f"csv:{path.name}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise malformed(source, "a readable text file", type(error).__name__) from error
    lines = [line.removeprefix("#").strip(" ") for line in text.splitlines() if line.strip(' \t,;"')]
    readings = {reading for delimiter in (",", "\t", ";", " ") for reading in _read_table(lines, delimiter)}
    if len(readings) != 1:
        raise malformed(source, "a header of n channel names and n rows of n numbers", f"{len(readings)} such tables")
    columns, rows, values = readings.pop()
    matrix = np.array(values)
    if rows:
        if sorted(rows) != sorted(columns):
            raise malformed(source, f"rows named as the columns ({', '.join(columns)})", ", ".join(rows))
        matrix = matrix[[rows.index(column) for column in columns]]
    channels, _ = _resolve(source, columns, pnn)
    return Spillover(source, channels, matrix)


def _parse_spillover(source: str, text: str, pnn: Sequence[str]) -> tuple[Spillover, tuple[Finding, ...]]:
    """Read `n, names, coefficients`."""
    tokens = _tokens(text)
    n = _count(source, tokens[0])
    if len(tokens) != 1 + n + n * n:
        raise malformed(source, f"{n} names and {n * n} coefficients after the number {n}", f"{len(tokens) - 1} items")
    channels, findings = _resolve(source, tokens[1 : n + 1], pnn)
    return Spillover(source, channels, _numbers(source, tokens[n + 1 :]).reshape(n, n)), findings


def _comp_percentages(upper: Mapping[str, str], pnn: Sequence[str]) -> tuple[str, Array] | None:
    """Percentages subtracted: `[source, detector]`, over all parameters; from `$COMP` or `$DFCmTOn`, or None."""
    subtracted = np.zeros((len(pnn), len(pnn)))
    if "$COMP" in upper:
        tokens = _tokens(upper["$COMP"])
        n = _count("file:$COMP", tokens[0])
        if len(tokens) != 1 + n * n or n > len(pnn):
            expected = f"{n * n} percentages after the number {n}, for at most {len(pnn)} parameters"
            raise malformed("file:$COMP", expected, f"{len(tokens) - 1} items")
        subtracted[:n, :n] = -_numbers("file:$COMP", tokens[1:]).reshape(n, n).T
        np.fill_diagonal(subtracted, 0.0)
        return "file:$COMP", subtracted
    found = [(match, upper[key]) for key in upper if (match := _DFC.fullmatch(key))]
    for match, text in found:
        percentage = float(_numbers("file:$DFCmTOn", [text])[0])
        m, n = int(match[1]) - 1, int(match[2]) - 1
        if percentage == 0.0 or m == n:
            continue
        if not (0 <= m < len(pnn) and 0 <= n < len(pnn)):
            raise malformed("file:$DFCmTOn", f"parameters from 1 to {len(pnn)}", match[0])
        subtracted[m, n] = percentage
    return ("file:$DFCmTOn", subtracted) if found else None


def _read_table(
    lines: list[str], delimiter: str
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[float, ...], ...]]]:
    """Yield each way to read lines as column names, row names (or none) and a square matrix."""
    table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
    for start, row in enumerate(table):
        columns = tuple(cell.partition(" :: ")[0] for cell in row if cell)
        body = [cells[: len(cells) - (cells[-1] == "")] for cells in table[start + 1 :]]
        n = len(columns)
        if n < 2 or len(body) != n or any(len(cells) != len(body[0]) for cells in body):
            continue
        if len(body[0]) not in {n, n + 1} or all(map(_is_number, columns)):
            continue
        cells = [[cell.replace(",", ".") if delimiter == ";" else cell for cell in row[-n:]] for row in body]
        if not all(_is_number(cell) for row in cells for cell in row):
            continue
        names = tuple(row[0].partition(" :: ")[0] for row in body) if len(body[0]) == n + 1 else ()
        yield columns, names, tuple(tuple(float(cell) for cell in row) for row in cells)


def _resolve(source: str, names: Sequence[str], pnn: Sequence[str]) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Find each name among `$PnN`: as written; else ignoring case, spaces and `Comp-`; else all are numbers."""
    if all(name.isdigit() for name in names) and not set(names) & set(pnn):
        if not all(1 <= int(name) <= len(pnn) for name in names):
            raise _no_channel(source, f"the parameter numbers {', '.join(names)}", pnn)
        channels = tuple(pnn[int(name) - 1] for name in names)
        return channels, (_tolerated(source, "parameter numbers", channels),)
    channels_, loose = [], []
    for name in names:
        found = [channel for channel in pnn if channel == name]
        for simplify in (_squeeze, lambda text: _squeeze(text).removeprefix(PREFIX)):
            if not found:
                found = [channel for channel in pnn if simplify(channel) == simplify(name)]
                loose += found
        if len(found) != 1:
            raise _no_channel(source, f"{name!r}" + (" (which fits several)" if found else ""), pnn)
        channels_.append(found[0])
    return tuple(channels_), (_tolerated(source, "another spelling", loose),) if loose else ()


def _tolerated(source: str, how: str, channels: Sequence[str]) -> Finding:
    message = f"{source} names channels by {how}; exactly one reading fits"
    return Finding("COMPENSATION_NAMES", "info", message, observed=", ".join(channels))


def _no_channel(source: str, what: str, pnn: Sequence[str]) -> CompensationError:
    return CompensationError(
        "COMPENSATION_CHANNELS", f"{source} names {what}; expected exactly one of the channels {', '.join(pnn)}."
    )


def _tokens(text: str) -> list[str]:
    """Items between commas; commas after the last one are dropped."""
    return [token.strip() for token in text.replace("\n", "").strip().rstrip(",").split(",")]


def _count(source: str, token: str) -> int:
    if not token.isdigit() or int(token) == 0:
        raise malformed(source, "the number of channels first", repr(token))
    return int(token)


def _numbers(source: str, tokens: Sequence[str]) -> Array:
    wrong = [token for token in tokens if not _is_number(token)]
    if wrong:
        raise malformed(source, "numbers", repr(wrong[0]))
    return np.array([float(token) for token in tokens])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _squeeze(text: str) -> str:
    return "".join(text.split()).casefold()
