"""Which matrix a tube gets, and the signs that it must not get one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tregflow.compensation.matrix import PREFIX, Spillover
from tregflow.compensation.sources import spillover_from_csv, spillover_from_keywords
from tregflow.errors import CompensationError, Finding


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
    named = [channel for channel in spillover.channels if channel.lower().startswith(PREFIX)]
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

    A matrix that the manifest names comes first where the template allows it at all: it was named for this tube, and
    must not be passed over because the file has one too.

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
    ordered = sorted(sources, key=lambda source: csv is None or source != "manifest")  # stable
    for source in ordered:
        found, findings = _from_source(source, keywords, pnn, csv, file)
        if source != "unmixed" and found is None:
            continue
        if source != sources[0]:
            message = f"{file}: compensation from {source} was used, an alternative of the template to {sources[0]}."
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
