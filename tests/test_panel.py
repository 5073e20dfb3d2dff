"""Panel: each marker of a template to exactly one channel of a tube."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import real_data

from tregflow.errors import PanelError
from tregflow.fcs import Keywords, read_text
from tregflow.sample import Channel, EventSource, Sample, sample_from_array, sample_from_text
from tregflow.template.loading import parse_template
from tregflow.template.model import PanelEntry, Template
from tregflow.template.panel import fold_label, resolve_panel
from tregflow.template.registry import load_template

PBMC = load_template("treg-foxp3-pbmc@0.1.0").template


class NoEvents:
    """A source of a tube whose events nobody looks at."""

    n_events = 0

    def rows(self, *_: object) -> None:
        raise AssertionError("a panel is resolved without events")


def entry(*aliases: str, kind: str = "fluorescence", feature: str = "area", required: bool = True) -> PanelEntry:
    return PanelEntry.model_validate_json(
        PanelEntry.model_construct(aliases=aliases, kind=kind, feature=feature, required=required).model_dump_json()
    )


def template(**panel: PanelEntry) -> Template:
    """A template with this panel; what else it holds does not matter here."""
    return PBMC.model_copy(update={"panel": {name.replace("_", "-"): value for name, value in panel.items()}})


def tube(*channels: Channel, name: str = "S01_W00.fcs") -> Sample:
    source: EventSource = NoEvents()  # type: ignore[assignment]
    return Sample(name, channels, source, Keywords(()))


def named(*labels: tuple[str, str]) -> Sample:
    """A tube with these `$PnN` and `$PnS`."""
    return sample_from_array("S01_W00.fcs", [[0.0] * len(labels)], labels)  # type: ignore[arg-type]


# --- spelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label", ["FOXP3", "FoxP3", "foxp3", "FOX P3", "Fox-P3", "fox_p3", " FOXP3 ", "FOX.P3", "FOX/P3"]
)
def test_case_and_separators_do_not_matter(label: str) -> None:
    assert resolve_panel(template(FOXP3=entry("FOXP3")), named(("PE-A", label)))["FOXP3"].pnn == "PE-A"


@pytest.mark.parametrize("label", ["FOXP", "FOXP33", "aFOXP3", "FOXP3 PE", "CD3", "CD2", "CD255", "IL2-RB", ""])
def test_nothing_else_is_forgiven(label: str) -> None:
    with pytest.raises(PanelError, match="PANEL_MARKER_MISSING"):
        resolve_panel(template(FOXP3=entry("FOXP3"), CD25=entry("CD25", "IL2RA")), named(("PE-A", label)))


@given(label=st.text(alphabet="CDcd123-_ ./", max_size=8), separators=st.text(alphabet="-_ ./", max_size=3))
def test_folding_is_the_same_for_every_spelling(label: str, separators: str) -> None:
    folded = fold_label(label)
    assert fold_label(folded) == folded
    assert fold_label(label.swapcase() + separators) == folded
    assert fold_label(separators.join(label)) == folded


# --- pulse features -------------------------------------------------------------------------------------------------


def test_the_declared_feature_decides_where_all_three_are_stained() -> None:
    tube_of_three = named(("PE-A", "CD25"), ("PE-H", "CD25"), ("PE-W", "CD25"))
    assert resolve_panel(template(CD25=entry("CD25")), tube_of_three)["CD25"].pnn == "PE-A"
    assert resolve_panel(template(CD25=entry("CD25", feature="height")), tube_of_three)["CD25"].pnn == "PE-H"
    assert resolve_panel(template(CD25=entry("CD25", feature="width")), tube_of_three)["CD25"].pnn == "PE-W"


def test_another_feature_is_no_substitute() -> None:
    with pytest.raises(PanelError, match=r"PANEL_MARKER_MISSING: no channel for CD25 .* The tube has: PE-H 'CD25'\."):
        resolve_panel(template(CD25=entry("CD25")), named(("PE-H", "CD25")))


def test_a_channel_that_does_not_say_its_feature_fits() -> None:
    assert resolve_panel(template(CD25=entry("CD25")), named(("FL2", "CD25")))["CD25"].pnn == "FL2"
    with pytest.raises(PanelError, match=r"PANEL_MARKER_AMBIGUOUS: CD25 matches 2 \(FL2 'CD25', PE-A 'CD25'\)"):
        resolve_panel(template(CD25=entry("CD25")), named(("FL2", "CD25"), ("PE-A", "CD25")))


def test_scatter_is_found_by_its_name_and_time_has_no_feature() -> None:
    panel = template(
        FSC_A=entry("FSC-A", kind="scatter"),
        FSC_H=entry("FSC-H", kind="scatter", feature="height"),
        Time=entry("Time", kind="time"),
    )
    found = resolve_panel(panel, named(("FSC-H", ""), ("FSC-A", ""), ("FSC-W", ""), ("TIME", "")))
    assert {name: channel.index for name, channel in found.items()} == {"FSC-A": 1, "FSC-H": 0, "Time": 3}


# --- where a label is looked for ------------------------------------------------------------------------------------


def test_analyte_comes_before_stain_and_stain_before_name() -> None:
    panel = template(CD25=entry("CD25"))
    by_name, by_stain = Channel(0, "CD25"), Channel(1, "PE-A", "CD25")
    by_analyte = Channel(2, "APC-A", "aCD25", analyte="CD25")
    assert resolve_panel(panel, tube(by_name))["CD25"] is by_name
    assert resolve_panel(panel, tube(by_name, by_stain))["CD25"] is by_stain
    assert resolve_panel(panel, tube(by_name, by_stain, by_analyte))["CD25"] is by_analyte


def test_every_alias_counts() -> None:
    panel = template(CD25=entry("CD25", "IL2RA"))
    assert resolve_panel(panel, named(("PE-A", "IL-2RA")))["CD25"].pnn == "PE-A"
    with pytest.raises(PanelError, match="PANEL_MARKER_AMBIGUOUS"):
        resolve_panel(panel, named(("PE-A", "IL-2RA"), ("APC-A", "CD25")))


# --- none, two, shared, optional ------------------------------------------------------------------------------------


def test_all_missing_markers_are_in_one_error_with_the_channels_of_the_tube() -> None:
    panel = template(CD4=entry("CD4"), CD25=entry("CD25", "IL2RA"), FOXP3=entry("FOXP3"))
    with pytest.raises(PanelError) as caught:
        resolve_panel(panel, named(("BV421-A", "CD4"), ("PE-A", "")))
    assert str(caught.value) == (
        "PANEL_MARKER_MISSING: no channel for CD25 (looked for: CD25, IL2RA); FOXP3 (looked for: FOXP3) in "
        "S01_W00.fcs; template treg-foxp3-pbmc 0.1.0 needs exactly one channel each. "
        "The tube has: BV421-A 'CD4', PE-A. "
        "Correct $PnS at the cytometer, or name the channel in the manifest column channel_<MARKER>."
    )


def test_missing_and_ambiguous_markers_are_reported_together() -> None:
    panel = template(CD25=entry("CD25"), FOXP3=entry("FOXP3"))
    with pytest.raises(PanelError, match=r"PANEL_MARKER_MISSING: no channel for FOXP3 .* Besides, CD25 matches 2 \("):
        resolve_panel(panel, named(("PE-A", "CD25"), ("PE-Cy7-A", "CD25")))


def test_two_channels_with_one_stain() -> None:
    with pytest.raises(PanelError) as caught:
        resolve_panel(template(CD25=entry("CD25")), named(("PE-A", "CD25"), ("PE-Cy7-A", "CD25")))
    assert str(caught.value).startswith(
        "PANEL_MARKER_AMBIGUOUS: CD25 matches 2 (PE-A 'CD25', PE-Cy7-A 'CD25') in S01_W00.fcs; template"
    )


def test_two_markers_on_one_channel() -> None:
    panel = template(CD25=entry("CD25"), FOXP3=entry("FOXP3", "PE-A"))
    with pytest.raises(PanelError, match=r"PANEL_CHANNEL_SHARED: CD25 and FOXP3 are both PE-A 'CD25' in S01_W00.fcs"):
        resolve_panel(panel, named(("PE-A", "CD25")))


def test_an_optional_marker_may_be_missing_but_not_ambiguous() -> None:
    panel = template(CD4=entry("CD4"), CD8=entry("CD8", required=False))
    assert set(resolve_panel(panel, named(("PE-A", "CD4")))) == {"CD4"}
    assert set(resolve_panel(panel, named(("PE-A", "CD4"), ("APC-A", "CD8")))) == {"CD4", "CD8"}
    with pytest.raises(PanelError, match="PANEL_MARKER_AMBIGUOUS: CD8 matches 2"):
        resolve_panel(panel, named(("PE-A", "CD4"), ("APC-A", "CD8"), ("FITC-A", "CD8")))


# --- channels that the manifest names -------------------------------------------------------------------------------


def test_a_named_channel_comes_before_any_alias() -> None:
    panel = template(CD25=entry("CD25"))
    both = named(("PE-A", "CD25"), ("PE-Cy7-A", "CD25"))
    assert resolve_panel(panel, both, {"CD25": "PE-Cy7-A"})["CD25"].pnn == "PE-Cy7-A"
    assert resolve_panel(panel, named(("PE-A", "other"), ("APC-A", "CD25")), {"CD25": "PE-A"})["CD25"].pnn == "PE-A"
    assert resolve_panel(panel, named(("PE-H", ""), ("APC-A", "CD25")), {"CD25": "PE-H"})["CD25"].pnn == "PE-H"


@pytest.mark.parametrize("required", [True, False])
def test_a_named_channel_must_be_there_written_the_same(required: bool) -> None:
    panel = template(CD25=entry("CD25", required=required))
    with pytest.raises(PanelError, match=r"PANEL_MARKER_MISSING: no channel for CD25 \(looked for: pe-a\)"):
        resolve_panel(panel, named(("PE-A", "CD25")), {"CD25": "pe-a"})


def test_a_named_channel_that_is_there_twice() -> None:
    with pytest.raises(PanelError, match="PANEL_MARKER_AMBIGUOUS"):
        resolve_panel(template(CD25=entry("CD25")), named(("PE-A", "a"), ("PE-A", "b")), {"CD25": "PE-A"})


def test_a_named_marker_must_be_in_the_panel() -> None:
    with pytest.raises(PanelError, match=r"CD52 \(named in the manifest, not in the template's panel\)"):
        resolve_panel(template(CD25=entry("CD25")), named(("PE-A", "CD25")), {"CD52": "PE-A"})


def test_names_may_not_put_two_markers_on_one_channel() -> None:
    panel = template(CD25=entry("CD25"), FOXP3=entry("FOXP3"))
    with pytest.raises(PanelError, match="PANEL_CHANNEL_SHARED: CD25 and FOXP3 are both PE-A 'CD25'"):
        resolve_panel(panel, named(("PE-A", "CD25"), ("APC-A", "x")), {"FOXP3": "PE-A"})


# --- real tubes -----------------------------------------------------------------------------------------------------

GVHD = parse_template(
    """
