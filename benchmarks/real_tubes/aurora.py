"""The six FOXP3 tubes: cuts under each rule, the three modes, CD127 inside and just outside the gate."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from tregflow.batch import make_plan, run_batch
from tregflow.errors import PlacementError
from tregflow.gating import gate_sample, open_tube
from tregflow.gating.columns import make_columns
from tregflow.placement import SPACE, Placement, place_cut
from tregflow.template.model import CutRule
from tregflow.template.registry import load_template

Array = NDArray[np.float64]

TEMPLATE: Final = "treg-foxp3-aurora@0.1.0"
MARKERS: Final = ("CD25", "FOXP3")
GATES: Final = ("cd25_pos", "foxp3_pos")
K: Final = 4.0
"""The released template's k, in robust SDs."""

# by its name the rule of CD25 and that of FOXP3; all are handed the CD3+CD4- T cells, OWN_CELLS those that are counted
RULES: Final[Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]] = {
    "99th percentile of CD4- T cells": ({"rule": "reference_quantile", "q": 0.99},) * 2,
    "99.5th percentile of CD4- T cells": ({"rule": "reference_quantile", "q": 0.995},) * 2,
    "drop to 1 % of the CD4- mode": ({"rule": "tail", "flank": "upper", "fraction": 0.01, "bandwidth": 0.02},) * 2,
    "median + 3 robust SD of CD4- T cells": ({"rule": "negative_spread", "k": 3.0},) * 2,
    "median + 4 robust SD (the template)": ({"rule": "negative_spread", "k": K},) * 2,
    "median + 5 robust SD": ({"rule": "negative_spread", "k": 5.0},) * 2,
    "CD25 2, FOXP3 4.75 robust SD, positives left out": (
        {"rule": "negative_spread", "k": 2.0, "clip": 4.0},
        {"rule": "negative_spread", "k": 4.75, "clip": 4.0},
    ),
    "valley of the CD4+ cells, each tube": ({"rule": "valley", "between": (0.18, 0.45), "depth": 0.3},) * 2,
}
OWN_CELLS: Final = "valley of the CD4+ cells, each tube"


@dataclass(frozen=True, slots=True)
class Tube:
    """One tube as the released template gates it: markers in scale values of the CD4+ and the CD4- T cells."""

    name: str
    n_t: int
    cd4: Mapping[str, Array]
    negative: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What a rule did on the tubes: cuts in scale values (NaN where it placed none), standard errors, percentages."""

    rule: str
    cuts: Array  # (n_tubes, 2)
    errors: Array  # (n_tubes, 2), on the axis of the rule, as a fraction of the cut
    of_cd4: Array
    of_t: Array
    refused: int


def read_tubes(folder: Path) -> list[Tube]:
    """The tubes, gated by the released template as far as CD4."""
    template = load_template(TEMPLATE).template
    tubes = []
    for path in sorted(folder.glob("*.fcs")):
        tube = open_tube(path, template)
        found = gate_sample(tube.sample, template, channels=tube.channels, spillover=tube.spillover, draw=False)
        columns = make_columns(tube.sample, tube.channels, tube.spillover)
        names = (*MARKERS, "CD127")
        cd4, negative = (
            dict(zip(names, columns.gather(names, found[p].mask), strict=True)) for p in ("cd4", "cd4_neg_t")
        )
        short = "_".join(path.stem.split("_")[-3:]).replace("_00_", " ")
        tubes.append(Tube(short, found["t_cells"].n_events, cd4, negative))
    return tubes


def run_rules(tubes: Sequence[Tube]) -> list[RuleResult]:
    """Every rule on every tube, then `shift_scale` from the first tube's cut."""
    found = [_run_rule(name, rules, tubes) for name, rules in RULES.items()]
    rules = tuple(_shift_scale(tubes[0], marker) for marker in MARKERS)
    return [*found, _run_rule(f"cut of {tubes[0].name} carried over (shift_scale)", rules, tubes)]


def _shift_scale(standard: Tube, marker: str) -> dict[str, Any]:
    values = standard.negative[marker]
    middle, lower = np.quantile(values, (0.5, 0.25))
    spread = 1.482602218505602 * float(middle - lower)
    return {"rule": "shift_scale", "cut": float(middle) + K * spread, "location": float(middle), "spread": spread}


