"""FlowKit's counts of a FlowJo workspace: the second opinion on ours.

FlowKit is given the workspace as our reader parsed it, without anything that our reader refuses, and with each sample
named by its id, because names can repeat and FlowKit keeps one sample of a name.
"""

from __future__ import annotations

import copy
import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lxml.etree import _Element

#: What FlowKit raises where it cannot read a workspace or gate a sample.
_FAILURES = (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, ArithmeticError)


def flowkit_counts(
    root: _Element, tubes: Mapping[str, Path], gates: Mapping[str, Sequence[tuple[str, ...]]]
) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Events of every population by FlowKit.

    Parameters
    ----------
    root
        The parsed workspace.
    tubes
        FCS file by sample id.
    gates
        Paths of populations by sample id.

    Returns
    -------
    counts
        By sample id and population (its path joined by `/`).
    failures
        By sample id why FlowKit has no counts; under the empty id, why it cannot read the workspace at all.
    """
    import flowkit  # noqa: PLC0415 - heavy

    failures: dict[str, str] = {}
    counts: dict[str, dict[str, int]] = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        samples = []
        for sample_id, path in tubes.items():
            try:
                samples.append(flowkit.Sample(str(path), sample_id=sample_id, use_flowjo_labels=True))
            except _FAILURES as error:
                failures[sample_id] = _why(error)
        if not samples:
            return counts, failures
        try:
            workspace = flowkit.Workspace(io.BytesIO(_by_id(root)), fcs_samples=samples)
        except (*_FAILURES, flowkit.exceptions.FlowKitException) as error:
            return counts, failures | {"": _why(error)}
        for sample in samples:
            try:
                workspace.analyze_samples(sample_id=sample.id, use_mp=False)
                results = workspace.get_gating_results(sample.id)
                counts[sample.id] = {
                    "/".join(path): int(results.get_gate_count(path[-1], ("root", *path[:-1])))
                    for path in gates[sample.id]
                }
            except (*_FAILURES, flowkit.exceptions.FlowKitException) as error:
                failures[sample.id] = _why(error)
    return counts, failures


def _by_id(root: _Element) -> bytes:
    """The workspace with the samples' ids for their names."""
    from lxml import etree  # noqa: PLC0415 - heavy

    renamed = copy.deepcopy(root)
    for node in renamed.iterfind("SampleList/Sample/SampleNode"):
        node.set("name", node.get("sampleID", ""))
    return etree.tostring(renamed)


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().rstrip(".")
