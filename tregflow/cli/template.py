"""Commands on gating templates."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_all() -> None:
    """The templates there are."""
    from tregflow.screen.template import print_templates
    from tregflow.template.registry import list_templates, load_template

    print_templates([load_template(name) for name in list_templates()])


@app.command()
def show(name: Annotated[str, typer.Argument(help="ID@VERSION, or a path ending in .toml.")]) -> None:
    """The tree of gates, with rules, transforms and limits."""
    from tregflow.screen.template import print_template
    from tregflow.template.registry import load_template

    print_template(load_template(name))


@app.command()
def validate(name: Annotated[str, typer.Argument(help="ID@VERSION, or a path ending in .toml.")]) -> None:
    """Check a template; every problem is listed in one pass."""
    from tregflow.template.registry import load_template

    loaded = load_template(name)
    typer.echo(f"{loaded.name} is valid ({loaded.status}); content SHA-256 {loaded.sha256}")
