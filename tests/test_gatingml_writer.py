"""The Gating-ML writer: valid by the schema, and FlowKit reads it back and gates the same events."""

from __future__ import annotations

import io
from dataclasses import replace

import flowkit
import numpy as np
import pytest
from flowkit._resources import gml_schema
from lxml import etree

from tregflow.compensation import Spillover
from tregflow.errors import GateError
from tregflow.gates import (
    Boolean,
    Dimension,
    Ellipsoid,
    NamedCell,
    PlacedGate,
    Polygon,
    QuadrantGrid,
    Rectangle,
)
from tregflow.template.gatingml import write_gatingml
from tregflow.transforms import Asinh, Hyperlog, Linear, Log, Logicle

PNN = ("Time", "FSC-A", "SSC-A", "FITC-A", "PE-A", "APC/Fire 750-A")
SPILLOVER = Spillover(
    "file:$SPILLOVER", PNN[3:], np.array([[1, 0.12345678901234567, 0], [0.03, 1, 1.2], [-0.01, 0.002, 1]])
)
LOGICLE = Logicle(262144.0, 0.5, 4.5, 0.1)
INFO = {"template": "treg 0.1.0", "file": "a & b <c>.fcs"}

FSC, SSC = Dimension("FSC-A", compensated=False, transform=Linear(262144.0, 0.0)), Dimension("SSC-A", compensated=False)
FITC, PE = (
    Dimension("FITC-A", compensated=True, transform=LOGICLE),
    Dimension("PE-A", compensated=True, transform=LOGICLE),
)
APC = Dimension("APC/Fire 750-A", compensated=True, transform=Asinh(262144.0, 4.5, 0.5))

GATES = (
    PlacedGate("time", "Time", None, "rectangle", (Dimension("Time", compensated=False),), Rectangle((0.1,), (0.9,))),
    PlacedGate(
        "lymphocytes",
        "Lymphocytes",
        "time",
        "polygon",
        (FSC, SSC),
        Polygon(((0.1, 1e4), (0.7, 1e4), (0.2, 1.5e5), (0.6, 1.6e5))),  # crosses itself
        info={"rule": "fixed", "note": "≥ 0.1 & < 0.7\x00"},
    ),
    PlacedGate(
        "CD25+FOXP3+", "CD25+FOXP3+ Treg", "lymphocytes", "rectangle", (FITC, PE), Rectangle((0.3, 0.35), (None, 0.9))
    ),
    PlacedGate(
        "not/treg", "nicht Treg", "lymphocytes", "boolean", (), Boolean("not", (False,)), (("CD25+FOXP3+", False),)
    ),
    PlacedGate(
        "both",
        "both",
        "time",
        "boolean",
        (),
        Boolean("and", (False, True)),
        (("lymphocytes", False), ("CD25+FOXP3+", True)),
    ),
    PlacedGate(
        "either", "either", None, "boolean", (), Boolean("or", (True, False)), (("both", True), ("high_low", False))
    ),
    PlacedGate(
        "quadrants",
        "CD25 x CD127",
        "lymphocytes",
        "quadrant",
        (FITC, APC),
        QuadrantGrid(
            ((0.3, 0.6), (0.45,)),
            (
                NamedCell("high_low", "high low", (2, 0)),
                NamedCell("mid", "mid", (1, None)),
                NamedCell("1 low", "low", (0, 1)),
            ),
        ),
    ),
    PlacedGate(
        "cell",
        "a quadrant that is its own gate",
        None,
        "quadrant",
        (PE,),
        QuadrantGrid(((0.4,),), (NamedCell("cell", "cell", (1,)),)),
    ),
    PlacedGate(
        "of cell",
        "child of a quadrant",
        "high_low",
        "ellipsoid",
        (PE, APC),
        Ellipsoid((0.5, 0.5), ((0.02, 0.005), (0.005, 0.03)), 3.0),
    ),
    PlacedGate(
        "of_cell",
        "another, whose id differs only where XML does not allow it",
        "cell",
        "rectangle",
        (Dimension("FITC-A", compensated=True, transform=Hyperlog(262144.0, 0.5, 4.5, 0.0)), PE),
        Rectangle((0.2, None), (0.8, 0.7)),
    ),
    PlacedGate(
        "log",
        "log",
        None,
        "rectangle",
        (Dimension("SSC-A", compensated=False, transform=Log(262144.0, 4.5)),),
        Rectangle((0.8,), (None,)),
    ),
)


