"""The exported Gating-ML of a tube, made again from its record; what differs is named by gate and place."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
from pydantic import TypeAdapter, ValidationError

from tregflow.compensation import Spillover
from tregflow.errors import TregflowError
from tregflow.gates import Boolean, Dimension, Ellipsoid, NamedCell, PlacedGate, Polygon, QuadrantGrid, Rectangle
from tregflow.template.gatingml import write_gatingml
from tregflow.template.model import TransformSpec, build_transform
from tregflow.verify.model import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tregflow.gates import Geometry
    from tregflow.record import DimensionRecord, GateRecord, TubeRecord
    from tregflow.transforms import Transform

_GATING = "{http://www.isac-net.org/std/Gating-ML/v2.0/gating}"
_OURS = "{urn:tregflow:gating-ml:1}"
_SPECS: TypeAdapter[TransformSpec] = TypeAdapter(TransformSpec)
_MOST = 5  # places named per tube


def check_export(record: TubeRecord, path: Path) -> tuple[bytes | None, tuple[Problem, ...]]:
    """The document on disk, None where no engine should be given it, and where it is not what the record gives."""
    name, tube = f"gates/{path.name}", record.tube.tube
    try:
        found = path.read_bytes()
    except OSError:
        message = f"the gates of {tube} are not there"
        return None, (Problem("VERIFY_EXPORT", message, name, tube, "", "a Gating-ML document", "none"),)
    if why := _unsafe(found):
        return None, (Problem("VERIFY_EXPORT", f"the gates of {tube}: {why}", name, tube, "", "Gating-ML", "other"),)
    try:
        expected = remade_export(record)
    except (TregflowError, ValidationError, ValueError, KeyError, TypeError) as error:
        # a record that was edited can hold a gate that cannot be
        message = f"the record of {tube} holds gates that cannot be: {error}"
        return found, (Problem("VERIFY_RECORD", message, f"samples/{tube}.json", tube, "gates", "gates", "none"),)
    if found == expected:
        return found, ()
    places = list(_differences(ET.fromstring(expected), ET.fromstring(found)))  # noqa: S314 - no DTD, see _unsafe
    return found, tuple(
        Problem("VERIFY_EXPORT", f"{tube}: {place} is not what the record says", name, tube, place, was, now)
        for place, was, now in places[:_MOST] or [("the document", "the record's bytes", "other bytes, equal gates")]
    )


def names_in_export(document: bytes) -> dict[str, str]:
    """What a document calls our gates and quadrants, by our ids."""
    names = {}
    for element in ET.fromstring(document).iter():  # noqa: S314 - no DTD, see _unsafe
        own = element.find(f"{{*}}custom_info/{_OURS}gate")
        if own is not None:
            names[own.get("id", "")] = element.get(f"{_GATING}id", "")
    for element in ET.fromstring(document).iter(f"{_OURS}quadrant"):  # noqa: S314
        names[element.get("id", "")] = element.get("ref", "")
    return names


def remade_export(record: TubeRecord) -> bytes:
    """The document that a run writes for a record."""
    info = {
        "tube": record.tube.tube,
        "file": record.tube.file,
        "file_sha256": record.file_sha256,
        "template": f"{record.template.id}@{record.template.version}",
        "template_status": record.template.status,
        "template_sha256": record.template.sha256,
        "tregflow": record.tregflow_version,
    }
    used, spillover = record.compensation, None
    if used is not None and used.channels:
        spillover = Spillover(used.source, used.channels, np.array(used.matrix))
    return write_gatingml([_placed(gate) for gate in record.gates], spillover, info)


def _placed(gate: GateRecord) -> PlacedGate:
    info = {}
    if (used := gate.placement) is not None:
        info = {
            "rule": used.rule,
            "share": used.share,
            "status": used.status,
            "reference": used.reference,
            "n_reference": str(used.n_reference),
            "spread": "" if used.spread is None else repr(used.spread),
        }
    shape = gate.geometry
    operands = tuple(zip(shape["operands"], shape["complements"], strict=True)) if gate.kind == "boolean" else ()
    dimensions = tuple(Dimension(d.pnn, d.compensated, _transform(d)) for d in gate.dimensions)
    return PlacedGate(gate.id, gate.title, gate.parent, gate.kind, dimensions, _geometry(gate), operands, info)


def _geometry(gate: GateRecord) -> Geometry:
    shape = gate.geometry
    if gate.kind == "rectangle":
        return Rectangle(tuple(shape["minima"]), tuple(shape["maxima"]))
    if gate.kind == "polygon":
        return Polygon(tuple((x, y) for x, y in shape["vertices"]))
    if gate.kind == "ellipsoid":
        covariance = tuple(tuple(row) for row in shape["covariance"])
        return Ellipsoid(tuple(shape["mean"]), covariance, shape["distance_square"])
    if gate.kind == "quadrant":
        cell = NamedCell(gate.id, gate.title, tuple(shape["cells"]))
        return QuadrantGrid(tuple(tuple(values) for values in shape["dividers"]), (cell,))
    return Boolean(shape["operator"], tuple(shape["complements"]))


def _transform(dimension: DimensionRecord) -> Transform | None:
    if dimension.transform is None:
        return None
    spec = {"kind": dimension.transform.kind, **dimension.transform.parameters}
    return build_transform(_SPECS.validate_python(spec))


def _unsafe(document: bytes) -> str:
    """Why a document is given to no parser: no text in UTF-8, or a DTD, which could name entities; or broken XML."""
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError:
        return "it is not UTF-8"
    if "<!" in text:
        return "it declares a document type or holds a comment, which tregflow does not write"
    try:
        ET.fromstring(document)  # noqa: S314 - no DTD
    except (ET.ParseError, ValueError, LookupError) as error:
        return f"it is not well-formed XML ({error})"
    return ""


def _differences(expected: ET.Element, found: ET.Element) -> Iterator[tuple[str, str, str]]:
    """Place, expected and found of each difference, gates by their names."""
    left, right = dict(_flat(expected, "")), dict(_flat(found, ""))
    for place in dict.fromkeys([*left, *right]):
        if left.get(place) != right.get(place):
            yield place, left.get(place, "none"), right.get(place, "none")


def _flat(element: ET.Element, above: str) -> Iterator[tuple[str, str]]:
    """Every attribute and text of a document with its place: `cd25_pos, dimension 1, min`."""
    for name, value in element.attrib.items():
        yield ", ".join(filter(None, (above, _local(name)))), value
    if text := (element.text or "").strip():
        yield above or "text", text
    seen: dict[str, int] = {}
    for child in element:
        kind = _local(child.tag)
        seen[kind] = seen.get(kind, 0) + 1
        place = child.get(f"{_GATING}id") or child.get("key") or f"{kind} {seen[kind]}"
        yield from _flat(child, ", ".join(filter(None, (above, place))))


def _local(name: str) -> str:
    return name.rpartition("}")[2]
