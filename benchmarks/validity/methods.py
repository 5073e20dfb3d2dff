"""The ways to gate: our template in its sharing modes, and three others on the same tubes.

The others get the same upstream gates, all run by FlowKit with coordinates settled once on a clear reference tube: what
is compared is where CD25 and FOXP3 are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from flowkit import Dimension, GatingStrategy, Matrix, Sample, gates, transforms
from sklearn.mixture import GaussianMixture

from tregflow.errors import PlacementError, TregflowError
from tregflow.fcs import write_fcs
from tregflow.gating import GatingResult, Tube, cut_evidence, gate_sample, open_tube, place_gates
from tregflow.placement import Placement, share_cut
from tregflow.qc import check_placement, check_tube
from tregflow.simulate import DETECTORS, SimulatedTube, TubeParams, simulate_tube
from tregflow.simulate.model import SCALE_MAX, TIMESTEP
from tregflow.template.model import RangeGate, Template

if TYPE_CHECKING:
    from numpy.typing import NDArray

Sharing = Literal["tube", "subject", "batch"]

REFERENCE_SEED: Final = 3_000_003
"""Of the one tube on which the fixed gates are settled; it is in neither seed set."""
MARKERS: Final = ("CD25", "FOXP3")
MARKER_GATES: Final = ("cd25_pos", "foxp3_pos")
_GMM_EVENTS: Final = 10_000
_KDE_GRID: Final = 512


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method makes of a tube. Without a number (`numerator` None) the failure is declared.

    `numerator` is a mask over all events; `moved` are the numerator's counts with both cuts raised and lowered by
    their uncertainty; `codes` the findings that send the tube to a person, or the errors; `cuts` CD25 and FOXP3 in
    scale values.
    """

    numerator: NDArray[np.bool_] | None = field(repr=False)
    n_denominator: int | None
    cuts: tuple[float, float] | None = None
    moved: tuple[int, int] | None = None
    codes: tuple[str, ...] = ()


class Specimen:
    """A simulated tube on disk, with its truth."""

    def __init__(self, simulated: SimulatedTube, path: Path) -> None:
        self.simulated = simulated
        self.path = path
        write_fcs(
            path,
            simulated.events,
            simulated.channels,
            keywords={"$TIMESTEP": str(TIMESTEP)},
            ranges=[float(SCALE_MAX)] * len(simulated.channels),
            spillover=(DETECTORS, simulated.spillover),
        )

    @cached_property
    def compensated(self) -> NDArray[np.float64]:
        """Fluorescence through the tube's own matrix, `(n_detectors, n_events)`, independent of tregflow."""
        n = len(DETECTORS)
        raw = self.simulated.events[:, -n:].astype(np.float64)
        return np.linalg.solve(self.simulated.spillover.T, raw.T)

    def marker(self, name: str) -> NDArray[np.float64]:
        """Compensated scale values of a marker."""
        labels = [marker for _, marker in self.simulated.channels[-len(DETECTORS) :]]
        return self.compensated[labels.index(name)]


# --- ours -------------------------------------------------------------------------------------------------------------


def by_template(
    specimens: Sequence[Specimen], template: Template, sharings: Sequence[Sharing]
) -> dict[Sharing, list[Outcome]]:
    """Gate a subject's tubes, baseline first, with the cuts of CD25 and FOXP3 placed once and shared as said.

    `tube`: each tube its own. `subject`: the baseline's for all. `batch`: the median of those of the subject's tubes.
    """
    tubes = [open_tube(s.path, template) for s in specimens]
    placed = [_place(tube, template) for tube in tubes]
    return {
        sharing: [
            _gate(tube, template, specimen, _shared(placed, at, template, sharing))
            for at, (tube, specimen) in enumerate(zip(tubes, specimens, strict=True))
        ]
        for sharing in sharings
    }


Placed = Mapping[str, Placement | PlacementError]


