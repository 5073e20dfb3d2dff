"""The report: right, self-contained, repeatable, safe with any text, and readable without JavaScript."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from plotly.offline import get_plotlyjs
from records import PLACEMENT, endpoint_row, make_record, make_results

from tregflow.errors import BatchError, Finding
from tregflow.record import FindingRecord
from tregflow.report import render_report, write_report
from tregflow.report.svg import density_png

EVIL = "<script>alert(1)</script>\u2028&\"'</script>"


def finding(severity: str, code: str, tube: str, message: str = "odd") -> FindingRecord:
    return FindingRecord(
        code=code, severity=severity, message=message, tube=tube, population="treg", observed="3 events",
        limit="5 events", remedy=f"Do {code}.",
    )  # fmt: skip


def batch() -> list:
    """One tube of every kind: two good visits, one to review, one lost, one control."""
    return [
        make_record("A_W12", subject="A", visit="W12", seed=2),
        make_record("A_BL", subject="A", visit="BL", seed=1),
        make_record("B_BL", subject="B", status="review", seed=3,
                    placement=PLACEMENT.model_copy(update={"status": "fallback", "message": "Too few events."}),
                    findings=(finding("review", "FEW", "B_BL"), finding("info", "NOTE", "B_BL"))),
        make_record("B_W12", subject="B", visit="W12", status="not_evaluable", gated=False, seed=4,
                    findings=(finding("fail", "LOST", "B_W12"),)),
        make_record("F", subject="A", role="fmo:FOXP3", status="control", seed=5),
    ]  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_results(tmp_path / "r", batch())


class Page(HTMLParser):
    """Elements of a page with their attributes, ids, links and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.hidden = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.text.append(data)


def without_plotly(page: str) -> str:
    start = page.index('id="plotly-source">')
    return page[:start] + page[page.index("</script>", start) :]


def specs(page: str) -> dict[str, dict]:
    found = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', page, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def test_written_where_it_was_read_and_the_same_bytes_again(results: Path) -> None:
    path = write_report(results)
    first = path.read_bytes()
    assert path == results / "report.html"
    assert write_report(results).read_bytes() == first


def test_page_asks_for_nothing(results: Path) -> None:
    page = without_plotly(render_report(results))
    allowed = re.compile(r"^(#|data:)")
    for tag, attributes in Page(page).elements:
        assert tag not in ("link", "iframe", "object", "base", "embed")
        for name in ("src", "href", "srcset", "action", "poster"):
            if attributes.get(name) is not None:
                assert allowed.match(attributes[name] or ""), (tag, attributes[name])
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_plotly_is_there_once(results: Path) -> None:
    page = render_report(results)
    assert page.count(get_plotlyjs()[:200]) == 1
    assert "</script" not in get_plotlyjs().lower()
    assert Page(page).elements[-1][0] == "script"


def test_every_link_inside_the_page_leads_somewhere(results: Path) -> None:
    elements = Page(without_plotly(render_report(results))).elements
    ids = [a["id"] for _, a in elements if "id" in a]
    targets = {a["href"][1:] for _, a in elements if (a.get("href") or "").startswith("#")}
    assert len(ids) == len(set(ids))
    assert targets <= set(ids)


def test_every_number_is_there_without_javascript(results: Path) -> None:
    text = " ".join("".join(Page(without_plotly(render_report(results))).text).split())
    for record in batch():
        assert record.tube.file in text
        assert record.file_sha256[:12] in text
        for population in record.populations:
            assert f"{population.n_events:,}" in text
        row = endpoint_row(record)
        if row["endpoint_pct"]:
            assert f"{float(row['endpoint_pct']):.2f}" in text
            assert f"{float(row['treg_pct_of_cd4']):.2f}" in text
        for found in record.findings:
            assert found.code in text
            assert found.remedy in text
    for words in ("CD25 (PE-Cy7-A), logicle", "LSRFortessa", "condition number 1.84", "Too few events.", "10⁴"):
        assert words in text


