"""Template files: what loading refuses and where it says the fault is, and what the content hash depends on."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT

from tregflow.errors import TemplateError
from tregflow.study import StudyFile
from tregflow.template.loading import (
    canonical_json,
    load_template_file,
    parse_template,
    template_sha256,
)
from tregflow.template.model import Template, build_transform, gate_dimensions, gate_inputs
from tregflow.template.order import evaluation_order, upstream
from tregflow.template.reasons import PATTERNS
from tregflow.template.registry import Registry
from tregflow.transforms import Logicle

TEXT = """
schema_version = 1
id = "made-up"
version = "0.1.0"
title = "A template with one gate of each kind"

[endpoint]
numerator = "treg"
denominator = "lymphocytes"
also_of = ["cd4"]
mfi = ["FOXP3"]
llod_events = 20
lloq_events = 50

[panel]
FSC-A = { aliases = ["FSC-A"], kind = "scatter" }
FSC-H = { aliases = ["FSC-H"], kind = "scatter", feature = "height" }
SSC-A = { aliases = ["SSC-A"], kind = "scatter" }
CD4 = { aliases = ["CD4"], kind = "fluorescence" }
CD8 = { aliases = ["CD8"], kind = "fluorescence", required = false }
CD25 = { aliases = ["CD25", "IL2RA"], kind = "fluorescence" }
FOXP3 = { aliases = ["FOXP3"], kind = "fluorescence" }

[compensation]
source = "unmixed"

[transforms]
default = { kind = "logicle", T = 262144, W = 0.5, M = 4.5, A = 0 }
CD25 = { kind = "asinh", T = 262144, M = 4.5 }

[[gates]]
id = "singlets"
kind = "polygon"
dimensions = ["FSC-A", "FSC-H"]
place = { rule = "singlet_band", k = 6, area = [1000, 2000], within = [0.4, 1.4] }

[[gates]]
id = "lymphocytes"
parent = "singlets"
kind = "polygon"
dimensions = ["FSC-A", "SSC-A"]
vertices = [[0, 0], [10, 0], [10, 10]]

[[gates]]
id = "round"
parent = "lymphocytes"
kind = "ellipsoid"
dimensions = ["FSC-A", "SSC-A"]
mean = [5, 5]
covariance = [[1, 0], [0, 1]]
distance_square = 4

[[gates]]
id = "box"
parent = "lymphocytes"
kind = "rectangle"
dimensions = ["FSC-A", "SSC-A"]
min = { FSC-A = 1, SSC-A = 2 }
max = { FSC-A = 3 }

[[gates]]
id = "corner"
parent = "lymphocytes"
kind = "quadrant"
dimensions = ["CD4", "CD25"]
dividers = [[0.4], [0.5, 0.6]]
cells = [1, -1]

[[gates]]
id = "cd4"
parent = "lymphocytes"
kind = "range"
dimensions = ["CD4"]
place = { rule = "valley", side = "above", between = [0.4, 0.6], within = [0.4, 0.6] }

[[gates]]
id = "cd4_neg"
parent = "lymphocytes"
kind = "boolean"
operator = "not"
operands = ["cd4"]

[[gates]]
id = "cd25_pos"
parent = "cd4"
kind = "range"
dimensions = ["CD25"]
min = 0.4
max = 0.9

[[gates]]
id = "foxp3_pos"
parent = "cd4"
kind = "range"
dimensions = ["FOXP3"]
place = { rule = "negative_spread", side = "above", reference = "cd4_neg", k = 4 }

[[gates]]
id = "treg"
parent = "cd4"
kind = "boolean"
operator = "and"
operands = ["cd25_pos", "foxp3_pos"]

[qc.pct_of_parent]
cd4 = { review = [20, 90], fail = [2, 99] }

