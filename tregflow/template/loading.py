"""Reading a template file: TOML, schema version, strict model, then what only the whole template can show.

All problems are collected and reported in one error. What the model refuses is left out of the last step, which says
nothing that rests on it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from tregflow.errors import GateError, TemplateError
from tregflow.gates import Ellipsoid, Polygon
from tregflow.template.canonical import canonical_json, template_sha256
from tregflow.template.model import (
    SCHEMA_VERSION,
    BooleanGate,
    EllipsoidGate,
    FmoQuantile,
    NegativeSpread,
    PolygonGate,
    QuadrantGate,
    RangeGate,
    RectangleGate,
    ReferenceQuantile,
    ShiftScale,
    Template,
    build_transform,
    gate_dimensions,
    gate_inputs,
)
from tregflow.template.order import evaluation_order, in_circles, upstream
from tregflow.template.panel import fold_label
from tregflow.template.positions import problem_place
from tregflow.template.reasons import reason
from tregflow.template.schema import PAST, migrated
from tregflow.template.sound import NO_DOUBT, Doubt, broken_gate_problems, names_meant, sound_part
from tregflow.template.text import invalid, place_words, read_text, read_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from tregflow.template.model import EllipsePlace, Gate, Interval, SingletBand, Strict
    from tregflow.template.sound import Place

Model = TypeVar("Model", bound="Strict")

__all__ = [
    "ReadTemplate", "canonical_json", "evaluation_order", "load_template_file", "parse_template", "read_template",
    "read_template_file", "template_sha256", "upstream",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadTemplate:
    """A template as read: its content hash is taken under the schema that the file is written in."""

    template: Template
    sha256: str
    schema_version: int


def parse_template(text: str, name: str) -> Template:
    """Build a template from TOML text; `name` is used in messages. Errors as `read_template`."""
    return read_template(text, name).template


def read_template(text: str, name: str) -> ReadTemplate:
    """Build a template from TOML text, and take its content hash.

    A file of an older schema is migrated in memory and never rewritten.

    Raises
    ------
    TemplateError
        `TEMPLATE_SYNTAX` (not TOML), `TEMPLATE_SCHEMA_NEWER`, `TEMPLATE_INVALID` (every problem, with line and place;
        `problems` and `lines` for programs).
    """
    document = read_toml(text, name)
    schema = document.get("schema_version")
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise TemplateError(
            "TEMPLATE_SCHEMA_NEWER",
            f"{name} has schema_version {schema}; this tregflow reads up to {SCHEMA_VERSION}.",
            file=name,
        )
    if isinstance(schema, bool) or not isinstance(schema, int) or schema not in PAST:
        template = _checked(document, Template, text, name)
        return ReadTemplate(template, template_sha256(template), template.schema_version)
    sha256 = template_sha256(_checked(document, PAST[schema].model, text, name))
    return ReadTemplate(_checked(migrated(document, PAST), Template, text, name), sha256, schema)


def _checked(document: dict[str, Any], model: type[Model], text: str, name: str) -> Model:
    """The document as a model; every problem in one error."""
    try:
        template = model.model_validate_json(json.dumps(document))
    except ValidationError as error:
        found = [(f"{place_words(document, e['loc'])}: {reason(e)}", _at_fault(e)) for e in error.errors()]
        if model is Template:
            rest = _problems_of_the_rest(document, [e["loc"] for e in error.errors()])
            found += [(problem, problem_place(document, problem)) for problem in rest]
        raise invalid(name, found, text) from None
    if isinstance(template, Template):
        found = [(problem, problem_place(document, problem)) for problem in _problems(template)]
        if found:
            raise invalid(name, found, text)
    return template


def _at_fault(details: ErrorDetails) -> Place:
    """The key that an error of pydantic is about: of an unknown kind or rule, the key that says which."""
    tag = details.get("ctx", {}).get("discriminator", "").strip("'")
    return (*details["loc"], tag) if tag else details["loc"]


def read_template_file(path: Path) -> ReadTemplate:
    """Read a template file (UTF-8 TOML); errors as in `read_template`, `TEMPLATE_UNREADABLE` if it cannot be read."""
    return read_template(read_text(path), path.name)


def load_template_file(path: Path) -> Template:
    """Read a template file (UTF-8 TOML); errors as in `read_template`, `TEMPLATE_UNREADABLE` if it cannot be read."""
    return read_template_file(path).template


def _validate(document: dict[str, Any]) -> Template:
    """In JSON mode, because strict Python mode refuses a list where the model has a tuple."""
    return Template.model_validate_json(json.dumps(document))


def _problems_of_the_rest(document: dict[str, Any], broken: list[Place]) -> list[str]:
    """What only the whole template can show, for the parts of it that the model does not refuse."""
    found = sound_part(document, broken)
    if found is None:
        return []
    rest, doubt = found
    return list(_problems(_validate(rest), doubt))


def _problems(template: Template, doubt: Doubt = NO_DOUBT) -> Iterator[str]:
    yield from _transform_problems(template, doubt)
    yield from _panel_problems(template)
    yield from _tube_problems(template)
    sound = {gate.id for gate in template.gates}
    ids = [*(gate.id for gate in template.gates), *doubt.gate_ids]
    for repeated, n in sorted(Counter(ids).items()):
        if n > 1:
            yield f"gates: id '{repeated}' is used {n} times"
    known = {*ids, *(names_meant(template) if doubt.nameless else ())}
    for gate in template.gates:
        yield from (f"gates, {gate.id}: {problem}" for problem in _gate_problems(gate, template, known, doubt))
    yield from broken_gate_problems(template, known, doubt)
    yield from _endpoint_problems(template, known, doubt)
    if len(set(ids)) == len(ids) and all(name in sound for gate in template.gates for name in gate_inputs(gate)):
        circle = in_circles({gate.id: gate_inputs(gate) for gate in template.gates})
        if circle:
            yield f"gates: {', '.join(circle)} depend on each other in a circle"
        elif not doubt.touches("endpoint", "numerator") and not doubt.touches("endpoint", "denominator"):
            yield from _percentage_problems(template, sound)


def _transform_problems(template: Template, doubt: Doubt) -> Iterator[str]:
    for name, spec in template.transforms.items():
        if name != "default" and name not in template.panel and not doubt.touches("panel", name):
            yield f"transforms, {name}: not a dimension of the panel"
        try:
            build_transform(spec)
        except GateError as error:
            yield f"transforms, {name}: {error.message}"


def _panel_problems(template: Template) -> Iterator[str]:
    spelled: dict[tuple[str, str], str] = {}
    for marker, entry in template.panel.items():
        for alias in entry.aliases:
            folded = fold_label(alias)
            if not folded:
                yield f"panel, {marker}: alias '{alias}' has nothing but separators"
            elif (owner := spelled.setdefault((folded, entry.feature), marker)) != marker:
                yield f"panel, {marker}: alias '{alias}' also belongs to {owner}"


def _tube_problems(template: Template) -> Iterator[str]:
    if template.tubes.pattern is not None:
        try:
            re.compile(template.tubes.pattern)
        except re.error as error:
            yield f"tubes.pattern: not a regular expression: {error}"


def _gate_problems(gate: Gate, template: Template, known: set[str], doubt: Doubt) -> Iterator[str]:
    for name in gate_inputs(gate):
        if name not in known:
            yield f"'{name}' is not a gate"
    against = gate.against if isinstance(gate, RangeGate) else None
    for dimension in (*gate_dimensions(gate), *([against] if against else [])):
        if doubt.touches("panel", dimension):
            continue
        if dimension not in template.panel:
            yield f"dimension '{dimension}' is not in the panel"
        elif not template.panel[dimension].required:
            yield f"dimension '{dimension}' is used by a gate and so must be required in the panel"
        elif isinstance(gate, PolygonGate) and gate.place is not None and template.transform_spec(dimension):
            yield f"place.rule {gate.place.rule} works in scale values, but '{dimension}' has a transform"
    if len(set(gate_dimensions(gate))) != len(gate_dimensions(gate)):
        yield "a dimension is named twice"
    if isinstance(gate, RangeGate):
        yield from _range_problems(gate, template, doubt)
    else:
        yield from _SHAPE_PROBLEMS[gate.kind](gate)


def _range_problems(gate: RangeGate, template: Template, doubt: Doubt) -> Iterator[str]:
    if gate.place is None:
        if gate.min is None and gate.max is None:
            yield "needs min, max or a placement rule"
        elif gate.min is not None and gate.max is not None and gate.min >= gate.max:
            yield f"min {gate.min} is not below max {gate.max}"
        return
    if gate.min is not None or gate.max is not None:
        yield "has both fixed bounds and a placement rule (use place.template_value for the fall-back)"
    place, value = gate.place, gate.place.template_value
    if place.otherwise == "template_value" and value is None:
        yield "place.otherwise is template_value but there is no place.template_value"
    if place.otherwise != "template_value" and value is not None and place.uncertainty is None:
        # (a deciding cut's is used by the fixed mode)
        yield "has a place.template_value that place.otherwise never uses"
    if place.otherwise == "subject_baseline" and place.share in {"subject", "study"}:
        yield f"place.otherwise subject_baseline is for the cut of a tube or a batch; place.share is {place.share}"
    if value is not None and place.within is not None and not place.within[0] <= value <= place.within[1]:
        yield f"place.template_value {value} lies outside place.within"
    if place.reference is None and isinstance(place, NegativeSpread | ReferenceQuantile | ShiftScale):
        yield f"place.rule {place.rule} needs a reference population"
    if isinstance(place, FmoQuantile) and not doubt.touches("panel", place.control):
        yield from _control_problems(place.control, gate, template)
    yield from _empty_intervals(within=place.within, between=getattr(place, "between", None))


def _control_problems(control: str, gate: RangeGate, template: Template) -> Iterator[str]:
    """An FMO tube shows the background of the one marker that it leaves out."""
    if control not in template.panel:
        yield f"place.control '{control}' is not in the panel"
    elif control not in gate.dimensions:
        yield f"place.control '{control}' is not the gate's dimension; its FMO tube is stained for {gate.dimensions[0]}"
    elif template.panel[control].kind != "fluorescence":
        yield f"place.control '{control}' is not fluorescence, so no FMO tube leaves it out"


def _own_problems(place: SingletBand | EllipsePlace) -> Iterator[str]:
    """What only the rule of a cut may say."""
    if place.share != "tube":
        yield f"place.share {place.share}: only cuts are shared; a placed {place.rule} is each tube's own"
    if place.otherwise == "subject_baseline":
        yield f"place.otherwise is subject_baseline: only cuts have one; a placed {place.rule} is each tube's own"
    if place.uncertainty is not None:
        yield "place.uncertainty is for cuts"


def _empty_intervals(**intervals: Interval | None) -> Iterator[str]:
    yield from (f"place.{name} is empty" for name, i in intervals.items() if i is not None and i[0] >= i[1])


def _rectangle_problems(gate: RectangleGate) -> Iterator[str]:
    for name in sorted({*gate.min, *gate.max} - set(gate.dimensions)):
        yield f"bound for '{name}', which is not one of its dimensions"
    for name in gate.dimensions:
        if name not in gate.min and name not in gate.max:
            yield f"dimension '{name}' has no bound"
        elif name in gate.min and name in gate.max and gate.min[name] >= gate.max[name]:
            yield f"min {gate.min[name]} is not below max {gate.max[name]} in '{name}'"


def _polygon_problems(gate: PolygonGate) -> Iterator[str]:
    if gate.place is None and len(gate.vertices) < 3:
        yield f"a polygon needs at least 3 vertices or a placement rule, found {len(gate.vertices)}"
    elif gate.vertices:
        yield from _impossible(lambda: Polygon(gate.vertices))
    if gate.place is not None:
        yield from _own_problems(gate.place)
        yield from _empty_intervals(area=gate.place.area, within=gate.place.within)
        if gate.place.template_value is not None:
            yield "place.template_value is one number; the fall-back of a polygon is its vertices"
        if gate.place.otherwise == "template_value" and len(gate.vertices) < 3:
            yield "place.otherwise is template_value but there are no vertices to fall back on"
        if gate.place.otherwise == "fail" and gate.vertices:
            yield "has both vertices and a placement rule that never uses them"


def _ellipsoid_problems(gate: EllipsoidGate) -> Iterator[str]:
    n, place = len(gate.dimensions), gate.place
    if place is None and not (gate.mean and gate.covariance):
        yield "needs mean and covariance or a placement rule"
    elif gate.mean or gate.covariance:
        if len(gate.mean) != n or len(gate.covariance) != n or any(len(row) != n for row in gate.covariance):
            yield f"mean and covariance must have {n} and {n} x {n} numbers"
        else:
            yield from _impossible(lambda: Ellipsoid(gate.mean, gate.covariance, gate.distance_square))
    if place is not None:
        if n != 2:
            yield f"place.rule ellipse works in two dimensions, found {n}"
        yield from _own_problems(place)
        yield from _empty_intervals(**{f"region, {i}": interval for i, interval in enumerate(place.region)})
        if place.within is not None:
            yield "place.within is for cuts and bands; place.region bounds an ellipse"
        if place.template_value is not None:
            yield "place.template_value is one number; the fall-back of an ellipsoid is its mean and covariance"
        if place.otherwise == "template_value" and not gate.mean:
            yield "place.otherwise is template_value but there are no mean and covariance to fall back on"
        if place.otherwise == "fail" and gate.mean:
            yield "has both mean and covariance and a placement rule that never uses them"


def _impossible(build: Callable[[], object]) -> Iterator[str]:
    """What keeps a fixed gate's geometry from existing."""
    try:
        build()
    except GateError as error:
        yield error.message