def test_verdict_counts_tubes_and_names_the_template(results: Path) -> None:
    text = " ".join("".join(Page(without_plotly(render_report(results))).text).split())
    assert "3 of 4 stained tubes gave Treg % of lymphocytes" in text
    assert "1 of them to be reviewed; 1 not evaluable" in text
    assert "Template treg-foxp3-pbmc 0.1.0 (SHA-256 abababababab)" in text


def test_worst_comes_first_and_links_to_its_tube(results: Path) -> None:
    page = render_report(results)
    attention = page[page.index('id="attention"') : page.index('id="endpoint"')]
    assert attention.index("LOST") < attention.index("FEW") < attention.index("NOTE")
    assert '<a href="#tube-B_W12">B_W12</a>' in attention
    order = list(re.findall(r'<section class="tube [a-z_]+" id="([^"]+)"', page))
    assert order == ["tube-B_W12", "tube-B_BL", "tube-A_BL", "tube-A_W12", "tube-F"]


def test_unknown_is_a_dash_and_controls_are_apart(results: Path) -> None:
    page = render_report(results)
    table = page[page.index('id="endpoint-table"') : page.index('id="visits"')]
    lost = table[table.index('<tr class="not_evaluable">') :].split("</tr>")[0]
    assert lost.count(">—<") == 6
    assert "F.fcs" not in table.split("</table>")[0]
    assert "F.fcs" in table.split("</table>")[1]


def test_fallback_is_marked(results: Path) -> None:
    page = render_report(results)
    assert re.search(r'<span class="placement fallback">Rule negative_spread[^<]*FALLBACK', page)
    assert 'stroke="#b3001b"' in page


@pytest.mark.parametrize("status", ["draft", "flagged"])
def test_draft_and_flagged_are_marked_everywhere(tmp_path: Path, status: str) -> None:
    records = [make_record("A_BL", template_status=status), make_record("A_W2", visit="W2", template_status=status)]
    page = render_report(make_results(tmp_path / "r", records))
    mark = status.upper()
    assert f'<body data-mark="{mark}">' in page
    assert f"<title>{mark} · " in page
    for heading in re.findall(r'<h[23][^>]*>(?:What|Treg %|Over|CD25).*?</h[23]>|<h3 class="name">.*?</h3>', page):
        assert mark in heading
    assert all(mark in json.dumps(s["figure"]["layout"]["annotations"]) for s in specs(page).values())
    panels = re.findall(r'<svg class="panel".*?</figure>', page, re.DOTALL)
    assert len(panels) == 14
    assert all(f'class="mark">{mark}</text>' in p for p in panels)


def test_released_is_not_marked(results: Path) -> None:
    page = without_plotly(render_report(results))
    assert "DRAFT" not in page
    assert "data-mark=" not in page


def test_texts_from_files_are_never_markup(tmp_path: Path) -> None:
    nasty = make_record(EVIL, subject=EVIL, visit=EVIL, comment=EVIL, findings=(finding("review", "FEW", EVIL, EVIL),))
    nasty = nasty.model_copy(
        update={
            "acquisition": {"$CYT": EVIL},
            "gates": tuple(
                g.model_copy(
                    update={
                        "title": EVIL,
                        "dimensions": tuple(d.model_copy(update={"name": EVIL}) for d in g.dimensions),
                    }
                )
                for g in nasty.gates
            ),
            "populations": tuple(p.model_copy(update={"title": EVIL}) for p in nasty.populations),
        }
    )
    page = without_plotly(render_report(make_results(tmp_path / "r", [nasty])))
    assert "alert(1)" in unescape(page)
    assert "<script>alert" not in page
    assert "\u2028" not in "".join(re.findall(r'<script type="application/json".*?</script>', page, re.DOTALL))
    assert len(re.findall(r"<script\b", page)) == len(re.findall(r"</script>", page)) == 7 + 1 + 2
    for spec in specs(page).values():
        texts = json.dumps(spec["figure"], ensure_ascii=False)
        assert "<script" not in texts  # escaped once more for Plotly, which reads a few tags
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", a["id"] or "") for _, a in Page(page).elements if "id" in a)


