"""Commands that check: verify a results folder, test an installation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tregflow.cli.options import Jobs

app = typer.Typer()


@app.command()
def verify(
    results: Annotated[Path, typer.Argument(help="Results folder that `tregflow gate` wrote.", show_default=False)],
    batch: Annotated[
        Path | None, typer.Option("--batch", help="Folder of the FCS files.  [default: where they were]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the certificate.  [default: RESULTS/verify]")
    ] = None,
    jobs: Jobs = None,
) -> None:
    """A second opinion on a results folder, with a certificate: FlowKit gates again, other readers read again."""
    from tregflow.screen.verify import VerifyProgress, print_certificate
    from tregflow.verify import verify_results, write_certificate

    with VerifyProgress() as progress:
        certificate = verify_results(results, batch=batch, jobs=jobs or os.cpu_count() or 1, progress=progress.tube)
    page, _ = write_certificate(certificate, out if out is not None else results / "verify")
    print_certificate(certificate, page)
    raise typer.Exit(certificate.exit_code)
