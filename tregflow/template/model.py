"""The gating template as data: strict, frozen models of a template file (schema 1).

Anything that can change a number is in here. Gate coordinates are in compensated and transformed space, as in
Gating-ML 2.0; a dimension without a transform (scatter, Time) is in scale values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tregflow import transforms as tf

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Interval = tuple[float, float]
SCHEMA_VERSION = 1


class Strict(BaseModel):
    """No unknown keys, no coercion, no non-finite numbers, no changes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class TubeRules(Strict):
    """How subject, visit, role, batch and replicate are read from a tube's file name or FCS keywords.

    `pattern` is a regular expression searched in the file name, with the named groups `subject`, `visit`, `role`,
    `batch`, `replicate` (any subset). `keywords` maps the same words to FCS keywords, used where the pattern has no
    such group. `roles` maps words found in names to roles; without a role the tube is `stained`.
    """

    pattern: str | None = None
    keywords: dict[Literal["subject", "visit", "role", "batch", "replicate"], str] = {}
    roles: dict[str, str] = {}


Mode = Literal["fixed", "tube", "subject", "batch"]


class Endpoint(Strict):
    """What is divided by what, and from how many events on.

    The deciding cuts are those with a stated uncertainty; their `share` is the mode that is the endpoint. `sensitivity`
    names other modes under which the same tubes are counted beside it: `fixed` uses each cut's `template_value`.
    """

    numerator: Identifier
    denominator: Identifier
    also_of: tuple[Identifier, ...] = ()
    mfi: tuple[str, ...] = ()
    llod_events: Annotated[int, Field(ge=0)] = 20
    lloq_events: Annotated[int, Field(ge=0)] = 50
    min_denominator_events: Annotated[int, Field(ge=1)] = 5000
    sensitivity: tuple[Mode, ...] = ()


class PanelEntry(Strict):
    """How a marker may be written in a file. `feature` is the pulse feature that is meant."""

    aliases: Annotated[tuple[str, ...], Field(min_length=1)]
    kind: Literal["fluorescence", "scatter", "time"]
    feature: Literal["area", "height", "width"] = "area"
    required: bool = True


class CompensationRule(Strict):
    """Where the spillover comes from; `alternatives` are tried in order and their use is a finding."""

    source: Literal["file", "manifest", "unmixed"]
    alternatives: tuple[Literal["file", "manifest", "unmixed"], ...] = ()


class LinearSpec(Strict):
    """Gating-ML `flin`."""

    kind: Literal["linear"]
    T: float
    A: float = 0.0


class LogSpec(Strict):
    """Gating-ML `flog`."""

    kind: Literal["log"]
    T: float
    M: float


class AsinhSpec(Strict):
    """Gating-ML `fasinh`."""

    kind: Literal["asinh"]
    T: float
    M: float
    A: float = 0.0


class LogicleSpec(Strict):
    """Gating-ML `logicle`."""

    kind: Literal["logicle"]
    T: float
    W: float
    M: float
    A: float = 0.0


class HyperlogSpec(Strict):
    """Gating-ML `hyperlog`."""

    kind: Literal["hyperlog"]
    T: float
    W: float
    M: float
    A: float = 0.0


TransformSpec = Annotated[
    LinearSpec | LogSpec | AsinhSpec | LogicleSpec | HyperlogSpec,
    Field(discriminator="kind"),
]


class Place(Strict):
    """What all placement rules have in common.

    `within` bounds the result (a cut on its transformed axis; for `singlet_band` the slope of height on area);
    outside it, or with fewer than `min_events` reference events, `otherwise` decides. `uncertainty` of a cut is in
    robust standard deviations for `negative_spread` and `shift_scale`, else on the transformed axis.

    `share` says whose one cut it is: each tube's, the subject's (placed on its baseline tube), the batch's or the
    study's (the median over tubes). Bands and ellipses are each tube's own.
    """

    share: Literal["tube", "subject", "batch", "study"] = "tube"
    min_events: Annotated[int, Field(ge=2)] = 500
    within: Interval | None = None
    otherwise: Literal["fail", "template_value", "subject_baseline"] = "fail"
    template_value: float | None = None
    uncertainty: Annotated[float, Field(ge=0)] | None = None