def _run_rule(name: str, rules: Sequence[Mapping[str, Any]], tubes: Sequence[Tube]) -> RuleResult:
    template = load_template(TEMPLATE).template
    cuts, errors = np.full((len(tubes), 2), np.nan), np.full((len(tubes), 2), np.nan)
    for row, tube in enumerate(tubes):
        for at, (marker, settings) in enumerate(zip(MARKERS, rules, strict=True)):
            transform = template.transform(marker)
            rule = TypeAdapter(CutRule).validate_python({"side": "above", **settings})
            values = (tube.cd4 if name == OWN_CELLS else tube.negative)[marker]
            if SPACE[rule.rule] == "transformed":
                values = transform(values)
            try:
                placed, _ = place_cut(rule, "reference", values, transform, GATES[at])
            except PlacementError:
                continue
            cuts[row, at], errors[row, at] = _in_scale(placed, transform)
    inside = [_inside(tube.cd4, cut) for tube, cut in zip(tubes, cuts, strict=True)]
    of_cd4 = np.array([100 * m.mean() if m is not None else np.nan for m in inside])
    of_t = np.array([100 * m.sum() / t.n_t if m is not None else np.nan for m, t in zip(inside, tubes, strict=True)])
    return RuleResult(name, cuts, errors, of_cd4, of_t, int(np.isnan(cuts).sum()))


def _in_scale(placed: Placement, transform: Any) -> tuple[float, float]:
    """The cut in scale values and its standard error there."""
    (cut,) = placed.coordinates
    value = float(transform.inverse(np.array([cut]))[0])
    error = placed.estimate.spread
    if error is None or placed.space == "scale":
        return value, error if error is not None else np.nan
    low, high = transform.inverse(np.array([cut - error, cut + error]))
    return value, float(high - low) / 2


def _inside(cells: Mapping[str, Array], cut: Array) -> NDArray[np.bool_] | None:
    if np.isnan(cut).any():
        return None
    inside: NDArray[np.bool_] = (cells["CD25"] >= cut[0]) & (cells["FOXP3"] >= cut[1])
    return inside


@dataclass(frozen=True, slots=True)
class Cd127:
    """Medians of CD127 in scale values: in the gate, just outside it, of the other CD4+ cells."""

    tube: str
    inside: float
    just_outside: float
    n_just_outside: int
    others: float


def cd127(tubes: Sequence[Tube], result: RuleResult) -> list[Cd127]:
    """Just outside: not in the gate, but in it with both cuts one robust SD of the CD4- cells lower."""
    found = []
    for tube, cut in zip(tubes, result.cuts, strict=True):
        sd = [1.482602218505602 * float(np.diff(np.quantile(tube.negative[m], (0.25, 0.5)))[0]) for m in MARKERS]
        inside, wider = _inside(tube.cd4, cut), _inside(tube.cd4, cut - np.array(sd))
        if inside is None or wider is None:
            continue
        edge, rest = wider & ~inside, ~wider
        values = tube.cd4["CD127"]
        found.append(
            Cd127(tube.name, *(float(np.median(values[m])) for m in (inside, edge)), int(edge.sum()),
                  float(np.median(values[rest])))
        )  # fmt: skip
    return found


def run_modes(folder: Path, fixed: tuple[float, float]) -> list[dict[str, str]]:
    """Gate the tubes with a draft of the template that counts the other modes too; rows of endpoint and modes.

    `fixed` are the template values of the draft, on the transformed axis. The batch is one folder of links; Ctrl is the
    baseline tube of each infant.
    """
    text = next(p for p in _template_files() if p.parent.name == "treg-foxp3-aurora").read_text(encoding="utf-8")
    version = TEMPLATE.split("@")[1]
    text = text.replace(f'version = "{version}"', f'version = "{version}-modes"')
    text = text.replace("min_denominator_events", 'sensitivity = ["fixed", "subject", "batch"]\nmin_denominator_events')
    for gate, value in zip(GATES, fixed, strict=True):
        head, mark, tail = text.partition(f'id = "{gate}"')
        text = head + mark + tail.replace("min_events = 500", f"template_value = {value:.6f}, min_events = 500", 1)
    with tempfile.TemporaryDirectory() as work:
        batch, results = Path(work) / "aurora", Path(work) / "results"
        batch.mkdir()
        for path in sorted(folder.glob("*.fcs")):
            (batch / path.name).symlink_to(path.resolve())
        (Path(work) / "draft.toml").write_text(text, encoding="utf-8")
        (batch / "study.toml").write_text('[[visits]]\nname = "00_Ctrl"\nbaseline = true\n', encoding="utf-8")
        run_batch(make_plan(batch, str(Path(work) / "draft.toml")), results)
        modes = _rows(results / "modes.csv")
        n_cd4 = {row["file"]: row["n_cd4"] for row in _rows(results / "endpoint.csv")}
    return [{**row, "n_cd4": n_cd4[row["file"]]} for row in modes]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _template_files() -> list[Path]:
    root = Path(__file__).resolve().parent.parent.parent / "gating_templates"
    return sorted(root.glob(f"*/{TEMPLATE.split('@')[1]}.toml"))
