"""Known answers that ship with the package: transforms by value, gates by event, ours and FlowKit's."""

from __future__ import annotations

import io
import json
import math
import tomllib
import warnings
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from tregflow.compensation import Spillover
from tregflow.gating import gate_sample
from tregflow.sample import sample_from_array
from tregflow.template.gatingml import write_gatingml
from tregflow.template.model import Template, TransformSpec, build_transform
from tregflow.verify import Check, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tregflow.gating import GatingResult

_SPECS: TypeAdapter[TransformSpec] = TypeAdapter(TransformSpec)
_FILE = "cases.toml"
_CLOSE = 1e-9


def read_cases() -> dict[str, Any]:
    """The cases as they ship."""
    return tomllib.loads(files("tregflow.selftest").joinpath(_FILE).read_text(encoding="utf-8"))


def check_conformance(cases: Mapping[str, Any] | None = None) -> tuple[Check, ...]:
    """Transforms there and back, gates by our engine, and the same gates exported and read by FlowKit."""
    cases = read_cases() if cases is None else cases
    points = [point for each in cases["transforms"] for point in each["points"]]
    gates = [(case, gate) for case in cases["cases"] for gate in case["gates"]]
    asked = [case for case in cases["cases"] if case.get("flowkit", True)]
    results = [(case, gate_case(case)) for case in cases["cases"]]
    theirs = [p for case, (result, spillover) in results if case in asked for p in _by_flowkit(case, result, spillover)]
    return (
        Check(
            "transforms", "Transforms by hand-computed values",
            f"{len(cases['transforms'])} transforms, {len(points)} values, there and back",
            tuple(p for each in cases["transforms"] for p in _transform(each)),
        ),
        Check(
            "gates", "Gates and compensation by hand-computed events", f"{len(results)} cases, {len(gates)} gates",
            tuple(p for case, (result, _) in results for p in _by_us(case, result)),
        ),
        Check(
            "gating_ml", "The same through Gating-ML and FlowKit",
            f"{len(asked)} cases, {sum(len(case['gates']) for case in asked)} gates", tuple(theirs),
        ),
    )  # fmt: skip


def gate_case(case: Mapping[str, Any]) -> tuple[GatingResult, Spillover | None]:
    """Gate the events of a case by our engine, with its matrix."""
    names = list(case["channels"])
    matrix = case.get("spillover")
    spillover = None if matrix is None else Spillover("case", tuple(names), np.array(matrix))
    sample = sample_from_array(case["id"], np.array(case["events"], dtype=np.float64), [(name, "") for name in names])
    channels = {channel.pnn: channel for channel in sample.channels}
    return gate_sample(sample, _template(case), channels=channels, spillover=spillover, draw=False), spillover


def _template(case: Mapping[str, Any]) -> Template:
    """A template with the case's gates; what else a template needs is of no account here."""
    first = case["gates"][0]["id"]
    document = {
        "schema_version": 1,
        "id": "case",
        "version": "0.1.0",
        "title": case["id"],
        "endpoint": {"numerator": first, "denominator": first},
        "panel": {name: {"aliases": [name], "kind": "fluorescence"} for name in case["channels"]},
        "compensation": {"source": "unmixed"},
        "transforms": case.get("transforms", {}),
        "gates": list(case["gates"]),
    }
    return Template.model_validate_json(json.dumps(document))


def _transform(each: Mapping[str, Any]) -> Iterator[Problem]:
    parameters = {name: value for name, value in each.items() if name != "points"}
    transform = build_transform(_SPECS.validate_python(parameters))
    for x, y in each["points"]:
        there = float(transform(np.array([x]))[0])
        back = float(transform.inverse(np.array([y]))[0])
        for what, expected, found in ((f"of {x:g}", y, there), (f"inverse of {y:g}", x, back)):
            if not math.isclose(expected, found, rel_tol=_CLOSE, abs_tol=_CLOSE):
                message = f"{transform} {what} is not the known value"
                yield Problem("SELFTEST_CONFORMANCE", message, _FILE, "", each["kind"], repr(expected), repr(found))


def _by_us(case: Mapping[str, Any], result: GatingResult) -> Iterator[Problem]:
    for gate, events in case["expected"].items():
        yield from _same(case, gate, events, result[gate].mask, "tregflow")


def _by_flowkit(case: Mapping[str, Any], result: GatingResult, spillover: Spillover | None) -> Iterator[Problem]:
    import flowkit  # noqa: PLC0415 - slow to load

    from tregflow.verify.exports import names_in_export  # noqa: PLC0415

    document = write_gatingml(result.gates, spillover, {"case": case["id"]})
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        strategy = flowkit.parse_gating_xml(io.BytesIO(document))
        events, labels = np.array(case["events"], dtype=np.float64), list(case["channels"])
        sample = flowkit.Sample(events, sample_id=case["id"], channel_labels=labels, subsample=1)
        found = strategy.gate_sample(sample)
    names = names_in_export(document)
    for gate, expected in case["expected"].items():
        yield from _same(case, gate, expected, np.asarray(found.get_gate_membership(names[gate])), "FlowKit")


def _same(
    case: Mapping[str, Any], gate: str, events: Sequence[int], mask: NDArray[np.bool_], engine: str
) -> Iterator[Problem]:
    found = (np.flatnonzero(mask) + 1).tolist()
    if found != list(events):
        message = f"{engine} finds other events in gate {gate} of case {case['id']}"
        yield Problem("SELFTEST_CONFORMANCE", message, _FILE, case["id"], gate, str(list(events)), str(found))