[[changelog]]
version = "0.1.0"
numbers = "first"
"""


NEGATIVE_SPREAD = '{ rule = "negative_spread", side = "above", reference = "cd4_neg", k = 4 }'
FMO = '{ rule = "fmo_quantile", side = "above", control = "FOXP3", q = 0.995 }'
TAIL = '{ rule = "tail", side = "above", flank = "upper", fraction = 0.05 }'
SHIFT = '{ rule = "shift_scale", side = "above", reference = "cd4_neg", cut = 1500, location = 20, spread = 400 }'
SHAPE = "mean = [5, 5]\ncovariance = [[1, 0], [0, 1]]\n"
ELLIPSE = 'place = { rule = "ellipse", region = [[0, 10], [0, 20]] }\n'


def changed(*pairs: tuple[str, str]) -> str:
    text = TEXT
    for old, new in pairs:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(TemplateError, match="TEMPLATE_INVALID") as caught:
        parse_template(text, "made_up.toml")
    found = caught.value.data["problems"]
    assert isinstance(found, tuple)
    assert f"made_up.toml has {len(found)} problem(s)" in str(caught.value)
    assert str(caught.value).endswith("Correct every line listed, then validate it again.")
    return found


def test_a_sound_template_loads() -> None:
    template = parse_template(TEXT, "made_up.toml")
    assert {gate.kind for gate in template.gates} == {
        "range", "rectangle", "polygon", "ellipsoid", "quadrant", "boolean",
    }  # fmt: skip
    assert template.ancestors("treg") == ("cd4", "lymphocytes", "singlets")
    assert template.gate("treg").label == "treg"
    assert gate_dimensions(template.gate("treg")) == ()
    assert template.gate("singlets").place.min_events == 500


def test_a_dimension_has_its_own_transform_or_the_default_or_none() -> None:
    template = parse_template(TEXT, "made_up.toml")
    assert template.transform("FSC-A") is None
    assert template.transform("CD4") == Logicle(262144, 0.5, 4.5, 0)
    assert type(template.transform("CD25")).__name__ == "Asinh"
    assert type(template.transform_spec("CD25")).__name__ == "AsinhSpec"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Linear", 'kind = "linear", T = 1000'),
        ("Log", 'kind = "log", T = 1000, M = 4'),
        ("Asinh", 'kind = "asinh", T = 1000, M = 4'),
        ("Logicle", 'kind = "logicle", T = 1000, W = 0.5, M = 4.5'),
        ("Hyperlog", 'kind = "hyperlog", T = 1000, W = 0.5, M = 4.5'),
    ],
)
def test_every_transform_can_be_declared(kind: str, text: str) -> None:
    template = parse_template(changed(('kind = "asinh", T = 262144, M = 4.5', text)), "made_up.toml")
    assert type(build_transform(template.transforms["CD25"])).__name__ == kind


@pytest.mark.parametrize(
    ("old", "new", "inputs"),
    [
        (NEGATIVE_SPREAD, FMO, ("cd4",)),
        (NEGATIVE_SPREAD, FMO.replace("q = ", 'reference = "cd4_neg", q = '), ("cd4", "cd4_neg")),
        (NEGATIVE_SPREAD, TAIL, ("cd4",)),
        (NEGATIVE_SPREAD, SHIFT, ("cd4", "cd4_neg")),
        (NEGATIVE_SPREAD, SHIFT.replace(" }", ', share = "subject" }'), ("cd4", "cd4_neg")),
        (NEGATIVE_SPREAD, TAIL.replace(" }", ', share = "batch", otherwise = "subject_baseline" }'), ("cd4",)),
        (SHAPE, ELLIPSE, ("lymphocytes",)),
        (SHAPE, SHAPE + ELLIPSE.replace(" }", ', otherwise = "template_value" }'), ("lymphocytes",)),
        (SHAPE, ELLIPSE.replace(" }", ', reference = "singlets" }'), ("lymphocytes", "singlets")),
    ],
)
def test_every_rule_can_be_declared(old: str, new: str, inputs: tuple[str, ...]) -> None:
    template = parse_template(changed((old, new)), "made_up.toml")
    gate = template.gate("round" if SHAPE in old else "foxp3_pos")
    assert gate_inputs(gate) == inputs
    assert upstream(template, gate.id) >= set(inputs)
    assert Template.model_validate_json(canonical_json(template.model_dump(mode="json"))) == template


# --- what the model refuses: place and reason -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('title = "A template', 'titel = "x"\ntitle = "A template', "titel: unknown key"),
        ("[compensation]", "[compensation]\nmatrix = 1", "compensation, matrix: unknown key"),
        ("min = 0.4\n", "min = 0.4\nmaximum = 1\n", "gates, 7 (cd25_pos), range, maximum: unknown key"),
        ("k = 4 }", "k = 4, q = 1 }", "gates, 8 (foxp3_pos), range, place, negative_spread, q: unknown key"),
        ('denominator = "lymphocytes"\n', "", "endpoint, denominator: required, and not there"),
        ('id = "box"\n', "", "gates, 3, rectangle, id: required, and not there"),
        (
            'id = "box"',
            'id = "The box"',
            "gates, 3 (The box), rectangle, id: expected a letter, then letters, digits and _",
        ),
        (
            'version = "0.1.0"\ntitle',
            'version = "0.1"\ntitle',
            "version: expected three numbers, such as 1.2.0; found '0.1'",
        ),
        ('version = "0.1.0"\ntitle', "version = 0.1\ntitle", "version: expected a text in quotes; found 0.1"),
        ("llod_events = 20", "llod_events = 20.0", "llod_events: expected a whole number; found 20.0"),
        ("llod_events = 20", "llod_events = true", "llod_events: expected a whole number; found true"),
        ("llod_events = 20", "llod_events = -1", "llod_events: expected a number of at least 0; found -1"),
        ("max = 0.9", 'max = "0.9"', "gates, 7 (cd25_pos), range, max: expected a number; found '0.9'"),
        ("max = 0.9", "max = nan", "gates, 7 (cd25_pos), range, max: expected a finite number; found nan"),
        ("max = 0.9", "max = inf", "gates, 7 (cd25_pos), range, max: expected a finite number; found inf"),
        ("min = 0.4", "min = -inf", "gates, 7 (cd25_pos), range, min: expected a finite number; found -inf"),
        ("[10, 10]]", "[10, nan]]", "gates, 1 (lymphocytes), polygon, vertices, 2, 1: expected a finite number"),
        ("[10, 10]]", "[10]]", "gates, 1 (lymphocytes), polygon, vertices, 2, 1: required, and not there"),
        ("max = 0.9", "max = 2024-02-03", "range, max: expected a number; found the date 2024-02-03"),
        (
            'title = "A template with one gate of each kind"',
            "title = 10:00:00",
            "title: expected a text in quotes",
        ),
        ('["CD25", "IL2RA"]', "[]", "panel, CD25, aliases: expected at least 1 value(s); found 0"),
        (
            'kind = "quadrant"',
            'kind = "square"',
            "gates, 4 (corner): unknown kind 'square'; expected one of 'range', 'rect",
        ),
        ('rule = "valley"', 'rule = "vally"', "place: unknown rule 'vally' (did you mean 'valley'?); expected one of"),
        ('kind = "quadrant"\n', "", "gates, 4 (corner): the key 'kind', which says what this is, is not there"),
        (
            'title = "A template',
            'tubes = 3\ntitle = "A template',
            "tubes: expected a table of keys and values; found 3",
        ),
        ("[10, 10]]", "[10, 10, 10]]", "polygon, vertices, 2: expected at most 2 value(s); found 3"),
        ("required = false", 'required = "no"', "panel, CD8, required: expected true or false; found 'no'"),
        ('also_of = ["cd4"]', 'also_of = "cd4"', "endpoint, also_of: expected a list; found 'cd4'"),
        ("max = 0.9", "max = [0.9, 1]", "range, max: expected a number; found a list of 2"),
        ("max = 0.9", "max = { CD25 = 0.9 }", "range, max: expected a number; found a table"),
        ("max = 0.9", 'max = "' + "9" * 100 + '"', "found '" + "9" * 59 + "..."),
        (
            'rule = "valley"',
            'rule = "ravine"',
            "gates, 5 (cd4), range, place: unknown rule 'ravine'; expected one of 'neg",
        ),
        (
            "[compensation]",
            "[tubes]\nroles = 2024-02-03\n[compensation]",
            "tubes, roles, date: expected a text in quotes; found a list of 1",
        ),
        ('source = "unmixed"', 'source = "guess"', "compensation, source: expected 'file', 'manifest' or"),
        (NEGATIVE_SPREAD, FMO.replace("0.995", "1"), "fmo_quantile, q: expected a number below 1; found 1"),
        (NEGATIVE_SPREAD, FMO.replace('control = "FOXP3", ', ""), "fmo_quantile, control: required, and not there"),
        (NEGATIVE_SPREAD, TAIL.replace('flank = "upper", ', ""), "tail, flank: required, and not there"),
        (NEGATIVE_SPREAD, TAIL.replace('side = "above", ', ""), "tail, side: required, and not there"),
        (
            NEGATIVE_SPREAD,
            TAIL.replace("0.05", "0.0001"),
            "tail, fraction: expected a number of at least 0.001",
        ),
        (NEGATIVE_SPREAD, SHIFT.replace("400", "0"), "shift_scale, spread: expected a number above 0; found 0"),
        (
            SHAPE,
            ELLIPSE.replace("[[0, 10], [0, 20]]", "[[0, 10]]"),
            "ellipsoid, place, region, 1: required, and not there",
        ),
        (
            SHAPE,
            ELLIPSE.replace(" }", ", bandwidth = 0.5 }"),
            "place, bandwidth: expected a number of at most 0.25",
        ),
        ("k = 6", "k = 0", "gates, 0 (singlets), polygon, place, k: expected a number above 0; found 0"),
        ("k = 4 }", "k = -4 }", "negative_spread, k: expected a number above 0; found -4"),
        ("k = 4 }", "k = 4, uncertainty = -1 }", "uncertainty: expected a number of at least 0; found -1"),
        (
            "k = 4 }",
            'k = 4, share = "visit" }',
            "share: expected 'tube', 'subject', 'batch' or 'study'; found 'visi",
        ),
        ("k = 4 }", 'k = 4, otherwise = "guess" }', "expected 'fail', 'template_value' or 'subject_baseline'"),
        ("k = 4 }", "k = 4, adjust = { by = 0.05 } }", "negative_spread, adjust: unknown key"),
        ("schema_version = 1", "schema_version = true", "schema_version: expected a whole number; found true"),
        ("schema_version = 1", "schema_version = 1.0", "schema_version: expected a whole number; found 1.0"),
        ("schema_version = 1", "schema_version = 0", "schema_version: expected a number of at least 1"),
        ("schema_version = 1\n", "", "schema_version: required, and not there"),
    ],
)
def test_the_model_refuses_and_says_where(old: str, new: str, expected: str) -> None:
    found = problems(changed((old, new)))
    assert any(expected in problem for problem in found), found


def test_every_problem_of_the_model_is_reported_at_once() -> None:
    found = problems(
        changed(
            ("max = 0.9", "max = inf"),
            ('source = "unmixed"', 'source = "guess"'),
            ("llod_events = 20", 'llod_events = "20"'),
            ("distance_square = 4", "distance_square = 0"),
            ("[qc.pct_of_parent]", "[qc]\nstrange = 1\n\n[qc.pct_of_parent]"),
        )
    )
    assert len(found) == 5, found
    places = ["endpoint, llod_events", "compensation, source", "gates, 2 (round)", "gates, 7 (cd25_pos)", "qc, strange"]
    assert [next(p for p in places if problem.startswith(p)) for problem in found] == places


@pytest.mark.parametrize(
    "schema", [Template.model_json_schema(), Registry.model_json_schema(), StudyFile.model_json_schema()]
)
def test_every_pattern_has_words(schema: object) -> None:
    assert set(re.findall(r'"pattern": "(.+?)"', json.dumps(schema).replace("\\\\", "\\"))) <= set(PATTERNS)


def places(value: object, *above: int | str) -> Iterator[tuple[int | str, ...]]:
    """Every place of a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, deeper in inside:
        yield (*above, part)
        yield from places(deeper, *above, part)


