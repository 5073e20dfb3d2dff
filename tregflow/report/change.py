"""The page of a change-control form: what another template changes, what that does to the numbers, and who signs it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tregflow.atomic import write_atomic
from tregflow.drawing import draft_mark, format_percent, round_values
from tregflow.report import environment
from tregflow.study.cells import csv_bytes, guard
from tregflow.template.semver import enough, parse_version
from tregflow.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tregflow.study.effect import ChangeEffect, Side, TubeEffect
    from tregflow.template.diff import TemplateDiff
    from tregflow.template.registry import LoadedTemplate

_NUMBERS = ("n_numerator", "n_denominator", "endpoint_pct", "treg_pct_of_lymphocytes", "treg_pct_of_cd4")
TUBES, CHANGES, PAGE, DATA = "change_tubes.csv", "change_from_baseline.csv", "change.html", "change.json"


@dataclass(frozen=True, slots=True)
class Change:
    """All that the page says."""

    before: LoadedTemplate
    after: LoadedTemplate
    diff: TemplateDiff
    tubes: tuple[TubeEffect, ...]
    changes: tuple[ChangeEffect, ...]
    baseline: tuple[str, ...]


def write_change(change: Change, folder: Path) -> Path:
    """Write the page, its tables as CSV and all of it as JSON; gives the page's path."""
    write_atomic(folder / TUBES, csv_bytes(_tube_header(), [_tube_row(tube) for tube in change.tubes]))
    write_atomic(folder / CHANGES, csv_bytes(_change_header(), [_change_row(c) for c in change.changes]))
    text = json.dumps(change_json(change), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / DATA, f"{text}\n".encode())
    path = folder / PAGE
    write_atomic(path, render_change(change).encode())
    return path


def render_change(change: Change) -> str:
    """One self-contained HTML page, readable without JavaScript, that prints."""
    first, second = (parse_version(side.template.version) for side in (change.before, change.after))
    same_id = change.before.template.id == change.after.template.id
    verdict = ""
    if first is not None and second is not None and same_id and change.diff.demand != "none":
        verdict = (
            f"{second} is far enough above {first}"
            if enough(first, second, change.diff.demand)
            else f"after {first} that is {first.after(change.diff.demand)} or higher"
        )
    numbers = [e.numbers for e in change.after.template.changelog if e.version == change.after.template.version]
    page = environment().get_template("change.html.jinja")
    return page.render(
        marks=[draft_mark(side.status) for side in (change.before, change.after)],
        sides=(change.before, change.after),
        diff=change.diff,
        verdict=verdict,
        numbers=" ".join(numbers).strip(),
        tubes=[_tube_view(tube) for tube in change.tubes],
        changes=[_change_view(c) for c in change.changes],
        baseline=change.baseline,
        summary=summary(change.tubes, change.changes),
        endpoints=[endpoint_words(side) for side in (change.before, change.after)],
        scatter=scatter_svg(change.tubes, [endpoint_words(s) + f", {s.name}" for s in (change.before, change.after)]),
        value=_value,
        version=__version__,
        files=(TUBES, CHANGES, DATA),
    )


def endpoint_words(loaded: LoadedTemplate) -> str:
    """The endpoint with what it is a percentage of, by the names that people read."""
    template = loaded.template
    parts = (template.endpoint.numerator, template.endpoint.denominator)
    return " % of ".join(template.gate(part).label for part in parts)


def summary(tubes: Sequence[TubeEffect], changes: Sequence[ChangeEffect]) -> list[str]:
    """The effect in a few sentences; the gravest first."""
    said = []
    signs = [c for c in changes if c.sign]
    if signs:
        said.append(f"The change from baseline has another sign in {_places(signs)}.")
    lost = [t for t in tubes if t.before.evaluable and not t.after.evaluable]
    won = [t for t in tubes if t.after.evaluable and not t.before.evaluable]
    for word, found in (("not evaluable any more", lost), ("evaluable now", won)):
        if found:
            said.append(f"{len(found)} of {len(tubes)} tubes {word}: {_places(found)}.")
    crossed = [t for t in tubes if t.crossed]
    if crossed:
        said.append(f"{len(crossed)} of {len(tubes)} tubes cross a limit or have another finding.")
    moved = [d for t in tubes if (d := t.moved("endpoint_pct")) is not None]
    n = sum(d != 0 for d in moved)
    if n:
        said.append(
            f"The endpoint moves in {n} of {len(tubes)} tubes, by {min(moved):+.3f} to {max(moved):+.3f} points "
            f"(mean {math.fsum(moved) / len(moved):+.3f})."
        )
    shifts = [d for c in changes if (d := c.moved) is not None]
    if shifts:
        said.append(
            f"The change from baseline moves by {min(shifts):+.3f} to {max(shifts):+.3f} points "
            f"(mean {math.fsum(shifts) / len(shifts):+.3f}; {len(shifts)} changes)."
        )
    if not said:
        said.append(f"Nothing moves: all counts and findings of {len(tubes)} tubes are the same.")
    return said


