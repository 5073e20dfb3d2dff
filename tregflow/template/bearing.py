"""What each key of a template bears on, and so which part of the version a change of it demands.

Every field of the model has its place in `FIELDS` (a test sees to it). A field that has none bears on the endpoint: the
strictest reading, until somebody has thought about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from pydantic import BaseModel

from tregflow.template import model as m


class Bearing(Enum):
    """What a key bears on. The value says it in words."""

    INSIDE = "its own keys"
    ENDPOINT = "what the endpoint is, or every count"
    GATE = "the counts of its gate and of all that rests on it"
    MARKER = "which channel a marker is"
    TRANSFORM = "the axis of the dimensions that have it"
    JUDGEMENT = "what is said of a count: limits, flags, intervals, other populations and modes, who a tube is"
    WORDS = "what people read"
    VERSION = "the version itself"


_E, _G, _J, _W = Bearing.ENDPOINT, Bearing.GATE, Bearing.JUDGEMENT, Bearing.WORDS
_TRANSFORM = dict.fromkeys(("kind", "T", "W", "M", "A"), Bearing.TRANSFORM)

FIELDS: Mapping[type[BaseModel], Mapping[str, Bearing]] = {
    m.Template: {
        "schema_version": Bearing.VERSION,
        "id": Bearing.ENDPOINT,
        "version": Bearing.VERSION,
        "title": _W,
        "description": _W,
        "endpoint": Bearing.INSIDE,
        "panel": Bearing.INSIDE,
        "compensation": Bearing.INSIDE,
        "transforms": Bearing.INSIDE,
        "tubes": Bearing.INSIDE,
        "gates": Bearing.INSIDE,
        "qc": Bearing.INSIDE,
        "changelog": Bearing.VERSION,
    },
    m.Endpoint: {
        "numerator": _E,
        "denominator": _E,
        "also_of": _J,
        "mfi": _J,
        "llod_events": _J,
        "lloq_events": _J,
        "min_denominator_events": _J,
        "sensitivity": _J,
    },
    m.PanelEntry: {
        "aliases": Bearing.MARKER,
        "kind": Bearing.MARKER,
        "feature": Bearing.MARKER,
        "required": _J,
    },
    m.CompensationRule: {"source": _E, "alternatives": _E},
    m.LinearSpec: _TRANSFORM,
    m.LogSpec: _TRANSFORM,
    m.AsinhSpec: _TRANSFORM,
    m.LogicleSpec: _TRANSFORM,
    m.HyperlogSpec: _TRANSFORM,
    m.TubeRules: {"pattern": _J, "keywords": _J, "roles": _J},
    m.GateBase: {"id": _G, "title": _W, "parent": _G, "show": _W},
    m.RangeGate: {"kind": _G, "dimensions": _G, "min": _G, "max": _G, "against": _W, "place": Bearing.INSIDE},
    m.RectangleGate: {"kind": _G, "dimensions": _G, "min": _G, "max": _G},
    m.PolygonGate: {"kind": _G, "dimensions": _G, "vertices": _G, "place": Bearing.INSIDE},
    m.EllipsoidGate: {
        "kind": _G,
        "dimensions": _G,
        "mean": _G,
        "covariance": _G,
        "distance_square": _G,
        "place": Bearing.INSIDE,
    },
    m.QuadrantGate: {"kind": _G, "dimensions": _G, "dividers": _G, "cells": _G},
    m.BooleanGate: {"kind": _G, "operator": _G, "operands": _G},
    m.Place: {
        "share": _G,
        "min_events": _G,
        "within": _G,
        "otherwise": _G,
        "template_value": _G,
        "uncertainty": _J,
    },
    m.CutPlace: {"side": _G, "reference": _G},
    m.NegativeSpread: {"rule": _G, "k": _G, "clip": _G},
    m.ReferenceQuantile: {"rule": _G, "q": _G},
    m.FmoQuantile: {"rule": _G, "q": _G, "control": _G, "window_days": _G, "window_penalty": _J},
    m.Valley: {"rule": _G, "between": _G, "bandwidth": _G, "depth": _G},
    m.Tail: {"rule": _G, "flank": _G, "fraction": _G, "bandwidth": _G},
    m.ShiftScale: {"rule": _G, "cut": _G, "location": _G, "spread": _G},
    m.SingletBand: {"rule": _G, "k": _G, "area": _G, "reference": _G},
    m.EllipsePlace: {"rule": _G, "region": _G, "bandwidth": _G, "reference": _G},
    m.FractionLimit: {"review": _J, "fail": _J},
    m.PlacementLimits: {"sensitive_pct": _J, "reference_positive_pct": _J},
    m.Qc: {
        "denominator_events_review": _J,
        "numerator_events_review": _J,
        "pct_of_parent": Bearing.INSIDE,
        "placement": Bearing.INSIDE,
    },
    m.ChangelogEntry: {"version": Bearing.VERSION, "numbers": Bearing.VERSION, "text": Bearing.VERSION},
}


def bearing(kind: type[BaseModel], field: str) -> Bearing:
    """What a field of a model bears on; of one that nobody has classified, the endpoint."""
    for base in kind.__mro__:
        found = FIELDS.get(base, {}).get(field) if issubclass(base, BaseModel) else None
        if found is not None:
            return found
    return Bearing.ENDPOINT
