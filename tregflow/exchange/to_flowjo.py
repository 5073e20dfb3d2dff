"""A run's tubes and gates as a FlowJo workspace.

Bounds and vertices go into scale values, where FlowJo keeps them; each channel's transform becomes its axis. What
FlowJo cannot hold is refused with the reason, so that nothing is written that counts otherwise: an outline of more than
two dimensions, a shape on a hyperlog axis, a bound that no value reaches.

An ellipse becomes a polygon, because FlowJo's own ellipses are kept in 256ths of an axis. An operand that is
complemented becomes a NOT population beside the boolean, because FlowJo's booleans name whole populations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree as ET  # only written here, never read

import numpy as np

from tregflow.errors import TemplateError
from tregflow.exchange.foreign import ellipse_outline
from tregflow.gates import Ellipsoid, Quadrant
from tregflow.template.gatingml import NAMESPACES
from tregflow.transforms import Asinh, Hyperlog, Linear, Log, Logicle

if TYPE_CHECKING:
    from tregflow.record import DimensionRecord, GateRecord, TubeRecord
    from tregflow.sample import Channel
    from tregflow.transforms import Transform

_PREFIX = "Comp-"
_TRANSFORMS: Mapping[str, Callable[..., Transform]] = {
    "linear": Linear, "log": Log, "asinh": Asinh, "logicle": Logicle, "hyperlog": Hyperlog,
}  # fmt: skip
_BOOLEANS = {"and": "AndNode", "or": "OrNode", "not": "NotNode"}
_FLOWJO = "10.8.1"  # whose files these are like
_KEYWORDS = ("$TOT", "$PAR", "$DATE", "$CYT")  # nothing that could name a person
_GRAPH = {
    "Graph": {"smoothing": "0", "backColor": "#ffffff", "foreColor": "#000000", "type": "Pseudocolor", "fast": "1"},
    "GraphSettings": {
        "level": "5%", "smoothingHighResolution": "1", "contourHighResolution": "1", "histogramSmoothingCount": "0",
        "graphResolution": "256", "showOutliers": "0", "drawLargeDots": "0", "dotsToDraw": "0",
        "tint": "le.chartfill.tinted.40", "lineWeight": "le.lineweight.normal", "lineStyle": "le.linestyle.solid",
    },
    "GraphEnvironment": {
        "showGrid": "0", "showAxes": "tnlTNL", "showGates": "1", "showFreqOnPlots": "1", "showGateNameOnPlots": "1",
        "showMedians": "0", "showUncomped": "0", "addEventParam": "0", "lastYAxisName": "",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExportTube:
    """A tube to be written: its record, its channels and keywords, and where the file is from the workspace's folder.

    `corners` is the number of vertices of an ellipse's polygon.
    """

    record: TubeRecord
    channels: tuple[Channel, ...]
    keywords: Mapping[str, str]
    address: str
    corners: Mapping[str, int]


def paths_of(record: TubeRecord) -> dict[str, tuple[str, ...]]:
    """The path of each population in the workspace; its names are the titles, with the id where two are the same."""
    paths: dict[str, tuple[str, ...]] = {}
    taken: set[tuple[str, ...]] = set()
    waiting = list(record.gates)
    while waiting:
        for gate in [g for g in waiting if g.parent is None or g.parent in paths]:
            above = () if gate.parent is None else paths[gate.parent]
            title = (gate.title or gate.id).replace("/", "_")  # a slash parts the names of a path
            path = (*above, title)
            if path in taken:
                path = (*above, f"{title} ({gate.id})")
            paths[gate.id] = path
            taken |= {path, (*above, not_name(title))}
            waiting.remove(gate)
    return paths


def not_name(name: str) -> str:
    """What the population outside another is called."""
    return f"not {name}"


def write_workspace(tubes: Sequence[ExportTube], saved: str) -> bytes:
    """Write a workspace of tubes with their gates and counts.

    Parameters
    ----------
    saved
        When the results were made, as FlowJo writes it.

    Raises
    ------
    TemplateError
        `EXPORT_REFUSED`: a gate that FlowJo cannot hold, with the reason.
    """
    root = ET.Element(
        "Workspace", {"version": "20.0", "modDate": saved, "flowJoVersion": _FLOWJO, "curGroup": "All Samples"}
    )
    _sub(root, "Matrices")
    groups = _sub(root, "Groups")
    node = _sub(groups, "GroupNode", {**_node("All Samples", None), "owningGroup": "All Samples"})
    _graph(node, ("", ""))
    group = _sub(node, "Group", {"name": "All Samples", "live": "1", "role": "ws.group.dlog.test"})
    _sub(group, "Criteria")
    references = _sub(group, "SampleRefs")
    samples = _sub(root, "SampleList")
    for number, tube in enumerate(tubes, 1):
        _sub(references, "SampleRef", {"sampleID": str(number)})
        _Sample(tube, str(number)).write(samples)
    for prefix in ("gating", "transforms", "data-type"):
        ET.register_namespace(prefix, NAMESPACES[prefix])
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text + b"\n"


class _Sample:
    """One tube: its axes, matrix and tree."""

    def __init__(self, tube: ExportTube, sample_id: str) -> None:
        self.tube = tube
        self.record = tube.record
        self.id = sample_id
        self.paths = paths_of(tube.record)
        self.counts = {p.id: p.n_events for p in tube.record.populations}
        self.children: dict[str | None, list[GateRecord]] = {}
        for gate in tube.record.gates:
            self.children.setdefault(gate.parent, []).append(gate)

    def write(self, samples: ET.Element) -> None:
        sample = _sub(samples, "Sample")
        address = quote(self.tube.address)
        _sub(sample, "DataSet", {"uri": f"file:{address}" if address.startswith("/") else address, "sampleID": self.id})
        if self.record.compensation is not None and self.record.compensation.matrix:
            self.matrix(sample)
        self.axes(_sub(sample, "Transformations"))
        keywords = _sub(sample, "Keywords")
        named = {"$FIL": self.record.tube.file.rpartition("/")[2]}
        named |= {key: self.tube.keywords[key] for key in _KEYWORDS if key in self.tube.keywords}
        for channel in self.tube.channels:
            named[f"$P{channel.index + 1}N"] = channel.pnn
            if channel.pns:
                named[f"$P{channel.index + 1}S"] = channel.pns
        for name, value in named.items():
            _sub(keywords, "Keyword", {"name": name, "value": value})
        name = self.record.tube.file.rpartition("/")[2]
        node = _sub(sample, "SampleNode", {**_node(name, self.record.n_events), "sampleID": self.id})
        _graph(node, self.drawn(None))
        self.below(node, None)

    def matrix(self, sample: ET.Element) -> None:
        compensation = self.record.compensation
        if compensation is None:
            raise TypeError(self.record.tube.tube)
        own = compensation.source.startswith("file:")
        attributes = {
            "spectral": "0",
            "prefix": _PREFIX,
            "name": "Acquisition-defined" if own else compensation.source,
            "editable": "0",
            "version": f"FlowJo-{_FLOWJO}",
            "suffix": "",
        }
        element = _sub(sample, "transforms:spilloverMatrix", attributes)
        listed = _sub(element, "data-type:parameters")
        for channel in compensation.channels:
            _sub(listed, "data-type:parameter", {"data-type:name": _flowjo_name(channel)})
        for channel, row in zip(compensation.channels, compensation.matrix, strict=True):
            spillover = _sub(element, "transforms:spillover", {"data-type:parameter": _flowjo_name(channel)})
            for other, value in zip(compensation.channels, row, strict=True):
                place = {"data-type:parameter": _flowjo_name(other), "transforms:value": repr(float(value))}
                _sub(spillover, "transforms:coefficient", place)

    def axes(self, parent: ET.Element) -> None:
        """The axis of each channel that a gate stands on, by the name of the channel and of the compensated one."""
        limits = {channel.pnn: channel.limit for channel in self.tube.channels}
        written: set[str] = set()
        for gate in self.record.gates:
            for dimension in gate.dimensions:
                for name in dict.fromkeys((_flowjo_name(dimension.pnn), _name(dimension))):
                    if name not in written:
                        written.add(name)
                        tag, parameters = _axis(dimension, limits[dimension.pnn])
                        values = {f"transforms:{key}": value for key, value in parameters.items()}
                        axis = _sub(parent, f"transforms:{tag}", values | ({"gain": "1"} if tag == "linear" else {}))
                        _sub(axis, "data-type:parameter", {"data-type:name": name})

    def below(self, node: ET.Element, parent: str | None) -> None:
        """The populations of a parent; those outside another come before what is made of them."""
        gates = self.children.get(parent, [])
        if not gates:
            return
        element = _sub(node, "Subpopulations")
        negated = dict.fromkeys(
            name
            for gate in gates
            if gate.kind == "boolean" and gate.geometry["operator"] != "not"
            for name, outside in zip(gate.geometry["operands"], gate.geometry["complements"], strict=True)
            if outside
        )
        for name in negated:
            path = (*self.above(parent), not_name(self.paths[name][-1]))
            self.dependents(_sub(element, "NotNode", _node(path[-1], None)), [self.paths[name]])
        for gate in gates:
            self.gate(element, gate)

    def above(self, parent: str | None) -> tuple[str, ...]:
        return () if parent is None else self.paths[parent]

    def drawn(self, parent: str | None) -> tuple[str, str]:
        """The axes on which the first gates below a population are drawn."""
        for gate in self.children.get(parent, []):
            if gate.dimensions:
                names = [_name(d) for d in gate.dimensions]
                return names[0], names[1] if len(names) > 1 else "SSC-A"
        return "", ""

    def gate(self, parent: ET.Element, gate: GateRecord) -> None:
        name = self.paths[gate.id][-1]
        if gate.kind == "boolean":
            self.boolean(parent, gate, name)
            return
        population = _sub(parent, "Population", _node(name, self.counts.get(gate.id)))
        _graph(population, self.drawn(gate.id))
        # FlowJo refers to gates by numbers that are the workspace's own
        number = f"ID{self.id}{list(self.paths).index(gate.id) + 1:06d}"
        attributes = {"gating:id": number}
        if (above := self.shape_above(gate)) is not None:
            attributes["gating:parent_id"] = f"ID{self.id}{list(self.paths).index(above) + 1:06d}"
        self.shape(_sub(population, "Gate", attributes), gate, attributes)
        self.below(population, gate.id)

    def shape_above(self, gate: GateRecord) -> str | None:
        """The parent, if it has a shape of its own."""
        parent = next((g for g in self.record.gates if g.id == gate.parent), None)
        return None if parent is None or parent.kind == "boolean" else parent.id

    def boolean(self, parent: ET.Element, gate: GateRecord, name: str) -> None:
        operator, operands = gate.geometry["operator"], gate.geometry["operands"]
        complements = list(gate.geometry["complements"])
        if operator == "not" and complements[0]:
            raise self.refused(gate, "it is the NOT of a complement")
        paths = [
            (*self.above(gate.parent), not_name(self.paths[o][-1])) if outside else self.paths[o]
            for o, outside in zip(operands, complements, strict=True)
        ]
        node = _sub(parent, _BOOLEANS[operator], _node(name, self.counts.get(gate.id)))
        _graph(node, self.drawn(gate.id))
        self.dependents(node, paths)
        self.below(node, gate.id)

    def dependents(self, node: ET.Element, paths: Sequence[tuple[str, ...]]) -> None:
        if node.find("Graph") is None:
            _graph(node, ("", ""))
        element = _sub(node, "Dependents")
        for path in paths:
            _sub(element, "Dependent", {"name": "/".join(path)})

    def shape(self, parent: ET.Element, gate: GateRecord, ids: Mapping[str, str]) -> None:
        if len(gate.dimensions) > 2:
            raise self.refused(gate, f"it has {len(gate.dimensions)} dimensions, and FlowJo draws in two")
        transforms = [dimension_transform(d) for d in gate.dimensions]
        common = {"eventsInside": "1", "userDefined": "1", **ids}
        if gate.kind in {"rectangle", "quadrant"}:
            element = _sub(parent, "gating:RectangleGate", {**common, "percentX": "0", "percentY": "0"})
            for dimension, transform, (low, high) in zip(gate.dimensions, transforms, _intervals(gate), strict=True):
                ends = {f"gating:{end}": repr(value) for end, value in self.bounds(gate, transform, low, high).items()}
                self.dimension(element, dimension, ends)
            return
        if any(isinstance(t, Hyperlog) for t in transforms):
            raise self.refused(gate, "its outline is on a hyperlog axis, which workspaces do not have")
        points = self.corners(gate)
        element = _sub(parent, "gating:PolygonGate", {**common, "quadId": "-1", "gateResolution": "256"})
        for dimension in gate.dimensions:
            self.dimension(element, dimension, {})
        moved = [p if t is None else t.inverse(p) for p, t in zip(points.T, transforms, strict=True)]
        if not all(np.isfinite(values).all() for values in moved):
            raise self.refused(gate, "a vertex has no scale value")
        for x, y in zip(*moved, strict=True):
            vertex = _sub(element, "gating:vertex")
            for value in (x, y):
                _sub(vertex, "gating:coordinate", {"data-type:value": repr(float(value))})

    def corners(self, gate: GateRecord) -> np.ndarray[Any, np.dtype[np.float64]]:
        if gate.kind == "polygon":
            return np.array(gate.geometry["vertices"], dtype=np.float64)
        return ellipse_outline(ellipsoid_of(gate), self.tube.corners.get(gate.id, 256))

    def bounds(
        self, gate: GateRecord, transform: Transform | None, low: float | None, high: float | None
    ) -> dict[str, float]:
        """Bounds in scale values: the smallest that each of ours reaches, so that the decision is the same."""
        found: dict[str, float] = {}
        if transform is not None and (low is not None or isinstance(transform, Log)):
            low = transform.scale_bound(-math.inf if low is None else low)
        if transform is not None and high is not None:
            high = transform.scale_bound(high)
        if low == math.inf or high == -math.inf:
            raise self.refused(gate, "no value reaches its bound")
        if low is not None and low != -math.inf:
            found["min"] = float(low)
        if high is not None and high != math.inf:
            found["max"] = float(high)
        return found

    def dimension(self, parent: ET.Element, dimension: DimensionRecord, ends: Mapping[str, str]) -> None:
        element = _sub(parent, "gating:dimension", ends)
        _sub(element, "data-type:fcs-dimension", {"data-type:name": _name(dimension)})

    def refused(self, gate: GateRecord, why: str) -> TemplateError:
        return TemplateError("EXPORT_REFUSED", f"{self.record.tube.tube}, gate {gate.id}: {why}.", gate=gate.id)


def ellipsoid_of(gate: GateRecord) -> Ellipsoid:
    """The ellipsoid of a gate as recorded."""
    g = gate.geometry
    return Ellipsoid(tuple(g["mean"]), tuple(tuple(row) for row in g["covariance"]), g["distance_square"])


def _intervals(gate: GateRecord) -> Sequence[tuple[float | None, float | None]]:
    g = gate.geometry
    if gate.kind == "rectangle":
        return list(zip(g["minima"], g["maxima"], strict=True))
    return Quadrant(tuple(tuple(d) for d in g["dividers"]), tuple(g["cells"])).intervals


def dimension_transform(dimension: DimensionRecord) -> Transform | None:
    """The transform of a dimension as recorded, None for scale values."""
    record = dimension.transform
    return None if record is None else _TRANSFORMS[record.kind](**record.parameters)


def _axis(dimension: DimensionRecord, limit: float) -> tuple[str, dict[str, str]]:
    """FlowJo's element for a transform; without one, the channel's range in scale values."""
    transform = dimension_transform(dimension)
    if transform is None:
        return "linear", {"minRange": "0", "maxRange": repr(float(limit) if limit > 0 else 262144.0)}
    p = {name: repr(float(getattr(transform, name))) for name in type(transform).__slots__}
    if isinstance(transform, Linear):
        return "linear", {"minRange": repr(-transform.A), "maxRange": p["T"]}
    if isinstance(transform, Log):
        return "log", {"offset": repr(transform.T / 10**transform.M), "decades": p["M"]}
    if isinstance(transform, Asinh):
        return "fasinh", {"length": "256", "maxRange": p["T"], "W": "-10", **p}
    # a hyperlog too: only bounds stand on it, which are decided in scale values
    return "logicle", {"length": "256", **p}


def _name(dimension: DimensionRecord) -> str:
    return (_PREFIX if dimension.compensated else "") + _flowjo_name(dimension.pnn)


def _flowjo_name(channel: str) -> str:
    return channel.replace("/", "_")


def _node(name: str, count: int | None) -> dict[str, str]:
    counted = {} if count is None else {"count": str(count)}
    return {"name": name, "annotation": "", "owningGroup": "", "expanded": "1", "sortPriority": "10", **counted}


def _graph(node: ET.Element, axes: tuple[str, str]) -> None:
    """What is drawn when the node is opened; FlowJo wants it whole."""
    graph = _sub(node, "Graph", _GRAPH["Graph"])
    for dimension, name in zip("xy", axes, strict=True):
        _sub(graph, "Axis", {"dimension": dimension, "name": name, "label": "", "auto": "auto"})
    _sub(graph, "GraphSettings", _GRAPH["GraphSettings"])
    _sub(graph, "GraphEnvironment", _GRAPH["GraphEnvironment"])


def _sub(parent: ET.Element, tag: str, attributes: Mapping[str, str] | None = None) -> ET.Element:
    return ET.SubElement(parent, _qualified(tag), {_qualified(key): value for key, value in (attributes or {}).items()})


def _qualified(name: str) -> str:
    prefix, _, local = name.rpartition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}" if prefix else local