def _places(found: Sequence[TubeEffect | ChangeEffect], most: int = 6) -> str:
    names = [f"{item.subject_id} {item.visit}" for item in found]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def change_json(change: Change) -> dict[str, Any]:
    """All of it for programs."""

    def side(loaded: LoadedTemplate) -> dict[str, str]:
        return {"name": loaded.name, "sha256": loaded.sha256, "status": loaded.status, "reason": loaded.reason}

    tubes = [
        {**asdict(tube), "crossed": tube.crossed}
        | {s: {**asdict(getattr(tube, s)), "codes": sorted(getattr(tube, s).codes)} for s in ("before", "after")}
        for tube in change.tubes
    ]
    return {
        "tregflow": __version__,
        "before": side(change.before),
        "after": side(change.after),
        **change.diff.to_json(),
        "baseline": list(change.baseline),
        "summary": summary(change.tubes, change.changes),
        "tubes": tubes,
        "changes": [{**asdict(c), "sign_changes": c.sign} for c in change.changes],
    }


# --- tables ----------------------------------------------------------------------------------------------------------


def _tube_header() -> list[str]:
    numbers = [f"{name}_{side}" for name in _NUMBERS for side in ("before", "after", "moved")]
    identity = ["batch", "subject_id", "visit", "replicate", "file", "file_sha256"]
    return [*identity, *numbers, "status_before", "status_after", "crossed"]


def _tube_row(tube: TubeEffect) -> list[str]:
    numbers = [_cell(v) for n in _NUMBERS for v in (getattr(tube.before, n), getattr(tube.after, n), tube.moved(n))]
    identity = [guard(text) for text in (tube.batch, tube.subject_id, tube.visit, str(tube.replicate), tube.file)]
    status = [tube.before.status, tube.after.status, "; ".join(tube.crossed)]
    return [*identity, tube.file_sha256, *numbers, *status]


def _change_header() -> list[str]:
    numbers = [f"endpoint_pct_change_{side}" for side in ("before", "after", "moved")]
    cd4 = [f"treg_pct_of_cd4_change_{side}" for side in ("before", "after")]
    return ["subject_id", "baseline", "visit", *numbers, *cd4, "sign_changes"]


def _change_row(c: ChangeEffect) -> list[str]:
    identity = [guard(text) for text in (c.subject_id, c.baseline, c.visit)]
    return [*identity, *map(_cell, (c.before, c.after, c.moved, c.cd4_before, c.cd4_after)), str(c.sign)]


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


# --- views -----------------------------------------------------------------------------------------------------------


def _tube_view(tube: TubeEffect) -> dict[str, Any]:
    return {
        "tube": tube,
        "n": [_of(side) for side in (tube.before, tube.after)],
        "moved_n": _signed(tube.moved("n_numerator"), 0),
        "pct": [_percent(side.endpoint_pct) for side in (tube.before, tube.after)],
        "moved_pct": _signed(tube.moved("endpoint_pct"), 3),
        "cd4": [_percent(side.treg_pct_of_cd4) for side in (tube.before, tube.after)],
        "moved_cd4": _signed(tube.moved("treg_pct_of_cd4"), 3),
    }


def _of(side: Side) -> str:
    return "" if side.n_numerator is None else f"{side.n_numerator:,} of {side.n_denominator:,}"


def _change_view(c: ChangeEffect) -> dict[str, Any]:
    return {
        "change": c,
        "points": [_signed(v, 3) for v in (c.before, c.after, c.moved)],
        "cd4": [_signed(v, 3) for v in (c.cd4_before, c.cd4_after)],
    }


def _percent(value: float | None) -> str:
    return "" if value is None else format_percent(value)


def _signed(value: float | None, digits: int) -> str:
    return "" if value is None else "0" if value == 0 else f"{value:+,.{digits}f}"


def _value(value: object) -> str:
    """A value of a template as a person reads it."""
    if value is None:
        return "—"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False).strip('"')


def scatter_svg(tubes: Sequence[TubeEffect], titles: Sequence[str]) -> Markup:
    """The endpoint under one template against the other; on the line nothing moved. Empty without a pair of numbers."""
    pairs = [
        (t.before.endpoint_pct, t.after.endpoint_pct, t)
        for t in tubes
        if t.before.endpoint_pct is not None and t.after.endpoint_pct is not None
    ]
    if not pairs:
        return Markup("")
    size = 360
    values = [v for pair in pairs for v in pair[:2]]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or max(0.1 * abs(high), 0.1)
    low, high = max(0.0, low - pad), high + pad

    def at(value: float) -> float:
        return size * (value - low) / (high - low)

    parts = [Markup('<rect width="{0}" height="{0}" class="frame"/><path d="M0,{0}L{0},0" class="same"/>').format(size)]
    mark = Markup(
        '<path d="M{0:.1f},{2}v5M0,{1:.1f}h-5" class="tick"/><text x="{0:.1f}" y="{3}" class="mid">{4:.4g}</text>'
        '<text x="-9" y="{5:.1f}" class="end">{4:.4g}</text>'
    )
    ticks = [(at(value), size - at(value), value) for value in round_values(low, high, 6)]
    parts += [mark.format(x, y, size, size + 19, value, y + 4) for x, y, value in ticks]
    for x, y, tube in pairs:
        parts.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="{}"><title>{}</title></circle>').format(
                at(x),
                size - at(y),
                "crossed" if tube.crossed else "",
                f"{tube.subject_id} {tube.visit}: {format_percent(x)} to {format_percent(y)} %",
            )
        )
    parts.append(Markup('<text x="180" y="{}" class="mid">{}</text>').format(size + 42, titles[0]))
    parts.append(Markup('<text transform="translate(-52 180) rotate(-90)" class="mid">{}</text>').format(titles[1]))
    return Markup(
        '<svg class="scatter" xmlns="http://www.w3.org/2000/svg" viewBox="-76 -12 460 424" role="img" '
        'aria-label="Endpoint under both templates">{}</svg>'
    ).format(Markup("").join(parts))
