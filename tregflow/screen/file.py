"""What a person sees of an FCS file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from tregflow.compensation import spillover_from_keywords
from tregflow.errors import TregflowError
from tregflow.screen.console import open_console

if TYPE_CHECKING:
    from tregflow.fcs import FcsText


def print_file(text: FcsText, *, keywords: bool) -> None:
    """An FCS file's own account of itself."""
    console = open_console()
    which = f", data set {text.dataset + 1} of {text.n_datasets}" if text.n_datasets > 1 else ""
    console.print(f"[bold]{escape(text.path.name)}[/]  {text.version}{which}, {text.n_events:,} events", soft_wrap=True)
    known = {k: text.keywords.get(k, "").strip() for k in ("$CYT", "$CYTSN", "$DATE", "$BTIM", "$ETIM", "$DATATYPE")}
    console.print(escape(", ".join(f"{k} {v}" for k, v in known.items() if v)), soft_wrap=True)
    table = Table()
    for name in ("n", "$PnN", "$PnS", "bits", "range", "amplification", "gain"):
        table.add_column(name, justify="right" if name in {"n", "bits", "range", "gain"} else "left")
    for p in text.parameters:
        amplification = "linear" if p.log_amp is None else f"log {p.log_amp[0]:g}, {p.log_amp[1]:g}"
        cells = (str(p.index + 1), p.pnn, p.pns, str(p.bits), f"{p.range:g}", amplification, f"{p.gain:g}")
        table.add_row(*(escape(c) for c in cells))
    console.print(table)
    console.print(escape(_spillover_line(text)), soft_wrap=True)
    for finding in text.findings:
        console.print(escape(f"{finding.severity}: {finding.code}: {finding.message}"), soft_wrap=True)
    if keywords:
        for key, value in text.keywords.items():
            console.print(escape(f"{key} = {value}"), soft_wrap=True)


def _spillover_line(text: FcsText) -> str:
    try:
        spillover, _ = spillover_from_keywords(text.keywords, [p.pnn for p in text.parameters])
    except TregflowError as error:
        return f"spillover: {error}"
    if spillover is None:
        return "spillover: none"
    kind = "identity" if spillover.is_identity else f"condition number {spillover.condition_number:.3g}"
    return f"spillover: {spillover.source}, {len(spillover.channels)} channels, {kind}"
