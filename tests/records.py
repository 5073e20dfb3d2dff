"""A factory of tube records and results folders for the plots and the report: small, seeded, made up."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from tregflow.record import (
    AxisRecord,
    CompensationRecord,
    DimensionRecord,
    FindingRecord,
    GateRecord,
    HistogramRecord,
    PlacementRecord,
    PopulationRecord,
    TemplateRef,
    TransformRecord,
    TubeIdentity,
    TubeRecord,
    pack_counts,
    write_record,
)
from tregflow.report.inputs import ENDPOINT_COLUMNS, FINDING_COLUMNS, MODE_COLUMNS
from tregflow.transforms import Linear, Logicle

LOGICLE = TransformRecord(kind="logicle", parameters={"T": 262144, "W": 0.5, "M": 4.5, "A": 0})
LINEAR = TransformRecord(kind="linear", parameters={"T": 262144, "A": 0})
CHANNELS = {
    "CD3": "APC-H7-A", "CD4": "BV421-A", "CD8": "BV605-A", "CD25": "PE-Cy7-A", "FOXP3": "PE-A", "CD127": "BV711-A",
    "viability": "BV510-A",
}  # fmt: skip
SCATTER = ("FSC-A", "FSC-H", "SSC-A")


def dimension(name: str, transform: TransformRecord | None = None) -> DimensionRecord:
    pnn = CHANNELS.get(name, name)
    kind = transform or (LINEAR if name in SCATTER else LOGICLE)
    return DimensionRecord(name=name, pnn=pnn, pns=name, compensated=name in CHANNELS, transform=kind)


def axis(name: str, bins: int = 16) -> AxisRecord:
    low, high = (0.0, 1.0) if name in SCATTER else (-0.1, 1.05)
    return AxisRecord(dimension=dimension(name), low=low, high=high, bins=bins)


def gate(
    name: str, parent: str | None, kind: str, names: tuple[str, ...], geometry: dict[str, Any], **more: Any
) -> GateRecord:
    values = {"title": TITLES.get(name, name), "placement": None} | more
    dims = tuple(dimension(n) for n in names)
    return GateRecord(id=name, parent=parent, kind=kind, dimensions=dims, geometry=geometry, **values)


TITLES = {
    "singlets": "Singlets", "viable": "Viable", "lymphocytes": "Lymphocytes", "cd3": "CD3+ T cells",
    "cd4": "CD4+ T cells", "cd4neg": "CD4- T cells", "cd25_pos": "CD25+", "foxp3_pos": "FOXP3+",
    "treg": "CD25+FOXP3+ Treg", "treg_cd127low": "CD127low of Treg",
}  # fmt: skip
PARENTS = {
    "singlets": None, "viable": "singlets", "lymphocytes": "viable", "cd3": "lymphocytes", "cd4": "cd3",
    "cd4neg": "cd3", "cd25_pos": "cd4", "foxp3_pos": "cd4", "treg": "cd4", "treg_cd127low": "treg",
}  # fmt: skip
PANELS = (
    (None, ("singlets",), "FSC-A", "FSC-H"), ("singlets", ("viable",), "FSC-A", "viability"),
    ("viable", ("lymphocytes",), "FSC-A", "SSC-A"), ("lymphocytes", ("cd3",), "CD3", "SSC-A"),
    ("cd3", ("cd4", "cd4neg"), "CD4", "CD8"), ("cd4", ("cd25_pos", "foxp3_pos", "treg"), "CD25", "FOXP3"),
    ("treg", ("treg_cd127low",), "CD127", ""),
)  # fmt: skip
PLACEMENT = PlacementRecord(
    rule="negative_spread", share="tube", space="scale", status="placed", reference="cd4neg", n_reference=9876,
    raw_value=(900.0,), spread=210.0, quality={"k": 4.0}, message="",
)  # fmt: skip


def gates(placement: PlacementRecord | None = PLACEMENT) -> tuple[GateRecord, ...]:
    cut25, cut3 = (float(v) for v in Logicle(262144, 0.5, 4.5, 0)(np.array([1500.0, 900.0])))
    singlets = [(0.03, 0.01), (0.97, 0.85), (0.97, 0.99), (0.03, 0.09)]
    lymph = [(0.22, 0.04), (0.44, 0.05), (0.5, 0.16), (0.45, 0.26), (0.3, 0.22), (0.22, 0.12)]
    return (
        gate("singlets", None, "polygon", ("FSC-A", "FSC-H"), {"vertices": singlets}),
        gate("viable", "singlets", "rectangle", ("viability",), {"minima": (None,), "maxima": (0.45,)}),
        gate("lymphocytes", "viable", "polygon", ("FSC-A", "SSC-A"), {"vertices": lymph}),
        gate("cd3", "lymphocytes", "rectangle", ("CD3",), {"minima": (0.45,), "maxima": (None,)}),
        gate("cd4", "cd3", "quadrant", ("CD4", "CD8"), {"dividers": ((0.45,), (0.45,)), "cells": (1, 0)}),
        gate("cd4neg", "cd3", "quadrant", ("CD4", "CD8"), {"dividers": ((0.45,), (0.45,)), "cells": (0, None)}),
        gate("cd25_pos", "cd4", "rectangle", ("CD25",), {"minima": (cut25,), "maxima": (None,)}),
        gate("foxp3_pos", "cd4", "rectangle", ("FOXP3",), {"minima": (cut3,), "maxima": (None,)}, placement=placement),
        gate("treg", "cd4", "boolean", (),
             {"operator": "and", "operands": ("cd25_pos", "foxp3_pos"), "complements": (False, False)}),
        gate("treg_cd127low", "treg", "rectangle", ("CD127",), {"minima": (None,), "maxima": (0.4,)}),
    )  # fmt: skip


def events(n: int, seed: int, treg: float, drift: float) -> dict[str, np.ndarray]:
    """Scale values of a made-up tube: debris, monocytes, lymphocytes with T cells and Tregs; (n,) each."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, n, p=[0.12, 0.13, 0.2, 0.55])  # debris, monocytes, other lymphocytes, T cells
    t = kind == 3
    cd4 = t & (rng.random(n) < 0.64)
    is_treg = cd4 & (rng.random(n) < treg)
    fsc = np.choose(kind, [25e3, 150e3, 92e3, 94e3]) * rng.lognormal(0, 0.12, n)
    ssc = np.choose(kind, [15e3, 95e3, 32e3, 34e3]) * rng.lognormal(0, 0.2, n)
    doublet = rng.random(n) < 0.05
    fsc_h = fsc * rng.normal(0.88, 0.02, n) * np.where(doublet, 0.6, 1)

    def stain(positive: np.ndarray, bright: float, dim: float = 60, cv: float = 0.35) -> np.ndarray:
        return np.where(positive, bright * rng.lognormal(0, cv, n), rng.normal(dim, 130, n))

    return {
        "FSC-A": fsc, "FSC-H": fsc_h, "SSC-A": ssc, "viability": stain(rng.random(n) < 0.08, 20000),
        "CD3": stain(t, 15000), "CD4": stain(cd4, 18000), "CD8": stain(t & ~cd4, 25000),
        "CD25": np.where(is_treg, 4200 * drift * rng.lognormal(0, 0.45, n), 330 * rng.lognormal(0, 0.8, n) - 150),
        "FOXP3": np.where(is_treg, 3500 * drift * rng.lognormal(0, 0.4, n), rng.normal(80, 210, n)),
        "CD127": np.where(is_treg, 300 * rng.lognormal(0, 0.6, n), stain(t, 5000)),
    }  # fmt: skip


