"""Where the deciding cuts lie: what their neighbourhood holds, counted by hand, and what a person is told of it."""

from __future__ import annotations

import numpy as np
import pytest
from support import ROOT

from tregflow.gating import CutEvidence, cut_evidence, gate_sample, open_tube
from tregflow.gating.columns import make_columns
from tregflow.qc import check_placement
from tregflow.template.model import PlacementLimits
from tregflow.template.registry import load_template

LIMITS = PlacementLimits(sensitive_pct=25, reference_positive_pct=10)


def codes(evidence: CutEvidence, limits: PlacementLimits = LIMITS) -> list[str]:
    found = list(check_placement(evidence, limits, "treg"))
    assert all(f.severity == "review" for f in found)  # never a reason to fail a tube
    return [f.code for f in found]


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (CutEvidence(100, 125, 10, 100), []),
        (CutEvidence(100, 126, 10, 100), ["PLACEMENT_SENSITIVE"]),
        (CutEvidence(100, 100, 11, 100), ["PLACEMENT_REFERENCE_POSITIVE"]),
        (CutEvidence(0, 1, 0, 100), ["PLACEMENT_SENSITIVE"]),
        (CutEvidence(0, 0, 0, 100), []),
        (CutEvidence(10_000, 12_500, 0, 100), []),  # a larger numerator with the same slope is judged alike
        (CutEvidence(100, None, None, None), []),  # not known is not looked at
    ],
)
def test_slopes_and_positive_references(evidence: CutEvidence, expected: list[str]) -> None:
    assert codes(evidence) == expected
    assert codes(evidence, PlacementLimits()) == []


def test_what_is_said() -> None:
    slope, reference = check_placement(CutEvidence(100, 150, 20, 100), LIMITS, "treg")
    assert slope.message == (
        "with the deciding cuts one robust SD lower, treg has 150 events instead of 100: 50 % more."
    )
    assert reference.message == "20 of 100 reference events (20.0 %) lie beyond every deciding cut."
    (none,) = check_placement(CutEvidence(0, 3, None, None), LIMITS, "treg")
    assert none.message.endswith("instead of 0: not 0.")


def test_the_evidence_is_what_numpy_counts() -> None:
    """PLACEMENT_REFERENCE_POSITIVE and PLACEMENT_SENSITIVE rest on these counts."""
    template = load_template("treg-foxp3-pbmc@0.2.0").template
    tube = open_tube(ROOT / "sample_fcs" / "S02_BL_stained.fcs", template)
    result = gate_sample(tube.sample, template, channels=tube.channels, spillover=tube.spillover)
    evidence = cut_evidence(tube, template, result)
    columns = make_columns(tube.sample, tube.channels, tube.spillover)
    edges, sds = [], []
    for gate in ("cd25_pos", "foxp3_pos"):
        transform = template.transform(template.gate(gate).dimensions[0])
        edges.append(transform.inverse(np.array([result.placements[gate].coordinates[0]]))[0])
        sds.append(result.placements[gate].estimate.quality["robust_sd"])
    cd4, reference = (np.stack(columns.gather(("CD25", "FOXP3"), result[name].mask)) for name in ("cd4", "cd4_neg_t"))
    lower = [edge - sd for edge, sd in zip(edges, sds, strict=True)]
    assert evidence is not None
    assert evidence.n_numerator == np.count_nonzero((edges <= cd4.T).all(axis=1))
    assert evidence.n_lowered == pytest.approx(np.count_nonzero((lower <= cd4.T).all(axis=1)), abs=1)
    assert evidence.n_reference_positive == np.count_nonzero((edges <= reference.T).all(axis=1))
    assert evidence.n_reference == result["cd4_neg_t"].n_events


def test_a_template_without_deciding_cuts_has_no_evidence() -> None:
    template = load_template("treg-foxp3-pbmc@0.2.0").template
    tube = open_tube(ROOT / "sample_fcs" / "S02_BL_stained.fcs", template)
    result = gate_sample(tube.sample, template, channels=tube.channels, spillover=tube.spillover)
    fixed = template.model_copy(update={"gates": tuple(g for g in template.gates if g.id in {"singlets", "viable"})})
    assert cut_evidence(tube, fixed, result) is None
