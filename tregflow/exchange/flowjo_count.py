"""Counting the events of a FlowJo sample's populations: exactly, and as FlowJo counts, on the bins of its display.

Exactly: rectangles in scale values, polygons and ellipses on FlowJo's axes, with our geometry. As FlowJo: events and
vertices are moved to whole bins (256 to an axis, or what the gate's `gateResolution` says), what lies beyond an end of
an axis is in its last bin, and a bin that a vertex or edge passes through exactly counts as inside. Rectangles are not
binned. This is what reproduces FlowJo's counts in workspaces at hand; it is published nowhere.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from tregflow.compensation import Spillover
from tregflow.errors import TemplateError
from tregflow.exchange.evaluate import Mask, Masks, Node, Values, evaluate
from tregflow.exchange.workspace import UnknownAxis
from tregflow.gates import Boolean, Ellipsoid, Polygon
from tregflow.template.gatingml_model import GatingDocument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tregflow.exchange.evaluate import Array
    from tregflow.exchange.scales import Axis
    from tregflow.exchange.workspace import Shape, WorkspaceGate, WorkspaceMatrix, WorkspaceSample
    from tregflow.sample import Sample

How = Literal["exact", "grid"]
BINS = 256  # to an axis, where a gate does not say otherwise


def count_sample(
    sample: WorkspaceSample, tube: Sample, how: How = "exact", gates: Sequence[WorkspaceGate] | None = None
) -> Masks:
    """The events of every population of a sample's tree.

    Parameters
    ----------
    sample
        What the workspace says of the tube.
    tube
        Its events.
    how
        `exact`, or `grid` as FlowJo counts.
    gates
        Another tree than the sample's own, on its axes and matrix.

    Raises
    ------
    TemplateError
        `WORKSPACE_AXIS`: a gate on an axis that cannot be repeated. `WORKSPACE_MATRIX`: a matrix that cannot be used.
    PanelError
        `PANEL_MARKER_MISSING`.
    """
    matrix = sample.matrix
    values = Values(tube, None if matrix is None else spillover_of(matrix), GatingDocument(()), absent="fail")
    for channel in tube.channels:  # FlowJo writes an underscore for a slash in a channel's name
        values.index.setdefault(channel.pnn.replace("/", "_"), channel.index)
    tree = sample.gates if gates is None else gates
    return evaluate([_node(gate, sample, values, how) for gate in tree], tube.n_events)


def spillover_of(matrix: WorkspaceMatrix) -> Spillover:
    """A sample's matrix; `WORKSPACE_MATRIX` for a spectral one, whose weights a workspace does not hold."""
    if matrix.spectral:
        raise TemplateError("WORKSPACE_MATRIX", f"the matrix {matrix.name} is a spectral one.")
    if any(len(row) != len(matrix.detectors) for row in matrix.rows):
        sizes = sorted({len(row) for row in matrix.rows})
        raise TemplateError(
            "WORKSPACE_MATRIX",
            f"the matrix {matrix.name} has rows of {sizes} coefficients for {len(matrix.detectors)} detectors.",
        )
    return Spillover(f"workspace:{matrix.name}", matrix.detectors, np.array(matrix.rows))


def axis_of(sample: WorkspaceSample, gate: WorkspaceGate, name: str) -> Axis | None:
    """The axis that a gate stands on, None where the workspace gives none: then it is in scale values."""
    axis = sample.axes.get(name)
    if isinstance(axis, UnknownAxis):
        raise TemplateError(
            "WORKSPACE_AXIS", f"{gate.id} of {sample.name} stands on {name}, whose axis cannot be repeated ({axis})."
        )
    return axis


def ellipse_of(shape: Shape) -> Ellipsoid:
    """FlowJo's ellipse in places on its axes (0 to 1), from its foci and the points of its edge.

    The sum of the distances from the foci is the same for every point of an ellipse: it is taken from the edge point
    that is farthest from the centre, the end of the long axis. (The ends of the short axis are whole numbers in
    workspaces, and do not fit.)
    """
    foci = np.array(shape.foci) / BINS
    centre = foci.mean(axis=0)
    edge = np.array(shape.edge) / BINS - centre
    long = float(np.linalg.norm(edge, axis=1).max())
    focal = float(np.linalg.norm(foci[0] - centre))
    if not long > focal:
        raise TemplateError("WORKSPACE_AXIS", "an ellipse has its foci outside its edge.")
    along = (foci[0] - centre) / focal if focal else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    covariance = long**2 * np.outer(along, along) + (long**2 - focal**2) * np.outer(across, across)
    return Ellipsoid(tuple(centre.tolist()), tuple(map(tuple, covariance.tolist())), 1.0)


