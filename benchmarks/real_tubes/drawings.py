"""Two pictures of the FOXP3 tubes: where a cut stands, and how the cuts of each rule differ between tubes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.real_tubes.aurora import MARKERS, RuleResult, Tube
from benchmarks.svg import COLOURS, GREY, INK, LEFT, TOP, Frame, drawing
from tregflow.transforms import Transform

AXIS = (0.10, 0.75)


def draw_cut(tube: Tube, result: RuleResult, at: int, transforms: Mapping[str, Transform]) -> str:
    """CD25 and FOXP3 of one tube: the negatives, the CD4+ cells, and the cut with one robust SD to each side."""
    frames = []
    for number, marker in enumerate(MARKERS):
        transform = transforms[marker]
        frame = Frame(LEFT + number * 340, TOP + 10, 270, 170, AXIS, (0, 1.05))
        ticks = [(float(transform(np.array([v]))[0]), f"{v:,.0f}") for v in (0, 1e4, 1e5)]
        frame.axes(f"{marker}, {tube.name}", f"{marker}, scale values", ticks, ())
        for cells, colour, fill in ((tube.negative, GREY, True), (tube.cd4, COLOURS[0], False)):
            counts, edges = np.histogram(transform(cells[marker]), bins=np.linspace(*AXIS, 80))
            smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
            middles = (edges[:-1] + edges[1:]) / 2
            root = np.sqrt(smooth / smooth.max())  # so that a few per cent can be seen beside the rest
            frame.curve([(AXIS[0], 0.0), *zip(middles, root, strict=True), (AXIS[1], 0.0)], colour, fill=fill)
        middle, lower = np.quantile(tube.negative[marker], (0.5, 0.25))
        sd = 1.4826 * float(middle - lower)
        cut = float(result.cuts[at, number])
        for value, dashed in ((cut, False), (cut - sd, True), (cut + sd, True)):
            frame.upright(float(transform(np.array([value]))[0]), COLOURS[1], dashed=dashed)
        frames.append(frame)
    frames[0].words(LEFT + 150, TOP + 34, "grey: CD3+CD4- cells", colour=GREY)
    frames[0].words(LEFT + 150, TOP + 50, "blue: CD4+ cells", colour=COLOURS[0])
    frames[0].words(LEFT + 150, TOP + 66, "line: the cut", colour=COLOURS[1])
    return drawing(700, 262, frames, "Where the cuts of CD25 and FOXP3 stand on one recorded tube")


def draw_cuts(results: Sequence[RuleResult], transforms: Mapping[str, Transform]) -> str:
    """The cuts of each rule over the tubes, a row for each rule, on the transformed axis."""
    frames = []
    height = 24 * len(results)
    for number, marker in enumerate(MARKERS):
        transform = transforms[marker]
        frame = Frame(280 + number * 240, TOP + 10, 210, height, (0.15, 0.75), (len(results), 0))
        ticks = [(float(transform(np.array([v]))[0]), f"{v:,.0f}") for v in (1e3, 1e4, 1e5)]
        frame.axes(f"{marker} cut, six tubes", "scale values", ticks, ())
        for row, result in enumerate(results):
            if number == 0:
                _, up = frame.at(0.15, row + 0.5)
                frame.words(270, up + 4, result.rule, anchor="end", colour=INK)
            for cut in result.cuts[:, number]:
                if np.isfinite(cut):
                    frame.dot(float(transform(np.array([cut]))[0]), row + 0.5, COLOURS[number])
        frames.append(frame)
    return drawing(760, TOP + height + 66, frames, "The cuts of each rule on six recorded tubes")
