"""The ISAC Gating-ML 2.0 compliance suite: every document, every truth file, event by event.

Documents, FCS file, gates, transforms and compensation are all read and computed by tregflow.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import flowkit
import numpy as np
import pytest
from flowkit._resources import gml_schema
from lxml import etree
from support import real_data

from tregflow.errors import GateError, TemplateError
from tregflow.exchange.evaluate import Masks, evaluate_document
from tregflow.fcs import read_fcs
from tregflow.gates import squared_distances
from tregflow.sample import Sample, sample_from_fcs
from tregflow.template.gatingml import write_document
from tregflow.template.gatingml_reader import parse_gatingml, read_gatingml

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
# nor positive definite, as the standard wants it; one that is invalid by the schema on purpose.
SPECIAL = {"gml_ellipse2_gate", "gml_ellipsoid3d_gate", "gml_range_gate_attr_testing"}


def suite(*parts: str) -> Path:
    return real_data("gatingml_suite", "gate_ref", *parts)


@lru_cache(maxsize=1)
def tube() -> Sample:
    return sample_from_fcs(read_fcs(suite("data1.fcs")))


def masks(document: str) -> Masks:
    # 'FCS' is the file's own spillover; data1.fcs has none, which the standard reads as uncompensated
    return evaluate_document(read_gatingml(suite("gml", f"{document}.xml")), tube(), None, absent="raw")


def truth(name: str) -> np.ndarray:
    return np.loadtxt(suite("truth", name)).astype(bool)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_selects_exactly_the_true_events(document: str) -> None:
    found = masks(document)
    for gate_id in DOCUMENTS[document]:
        expected = truth(TRUTH.get(gate_id, f"Results_{gate_id}.txt"))
        np.testing.assert_array_equal(found.inside[gate_id], expected, err_msg=f"{document}: {gate_id}")


@pytest.mark.parametrize("document", [*DOCUMENTS, "gml_ellipse2_gate"])
def test_document_is_written_again_valid_and_the_same(document: str) -> None:
    found = read_gatingml(suite("gml", f"{document}.xml"))
    written = write_document(found)
    gml_schema.assertValid(etree.fromstring(written))
    assert parse_gatingml(written, "written") == found


def test_ellipse_without_a_truth_file_equals_flowkit() -> None:
    strategy = flowkit.parse_gating_xml(str(suite("gml", "gml_ellipse2_gate.xml")))
    expected = strategy.gate_sample(flowkit.Sample(str(suite("data1.fcs")))).get_gate_membership("myEllipse2")
    np.testing.assert_array_equal(masks("gml_ellipse2_gate").inside["myEllipse2"], expected)


def test_ellipsoid_in_three_dimensions() -> None:
    """The suite's matrix is no covariance and we refuse it as a gate; its quadratic form gives the true events."""
    path = suite("gml", "gml_ellipsoid3d_gate.xml")
    text = r"GATE_GEOMETRY: .*line 7, EllipsoidGate Ellipsoid3D: .*expected a symmetric covariance"
    with pytest.raises(GateError, match=text):
        read_gatingml(path)
    gate = flowkit.parse_gating_xml(str(path)).get_gate("Ellipsoid3D")
    index = {channel.pnn: channel.index for channel in tube().channels}
    points = tube().rows(0, tube().n_events, None, [index[dimension.id] for dimension in gate.dimensions])
    assert np.linalg.eigvalsh(gate.covariance_matrix).min() < 0  # nor would it be one if it were symmetric
    distances = squared_distances(gate.coordinates, gate.covariance_matrix, list(points))
    np.testing.assert_array_equal(distances <= gate.distance_square, truth("Results_Ellipsoid3D.txt"))


def test_document_that_breaks_the_schema_is_refused() -> None:
    path = suite("gml", "gml_range_gate_attr_testing.xml")
    assert not gml_schema.validate(etree.parse(path))
    with pytest.raises(TemplateError, match=r"GATINGML_INVALID: .*line 7, sample\): expected a gate"):
        read_gatingml(path)


def test_every_document_and_every_truth_file_is_used() -> None:
    assert {path.stem for path in suite("gml").glob("*.xml")} == set(DOCUMENTS) | SPECIAL
    used = {TRUTH.get(gate_id, f"Results_{gate_id}.txt") for gates in DOCUMENTS.values() for gate_id in gates}
    assert {path.name for path in suite("truth").glob("*.txt")} == used | {"Results_Ellipsoid3D.txt"}