WHOLE = tomllib.loads(TEXT)
PYDANTIC = re.compile(r"Input|Field required|[Vv]alue error|valid dictionary|should|Extra inputs|instance of|\*\*")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(places(WHOLE))),
            st.sampled_from(
                [None, True, 7, -0.5, 1e400, "x", "Y y", [], [1, 2, 3], {}, {"kind": "no"}, date(2026, 5, 12)]
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_is_wrong_is_said_in_our_words(changes: list[tuple[tuple[int | str, ...], object]]) -> None:
    """Wherever something else stands in a template, or nothing; no name that is there is said not to be a gate."""
    document: Any = copy.deepcopy(WHOLE)
    for (*path, last), value in changes:
        table = document
        with contextlib.suppress(KeyError, IndexError, TypeError):  # the place is gone with an earlier change
            for part in path:
                table = table[part]
            if value is None:
                del table[last]
            else:
                table[last] = copy.deepcopy(value)
    message = refusal(tomlkit.dumps(document))
    assert not PYDANTIC.search(message), message
    gates = document.get("gates")
    for gate in gates if isinstance(gates, list) else ():
        if isinstance(gate, dict) and isinstance(gate.get("id"), str):
            assert f"'{gate['id']}' is not a gate" not in message


def refusal(text: str) -> str:
    """Why a template is refused; empty if it is not."""
    try:
        parse_template(text, "made_up.toml")
    except TemplateError as error:
        return error.message
    return ""


# --- what only the whole template shows -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([('id = "box"', 'id = "round"')], "gates: id 'round' is used 2 times"),
        ([('id = "box"\nparent = "lymphocytes"', 'id = "box"\nparent = "lymph"')], "gates, box: 'lymph' is not a gate"),
        ([('reference = "cd4_neg"', 'reference = "cd4_n"')], "gates, foxp3_pos: 'cd4_n' is not a gate"),
        ([('"cd25_pos", "foxp3_pos"]', '"cd25_pos", "!foxp3"]')], "gates, treg: 'foxp3' is not a gate"),
        (
            [('id = "singlets"\n', 'id = "singlets"\nparent = "cd4"\n')],
            "gates: cd4, lymphocytes, singlets depend on each other in a circle",
        ),
        (
            [('reference = "cd4_neg"', 'reference = "treg"')],
            "gates: foxp3_pos, treg depend on each other in a circle",
        ),
        ([('operands = ["cd4"]', 'operands = ["cd4_neg"]')], "gates: cd4_neg depend on each other in a circle"),
        (
            [('T = 262144, W = 0.5, M = 4.5, A = 0 }', 'T = 262144, W = 3, M = 4.5, A = 0 }')],
            "transforms, default: ",
        ),
        ([("T = 262144, M = 4.5 }", "T = -1, M = 4.5 }")], "transforms, CD25: "),
        ([("\nCD25 = { kind", "\nCD26 = { kind")], "transforms, CD26: not a dimension of the panel"),
        ([('aliases = ["CD8"]', 'aliases = ["CD8", "IL-2RA"]')], "panel, CD25: alias 'IL2RA' also belongs to CD8"),
        ([('aliases = ["CD8"]', 'aliases = ["CD8", "cd 25"]')], "panel, CD25: alias 'CD25' also belongs to CD8"),
        ([('aliases = ["CD8"]', 'aliases = ["CD8", " - "]')], "panel, CD8: alias ' - ' has nothing but separators"),
        ([("[compensation]", "[tubes]\npattern = '(a'\n[compensation]")], "tubes.pattern: not a regular expression: "),
        ([('dimensions = ["FOXP3"]', 'dimensions = ["FoxP3"]')], "foxp3_pos: dimension 'FoxP3' is not in the panel"),
        (
            [('dimensions = ["FOXP3"]', 'dimensions = ["FOXP3"]\nagainst = "CD8"')],
            "foxp3_pos: dimension 'CD8' is used by a gate and so must be required in the panel",
        ),
        ([('dimensions = ["CD4", "CD25"]', 'dimensions = ["CD4", "CD4"]')], "corner: a dimension is named twice"),
        (
            [("\nCD25 = { kind", "\nFSC-A = { kind")],
            "singlets: place.rule singlet_band works in scale values, but 'FSC-A' has a transform",
        ),
        ([("min = 0.4\nmax = 0.9\n", "")], "cd25_pos: needs min, max or a placement rule"),
        ([("max = 0.9", "max = 0.4")], "cd25_pos: min 0.4 is not below max 0.4"),
        ([("k = 4 }", "k = 4 }\nmin = 0.1")], "foxp3_pos: has both fixed bounds and a placement rule"),
        (
            [("k = 4 }", 'k = 4, otherwise = "template_value" }')],
            "foxp3_pos: place.otherwise is template_value but there is no place.template_value",
        ),
        (
            [("k = 4 }", "k = 4, template_value = 0.5 }")],
            "foxp3_pos: has a place.template_value that place.otherwise never uses",
        ),
        (
            [("k = 4 }", 'k = 4, otherwise = "template_value", template_value = 0.5, within = [0.1, 0.2] }')],
            "foxp3_pos: place.template_value 0.5 lies outside place.within",
        ),
        ([(', reference = "cd4_neg"', "")], "foxp3_pos: place.rule negative_spread needs a reference population"),
        ([("k = 4 }", "k = 4, within = [0.6, 0.2] }")], "foxp3_pos: place.within is empty"),
        (
            [("k = 4 }", 'k = 4, otherwise = "subject_baseline", template_value = 0.5 }')],
            "foxp3_pos: has a place.template_value that place.otherwise never uses",
        ),
        (
            [("k = 4 }", 'k = 4, otherwise = "subject_baseline", share = "subject" }')],
            "foxp3_pos: place.otherwise subject_baseline is for the cut of a tube or a batch; place.share is subject",
        ),
        (
            [("k = 4 }", 'k = 4, otherwise = "subject_baseline", share = "study" }')],
            "foxp3_pos: place.otherwise subject_baseline is for the cut of a tube or a batch; place.share is study",
        ),
        (
            [(NEGATIVE_SPREAD, SHIFT.replace('reference = "cd4_neg", ', ""))],
            "foxp3_pos: place.rule shift_scale needs a reference population",
        ),
        ([(NEGATIVE_SPREAD, FMO.replace("FOXP3", "FoxP3"))], "foxp3_pos: place.control 'FoxP3' is not in the panel"),
        (
            [(NEGATIVE_SPREAD, FMO.replace("FOXP3", "CD25"))],
            "place.control 'CD25' is not the gate's dimension; its FMO tube is stained for FOXP3",
        ),
        (
            [(NEGATIVE_SPREAD, FMO.replace("FOXP3", "SSC-A")), ('dimensions = ["FOXP3"]', 'dimensions = ["SSC-A"]')],
            "foxp3_pos: place.control 'SSC-A' is not fluorescence, so no FMO tube leaves it out",
        ),
        (
            [(NEGATIVE_SPREAD, FMO.replace("q = ", 'reference = "cd4_n", q = '))],
            "gates, foxp3_pos: 'cd4_n' is not a gate",
        ),
        ([("between = [0.4, 0.6]", "between = [0.6, 0.6]")], "cd4: place.between is empty"),
        ([("area = [1000, 2000]", "area = [2000, 1000]")], "singlets: place.area is empty"),
        ([("within = [0.4, 1.4]", "within = [1.4, 0.4]")], "singlets: place.within is empty"),
        (
            [("k = 6,", 'k = 6, otherwise = "template_value",')],
            "singlets: place.otherwise is template_value but there are no vertices to fall back on",
        ),
        ([("k = 6,", "k = 6, template_value = 1,")], "singlets: place.template_value is one number"),
        (
            [('"FSC-H"]\n', '"FSC-H"]\nvertices = [[0, 0], [1, 0], [1, 1]]\n')],
            "singlets: has both vertices and a placement rule that never uses them",
        ),
        ([("[[0, 0], [10, 0], [10, 10]]", "[[0, 0], [10, 0]]")], "lymphocytes: a polygon needs at least 3 vertices"),
        ([("[[0, 0], [10, 0], [10, 10]]", "[[0, 0], [10, 0], [0, 0]]")], "expected at least three distinct vertices"),
        (
            [("k = 6,", 'k = 6, share = "batch",')],
            "singlets: place.share batch: only cuts are shared; a placed singlet_band is each tube's own",
        ),
        (
            [("k = 6,", 'k = 6, otherwise = "subject_baseline",')],
            "singlets: place.otherwise is subject_baseline: only cuts have one; a placed singlet_band",
        ),
        ([("k = 6,", "k = 6, uncertainty = 1,")], "singlets: place.uncertainty is for cuts"),
        ([(SHAPE, "")], "round: needs mean and covariance or a placement rule"),
        ([(SHAPE, SHAPE + ELLIPSE)], "round: has both mean and covariance and a placement rule that never uses them"),
        (
            [(SHAPE, ELLIPSE.replace(" }", ', otherwise = "template_value" }'))],
            "round: place.otherwise is template_value but there are no mean and covariance to fall back on",
        ),
        ([(SHAPE, ELLIPSE.replace("[0, 20]", "[20, 20]"))], "round: place.region, 1 is empty"),
        ([(SHAPE, ELLIPSE.replace(" }", ", within = [0, 1] }"))], "round: place.within is for cuts and bands"),
        ([(SHAPE, ELLIPSE.replace(" }", ", template_value = 1 }"))], "round: place.template_value is one number"),
        (
            [(SHAPE, ELLIPSE.replace(" }", ', share = "subject" }'))],
            "round: place.share subject: only cuts are shared; a placed ellipse is each tube's own",
        ),
        (
            [('dimensions = ["FSC-A", "SSC-A"]\n' + SHAPE, 'dimensions = ["FSC-A", "SSC-A", "CD4"]\n' + ELLIPSE)],
            "round: place.rule ellipse works in two dimensions, found 3",
        ),
        ([("mean = [5, 5]", "mean = [5]")], "round: mean and covariance must have 2 and 2 x 2 numbers"),
        ([("[[1, 0], [0, 1]]", "[[1, 2], [2, 1]]")], "round: this ellipsoid is impossible: expected a positive"),
        ([("min = { FSC-A = 1,", "min = { FSC = 1,")], "box: bound for 'FSC', which is not one of its dimensions"),
        ([("min = { FSC-A = 1, SSC-A = 2 }\n", "")], "box: dimension 'SSC-A' has no bound"),
        ([("max = { FSC-A = 3 }", "max = { FSC-A = 1 }")], "box: min 1.0 is not below max 1.0 in 'FSC-A'"),
        ([("cells = [1, -1]", "cells = [1]")], "corner: dimensions, dividers and cells must have the same length"),
        ([("[0.5, 0.6]]", "[0.6, 0.5]]")], "corner: dividers of 'CD25' must increase"),
        ([("cells = [1, -1]", "cells = [2, -1]")], "corner: cell 2 of 'CD4' is not one of its 2 intervals"),
        ([('operands = ["cd4"]', 'operands = ["cd4", "box"]')], "cd4_neg: 'not' takes one operand, found 2"),
        ([('"cd25_pos", "foxp3_pos"]', '"cd25_pos"]')], "treg: 'and' takes at least two operands, found 1"),
        ([('numerator = "treg"', 'numerator = "tregs"')], "endpoint: 'tregs' is not a gate"),
        (
            [('denominator = "lymphocytes"', 'denominator = "box"')],
            "endpoint: 'treg' does not lie inside 'box', so it is no percentage of it",
        ),
        (
            [('also_of = ["cd4"]', 'also_of = ["cd4_neg"]')],
            "endpoint: 'treg' does not lie inside 'cd4_neg', so it is no percentage of it",
        ),
        (
            [('denominator = "lymphocytes"', 'denominator = "treg"')],
            "endpoint: 'treg' does not lie inside 'treg', so it is no percentage of it",
        ),
        ([('mfi = ["FOXP3"]', 'mfi = ["FSC-A"]')], "endpoint.mfi: 'FSC-A' is not a fluorescence marker of the panel"),
        ([('mfi = ["FOXP3"]', 'mfi = ["CD8"]')], "endpoint.mfi: 'CD8' must be required in the panel"),
        ([("lloq_events = 50", "lloq_events = 10")], "endpoint: llod_events 20 is above lloq_events 10"),
        ([("\ncd4 = { review", "\ncd5 = { review")], "qc.pct_of_parent: 'cd5' is not a gate"),
        ([("fail = [2, 99]", "fail = [99, 2]")], "qc.pct_of_parent, cd4: fail is empty"),
        ([('version = "0.1.0"\nnumbers', 'version = "0.0.9"\nnumbers')], "changelog: no entry for version 0.1.0"),
    ],
)  # fmt: skip
def test_the_whole_template_is_checked(pairs: list[tuple[str, str]], expected: str) -> None:
    found = problems(changed(*pairs))
    assert any(expected in problem for problem in found), found


