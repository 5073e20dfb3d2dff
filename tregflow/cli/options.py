"""Options that several commands have, and what is printed when something is wrong."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class FailOn(StrEnum):
    """What makes the exit code 1."""

    fail = "fail"
    review = "review"


BatchFolder = Annotated[Path, typer.Argument(help="Folder of FCS files.", show_default=False)]
TemplateName = Annotated[
    str | None,
    typer.Option("--template", help="ID@VERSION, or a path ending in .toml.  [default: the one study.toml pins]"),
]
TemplatesFolder = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        help="The laboratory's own templates.  [default: the nearest gating_templates/ in the folder or above it]",
    ),
]
ManifestPath = Annotated[
    Path | None, typer.Option("--manifest", help="Manifest to use.  [default: manifest.csv or .xlsx in the folder]")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Worker processes.  [default: one per core where it pays]")
]


def print_error(text: str) -> None:
    """One error, on standard error."""
    typer.echo(f"tregflow: {text}", err=True)
