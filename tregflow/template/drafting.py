"""The text of a new draft: a release with another version, or a blank template that explains every key.

A release keeps its comments and its layout. The blank one is a template that loads; what it does not need stands in it
as comments, made from the model, so that a key that the model gets is in it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import tomlkit
from pydantic import BaseModel

from tregflow.template import model as m
from tregflow.template.explained import EXPLAINED, KINDS
from tregflow.template.semver import Version, parse_version

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from tregflow.template.semver import Part

FIRST = "0.1.0-draft.1"
_NUMBERS = "say here whether a count can move, which and why; a release needs it"


def next_draft(known: list[str], part: Part) -> str:
    """The version of the next draft after the released versions and the drafts that there are.

    `part` is the part of the highest release that the draft will move.
    """
    versions = [version for text in known if (version := parse_version(text)) is not None]
    released = [version for version in versions if not version.pre]
    base = max(released, key=lambda v: v.numbers).after(part) if released else Version(0, 1, 0)
    drafts = [v.pre.partition("draft.")[2] for v in versions if v.numbers == base.numbers and v.pre]
    number = 1 + max((int(text) for text in drafts if text.isdecimal()), default=0)
    return f"{base}-draft.{number}"


def draft_text(text: str, *, template_id: str, version: str, came_from: str) -> str:
    """A template's text as a draft of another id or version, with an empty entry in its changelog.

    Comments, layout and all other keys stay as they are. Of another template the changelog is not taken over.
    """
    document = tomlkit.parse(text)
    if document["id"] != template_id:
        document["id"] = template_id
        document.pop("changelog", None)
    document["version"] = version
    entry = tomlkit.table()
    entry["version"] = version
    entry["numbers"] = ""
    entry["numbers"].comment(_NUMBERS)
    entry["text"] = f"from {came_from}"
    entries = document.get("changelog")
    if entries is None:
        document["changelog"] = tomlkit.aot()
        entries = document["changelog"]
    if isinstance(entries, tomlkit.items.AoT):
        if len(entries):
            entry.trivia.indent = "\n"
        entries.append(entry)
    else:  # a list of inline tables
        inline = tomlkit.inline_table()
        inline.update({"version": version, "numbers": "", "text": f"from {came_from}"})
        entries.append(inline)
    return tomlkit.dumps(document)


def released_text(text: str, version: str) -> str:
    """A draft's text under the version that it is released as; its entry of the changelog goes with it."""
    document = tomlkit.parse(text)
    before = document["version"]
    if before == version:
        return text
    document["version"] = version
    for entry in document.get("changelog", ()):
        if entry["version"] == before:
            entry["version"] = version
    return tomlkit.dumps(document)


# --- blank -----------------------------------------------------------------------------------------------------------

_HEAD = """A gating template: everything that can change a number. Lines that begin with # are comments; the keys in
them stand there with their defaults, `...` for what must be given and (none) for what may be left out.
Validate while you write: tregflow template validate FILE
Gate coordinates are in compensated and transformed space, as in Gating-ML 2.0; scatter and Time are in scale values."""
_PANEL = {
    "FSC-A": {"aliases": '["FSC-A"]', "kind": '"scatter"'},
    "SSC-A": {"aliases": '["SSC-A"]', "kind": '"scatter"'},
    "CD3": {"aliases": '["CD3"]', "kind": '"fluorescence"'},
    "CD4": {"aliases": '["CD4"]', "kind": '"fluorescence"'},
    "CD25": {"aliases": '["CD25", "IL2RA"]', "kind": '"fluorescence"'},
    "FOXP3": {"aliases": '["FOXP3"]', "kind": '"fluorescence"'},
}
_WHOLE = "vertices = [[0, 0], [262144, 0], [262144, 262144], [0, 262144]]"
_GATES = (
    ("lymphocytes", "Lymphocytes", None, "polygon", ("FSC-A", "SSC-A"), _WHOLE),
    ("cd3", "CD3+", "lymphocytes", "range", ("CD3",), "min = 0.4"),
    ("cd4", "CD4+", "cd3", "range", ("CD4",), "min = 0.4"),
    ("cd25_pos", "CD25+", "cd4", "range", ("CD25",), "min = 0.4"),
    ("foxp3_pos", "FOXP3+", "cd4", "range", ("FOXP3",), "min = 0.4"),
    ("treg", "Treg (CD25+ FOXP3+)", "cd4", "boolean", (), 'operator = "and"\noperands = ["cd25_pos", "foxp3_pos"]'),
)  # fmt: skip


def blank_text(template_id: str, version: str = FIRST) -> str:
    """A template to begin with: it loads, is wrong for every panel, and explains every key."""
    return "\n".join(_blank(template_id, version)) + "\n"