schema_version = 1
id = "gvhd"
version = "0.1.0"
title = "The panel of the tubes in marker_mismatch_cytoqc"
[endpoint]
numerator = "cd14"
denominator = "cd45"
[panel]
FSC = { aliases = ["FSC-H"], kind = "scatter", feature = "height" }
SSC = { aliases = ["SSC-H"], kind = "scatter", feature = "height" }
Time = { aliases = ["Time"], kind = "time", required = false }
CD15 = { aliases = ["CD15 FITC"], kind = "fluorescence", feature = "height" }
CD45 = { aliases = ["CD45 PE"], kind = "fluorescence", feature = "height" }
CD14 = { aliases = ["CD14 PerCP"], kind = "fluorescence", feature = "height" }
CD33 = { aliases = ["CD33 APC"], kind = "fluorescence", feature = "height" }
[compensation]
source = "unmixed"
[[gates]]
id = "cd45"
kind = "range"
dimensions = ["CD45"]
min = 100
[[gates]]
id = "cd14"
parent = "cd45"
kind = "range"
dimensions = ["CD14"]
min = 100
[[changelog]]
version = "0.1.0"
numbers = "first"
""",
    "gvhd.toml",
)


def resolve_real(name: str, panel: Template, named: dict[str, str] | None = None) -> dict[str, Channel]:
    sample = sample_from_text(read_text(real_data("marker_mismatch_cytoqc", "GvHD_QC", name)))
    return resolve_panel(panel, sample, named)


def test_the_tubes_of_a_real_study() -> None:
    """35 tubes; four have altered names: `SSC1-H`, `PTPRC PE` for CD45, FL1 and FL2 swapped, Time missing."""
    refused: dict[str, str] = {}
    channels: dict[str, dict[str, str]] = {}
    for path in sorted(real_data("marker_mismatch_cytoqc").glob("**/*.fcs")):
        try:
            channels[path.stem] = {m: c.pnn for m, c in resolve_real(path.name, GVHD).items()}
        except PanelError as error:
            refused[path.stem] = error.message.partition(" in s10")[0]
    assert len(channels) + len(refused) == 35
    assert refused == {
        "s10a02": "no channel for SSC (looked for: SSC-H)",
        "s10a03": "no channel for SSC (looked for: SSC-H); CD45 (looked for: CD45 PE)",
        "s10a04": "no channel for CD45 (looked for: CD45 PE)",
    }
    usual = {
        "FSC": "FSC-H", "SSC": "SSC-H", "Time": "Time", "CD15": "FL1-H", "CD45": "FL2-H", "CD14": "FL3-H",
        "CD33": "FL4-H",
    }  # fmt: skip
    # `fsc-h` is the same label; Time is optional here and this tube has none
    assert channels.pop("s10a01") == {k: v for k, v in {**usual, "FSC": "fsc-h"}.items() if k != "Time"}
    assert set(map(str, channels.values())) == {str(usual)}


def test_a_real_tube_with_altered_names_resolves_once_they_are_declared() -> None:
    panel = {**GVHD.panel, "CD45": entry("CD45 PE", "PTPRC PE", feature="height")}
    found = resolve_real("s10a04.fcs", GVHD.model_copy(update={"panel": panel}))
    assert (found["CD15"].pnn, found["CD45"].pnn) == ("FL2-H", "FL1-H"), "the stain decides, not the detector"
    found = resolve_real("s10a03.fcs", GVHD, {"SSC": "SSC1-H", "CD45": "FL2-H"})
    assert (found["SSC"].pnn, found["CD45"].label) == ("SSC1-H", "FL2-H 'PTPRC PE'")


@pytest.mark.parametrize("subject", ["INF052", "INF100", "INF179"])
def test_the_aurora_tubes_resolve(subject: str) -> None:
    aurora = load_template("treg-foxp3-aurora@0.1.0").template
    path = real_data("treg_foxp3_aurora", f"2025_07_26_AB_02_{subject}_00_Ctrl.fcs")
    found = resolve_panel(aurora, sample_from_text(read_text(path)))
    assert set(found) == set(aurora.panel)
    assert len({channel.index for channel in found.values()}) == len(found)