class CutPlace(Place):
    """A rule that places the one cut of a range; `side` says which side of it the gate keeps."""

    side: Literal["above", "below"]
    reference: Identifier | None = None


class NegativeSpread(CutPlace):
    """`k` robust standard deviations above the median of an internal negative population, in scale values.

    With `clip`, what lies more than so many robust standard deviations above the median is no negative: it is left out,
    again and again until nothing more goes, before median and spread are taken.
    """

    rule: Literal["negative_spread"]
    k: Annotated[float, Field(gt=0)]
    clip: Annotated[float, Field(ge=2.5)] | None = None


class ReferenceQuantile(CutPlace):
    """The `q` quantile of a reference population, in transformed values."""

    rule: Literal["reference_quantile"]
    q: Annotated[float, Field(gt=0, lt=1)]


class FmoQuantile(CutPlace):
    """The `q` quantile of a population of the FMO tube that leaves out `control`, in transformed values.

    The population is `reference`, by default the gate's parent, as the stained tube's gates find it in the FMO tube.
    An FMO tube serves its own batch. With `window_days` one of another batch, drawn at most so many days from the
    stained tube (`collected_at` of the manifest), serves where the batch has none: a finding says so, and the cut's
    uncertainty grows by `window_penalty` (transformed axis), because staining and settings were another day's.
    """

    rule: Literal["fmo_quantile"]
    q: Annotated[float, Field(gt=0, lt=1)]
    control: str
    window_days: Annotated[int, Field(ge=1)] | None = None
    window_penalty: Annotated[float, Field(ge=0)] = 0.0


class Valley(CutPlace):
    """The density minimum inside `between` that has a mode on each side, in transformed values.

    The minimum must be at most `1 - depth` of the lower of the two modes. `bandwidth` is the kernel's SD.
    """

    rule: Literal["valley"]
    between: Interval
    bandwidth: Annotated[float, Field(gt=0)] = 0.015
    depth: Annotated[float, Field(gt=0, lt=1)] = 0.3


class Tail(CutPlace):
    """Where the density of a single mode has dropped to `fraction` of its peak, in transformed values.

    `flank` is the side of the mode on which the drop is sought, whichever side of the cut the gate keeps.
    `bandwidth` is the kernel's SD.
    """

    rule: Literal["tail"]
    flank: Literal["lower", "upper"]
    fraction: Annotated[float, Field(ge=0.001, lt=1)]
    bandwidth: Annotated[float, Field(gt=0)] = 0.015


class ShiftScale(CutPlace):
    """A cut carried from a standard tube to this one by the location and spread of a reference population.

    `cut`, `location` and `spread` are the standard tube's, in scale values: its cut, and its reference population's
    median and robust standard deviation. The cut here is `m + (cut - location) s / spread`.
    """

    rule: Literal["shift_scale"]
    cut: float
    location: float
    spread: Annotated[float, Field(gt=0)]


class SingletBand(Place):
    """A band around the robust line of pulse height on pulse area, in scale values.

    The band's half-width is `k` robust standard deviations of the height's relative residual; it reaches over
    `area`, the interval of the area channel that is gated.
    """

    rule: Literal["singlet_band"]
    k: Annotated[float, Field(gt=0)]
    area: Interval
    reference: Identifier | None = None


class EllipsePlace(Place):
    """Robust location and scatter of the densest mode of a rectangular region, on the gate's axes.

    `region` has an interval per dimension, `bandwidth` is the SD of the kernel that finds the mode, as a fraction of
    the region's sides. The gate's `distance_square` says how far the ellipse reaches; in two dimensions it holds
    the fraction `1 - exp(-distance_square / 2)` of a normal population.
    """

    rule: Literal["ellipse"]
    region: tuple[Interval, Interval]
    bandwidth: Annotated[float, Field(ge=0.01, le=0.25)] = 0.05
    reference: Identifier | None = None