def test_two_tubes_with_names_alike_get_two_anchors(tmp_path: Path) -> None:
    page = render_report(make_results(tmp_path / "r", [make_record("a b"), make_record("a/b", seed=2, visit="W2")]))
    assert {'id="tube-a-b"', 'id="tube-a-b-2"'} <= set(re.findall(r'id="tube-[^"]+"', page))


def test_counts_in_the_page_are_the_records(results: Path) -> None:
    page = render_report(results)
    packed = {s["counts"] for s in specs(page).values() if "counts" in s}
    assert packed == {h.counts for r in batch() for h in r.histograms}
    assert all("z" not in t for s in specs(page).values() for t in s["figure"]["data"] if t["type"] == "heatmap")


def test_other_denominator_is_said_everywhere(tmp_path: Path) -> None:
    page = render_report(make_results(tmp_path / "r", [make_record(denominator="cd3")]))
    assert "CD25+FOXP3+ Treg % of CD3+ T cells, tube by tube" in page
    assert "% of lymphocytes" not in without_plotly(page)


def test_methods_say_what_ran(results: Path) -> None:
    page = unescape(render_report(results))
    methods = page[page.index('id="methods"') :].split("</section>")[0]
    for words in (
        "tregflow 0.1.0",
        "file:$SPILLOVER",
        "CD25, FOXP3",
        "logicle (T = 262144, W = 0.5, M = 4.5, A = 0)",
        "placed by negative_spread (fallback in 1 tube)",
        "Wilson",
        "Parks DR",
    ):
        assert words in methods


def test_nothing_of_the_clock_is_read(results: Path) -> None:
    first = render_report(results)
    (results / "run.json").write_text('{"started": "2031-01-01"}', encoding="utf-8")
    assert render_report(results) == first


def test_tube_without_any_gate_and_batch_without_findings(tmp_path: Path) -> None:
    page = render_report(make_results(tmp_path / "r", [make_record(gated=False, status="not_evaluable")]))
    assert "No plots: the tube was not gated." in page
    assert "0 of 1 stained tube gave" in page
    assert "Nothing: no finding asks for a review." in page


def test_missing_files_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"REPORT_INPUT_MISSING: .*endpoint\.csv, findings\.csv, samples/\*\.json\. "):
        render_report(tmp_path)


def test_two_templates_are_refused(tmp_path: Path) -> None:
    other = make_record("B")
    other = other.model_copy(update={"template": other.template.model_copy(update={"version": "0.2.0"})})
    folder = make_results(tmp_path / "r", [make_record("A"), other])
    with pytest.raises(BatchError, match=r"REPORT_INPUT_INVALID: .* 2 templates: .*0\.1\.0.*0\.2\.0"):
        render_report(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("samples/000.json", '"key"', '"kee"', "samples/000.json is not a tube record: "),
        ("samples/000.json", "{", "", "samples/000.json is not a tube record: "),
        ("endpoint.csv", "endpoint_pct_count_low", "low", "lacks the columns endpoint_pct_count_low"),
        ("endpoint.csv", ",ok,", ",ok,,,", "row 1 of endpoint.csv"),
    ],
)
def test_edited_files_are_refused(results: Path, name: str, old: str, new: str, words: str) -> None:
    path = results / name
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BatchError, match=f"REPORT_INPUT_INVALID: .*{re.escape(words)}"):
        render_report(results)


