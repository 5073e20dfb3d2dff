"""Commands on gating templates: what there is, the life of a template, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tregflow.cli.options import Jobs, TemplatesFolder

if TYPE_CHECKING:
    from tregflow.template.diff import TemplateDiff
    from tregflow.template.registry import LoadedTemplate

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="ID@VERSION, or a path ending in .toml.")]
Release = Annotated[str, typer.Argument(help="ID@VERSION of a release.")]


class Moves(StrEnum):
    """Which part of the version a draft is to move."""

    major = "major"
    minor = "minor"
    patch = "patch"


@app.command("list")
def list_all(templates: TemplatesFolder = None) -> None:
    """The templates there are, shipped and the laboratory's own, with their status."""
    from tregflow.errors import TregflowError
    from tregflow.screen.template import print_templates
    from tregflow.template.registry import list_templates, load_template

    own = _own(templates)
    found: list[tuple[str, LoadedTemplate | TregflowError]] = []
    for name in list_templates(own=own):
        try:
            found.append((name, load_template(name, own=own)))
        except TregflowError as error:  # one that cannot be used hides no other
            found.append((name, error))
    print_templates(found)


@app.command()
def show(
    name: Name,
    on: Annotated[Path | None, typer.Option("--on", help="An FCS file to gate: counts and percentages.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="HTML page to write, with the gates drawn on that tube.")
    ] = None,
    templates: TemplatesFolder = None,
) -> None:
    """The tree of gates, with rules, transforms and limits; on a tube, with counts and a picture."""
    from tregflow.screen.template import print_template
    from tregflow.template.registry import load_template

    if plot is not None and on is None:
        raise typer.BadParameter("a picture needs a tube: give one with --on", param_hint="--plot")
    if plot is not None:
        _check_writable(plot, "--plot")
    loaded = load_template(name, own=_own(templates))
    if on is None:
        print_template(loaded)
        return
    from tregflow.batch.shown import shown_record

    record = shown_record(on, loaded)
    if plot is not None:
        from tregflow.atomic import write_atomic
        from tregflow.report.shown import shown_page

        write_atomic(plot, shown_page(record).encode())
    print_template(loaded, record, plot)


@app.command()
def validate(name: Name, templates: TemplatesFolder = None) -> None:
    """Check a template; every problem is listed in one pass, with its line and key."""
    from tregflow.template.registry import load_template

    loaded = load_template(name, own=_own(templates))
    typer.echo(f"{loaded.name} is valid ({loaded.status}); content SHA-256 {loaded.sha256}")


@app.command()
def new(
    template_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the template.  [default: that of --from]")
    ] = None,
    came_from: Annotated[
        str | None,
        typer.Option("--from", help="ID@VERSION or path to begin from.  [default: blank, every key explained]"),
    ] = None,
    part: Annotated[
        Moves, typer.Option("--part", help="Which part of the highest release it will move.")
    ] = Moves.minor,
    templates: TemplatesFolder = None,
) -> None:
    """A new draft, from a template that is there or blank, in the laboratory's own folder."""
    from tregflow.lifecycle import new_template
    from tregflow.screen.template import from_here

    if template_id is None and came_from is None:
        raise typer.BadParameter("give an ID, or a template to begin from with --from", param_hint="ID")
    path = from_here(new_template(_working(templates), template_id, came_from=came_from, part=part.value))
    typer.echo(f"{path}\nA draft: it runs, and everything it makes says DRAFT. Edit it, then validate it:")
    typer.echo(f"tregflow template validate {path}")


@app.command()
def release(
    name: Annotated[str, typer.Argument(help="ID@VERSION of a draft, or its path.")],
    version: Annotated[
        str | None, typer.Option("--version", help="What it is released as.  [default: the draft's, without -draft.N]")
    ] = None,
    templates: TemplatesFolder = None,
) -> None:
    """Release a draft: its content is fixed, its hash goes into the registry and the ledger."""
    from tregflow.lifecycle import release_template
    from tregflow.screen.template import print_release

    print_release(release_template(_working(templates), name, version=version))