def test_every_problem_of_the_whole_template_is_reported_at_once() -> None:
    found = problems(
        changed(
            ('id = "box"', 'id = "round"'),
            ('reference = "cd4_neg"', 'reference = "cd4_n"'),
            ('numerator = "treg"', 'numerator = "tregs"'),
            ("T = 262144, M = 4.5 }", "T = -1, M = 4.5 }"),
            ('version = "0.1.0"\nnumbers', 'version = "0.0.9"\nnumbers'),
        )
    )
    assert len(found) == 5, found


def test_the_problems_of_the_model_hide_no_others() -> None:
    found = problems(
        changed(
            ('source = "unmixed"', 'source = "guess"'),
            ('kind = "quadrant"', 'kind = "square"'),
            (
                'id = "round"\nparent = "lymphocytes"\nkind = "ellipsoid"',
                'id = "round"\nparent = "lymph"\nkind = "ball"',
            ),
            ('id = "box"\nparent = "lymphocytes"', 'id = "box"\nparent = "corner"'),  # which is there, though broken
            ('id = "cd25_pos"\nparent = "cd4"', 'id = "cd25_pos"\nparent = "cd4x"'),
            ('dimensions = ["FOXP3"]', 'dimensions = ["FoxP3"]'),
            ("[[0, 0], [10, 0], [10, 10]]", "[[0, 0], [10, 0]]"),
            ("within = [0.4, 1.4]", "within = [1.4, 0.4]"),
            ('version = "0.1.0"\nnumbers', 'version = "0.0.9"\nnumbers'),
        )
    )
    assert [re.sub(r"(: (expected|unknown \w+)) .*", r"\1", problem) for problem in found] == [
        "compensation, source: expected",
        "gates, 2 (round): unknown kind",
        "gates, 4 (corner): unknown kind",
        "gates, singlets: place.within is empty",
        "gates, lymphocytes: a polygon needs at least 3 vertices or a placement rule, found 2",
        "gates, cd25_pos: 'cd4x' is not a gate",
        "gates, foxp3_pos: dimension 'FoxP3' is not in the panel",
        "gates, round: 'lymph' is not a gate",
        "changelog: no entry for version 0.1.0",
    ]