def events() -> np.ndarray:
    rng = np.random.default_rng(3)
    n = 20_000
    fluorescence = 10 ** rng.normal(3.5, 0.9, (3, n)) - 300
    scatter = rng.uniform(0, 200_000, (2, n))
    return np.vstack([rng.uniform(0, 1, (1, n)), scatter, fluorescence]).T


def our_masks(gates: tuple[PlacedGate, ...], data: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of all gates and quadrants by id, parents applied; gates in any order."""
    raw = {name: np.ascontiguousarray(column) for name, column in zip(PNN, data.T, strict=True)}
    compensated = raw | dict(
        zip(SPILLOVER.channels, SPILLOVER.compensate([raw[c] for c in SPILLOVER.channels]), strict=True)
    )

    def values(dimension: Dimension) -> np.ndarray:
        column = (compensated if dimension.compensated else raw)[dimension.channel]
        return column if dimension.transform is None else dimension.transform(column)

    masks: dict[str, np.ndarray] = {}
    waiting = list(gates)
    while waiting:
        gate = waiting.pop(0)
        if any(name not in masks for name in [gate.parent, *(o for o, _ in gate.operands)] if name is not None):
            waiting.append(gate)
            continue
        parent = np.ones(len(data), dtype=bool) if gate.parent is None else masks[gate.parent]
        points = [values(dimension) for dimension in gate.dimensions]
        if isinstance(gate.geometry, QuadrantGrid):
            for cell in gate.geometry.cells:
                masks[cell.id] = parent & gate.geometry.quadrant(cell).contains(points)
        elif isinstance(gate.geometry, Boolean):
            masks[gate.id] = parent & gate.geometry.contains([masks[name] for name, _ in gate.operands])
        else:
            masks[gate.id] = parent & gate.geometry.contains(points)
    return masks


def names(document: bytes) -> dict[str, str]:
    """Original id -> id in the document, of gates and quadrants, from custom_info."""
    found = {}
    tregflow = "{urn:tregflow:gating-ml:1}"
    gating = "{http://www.isac-net.org/std/Gating-ML/v2.0/gating}"
    for element in etree.fromstring(document).iter(f"{tregflow}gate"):
        quadrants = element.getparent().findall(f"{tregflow}quadrant")
        found |= {quadrant.get("id"): quadrant.get("ref") for quadrant in quadrants}
        if not quadrants:
            found[element.get("id")] = element.getparent().getparent().get(f"{gating}id")
    return found


@pytest.fixture(scope="module")
def document() -> bytes:
    return write_gatingml(GATES, SPILLOVER, INFO)


def test_flowkit_gates_the_same_events(document: bytes) -> None:
    data = events()
    strategy = flowkit.parse_gating_xml(io.BytesIO(document))
    sample = flowkit.Sample(data, sample_id="made", channel_labels=list(PNN))
    results = strategy.gate_sample(sample)
    ids = names(document)
    ours = our_masks(GATES, data)
    assert set(ids) == set(ours)
    for original, mask in ours.items():
        assert 0 < mask.sum() < len(mask), original  # a gate that takes all or nothing would show nothing
        np.testing.assert_array_equal(results.get_gate_membership(ids[original]), mask, err_msg=original)


def test_valid_by_the_schema_and_the_same_bytes_again(document: bytes) -> None:
    gml_schema.assertValid(etree.fromstring(document))
    assert write_gatingml(list(GATES), SPILLOVER, dict(INFO)) == document
    in_another_order = write_gatingml(GATES[::-1], SPILLOVER, INFO)
    gml_schema.assertValid(etree.fromstring(in_another_order))


def test_ids_that_are_xml_names_stay_and_others_are_changed_and_kept(document: bytes) -> None:
    ids = names(document)
    assert ids["lymphocytes"] == "lymphocytes"
    assert ids["cell"] == "cell"
    assert ids["CD25+FOXP3+"] == "CD25_FOXP3_"
    assert ids["1 low"] == "_1_low"
    assert (ids["of cell"], ids["of_cell"]) == ("of_cell", "of_cell_2")
    text = document.decode()
    for kept in (
        'title="CD25+FOXP3+ Treg"',
        'key="rule">fixed<',
        "≥ 0.1 &amp; &lt; 0.7\ufffd<",
        "a &amp; b &lt;c&gt;.fcs",
    ):
        assert kept in text
    assert SPILLOVER.sha256 in text


def test_numbers_and_transforms_come_back_as_the_same_doubles(document: bytes) -> None:
    strategy = flowkit.parse_gating_xml(io.BytesIO(document))
    (matrix,) = strategy.comp_matrices.values()
    np.testing.assert_array_equal(matrix.matrix, SPILLOVER.matrix)
    assert list(matrix.detectors) == list(SPILLOVER.channels)
    assert strategy.get_gate("lymphocytes").vertices == [list(vertex) for vertex in GATES[1].geometry.vertices]  # type: ignore[union-attr]
    found = {name: vars(transform) for name, transform in strategy.transformations.items()}
    assert set(found) == {"flin", "logicle", "fasinh", "hyperlog", "flog"}  # each once, though used by several gates
    assert {key: value for key, value in found["logicle"].items() if key != "dimensions"} == {
        "param_t": 262144.0,
        "param_w": 0.5,
        "param_m": 4.5,
        "param_a": 0.1,
    }


def test_reserved_names_are_not_used() -> None:
    for reserved in ("root", "FCS", "uncompensated", "spillover"):
        gate = replace(GATES[0], id=reserved)
        child = replace(GATES[0], id="child", parent=reserved)
        written = write_gatingml([gate, child], None, {})
        assert names(written)[reserved] == f"{reserved}_2"
        flowkit.parse_gating_xml(io.BytesIO(written))


def test_no_matrix_is_written_where_nothing_is_compensated() -> None:
    written = write_gatingml(GATES[:2], SPILLOVER, {})
    gml_schema.assertValid(etree.fromstring(written))
    assert b"spectrumMatrix" not in written


ALONE = GATES[0]


@pytest.mark.parametrize(
    ("gates", "text"),
    [
        ((), "no gates"),
        ((ALONE, ALONE), "'time' is used twice"),
        ((replace(ALONE, parent="absent"),), "refers to 'absent'; expected one of time"),
        ((replace(GATES[3], parent=None),), r"refers to 'CD25\+FOXP3\+'"),
        ((replace(ALONE, kind="polygon"),), "of kind polygon has a Rectangle"),
        ((replace(ALONE, dimensions=(FSC, SSC)),), "needs 1 dimensions and has 2"),
        ((replace(GATES[1], parent=None, dimensions=(FSC,)),), "needs 2 dimensions and has 1"),
        ((replace(GATES[3], parent=None, operands=(("x", True),)),), "are not its geometry's"),
        ((replace(ALONE, dimensions=(Dimension("BV421-A", compensated=True),)),), "in no spillover matrix"),
        (
            (replace(GATES[7], geometry=QuadrantGrid(((0.4,),), (NamedCell("cell", "cell", (None,)),))),),
            "quadrant 'cell' is everywhere",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_written(gates: tuple[PlacedGate, ...], text: str) -> None:
    with pytest.raises(GateError, match=f"GATE_EXPORT: .*{text}"):
        write_gatingml(gates, SPILLOVER, {})


def test_a_matrix_of_one_channel_cannot_be_written() -> None:
    gate = replace(ALONE, dimensions=(Dimension("PE-A", compensated=True),))
    with pytest.raises(GateError, match="GATE_EXPORT: made has one channel"):
        write_gatingml([gate], Spillover("made", ("PE-A",), np.array([[1.0]])), {})
    with pytest.raises(GateError, match="GATE_EXPORT: gate 'time' is on compensated PE-A"):
        write_gatingml([gate], None, {})