def test_png_is_the_histogram_with_white_where_it_is_empty() -> None:
    counts = np.zeros((5, 3), dtype=np.uint32)
    counts[4, 0], counts[0, 2] = 1, 1000
    data = density_png(counts)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (5, 3)
    body = data[data.index(b"IDAT") + 4 :]
    lines = np.frombuffer(zlib.decompressobj().decompress(body), dtype=np.uint8).reshape(3, 6)
    assert lines[:, 1:].tolist() == [[128, 0, 0, 0, 0], [0] * 5, [0, 0, 0, 0, 1]]
    palette = data[data.index(b"PLTE") + 4 :]
    assert palette[:3] == b"\xff\xff\xff"
    assert tuple(palette[3:6]) == (68, 1, 84)


def test_pngs_of_the_page_are_whole(results: Path) -> None:
    for text in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", render_report(results)):
        assert base64.b64decode(text, validate=True).endswith(b"IEND\xaeB`\x82")


def attention(page: str) -> str:
    return page[page.index('id="attention"') : page.index('id="endpoint"')]


def test_one_code_over_many_tubes_is_three_lines_and_the_rest_folded_away(tmp_path: Path) -> None:
    records = [
        make_record(t, subject=t, status="not_evaluable", gated=False, seed=i,
                    findings=(finding("fail", "CUT", t, f"{t}.fcs: {i} bytes"), finding("review", "MOOT", t),
                              finding("fail", "GONE", t, f"{t}.fcs is not there")))
        for i, t in enumerate(f"T{i:02}" for i in range(9))
    ]  # fmt: skip
    text = attention(render_report(make_results(tmp_path / "r", records)))
    cut = text[text.index("<code>CUT") :]
    assert cut.index("2 bytes") < cut.index("and 6 more") < cut.index("3 bytes")
    gone = " ".join(re.sub("<[^>]+>", "", text[text.index("<code>GONE") :]).split())
    assert "T00, T01, T02 and 6 more" in gone
    assert gone.count("the file is not there") == 1
    assert "MOOT" not in text


def test_inferred_manifest_is_said(results: Path) -> None:
    assert "were inferred" not in render_report(results)
    (results / "manifest.inferred.csv").write_text("file\n", encoding="utf-8")
    assert "inferred from file names or keywords: check manifest.inferred.csv" in attention(render_report(results))


def test_batch_of_controls_says_that_there_is_nothing_to_gate(tmp_path: Path) -> None:
    page = render_report(make_results(tmp_path / "r", [make_record("F", role="fmo:FOXP3", status="control")]))
    assert '<p class="verdict">no stained tube: nothing to gate.' in page
    assert 'id="endpoint-table"' not in page
    assert 'id="visits"' not in page


@pytest.mark.parametrize(("status", "tone"), [("draft", "review"), ("released", "ok")])
def test_a_draft_is_never_green(tmp_path: Path, status: str, tone: str) -> None:
    page = render_report(make_results(tmp_path / "r", [make_record(template_status=status)]))
    assert f'<header class="{tone}">' in page


def test_long_names_are_cut_where_they_stand_in_a_row_and_whole_on_hover(tmp_path: Path) -> None:
    name = "S" + "x" * 300
    page = render_report(make_results(tmp_path / "r", [make_record("t", subject=name)]))
    table = page[page.index('id="endpoint-table"') : page.index("</table>")]
    assert f'title="{name}"' in table
    assert f">{name}<" not in table
    assert f"<title>{name}</title>" in page[page.index('class="visits"') :]


# --- intervals and modes ----------------------------------------------------------------------------------------------

COMBINED = {"endpoint_pct_combined_low": "1.25", "endpoint_pct_combined_high": "7.75"}


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}">') :].split("</section>", maxsplit=1)[0]