@pytest.mark.parametrize(
    ("pairs", "place"),
    [
        ([('id = "cd4"\n', "")], "gates, 5, range, id"),  # others mean it, and the endpoint
        ([('kind = "boolean"\noperator = "and"', 'kind = "both"\noperator = "and"')], "gates, 9 (treg)"),
        ([('CD25 = { aliases = ["CD25", "IL2RA"]', "CD25 = { aliases = []")], "panel, CD25, aliases"),
        (
            [('FOXP3 = { aliases = ["FOXP3"], kind = "fluorescence"', 'FOXP3 = { aliases = ["FOXP3"], kind = "x"')],
            "panel",
        ),
        ([(NEGATIVE_SPREAD, FMO), ('FOXP3 = { aliases = ["FOXP3"]', "FOXP3 = { aliases = 1")], "panel, FOXP3, aliases"),
        ([('numerator = "treg"', "numerator = 1")], "endpoint, numerator"),
        ([('denominator = "lymphocytes"\n', "")], "endpoint, denominator"),
        ([('also_of = ["cd4"]', "also_of = [1]")], "endpoint, also_of, 0"),
        ([("llod_events = 20", "llod_events = -1"), ("lloq_events = 50", "lloq_events = 5")], "endpoint, llod_events"),
        ([('version = "0.1.0"\ntitle', "version = 1\ntitle")], "version"),
        ([('numbers = "first"', "numbers = 1")], "changelog, 0, numbers"),
        ([("cd4 = { review", "cd4 = { revue")], "qc, pct_of_parent, cd4, revue"),
        ([('CD25 = { kind = "asinh"', 'CD25 = { kind = "arsinh"')], "transforms, CD25"),
    ],
)
def test_nothing_is_said_that_rests_on_what_is_broken(pairs: list[tuple[str, str]], place: str) -> None:
    (problem,) = problems(changed(*pairs))
    assert problem.startswith(place)