def make_record(
    tube: str = "S01_BL_stained", *, subject: str = "S01", visit: str = "BL", role: str = "stained", status: str = "ok",
    template_status: str = "released", denominator: str = "lymphocytes", n: int = 4000, bins: int = 16, seed: int = 1,
    treg: float = 0.06, drift: float = 1.0, placement: PlacementRecord | None = PLACEMENT,
    findings: tuple[FindingRecord, ...] = (), comment: str = "", gated: bool = True,
) -> TubeRecord:  # fmt: skip
    data = events(n, seed, treg, drift)
    t = {k: (Linear(262144, 0) if k in SCATTER else Logicle(262144, 0.5, 4.5, 0))(v) for k, v in data.items()}
    masks = _masks(t, gates())
    counts = {k: int(m.sum()) for k, m in masks.items()}
    populations = tuple(
        PopulationRecord(
            id=i, title=TITLES[i], parent=p, n_events=counts[i], n_non_finite=0,
            mfi={"FOXP3": float(np.median(data["FOXP3"][masks[i]])), "CD25": None} if i == "treg" and counts[i] else {},
        )
        for i, p in PARENTS.items()
    )  # fmt: skip
    histograms = []
    for parent, shown, x, y in PANELS:
        inside = np.ones(n, dtype=bool) if parent is None else masks[parent]
        axes = [axis(d, bins) for d in (x, y) if d]
        places = [(t[a.dimension.name][inside] - a.low) / (a.high - a.low) * bins for a in axes]
        drawn = [np.clip(p.astype(int), 0, bins - 1) for p in places]
        cells = drawn[0] if not y else drawn[0] * bins + drawn[1]
        histograms.append(
            HistogramRecord(
                population=parent or "", gates=shown, x=axis(x, bins), y=axis(y, bins) if y else None,
                counts=pack_counts(np.bincount(cells, minlength=bins ** len(drawn))),
            )
        )  # fmt: skip
    matrix = CompensationRecord(
        source="file:$SPILLOVER", sha256="c0" * 32, condition_number=1.84, channels=tuple(CHANNELS.values()), matrix=()
    )
    return TubeRecord(
        tregflow_version="0.1.0",
        template=TemplateRef(
            id="treg-foxp3-pbmc", version="0.1.0", sha256="ab" * 32, status=template_status, numerator="treg",
            title="CD4+CD25+FOXP3+ Treg, PBMC, fixed and permeabilised", denominator=denominator, also_of=("cd4",),
        ),
        tube=TubeIdentity(
            tube=tube, file=f"{tube}.fcs", subject_id=subject, visit=visit, role=role, replicate=1,
            collected_at="2021-03-04", batch_id="B1", comment=comment,
        ),
        key="k", status=status, file_sha256=f"{seed:064x}", n_events=n if gated else None,
        acquisition={"$CYT": "LSRFortessa", "$DATE": "04-MAR-2021"}, compensation=matrix if gated else None,
        populations=populations if gated else (), gates=gates(placement) if gated else (),
        histograms=tuple(histograms) if gated else (), findings=findings,
    )  # fmt: skip