@app.command()
def retire(
    name: Release,
    reason: Annotated[str, typer.Option("--reason", help="Why, or what replaced it.")] = "",
    templates: TemplatesFolder = None,
) -> None:
    """Mark a release as replaced; runs with it say so."""
    from tregflow.lifecycle import retire_template
    from tregflow.screen.template import print_marked

    print_marked(retire_template(_working(templates), name, reason=reason))


@app.command()
def flag(
    name: Release,
    reason: Annotated[str, typer.Option("--reason", help="What is wrong with it; every run and report gives it.")],
    templates: TemplatesFolder = None,
) -> None:
    """Mark a release as faulty; every run and report with it warns."""
    from tregflow.lifecycle import flag_template
    from tregflow.screen.template import print_marked

    print_marked(flag_template(_working(templates), name, reason=reason))


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="ID@VERSION or path: what there is.")],
    after: Annotated[str, typer.Argument(help="ID@VERSION or path: what it is to become.")],
    on: Annotated[list[Path] | None, typer.Option("--on", help="Batch to gate under both; may be repeated.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for --on.  [default: results/change-<before>-<after>]")
    ] = None,
    baseline: Annotated[
        list[str] | None, typer.Option("--baseline", help="Baseline visit.  [default: those that study.toml names]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
    jobs: Jobs = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run's results.")] = False,
    templates: TemplatesFolder = None,
) -> None:
    """What two templates differ in, and the version that it demands; with --on, what it does to the numbers."""
    from tregflow.template.diff import diff_templates
    from tregflow.template.registry import load_template

    own = _own(templates)
    one, other = load_template(before, own=own), load_template(after, own=own)
    found = diff_templates(one.template, other.template)
    if as_json:
        _print_json(one, other, found)
    else:
        from tregflow.screen.template import print_diff

        print_diff(one, other, found)
    if on:
        folder = out or Path("results") / f"change-{one.name}-{other.name}"
        _compare(on, (one, other), (before, after), found, folder, own, baseline or (), jobs, overwrite=overwrite)


def _print_json(one: LoadedTemplate, other: LoadedTemplate, found: TemplateDiff) -> None:
    import json

    sides = {
        key: {"name": side.name, "sha256": side.sha256, "status": side.status}
        for key, side in (("before", one), ("after", other))
    }
    typer.echo(json.dumps(sides | found.to_json(), indent=1, ensure_ascii=False))


def _compare(
    batches: list[Path],
    sides: tuple[LoadedTemplate, LoadedTemplate],
    names: tuple[str, str],
    found: TemplateDiff,
    out: Path,
    own: Path | None,
    baseline: Sequence[str],
    jobs: int | None,
    *,
    overwrite: bool,
) -> None:
    """Gate batches under both templates, write the page, print the effect; exit 3 where it is incomplete."""
    from tregflow.batch.effect import gate_under_both
    from tregflow.report import write_report
    from tregflow.report.change import Change, write_change
    from tregflow.screen.change import print_effect
    from tregflow.screen.run import RunProgress

    with RunProgress() as progress:
        effect = gate_under_both(
            batches, sides, names, out, own=own, baseline=baseline, jobs=jobs, overwrite=overwrite,
            progress=progress, render=write_report,
        )  # fmt: skip
    page = write_change(Change(*sides, found, effect.tubes, effect.changes, effect.baseline), out)
    print_effect(effect, page)
    raise typer.Exit(3 if effect.incomplete else 0)


def _own(templates: Path | None) -> Path | None:
    """The laboratory's own templates, as a run finds them, looked for from here."""
    from tregflow.lifecycle import check_folder
    from tregflow.template.registry import find_templates

    own = find_templates(Path.cwd()) if templates is None else templates
    if own is not None:
        check_folder(own)
    return own


def _working(templates: Path | None) -> Path:
    """The folder to write in: beside the study file where there is one."""
    from tregflow.lifecycle import working_folder
    from tregflow.study import find_study

    study = find_study(Path.cwd())
    return working_folder(templates, Path.cwd(), None if study is None else study.parent)


def _check_writable(path: Path, option: str) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise typer.BadParameter(f"{path} cannot be written: name a file in a folder that is there", param_hint=option)