@dataclass(frozen=True, slots=True)
class _Cuts:
    """The cuts that a tube is gated with (none where there is none to use: `codes` says why).

    `half_widths` are their uncertainties in scale values, CD25 first.
    """

    frozen: dict[str, Placement]
    half_widths: tuple[float, ...]
    codes: tuple[str, ...]


def _place(tube: Tube, template: Template) -> Placed:
    """Place each marker gate; one that cannot be placed comes with its error."""
    found: dict[str, Placement | PlacementError] = {}
    for gate in MARKER_GATES:
        try:
            found |= place_gates(tube.sample, template, [gate], channels=tube.channels, spillover=tube.spillover)
        except PlacementError as error:
            found[gate] = error
    return found


def _shared(placed: Sequence[Placed], at: int, template: Template, sharing: Sharing) -> _Cuts:
    frozen: dict[str, Placement] = {}
    half_widths: list[float] = []
    codes: list[str] = []
    for name in MARKER_GATES:
        gate = template.gate(name)
        if not isinstance(gate, RangeGate) or gate.place is None:
            raise TypeError(name)
        sources = {"tube": placed[at : at + 1], "subject": placed[:1], "batch": placed}[sharing]
        own = [p for p in (each[name] for each in sources) if isinstance(p, Placement) and p.status == "placed"]
        mine = placed[at][name]
        if not own:
            code = mine.code if isinstance(mine, PlacementError) else "PLACEMENT_NO_SHARED"
            return _Cuts({}, (), (code,))
        if not isinstance(mine, Placement) and sharing != "subject":
            codes.append("PLACEMENT_NOT_OWN")
        transform = template.transform(gate.dimensions[0])
        frozen[name] = share_cut(gate.place, own, transform)
        errors = [p.estimate.spread or 0.0 for p in own]
        unit = float(np.mean([p.estimate.quality.get("robust_sd", 0.0) for p in own]))
        half_widths.append(max((gate.place.uncertainty or 0.0) * unit, 1.96 * float(np.mean(errors))))
    return _Cuts(frozen, tuple(half_widths), tuple(codes))


def _gate(tube: Tube, template: Template, specimen: Specimen, cuts: _Cuts) -> Outcome:
    if not cuts.frozen:
        return Outcome(None, None, codes=cuts.codes)
    try:
        result = gate_sample(
            tube.sample,
            template,
            channels=tube.channels,
            spillover=tube.spillover,
            frozen=cuts.frozen,
            draw=False,
        )
    except TregflowError as error:
        return Outcome(None, None, codes=(error.code,))
    counts = {p.id: p.n_events for p in result.populations}
    findings = (*tube.findings, *result.findings, *check_tube(counts, result.n_events, template))
    codes = (*cuts.codes, *(f.code for f in findings if f.severity != "info"))
    if any(f.severity == "fail" for f in findings):
        return Outcome(None, None, codes=codes)
    edges = _scale_cuts(result, template)
    cd4 = [specimen.marker(m)[result["cd4"].mask] for m in MARKERS]
    raised, lowered = (_count_above(cd4, _moved(edges, cuts.half_widths, sign)) for sign in (1, -1))
    limits, evidence = template.qc.placement, cut_evidence(tube, template, result)
    if limits is not None and evidence is not None:
        codes = (*codes, *(f.code for f in check_placement(evidence, limits, template.endpoint.numerator)))
    return Outcome(result["treg"].mask, counts[template.endpoint.denominator], edges, (raised, lowered), codes)


def _scale_cuts(result: GatingResult, template: Template) -> tuple[float, float]:
    cd25, foxp3 = (
        template.transform(marker).scale_bound(result.placements[name].coordinates[0])
        for name, marker in zip(MARKER_GATES, MARKERS, strict=True)
    )
    return cd25, foxp3


def _moved(edges: Sequence[float], by: Sequence[float], sign: int) -> list[float]:
    return [edge + sign * step for edge, step in zip(edges, by, strict=True)]