@pytest.mark.parametrize("level", ["review", "fail"])
@pytest.mark.parametrize(
    ("population", "why"),
    [("treg", "is the endpoint itself"), ("bright", "is the endpoint itself"), ("foxp3_pos", "makes up the endpoint")],
)
def test_no_limit_on_the_numerator_or_on_what_it_is_made_of(population: str, why: str, level: str) -> None:
    child = '[[gates]]\nid = "bright"\nparent = "treg"\nkind = "range"\ndimensions = ["CD25"]\nmin = 0.8\n'
    limit = f"[qc.pct_of_parent]\n{population} = {{ {level} = [1, 10] }}\n"
    (problem,) = problems(changed(("[qc.pct_of_parent]\n", child + limit)))
    assert problem == f"qc.pct_of_parent: '{population}' {why}; limiting it would drop responders"


def test_a_reference_may_be_limited() -> None:
    parse_template(changed(("\ncd4 = { review", "\ncd4_neg = { review")), "made_up.toml")


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('a = 1\na = 2\n', "line 2"),
        ("[[gates]]\nid = 'a'\nid = 'b'\n", "line 3"),
        ("version = 1.2.0\n", "line 1"),
        ("on = yes\n", "line 1"),
    ],
)  # fmt: skip
def test_what_is_not_toml_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=rf"TEMPLATE_SYNTAX: made_up.toml is not valid TOML: .*{reason}"):
        parse_template(text, "made_up.toml")


