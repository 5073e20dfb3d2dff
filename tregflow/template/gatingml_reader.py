"""Reading a Gating-ML 2.0 document, the counterpart of `template.gatingml`.

Every gate and transform of the standard: rectangles, polygons, ellipsoids, quadrants and booleans with complements;
linear, log, asinh, logicle, hyperlog and ratio, with bounds; spectrum matrices, square or not; `FCS` and
`uncompensated`. What the schema would refuse is refused here, and what only the text of the standard says (ids that
exist, no circles, parameters that are possible) too. Ids and titles that our writer kept in `custom_info` come back.

References
----------
Gating-ML 2.0, ISAC Recommendation, schemas 2.0.121207.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from tregflow import transforms as tf
from tregflow.errors import TemplateError, TregflowError
from tregflow.gates import Boolean, Ellipsoid, NamedCell, Polygon, QuadrantGrid, Rectangle
from tregflow.template.gatingml import NAMESPACES, TRANSFORM_ELEMENTS
from tregflow.template.gatingml_model import (
    FROM_FILE,
    UNCOMPENSATED,
    DocumentDimension,
    DocumentGate,
    GatingDocument,
    RatioOf,
    Scale,
    SpectrumMatrix,
)
from tregflow.template.xml_input import MAX_DOCUMENT, parse_xml, read_xml

if TYPE_CHECKING:
    from pathlib import Path

    from lxml.etree import _Element

_G, _T, _D, _OURS = (f"{{{NAMESPACES[prefix]}}}" for prefix in ("gating", "transforms", "data-type", "tregflow"))
_KINDS = {
    f"{_G}RectangleGate": "rectangle",
    f"{_G}PolygonGate": "polygon",
    f"{_G}EllipsoidGate": "ellipsoid",
    f"{_G}QuadrantGate": "quadrant",
    f"{_G}BooleanGate": "boolean",
}
_TRANSFORMS = {f"{_T}{tag}": getattr(tf, name) for name, tag in TRANSFORM_ELEMENTS.items()}
_PARAMETERS = {
    "Linear": "TA",
    "Log": "TM",
    "Asinh": "TMA",
    "Logicle": "TWMA",
    "Hyperlog": "TWMA",
    "Ratio": "ABC",
}  # each is required by the schema, also where ours has a default
_DOUBLE = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?INF|NaN", re.ASCII)
_NAME = re.compile(r"[^\W\d][\w.\-]*")  # an NCName, as near as a regular expression comes
_REMEDY = "Correct the document, or export it again from the program that made it."
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class _Names(NamedTuple):
    """What an element is called: the id that the document's text uses, ours, and the title."""

    ref: str
    id: str
    title: str


def read_gatingml(path: Path) -> GatingDocument:
    """Read a Gating-ML 2.0 document from a file; errors as `parse_gatingml`, and `XML_UNREADABLE`."""
    return parse_gatingml(read_xml(path, MAX_DOCUMENT), path.name)


def parse_gatingml(data: bytes, name: str) -> GatingDocument:
    """Read a Gating-ML 2.0 document.

    Parameters
    ----------
    data
        The bytes of the file, at most 32 MB.
    name
        What messages call it.

    Raises
    ------
    TemplateError
        `XML_REFUSED`, `XML_SYNTAX`: no XML that is read. `GATINGML_INVALID`: not what the standard asks for, with the
        line.
    GateError, CompensationError
        `GATE_GEOMETRY`, `TRANSFORM_PARAMETER`, `COMPENSATION_MALFORMED`, ...: a gate, transform or matrix that cannot
        exist, with its line.
    """
    return gatingml_from(parse_xml(data, name), name)


def gatingml_from(root: _Element, name: str) -> GatingDocument:
    """The document below a parsed root; errors as `parse_gatingml`."""
    return _Reader(root, name).document()


