"""The command line: parse, call, print, exit code. What is printed is made in `screen`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tregflow.errors import TregflowError
from tregflow.version import __version__

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Per-visit Treg percentages from FCS files, gated against a versioned template.",
    epilog="Exit codes: 0 all tubes evaluable; 1 at least one is not; 2 could not start; 3 internal error.",
)
templates = typer.Typer(no_args_is_help=True, help="Gating templates: list, show, validate.")
app.add_typer(templates, name="template")


class FailOn(StrEnum):
    """What makes the exit code 1."""

    fail = "fail"
    review = "review"


BatchFolder = Annotated[Path, typer.Argument(help="Folder of FCS files.", show_default=False)]
TemplateName = Annotated[
    str | None,
    typer.Option("--template", help="ID@VERSION, or a path ending in .toml.  [default: the one study.toml pins]"),
]
ManifestPath = Annotated[
    Path | None, typer.Option("--manifest", help="Manifest to use.  [default: manifest.csv or .xlsx in the folder]")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Worker processes.  [default: one per core where it pays]")
]


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Per-visit Treg percentages from FCS files, gated against a versioned template."""
    if version:
        typer.echo(f"tregflow {__version__}")
        raise typer.Exit


@app.command()
def gate(
    batch: BatchFolder,
    template: TemplateName = None,
    manifest: ManifestPath = None,
    out: Annotated[Path | None, typer.Option("--out", help="Results folder.  [default: results/<batch>]")] = None,
    jobs: Jobs = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run's results.")] = False,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="What makes the exit code 1.")] = FailOn.fail,
) -> None:
    """Gate every tube of a batch: tables, gates, report. A stopped run goes on where it stopped."""
    signal.signal(signal.SIGTERM, _stop)  # a shutdown stops a run as Ctrl-C does: workers end, the run can go on
    try:
        from tregflow.batch import make_plan, run_batch, sensible_jobs
        from tregflow.report import write_report
        from tregflow.screen import RunProgress, print_run

        plan = make_plan(batch, template, manifest)
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
def check(batch: BatchFolder, template: TemplateName = None, manifest: ManifestPath = None, jobs: Jobs = None) -> None:
    """Everything short of gating: manifest, headers, panel, compensation. Writes nothing."""
    from tregflow.batch import check_batch, make_plan
    from tregflow.screen import print_check

    plan = make_plan(batch, template, manifest)
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
) -> None:
    """Where each tube would put each cut, outliers first, without gating. Freezes nothing."""
    from tregflow.batch import make_plan, place_batch
    from tregflow.screen import print_placements, unopened_tubes

    if plot is not None and (plot.is_dir() or not plot.parent.is_dir()):
        raise typer.BadParameter(
            f"{plot} cannot be written: name a file in a folder that is there", param_hint="--plot"
        )
    plan = make_plan(batch, template, manifest)
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


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="An FCS file.", show_default=False)],
    dataset: Annotated[int, typer.Option("--dataset", min=1, help="Which data set of the file, from 1.")] = 1,
    keywords: Annotated[bool, typer.Option("--keywords", help="Print every keyword too.")] = False,
) -> None:
    """What an FCS file says of itself: version, events, channels, spillover, defects."""
    from tregflow.fcs import read_text
    from tregflow.screen import print_file

    print_file(read_text(file, dataset=dataset - 1), keywords=keywords)


@templates.command("list")
def list_all() -> None:
    """The templates there are."""
    from tregflow.screen import print_templates
    from tregflow.template.registry import list_templates, load_template

    print_templates([load_template(name) for name in list_templates()])


@templates.command()
def show(name: Annotated[str, typer.Argument(help="ID@VERSION, or a path ending in .toml.")]) -> None:
    """The tree of gates, with rules, transforms and limits."""
    from tregflow.screen import print_template
    from tregflow.template.registry import load_template

    print_template(load_template(name))


@templates.command()
def validate(name: Annotated[str, typer.Argument(help="ID@VERSION, or a path ending in .toml.")]) -> None:
    """Check a template; every problem is listed in one pass."""
    from tregflow.template.registry import load_template

    loaded = load_template(name)
    typer.echo(f"{loaded.name} is valid ({loaded.status}); content SHA-256 {loaded.sha256}")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)],
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Another batch.  [default: that of sample_fcs]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Simulate a batch with known truth; without --seed, exactly the one in sample_fcs."""
    from tregflow.simulate import SAMPLE_SEED, simulate_batch

    truth = simulate_batch(out, seed=SAMPLE_SEED if seed is None else seed, overwrite=overwrite)
    typer.echo(f"{len(truth)} simulated tubes in {out}; their true counts are in {out / 'truth.csv'}")


def main() -> None:
    """Run the command line; every way out has one of the four exit codes."""
    try:
        app()
    except TregflowError as error:
        print_error(str(error))
        sys.exit(2)
    except Exception:  # noqa: BLE001 - the last place to give an unexpected error its exit code
        print_error("INTERNAL: unexpected error; results are incomplete. Please report this with what follows.")
        traceback.print_exc()
        sys.exit(3)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def print_error(text: str) -> None:
    """One error, on standard error."""
    typer.echo(f"tregflow: {text}", err=True)


if __name__ == "__main__":
    main()