def test_a_newer_schema_is_refused_whatever_else_it_holds() -> None:
    with pytest.raises(
        TemplateError,
        match=r"TEMPLATE_SCHEMA_NEWER: made_up.toml has schema_version 2; this tregflow reads up to 1. Update tregflow",
    ):
        parse_template("schema_version = 2\n[new]\nkey = 1\n", "made_up.toml")


def test_a_file_from_a_windows_editor_is_the_same_template(tmp_path: Path) -> None:
    path = tmp_path / "made_up.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert template_sha256(load_template_file(path)) == template_sha256(parse_template(TEXT, "made_up.toml"))


def test_an_unreadable_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"TEMPLATE_UNREADABLE: absent.toml cannot be read: No such file") as caught:
        load_template_file(tmp_path / "absent.toml")
    assert str(tmp_path) not in str(caught.value)
    path = tmp_path / "latin.toml"
    path.write_bytes("title = 'Zürich'".encode("latin-1"))
    with pytest.raises(
        TemplateError,
        match=r"TEMPLATE_UNREADABLE: latin.toml is not UTF-8 text \(byte 0xFC in line 1, column 11\)",
    ):
        load_template_file(path)


# --- order and dependence -------------------------------------------------------------------------------------------


def test_evaluation_order_puts_parents_references_and_operands_first() -> None:
    order = [gate.id for gate in evaluation_order(parse_template(TEXT, "made_up.toml"))]
    assert order == [
        "singlets", "lymphocytes", "round", "box", "corner", "cd4", "cd4_neg", "cd25_pos", "foxp3_pos", "treg",
    ]  # fmt: skip


