"""The Gating-ML reader: every kind back as it was, and everything that is not Gating-ML refused with its place."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import Any

import flowkit
import numpy as np
import pytest
from flowkit._resources import gml_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from test_gatingml_writer import GATES, INFO, SPILLOVER

from tregflow.errors import CompensationError, GateError, TemplateError, TregflowError
from tregflow.exchange.evaluate import evaluate_document
from tregflow.gates import Boolean, Ellipsoid, NamedCell, Polygon, QuadrantGrid, Rectangle
from tregflow.sample import sample_from_array
from tregflow.template import xml_input
from tregflow.template.gatingml import document_of, write_document, write_gatingml
from tregflow.template.gatingml_model import (
    DocumentDimension,
    DocumentGate,
    GatingDocument,
    RatioOf,
    Scale,
    SpectrumMatrix,
)
from tregflow.template.gatingml_reader import parse_gatingml, read_gatingml
from tregflow.transforms import Asinh, Hyperlog, Linear, Log, Logicle, Ratio

NAMES = "http://www.isac-net.org/std/Gating-ML/v2.0/"
HEAD = (
    f'<gating:Gating-ML xmlns:gating="{NAMES}gating" xmlns:transforms="{NAMES}transformations" '
    f'xmlns:data-type="{NAMES}datatypes">'
)
RANGE = (
    '<gating:RectangleGate gating:id="{id}"{parent}><gating:dimension gating:compensation-ref="{ref}" gating:min="{low}">'
    '<data-type:fcs-dimension data-type:name="PE-A" /></gating:dimension></gating:RectangleGate>'
)
MATRIX = (
    '<transforms:spectrumMatrix transforms:id="m"{more}><transforms:fluorochromes>'
    '<data-type:fcs-dimension data-type:name="PE" /><data-type:fcs-dimension data-type:name="APC" />'
    "</transforms:fluorochromes><transforms:detectors>"
    '<data-type:fcs-dimension data-type:name="PE-A" /><data-type:fcs-dimension data-type:name="APC-A" />{detector}'
    "</transforms:detectors>{rows}</transforms:spectrumMatrix>"
)


def document(body: str, head: str = HEAD) -> bytes:
    return f"{head}{body}</gating:Gating-ML>".encode()


def gate(id: str = "g", low: str = "1", ref: str = "uncompensated", parent: str = "") -> str:  # noqa: A002
    named = f' gating:parent_id="{parent}"' if parent else ""
    return RANGE.format(id=id, low=low, ref=ref, parent=named)


def matrix(*rows: str, more: str = "", detector: str = "") -> str:
    coefficients = ("".join(f'<transforms:coefficient transforms:value="{v}" />' for v in row.split()) for row in rows)
    spectra = "".join(f"<transforms:spectrum>{c}</transforms:spectrum>" for c in coefficients)
    return MATRIX.format(rows=spectra, more=more, detector=detector)


# --- back as it was --------------------------------------------------------------------------------------------------


def test_what_a_run_writes_comes_back_with_its_ids_titles_and_evidence() -> None:
    expected = document_of(GATES, SPILLOVER, INFO)
    found = parse_gatingml(write_gatingml(GATES, SPILLOVER, INFO), "written")
    assert found.matrices == expected.matrices
    assert found.info == INFO
    for gate_found, gate_expected in zip(found.gates, expected.gates, strict=True):
        # only what XML 1.0 cannot hold is replaced
        info = {key: value.replace("\x00", "\ufffd") for key, value in gate_expected.info.items()}
        assert (gate_found, dict(gate_found.info)) == (
            DocumentGate(**{f: getattr(gate_expected, f) for f in DocumentGate.__slots__} | {"info": info}), info,
        )  # fmt: skip


CHANNELS = ("PE-A", "APC-A", "FITC-A", "FSC-A")
FINITE = st.floats(-1e6, 1e6)
POSITIVE = st.floats(0.01, 1e6)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
IDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


def bounded(draw: st.DrawFn) -> tuple[float | None, float | None]:
    low, high = sorted((draw(FINITE), draw(FINITE)))
    return draw(st.sampled_from([(None, None), (low, None), (None, high), (low, high)]))


@st.composite
def scales(draw: st.DrawFn) -> Scale | None:
    t = draw(st.floats(1e3, 1e7))
    kinds = (Linear(t, 1.5), Log(t, 4.5), Asinh(t, 4.0, 0.5), Logicle(t, 0.5, 4.5, 0.25), Hyperlog(t, 0.5, 4.5, 0.0))
    transform = draw(st.sampled_from((None, *kinds)))
    return None if transform is None else Scale(transform, *bounded(draw))


@st.composite
def dimensions(draw: st.DrawFn, matrices: list[str]) -> DocumentDimension:
    channel: Any = draw(st.sampled_from(CHANNELS[:2]))
    if draw(st.booleans()):
        channel = RatioOf(Ratio(draw(FINITE), draw(FINITE), draw(FINITE)), "PE-A", "APC-A", *bounded(draw))
    return DocumentDimension(channel, draw(st.sampled_from(["uncompensated", "FCS", *matrices])), draw(scales()))


@st.composite
def gates(draw: st.DrawFn, own: str, known: list[str], fresh: list[str], matrices: list[str]) -> DocumentGate:
    kinds = ["rectangle", "polygon", "ellipsoid", "quadrant", *(["boolean"] if len(known) > 1 else [])]
    kind = draw(st.sampled_from(kinds))
    parent = draw(st.sampled_from([None, *known]))
    info = draw(st.dictionaries(TEXT.filter(bool), TEXT, max_size=2))
    made = tuple(draw(dimensions(matrices)) for _ in range(2))
    x, y, d = draw(FINITE), draw(FINITE), draw(POSITIVE)
    operands: tuple[tuple[str, bool], ...] = ()
    geometry: Any
    if kind == "rectangle":
        geometry = Rectangle((x, None), (draw(st.sampled_from([None, x + d])), y))
    elif kind == "polygon":
        geometry = Polygon(((x, y), (x + d, y), (x, y + d), (x + d, y + d)))
    elif kind == "ellipsoid":
        geometry = Ellipsoid((x, y), ((d, 0.1 * d), (0.1 * d, 2 * d)), d)
    elif kind == "quadrant":
        cells = (
            NamedCell(own, draw(TEXT), (0, 1)),
            NamedCell(fresh.pop(), draw(TEXT), (draw(st.sampled_from([0, 1, 2])), None)),
        )
        geometry = QuadrantGrid(((x, x + d), (y,)), cells)
    else:
        operator = draw(st.sampled_from(["and", "or", "not"]))
        names = draw(st.lists(st.sampled_from(known), min_size=1 if operator == "not" else 2, max_size=3))
        names = names[:1] if operator == "not" else names
        operands = tuple((name, draw(st.booleans())) for name in names)
        geometry, made = Boolean(operator, tuple(c for _, c in operands)), ()
    return DocumentGate(own, draw(TEXT), parent, kind, made, geometry, operands, info)


@st.composite
def documents(draw: st.DrawFn) -> GatingDocument:
    made = []
    if draw(st.booleans()):
        made.append(SpectrumMatrix("spillover", CHANNELS[:2], CHANNELS[:2], ((1.0, 0.1), (0.2, 1.0))))
    if draw(st.booleans()):
        rows = ((1.0, 0.1), (0.2, 1.0), (0.3, 0.3))
        made.append(
            SpectrumMatrix(draw(IDS), ("PE-A", "APC-A"), ("d1", "d2", "d3"), rows, inverted=True, info={"k": "v"})
        )
    if len({m.id for m in made} - {"uncompensated", "FCS"}) < len(made):
        made = []
    ids = draw(st.lists(IDS, min_size=10, max_size=10, unique=True))
    known: list[str] = []
    found = []
    fresh = ids[5:]
    for own in ids[: draw(st.integers(1, 5))]:
        found.append(draw(gates(own, known, fresh, [m.id for m in made])))
        known += found[-1].populations
    return GatingDocument(tuple(found), tuple(made), draw(st.dictionaries(TEXT.filter(bool), TEXT, max_size=2)))


@settings(max_examples=60, deadline=None)
@given(documents())
def test_reading_what_was_written_gives_the_same_document_and_it_is_valid(made: GatingDocument) -> None:
    written = write_document(made)
    gml_schema.assertValid(etree.fromstring(written))
    found = parse_gatingml(written, "written")
    assert found == made
    assert [dict(g.info) for g in found.gates] == [dict(g.info) for g in made.gates]
    assert write_document(found) == written


def test_a_document_of_another_program_keeps_its_ids_and_its_text() -> None:
    body = gate("Gate1").replace(
        ">",
        "><data-type:custom_info>Sorted <b>again</b><cytobank><name>CD4+ T</name></cytobank></data-type:custom_info>",
        1,
    )
    (found,) = parse_gatingml(document(body), "x.xml").gates
    assert (found.id, found.title) == ("Gate1", "CD4+ T")
    assert found.info == {"custom_info": "Sorted again CD4+ T"}


def test_infinite_bounds_are_open_ends_and_a_quadrant_is_found_by_its_place() -> None:
    body = gate().replace('gating:min="1"', 'gating:min="-INF" gating:max="2e1"') + (
        '<gating:QuadrantGate gating:id="q"><gating:divider gating:id="d" gating:compensation-ref="uncompensated">'
        '<data-type:fcs-dimension data-type:name="PE-A" /><gating:value>5</gating:value><gating:value>2</gating:value>'
        '</gating:divider><gating:Quadrant gating:id="mid"><gating:position gating:divider_ref="d" gating:location="2" />'
        "</gating:Quadrant></gating:QuadrantGate>" + gate("child", parent="mid")
    )
    first, grid, child = parse_gatingml(document(body), "x.xml").gates
    assert first.geometry == Rectangle((None,), (20.0,))
    assert grid.geometry == QuadrantGrid(((2.0, 5.0),), (NamedCell("mid", "mid", (1,)),))
    assert child.parent == "mid"


# --- what is computed from it ----------------------------------------------------------------------------------------


def counted(body: str, values: list[list[float]], **more: Any) -> dict[str, list[bool]]:
    sample = sample_from_array("made.fcs", np.array(values), [("PE-A", ""), ("APC-A", ""), ("D3", "")])
    found = evaluate_document(parse_gatingml(document(body), "x.xml"), sample, **more)
    return {name: mask.tolist() for name, mask in found.inside.items()}


def test_a_matrix_that_is_not_square_unmixes_by_least_squares() -> None:
    spectra = np.array([[1.0, 0.2, 0.1], [0.1, 1.0, 0.4]])
    true = np.array([[100.0, 5.0], [3.0, 70.0], [50.0, 49.0]])
    body = matrix("1 0.2 0.1", "0.1 1 0.4", detector='<data-type:fcs-dimension data-type:name="D3" />')
    body += gate(low="49.9", ref="m").replace("PE-A", "PE")
    assert counted(body, (true @ spectra).tolist()) == {"g": [True, False, True]}
    # a detector is no dimension of what it makes
    with pytest.raises(
        TemplateError, match=r"IMPORT_NOT_IN_MATRIX: PE-A is compensated by the matrix m, which makes PE, APC"
    ):
        counted(body.replace('name="PE" /></gating', 'name="PE-A" /></gating'), (true @ spectra).tolist())


def test_an_inverted_matrix_is_not_inverted_again() -> None:
    inverse = np.linalg.inv([[1.0, 0.5], [0.0, 1.0]])
    rows = [" ".join(map(str, row)) for row in inverse]
    plain = counted(
        matrix("1 0.5", "0 1") + gate(low="10", ref="m").replace("PE-A", "APC-A"), [[10, 14, 0], [10, 16, 0]]
    )
    more = ' transforms:matrix-inverted-already="true"'
    turned = counted(
        matrix(*rows, more=more) + gate(low="10", ref="m").replace("PE-A", "APC-A"), [[10, 14, 0], [10, 16, 0]]
    )
    assert plain == turned == {"g": [False, True]}


def test_bounds_of_a_transform_move_values_onto_them() -> None:
    body = (
        '<transforms:transformation transforms:id="t" transforms:boundMin="0.2" transforms:boundMax="0.8">'
        '<transforms:flin transforms:T="100" transforms:A="0" /></transforms:transformation>'
    ) + gate(low="0.2").replace("gating:min", 'gating:transformation-ref="t" gating:max="0.5" gating:min')
    assert counted(body, [[-50, 0, 0], [30, 0, 0], [60, 0, 0]]) == {"g": [True, True, False]}


def test_the_files_own_matrix_is_required_unless_the_standards_way_is_asked_for() -> None:
    body = gate(ref="FCS", low="5")
    with pytest.raises(TemplateError, match=r"IMPORT_NO_MATRIX: made.fcs has no spillover matrix"):
        counted(body, [[9, 0, 0]])
    assert counted(body, [[9, 0, 0]], absent="raw") == {"g": [True]}


def test_an_unknown_value_is_in_no_gate_and_in_no_complement() -> None:
    body = gate(low="5") + (
        '<gating:BooleanGate gating:id="rest"><gating:not><gating:gateReference gating:ref="g" /></gating:not>'
        "</gating:BooleanGate>"
    )
    nan = float("nan")
    assert counted(body, [[9, 0, 0], [1, 0, 0], [nan, 0, 0]]) == {
        "g": [True, False, False],
        "rest": [False, True, False],
    }


def test_a_channel_that_the_tube_does_not_have() -> None:
    with pytest.raises(
        TregflowError, match=r"PANEL_MARKER_MISSING: made.fcs has no channel BV421-A; it has PE-A, APC-A, D3"
    ):
        counted(gate().replace("PE-A", "BV421-A"), [[1, 1, 1]])


# --- refused ---------------------------------------------------------------------------------------------------------

CYCLE = gate("a", parent="b") + gate("b", parent="a")
OPERAND = '<gating:BooleanGate gating:id="n"><gating:not><gating:gateReference gating:ref="{0}" /></gating:not></gating:BooleanGate>'
FLIN = '<transforms:transformation transforms:id="t">{0}</transforms:transformation>'
RATIO = (
    '<transforms:fratio transforms:A="1" transforms:B="0" transforms:C="0"><data-type:fcs-dimension data-type:name="PE-A" />'
    '<data-type:fcs-dimension data-type:name="APC-A" /></transforms:fratio>'
)


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (CYCLE, "GATINGML_INVALID", "depend on each other in a circle; found a, b"),
        (OPERAND.format("n"), "GATINGML_INVALID", "in a circle; found n"),
        (gate("a", parent="absent"), "GATINGML_INVALID", r"RectangleGate a\): expected a gate or quadrant among a; found absent"),
        (OPERAND.format("absent"), "GATINGML_INVALID", "found absent"),
        (gate("a") + gate("a"), "GATINGML_INVALID", "used once; found a"),
        (gate("1a"), "GATINGML_INVALID", "an XML name and is used once; found 1a"),
        (gate(ref="comp"), "GATINGML_INVALID", "a compensation-ref among uncompensated, FCS; found comp"),
        (gate(low="NaN"), "GATE_GEOMETRY", r"line 1, RectangleGate g: .*finite numbers"),
        (gate(low="0x1"), "GATINGML_INVALID", "expected a number; found 0x1"),
        (gate(low="1_000"), "GATINGML_INVALID", "expected a number; found 1_000"),
        (gate(low="INF"), "GATE_GEOMETRY", "finite numbers"),
        (gate().replace(' gating:min="1"', ""), "GATE_GEOMETRY", "a minimum or a maximum in every dimension"),
        (gate().replace("gating:compensation-ref", "compensation-ref"), "GATINGML_INVALID", "attribute gating:compensation-ref"),
        (gate().replace("gating:min", 'gating:transformation-ref="t" gating:min'), "GATINGML_INVALID", "transformation among none"),
        (gate().replace("gating:dimension", "gating:axis"), "GATINGML_INVALID", "expected dimension or custom_info; found axis"),
        (gate().replace("RectangleGate", "PolygonGate"), "GATINGML_INVALID", "2 of dimension; found 1"),
        (gate().replace("RectangleGate", "StarGate"), "GATINGML_INVALID", "found StarGate"),
        ("", "GATINGML_INVALID", "one gate or more; found none"),
        (matrix("1 0", "0 1 2") + gate(), "COMPENSATION_MALFORMED", "matrix m: expected 2 rows of 2 coefficients"),
        (matrix("1 1", "1 1") + gate(), "COMPENSATION_SINGULAR", "matrix m cannot be inverted"),
        (matrix("1 NaN", "0 1") + gate(), "COMPENSATION_NOT_FINITE", "matrix m holds"),
        (matrix("1 0", "0 1").replace('id="m"', 'id="FCS"') + gate(), "GATINGML_INVALID", "a meaning of its own"),
        (matrix("1 0", "0 1").replace('"APC-A"', '"PE-A"') + gate(), "COMPENSATION_MALFORMED", "every detector once"),
        (FLIN.format(""), "GATINGML_INVALID", "one of flin, flog, fasinh, logicle, hyperlog, fratio; found nothing"),
        (FLIN.format('<transforms:flin transforms:T="1" />'), "GATINGML_INVALID", "attribute transforms:A"),
        (FLIN.format('<transforms:flin transforms:T="1" transforms:A="2" />'), "TRANSFORM_PARAMETER", "line 1, transformation t"),
        (
            FLIN.format('<transforms:flin transforms:T="1" transforms:A="0" />').replace('"t"', '"t" transforms:boundMin="NaN"'),
            "TRANSFORM_PARAMETER", "bounds of a transform",
        ),
        (
            FLIN.format(RATIO) + gate().replace("gating:min", 'gating:transformation-ref="t" gating:min'),
            "GATINGML_INVALID", "a transform of one dimension; found the ratio t",
        ),
    ],
)  # fmt: skip
def test_what_is_not_gating_ml(body: str, code: str, text: str) -> None:
    with pytest.raises(
        TregflowError, match=rf"{code}: .*x.xml.*{text}" if code.startswith("GATING") else f"{code}: .*{text}"
    ):
        parse_gatingml(document(body), "x.xml")


def test_a_quadrant_gate_itself_is_no_parent() -> None:
    body = (
        '<gating:QuadrantGate gating:id="q"><gating:divider gating:id="d" gating:compensation-ref="uncompensated">'
        '<data-type:fcs-dimension data-type:name="PE-A" /><gating:value>5</gating:value></gating:divider>'
        '<gating:Quadrant gating:id="up"><gating:position gating:divider_ref="{0}" gating:location="7" /></gating:Quadrant>'
        "</gating:QuadrantGate>"
    )
    with pytest.raises(TemplateError, match=r"GATINGML_INVALID: .*among up, child; found q"):
        parse_gatingml(document(body.format("d") + gate("child", parent="q")), "x.xml")
    with pytest.raises(TemplateError, match=r"GATINGML_INVALID: .*each of d at most once; found e"):
        parse_gatingml(document(body.format("e")), "x.xml")


@pytest.mark.parametrize("name", ["http://www.isac-net.org/std/Gating-ML/v1.5/gating", "urn:x"])
def test_another_namespace_is_told(name: str) -> None:
    with pytest.raises(
        TemplateError, match=rf"GATINGML_INVALID: .*Gating-ML of {NAMES}gating; found Gating-ML of {name}"
    ):
        parse_gatingml(document(gate(), HEAD.replace(f"{NAMES}gating", name)), "x.xml")
    with pytest.raises(TemplateError, match=r"GATINGML_INVALID: .*found svg of no namespace"):
        parse_gatingml(b"<svg/>", "x.xml")


# --- hostile ---------------------------------------------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
ENTITY = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l9;</x>'.encode(), "XML_REFUSED", "a DTD"),
        (ENTITY.encode() + document(gate("g").replace("PE-A", "&e;")), "XML_REFUSED", "a DTD"),
        (b'<!DOCTYPE x SYSTEM "http://example.org/x.dtd"><x/>', "XML_REFUSED", "a DTD"),
        ((ENTITY + "<x>&e;</x>").encode("utf-16"), "XML_REFUSED", "not written in UTF-8"),
        (b'<?xml version="1.0" encoding="UTF-7"?><x/>', "XML_REFUSED", "not written in UTF-8"),
        (b'<?xml version="1.0" encoding="cp037"?><x/>', "XML_REFUSED", "not written in UTF-8"),
        (b"<x>&undefined;</x>", "XML_SYNTAX", "undefined"),
        (b"<a>" * 5000 + b"</a>" * 5000, "XML_SYNTAX", "depth"),
        (document(gate())[:-5], "XML_SYNTAX", "XML that can be read"),
        (b"", "XML_SYNTAX", "XML that can be read"),
        (b"\xff\xfe", "XML_SYNTAX", "XML that can be read"),
        (b"<x>\x01</x>", "XML_SYNTAX", "XML that can be read"),
        (document(gate()) + b"<x/>", "XML_SYNTAX", "XML that can be read"),
        ("<x>é</x>".encode("latin-1"), "XML_SYNTAX", "XML that can be read"),
    ],
)  # fmt: skip
def test_hostile_xml_is_refused_quickly(data: bytes, code: str, text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(TemplateError, match=rf"{code}: x.xml is no.*{text}"):
        parse_gatingml(data, "x.xml")
    assert time.perf_counter() - started < 2


def test_a_huge_file_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.xml"
    with path.open("wb") as file:
        file.write(HEAD.encode() + b"<!--")
        file.seek(50 * 2**20)
        file.write(b"--></gating:Gating-ML>")
    with pytest.raises(TemplateError, match=r"XML_REFUSED: huge.xml is not read: it is larger than 32 MB"):
        read_gatingml(path)
    monkeypatch.setattr(xml_input, "parse_xml", None)
    with pytest.raises(TemplateError, match=r"XML_REFUSED: x.xml is not read: it is larger than 32 MB"):
        parse_gatingml(b" " * (32 * 2**20 + 1), "x.xml")


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"XML_UNREADABLE: absent.xml cannot be read: No such file"):
        read_gatingml(tmp_path / "absent.xml")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_document_gives_a_document_or_an_error_of_ours(data: st.DataObject) -> None:
    written = bytearray(write_gatingml(GATES, SPILLOVER, INFO))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(written) - 1))
        written[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(TregflowError):
        parse_gatingml(bytes(written), "damaged")


def test_errors_name_the_place_and_keep_their_kind() -> None:
    body = "\n\n" + gate(low="NaN")
    with pytest.raises(GateError, match=r"GATE_GEOMETRY: x.xml, line 3, RectangleGate g: "):
        parse_gatingml(document(body), "x.xml")
    with pytest.raises(CompensationError, match=r"COMPENSATION_SINGULAR: x.xml, line 2, spectrumMatrix m: "):
        parse_gatingml(document("\n" + matrix("1 1", "1 1") + gate()), "x.xml")


def test_flowkit_reads_the_bounds_and_ratios_that_are_written() -> None:
    ratio = RatioOf(Ratio(2.0, 1.0, -3.0), "PE-A", "APC-A")
    made = GatingDocument((
        DocumentGate("r", "r", None, "rectangle", (DocumentDimension(ratio),), Rectangle((0.5,), (1.5,))),
    ))  # fmt: skip
    strategy = flowkit.parse_gating_xml(io.BytesIO(write_document(made)))
    values = np.random.default_rng(1).uniform(1, 100, (500, 2))
    theirs = strategy.gate_sample(flowkit.Sample(values, sample_id="x", channel_labels=["PE-A", "APC-A"]))
    ours = evaluate_document(made, sample_from_array("x", values, [("PE-A", ""), ("APC-A", "")]))
    np.testing.assert_array_equal(theirs.get_gate_membership("r"), ours.inside["r"])
    assert 0 < ours.count("r") < 500
