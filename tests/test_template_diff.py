"""What two templates differ in, which part of the version each difference demands, and that every key has its place."""

from __future__ import annotations

import copy
import json
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model
from support import ROOT
from templates import documents, template_of

from tregflow.template import model as m
from tregflow.template.bearing import FIELDS, Bearing, bearing
from tregflow.template.diff import Difference, diff_templates
from tregflow.template.loading import parse_template, template_sha256
from tregflow.template.semver import Version, enough, parse_version, step

TEXT = (ROOT / "gating_templates" / "treg-foxp3-pbmc" / "0.1.0.toml").read_text(encoding="utf-8")
PBMC = parse_template(TEXT, "0.1.0.toml")


def changed(*pairs: tuple[str, str]) -> m.Template:
    text = TEXT
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return parse_template(text, "changed.toml")


def found(*pairs: tuple[str, str]) -> tuple[Difference, ...]:
    return diff_templates(PBMC, changed(*pairs)).differences


# --- which part each difference demands -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "where", "part", "why"),
    [
        # the endpoint's meaning, or a gate that moves it
        ('denominator = "lymphocytes"', 'denominator = "cd3"', "endpoint, denominator", "major", "what the endpoint"),
        ('numerator = "treg"', 'numerator = "treg_cd127low"', "endpoint, numerator", "major", "means"),
        ("k = 4", "k = 3.5", "gates, cd25_pos, place, k", "major", "the endpoint rests on cd25_pos"),
        ("[127000, 20000]", "[128000, 20000]", "gates, lymphocytes, vertices, 3", "major", "rests on lymphocytes"),
        ("template_value = 0.52", "template_value = 0.5", "gates, viable, place, template_value", "major", "viable"),
        ('share = "batch"\nmin', 'share = "batch"\notherwise = "template_value"\ntemplate_value = 0.4\nmin',
         "gates, cd25_pos, place, otherwise", "major", "cd25_pos"),
        ("within = [0.32, 0.60]", "within = [0.32, 0.59]", "gates, cd25_pos, place, within", "major", "cd25_pos"),
        ('aliases = ["FOXP3"]', 'aliases = ["FOXP3", "FoxP-3 x"]', "panel, FOXP3, aliases", "major", "another channel"),
        ('feature = "height"', 'feature = "width"', "panel, FSC-H, feature", "major", "another channel"),
        ("W = 1.0", "W = 0.9", "transforms, default, W", "major", "it moves the gates on CD25, CD3, CD4, FOXP3, Viab"),
        ('source = "file"', 'source = "manifest"', "compensation, source", "major", "every count"),
        ('source = "file"', 'source = "file"\nalternatives = ["manifest"]', "compensation, alternatives", "major", ""),
        # what is said of a count
        ("lloq_events = 50", "lloq_events = 60", "endpoint, lloq_events", "minor", "no count that the endpoint"),
        ("_denominator_events = 5000", "_denominator_events = 4000", "endpoint, min_denominator_events", "minor", ""),
        ("uncertainty = 1", "uncertainty = 2", "gates, cd25_pos, place, uncertainty", "minor", ""),
        ("viable = { review = [70,", "viable = { review = [60,", "qc, pct_of_parent, viable, review", "minor", ""),
        ('also_of = ["cd4"]', 'also_of = ["cd4", "cd3"]', "endpoint, also_of", "minor", ""),
        ("max = 0.45", "max = 0.47", "gates, treg_cd127low, max", "minor", "does not rest on treg_cd127low"),
        ('aliases = ["CD8", "CD8a"]', 'aliases = ["CD8"]', "panel, CD8, aliases", "minor", "no gate that the endpoint"),
        ("[transforms]", "[tubes]\npattern = 'x'\n[transforms]", "tubes, pattern", "minor", ""),
        ("# W = 1:", 'CD127 = { kind = "log", T = 262144, M = 4 }\n# W = 1:', "transforms, CD127", "minor", "CD127"),
        # what people read
        ('title = "Singlets"', 'title = "Single cells"', "gates, singlets, title", "patch", "nothing that is computed"),
        ("Version 0.x: usable", "Version 0.x: very usable", "description", "patch", "nothing that is computed"),
        ('against = "SSC-A"\n# dead', 'against = "FSC-A"\n# dead', "gates, viable, against", "patch", ""),
        ('operands = ["cd4"]\nshow = false', 'operands = ["cd4"]', "gates, cd4_neg_t, show", "patch", ""),
        ("# W = 1", "CD8 = { kind = \"logicle\", T = 262144, W = 1, M = 4.5 }\n# W = 1", "transforms, CD8", "patch",
         "no dimension has another transform"),
        ('numbers = "first version;', 'numbers = "first version,', "changelog, 0.1.0, numbers", "patch", ""),
    ],
)  # fmt: skip
def test_each_difference_demands_its_part(old: str, new: str, where: str, part: str, why: str) -> None:
    by_place = {difference.where: difference for difference in found((old, new))}
    assert where in by_place, by_place
    assert by_place[where].part == part
    assert why in by_place[where].why