def _count_above(values: Sequence[NDArray[np.float64]], edges: Sequence[float]) -> int:
    return int(np.count_nonzero((values[0] >= edges[0]) & (values[1] >= edges[1])))


# --- the others -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upstream:
    """What FlowKit counts with the fixed gates: masks over all events."""

    lymphocytes: NDArray[np.bool_]
    cd4: NDArray[np.bool_]
    treg: NDArray[np.bool_]


def settle_fixed(template: Template, folder: Path) -> dict[str, tuple[float, ...]]:
    """The coordinates of all placed gates of a template, settled on the reference tube."""
    path = folder / "reference.fcs"
    Specimen(simulate_tube(TubeParams(n_lymphocytes=60_000), REFERENCE_SEED), path)
    tube = open_tube(path, template)
    result = gate_sample(tube.sample, template, channels=tube.channels, spillover=tube.spillover, draw=False)
    return {name: placement.coordinates for name, placement in result.placements.items()}


def run_flowkit(specimen: Specimen, template: Template, cuts: Mapping[str, tuple[float, ...]]) -> Upstream:
    """The fixed gates, run by FlowKit on the file."""
    sample = Sample(specimen.path, subsample=1)
    strategy = GatingStrategy()
    spill = sample.get_metadata()["spillover"]
    strategy.add_comp_matrix("spill", Matrix(spill, [sample.pnn_labels[i] for i in sample.fluoro_indices]))
    scale = template.transform_spec("CD25")
    strategy.add_transform("logicle", transforms.LogicleTransform(scale.T, scale.W, scale.M, scale.A))
    channel = dict(zip(sample.pns_labels, sample.pnn_labels, strict=True))

    def ranged(name: str, marker: str) -> Dimension:
        gate = template.gate(name)
        above = isinstance(gate, RangeGate) and gate.place is not None and gate.place.side == "above"
        bound = (cuts[name][0], None) if above else (None, cuts[name][0])
        return Dimension(channel[marker], "spill", "logicle", *bound)

    def plain(name: str) -> Dimension:
        return Dimension(name, "uncompensated")

    flat = cuts["singlets"]
    lymphocytes = template.gate("lymphocytes")
    treg = [ranged("cd25_pos", "CD25"), ranged("foxp3_pos", "FOXP3")]
    tree: list[gates.Gate] = [
        gates.PolygonGate("singlets", [plain("FSC-A"), plain("FSC-H")], list(zip(flat[::2], flat[1::2], strict=True))),
        gates.RectangleGate("viable", [ranged("viable", "Viability")]),
        gates.PolygonGate("lymphocytes", [plain("FSC-A"), plain("SSC-A")], lymphocytes.vertices),
        gates.RectangleGate("cd3", [ranged("cd3", "CD3")]),
        gates.RectangleGate("cd4", [ranged("cd4", "CD4")]),
        gates.RectangleGate("treg", treg),
    ]
    path: tuple[str, ...] = ("root",)
    for gate in tree:
        strategy.add_gate(gate, path)
        path = (*path, gate.gate_name)
    with np.errstate(all="ignore"):
        results = strategy.gate_sample(sample)
    lymphs, cd4, found = (np.asarray(results.get_gate_membership(name)) for name in ("lymphocytes", "cd4", "treg"))
    return Upstream(lymphs, cd4, found)


def by_fixed_gates(upstream: Upstream) -> Outcome:
    """FlowKit's own answer."""
    return Outcome(upstream.treg, int(np.count_nonzero(upstream.lymphocytes)))


def by_valley(specimen: Specimen, upstream: Upstream, template: Template) -> Outcome:
    """Cut each marker of the CD4+ cells at a density minimum of this tube, as openCyto's `gate_mindensity` does."""
    values = _transformed(specimen, upstream, template)
    edges = []
    for name, each in zip(MARKER_GATES, values, strict=True):
        place = template.gate(name).place
        edges.append(mindensity(each, place.within))
    inside = (values[0] >= edges[0]) & (values[1] >= edges[1])
    return _from_cd4(upstream, inside)


