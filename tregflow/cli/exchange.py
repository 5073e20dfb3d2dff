"""Commands that exchange gates with other programs; `import` is a command of `template`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tregflow.cli import template

app = typer.Typer()

Workspace = Annotated[Path, typer.Argument(help="FlowJo workspace (.wsp).", show_default=False)]


@template.app.command("import")
def import_template(
    file: Annotated[
        Path, typer.Argument(help="Gating-ML 2.0 document (.xml) or FlowJo workspace (.wsp).", show_default=False)
    ],
    numerator: Annotated[str | None, typer.Option("--numerator", help="Population that the endpoint counts.")] = None,
    denominator: Annotated[str | None, typer.Option("--denominator", help="Population it is a percentage of.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Group of a workspace.  [default: the only one with samples]")
    ] = None,
    sample: Annotated[
        str | None, typer.Option("--sample", help="Sample whose gates are taken, where the group has none of its own.")
    ] = None,
    tube: Annotated[
        Path | None, typer.Option("--tube", help="FCS file: names the markers, and is counted under both trees.")
    ] = None,
    template_id: Annotated[str | None, typer.Option("--id", help="Id of the draft.  [default: from FILE]")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Draft to write.  [default: standard output]")] = None,
) -> None:
    """A draft template from another program's gates, with what was assumed and what cannot be carried.

    Without --numerator and --denominator nothing is written: the populations to choose from are listed.
    """
    from tregflow.exchange.draft import make_draft, survey
    from tregflow.exchange.importing import check_out, default_id, prove, read_foreign, write_draft
    from tregflow.screen.exchange import print_draft, print_populations

    foreign = read_foreign(file, group=group, sample=sample, tube=tube)
    if numerator is None or denominator is None:
        print_populations(foreign, survey(foreign.tree))
        raise typer.Exit(2)
    check_out(out)
    draft = make_draft(foreign.tree, template_id or default_id(file), numerator, denominator)
    proofs = prove(draft, foreign, tube) if tube is not None else ()
    written = () if out is None else write_draft(draft, out)
    print_draft(draft, foreign, proofs, tube, written)
    if out is None:
        typer.echo(draft.text, nl=False)
    raise typer.Exit(1 if any(p.n_foreign != p.n_draft for p in proofs) else 0)


@app.command()
def concordance(
    workspace: Workspace,
    folder: Annotated[Path, typer.Argument(help="Folder of its FCS files.", show_default=False)],
    tolerance: Annotated[
        int, typer.Option("--tolerance", min=0, help="Events that may differ from FlowJo without an explanation.")
    ] = 10,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the table and the page.  [default: concordance]")
    ] = None,
) -> None:
    """FlowJo's own counts, FlowKit's and ours of every population of a workspace.

    Differences that FlowJo's bins explain are told from those that nothing explains. Exit code 1 where one of these is
    over the tolerance, or a sample could not be compared.
    """
    from tregflow.exchange.concordance import compare_workspace, write_concordance
    from tregflow.report.concordance import concordance_page
    from tregflow.screen.exchange import print_concordance

    found = compare_workspace(workspace, folder, tolerance=tolerance)
    written = write_concordance(found, out or Path("concordance"), concordance_page(found))
    print_concordance(found, written)
    raise typer.Exit(0 if found.agrees else 1)


@app.command()
def export(
    results: Annotated[Path, typer.Argument(help="Results folder.", show_default=False)],
    wsp: Annotated[Path, typer.Option("--wsp", help="FlowJo workspace to write.", show_default=False)],
    batch: Annotated[
        Path | None, typer.Option("--batch", help="Folder of the FCS files.  [default: the one that was gated]")
    ] = None,
) -> None:
    """A results folder as a FlowJo workspace, kept only if its gates give the run's counts again."""
    from tregflow.exchange.export import export_workspace
    from tregflow.exchange.importing import check_out
    from tregflow.screen.exchange import print_export

    check_out(wsp)
    print_export(export_workspace(results, wsp, batch))
