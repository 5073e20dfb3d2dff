"""FlowJo workspaces (version 10, `.wsp`) as data: groups, samples, their axes, matrices and trees of gates.

What stands in the file is kept as it is: coordinates in scale values, counts, who owns a gate. FlowKit reads the same
files for gating; it keeps neither FlowJo's counts nor coordinates before its transforms, which a comparison needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from tregflow.errors import GateError, TemplateError
from tregflow.exchange.scales import Axis, BiexAxis, GatingMlAxis, LinearAxis, LogAxis
from tregflow.template.gatingml import NAMESPACES
from tregflow.template.xml_input import MAX_WORKSPACE, parse_xml, read_xml
from tregflow.transforms import Asinh, Logicle

if TYPE_CHECKING:
    from pathlib import Path

    from lxml.etree import _Element

_G, _T, _D = (f"{{{NAMESPACES[prefix]}}}" for prefix in ("gating", "transforms", "data-type"))
_BOOLEANS = {"AndNode": "and", "OrNode": "or", "NotNode": "not"}
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class UnknownAxis:
    """An axis whose transform cannot be repeated, and why."""

    kind: str
    why: str

    def __str__(self) -> str:
        """In words, for tables."""
        return f"{self.kind}: {self.why}"


@dataclass(frozen=True, slots=True)
class Shape:
    """A gate's coordinates as they stand in the workspace.

    `names` are the dimensions, with the prefix of compensated ones. A rectangle has `bounds` and a polygon `vertices`,
    in compensated scale values; an ellipse has `foci` and `edge` (four points of it), in 256ths of the axes.
    `resolution` is the number of bins per axis on which FlowJo decides a polygon.
    """

    kind: Literal["rectangle", "polygon", "ellipse"]
    names: tuple[str, ...]
    bounds: tuple[tuple[float | None, float | None], ...] = ()
    vertices: tuple[Point, ...] = ()
    foci: tuple[Point, ...] = ()
    edge: tuple[Point, ...] = ()
    resolution: int = 256


@dataclass(frozen=True, slots=True)
class WorkspaceGate:
    """A population: its path from the root, who owns it, and its shape or what it is made of.

    `owner` is the group whose gate it follows, empty where it is the sample's own. `count` is FlowJo's, None where it
    has none. `outside`: the events outside the shape are meant. `dependents` are paths of populations.
    """

    path: tuple[str, ...]
    owner: str
    count: int | None
    shape: Shape | None
    outside: bool = False
    operator: Literal["and", "or", "not"] | None = None
    dependents: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The path in one text, as FlowJo writes it."""
        return "/".join(self.path)

    @property
    def parent(self) -> str | None:
        """The id of the population that it lies in, None for all events."""
        return "/".join(self.path[:-1]) or None

    @property
    def content(self) -> tuple[object, ...]:
        """What decides which events it holds, but for its parents."""
        return (self.shape, self.outside, self.operator, self.dependents)


@dataclass(frozen=True, slots=True)
class WorkspaceMatrix:
    """A sample's spillover matrix and how the names of compensated channels differ from those of the file."""

    name: str
    prefix: str
    suffix: str
    detectors: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    spectral: bool

    def raw_name(self, name: str) -> str | None:
        """The channel of the file that a compensated name is made of, None where it is not a compensated name."""
        inner = name.removeprefix(self.prefix).removesuffix(self.suffix)
        marked = name.startswith(self.prefix) and name.endswith(self.suffix) and inner != name
        return inner if marked and inner in self.detectors else None


@dataclass(frozen=True, slots=True)
class WorkspaceSample:
    """A tube of the workspace. `file` is the name at the end of its address, `n_events` what FlowJo counted in it."""

    id: str
    name: str
    file: str
    n_events: int | None
    axes: Mapping[str, Axis | UnknownAxis]
    matrix: WorkspaceMatrix | None
    stains: Mapping[str, str]
    gates: tuple[WorkspaceGate, ...]

    def gate(self, gate_id: str) -> WorkspaceGate | None:
        """The gate with this path, None where the sample has none."""
        return next((gate for gate in self.gates if gate.id == gate_id), None)

    def channel(self, name: str) -> tuple[str, bool]:
        """The channel of the file that a dimension is of, and whether it is compensated."""
        raw = None if self.matrix is None else self.matrix.raw_name(name)
        return (name, False) if raw is None else (raw, True)