def mindensity(values: NDArray[np.float64], gate_range: tuple[float, float]) -> float:
    """The deepest minimum of a kernel density between its two highest peaks, within `gate_range`.

    As openCyto: R's `density` with twice the bandwidth `nrd0` on 512 points. With one peak only, or no minimum in
    the range, the lower end of the range; without a minimum between the peaks, the deepest in the range.
    """
    grid, density = _r_density(values, adjust=2.0)
    turn = np.diff(np.sign(np.diff(density)))
    seen = (grid[1:-1] >= values.min()) & (grid[1:-1] <= values.max())
    peaks = np.flatnonzero((turn == -2) & seen) + 1
    valleys = np.flatnonzero((turn == 2) & seen) + 1
    valleys = valleys[(grid[valleys] >= gate_range[0]) & (grid[valleys] <= gate_range[1])]
    if peaks.size < 2 or valleys.size == 0:
        return gate_range[0]
    deepest = valleys[np.argsort(density[valleys], kind="stable")]
    highest = np.sort(peaks[np.argsort(-density[peaks], kind="stable")][:2])
    between = deepest[(deepest >= highest[0]) & (deepest <= highest[1])]
    return float(grid[between[0] if between.size else deepest[0]])


def _r_density(values: NDArray[np.float64], adjust: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R's `density`: linear binning on a grid three bandwidths beyond the data, Gaussian kernel."""
    lower, upper = np.quantile(values, (0.25, 0.75))
    spread = min(float(np.std(values, ddof=1)), float(upper - lower) / 1.34) or 1.0
    bandwidth = adjust * 0.9 * spread * len(values) ** -0.2
    grid = np.linspace(values.min() - 3 * bandwidth, values.max() + 3 * bandwidth, _KDE_GRID)
    step = grid[1] - grid[0]
    place = (values - grid[0]) / step
    cell = np.minimum(place.astype(np.intp), _KDE_GRID - 2)
    part = place - cell
    mass = np.bincount(cell, 1 - part, _KDE_GRID) + np.bincount(cell + 1, part, _KDE_GRID)
    kernel = np.exp(-0.5 * np.square(np.arange(-_KDE_GRID, _KDE_GRID + 1) * step / bandwidth))
    return grid, np.convolve(mass, kernel)[_KDE_GRID:-_KDE_GRID]


def by_mixture(specimen: Specimen, upstream: Upstream, template: Template) -> Outcome:
    """The component with the most FOXP3 of a Gaussian mixture on CD25 and FOXP3 of the CD4+ cells of this tube.

    Two to four components, by the Bayesian information criterion, on at most 10,000 cells taken at even steps.
    """
    points = np.stack(_transformed(specimen, upstream, template), axis=1)
    every = -(-len(points) // _GMM_EVENTS)
    some = points[::every]
    fits = [GaussianMixture(n, random_state=0, max_iter=200, tol=1e-4, reg_covar=1e-6).fit(some) for n in (2, 3, 4)]
    best = min(fits, key=lambda fit: fit.bic(some))
    inside = best.predict(points) == int(np.argmax(best.means_[:, 1]))
    return _from_cd4(upstream, inside)


def _transformed(specimen: Specimen, upstream: Upstream, template: Template) -> tuple[NDArray[np.float64], ...]:
    return tuple(template.transform(marker)(specimen.marker(marker)[upstream.cd4]) for marker in MARKERS)


def _from_cd4(upstream: Upstream, inside: NDArray[np.bool_]) -> Outcome:
    mask = np.zeros_like(upstream.cd4)
    mask[np.flatnonzero(upstream.cd4)[inside]] = True
    return Outcome(mask, int(np.count_nonzero(upstream.lymphocytes)))
