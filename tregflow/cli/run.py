"""Commands on a batch: gate, check, place."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from tregflow.cli.options import BatchFolder, FailOn, Jobs, ManifestPath, TemplateName, TemplatesFolder, print_error

app = typer.Typer()


@app.command()
def gate(
    batch: BatchFolder,
    template: TemplateName = None,
    manifest: ManifestPath = None,
    out: Annotated[Path | None, typer.Option("--out", help="Results folder.  [default: results/<batch>]")] = None,
    jobs: Jobs = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run's results.")] = False,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="What makes the exit code 1.")] = FailOn.fail,
    templates: TemplatesFolder = None,
) -> None:
    """Gate every tube of a batch: tables, gates, report. A stopped run goes on where it stopped."""
    signal.signal(signal.SIGTERM, _stop)  # a shutdown stops a run as Ctrl-C does: workers end, the run can go on
    try:
        from tregflow.batch import make_plan, run_batch, sensible_jobs
        from tregflow.report import write_report
        from tregflow.screen.run import RunProgress, print_run

        plan = make_plan(batch, template, manifest, templates)
        results = out if out is not None else Path("results") / batch.resolve().name
        with RunProgress() as progress:
            result = run_batch(
                plan,
                results,
                jobs=jobs or sensible_jobs([plan.batch / row.file for row in plan.rows]),
                overwrite=overwrite,
                progress=progress,
                command=sys.argv[1:],
                render=write_report,
            )
    except KeyboardInterrupt:  # before Typer makes it a code of its own
        print_error("stopped; run the same command again and it goes on where it stopped")
        raise typer.Exit(3) from None
    print_run(result, plan)
    raise typer.Exit(result.exit_code(fail_on.value))


@app.command()
def check(
    batch: BatchFolder,
    template: TemplateName = None,
    manifest: ManifestPath = None,
    jobs: Jobs = None,
    templates: TemplatesFolder = None,
) -> None:
    """Everything short of gating: manifest, headers, panel, compensation. Writes nothing."""
    from tregflow.batch import check_batch, make_plan
    from tregflow.screen.place import print_check

    plan = make_plan(batch, template, manifest, templates)
    checks = check_batch(plan, jobs or os.cpu_count() or 1)
    print_check(checks, plan)
    raise typer.Exit(0 if all(c.ok for c in checks) else 1)


@app.command()
def place(
    batch: BatchFolder,
    template: TemplateName = None,
    manifest: ManifestPath = None,
    jobs: Jobs = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="HTML page to write, with each cut over the tubes.")
    ] = None,
    templates: TemplatesFolder = None,
) -> None:
    """Where each tube would put each cut, outliers first, without gating. Freezes nothing."""
    from tregflow.batch import make_plan, place_batch
    from tregflow.screen.place import print_placements, unopened_tubes

    if plot is not None and (plot.is_dir() or not plot.parent.is_dir()):
        raise typer.BadParameter(
            f"{plot} cannot be written: name a file in a folder that is there", param_hint="--plot"
        )
    plan = make_plan(batch, template, manifest, templates)
    rows = place_batch(plan, min(jobs or os.cpu_count() or 1, len(plan.rows)))
    if plot is not None:
        from tregflow.atomic import write_atomic
        from tregflow.drawing import draft_mark
        from tregflow.plots import figure_page, plot_placements

        title = f"Cuts of {batch.resolve().name} by {plan.template.name}"
        figure = plot_placements(rows, title=title, mark=draft_mark(plan.template.status))
        write_atomic(plot, figure_page(figure, title).encode())
    print_placements(rows, plan, plot)
    placed = all(row.cut is not None for row in rows) and not unopened_tubes(rows, plan)
    raise typer.Exit(0 if placed else 1)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