def _quadrant_problems(gate: QuadrantGate) -> Iterator[str]:
    if not len(gate.dimensions) == len(gate.dividers) == len(gate.cells):
        yield "dimensions, dividers and cells must have the same length"
        return
    for name, dividers, cell in zip(gate.dimensions, gate.dividers, gate.cells, strict=True):
        if list(dividers) != sorted(set(dividers)) or not dividers:
            yield f"dividers of '{name}' must increase"
        if not -1 <= cell <= len(dividers):
            yield f"cell {cell} of '{name}' is not one of its {len(dividers) + 1} intervals"


def _boolean_problems(gate: BooleanGate) -> Iterator[str]:
    if gate.operator == "not" and len(gate.operands) != 1:
        yield f"'not' takes one operand, found {len(gate.operands)}"
    if gate.operator != "not" and len(gate.operands) < 2:
        yield f"'{gate.operator}' takes at least two operands, found {len(gate.operands)}"


_SHAPE_PROBLEMS: dict[str, Callable[[Any], Iterator[str]]] = {
    "rectangle": _rectangle_problems,
    "polygon": _polygon_problems,
    "ellipsoid": _ellipsoid_problems,
    "quadrant": _quadrant_problems,
    "boolean": _boolean_problems,
}


def _mode_problems(template: Template) -> Iterator[str]:
    """The deciding cuts have one mode, and what the other modes need."""
    shares = sorted({gate.place.share for gate in template.deciding if gate.place})
    modes = template.endpoint.sensitivity
    if len(shares) > 1:
        yield f"gates: the cuts that decide the endpoint must have one share; found {', '.join(shares)}"
    if modes and not shares:
        yield "endpoint.sensitivity: no cut states an uncertainty, so no cut decides the endpoint"
    if len(set(modes)) < len(modes) or set(modes) & set(shares):
        yield f"endpoint.sensitivity: each mode once, beside the endpoint's own ({', '.join(shares)})"
    for gate in template.deciding if "fixed" in modes else ():
        if gate.place and gate.place.template_value is None:
            yield f"gates, {gate.id}: the fixed mode needs its place.template_value"