def test_every_difference_is_found_at_once_and_the_gravest_comes_first() -> None:
    differences = found(
        ("k = 4", "k = 3.5"),
        ("lloq_events = 50", "lloq_events = 60"),
        ('title = "Singlets"', 'title = "Single"'),
        ('version = "0.1.0"', 'version = "0.2.0"'),
        ("[[changelog]]\n", '[[changelog]]\nversion = "0.2.0"\nnumbers = "x"\n[[changelog]]\n'),
    )  # fmt: skip
    assert [(d.where, d.what, d.before, d.after, d.part) for d in differences] == [
        ("gates, cd25_pos, place, k", "changed", 4.0, 3.5, "major"),
        ("endpoint, lloq_events", "changed", 50, 60, "minor"),
        ("gates, singlets, title", "changed", "Singlets", "Single", "patch"),
        ("version", "changed", "0.1.0", "0.2.0", "none"),
        ("changelog, 0.2.0", "added", None, {"version": "0.2.0", "numbers": "x"}, "none"),
    ]


def test_gates_that_come_go_or_are_of_another_kind() -> None:
    low = '[[gates]]\nid = "low"\nparent = "cd4"\nkind = "range"\ndimensions = ["CD127"]\nmax = 0.4\n\n[qc]\n'
    (added,) = found(("[qc]\n", low))
    assert (added.where, added.what, added.part) == ("gates, low", "added", "minor")
    assert added.after == {"id": "low", "parent": "cd4", "kind": "range", "dimensions": ["CD127"], "max": 0.4}
    tail = TEXT[TEXT.index('[[gates]]\nid = "treg_cd127low"') : TEXT.index("[qc]")]
    (removed,) = found((tail, ""))
    assert (removed.where, removed.what, removed.part) == ("gates, treg_cd127low", "removed", "minor")
    rule = TEXT[TEXT.index('[gates.place]\nrule = "valley"') : TEXT.index('[[gates]]\nid = "lymphocytes"')]
    fixed = found((rule, "max = 0.5\n\n"))
    assert [(d.where, d.what, d.part) for d in fixed] == [
        ("gates, viable, max", "added", "major"), ("gates, viable, place", "removed", "major"),
    ]  # fmt: skip
    kinds = found(('kind = "range"\ndimensions = ["CD127"]\nmax = 0.45\nagainst = "CD25"',
                   'kind = "boolean"\noperator = "not"\noperands = ["cd3"]'))  # fmt: skip
    assert {d.where for d in kinds} >= {"gates, treg_cd127low, kind", "gates, treg_cd127low, operands"}
    assert {d.part for d in kinds} == {"minor", "patch"}  # what it is drawn against is for people


def test_another_rule_is_a_difference_of_its_gate() -> None:
    tail = 'rule = "tail"\nside = "above"\nflank = "upper"\nfraction = 0.05\nreference = "cd4_neg_t"\n'
    differences = found(('rule = "negative_spread"\nside = "above"\nreference = "cd4_neg_t"\nk = 4\n', tail))
    assert {(d.where, d.what, d.part) for d in differences} == {
        ("gates, cd25_pos, place, rule", "changed", "major"), ("gates, cd25_pos, place, k", "removed", "major"),
        ("gates, cd25_pos, place, flank", "added", "major"), ("gates, cd25_pos, place, fraction", "added", "major"),
        ("gates, cd25_pos, place, bandwidth", "added", "major"),
    }  # fmt: skip


def test_a_moved_bound_is_given_in_scale_values() -> None:
    (moved,) = found(("max = 0.45", "max = 0.47"))
    transform = PBMC.transform("CD127")
    assert transform is not None
    ends = [float(transform.inverse(value)) for value in (0.45, 0.47)]
    assert moved.note == f"in scale values {ends[0]:.6g} to {ends[1]:.6g}"


def test_the_order_of_gates_is_a_difference_that_changes_no_number() -> None:
    document = json.loads(PBMC.model_dump_json())
    document["gates"] = document["gates"][::-1]
    (order,) = diff_templates(PBMC, m.Template.model_validate_json(json.dumps(document))).differences
    assert (order.where, order.part, order.before[0], order.after[0]) == (
        "gates, order", "patch", "singlets", "treg_cd127low",
    )  # fmt: skip