def _blank(template_id: str, version: str) -> Iterator[str]:
    yield from (f"# {line}" for line in _HEAD.splitlines())
    yield ""
    tops = {"schema_version": str(m.SCHEMA_VERSION), "id": f'"{template_id}"', "version": f'"{version}"'}
    single = [name for name in m.Template.model_fields if not _tables(m.Template.model_fields[name].annotation)]
    yield from _keys(m.Template, {**tops, "title": '"What this template counts, on which specimen"'}, single)
    endpoint = {"numerator": '"treg"', "denominator": '"lymphocytes"', "also_of": '["cd4"]', "mfi": '["FOXP3", "CD25"]'}
    yield from _table("endpoint", m.Endpoint, endpoint)
    yield from _table("panel", m.PanelEntry, {}, "of a marker, by the name that gates and the manifest use")
    yield from (f"{marker} = {{ {_inline(entry)} }}" for marker, entry in _PANEL.items())
    yield from _table("compensation", m.CompensationRule, {"source": '"file"'})
    yield from _table("transforms", None, {})
    yield from _variants(m.TransformSpec, "kind", "a transform of kind")
    yield 'default = { kind = "logicle", T = 262144, W = 0.5, M = 4.5, A = 0 }'
    yield from _table("tubes", m.TubeRules, {})
    yield from _all_gates()
    yield from _table("qc", m.Qc, {})
    yield from _explained(m.FractionLimit, "of a population")
    yield from _explained(m.PlacementLimits, "placement")
    yield from ["", "[[changelog]]"]
    yield from _keys(m.ChangelogEntry, {"version": f'"{version}"', "numbers": '""'})


def _all_gates() -> Iterator[str]:
    yield from [
        "",
        "# --- gates: [[gates]] for each, in any order. First what every gate takes, then each kind",
    ]
    yield from _explained(m.GateBase, "every gate")
    yield from _variants(m.Gate, "kind", "a gate of kind", m.GateBase)
    yield from ["", "# --- rules that place a gate: place = { rule = ..., ... } of a range, polygon or ellipsoid"]
    yield from _explained(m.Place, "every rule")
    yield from _explained(m.CutPlace, "every rule of a range", m.Place)
    yield from _variants(m.CutRule, "rule", "rule", m.CutPlace)
    for rule in (m.SingletBand, m.EllipsePlace):
        yield from _explained(rule, f"rule {_tag(rule, 'rule')}: {_first(rule)}", m.Place)
    for gate_id, title, parent, kind, dimensions, rest in _GATES:
        yield from ["", "[[gates]]", f'id = "{gate_id}"', f'title = "{title}"']
        yield from [f'parent = "{parent}"'] if parent else []
        yield f'kind = "{kind}"'
        names = ", ".join(f'"{name}"' for name in dimensions)
        yield from [f"dimensions = [{names}]"] if names else []
        yield rest


def _table(name: str, model: type[BaseModel] | None, given: Mapping[str, str], of: str = "") -> Iterator[str]:
    yield from ["", f"# --- {name}: {KINDS.get(name, '')}".rstrip(": "), f"[{name}]"]
    if model is not None and of:
        yield from _explained(model, of)
    elif model is not None:
        yield from _keys(model, given)


def _variants(union: Any, tag: str, words: str, without: type[BaseModel] | None = None) -> Iterator[str]:
    for member in _members(union):
        yield from _explained(member, f"{words} {_tag(member, tag)}: {_first(member)}", without)


def _members(union: Any) -> tuple[type[BaseModel], ...]:
    return get_args(get_args(union)[0])


def _tag(model: type[BaseModel], tag: str) -> str:
    return str(get_args(model.model_fields[tag].annotation)[0])


def _first(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ").replace("    ", "")


def _explained(model: type[BaseModel], words: str, without: type[BaseModel] | None = None) -> Iterator[str]:
    """All keys of a model as comments, but those that a model under it has."""
    below = () if without is None else without.model_fields
    yield "#"
    yield from (f"# {line}" for line in textwrap.wrap(words, 116))
    for line in _keys(model, {}, [name for name in model.model_fields if name not in below], indent="  "):
        yield f"# {line}"


def _keys(
    model: type[BaseModel], given: Mapping[str, str], names: list[str] | None = None, indent: str = ""
) -> Iterator[str]:
    """A line for each key: with its value where one is given, else as a comment with its default."""
    for name, field in model.model_fields.items():
        if names is not None and name not in names:
            continue
        said = _said(model, name)
        why = f"  # {said}" if said else ""
        yield f"{name} = {given[name]}{why}" if name in given else f"{indent or '# '}{name} = {_default(field)}{why}"


def _said(model: type[BaseModel], name: str) -> str:
    known = (EXPLAINED.get((base.__name__, name)) for base in model.__mro__)
    return next((words for words in known if words), "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        only = get_args(field.annotation)
        return f'"{only[0]}"' if len(only) == 1 and get_origin(field.annotation) is Literal else "..."
    value = field.default
    if value is None:
        return "(none)"
    if isinstance(value, BaseModel | dict):
        return "{}"
    if isinstance(value, tuple):
        return "[]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def _inline(entry: Mapping[str, str]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in entry.items())


def _tables(annotation: Any) -> bool:
    """Whether a key of the template is a table of its own."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(_tables(inner) for inner in get_args(annotation))