def _endpoint_problems(template: Template, known: set[str], doubt: Doubt) -> Iterator[str]:
    endpoint, qc = template.endpoint, template.qc
    if not doubt.gates:  # one of them may be a deciding cut
        yield from _mode_problems(template)
    parts = {"numerator": (endpoint.numerator,), "denominator": (endpoint.denominator,), "also_of": endpoint.also_of}
    named = dict.fromkeys(name for key, names in parts.items() if not doubt.touches("endpoint", key) for name in names)
    yield from (f"endpoint: '{name}' is not a gate" for name in named if name not in known)
    for marker in endpoint.mfi:
        if doubt.touches("panel", marker):
            continue
        if marker not in template.panel or template.panel[marker].kind != "fluorescence":
            yield f"endpoint.mfi: '{marker}' is not a fluorescence marker of the panel"
        elif not template.panel[marker].required:
            yield f"endpoint.mfi: '{marker}' must be required in the panel"
    limits_known = not doubt.touches("endpoint", "llod_events") and not doubt.touches("endpoint", "lloq_events")
    if limits_known and endpoint.llod_events > endpoint.lloq_events:
        yield f"endpoint: llod_events {endpoint.llod_events} is above lloq_events {endpoint.lloq_events}"
    for name, limit in qc.pct_of_parent.items():
        if name not in known:
            yield f"qc.pct_of_parent: '{name}' is not a gate"
        for level, interval in (("review", limit.review), ("fail", limit.fail)):
            if interval is not None and interval[0] >= interval[1]:
                yield f"qc.pct_of_parent, {name}: {level} is empty"
    versions_known = not doubt.touches("version") and not doubt.touches("changelog")
    if versions_known and all(entry.version != template.version for entry in template.changelog):
        yield f"changelog: no entry for version {template.version}"


def _percentage_problems(template: Template, known: set[str]) -> Iterator[str]:
    """What a sound tree of gates can still get wrong about its percentages."""
    endpoint = template.endpoint
    if endpoint.numerator not in known:
        return
    above = template.ancestors(endpoint.numerator)
    for name in dict.fromkeys((endpoint.denominator, *endpoint.also_of)):
        if name in known and name not in above:
            yield f"endpoint: '{endpoint.numerator}' does not lie inside '{name}', so it is no percentage of it"
    parts = _operands(template, endpoint.numerator) - {*above}
    for name in sorted(known.intersection(template.qc.pct_of_parent)):
        if name == endpoint.numerator or endpoint.numerator in upstream(template, name):
            yield f"qc.pct_of_parent: '{name}' is the endpoint itself; limiting it would drop responders"
        elif name in parts:
            yield f"qc.pct_of_parent: '{name}' makes up the endpoint; limiting it would drop responders"


def _operands(template: Template, gate_id: str) -> set[str]:
    """The populations that a boolean gate is made of, down to those that are not boolean."""
    gate = template.gate(gate_id)
    names = {name for name, _ in gate.terms()} if isinstance(gate, BooleanGate) else set()
    return names.union(*(_operands(template, name) for name in names))