def test_combined_interval_stands_beside_the_counting_one(tmp_path: Path) -> None:
    records = [make_record("A_BL"), make_record("A_W2", visit="W2", seed=2)]
    rows = [endpoint_row(records[0], **COMBINED), endpoint_row(records[1])]
    page = render_report(make_results(tmp_path / "r", records, rows))
    table = section(page, "endpoint")
    assert ">95 %, counting</th>" in table
    assert ">95 %, counting and cuts</th>" in table
    assert ">1.25–7.75</td>" in table
    assert "Bars are 95 % intervals of counting and cuts where the tube has one, else of counting alone" in page
    bar = specs(page)["spec-visits"]["figure"]["data"][0]
    assert bar["y"][0] + bar["error_y"]["array"][0] == pytest.approx(7.75)
    assert bar["y"][1] + bar["error_y"]["array"][1] == pytest.approx(float(rows[1]["endpoint_pct_count_high"]))


def test_without_combined_intervals_nothing_is_said_of_cuts(results: Path) -> None:
    page = without_plotly(render_report(results))
    assert "counting and cuts" not in page
    assert "Bars are counting intervals." in page
    assert 'id="modes"' not in page


def mode_rows(record, endpoint: str = "subject", **percents: str) -> list[dict[str, str]]:
    tube = record.tube
    names = {"subject_id": tube.subject_id, "visit": tube.visit, "replicate": "1", "file": tube.file}
    return [
        names | {"mode": mode, "is_endpoint": str(mode == endpoint), "endpoint_pct": value,
                 "why": "" if value else "foxp3_pos: <b>no tube</b> to place it on (tube)"}
        for mode, value in percents.items()
    ]  # fmt: skip


def changes(subject: str) -> dict[str, str]:
    found = Finding(
        "MODE_CHANGES_RESULT", "review", f"subject {subject}, BL to W12: another sign", observed="'+1 points"
    )
    return {name: str(getattr(found, name)) for name in FindingRecord.model_fields}


def test_modes_stand_side_by_side_and_name_the_subjects(tmp_path: Path) -> None:
    records = [make_record("A_W12", visit="W12", seed=2), make_record("A_BL")]
    modes = mode_rows(records[0], fixed="3.25", tube="", subject="4.5") + mode_rows(
        records[1], fixed="3.125", tube="2.5", subject="4.75"
    )
    folder = make_results(tmp_path / "r", records, modes=modes, found=[changes("<A>")])
    page = render_report(folder)
    part = section(page, "modes")
    heads = [" ".join(h.split()) for h in re.findall(r"<th scope=\"col\"[^>]*>([^<]*)</th>", part)]
    assert heads == ["Subject", "Visit", "fixed, %", "tube, %", "subject (endpoint), %"]
    assert part.index(">3.12<") < part.index(">3.25<")  # BL before W12
    assert re.search(r'<td class="num main" title="4.5">4.50</td>', part)
    assert "— <small>foxp3_pos: &lt;b&gt;no tube&lt;/b&gt;" in part
    assert "the baseline tube&#39;s cut for all visits of the subject" in part
    assert "subject &lt;A&gt;, BL to W12: another sign" in part
    assert "observed +1 points" in part  # without the apostrophe that keeps it from a spreadsheet
    assert "one cut for what was stained together" not in part
    assert '<a href="#modes">' in page
    assert render_report(folder) == page


def test_modes_without_findings_say_what_was_compared(tmp_path: Path) -> None:
    record = make_record("A_BL")
    folder = make_results(tmp_path / "r", [record], modes=mode_rows(record, fixed="3.25", subject="4.5"))
    assert "No subject's change from baseline was found to depend" in section(render_report(folder), "modes")


@pytest.mark.parametrize(("old", "new"), [("fixed", "mixed"), ("A_BL.fcs", "B_BL.fcs")])
def test_modes_of_another_run_are_refused(tmp_path: Path, old: str, new: str) -> None:
    record = make_record("A_BL")
    folder = make_results(tmp_path / "r", [record], modes=mode_rows(record, fixed="3.25", subject="4.5"))
    path = folder / "modes.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(
        BatchError, match=r"REPORT_INPUT_INVALID: row 1 of modes\.csv: expected a tube of endpoint\.csv"
    ):
        render_report(folder)
