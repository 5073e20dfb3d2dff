"""The ISAC Gating-ML 2.0 compliance suite: every document, every truth file, event by event.

FlowKit parses the documents; gates, transforms and compensation are ours, and so is the reader of `data1.fcs`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import flowkit
import numpy as np
import pytest
from support import real_data

from tregflow.compensation import Spillover
from tregflow.errors import GateError
from tregflow.fcs import read_fcs
from tregflow.gates import Boolean, Ellipsoid, Polygon, Quadrant, Rectangle, squared_distances
from tregflow.transforms import Asinh, Hyperlog, Linear, Log, Logicle, Ratio

# Document -> the gates whose truth it tests. A gate's truth file is Results_<gate>.txt unless TRUTH says otherwise.
QUADRANT1 = ("FL2P-FL4P", "FL2N-FL4P", "FL2N-FL4N", "FL2P-FL4N")
QUADRANT2 = ("FSCN-SSCN", "FSCD-SSCN-FL1N", "FSCP-SSCN-FL1N", "FSCD-FL1P", "FSCN-SSCP-FL1P")
SCALED = tuple(f"ScaleRange{n}" for n in "123456")
COMPENSATED = tuple(f"ScaleRange{n}c" for n in "12345678")
RATIOS = ("RatRange1", "RatRange2", "RatRange1a")
ALL_GATES = (
    *("Range1", "Range2", "ParAnd2", "ParAnd3", "Rectangle1", "Rectangle2", "Rectangle3", "Rectangle4", "Rectangle5"),
    *("ScaleRect1", "ScalePar1", "Polygon1", "Polygon2", "Polygon3NS", "Polygon4", "Ellipse1"),
    *("And1", "And2", "And3", "And4", "Not1", "Or1", "Or2", *SCALED, *COMPENSATED, *RATIOS, *QUADRANT1, *QUADRANT2),
)
DOCUMENTS = {
    "gml_all_gates": ALL_GATES,
    "gml_boolean_and1_gate": ("And1", "Range2", "Polygon1"),
    "gml_boolean_and2_gate": ("And2", "Range1", "Polygon1", "Ellipse1"),
    "gml_boolean_and3_complement_gate": ("And3",),
    "gml_boolean_and4_not_gate": ("And4", "Not1"),
    "gml_boolean_not1_gate": ("Not1",),
    "gml_boolean_or1_gate": ("Or1",),
    "gml_boolean_or2_gate": ("Or2", *QUADRANT1, "Rectangle2"),
    "gml_ellipse1_gate": ("Ellipse1",),
    "gml_log_ratio_range1_gate": ("RatRange1a",),
    "gml_matrix_poly4_gate": ("Polygon4",),
    "gml_matrix_rect3_gate": ("Rectangle3",),
    "gml_matrix_rect4_gate": ("Rectangle4",),
    "gml_matrix_rect5_gate": ("Rectangle5",),
    "gml_matrix_transform_asinh_range1c_gate": ("ScaleRange1c",),
    "gml_matrix_transform_asinh_range6c_gate": ("ScaleRange6c",),
    "gml_matrix_transform_hyperlog_range2c_gate": ("ScaleRange2c",),
    "gml_matrix_transform_hyperlog_range7c_gate": ("ScaleRange7c",),
    "gml_matrix_transform_linear_range3c_gate": ("ScaleRange3c",),
    "gml_matrix_transform_logicle_range4c_gate": ("ScaleRange4c",),
    "gml_matrix_transform_logicle_range5c_gate": ("ScaleRange5c",),
    "gml_matrix_transform_logicle_range8c_gate": ("ScaleRange8c",),
    "gml_matrix_transform_logicle_rect1_gate": ("ScaleRect1",),
    "gml_parent_poly1_boolean_and2_gate": ("ParAnd2",),
    "gml_parent_quadrant_rect_gate": ("ParRectangle1", *QUADRANT1),
    "gml_parent_range1_boolean_and3_gate": ("ParAnd3",),
    "gml_parent_rect1_rect_par1_gate": ("ScaleRect1", "ScalePar1"),
    "gml_poly1_gate": ("Polygon1",),
    "gml_poly2_gate": ("Polygon2",),
    "gml_poly3ns_gate": ("Polygon3NS",),
    "gml_quadrant1_gate": QUADRANT1,
    "gml_quadrant2_gate": QUADRANT2,
    "gml_range_gate": ("Range1",),
    "gml_ratio_range1_gate": ("RatRange1",),
    "gml_ratio_range2_gate": ("RatRange2",),
    "gml_rect1_gate": ("Rectangle1",),
    "gml_rect2_gate": ("Rectangle2",),
    "gml_time_range_gate": ("Range2",),
    "gml_transform_asinh_range1_gate": ("ScaleRange1",),
    "gml_transform_hyperlog_range2_gate": ("ScaleRange2",),
    "gml_transform_linear_range3_gate": ("ScaleRange3",),
    "gml_transform_log_range6_gate": ("ScaleRange6",),
    "gml_transform_logicle_range4_gate": ("ScaleRange4",),
    "gml_transform_logicle_range5_gate": ("ScaleRange5",),
}
TRUTH = {"ParRectangle1": "Results_ParQuadRect.txt"}
# Not in the table, each with its own test: a document without a truth file; one whose covariance is neither symmetric
# nor positive definite; one that is invalid by the schema on purpose, so that FlowKit's parser refuses it.
SPECIAL = {"gml_ellipse2_gate", "gml_ellipsoid3d_gate", "gml_range_gate_attr_testing"}


def suite(*parts: str) -> Path:
    return real_data("gatingml_suite", "gate_ref", *parts)


@lru_cache(maxsize=1)
def columns() -> dict[str, np.ndarray]:
    file = read_fcs(suite("data1.fcs"))
    values = file.scale_values(range(len(file.parameters)))
    return {parameter.pnn: np.ascontiguousarray(values[:, parameter.index]) for parameter in file.parameters}


class Tree:
    """A parsed document, evaluated with our objects."""

    def __init__(self, document: str) -> None:
        self.strategy = flowkit.parse_gating_xml(str(suite("gml", f"{document}.xml")))
        self.paths = dict(self.strategy.get_gate_ids())
        self.compensated = {name: self.compensate(matrix) for name, matrix in self.strategy.comp_matrices.items()}

    def compensate(self, matrix: flowkit.Matrix) -> dict[str, np.ndarray]:
        spillover = Spillover("document", tuple(matrix.detectors), matrix.matrix)
        rows = spillover.compensate([columns()[name] for name in matrix.detectors])
        named = {**columns(), **dict(zip(matrix.detectors, rows, strict=True))}
        # a compensated dimension may be named by its fluorochrome
        return named | {dye: named[name] for dye, name in zip(matrix.fluorochromes, matrix.detectors, strict=True)}

    def transform(self, name: str) -> Linear | Log | Asinh | Logicle | Hyperlog:
        theirs = self.strategy.get_transform(name)
        p = {key.removeprefix("param_"): value for key, value in vars(theirs).items() if key.startswith("param_")}
        kinds = flowkit.transforms
        if isinstance(theirs, kinds.LinearTransform):
            return Linear(p["t"], p["a"])
        if isinstance(theirs, kinds.LogTransform):
            return Log(p["t"], p["m"])
        if isinstance(theirs, kinds.AsinhTransform):
            return Asinh(p["t"], p["m"], p["a"])
        kind = {kinds.LogicleTransform: Logicle, kinds.HyperlogTransform: Hyperlog}[type(theirs)]
        return kind(p["t"], p["w"], p["m"], p["a"])

    def values(self, dimension: flowkit.Dimension) -> np.ndarray:
        # 'FCS' is the file's own spillover; data1.fcs has none, which the standard reads as uncompensated
        source = self.compensated.get(dimension.compensation_ref, columns())
        if isinstance(dimension, flowkit.RatioDimension):
            theirs = self.strategy.get_transform(dimension.ratio_ref)
            x, y = (source[name] for name in theirs.dimensions)
            result = Ratio(theirs.param_a, theirs.param_b, theirs.param_c)(x, y)
        else:
            result = source[dimension.dimension_ref if hasattr(dimension, "dimension_ref") else dimension.id]
        return result if dimension.transformation_ref is None else self.transform(dimension.transformation_ref)(result)

    def mask(self, gate_id: str) -> np.ndarray:
        path = self.paths[gate_id]
        parents = [name for name in path[1:] if not isinstance(self.gate(name), flowkit.gates.QuadrantGate)]
        own = self.own_mask(gate_id)
        return own & self.mask(parents[-1]) if parents else own

    def gate(self, gate_id: str) -> object:
        """The gate; for a quadrant its name (it has no gate of its own)."""
        path = self.paths[gate_id]
        parent = self.strategy.get_gate(path[-1], path[:-1]) if len(path) == 2 else None
        if isinstance(parent, flowkit.gates.QuadrantGate):
            return gate_id
        return self.strategy.get_gate(gate_id, path)

    def own_mask(self, gate_id: str) -> np.ndarray:
        gate = self.gate(gate_id)
        if isinstance(gate, str):
            return self.quadrant_mask(gate_id, self.strategy.get_gate(self.paths[gate_id][-1], ("root",)))
        if isinstance(gate, flowkit.gates.BooleanGate):
            ours = Boolean(gate.type, tuple(reference["complement"] for reference in gate.gate_refs))
            return ours.contains([self.mask(reference["ref"]) for reference in gate.gate_refs])
        points = [self.values(dimension) for dimension in gate.dimensions]
        if isinstance(gate, flowkit.gates.RectangleGate):
            bounds = [tuple(getattr(dimension, end, None) for dimension in gate.dimensions) for end in ("min", "max")]
            return Rectangle(*bounds).contains(points)
        if isinstance(gate, flowkit.gates.PolygonGate):
            return Polygon(tuple(map(tuple, gate.vertices))).contains(points)
        covariance = tuple(map(tuple, gate.covariance_matrix))
        return Ellipsoid(tuple(gate.coordinates), covariance, gate.distance_square).contains(points)

    def quadrant_mask(self, quadrant_id: str, gate: flowkit.gates.QuadrantGate) -> np.ndarray:
        theirs = gate.quadrants[quadrant_id]
        dividers = tuple(tuple(sorted(divider.values)) for divider in gate.dimensions)
        cells: list[int | None] = []
        for divider, values in zip(gate.dimensions, dividers, strict=True):
            if divider.id in theirs.divider_refs:
                low, _ = theirs.get_divider_range(divider.id)
                cells.append(0 if low is None else values.index(low) + 1)
            else:
                cells.append(None)
        return Quadrant(dividers, tuple(cells)).contains([self.values(divider) for divider in gate.dimensions])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_selects_exactly_the_true_events(document: str) -> None:
    tree = Tree(document)
    for gate_id in DOCUMENTS[document]:
        truth = np.loadtxt(suite("truth", TRUTH.get(gate_id, f"Results_{gate_id}.txt"))).astype(bool)
        np.testing.assert_array_equal(tree.mask(gate_id), truth, err_msg=f"{document}: {gate_id}")


def test_ellipse_without_a_truth_file_equals_flowkit() -> None:
    tree = Tree("gml_ellipse2_gate")
    sample = flowkit.Sample(str(suite("data1.fcs")))
    expected = tree.strategy.gate_sample(sample).get_gate_membership("myEllipse2")
    np.testing.assert_array_equal(tree.mask("myEllipse2"), expected)


def test_ellipsoid_in_three_dimensions() -> None:
    """The suite's matrix is no covariance and we refuse it as a gate; its quadratic form gives the true events."""
    tree = Tree("gml_ellipsoid3d_gate")
    gate = tree.strategy.get_gate("Ellipsoid3D")
    with pytest.raises(GateError, match="GATE_GEOMETRY: this ellipsoid is impossible: expected a symmetric covariance"):
        tree.mask("Ellipsoid3D")
    points = [tree.values(dimension) for dimension in gate.dimensions]
    distances = squared_distances(gate.coordinates, gate.covariance_matrix, points)
    truth = np.loadtxt(suite("truth", "Results_Ellipsoid3D.txt")).astype(bool)
    np.testing.assert_array_equal(distances <= gate.distance_square, truth)


def test_document_that_breaks_the_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="neither GatingML"):
        Tree("gml_range_gate_attr_testing")


def test_every_document_and_every_truth_file_is_used() -> None:
    assert {path.stem for path in suite("gml").glob("*.xml")} == set(DOCUMENTS) | SPECIAL
    used = {TRUTH.get(gate_id, f"Results_{gate_id}.txt") for gates in DOCUMENTS.values() for gate_id in gates}
    assert {path.name for path in suite("truth").glob("*.txt")} == used | {"Results_Ellipsoid3D.txt"}
