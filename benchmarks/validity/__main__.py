"""Run the validation study and write its tables.

    python -m benchmarks.validity                  # the report: about half an hour on two cores
    python -m benchmarks.validity --seeds tuning --out /some/folder
    python -m benchmarks.validity --small          # a few seconds, prints only

Run it from the root of the repository.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.pages import write_block
from benchmarks.validity import tables
from benchmarks.validity.drawing import draw_change
from benchmarks.validity.page import page, summary
from benchmarks.validity.study import BEFORE, HERE, OURS, read_rows, run_small, run_study, write_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", choices=("reporting", "tuning"), default="reporting")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--small", action="store_true", help="seven small subjects of the tuning seeds; writes nothing")
    parser.add_argument("--out", type=Path, help="folder for all tables and the page instead of their places here")
    parser.add_argument(
        "--rows", type=Path, help="CSV of all rows: written, or read instead of a run where it is there"
    )
    options = parser.parse_args()
    if options.seeds == "tuning" and options.out is None and not options.small:
        parser.error("what is reported comes from the reporting seeds: give --out for a run on the tuning seeds")
    start = time.perf_counter()
    if options.rows is not None and options.rows.is_file():
        result = read_rows(options.rows, options.seeds)
    else:
        result = run_small() if options.small else run_study(options.seeds, jobs=options.jobs)
        if options.rows is not None:
            write_rows(options.rows, result)
    found = tables.sheets(result)
    for method in (OURS, BEFORE):
        print(f"\n{method}")
        for aim in (*tables.aims(found, method), *tables.reported(found, method)):
            verdict = aim.verdict if aim.met or not aim.judged else f"MISSED by {aim.missed_by}"
            print(f"  {verdict:<24} {aim.name} ({aim.limit}): {aim.found}")
    if not options.small:
        results = options.out or HERE / "results"
        results.mkdir(parents=True, exist_ok=True)
        for name in ("methods", "levels", "change", "aims"):
            table = getattr(tables, f"{name}_table")(found)
            (results / f"{name}.csv").write_text(tables.as_csv(table), encoding="utf-8", newline="")
        docs = options.out or HERE.parent.parent / "docs"
        docs.mkdir(exist_ok=True)
        text = page(result, found, options.seeds)
        (docs / "validity.md").write_text(text, encoding="utf-8", newline="")
        (docs / "placement-change.svg").write_text(draw_change(found), encoding="utf-8", newline="")
        if options.out is None:
            write_block(docs / "placement.md", "study", summary(found))
    print(f"\n{len(result.rows)} rows in {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