def test_evaluation_order_does_not_depend_on_the_order_of_the_file() -> None:
    template = parse_template(TEXT, "made_up.toml")
    backwards = template.model_copy(update={"gates": template.gates[::-1]})
    seen: set[str] = set()
    for gate in evaluation_order(backwards):
        assert upstream(template, gate.id) <= seen
        seen.add(gate.id)
    assert len(seen) == len(template.gates)


def test_upstream_holds_parents_references_and_operands() -> None:
    template = parse_template(TEXT, "made_up.toml")
    assert upstream(template, "foxp3_pos") == {"cd4", "cd4_neg", "lymphocytes", "singlets"}
    assert upstream(template, "singlets") == frozenset()


def test_gates_in_a_circle_have_no_order() -> None:
    template = parse_template(TEXT, "made_up.toml")
    first = template.gates[0].model_copy(update={"parent": "treg"})
    with pytest.raises(TemplateError, match="TEMPLATE_INVALID: the gates of made-up depend on each other in a circle"):
        evaluation_order(template.model_copy(update={"gates": (first, *template.gates[1:])}))


# --- the content hash -----------------------------------------------------------------------------------------------


def toml(value: object, draw: st.DataObject) -> str:
    """Any TOML spelling of a value, as an inline table, in any key order."""
    if isinstance(value, dict):
        keys = draw.draw(st.permutations(sorted(value)))
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(value[k], draw)}" for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v, draw) for v in value) + "]"
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        return draw.draw(st.sampled_from(number_spellings(value)))
    if isinstance(value, str):
        return draw.draw(st.sampled_from([json.dumps(value), '"' + "".join(f"\\u{ord(c):04x}" for c in value) + '"']))
    return json.dumps(value)


def number_spellings(value: float) -> list[str]:
    if isinstance(value, int):
        return [str(value), f"{value:_}", f"{value:+d}"]
    spellings = [repr(value), f"{value:.17g}" if "." in f"{value:.17g}" else f"{value:.1f}", f"{value:.17e}"]
    return [*spellings, str(int(value))] if value.is_integer() else spellings


@settings(max_examples=25, deadline=None)
@given(data=st.data(), comment=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20))
def test_the_hash_does_not_depend_on_how_a_template_is_written(data: st.DataObject, comment: str) -> None:
    template = parse_template(TEXT, "made_up.toml")
    document = json.loads(canonical_json(template.model_dump(mode="json", exclude_none=True)))
    lines = [
        f"{key} = {toml(document[key], data)}  # {comment}\n" for key in data.draw(st.permutations(list(document)))
    ]
    text = f"# {comment}\n\n" + "\n".join(lines)
    rewritten = parse_template(text, "rewritten.toml")
    assert template_sha256(rewritten) == template_sha256(template)


@pytest.mark.parametrize(
    "pair",
    [
        ("max = 0.9", "max = 0.9000000000000001"),
        ("k = 4 }", "k = 4, min_events = 499 }"),
        ('title = "A template', 'title = "The template'),
        ('operands = ["cd25_pos", "foxp3_pos"]', 'operands = ["foxp3_pos", "cd25_pos"]'),
        ("[10, 0], [10, 10]", "[10, 10], [10, 0]"),
        ('numbers = "first"', 'numbers = "first version"'),
    ],
)
def test_the_hash_depends_on_every_value(pair: tuple[str, str]) -> None:
    one, other = (template_sha256(parse_template(text, "made_up.toml")) for text in (TEXT, changed(pair)))
    assert one != other
    assert re.fullmatch(r"[0-9a-f]{64}", one)


def test_a_default_written_out_is_the_same_content() -> None:
    text = changed(("k = 4 }", 'k = 4, min_events = 500, share = "tube", otherwise = "fail" }'))
    assert template_sha256(parse_template(text, "x.toml")) == template_sha256(parse_template(TEXT, "x.toml"))


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("treg-foxp3-aurora", "cf533c4275fa0bbc1e52e85da78889c083ab8f43238acef88bb83a45efec9878"),
        ("treg-foxp3-pbmc", "2983aacd8e2a71f3d41230e93c3ea35b2edf7132bb5b0ddf325c16952e781f33"),
    ],
)
def test_a_key_that_is_added_to_the_model_changes_no_released_hash(name: str, sha256: str) -> None:
    path = ROOT / "gating_templates" / name / "0.1.0.toml"
    assert template_sha256(load_template_file(path)) == sha256


def test_canonical_json_is_one_spelling() -> None:
    assert canonical_json({"b": 1.0, "a": ["é", None]}) == '{"a":["é",null],"b":1.0}'.encode()
    with pytest.raises(ValueError, match="Out of range float values"):
        canonical_json(float("nan"))


def test_a_template_cannot_be_changed() -> None:
    template = parse_template(TEXT, "made_up.toml")
    with pytest.raises(ValueError, match="frozen"):
        template.title = "other"  # type: ignore[misc]


def test_the_canonical_content_gives_the_template_back() -> None:
    template = parse_template(TEXT, "made_up.toml")
    assert Template.model_validate_json(canonical_json(template.model_dump(mode="json"))) == template
    assert tomllib.loads(TEXT)["version"] == template.version
