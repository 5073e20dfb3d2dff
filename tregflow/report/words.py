"""Sentences of the report, made from records: verdict, placement, gate limits, compensation, methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tregflow.drawing import format_scale, gate_intervals, population_title, scale_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tregflow.record import DimensionRecord, GateRecord, PlacementRecord, TransformRecord, TubeRecord

SHARES = {"tube": "for this tube alone", "batch": "shared by the batch", "subject": "shared by the subject's visits",
          "study": "shared by the study"}  # fmt: skip
# What a way of sharing the cuts does, in the order of the columns
MODES = {
    "fixed": "the template's numbers for all tubes: nothing in a tube moves a cut, so a drift of the instrument moves "
    "the percentage instead.",
    "tube": "each tube's own negatives place its cuts: they follow the instrument from tube to tube, but also a drug "
    "that changes the negatives.",
    "subject": "the baseline tube's cut for all visits of the subject: the drug cannot move it, and a drift of the "
    "instrument between visits is not followed.",
    "batch": "one cut for what was stained together: it follows the instrument from batch to batch, and tubes of one "
    "batch can be compared.",
    "study": "one cut for all tubes of the study: no single tube moves it, and a drift is not followed.",
}
STATUSES = {
    "placed": "placed",
    "shared": "shared: the batch's frozen cut",
    "fallback": "FALLBACK: the rule could not be used",
}


def plural(n: int, word: str) -> str:
    """Count with its noun: `1 tube`, `3 tubes`."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def joined(parts: Sequence[str]) -> str:
    """Join to `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def verdict(rows: Sequence[Mapping[str, str]], column: str, title: str) -> tuple[str, str]:
    """Judge the run: a tone (`ok`, `review`, `fail`) and what was counted in how many stained tubes."""
    stained = [r for r in rows if r["role"] == "stained"]
    if not stained:
        return "fail", "no stained tube: nothing to gate"
    counted = sum(1 for r in stained if r[column])
    review = sum(1 for r in stained if r["status"] == "review")
    lost = sum(1 for r in stained if r["status"] == "not_evaluable")
    values = [float(r[column]) for r in stained if r[column]]
    span = f" ({min(values):.2f} to {max(values):.2f})" if values else ""
    text = f"{counted} of {plural(len(stained), 'stained tube')} gave {title}{span}"
    text += f"; {review} of them to be reviewed" if review else "; none to be reviewed"
    text += f"; {lost} not evaluable" if lost else "; all evaluable"
    return ("fail" if lost else "review" if review else "ok"), text


def transform_words(transform: TransformRecord | None) -> str:
    """Kind and parameters: `logicle (T = 262144, W = 0.5, M = 4.5, A = 0)`."""
    if transform is None:
        return "linear, scale values as they are"
    values = ", ".join(f"{name} = {value:g}" for name, value in transform.parameters.items())
    return f"{transform.kind} ({values})"


def _value(dimension: DimensionRecord, position: float) -> str:
    scale = format_scale(scale_value(dimension, position))
    return scale if dimension.transform is None else f"{scale} ({position:.4f})"


def limits(record: TubeRecord, gate: GateRecord) -> list[str]:
    """Where a gate lies: scale values, and in brackets the coordinates in transformed space that decide."""
    if gate.kind == "boolean":
        operands = [
            ("not " if c else "") + population_title(record, o)
            for o, c in zip(gate.geometry["operands"], gate.geometry["complements"], strict=True)
        ]
        operator = gate.geometry["operator"]
        return [f"not {operands[0]}" if operator == "not" else f" {operator} ".join(operands)]
    if gate.kind == "polygon":
        corners = "; ".join(
            " / ".join(_value(d, v) for d, v in zip(gate.dimensions, vertex, strict=True))
            for vertex in gate.geometry["vertices"]
        )
        return [f"{len(gate.geometry['vertices'])} corners: {corners}"]
    if gate.kind == "ellipsoid":
        centre = [_value(d, v) for d, v in zip(gate.dimensions, gate.geometry["mean"], strict=True)]
        return [f"centre {' / '.join(centre)}; squared distance at most {gate.geometry['distance_square']:g}"]
    return [
        line
        for dimension, (low, high) in zip(gate.dimensions, gate_intervals(gate), strict=True)
        for line in _interval(dimension, low, high)
    ]


def _interval(dimension: DimensionRecord, low: float | None, high: float | None) -> list[str]:
    name = dimension.name or dimension.pnn
    start = [] if low is None else [f"{name} ≥ {_value(dimension, low)}"]
    return start + ([] if high is None else [f"{name} < {_value(dimension, high)}"])


def placement_words(record: TubeRecord, gate: GateRecord, placement: PlacementRecord) -> str:
    """How a rule put a gate where it is: rule, reference, evidence, cut, for whom, status."""
    text = f"Rule {placement.rule}"
    if placement.reference:
        text += f" on {population_title(record, placement.reference)} ({plural(placement.n_reference, 'event')})"
    if placement.raw_value:
        text += f", {_estimate(gate, placement)}"
    if placement.spread is not None:
        text += f", standard error {format_scale(placement.spread)}"
    shared = placement.status == "shared"
    text += "" if shared else f", {SHARES.get(placement.share, placement.share)}"
    text += f"; {STATUSES.get(placement.status, placement.status)}."
    if placement.quality:
        known = (f"{name.replace('_', ' ')} {format_scale(value)}" for name, value in placement.quality.items())
        text += f" {', '.join(known).capitalize()}."
    message = placement.message
    return f"{text} {message[0].upper()}{message[1:].rstrip('.')}." if message else text


def _estimate(gate: GateRecord, placement: PlacementRecord) -> str:
    """One value is a cut; several are what the rule estimated (a line and its width, say)."""
    values = placement.raw_value
    if len(values) > 1:
        return f"estimates {joined([format_scale(v) for v in values])} in {placement.space} values"
    if placement.space == "scale":
        return f"cut at scale value {format_scale(values[0])}"
    scale = f" (scale value {format_scale(scale_value(gate.dimensions[0], values[0]))})" if gate.dimensions else ""
    return f"cut at transformed value {values[0]:.4f}{scale}"


def compensation_words(record: TubeRecord) -> str:
    """Which matrix was applied, and once."""
    matrix = record.compensation
    if matrix is None:
        return "not reached: the tube was not gated" if record.n_events is None else "none was applied"
    if matrix.source == "unmixed":
        return "none needed: the file is spectrally unmixed (stated by the template)"
    text = f"{matrix.source}, {plural(len(matrix.channels), 'detector')}, applied once"
    if matrix.condition_number is not None:
        text += f", condition number {matrix.condition_number:.3g}"
    return f"{text}, SHA-256 {matrix.sha256[:12]}"


def methods(records: Sequence[TubeRecord]) -> list[str]:
    """Write the methods from what ran: paragraphs of plain text."""
    first = records[0]
    template = first.template
    gated = [r for r in records if r.gates]
    version = joined(sorted({r.tregflow_version for r in records}))
    paragraphs = [
        f"Flow cytometry standard (FCS) files of {plural(len(records), 'tube')} were processed with tregflow {version} "
        f"and the gating template {template.id} {template.version} (“{template.title}”; status {template.status}; "
        f"content SHA-256 {template.sha256}). {len(gated)} of them could be gated."
    ]
    if gated:
        paragraphs += [_compensation_methods(gated), _transform_methods(gated), _gate_methods(gated)]
    numerator, denominator = (
        population_title((gated or [first])[0], p) for p in (template.numerator, template.denominator)
    )
    cuts = (
        "The interval of counting and cuts also holds what becomes of the count when the deciding cuts are moved, all "
        "together, by the larger of the template's stated uncertainty and 1.96 standard errors (combined by MOVER). "
        if any(r.moved for r in records)
        else ""
    )
    paragraphs.append(
        f"The endpoint is the number of events in {numerator} as a percentage of the events in {denominator}. All "
        "events of a file were counted, without subsampling and without random numbers. The interval beside a "
        "percentage is a 95 % Wilson score interval; it describes counting only, not staining, gating or biology. "
        f"{cuts}"
        "Densities in the plots are two-dimensional histograms of all events of the parent population; no count was "
        "read from them."
    )
    paragraphs.append(_references(gated))
    return paragraphs


def _compensation_methods(records: Sequence[TubeRecord]) -> str:
    matrices = [r.compensation for r in records if r.compensation is not None]
    if matrices and all(m.source == "unmixed" for m in matrices):
        return "The files are spectrally unmixed, so no spillover was applied."
    sources = joined(sorted({m.source for m in matrices}))
    numbers = [m.condition_number for m in matrices if m.condition_number is not None]
    distinct = plural(len({m.sha256 for m in matrices}), "different matrix").replace("matrixs", "matrices")
    span = f"; condition numbers {min(numbers):.3g} to {max(numbers):.3g}" if numbers else ""
    return f"Spillover was taken from {sources} ({distinct}{span}) and its inverse applied once, in double precision."


def _transform_methods(records: Sequence[TubeRecord]) -> str:
    by_transform: dict[str, dict[str, None]] = {}
    for record in records:
        for gate in record.gates:
            for d in gate.dimensions:
                by_transform.setdefault(transform_words(d.transform), {}).setdefault(d.name or d.pnn)
    parts = [f"{joined(list(names))}: {words}" for words, names in by_transform.items()]
    return f"Axes, as defined by Gating-ML 2.0: {'; '.join(parts)}."


def _gate_methods(records: Sequence[TubeRecord]) -> str:
    gates = {g.id: (r, g) for r in reversed(records) for g in r.gates}
    order = [g.id for g in records[0].gates] + [i for i in gates if i not in {g.id for g in records[0].gates}]
    parts = []
    for record, gate in (gates[i] for i in order):
        axes = joined([d.name or d.pnn for d in gate.dimensions])
        parent = "all events" if gate.parent is None else population_title(record, gate.parent)
        where = f" on {axes}" if axes else ""
        placed = [g.placement for r in records for g in r.gates if g.id == gate.id and g.placement is not None]
        rule = f", placed by {joined(sorted({p.rule for p in placed}))}" if placed else ""
        fallbacks = sum(p.status == "fallback" for p in placed)
        rule += f" (fallback in {plural(fallbacks, 'tube')})" if fallbacks else ""
        parts.append(f"{gate.title or gate.id} ({gate.kind}{where}, of {parent}{rule})")
    return (
        f"Gates, parents first: {'; '.join(parts)}. Ranges are half-open, polygons are decided by the even-odd rule, "
        "and an event with a non-finite value is in no gate of that dimension."
    )


def _references(records: Sequence[TubeRecord]) -> str:
    kinds = {d.transform.kind for r in records for g in r.gates for d in g.dimensions if d.transform is not None}
    references = [
        "Spidlen J et al. ISAC's Gating-ML 2.0 data exchange standard. Cytometry A 2015;87:683-687",
        "Wilson EB. Probable inference, the law of succession, and statistical inference. "
        "J Am Stat Assoc 1927;22:209-212",
    ]
    if "logicle" in kinds:
        references.append("Parks DR, Roederer M, Moore WA. A new logicle display method. Cytometry A 2006;69:541-551")
    return f"References: {'. '.join(references)}."
