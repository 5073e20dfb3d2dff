"""The command line: parse, call, print, exit code. What is printed is made in `screen`.

Each module holds the commands of one subject on a Typer of its own; this one puts them together. A command imports the
rooms it needs when it is called, so that asking for help stays fast.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from tregflow.cli import file, run, template, verify
from tregflow.cli.options import print_error
from tregflow.errors import TregflowError
from tregflow.version import __version__

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Per-visit Treg percentages from FCS files, gated against a versioned template.",
    epilog="Exit codes: 0 all tubes evaluable; 1 at least one is not; 2 could not start; 3 internal error.",
)
for commands in (run.app, verify.app, file.app):  # in the order in which --help lists them
    app.add_typer(commands)
app.add_typer(template.app, name="template", help="Gating templates: from draft to release, and what they differ in.")


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Per-visit Treg percentages from FCS files, gated against a versioned template."""
    if version:
        typer.echo(f"tregflow {__version__}")
        raise typer.Exit


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
