"""Bundles of earlier versions judge as they did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_qc.bundle.verification import open_bundle
from edge_qc.engine import open_engine
from edge_qc.engine.acceptance import accept
from edge_qc.inspection import decision

KEPT = Path(__file__).parents[2] / "kept" / "schema-1"


def test_a_bundle_of_schema_1_judges_as_the_version_that_made_it() -> None:
    """Its verdicts on its own golden views were written down before there was a gate to GOOD."""
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install .")
    bundle = open_bundle(KEPT / "bundle")
    assert bundle.manifest.schema_version == 1
    engine = open_engine(bundle)
    golden = bundle.golden()
    wanted = json.loads((KEPT / "verdicts.json").read_text())
    fresh = decision.Circumstances(
        frame_age_s=0.0, max_frame_age_s=1.0, accepted=True, running=True
    )
    try:
        accept(bundle, engine, decision.label_of)
        readings = [engine.infer(view[None])[0] for view in golden.views]
    finally:
        engine.close()
    for die, reading, before in zip(golden.dies, readings, wanted, strict=True):
        verdict = decision.judge(bundle, die, reading, fresh)
        assert verdict.label == before["label"]
        assert verdict.disposition.value == before["disposition"]
        assert verdict.gate is None
        assert dict(verdict.probabilities) == pytest.approx(before["probabilities"], abs=1e-4)
        assert dict(verdict.expected_cost) == pytest.approx(
            before["expected_cost"], rel=1e-4, abs=1e-4
        )
        assert verdict.drift is not None
        for name, number in before["drift"].items():
            assert getattr(verdict.drift, name) == pytest.approx(number, rel=1e-4, abs=1e-4)