@dataclass(frozen=True, slots=True)
class WorkspaceGroup:
    """A group: the ids of its samples, and the tree that they follow, empty where it has none of its own."""

    name: str
    samples: tuple[str, ...]
    gates: tuple[WorkspaceGate, ...]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace as read."""

    name: str
    version: str
    groups: tuple[WorkspaceGroup, ...]
    samples: tuple[WorkspaceSample, ...]


def read_workspace(path: Path) -> Workspace:
    """Read a FlowJo workspace from a file; errors as `parse_workspace`, and `XML_UNREADABLE`."""
    return parse_workspace(read_xml(path, MAX_WORKSPACE), path.name)


def parse_workspace(data: bytes, name: str) -> Workspace:
    """Read a FlowJo workspace.

    Raises
    ------
    TemplateError
        `XML_REFUSED`, `XML_SYNTAX`, `WORKSPACE_INVALID` (no workspace of FlowJo 10, or something missing in it, with
        the line).
    GateError
        `TRANSFORM_PARAMETER`: an axis that cannot exist.
    """
    return workspace_from(parse_xml(data, name, MAX_WORKSPACE), name)


def workspace_from(root: _Element, name: str) -> Workspace:
    """The workspace below a parsed root; errors as `parse_workspace`."""
    return _Reader(name).workspace(root)


class _Reader:
    """One workspace."""

    def __init__(self, name: str) -> None:
        self.name = name

    def workspace(self, root: _Element) -> Workspace:
        version = root.get("flowJoVersion", "")
        if root.tag != "Workspace" or not version.partition(".")[0].isdecimal() or int(version.partition(".")[0]) < 10:
            found = f"{root.tag}, flowJoVersion {version or 'none'}"
            raise self.invalid(root, "a Workspace of FlowJo 10 or later", found)
        samples = tuple(self.sample(s) for s in self.child(root, "SampleList").iterfind("Sample"))
        ids = [sample.id for sample in samples]
        if len(set(ids)) < len(ids):
            raise self.invalid(root, "every sampleID once", ", ".join(sorted(i for i in set(ids) if ids.count(i) > 1)))
        groups = root.find("Groups")
        found_groups = [] if groups is None else [self.group(g) for g in groups.iterfind("GroupNode")]
        return Workspace(self.name, version, tuple(found_groups), samples)

    def group(self, element: _Element) -> WorkspaceGroup:
        refs = [self.value(ref, "sampleID") for ref in element.iterfind("Group/SampleRefs/SampleRef")]
        return WorkspaceGroup(self.value(element, "name"), tuple(refs), tuple(self.gates(element, ())))

    def sample(self, element: _Element) -> WorkspaceSample:
        node = self.child(element, "SampleNode")
        dataset = element.find("DataSet")
        uri = "" if dataset is None else dataset.get("uri", "")
        keywords = {k.get("name", ""): k.get("value", "") for k in element.iterfind("Keywords/Keyword")}
        gates = tuple(self.gates(node, ()))
        ids = [gate.id for gate in gates]
        if repeated := sorted({i for i in ids if ids.count(i) > 1}):
            raise self.invalid(node, "every population once", f"{', '.join(repeated)} more than once")
        matrices = element.findall(f"{_T}spilloverMatrix")
        if len(matrices) > 1:
            raise self.invalid(element, "one spillover matrix at most", f"{len(matrices)}")
        return WorkspaceSample(
            id=self.value(node, "sampleID"),
            name=self.value(node, "name"),
            file=unquote(uri).replace("\\", "/").rpartition("/")[2],
            n_events=_count(node),
            axes=dict(self.axis(child) for child in element.iterfind("Transformations/*")),
            matrix=self.matrix(matrices[0]) if matrices else None,
            stains=_stains(keywords),
            gates=gates,
        )

    def matrix(self, element: _Element) -> WorkspaceMatrix:
        parameters = element.iterfind(f"{_D}parameters/{_D}parameter")
        rows = element.iterfind(f"{_T}spillover")
        return WorkspaceMatrix(
            name=element.get("name", "unnamed"),
            prefix=element.get("prefix", ""),
            suffix=element.get("suffix", ""),
            detectors=tuple(self.value(p, f"{_D}name") for p in parameters),
            rows=tuple(tuple(self.number(c, f"{_T}value") for c in row.iterfind(f"{_T}coefficient")) for row in rows),
            spectral=element.get("spectral") == "1",
        )

    def axis(self, element: _Element) -> tuple[str, Axis | UnknownAxis]:
        kind = str(element.tag).rpartition("}")[2]
        parameter = element.find(f"{_D}parameter")
        if parameter is None:
            raise self.invalid(element, "the parameter of an axis", "none")
        name = self.value(parameter, f"{_D}name")

        def number(attribute: str) -> float:
            return self.number(element, f"{_T}{attribute}")

        try:
            if kind == "linear":
                gain = float(element.get("gain") or 1)
                return name, LinearAxis(number("minRange"), number("maxRange"), gain)
            if kind == "log":
                return name, LogAxis(number("offset"), number("decades"))
            if kind == "biex":
                return name, BiexAxis(number("width"), number("neg"), number("pos"), number("maxRange"))
            if kind == "logicle":
                return name, GatingMlAxis(Logicle(number("T"), number("W"), number("M"), number("A")))
            if kind == "fasinh":
                return name, GatingMlAxis(Asinh(number("T"), number("M"), number("A")))
        except (GateError, ValueError) as error:  # it matters only where a gate stands on it
            return name, UnknownAxis(kind, getattr(error, "message", str(error)))
        return name, UnknownAxis(kind, "no published definition")

    # --- gates ---

    def gates(self, element: _Element, above: tuple[str, ...]) -> Iterator[WorkspaceGate]:
        """All populations below a node, parents first. As deep as the parser lets a document be."""
        for below in element.iterfind("Subpopulations"):
            for child in below:
                if child.tag in {"Population", *_BOOLEANS}:
                    gate = self.gate(child, (*above, self.value(child, "name")))
                    yield gate
                    yield from self.gates(child, gate.path)

    def gate(self, element: _Element, path: tuple[str, ...]) -> WorkspaceGate:
        owner, count = element.get("owningGroup", ""), _count(element)
        if element.tag in _BOOLEANS:
            dependents = tuple(self.value(d, "name") for d in element.iterfind("Dependents/Dependent"))
            operator = _BOOLEANS[element.tag]
            n = len(dependents)
            if n != 1 if operator == "not" else n < 2:
                raise self.invalid(element, f"the dependents of '{operator}'", f"{n}")
            return WorkspaceGate(path, owner, count, None, operator=operator, dependents=dependents)  # type: ignore[arg-type]
        shapes = list(self.child(element, "Gate"))
        if len(shapes) != 1:
            raise self.invalid(element, "one shape in the gate", f"{len(shapes)}")
        return WorkspaceGate(path, owner, count, self.shape(shapes[0]), outside=shapes[0].get("eventsInside") == "0")

    def shape(self, element: _Element) -> Shape:
        kind = str(element.tag).removeprefix(_G)
        dimensions = element.findall(f"{_G}dimension")
        names = tuple(self.value(self.child(d, f"{_D}fcs-dimension"), f"{_D}name") for d in dimensions)
        resolution = element.get("gateResolution", "256")
        if not resolution.isdecimal() or not 2 <= int(resolution) <= 65536:
            raise self.invalid(element, "a gateResolution from 2 to 65536", resolution)
        if kind == "RectangleGate" and names:
            bounds = tuple((self.bound(d, "min"), self.bound(d, "max")) for d in dimensions)
            return Shape("rectangle", names, bounds=bounds)
        if kind == "PolygonGate" and len(names) == 2:
            vertices = self.points(element.findall(f"{_G}vertex"))
            if len(set(vertices)) < 3:
                raise self.invalid(element, "three different vertices", f"{len(set(vertices))}")
            return Shape("polygon", names, vertices=vertices, resolution=int(resolution))
        if kind == "EllipsoidGate" and len(names) == 2:
            foci, edge = (self.points(element.findall(f"{_G}{tag}/{_G}vertex")) for tag in ("foci", "edge"))
            if len(foci) != 2 or len(edge) != 4:
                raise self.invalid(element, "two foci and four points of the edge", f"{len(foci)} and {len(edge)}")
            return Shape("ellipse", names, foci=foci, edge=edge, resolution=int(resolution))
        raise self.invalid(element, "a RectangleGate, or a PolygonGate or EllipsoidGate of two dimensions", kind)

    def bound(self, element: _Element, end: str) -> float | None:
        return self.number(element, f"{_G}{end}") if f"{_G}{end}" in element.attrib else None

    def points(self, elements: list[_Element]) -> tuple[Point, ...]:
        found = []
        for element in elements:
            values = [self.number(c, f"{_D}value") for c in element.iterfind(f"{_G}coordinate")]
            if len(values) != 2:
                raise self.invalid(element, "two coordinates", f"{len(values)}")
            found.append((values[0], values[1]))
        return tuple(found)

    # --- values ---

    def child(self, element: _Element, tag: str) -> _Element:
        found = element.find(tag)
        if found is None:
            raise self.invalid(element, f"the element {tag.rpartition('}')[2]}", "none")
        return found

    def value(self, element: _Element, attribute: str) -> str:
        found = element.get(attribute)
        if not found:
            raise self.invalid(element, f"the attribute {attribute.rpartition('}')[2]}", "none")
        return found

    def number(self, element: _Element, attribute: str) -> float:
        text = self.value(element, attribute)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self.invalid(element, f"a finite number for {attribute.rpartition('}')[2]}", text)
        return number

    def invalid(self, element: _Element, expected: str, found: str) -> TemplateError:
        tag = str(element.tag).rpartition("}")[2]
        return TemplateError(
            "WORKSPACE_INVALID",
            f"{self.name} is no FlowJo workspace that can be read (line {element.sourceline}, {tag} "
            f"{element.get('name', '')}): expected {expected}; found {found}.",
            file=self.name,
        )


def _count(element: _Element) -> int | None:
    """FlowJo's count; -1 is what it writes before it has counted."""
    text = element.get("count", "")
    return int(text) if text.isdecimal() else None


def _stains(keywords: Mapping[str, str]) -> dict[str, str]:
    """Stain by channel, from `$PnN` and `$PnS`."""
    found = {}
    for key, name in keywords.items():
        if key.startswith("$P") and key.endswith("N") and key[2:-1].isdecimal():
            stain = keywords.get(f"{key[:-1]}S", "").strip()
            if stain:
                found[name] = stain
    return found
