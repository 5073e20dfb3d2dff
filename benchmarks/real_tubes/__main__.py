"""Place gates on recorded tubes by rule, print what came out, and write it into `docs/placement.md`.

    python -m benchmarks.real_tubes                       # data in ../shared/data or $TREGFLOW_REAL_DATA
    python -m benchmarks.real_tubes --data FOLDER --print # prints only

The tubes are public recordings that are not part of the project; without them there is nothing to run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.pages import as_markdown, write_block
from benchmarks.real_tubes.aurora import (
    MARKERS,
    OWN_CELLS,
    RULES,
    TEMPLATE,
    K,
    RuleResult,
    Tube,
    cd127,
    read_tubes,
    run_modes,
    run_rules,
)
from benchmarks.real_tubes.drawings import draw_cut, draw_cuts
from benchmarks.real_tubes.manual import compare_diva, compare_flowsom
from tregflow.template.registry import load_template

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
RELEASED_RULE = "median + 4 robust SD (the template)"
MODES = ("tube", "fixed", "subject", "batch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("TREGFLOW_REAL_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="folder with the recorded tubes")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the tables and write nothing")
    options = parser.parse_args()
    folder = options.data / "treg_foxp3_aurora"
    if not folder.is_dir():
        parser.error(f"the recorded tubes are not here: no folder {folder.name} in the folder of --data")
    tubes = read_tubes(folder)
    results = run_rules(tubes)
    blocks = {
        "real cuts": cuts_table(tubes, results),
        "real modes": modes_table(folder, results),
        "real cd127": cd127_table(tubes, results),
        "real manual": manual_table(options.data),
    }
    for name, table in blocks.items():
        print(f"\n{name}\n\n{table}")
    if options.only_print:
        return
    for name, table in blocks.items():
        write_block(DOCS / "placement.md", name, table)
    template = load_template(TEMPLATE).template
    transforms = {marker: transform for marker in MARKERS if (transform := template.transform(marker)) is not None}
    pictures = {
        "placement-cut.svg": draw_cut(tubes[0], released(results), 0, transforms),
        "placement-cuts.svg": draw_cuts(results, transforms),
    }
    for name, text in pictures.items():
        (DOCS / name).write_text(text, encoding="utf-8", newline="")


def released(results: Sequence[RuleResult]) -> RuleResult:
    """The result of the released template's rule."""
    return next(r for r in results if r.rule == RELEASED_RULE)


def cuts_table(tubes: Sequence[Tube], results: Sequence[RuleResult]) -> str:
    """Cuts, their standard error and spread over the tubes, and the percentages."""
    rows = []
    for result in results:
        cells = [result.rule]
        for at in range(2):
            cuts, errors = result.cuts[:, at], result.errors[:, at]
            if np.isnan(cuts).any():
                cells += [f"none on {int(np.isnan(cuts).sum())} of {len(cuts)}", ""]
                continue
            cells += [f"{cuts.min():,.0f}-{cuts.max():,.0f} (± {np.median(errors):,.0f})"]
            cells += [f"{100 * cuts.std(ddof=1) / cuts.mean():.0f} %"]
        cells += [" ".join("-" if np.isnan(v) else f"{v:.2f}" for v in each) for each in (result.of_cd4, result.of_t)]
        rows.append(tuple(cells))
    header = ("rule", "CD25 cut", "CV", "FOXP3 cut", "CV", "Treg % of CD4+", "Treg % of T cells")
    order = ", ".join(tube.name for tube in tubes)
    note = (
        f"Cuts in scale values, lowest to highest over the six tubes (± median standard error); CV over the tubes. "
        f"Percentages in the order {order}. {len(RULES) + 1} rules; `{OWN_CELLS}` looks at the cells that are counted, "
        "all others at the CD3+CD4- T cells of the same tube. There is no FMO tube in this set, so `fmo_quantile` is "
        "not in the table."
    )
    return f"{as_markdown(header, rows)}\n\n{note}"


def modes_table(folder: Path, results: Sequence[RuleResult]) -> str:
    """Treg of T cells and of CD4+ cells under each mode."""
    template = load_template(TEMPLATE).template
    fixed = []
    for at, marker in enumerate(MARKERS):
        transform = template.transform(marker)
        middle = np.median(released(results).cuts[:, at])
        fixed.append(float(transform(np.array([middle]))[0]) if transform is not None else float(middle))
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in run_modes(folder, (fixed[0], fixed[1])):
        n, of_cd4 = int(row["n_numerator"]), 100 * int(row["n_numerator"]) / int(row["n_cd4"])
        tube = (row["subject_id"], row["visit"].removeprefix("00_"))
        found.setdefault(tube, {})[row["mode"]] = f"{float(row['endpoint_pct']):.2f} / {of_cd4:.2f} ({n})"
    rows = [(*tube, *(modes.get(mode, "") for mode in MODES)) for tube, modes in sorted(found.items())]
    header = ("infant", "tube", "each tube its own", "fixed template values", "subject's baseline", "batch")
    note = (
        f"Treg % of T cells / % of CD4+ (events). Fixed values: the median of the six tubes' own cuts at {K:g} robust "
        "SD. Baseline: the Ctrl tube. Batch: the median of the six, on internal negatives, since there is no FMO tube."
    )
    return f"{as_markdown(header, rows)}\n\n{note}"


def cd127_table(tubes: Sequence[Tube], results: Sequence[RuleResult]) -> str:
    """CD127 inside, just outside and elsewhere."""
    rows = [
        (c.tube, f"{c.inside:,.0f}", f"{c.just_outside:,.0f}", str(c.n_just_outside), f"{c.others:,.0f}")
        for c in cd127(tubes, released(results))
    ]
    header = ("tube", "in the gate", "just outside", "cells just outside", "other CD4+")
    note = (
        "Median CD127, scale values. Just outside: not in the gate, but in it with both cuts one robust SD lower. "
        "These are few cells, so their medians wander."
    )
    return f"{as_markdown(header, rows)}\n\n{note}"


def manual_table(data: Path) -> str:
    """By rule beside by hand."""
    found = [*compare_flowsom(data / "flowsom_68983"), *compare_diva(data / "diva_124500")]
    rows = [
        (c.tube, c.population, f"{c.by_hand:,}", f"{c.by_rule:,}", f"{c.difference:+.2f}") for c in found
    ]  # fmt: skip
    return as_markdown(("tube", "population", "by hand", "by rule", "difference, points of all events"), rows)


if __name__ == "__main__":
    main()
