"""Singlets, lymphocytes and viable cells placed by rule, beside the gates that people drew on the same tubes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tregflow.fcs import read_fcs
from tregflow.gating import GatingResult, gate_sample, open_tube
from tregflow.sample import sample_from_fcs
from tregflow.template.registry import load_template

HERE: Final = Path(__file__).resolve().parent
DIVA_AREA: Final = 30_000.0
"""The lower end of the singlet band's area in `diva.toml`: below it lies debris, which Diva's singlet gates keep."""
DIVA_EDGE: Final = 40
"""Diva counts 32 events more in each of its rectangles than lie in their corners as written."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One population by hand and by rule; percentages are of the events of the file."""

    tube: str
    population: str
    by_hand: int
    by_rule: int
    n_events: int

    @property
    def difference(self) -> float:
        """Rule minus hand, percentage points of all events."""
        return 100 * (self.by_rule - self.by_hand) / self.n_events


def compare_flowsom(folder: Path) -> list[Compared]:
    """The FlowSOM package's tube, whose events were cut to lymphocytes before export; counts by FlowJo 10.5.3."""
    counts = {
        node.attrib["name"]: int(node.attrib["count"]) for node in ET.parse(folder / "gating.wsp").iter("Population")
    }
    result = _gate(folder / "68983.fcs", "flowsom.toml")
    n = result.n_events
    return [
        Compared("68983", "singlets", counts["Singlets"], result["singlets"].n_events, n),
        Compared("68983", "singlets, by both of FlowJo's gates", counts["Singlets2"], result["singlets"].n_events, n),
        Compared("68983", "lymphocytes", counts["Lymphocytes"], result["lymphocytes"].n_events, n),
    ]


def compare_diva(folder: Path) -> list[Compared]:
    """The FACSCanto tube, beside BD Diva's own counts, and its singlet gates above the debris."""
    tube = next(t for t in ET.parse(folder / "PE_2.xml").iter("tube") if t.findtext("data_filename") == "124500.fcs")
    gates = {gate.attrib["fullname"].split("\\")[-1]: gate for gate in tube.iter("gate")}
    counts = {name: int(gate.findtext("num_events") or 0) for name, gate in gates.items()}
    sample = sample_from_fcs(read_fcs(folder / "124500.fcs"))
    at = {channel.pnn: channel.index for channel in sample.channels}
    inside = np.ones(sample.n_events, dtype=bool)
    drawn = {}
    for name in ("P1", "P2"):
        inside &= _in_rectangle(gates[name], sample, at)
        drawn[name] = int(inside.sum())
    if any(abs(drawn[name] - counts[name]) > DIVA_EDGE for name in drawn):
        raise ValueError(f"Diva's rectangles give {drawn}, Diva counted {counts}")
    (area,) = sample.rows(0, sample.n_events, None, [at["FSC-A"]])
    cells = int(np.count_nonzero(inside & (area >= DIVA_AREA)))
    result = _gate(folder / "124500.fcs", "diva.toml")
    n, singlets = result.n_events, result["singlets"].n_events
    return [
        Compared("124500", "singlets, debris and all", counts["P2"], singlets, n),
        Compared("124500", "singlets above the debris", cells, singlets, n),
        Compared("124500", "viable single cells", counts["P3"], result["viable"].n_events, n),
    ]


def _in_rectangle(gate: ET.Element, sample: object, at: dict[str, int]) -> np.ndarray:
    region = gate.find("region")
    if region is None:
        raise ValueError("a gate without a region")
    names = [region.attrib["xparm"], region.attrib["yparm"]]
    values = sample.rows(0, sample.n_events, None, [at[name] for name in names])  # type: ignore[attr-defined]
    points = np.array([[float(p.attrib["x"]), float(p.attrib["y"])] for p in region.iter("point")])
    low, high = points.min(axis=0), points.max(axis=0)
    return np.all([(v >= a) & (v < b) for v, a, b in zip(values, low, high, strict=True)], axis=0)


def _gate(path: Path, draft: str) -> GatingResult:
    template = load_template(str(HERE / draft)).template
    tube = open_tube(path, template)
    return gate_sample(tube.sample, template, channels=tube.channels, spillover=tube.spillover, draw=False)
