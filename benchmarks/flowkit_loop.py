"""The other side: FlowKit gates a folder of tubes, one at a time in one process, with the gates of a template file.

`python flowkit_loop.py TEMPLATE FOLDER` prints the counts of every file. It knows nothing of tregflow: FlowKit's API
as its documentation shows it, each tube compensated by its own `$SPILLOVER`.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowkit import Dimension, GatingStrategy, Matrix, Sample, gates, transforms

if TYPE_CHECKING:
    from flowkit._models.gating_results import GatingResults


def gate(path: Path, template: dict[str, Any]) -> GatingResults:
    """Read and gate one file."""
    sample = Sample(path, subsample=1)  # it subsamples events for its own plots; 1 costs least
    strategy = GatingStrategy()
    spill = sample.get_metadata()["spillover"]
    strategy.add_comp_matrix("spill", Matrix(spill, [sample.pnn_labels[i] for i in sample.fluoro_indices]))
    scale = template["transforms"]["default"]
    strategy.add_transform("logicle", transforms.LogicleTransform(*(scale[name] for name in "TWMA")))
    channels = dict(zip(sample.pns_labels, sample.pnn_labels, strict=True))
    path_of: dict[str, tuple[str, ...]] = {}
    for gate in template["gates"]:
        place = (*path_of.get(gate.get("parent", ""), ()), gate.get("parent", "root"))
        path_of[gate["id"]] = place
        dimensions = [_dimension(name, channels, gate, template) for name in gate["dimensions"]]
        if gate["kind"] == "polygon":
            strategy.add_gate(gates.PolygonGate(gate["id"], dimensions, gate["vertices"]), place)
        else:
            strategy.add_gate(gates.RectangleGate(gate["id"], dimensions), place)
    return strategy.gate_sample(sample)


def _dimension(name: str, channels: dict[str, str], gate: dict[str, Any], template: dict[str, Any]) -> Dimension:
    bounds = (gate.get("min"), gate.get("max")) if gate["kind"] == "range" else (None, None)
    if template["panel"][name]["kind"] == "fluorescence":
        return Dimension(channels[name], "spill", "logicle", *bounds)
    return Dimension(name, "uncompensated", None, *bounds)


def main() -> None:
    template = tomllib.loads(Path(sys.argv[1]).read_text())
    for path in sorted(Path(sys.argv[2]).glob("*.fcs")):
        results = gate(path, template)
        print(path.name, *(results.get_gate_count(each["id"]) for each in template["gates"]))


if __name__ == "__main__":
    main()
