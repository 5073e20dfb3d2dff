"""What a person sees of gates from and for other programs."""

from __future__ import annotations

from posixpath import commonpath
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tregflow.exchange.draft import compensation_words
from tregflow.screen.console import Column, fill, number, open_console, print_wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from tregflow.exchange.concordance import Concordance, PopulationCounts
    from tregflow.exchange.draft import Draft, GateFate
    from tregflow.exchange.export import Exported
    from tregflow.exchange.importing import Foreign, Proof

_WORDS = {
    "equal": "equal",
    "bins": "explained by FlowJo's bins",
    "small": "unexplained, within the tolerance",
    "unexplained": "unexplained, over the tolerance",
    "no_count": "not counted by FlowJo",
}
_SHORT = {"bins": "bins", "small": "small", "unexplained": "unexplained"}
_COLOURS = {"equal": "", "bins": "dim", "small": "yellow", "unexplained": "red", "no_count": "dim"}
_MOST = 40  # lines of one list


def print_populations(foreign: Foreign, fates: Sequence[GateFate]) -> None:
    """The populations to choose the endpoint from, and what would become of each."""
    console = open_console(stderr=True)
    _print_gates(console, f"Gates of {foreign.tree.source}", fates)
    _print_axes(console, fates)
    _print_differences(console, foreign)
    print_wrapped(
        console,
        "\nNothing is written yet: say with --numerator and --denominator which populations the endpoint is made of.",
        0,
    )


def print_draft(
    draft: Draft, foreign: Foreign, proofs: Sequence[Proof], tube: Path | None, written: Sequence[Path]
) -> None:
    """What became of each gate and axis, what was assumed, who differs, the proof on a tube, and where the draft is."""
    console = open_console(stderr=True)
    _print_gates(console, f"Gates of {foreign.tree.source}", draft.fates)
    _print_axes(console, draft.fates)
    _print_differences(console, foreign)
    table = _table("Assumed; look at each before the draft is released")
    table.add_column("what")
    table.add_column("how")
    for what, how in draft.assumed:
        table.add_row(escape(what), escape(how))
    console.print(table)
    if tube is not None:
        _print_proofs(console, proofs, tube)
    for path in written:
        console.print(f"Written  {escape(str(path))}", soft_wrap=True)
    if written:
        print_wrapped(
            console,
            f"A draft: it runs, and everything it makes says DRAFT. Next: tregflow template show {written[0]}",
            0,
        )


def print_concordance(found: Concordance, written: Sequence[Path]) -> None:
    """Populations that are not equal, the sum, what could not be compared, and where the tables are."""
    console = open_console()
    odd = [row for row in found.rows if row.verdict != "equal"]
    order = ("unexplained", "small", "bins")
    odd = sorted(
        (r for r in odd if r.verdict != "no_count"), key=lambda r: (order.index(r.verdict), -(r.unexplained or 0))
    )
    shown = odd[:_MOST]
    if shown:
        title = f"{found.workspace} (FlowJo {found.flowjo_version}): counts that are not simply equal"
        table = _table(title)
        spare = ("% FlowJo", "% tregflow", "by bins")
        columns = _concordance_columns(shown, engines=bool(found.engines_apart))
        fill(table, columns, console.width, spare, [_COLOURS[r.verdict] for r in shown])
        console.print(table)
        if len(odd) > len(shown):
            console.print(f"and {len(odd) - len(shown)} more, see the table\n")
    console.print(f"{len(found.rows)} populations of {len({r.sample for r in found.rows})} samples:")
    for verdict in ("equal", "bins", "small", "unexplained", "no_count"):
        if n := found.n(verdict):
            text = f"{n:>5}  {_WORDS[verdict]}"
            if verdict in {"small", "unexplained"}:
                worst = max(r.unexplained or 0 for r in found.rows if r.verdict == verdict)
                text += f" (tolerance {found.tolerance} events, largest {worst})"
            console.print(f"[{_COLOURS[verdict]}]{text}[/]" if _COLOURS[verdict] else text)
    _print_engines(console, found)
    for problem in found.problems:
        print_wrapped(console, f"[red]not compared:[/] {escape(problem)}", 0)
    console.print()
    for path in written:
        console.print(f"Written  {escape(str(path))}", soft_wrap=True)
    console.print(verdict_words(found), style="" if found.agrees else "red", soft_wrap=True)


def verdict_words(found: Concordance) -> str:
    """The outcome in one sentence."""
    if found.agrees:
        return "Concordant: every count is FlowJo's, or its difference is explained or within the tolerance."
    if not any(row.n_flowjo is not None for row in found.rows):
        return "Not shown: the workspace holds no counts of FlowJo. Open it in FlowJo and save it."
    if found.n("unexplained"):
        n = found.n("unexplained")
        return f"Not concordant: {n} counts differ from FlowJo's by more than {found.tolerance} events, unexplained."
    if found.problems:
        return "Not shown: a sample could not be compared."
    return "Not concordant: FlowKit and tregflow count differently."


def print_export(exported: Exported) -> None:
    """What was written, and what was checked."""
    console = open_console()
    text = f"{exported.n_populations} populations of {exported.n_tubes} tubes"
    if exported.n_controls:
        text += f" ({exported.n_controls} control tubes have no gates and are left out)"
    print_wrapped(
        console, f"{text}. Checked: read again by FlowKit and by tregflow, every population has the run's count.", 0
    )
    if exported.ellipses:
        n, most = len(exported.ellipses), max(exported.ellipses.values())
        print_wrapped(console, f"{n} ellipses are polygons there, of up to {most} vertices, with the same events.", 0)
    print_wrapped(
        console,
        "Not checked: FlowJo itself. It counts polygons on 256 bins, and may show a few events more or fewer.",
        0,
    )
    console.print(f"Written  {escape(str(exported.path))}", soft_wrap=True)