def _node(gate: WorkspaceGate, sample: WorkspaceSample, values: Values, how: How) -> Node:
    if gate.shape is None:
        if gate.operator is None:
            raise TypeError(gate.id)
        boolean = Boolean(gate.operator, (False,) * len(gate.dependents))
        return Node(gate.id, gate.parent, boolean=boolean, operands=tuple((name, False) for name in gate.dependents))
    decide = partial(_decide, gate, gate.shape, sample, values, how)
    return Node(gate.id, gate.parent, decide, outside=gate.outside)


def _decide(gate: WorkspaceGate, shape: Shape, sample: WorkspaceSample, values: Values, how: How) -> tuple[Mask, Mask]:
    raw = []
    for name in shape.names:
        channel, compensated = sample.channel(name)
        raw.append(values.column("FCS" if compensated else "uncompensated", channel))
    finite: Mask = np.logical_and.reduce([np.isfinite(x) for x in raw])
    axes = [axis_of(sample, gate, name) for name in shape.names]
    if shape.kind == "rectangle":
        return _in_rectangle(shape, raw, axes, how), finite
    places = [x if axis is None else axis(x) for x, axis in zip(raw, axes, strict=True)]
    if shape.kind == "ellipse":
        if any(axis is None for axis in axes):
            raise TemplateError("WORKSPACE_AXIS", f"{gate.id} of {sample.name} is an ellipse without axes.")
        ellipse = ellipse_of(shape)
        if how == "exact":
            return ellipse.contains(places), finite
        return ellipse.contains([(_bin(place, BINS) + 0.5) / BINS for place in places]), finite
    corners = [v if axis is None else axis(v) for v, axis in zip(np.array(shape.vertices).T, axes, strict=True)]
    if how == "exact" or any(axis is None for axis in axes):
        return _polygon(corners).contains(places), finite
    bins = [_bin(place, shape.resolution) for place in places]
    return _on_grid([np.floor(corner * shape.resolution) for corner in corners], bins), finite


def _in_rectangle(shape: Shape, raw: Sequence[Array], axes: Sequence[Axis | None], how: How) -> Mask:
    inside = np.ones(len(raw[0]), dtype=bool)
    for x, (low, high), axis in zip(raw, shape.bounds, axes, strict=True):
        ends = (-math.inf, math.inf)
        if how == "grid" and axis is not None:  # what lies beyond an end of the axis is piled up on it, and inside
            ends = (float(axis.inverse(0.0)), float(axis.inverse(1.0)))
        if low is not None and low > ends[0]:
            inside &= x >= low
        if high is not None and high < ends[1]:
            inside &= x < high
    return inside


def _bin(place: Array, n: int) -> Array:
    with np.errstate(invalid="ignore"):
        return np.clip(np.floor(place * n), 0, n - 1)


def _polygon(corners: Sequence[Array]) -> Polygon:
    return Polygon(tuple((float(x), float(y)) for x, y in zip(*corners, strict=True)))


def _on_grid(corners: Sequence[Array], bins: Sequence[Array]) -> Mask:
    """Bins inside a polygon whose vertices are bins; those on its edges are inside. A line or a point is its edge."""
    xs, ys = corners
    inside = np.zeros(len(bins[0]), dtype=bool)
    if len({*zip(xs.tolist(), ys.tolist(), strict=True)}) >= 3:
        inside = _polygon(corners).contains(bins)
    x, y = bins
    for ax, ay, bx, by in zip(xs, ys, np.roll(xs, -1), np.roll(ys, -1), strict=True):
        on_line = (bx - ax) * (y - ay) == (by - ay) * (x - ax)
        between = (x >= min(ax, bx)) & (x <= max(ax, bx)) & (y >= min(ay, by)) & (y <= max(ay, by))
        inside |= on_line & between
    return inside
