"""Spillover matrices: from a file's keywords or a CSV, checked, and their inverse applied once.

Rows are sources (fluorochromes), columns are detectors: `matrix[i, j]` is what source i leaves in detector j as a
fraction of what it leaves in its own. A raw event is `true @ matrix`, so `true = raw @ inverse` (Gating-ML 2.0,
spectrumMatrix). Coefficients above 1 and below 0 are legal.

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
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tregflow.errors import CompensationError, Finding

Array = NDArray[np.float64]

_KEYWORDS = ("$SPILLOVER", "SPILLOVER", "$SPILL", "SPILL")
_DFC = re.compile(r"\$DFC(\d+)TO(\d+)")
_PREFIX = "comp-"  # FlowJo, FlowKit and Diva name exported compensated channels so
_PLACEHOLDER = 1e-5  # SpectroFlo writes the identity with one coefficient of 1e-6, so that readers take it for a matrix
_SINGULAR = 1e12  # above this condition number the inverse of float64 coefficients has fewer than four digits


@dataclass(frozen=True, slots=True, eq=False)
class Spillover:
    """A square spillover matrix that can be inverted.

    Parameters
    ----------
    source
        Where it came from: `file:$SPILLOVER`, `csv:name.csv`, ...
    channels
        `$PnN` of the detectors, in the order of rows and columns.
    matrix
        Shape `(n, n)`: rows sources, columns detectors, fractions. Kept as a read-only float64 copy.
    electronic
        The keyword says that the instrument has subtracted it already (`$COMP`, `$DFCmTOn`).

    Attributes
    ----------
    inverse
        Shape `(n, n)`, read-only.
    condition_number
        Ratio of the largest to the smallest singular value.
    sha256
        Of the coefficients and their names, whatever the order of the channels.

    Raises
    ------
    CompensationError
        `COMPENSATION_MALFORMED`: not square, or a name twice. `COMPENSATION_NOT_FINITE`, `COMPENSATION_SINGULAR`.
    """

    source: str
    channels: tuple[str, ...]
    matrix: Array
    electronic: bool = False
    inverse: Array = field(init=False, repr=False)
    condition_number: float = field(init=False)
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64) + 0.0  # a copy, without negative zeros
        n = len(self.channels)
        if n == 0 or matrix.shape != (n, n):
            raise _malformed(self.source, f"a {n} x {n} matrix for {n} channels", f"shape {matrix.shape}")
        if len(set(self.channels)) != n:
            raise _malformed(self.source, "every channel once", ", ".join(self.channels))
        if not np.isfinite(matrix).all():
            i, j = np.argwhere(~np.isfinite(matrix))[0]
            raise CompensationError(
                "COMPENSATION_NOT_FINITE",
                f"{self.source} holds {matrix[i, j]} for the spillover of {self.channels[i]} into {self.channels[j]}.",
                channel=self.channels[i],
            )
        condition = float(np.linalg.cond(matrix))
        if not condition < _SINGULAR:
            raise CompensationError(
                "COMPENSATION_SINGULAR",
                f"{self.source} ({n} channels) cannot be inverted: condition number {condition:.3g}, "
                f"limit {_SINGULAR:.0e}.",
            )
        order = sorted(range(n), key=self.channels.__getitem__)
        content = json.dumps([[self.channels[i] for i in order], matrix[np.ix_(order, order)].tolist()])
        values = {
            "matrix": matrix,
            "inverse": np.linalg.inv(matrix),
            "condition_number": condition,
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def is_identity(self) -> bool:
        """Whether it is the identity to within 1e-5: a placeholder, that compensates nothing."""
        return bool(np.abs(self.matrix - np.eye(len(self.channels))).max() <= _PLACEHOLDER)

    def compensate(self, raw: ArrayLike) -> Array:
        """Compensate events given as one row per channel.

        Parameters
        ----------
        raw
            Shape `(n, m)`: scale values, one row per channel in the order of `channels`, uncompensated.

        Returns
        -------
        compensated
            Shape `(n, m)`, scale values.
        """
        return self.inverse.T @ np.asarray(raw, dtype=np.float64)


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
    if not np.linalg.cond(kept) < _SINGULAR:
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
        raise _malformed(source, "a readable text file", type(error).__name__) from error
    lines = [line.removeprefix("#").strip(" ") for line in text.splitlines() if line.strip(' \t,;"')]
    readings = {reading for delimiter in (",", "\t", ";", " ") for reading in _read_table(lines, delimiter)}
    if len(readings) != 1:
        raise _malformed(source, "a header of n channel names and n rows of n numbers", f"{len(readings)} such tables")
    columns, rows, values = readings.pop()
    matrix = np.array(values)
    if rows:
        if sorted(rows) != sorted(columns):
            raise _malformed(source, f"rows named as the columns ({', '.join(columns)})", ", ".join(rows))
        matrix = matrix[[rows.index(column) for column in columns]]
    channels, _ = _resolve(source, columns, pnn)
    return Spillover(source, channels, matrix)


def check_not_compensated(spillover: Spillover, pnn: Sequence[str]) -> tuple[Finding, ...]:
    """Look for signs that the values of a tube have been compensated before this spillover is applied to them.

    Parameters
    ----------
    spillover
        What is to be applied.
    pnn
        `$PnN` of all parameters of the tube.

    Returns
    -------
    findings
        `COMPENSATION_DONE_BEFORE` (info): an identity matrix for channels with compensated names.
        `COMPENSATION_IDENTITY` (review): an identity matrix for channels with ordinary names.
        `COMPENSATION_DIAGONAL` (review): a source is not 1 in its own detector, so units change.

    Raises
    ------
    CompensationError
        `COMPENSATION_TWICE`: compensated names (`Comp-`) and a matrix other than the identity, or a matrix that the
        instrument has applied.
    """
    named = [channel for channel in spillover.channels if channel.lower().startswith(_PREFIX)]
    if spillover.is_identity:
        if named:
            return (
                Finding(
                    "COMPENSATION_DONE_BEFORE",
                    "info",
                    f"{spillover.source} is the identity and the channels are named as compensated",
                    observed=", ".join(named),
                ),
            )
        return (
            Finding("COMPENSATION_IDENTITY", "review", f"{spillover.source} is the identity: nothing is compensated"),
        )
    if named or spillover.electronic:
        reason = f"the channels {', '.join(named)} are named as compensated" if named else "the instrument applied it"
        raise CompensationError(
            "COMPENSATION_TWICE",
            f"{spillover.source} would be applied to values that are compensated already ({reason}); "
            f"expected an identity matrix or uncompensated values among {', '.join(pnn)}.",
        )
    diagonal = np.diag(spillover.matrix)
    odd = np.flatnonzero(np.abs(diagonal - 1) > 1e-6)
    return tuple(
        Finding(
            "COMPENSATION_DIAGONAL",
            "review",
            f"{spillover.source} gives {spillover.channels[i]} another coefficient than 1 in its own detector",
            observed=repr(float(diagonal[i])),
            limit="1",
        )
        for i in odd
    )


def require_channels(spillover: Spillover | None, needed: Sequence[str], *, file: str) -> Spillover:
    """Insist on a spillover that covers the channels to be compensated.

    Parameters
    ----------
    spillover
        What was found, or None.
    needed
        `$PnN` of the fluorescence channels that gates use.
    file
        Name of the tube's file, for the error.

    Raises
    ------
    CompensationError
        `COMPENSATION_MISSING`: None. `COMPENSATION_PARTIAL`: a channel is not in the matrix.
    """
    if spillover is None:
        raise CompensationError(
            "COMPENSATION_MISSING",
            f"{file} has no spillover; expected one for {', '.join(needed)}.",
            file=file,
        )
    missing = [channel for channel in needed if channel not in spillover.channels]
    if missing:
        raise CompensationError(
            "COMPENSATION_PARTIAL",
            f"{spillover.source} of {file} does not cover {', '.join(missing)}; it covers "
            f"{', '.join(spillover.channels)}.",
            file=file,
            channels=missing,
        )
    return spillover


def resolve_spillover(
    keywords: Mapping[str, str],
    pnn: Sequence[str],
    *,
    needed: Sequence[str],
    sources: Sequence[str],
    csv: Path | None,
    file: str,
) -> tuple[Spillover | None, tuple[Finding, ...]]:
    """Decide the one matrix of a tube, from the sources its template names, in their order.

    Parameters
    ----------
    needed
        `$PnN` of the fluorescence channels of the panel.
    sources
        `file`, `manifest` or `unmixed`; all but the first are declared alternatives, and their use is a finding.
    csv
        The matrix that the manifest names for the tube, or None.
    file
        Name of the tube's file, for messages.

    Returns
    -------
    The matrix, None where nothing is to be applied (unmixed values), and findings.

    Raises
    ------
    CompensationError
        `COMPENSATION_MISSING` (no source gives one), `COMPENSATION_NOT_ALLOWED` (the manifest names a matrix that the
        template does not ask for, or unmixed values carry one that the instrument has not applied), and those of the
        readers and checks above.
    """
    if csv is not None and "manifest" not in sources:
        raise CompensationError(
            "COMPENSATION_NOT_ALLOWED",
            f"the manifest names {csv.name} for {file}, but the template takes compensation from {sources[0]}.",
            file=file,
        )
    for place, source in enumerate(sources):
        found, findings = _from_source(source, keywords, pnn, csv, file)
        if source != "unmixed" and found is None:
            continue
        if place:
            message = f"{file} has no compensation from {sources[0]}; {source} was used instead."
            findings = (*findings, Finding("COMPENSATION_ALTERNATIVE", "review", message))
        if found is None:
            return None, findings
        return require_channels(found, needed, file=file), (*findings, *check_not_compensated(found, pnn))
    return require_channels(None, needed, file=file), ()


def _from_source(
    source: str, keywords: Mapping[str, str], pnn: Sequence[str], csv: Path | None, file: str
) -> tuple[Spillover | None, tuple[Finding, ...]]:
    if source == "manifest":
        return (None if csv is None else spillover_from_csv(csv, pnn)), ()
    found, findings = spillover_from_keywords(keywords, pnn)
    if source == "file":
        return found, findings
    if found is not None and not found.is_identity and not found.electronic:
        raise CompensationError(
            "COMPENSATION_NOT_ALLOWED",
            f"{file} carries {found.source}, but the template says that its values are unmixed; expected no matrix, "
            "or the identity.",
            file=file,
        )
    return None, findings


def _parse_spillover(source: str, text: str, pnn: Sequence[str]) -> tuple[Spillover, tuple[Finding, ...]]:
    """Read `n, names, coefficients`."""
    tokens = _tokens(text)
    n = _count(source, tokens[0])
    if len(tokens) != 1 + n + n * n:
        raise _malformed(source, f"{n} names and {n * n} coefficients after the number {n}", f"{len(tokens) - 1} items")
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
            raise _malformed("file:$COMP", expected, f"{len(tokens) - 1} items")
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
            raise _malformed("file:$DFCmTOn", f"parameters from 1 to {len(pnn)}", match[0])
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
        for simplify in (_squeeze, lambda text: _squeeze(text).removeprefix(_PREFIX)):
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


def _malformed(source: str, expected: str, found: str) -> CompensationError:
    return CompensationError("COMPENSATION_MALFORMED", f"{source}: expected {expected}; found {found}.")


def _tokens(text: str) -> list[str]:
    """Items between commas; commas after the last one are dropped."""
    return [token.strip() for token in text.replace("\n", "").strip().rstrip(",").split(",")]


def _count(source: str, token: str) -> int:
    if not token.isdigit() or int(token) == 0:
        raise _malformed(source, "the number of channels first", repr(token))
    return int(token)


def _numbers(source: str, tokens: Sequence[str]) -> Array:
    wrong = [token for token in tokens if not _is_number(token)]
    if wrong:
        raise _malformed(source, "numbers", repr(wrong[0]))
    return np.array([float(token) for token in tokens])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _squeeze(text: str) -> str:
    return "".join(text.split()).casefold()
