"""Commands on files: inspect one, simulate a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="An FCS file.", show_default=False)],
    dataset: Annotated[int, typer.Option("--dataset", min=1, help="Which data set of the file, from 1.")] = 1,
    keywords: Annotated[bool, typer.Option("--keywords", help="Print every keyword too.")] = False,
) -> None:
    """What an FCS file says of itself: version, events, channels, spillover, defects."""
    from tregflow.fcs import read_text
    from tregflow.screen.file import print_file

    print_file(read_text(file, dataset=dataset - 1), keywords=keywords)


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
