"""The study's one picture: bias of the week-12 change by gain drift."""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmarks.svg import COLOURS, LEFT, TOP, Frame, drawing
from benchmarks.validity.study import OURS, VALLEY
from benchmarks.validity.tables import DRIFTS, Sheet, change_bias, sensitive_subjects

SHOWN = (OURS, f"{OURS}, subject", f"{OURS}, batch", "fixed gates", VALLEY)
LIMIT = 0.6


def draw_change(found: Mapping[str, Sheet]) -> str:
    """Bias against the marker-positive truth, with its standard error, of the subjects that are judged."""
    frame = Frame(LEFT, TOP + 10, 460, 240, (-19, 19), (-100 * LIMIT, 100 * LIMIT))
    ticks = [(drift, f"{drift:+g} %") for drift in DRIFTS]
    frame.axes("Bias of the week-12 change, %", "gain drift to week 12", ticks, (-60, -40, -20, -5, 5, 20, 40, 60))
    for number, method in enumerate(SHOWN):
        sheet = found[method]
        aside = (number - (len(SHOWN) - 1) / 2) * 0.7
        for drift, b in zip(DRIFTS, change_bias(sheet, sensitive_subjects(sheet), "positive_pct"), strict=True):
            if math.isnan(b.bias):
                continue
            bias = max(-LIMIT, min(LIMIT, b.bias))
            error = 0.0 if math.isnan(b.se) else min(b.se, LIMIT - abs(bias))
            frame.dot(drift + aside, 100 * bias, COLOURS[number], 100 * error)
        frame.words(LEFT + 480, TOP + 40 + 22 * number, method, colour=COLOURS[number])
    return drawing(720, 330, [frame], "Bias of the week-12 change by gain drift, five ways to place the cuts")
