"""Random valid templates, for properties of reading, writing and comparing them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tregflow.template.model import Template

MARKERS = ("CD3", "CD4", "CD8", "CD25", "FOXP3")
# names and texts that TOML has to quote or escape
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
ODD = st.sampled_from(
    [
        "", "a 'quoted' \"text\"", "back\\slash", 'three """ quotes', 'ends in "', "two\nlines\n", "\r\n\t\x7f\x00",
        "# no comment", "é\u2028ß",
    ]
)  # fmt: skip
RULES = ("negative_spread", "reference_quantile", "fmo_quantile", "valley", "tail", "shift_scale")
TUBES = {"pattern": r"(?P<subject>S\d+)", "roles": {'fmo-CD25 "x"': "fmo:CD25"}}
POSITIVE = st.floats(1e-6, 1e6)
FINITE = st.floats(-1e9, 1e9)
FRACTION = st.floats(0.01, 0.99)


def interval(low: float = -1e3, high: float = 1e3) -> st.SearchStrategy[list[float]]:
    return st.tuples(st.floats(low, high), st.floats(0.01, 10)).map(lambda pair: [pair[0], pair[0] + pair[1]])


@st.composite
def rules(draw: st.DrawFn, known: list[str], marker: str) -> dict[str, Any]:
    """A rule that places a cut, with any of what rules have in common."""
    rule = draw(st.sampled_from(RULES))
    own: dict[str, Any] = {
        "negative_spread": {"k": draw(POSITIVE)},
        "reference_quantile": {"q": draw(FRACTION)},
        "fmo_quantile": {"q": draw(FRACTION), "control": marker},
        "valley": {"between": draw(interval()), "bandwidth": draw(POSITIVE), "depth": draw(FRACTION)},
        "tail": {"flank": draw(st.sampled_from(["lower", "upper"])), "fraction": draw(FRACTION)},
        "shift_scale": {"cut": draw(FINITE), "location": draw(FINITE), "spread": draw(POSITIVE)},
    }[rule]
    found = {"rule": rule, "side": draw(st.sampled_from(["above", "below"])), **own}
    if rule in {"negative_spread", "reference_quantile", "shift_scale"} or draw(st.booleans()):
        found["reference"] = draw(st.sampled_from(known))
    if draw(st.booleans()):
        found["min_events"] = draw(st.integers(2, 10**6))
    if draw(st.booleans()):
        found |= {"otherwise": "template_value", "template_value": draw(FINITE)}
    else:
        found["share"] = draw(st.sampled_from(["tube", "batch"]))
    return found


@st.composite
def gates(draw: st.DrawFn, gate_id: str, known: list[str]) -> dict[str, Any]:
    """A gate of any kind below one that is there."""
    kind = draw(st.sampled_from(["range", "placed", "rectangle", "polygon", "ellipsoid", "quadrant", "boolean"]))
    one, other = draw(st.permutations(MARKERS))[:2]
    base: dict[str, Any] = {"id": gate_id, "kind": kind, "parent": draw(st.sampled_from(known))}
    if draw(st.booleans()):
        base["title"] = draw(TEXTS | ODD)
    if draw(st.booleans()):
        base["show"] = False
    if kind == "range":
        return base | {"dimensions": [one], draw(st.sampled_from(["min", "max"])): draw(FINITE)}
    if kind == "placed":
        return base | {"kind": "range", "dimensions": [one], "place": draw(rules(known, one))}
    if kind == "rectangle":
        return base | {"dimensions": [one, other], "min": {one: draw(FINITE)}, "max": {other: draw(FINITE)}}
    if kind == "polygon":
        x, y = draw(FINITE), draw(FINITE)
        return base | {"dimensions": [one, other], "vertices": [[x, y], [x + 10, y], [x, y + 10 + draw(POSITIVE)]]}
    if kind == "ellipsoid":
        shape = {"mean": [draw(FINITE), 0], "covariance": [[draw(POSITIVE), 0], [0, draw(POSITIVE)]]}
        return base | {"dimensions": [one, other], "distance_square": draw(POSITIVE), **shape}
    if kind == "quadrant":
        return base | {"dimensions": [one, other], "dividers": [draw(interval()), [draw(FINITE)]], "cells": [2, -1]}
    operands = draw(st.lists(st.sampled_from(known), min_size=2, max_size=3))
    return base | {"operator": draw(st.sampled_from(["and", "or"])), "operands": [operands[0], f"!{operands[1]}"]}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A template's document: valid, with odd texts and numbers."""
    known = ["whole", "numerator"]
    made: list[dict[str, Any]] = [
        {"id": "whole", "kind": "range", "dimensions": ["CD3"], "min": draw(FINITE)},
        {"id": "numerator", "parent": "whole", "kind": "range", "dimensions": ["CD4"], "max": draw(FINITE)},
    ]
    for number in range(draw(st.integers(0, 5))):
        made.append(draw(gates(f"g{number}", known)))
        known.append(f"g{number}")
    panel = {m: {"aliases": [m, f"{m} {i} \\ '"], "kind": "fluorescence"} for i, m in enumerate(MARKERS)}
    panel['odd "name".é'] = {"aliases": ["odd"], "kind": "scatter", "feature": "height", "required": False}
    logicle = {"kind": "logicle", "T": draw(st.floats(1e3, 1e7)), "W": draw(st.floats(0, 2)), "M": 4.5}
    asinh = {"kind": "asinh", "T": draw(st.floats(1e3, 1e7)), "M": draw(st.floats(1, 6))}
    limit = {"review": draw(interval(0, 50)), "fail": draw(interval(0, 50))}
    return {
        "schema_version": 1,
        "id": draw(st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)),
        "version": draw(st.sampled_from(["0.1.0", "1.2.3-draft.4", "10.0.0"])),
        "title": draw(TEXTS | ODD),
        "description": draw(TEXTS | ODD),
        "endpoint": {
            "numerator": "numerator",
            "denominator": "whole",
            "mfi": draw(st.sampled_from([[], ["CD25", "FOXP3"]])),
            "lloq_events": draw(st.integers(20, 1000)),
        },
        "panel": panel,
        "compensation": {"source": draw(st.sampled_from(["file", "unmixed"])), "alternatives": ["manifest"]},
        "transforms": draw(st.sampled_from([{"default": logicle}, {"default": asinh, "CD25": logicle}, {}])),
        "tubes": draw(st.sampled_from([{}, TUBES])),
        "gates": draw(st.permutations(made)),
        "qc": draw(st.sampled_from([{}, {"pct_of_parent": {"whole": limit}}, {"numerator_events_review": 7}])),
    }  # fmt: skip


def with_changelog(document: dict[str, Any], numbers: str = "x") -> dict[str, Any]:
    return document | {"changelog": [{"version": document["version"], "numbers": numbers}]}


def template_of(document: dict[str, Any]) -> Template:
    """The document as a template; the checks of the whole template are not made here."""
    return Template.model_validate_json(json.dumps(with_changelog(document)))
