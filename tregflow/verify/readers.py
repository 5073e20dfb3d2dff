"""The raw values of a tube by another reader: fcsparser where it can, else FlowIO, and why."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from tregflow.verify.model import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tregflow.fcs import FcsFile


def cross_read(file: FcsFile, path: Path, tube: str) -> tuple[str, str, tuple[Problem, ...]]:
    """Compare the raw values of a tube with those that another reader finds.

    Returns
    -------
    reader
        `fcsparser` or `FlowIO`; empty where neither can read the file.
    why
        Why it was not fcsparser, or nobody.
    problems
        `VERIFY_RAW_VALUES` for each channel that differs.
    """
    reasons = []
    for name, read in (("fcsparser", _by_fcsparser), ("FlowIO", _by_flowio)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what these readers find odd, tregflow has found and said
                theirs = read(path)
        except ImportError:
            reasons.append(f"{name} is not installed")
        except Exception as error:  # noqa: BLE001 - whatever another reader fails with is no finding about the tube
            reasons.append(f"{name}: {str(error).strip() or type(error).__name__}")
        else:
            return name, "; ".join(reasons), _compare(file, theirs, name, tube)
    return "", "; ".join(reasons), ()


def _by_fcsparser(path: Path) -> NDArray[Any]:
    import fcsparser  # noqa: PLC0415 - an extra, and slow to load

    _, events = fcsparser.parse(str(path), reformat_meta=False)
    return np.asarray(events.to_numpy())


def _by_flowio(path: Path) -> NDArray[Any]:
    import flowio  # noqa: PLC0415 - only the cross-reading needs it

    other = flowio.FlowData(str(path), ignore_offset_error=True)
    return np.asarray(other.events).reshape(-1, other.channel_count)


def _compare(file: FcsFile, theirs: NDArray[Any], reader: str, tube: str) -> tuple[Problem, ...]:
    shape = (file.n_events, len(file.parameters))
    if theirs.shape != shape:
        expected, found = (f"{n:,} events x {k} channels" for n, k in (shape, theirs.shape))
        message = f"{reader} finds another number of events or channels in {tube}"
        return (Problem("VERIFY_RAW_VALUES", message, file.path.name, tube, "", expected, found),)
    problems = []
    for parameter in file.parameters:
        ours, other = file.raw([parameter.index])[:, 0], theirs[:, parameter.index]
        differ = np.flatnonzero(~((ours == other) | ((ours != ours) & (other != other))))  # noqa: PLR0124 - NaN
        if differ.size:
            first = int(differ[0])
            what = f"{differ.size:,} events of {parameter.pnn} of {tube}"
            message = f"{reader} reads {what} otherwise, the first is {first + 1:,}"
            values = (repr(ours[first].item()), repr(other[first].item()))
            problems.append(Problem("VERIFY_RAW_VALUES", message, file.path.name, tube, parameter.pnn, *values))
    return tuple(problems)