class _Reader:
    """One document. Elements are visited in the order of what they need: matrices, transforms, gates."""

    def __init__(self, root: _Element, name: str) -> None:
        self.name = name
        self.root = root
        self.seen: set[str] = set()
        self.matrices: dict[str, SpectrumMatrix] = {}
        self.scales: dict[str, Scale | RatioOf] = {}
        self.populations: dict[str, str] = {}  # gates and quadrants: the document's name to ours

    def document(self) -> GatingDocument:
        if self.root.tag != f"{_G}Gating-ML":
            found = (
                "no namespace" if not str(self.root.tag).startswith("{") else str(self.root.tag)[1:].partition("}")[0]
            )
            raise self.invalid(
                self.root, f"the root Gating-ML of {NAMESPACES['gating']}", f"{_local(self.root)} of {found}"
            )
        parts: dict[str, list[_Element]] = {"matrix": [], "transformation": [], "gate": [], "info": []}
        for child in self.root:
            parts[self.part(child)].append(child)
        for child in parts["matrix"]:
            matrix = self.at(child, self.matrix)
            self.matrices[self.value(child, f"{_T}id")] = matrix
        for child in parts["transformation"]:
            self.scales[self.identity(child, f"{_T}id")] = self.at(child, self.transformation)
        gates = [(child, self.at(child, self.gate)) for child in parts["gate"]]
        info: dict[str, str] = {}
        for child in parts["info"]:
            info |= _info(child)
        if not gates:
            raise self.invalid(self.root, "one gate or more", "none")
        return GatingDocument(self.resolved(gates), tuple(self.matrices.values()), info)

    def part(self, child: _Element) -> Literal["matrix", "transformation", "gate", "info"]:
        if child.tag in _KINDS:
            return "gate"
        if child.tag == f"{_T}transformation":
            return "transformation"
        if child.tag == f"{_T}spectrumMatrix":
            return "matrix"
        if child.tag == f"{_D}custom_info":
            return "info"
        raise self.invalid(child, "a gate, a transformation, a spectrumMatrix or custom_info", _local(child))

    # --- matrices and transforms ---

    def matrix(self, element: _Element) -> SpectrumMatrix:
        ref = self.identity(element, f"{_T}id")
        if ref in {UNCOMPENSATED, FROM_FILE}:
            raise self.invalid(element, "another id of a matrix", f"{ref}, which has a meaning of its own")
        children = self.children(element, "fluorochromes", "detectors", "spectrum", space=_T)
        (fluorochromes,), (detectors,) = (
            self.exactly(element, children[t], t, 1) for t in ("fluorochromes", "detectors")
        )
        rows = tuple(
            tuple(self.number(c, f"{_T}value") for c in self.only(row, f"{_T}coefficient"))
            for row in children["spectrum"]
        )
        kept = element.find(f"{_D}custom_info/{_OURS}matrix")
        return SpectrumMatrix(
            ref if kept is None else kept.get("id", ref),
            tuple(self.channel(c) for c in self.only(fluorochromes, f"{_D}fcs-dimension")),
            tuple(self.channel(c) for c in self.only(detectors, f"{_D}fcs-dimension")),
            rows,
            self.truth(element, f"{_T}matrix-inverted-already"),
            _info_of(element),
        )

    def transformation(self, element: _Element) -> Scale | RatioOf:
        inner = [child for child in element if child.tag in _TRANSFORMS]
        if len(element) != 1 or len(inner) != 1:
            found = ", ".join(_local(child) for child in element) or "nothing"
            raise self.invalid(element, f"one of {', '.join(TRANSFORM_ELEMENTS.values())}", found)
        build = _TRANSFORMS[inner[0].tag]
        kind = build(**{p: self.number(inner[0], f"{_T}{p}") for p in _PARAMETERS[build.__name__]})
        bounds = [
            self.number(element, f"{_T}{end}") if f"{_T}{end}" in element.attrib else None
            for end in ("boundMin", "boundMax")
        ]
        if not isinstance(kind, tf.Ratio):
            return Scale(kind, *bounds)
        channels = [self.channel(c) for c in inner[0] if c.tag == f"{_D}fcs-dimension"]
        x, y = self.exactly(inner[0], channels, "fcs-dimension", 2)
        return RatioOf(kind, x, y, *bounds)

    # --- gates ---

    def gate(self, element: _Element) -> DocumentGate:
        """A gate as the document's text has it: its parent and operands are still names of that text."""
        kind = _KINDS[element.tag]
        ref = self.identity(element, f"{_G}id")
        kept = element.find(f"{_D}custom_info/{_OURS}gate")
        title = element.findtext(f"{_D}custom_info/cytobank/name")  # Cytobank's dialect keeps it there
        names = (
            _Names(ref, ref, title or ref) if kept is None else _Names(ref, kept.get("id", ref), kept.get("title", ""))
        )
        dimensions: tuple[DocumentDimension, ...] = ()
        operands: tuple[tuple[str, bool], ...] = ()
        geometry: Any
        if kind == "boolean":
            geometry, operands = self.boolean(element)
        elif kind == "quadrant":
            dimensions, geometry = self.quadrant(element)
        else:
            wanted = {"polygon": ("vertex",), "ellipsoid": ("mean", "covarianceMatrix", "distanceSquare")}
            children = self.children(element, "dimension", *wanted.get(kind, ()))
            dimensions = tuple(self.dimension(child) for child in children["dimension"])
            shape: Callable[..., Any] = {"rectangle": self.rectangle, "polygon": self.polygon}.get(kind, self.ellipsoid)
            geometry = shape(element, children)
        if kind != "quadrant":  # which is no population itself
            self.populations[names.ref] = names.id
        parent = element.get(f"{_G}parent_id")
        return DocumentGate(
            names.id, names.title, parent, cast("Any", kind), dimensions, geometry, operands, _info_of(element)
        )

    def dimension(self, element: _Element) -> DocumentDimension:
        compensation = self.value(element, f"{_G}compensation-ref")
        if compensation not in {UNCOMPENSATED, FROM_FILE}:
            if compensation not in self.matrices:
                known = ", ".join((UNCOMPENSATED, FROM_FILE, *self.matrices))
                raise self.invalid(element, f"a compensation-ref among {known}", compensation)
            compensation = self.matrices[compensation].id
        reference = element.get(f"{_G}transformation-ref")
        scale = None if reference is None else self.scale(element, reference)
        if isinstance(scale, RatioOf):
            raise self.invalid(element, "a transform of one dimension", f"the ratio {reference}")
        sources = [c for c in element if c.tag in {f"{_D}fcs-dimension", f"{_D}new-dimension"}]
        if len(sources) != 1:
            raise self.invalid(element, "one fcs-dimension or new-dimension", f"{len(sources)}")
        if sources[0].tag == f"{_D}fcs-dimension":
            return DocumentDimension(self.channel(sources[0]), compensation, scale)
        made = self.scale(sources[0], self.value(sources[0], f"{_D}transformation-ref"))
        if not isinstance(made, RatioOf):
            raise self.invalid(sources[0], "a ratio, which makes a new dimension", "a transform of one dimension")
        return DocumentDimension(made, compensation, scale)

    def scale(self, element: _Element, reference: str) -> Scale | RatioOf:
        if reference not in self.scales:
            raise self.invalid(element, f"a transformation among {', '.join(self.scales) or 'none'}", reference)
        return self.scales[reference]

    def rectangle(self, element: _Element, children: Mapping[str, list[_Element]]) -> Rectangle:
        bounds: dict[str, list[float | None]] = {"min": [], "max": []}
        for child in self.at_least(element, children["dimension"], "dimension", 1):
            for end, open_end in (("min", -math.inf), ("max", math.inf)):
                value = self.number(child, f"{_G}{end}") if f"{_G}{end}" in child.attrib else None
                bounds[end].append(None if value == open_end else value)
        return Rectangle(tuple(bounds["min"]), tuple(bounds["max"]))

    def polygon(self, element: _Element, children: Mapping[str, list[_Element]]) -> Polygon:
        self.exactly(element, children["dimension"], "dimension", 2)
        vertices = [self.coordinates(v) for v in self.at_least(element, children["vertex"], "vertex", 3)]
        return Polygon(tuple(cast("tuple[float, float]", vertex) for vertex in vertices))

    def ellipsoid(self, element: _Element, children: Mapping[str, list[_Element]]) -> Ellipsoid:
        n = len(self.at_least(element, children["dimension"], "dimension", 2))
        (mean,), (matrix,), (distance,) = (
            self.exactly(element, children[tag], tag, 1) for tag in ("mean", "covarianceMatrix", "distanceSquare")
        )
        rows = self.only(matrix, f"{_G}row")
        covariance = tuple(tuple(self.number(e, f"{_D}value") for e in self.only(row, f"{_G}entry")) for row in rows)
        centre = tuple(self.exactly(mean, self.coordinates(mean), "coordinate", n))
        return Ellipsoid(centre, covariance, self.number(distance, f"{_D}value"))

    def quadrant(self, element: _Element) -> tuple[tuple[DocumentDimension, ...], QuadrantGrid]:
        children = self.children(element, "divider", "Quadrant")
        places: dict[str, int] = {}
        dividers: list[tuple[float, ...]] = []
        for at, child in enumerate(self.at_least(element, children["divider"], "divider", 1)):
            places[self.identity(child, f"{_G}id")] = at
            texts = [(v, v.text or "") for v in child if v.tag == f"{_G}value"]
            dividers.append(tuple(sorted(self.double(v, text.strip()) for v, text in texts)))
        kept = {k.get("ref"): k for k in element.iterfind(f"{_D}custom_info/{_OURS}quadrant")}
        cells = []
        for child in self.at_least(element, children["Quadrant"], "Quadrant", 1):
            ref = self.identity(child, f"{_G}id")
            cell: list[int | None] = [None] * len(dividers)
            for position in self.only(child, f"{_G}position"):
                divider = self.value(position, f"{_G}divider_ref")
                if divider not in places or cell[places[divider]] is not None:
                    raise self.invalid(position, f"each of {', '.join(places)} at most once", divider)
                location = self.number(position, f"{_G}location")
                cell[places[divider]] = bisect_right(dividers[places[divider]], location)
            ours = kept.get(ref)
            names = (ref, ref) if ours is None else (ours.get("id", ref), ours.get("title", ""))
            cells.append((_Names(ref, *names), tuple(cell)))
        self.populations |= {names.ref: names.id for names, _ in cells}
        grid = QuadrantGrid(tuple(dividers), tuple(NamedCell(names.id, names.title, cell) for names, cell in cells))
        return tuple(self.dimension(child) for child in children["divider"]), grid

    def boolean(self, element: _Element) -> tuple[Boolean, tuple[tuple[str, bool], ...]]:
        children = self.children(element, "and", "or", "not")
        operators = [(tag, child) for tag, found in children.items() for child in found]
        ((operator, child),) = self.exactly(element, operators, "and, or, not", 1)
        operands = tuple(
            (self.value(r, f"{_G}ref"), self.truth(r, f"{_G}use-as-complement"))
            for r in self.only(child, f"{_G}gateReference")
        )
        return Boolean(cast("Any", operator), tuple(complement for _, complement in operands)), operands

    # --- what the elements refer to ---

    def resolved(self, gates: list[tuple[_Element, DocumentGate]]) -> tuple[DocumentGate, ...]:
        """The gates with parents and operands by our names; every one exists, and none in a circle."""
        ids = list(self.populations.values())
        if repeated := sorted({name for name in ids if ids.count(name) > 1}):
            raise self.invalid(self.root, "every population once", f"{', '.join(repeated)} more than once")
        found = []
        for element, gate in gates:
            parent = None if gate.parent is None else self.population(element, gate.parent)
            operands = tuple((self.population(element, ref), complement) for ref, complement in gate.operands)
            found.append(replace(gate, parent=parent, operands=operands))
        needs = {
            name: {*([] if gate.parent is None else [gate.parent]), *(operand for operand, _ in gate.operands)}
            for gate in found
            for name in gate.populations
        }
        while ready := {name for name, needed in needs.items() if not needed & needs.keys()}:
            needs = {name: needed for name, needed in needs.items() if name not in ready}
        if needs:
            raise self.invalid(self.root, "gates that do not depend on each other in a circle", ", ".join(needs))
        return tuple(found)

    def population(self, element: _Element, ref: str) -> str:
        if ref not in self.populations:
            raise self.invalid(element, f"a gate or quadrant among {', '.join(self.populations)}", ref)
        return self.populations[ref]

    # --- values ---

    def at(self, element: _Element, read: Callable[[_Element], Any]) -> Any:
        """Read an element; what cannot exist is told with its place."""
        try:
            return read(element)
        except TregflowError as error:
            if error.code == "GATINGML_INVALID":
                raise
            where = f"{self.name}, line {element.sourceline}, {_local(element)} {_id_of(element)}"
            raise type(error)(error.code, f"{where}: {error.message}", remedy=_REMEDY, file=self.name) from None

    def children(self, element: _Element, *tags: str, space: str = _G) -> dict[str, list[_Element]]:
        """The children by name; others than these and custom_info do not belong there."""
        found: dict[str, list[_Element]] = {tag: [] for tag in tags}
        for child in element:
            tag = _local(child)
            if child.tag == f"{space}{tag}" and tag in found:
                found[tag].append(child)
            elif child.tag != f"{_D}custom_info":
                raise self.invalid(child, f"{', '.join(tags)} or custom_info", tag)
        return found

    def only(self, element: _Element, tag: str) -> list[_Element]:
        """The children, one or more, which are all of one kind."""
        wrong = [child for child in element if child.tag != tag]
        if wrong or not len(element):
            name = tag.partition("}")[2]
            raise self.invalid(element, f"one {name} or more", _local(wrong[0]) if wrong else "none")
        return list(element)

    def exactly(self, element: _Element, found: Any, tag: str, n: int) -> Any:
        if len(found) != n:
            raise self.invalid(element, f"{n} of {tag}", f"{len(found)}")
        return found

    def at_least(self, element: _Element, found: list[_Element], tag: str, n: int) -> list[_Element]:
        if len(found) < n:
            raise self.invalid(element, f"{n} or more of {tag}", f"{len(found)}")
        return found

    def identity(self, element: _Element, attribute: str) -> str:
        """An id: an XML name that the document has once."""
        name = self.value(element, attribute)
        if not _NAME.fullmatch(name) or name in self.seen:
            raise self.invalid(element, "an id that is an XML name and is used once", name)
        self.seen.add(name)
        return name

    def value(self, element: _Element, attribute: str) -> str:
        found = element.get(attribute)
        if not found:
            prefix = next(p for p, uri in NAMESPACES.items() if attribute.startswith(f"{{{uri}}}"))
            raise self.invalid(element, f"the attribute {prefix}:{attribute.partition('}')[2]}", "none")
        return found

    def channel(self, element: _Element) -> str:
        return self.value(element, f"{_D}name")

    def number(self, element: _Element, attribute: str) -> float:
        return self.double(element, self.value(element, attribute).strip())

    def double(self, element: _Element, text: str) -> float:
        if not _DOUBLE.fullmatch(text):
            raise self.invalid(element, "a number", text or "nothing")
        return float(text.replace("INF", "inf"))

    def truth(self, element: _Element, attribute: str) -> bool:
        text = element.get(attribute, "false").strip()
        if text not in _TRUTH:
            raise self.invalid(element, "true or false", text)
        return _TRUTH[text]

    def coordinates(self, element: _Element) -> tuple[float, ...]:
        return tuple(self.number(c, f"{_D}value") for c in self.only(element, f"{_G}coordinate"))

    def invalid(self, element: _Element, expected: str, found: str) -> TemplateError:
        place = f"line {element.sourceline}, {_local(element)} {_id_of(element)}".rstrip()
        return TemplateError(
            "GATINGML_INVALID",
            f"{self.name} is not Gating-ML 2.0 ({place}): expected {expected}; found {found}.",
            file=self.name,
        )


def _local(element: _Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _id_of(element: _Element) -> str:
    """The id of the element, or of the nearest one around it that has one."""
    around: _Element | None = element
    while around is not None:
        for attribute in (f"{_G}id", f"{_T}id"):
            if attribute in around.attrib:
                return str(around.get(attribute))
        around = around.getparent()
    return ""


def _info_of(element: _Element) -> dict[str, str]:
    own = element.find(f"{_D}custom_info")
    return {} if own is None else _info(own)


def _info(element: _Element) -> dict[str, str]:
    """What our writer kept, by key; what others wrote, as one text."""
    ours = {str(child.get("key", "")): child.text or "" for child in element.iterfind(f"{_OURS}info")}
    foreign = [str(t) for t in element.itertext()] if element.find(f"{_OURS}*") is None else []
    text = " ".join(" ".join(foreign).split())
    return ours | ({"custom_info": text} if text else {})