def _table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD)


def _print_gates(console: Console, title: str, fates: Sequence[GateFate]) -> None:
    table = _table(title)
    columns = [
        Column("in the draft", [f.id or "-" for f in fates], cut=20, main=True),
        Column("in the file", [f.foreign for f in fates], cut=24),
        Column("kind", [f.kind for f in fates]),
        Column("on", [" x ".join(_short_axis(f, i) for i in range(len(f.axes))) for f in fates], cut=24),
        Column("carried", [f.how for f in fates], cut=30),
    ]
    fill(
        table,
        columns,
        console.width,
        ("kind",),
        ["" if f.carried and not f.off else "yellow" if f.carried else "red" for f in fates],
    )
    console.print(table)
    for fate in fates:
        if not fate.carried:
            print_wrapped(console, f"[red]{escape(fate.foreign)}[/]: {escape(fate.how)}", 0)


def _short_axis(fate: GateFate, i: int) -> str:
    axis = fate.axes[i]
    return f"{axis.channel} ({'comp., ' if axis.compensation else ''}{axis.scale.split()[0]})"


def _print_axes(console: Console, fates: Sequence[GateFate]) -> None:
    """Each channel with its compensation and scale, and how that is carried."""
    table = _table("Channels, their compensation and scale")
    for heading in ("channel", "compensation", "scale in the file", "carried"):
        table.add_column(heading)
    for axis in dict.fromkeys((a.channel, a.compensation, a.scale, a.how) for f in fates for a in f.axes):
        channel, compensation, scale, how = axis
        table.add_row(escape(channel), escape(compensation_words(compensation)), escape(scale), escape(how))
    if table.row_count:
        console.print(table)


def _print_differences(console: Console, foreign: Foreign) -> None:
    if foreign.n_samples < 2:
        return
    if not foreign.differences:
        console.print(f"All {foreign.n_samples} samples have these gates.\n")
        return
    samples: dict[str, dict[str, list[str]]] = {}
    for difference in foreign.differences:
        samples.setdefault(difference.sample, {}).setdefault(difference.what, []).append(difference.gate)
    print_wrapped(console, f"[bold]{len(samples)} of {foreign.n_samples} samples differ from these gates[/]", 0)
    for sample, found in samples.items():
        print_wrapped(console, f"[yellow]{escape(sample)}[/]", 0)
        for what, gates in found.items():
            # what all paths begin with says nothing
            common = commonpath(gates).rpartition("/")[0] if len(gates) > 1 else ""
            names = [gate.removeprefix(f"{common}/") if common else gate for gate in gates]
            print_wrapped(console, escape(f"{what} ({len(gates)}): {', '.join(names)}"), 2)
    console.print()


def _print_proofs(console: Console, proofs: Sequence[Proof], tube: Path) -> None:
    apart = [p for p in proofs if p.n_foreign != p.n_draft]
    if not apart:
        print_wrapped(
            console,
            f"On {escape(tube.name)} all {len(proofs)} populations have as many events by the draft as by the file's own "
            "tree.",
            0,
        )
        return
    table = _table(f"On {tube.name}: events by the file's own tree and by the draft")
    for heading in ("population", "file", "draft"):
        table.add_column(heading, justify="left" if heading == "population" else "right")
    for p in apart:
        table.add_row(escape(p.id), f"{p.n_foreign:,}", f"{p.n_draft:,}", style="yellow")
    console.print(table)
    print_wrapped(console, f"The other {len(proofs) - len(apart)} of {len(proofs)} populations are equal.", 0)


def _concordance_columns(rows: Sequence[PopulationCounts], *, engines: bool) -> list[Column]:
    def count(value: int | None) -> str:
        return "" if value is None else f"{value:,}"

    columns = [
        Column("sample", [r.sample for r in rows], cut=12),
        Column("population", [r.population for r in rows], cut=18, main=True),
        Column("FlowJo", [count(r.n_flowjo) for r in rows], "right"),
        Column("FlowKit", [count(r.n_flowkit) for r in rows], "right"),
        Column("tregflow", [count(r.n_tregflow) for r in rows], "right"),
        Column("by bins", [count(r.n_bins) for r in rows], "right"),
        Column("% FlowJo", [number(r.flowjo_pct_of_parent) for r in rows], "right"),
        Column("% tregflow", [number(r.tregflow_pct_of_parent) for r in rows], "right"),
        Column("left", [count(r.unexplained) for r in rows], "right"),
        Column("verdict", [_SHORT[r.verdict] for r in rows]),
    ]
    return columns if engines else [column for column in columns if column.heading != "FlowKit"]


def _print_engines(console: Console, found: Concordance) -> None:
    apart = found.engines_apart
    compared = sum(row.n_flowkit is not None for row in found.rows)
    if apart:
        print_wrapped(console, f"[yellow]FlowKit and tregflow differ in {len(apart)} of {compared} populations:[/]", 0)
        for row in apart[:_MOST]:
            text = f"{row.sample}, {row.population}: FlowKit {row.n_flowkit}, tregflow {row.n_tregflow}"
            print_wrapped(console, escape(text), 2)
    elif compared:
        console.print(f"FlowKit and tregflow count the same events in all {compared} populations.")
    for problem in found.flowkit_problems:
        print_wrapped(console, f"[yellow]FlowKit has no counts of[/] {escape(problem)}", 0)
