"""Commands that check: verify a results folder, test an installation."""

from __future__ import annotations

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
        certificate = verify_results(results, batch=batch, jobs=jobs, progress=progress.tube)
    page, _ = write_certificate(certificate, out if out is not None else results / "verify")
    print_certificate(certificate, page)
    raise typer.Exit(certificate.exit_code)


@app.command()
def selftest(
    out: Annotated[Path, typer.Option("--out", help="Folder for the installation record.")] = Path("selftest"),
    batch: Annotated[
        Path | None, typer.Option("--batch", help="The folder sample_fcs.  [default: simulate it]")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Worker processes.")] = 1,
) -> None:
    """Test this installation against known answers, and write a record for the laboratory's file."""
    from tregflow.screen.verify import SelftestProgress, print_installation
    from tregflow.selftest import run_selftest, write_installation

    with SelftestProgress() as progress:
        installation = run_selftest(batch=batch, jobs=jobs, progress=progress.said)
    page, _ = write_installation(installation, out)
    print_installation(installation, page)
    raise typer.Exit(installation.exit_code)