def test_another_id_is_another_template() -> None:
    (other,) = found(('id = "treg-foxp3-pbmc"', 'id = "mine"'))
    assert (other.part, other.why) == ("major", "another template: its versions say nothing of this one's")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents(), st.data())
def test_there_is_a_difference_exactly_where_the_hashes_differ(document: dict[str, Any], data: st.DataObject) -> None:
    template, other = template_of(document), copy.deepcopy(document)
    other["gates"] = data.draw(st.permutations(other["gates"]))
    gate = data.draw(st.sampled_from(other["gates"]))
    key = data.draw(st.sampled_from(["nothing", "title", "show", "min", "k"]))
    if key in gate:
        gate[key] = data.draw(st.sampled_from([gate[key], {"title": "new", "show": True, "min": -1.5}.get(key)]))
        if key == "min" and gate["kind"] == "rectangle":
            gate[key] = {gate["dimensions"][0]: 2.5}
    if data.draw(st.booleans()):
        other["endpoint"]["lloq_events"] += 1
    changed_template = template_of(other)
    diff = diff_templates(template, changed_template)
    assert bool(diff.differences) == (template_sha256(template) != template_sha256(changed_template))
    assert diff_templates(template, template).differences == ()
    json.dumps(diff.to_json())


# --- every key has its place ----------------------------------------------------------------------------------------


def models(kind: Any, seen: set[type[BaseModel]] | None = None) -> set[type[BaseModel]]:
    """Every model that a template is made of."""
    seen = set() if seen is None else seen
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if kind not in seen:
            seen.add(kind)
            for field in kind.model_fields.values():
                models(field.annotation, seen)
    else:
        for inner in get_args(kind):
            models(inner, seen)
    return seen


@pytest.mark.parametrize("kind", sorted(models(m.Template), key=lambda k: k.__name__), ids=lambda k: k.__name__)
def test_every_key_of_the_model_is_classified(kind: type[BaseModel]) -> None:
    known = {name for base in kind.__mro__ for name in FIELDS.get(base, {})}
    missing = set(kind.model_fields) - known
    assert not missing, f"say in tregflow/template/bearing.py what {kind.__name__}'s {sorted(missing)} bear on"


def test_only_tables_are_judged_by_their_own_keys() -> None:
    for kind in models(m.Template):
        for name, field in kind.model_fields.items():
            if bearing(kind, name) is Bearing.INSIDE:
                assert models(field.annotation) or kind is m.Template, f"{kind.__name__}.{name}"


def test_a_key_that_nobody_has_classified_demands_the_strictest_part() -> None:
    Newer = create_model("Newer", __base__=m.Qc, drift=(float, Field(default=0.0)))
    assert bearing(Newer, "drift") is Bearing.ENDPOINT
    one, other = (PBMC.model_copy(update={"qc": Newer(drift=value)}) for value in (0.0, 1.0))
    (difference,) = diff_templates(one, other).differences
    assert (difference.where, difference.part) == ("qc, drift", "major")


# --- versions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        ("1.2.3", "1.2.4", "patch"), ("1.2.3", "1.3.0", "minor"), ("1.2.3", "2.0.0", "major"),
        ("1.2.3", "1.2.3", "none"),
        ("1.2.3", "1.2.2", "none"), ("1.2.3", "1.1.9", "none"), ("1.2.3", "0.9.9", "none"),
        ("0.1.0", "0.1.1", "patch"), ("0.1.0", "0.2.0", "major"), ("0.1.0", "1.0.0", "major"),
    ],
)  # fmt: skip
def test_the_step_between_two_versions(before: str, after: str, taken: str) -> None:
    one, other = parse_version(before), parse_version(after)
    assert one is not None
    assert other is not None
    assert step(one, other) == taken
    order = ["none", "patch", "minor", "major"]
    assert [enough(one, other, part) for part in order] == [
        taken != "none" and order.index(taken) >= i for i in range(4)
    ]


def test_the_lowest_version_for_a_part() -> None:
    assert [str(Version(1, 2, 3).after(part)) for part in ("patch", "minor", "major")] == ["1.2.4", "1.3.0", "2.0.0"]
    assert [str(Version(0, 2, 3).after(part)) for part in ("patch", "minor", "major")] == ["0.2.4", "0.3.0", "0.3.0"]


@pytest.mark.parametrize(
    "text", ["1.2", "01.2.3", "1.2.3.4", "v1.2.3", "1.2.3+b", "1.2.3-", "", "1.2.3\n", "\u0661.2.3"]
)
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None
