"""Gates as used, written as a Gating-ML 2.0 document that another engine can repeat the count from.

Every dimension carries its compensation (the matrix of this document, or `uncompensated`) and its transform, so that
coordinates, transforms and matrix together are exact. Ids must be XML names (NCName) and unique in the document: an id
that is not is changed, and the original is kept in `custom_info` with the display name and what is known about the
placement. Numbers are written with `repr`, so reading them gives the same doubles. The same input gives the same bytes.

References
----------
Gating-ML 2.0, ISAC Recommendation, schemas 2.0.121207.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # only written here, never read

from tregflow.errors import GateError
from tregflow.gates import Boolean, Dimension, Ellipsoid, PlacedGate, Polygon, QuadrantGrid, Rectangle

if TYPE_CHECKING:
    from tregflow.compensation import Spillover
    from tregflow.transforms import Transform

_BASE = "http://www.isac-net.org/std/Gating-ML/v2.0/"
_PREFIXES = {
    "gating": _BASE + "gating",
    "transforms": _BASE + "transformations",
    "data-type": _BASE + "datatypes",
    "tregflow": "urn:tregflow:gating-ml:1",
}
_ELEMENTS = {"Linear": "flin", "Log": "flog", "Asinh": "fasinh", "Logicle": "logicle", "Hyperlog": "hyperlog"}
_GEOMETRIES = {
    "rectangle": Rectangle,
    "polygon": Polygon,
    "ellipsoid": Ellipsoid,
    "quadrant": QuadrantGrid,
    "boolean": Boolean,
}
_MATRIX = "spillover"
_RESERVED = {"root", "FCS", "uncompensated", _MATRIX}  # FlowKit's own node, and what compensation-ref can mean
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_gatingml(gates: Sequence[PlacedGate], spillover: Spillover | None, custom_info: Mapping[str, str]) -> bytes:
    """Write gates as a Gating-ML 2.0 document.

    Parameters
    ----------
    gates
        All gates of a tree, in any order. A parent or operand is named by the id of a gate or of a quadrant; a
        quadrant gate with a quadrant of its own id stands for that quadrant.
    spillover
        The matrix of the compensated dimensions; written if there are any.
    custom_info
        What the document is about (tube, template, hashes, ...), in the order given.

    Returns
    -------
    document
        UTF-8, valid by the schemas.

    Raises
    ------
    GateError
        `GATE_EXPORT`: no gates, an id twice, a parent or operand that is not among the gates, a geometry that does
        not fit its kind, dimensions or operands, or a compensated dimension that is not in the matrix.
    """
    return _Writer(gates, spillover).document(custom_info)


class _Writer:
    """One document: names for everything that has an id, then the elements."""

    def __init__(self, gates: Sequence[PlacedGate], spillover: Spillover | None) -> None:
        if not gates:
            raise GateError("GATE_EXPORT", "there are no gates to write.")
        self.gates = gates
        self.spillover = spillover
        self.taken = set(_RESERVED)
        self.transforms: dict[Transform, str] = {}
        for gate in gates:
            _check(gate)
        self.names: dict[str, str] = {}  # what parents and operands refer to: gates and quadrants
        for original in _populations(gates):
            if original in self.names:
                raise GateError("GATE_EXPORT", f"the id {original!r} is used twice; expected one gate of each id.")
            self.names[original] = self.unique(original)

    def document(self, custom_info: Mapping[str, str]) -> bytes:
        body = [self.gate(gate) for gate in self.gates]
        root = _element("gating:Gating-ML")
        _add_info(root, custom_info)
        compensated = [d for gate in self.gates for d in gate.dimensions if d.compensated]
        if compensated and self.spillover is not None:
            root.append(self.matrix(self.spillover))
        for transform, name in self.transforms.items():
            parameters = {f"transforms:{f.name}": repr(float(getattr(transform, f.name))) for f in fields(transform)}
            wrapper = _add(root, "transforms:transformation", {"transforms:id": name})
            _add(wrapper, f"transforms:{_ELEMENTS[type(transform).__name__]}", parameters)
        root.extend(body)
        ET.indent(root)
        for prefix, uri in _PREFIXES.items():
            ET.register_namespace(prefix, uri)
        text: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
        return text + b"\n"

    def unique(self, wanted: str) -> str:
        """Make an NCName like the one wanted that the document does not have yet."""
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", wanted)
        if not re.match(r"[A-Za-z_]", name):
            name = f"_{name}"
        candidate, n = name, 1
        while candidate in self.taken:
            n += 1
            candidate = f"{name}_{n}"
        self.taken.add(candidate)
        return candidate

    def matrix(self, spillover: Spillover) -> ET.Element:
        if len(spillover.channels) < 2:
            raise GateError("GATE_EXPORT", f"{spillover.source} has one channel; Gating-ML needs two or more.")
        element = _element("transforms:spectrumMatrix", {"transforms:id": _MATRIX})
        _add_info(element, {"source": spillover.source, "sha256": spillover.sha256})
        for tag in ("fluorochromes", "detectors"):  # a source is named as its own detector
            listed = _add(element, f"transforms:{tag}")
            for channel in spillover.channels:
                _add(listed, "data-type:fcs-dimension", {"data-type:name": channel})
        for row in spillover.matrix.tolist():
            spectrum = _add(element, "transforms:spectrum")
            for value in row:
                _add(spectrum, "transforms:coefficient", {"transforms:value": repr(value)})
        return element

    def gate(self, gate: PlacedGate) -> ET.Element:
        geometry = gate.geometry
        quadrant_gate = isinstance(geometry, QuadrantGrid)
        name = self.unique(f"{gate.id}_dividers") if quadrant_gate else self.names[gate.id]
        attributes = {"gating:id": name}
        if gate.parent is not None:
            attributes["gating:parent_id"] = self.reference(gate, gate.parent)
        element = _element(f"gating:{gate.kind.capitalize()}Gate", attributes)
        info = _add_info(element, gate.info, {"id": gate.id, "title": gate.title})
        if isinstance(geometry, Rectangle):
            self.rectangle(element, gate, geometry)
        elif isinstance(geometry, Polygon):
            self.dimensions(element, gate)
            for vertex in geometry.vertices:
                _add_coordinates(_add(element, "gating:vertex"), vertex)
        elif isinstance(geometry, Ellipsoid):
            self.ellipsoid(element, gate, geometry)
        elif isinstance(geometry, QuadrantGrid):
            for cell in geometry.cells:
                quadrant = {"ref": self.names[cell.id], "id": cell.id, "title": cell.title}
                _add(info, "tregflow:quadrant", {key: _text(value) for key, value in quadrant.items()})
            self.quadrants(element, gate, geometry, name)
        elif isinstance(geometry, Boolean):
            operator = _add(element, f"gating:{geometry.operator}")
            for operand, complement in gate.operands:
                reference = {"gating:ref": self.reference(gate, operand)}
                if complement:
                    reference["gating:use-as-complement"] = "true"
                _add(operator, "gating:gateReference", reference)
        return element

    def reference(self, gate: PlacedGate, target: str) -> str:
        if target not in self.names:
            raise GateError(
                "GATE_EXPORT", f"gate {gate.id!r} refers to {target!r}; expected one of {', '.join(self.names)}."
            )
        return self.names[target]

    def dimensions(self, parent: ET.Element, gate: PlacedGate) -> list[ET.Element]:
        return [self.dimension(parent, "gating:dimension", gate, dimension, {}) for dimension in gate.dimensions]

    def dimension(
        self, parent: ET.Element, tag: str, gate: PlacedGate, dimension: Dimension, attributes: Mapping[str, str]
    ) -> ET.Element:
        element = _add(parent, tag, attributes)
        if dimension.compensated:
            if self.spillover is None or dimension.channel not in self.spillover.channels:
                raise GateError(
                    "GATE_EXPORT",
                    f"gate {gate.id!r} is on compensated {dimension.channel}, which is in no spillover matrix.",
                )
            element.set(_name("gating:compensation-ref"), _MATRIX)
        else:
            element.set(_name("gating:compensation-ref"), "uncompensated")
        if dimension.transform is not None:
            element.set(_name("gating:transformation-ref"), self.transform(dimension.transform))
        _add(element, "data-type:fcs-dimension", {"data-type:name": dimension.channel})
        return element

    def transform(self, transform: Transform) -> str:
        if transform not in self.transforms:
            self.transforms[transform] = self.unique(_ELEMENTS[type(transform).__name__])
        return self.transforms[transform]

    def rectangle(self, element: ET.Element, gate: PlacedGate, geometry: Rectangle) -> None:
        for child, low, high in zip(self.dimensions(element, gate), geometry.minima, geometry.maxima, strict=True):
            for end, bound in (("min", low), ("max", high)):
                if bound is not None:
                    child.set(_name(f"gating:{end}"), repr(float(bound)))

    def ellipsoid(self, element: ET.Element, gate: PlacedGate, geometry: Ellipsoid) -> None:
        self.dimensions(element, gate)
        _add_coordinates(_add(element, "gating:mean"), geometry.mean)
        covariance = _add(element, "gating:covarianceMatrix")
        for values in geometry.covariance:
            row = _add(covariance, "gating:row")
            for value in values:
                _add(row, "gating:entry", {"data-type:value": repr(float(value))})
        _add(element, "gating:distanceSquare", {"data-type:value": repr(float(geometry.distance_square))})

    def quadrants(self, element: ET.Element, gate: PlacedGate, geometry: QuadrantGrid, name: str) -> None:
        dividers = []
        for i, (dimension, values) in enumerate(zip(gate.dimensions, geometry.dividers, strict=True), start=1):
            dividers.append(self.unique(f"{name}_{i}"))
            divider = self.dimension(element, "gating:divider", gate, dimension, {"gating:id": dividers[-1]})
            for value in values:
                _add(divider, "gating:value").text = repr(float(value))
        for cell in geometry.cells:
            quadrant = _add(element, "gating:Quadrant", {"gating:id": self.names[cell.id]})
            for divider_id, (low, high) in zip(dividers, geometry.quadrant(cell).intervals, strict=True):
                if low is None and high is None:
                    continue
                location = {"gating:divider_ref": divider_id, "gating:location": repr(_inside(low, high))}
                _add(quadrant, "gating:position", location)
            if not len(quadrant):
                raise GateError("GATE_EXPORT", f"quadrant {cell.id!r} is everywhere; expected a place in a dimension.")


def _check(gate: PlacedGate) -> None:
    """Refuse a gate whose parts do not belong together."""
    geometry = gate.geometry
    if not isinstance(geometry, _GEOMETRIES[gate.kind]):
        raise GateError("GATE_EXPORT", f"gate {gate.id!r} of kind {gate.kind} has a {type(geometry).__name__}.")
    expected = {Rectangle: "minima", Polygon: "", Ellipsoid: "mean", QuadrantGrid: "dividers", Boolean: ""}
    attribute = expected[type(geometry)]
    n = len(getattr(geometry, attribute)) if attribute else 2 * isinstance(geometry, Polygon)
    if len(gate.dimensions) != n:
        raise GateError("GATE_EXPORT", f"gate {gate.id!r} needs {n} dimensions and has {len(gate.dimensions)}.")
    complements = geometry.complements if isinstance(geometry, Boolean) else ()
    if tuple(complement for _, complement in gate.operands) != complements:
        raise GateError("GATE_EXPORT", f"gate {gate.id!r} has operands {gate.operands} that are not its geometry's.")


def _populations(gates: Iterable[PlacedGate]) -> Iterable[str]:
    for gate in gates:
        if isinstance(gate.geometry, QuadrantGrid):
            yield from (cell.id for cell in gate.geometry.cells)
        else:
            yield gate.id


def _inside(low: float | None, high: float | None) -> float:
    """Find a place inside an interval; an open end is as far away as the other end is from zero, or 1."""
    if low is None and high is not None:
        return float(high - max(1.0, abs(high)))
    if low is not None and high is None:
        return float(low + max(1.0, abs(low)))
    if low is None or high is None:
        raise TypeError("an interval that is open at both ends has no place to name")
    return float(low + (high - low) / 2)


def _add_coordinates(parent: ET.Element, values: Iterable[float]) -> None:
    for value in values:
        _add(parent, "gating:coordinate", {"data-type:value": repr(float(value))})


def _add_info(parent: ET.Element, info: Mapping[str, str], attributes: Mapping[str, str] | None = None) -> ET.Element:
    """Add a `custom_info` element: one entry per key."""
    element = _add(parent, "data-type:custom_info")
    if attributes:
        _add(element, "tregflow:gate", {key: _text(value) for key, value in attributes.items()})
    for key, value in info.items():
        _add(element, "tregflow:info", {"key": _text(key)}).text = _text(value)
    return element


def _text(value: str) -> str:
    """Replace what XML 1.0 cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", value)


def _name(qualified: str) -> str:
    prefix, _, local = qualified.rpartition(":")
    return f"{{{_PREFIXES[prefix]}}}{local}" if prefix else local


def _element(tag: str, attributes: Mapping[str, str] | None = None) -> ET.Element:
    return ET.Element(_name(tag), {_name(key): value for key, value in (attributes or {}).items()})


def _add(parent: ET.Element, tag: str, attributes: Mapping[str, str] | None = None) -> ET.Element:
    element = _element(tag, attributes)
    parent.append(element)
    return element