CutRule = Annotated[
    NegativeSpread | ReferenceQuantile | FmoQuantile | Valley | Tail | ShiftScale, Field(discriminator="rule")
]


class GateBase(Strict):
    """What all gates have in common. `show` and `against` say what the report draws and never change a count."""

    id: Identifier
    title: str = ""
    parent: Identifier | None = None
    show: bool = True

    @property
    def label(self) -> str:
        """The name a person reads."""
        return self.title or self.id


class RangeGate(GateBase):
    """One dimension, half-open `[min, max)`; either fixed by `min`/`max` or placed by a rule."""

    kind: Literal["range"]
    dimensions: Annotated[tuple[str, ...], Field(min_length=1, max_length=1)]
    min: float | None = None
    max: float | None = None
    against: str | None = None
    place: CutRule | None = None


class RectangleGate(GateBase):
    """Any number of dimensions, each half-open `[min, max)`; a missing bound is open."""

    kind: Literal["rectangle"]
    dimensions: Annotated[tuple[str, ...], Field(min_length=2)]
    min: dict[str, float] = {}
    max: dict[str, float] = {}


class PolygonGate(GateBase):
    """Two dimensions; either `vertices` or a band placed by `singlet_band` on (area, height)."""

    kind: Literal["polygon"]
    dimensions: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)]
    vertices: tuple[tuple[float, float], ...] = ()
    place: SingletBand | None = None


class EllipsoidGate(GateBase):
    """`(x - mean)' covariance^-1 (x - mean) <= distance_square`.

    Either `mean` and `covariance` or, in two dimensions, a rule; with a rule they are what it falls back on.
    """

    kind: Literal["ellipsoid"]
    dimensions: Annotated[tuple[str, ...], Field(min_length=2)]
    mean: tuple[float, ...] = ()
    covariance: tuple[tuple[float, ...], ...] = ()
    distance_square: Annotated[float, Field(gt=0)]
    place: EllipsePlace | None = None


class QuadrantGate(GateBase):
    """One cell of a grid of dividers: `cells` gives the interval's index in each dimension, -1 for any."""

    kind: Literal["quadrant"]
    dimensions: Annotated[tuple[str, ...], Field(min_length=1)]
    dividers: tuple[tuple[float, ...], ...]
    cells: tuple[int, ...]


class BooleanGate(GateBase):
    """`and`, `or` or `not` of populations; an operand with a leading `!` is complemented."""

    kind: Literal["boolean"]
    operator: Literal["and", "or", "not"]
    operands: Annotated[tuple[str, ...], Field(min_length=1)]

    def terms(self) -> tuple[tuple[str, bool], ...]:
        """`(population, complemented)` for each operand."""
        return tuple((o.removeprefix("!"), o.startswith("!")) for o in self.operands)


Gate = Annotated[
    RangeGate | RectangleGate | PolygonGate | EllipsoidGate | QuadrantGate | BooleanGate,
    Field(discriminator="kind"),
]


class FractionLimit(Strict):
    """Percent of parent expected of a population: outside `review` a person looks, outside `fail` it is no number."""

    review: Interval | None = None
    fail: Interval | None = None


class PlacementLimits(Strict):
    """How far the deciding cuts may be from clear; a tube beyond a limit is reviewed, never failed.

    `sensitive_pct`: what the numerator may grow by, in percent, with every deciding cut one robust SD lower.
    `reference_positive_pct`: how much of the cuts' common reference may lie beyond all of them, in percent.
    """

    sensitive_pct: Annotated[float, Field(gt=0)] | None = None
    reference_positive_pct: Annotated[float, Field(gt=0, lt=100)] | None = None