def _masks(t: dict[str, np.ndarray], tree: tuple[GateRecord, ...]) -> dict[str, np.ndarray]:
    """Events in each gate and its ancestors. Not the engine's code: good enough for a made-up tube."""
    masks: dict[str, np.ndarray] = {}
    for g in tree:
        inside = np.ones(len(t["FSC-A"]), dtype=bool) if g.parent is None else masks[g.parent].copy()
        if g.kind == "boolean":
            for operand in g.geometry["operands"]:
                inside &= masks[operand]
        if g.kind == "polygon":
            x, y = (t[d.name] for d in g.dimensions)
            odd = np.zeros(len(x), dtype=bool)
            corners = g.geometry["vertices"]
            for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
                if y0 != y1:
                    odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
            inside &= odd
        for i, d in enumerate(g.dimensions if g.kind != "polygon" else ()):
            if g.kind == "rectangle":
                low, high = g.geometry["minima"][i], g.geometry["maxima"][i]
            else:
                cell = g.geometry["cells"][i]
                edges = [None, *g.geometry["dividers"][i], None]
                low, high = (None, None) if cell is None else (edges[cell], edges[cell + 1])
            inside &= (t[d.name] >= (-np.inf if low is None else low)) & (
                t[d.name] < (np.inf if high is None else high)
            )
        masks[g.id] = inside
    return masks


def endpoint_row(record: TubeRecord, **changes: str) -> dict[str, str]:
    row = dict.fromkeys((*ENDPOINT_COLUMNS, "collected_at"), "")
    tube, template = record.tube, record.template
    row |= {
        "subject_id": tube.subject_id, "visit": tube.visit, "role": tube.role, "replicate": str(tube.replicate),
        "file": tube.file, "file_sha256": record.file_sha256, "template_id": template.id, "status": record.status,
        "template_version": template.version, "template_sha256": template.sha256, "tregflow_version": "0.1.0",
        "numerator": template.numerator, "denominator": template.denominator,
        "finding_codes": ";".join(sorted({f.code for f in record.findings})),
    }  # fmt: skip
    inside, whole, cd4 = (record.count(p) for p in ("treg", template.denominator, "cd4"))
    if inside is not None and whole and cd4 and record.status in ("ok", "review"):
        p, z = inside / whole, 1.96
        middle, half = p + z * z / (2 * whole), z * (p * (1 - p) / whole + z * z / (4 * whole * whole)) ** 0.5
        row |= {
            "n_events": str(record.n_events), "n_numerator": str(inside), "n_denominator": str(whole),
            "n_cd4": str(cd4),
            "endpoint_pct": str(100 * p), "endpoint_pct_count_low": str(100 * (middle - half) / (1 + z * z / whole)),
            "endpoint_pct_count_high": str(100 * (middle + half) / (1 + z * z / whole)),
            "treg_pct_of_lymphocytes": str(100 * p) if template.denominator == "lymphocytes" else "",
            "treg_pct_of_cd4": str(100 * inside / cd4),
        }  # fmt: skip
    return row | changes


def make_results(
    folder: Path,
    records: list[TubeRecord],
    rows: list[dict[str, str]] | None = None,
    modes: list[dict[str, str]] | None = None,
    found: list[dict[str, str]] | None = None,
) -> Path:
    """Write a results folder as a run leaves it; `found` are findings about the whole run."""
    (folder / "samples").mkdir(parents=True)
    for i, record in enumerate(records):
        write_record(folder / "samples" / f"{i:03}.json", record)
    _write(folder / "endpoint.csv", rows if rows is not None else [endpoint_row(r) for r in records])
    seen = [{k: str(getattr(f, k)) for k in FINDING_COLUMNS} for r in records for f in r.findings]
    _write(folder / "findings.csv", [*(found or []), *seen], FINDING_COLUMNS)
    if modes is not None:
        _write(folder / "modes.csv", modes, MODE_COLUMNS)
    return folder


def _write(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = ()) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