class Qc(Strict):
    """Limits of the tube checks. `pct_of_parent` may not name the numerator: that would drop responders."""

    denominator_events_review: Annotated[int, Field(ge=0)] = 20000
    numerator_events_review: Annotated[int, Field(ge=0)] = 100
    pct_of_parent: dict[Identifier, FractionLimit] = {}
    placement: PlacementLimits | None = None


class ChangelogEntry(Strict):
    """What a version changed; `numbers` says whether and why a count can move."""

    version: str
    numbers: str
    text: str = ""


class Template(Strict):
    """A gating template. `version` is the science (SemVer), `schema_version` the file format."""

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$")]
    title: str
    description: str = ""
    endpoint: Endpoint
    panel: dict[str, PanelEntry]
    compensation: CompensationRule
    transforms: dict[str, TransformSpec] = {}
    tubes: TubeRules = TubeRules()
    gates: Annotated[tuple[Gate, ...], Field(min_length=1)]
    qc: Qc = Qc()
    changelog: tuple[ChangelogEntry, ...] = ()

    def gate(self, gate_id: str) -> Gate:
        """The gate with this id."""
        return next(g for g in self.gates if g.id == gate_id)

    def transform_spec(self, dimension: str) -> TransformSpec | None:
        """The transform of a dimension: its own, else `default` for fluorescence, else none (scale values)."""
        if dimension in self.transforms:
            return self.transforms[dimension]
        return self.transforms.get("default") if self.panel[dimension].kind == "fluorescence" else None

    def transform(self, dimension: str) -> tf.Transform | None:
        """The dimension's transform as a callable, None for scale values."""
        spec = self.transform_spec(dimension)
        return None if spec is None else build_transform(spec)

    @property
    def deciding(self) -> tuple[RangeGate, ...]:
        """The gates whose cuts decide the endpoint: those for which an uncertainty is stated."""
        return tuple(g for g in self.gates if isinstance(g, RangeGate) and g.place and g.place.uncertainty is not None)

    def ancestors(self, gate_id: str) -> tuple[str, ...]:
        """Parents of a population, nearest first."""
        parents = {gate.id: gate.parent for gate in self.gates}
        above: list[str] = []
        while (parent := parents[gate_id]) is not None:
            above.append(parent)
            gate_id = parent
        return tuple(above)


_TRANSFORMS: Mapping[str, Callable[..., tf.Transform]] = {
    "linear": tf.Linear,
    "log": tf.Log,
    "asinh": tf.Asinh,
    "logicle": tf.Logicle,
    "hyperlog": tf.Hyperlog,
}


def build_transform(spec: TransformSpec) -> tf.Transform:
    """The callable of a transform as declared; impossible parameters raise `TRANSFORM_PARAMETER`."""
    return _TRANSFORMS[spec.kind](**spec.model_dump(exclude={"kind"}))


def gate_inputs(gate: Gate) -> tuple[str, ...]:
    """The populations that must be known before a gate can be placed and applied: parent, reference, operands."""
    names = [] if gate.parent is None else [gate.parent]
    if isinstance(gate, BooleanGate):
        names += [name for name, _ in gate.terms()]
    elif isinstance(gate, RangeGate | PolygonGate | EllipsoidGate) and gate.place and gate.place.reference:
        names.append(gate.place.reference)
    return tuple(dict.fromkeys(names))


def needs_baseline(template: Template) -> list[str]:
    """The gates whose cut, or fall-back, is placed on a subject's baseline tube."""
    return [
        gate.id
        for gate in template.gates
        if isinstance(gate, RangeGate)
        and gate.place is not None
        and (gate.place.share in {"subject", "study"} or gate.place.otherwise == "subject_baseline")
    ]


def has_rule(gate: Gate) -> bool:
    """Whether a gate is placed by a rule."""
    return isinstance(gate, RangeGate | PolygonGate | EllipsoidGate) and gate.place is not None


def gate_dimensions(gate: Gate) -> tuple[str, ...]:
    """The dimensions a gate tests; none for a boolean."""
    return () if isinstance(gate, BooleanGate) else gate.dimensions
