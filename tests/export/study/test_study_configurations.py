"""What a study runs is what the report ran, on any classes and on real pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install ./export")


from edge_qc.parts import GOOD
from edge_qc_export.data.dataset import CHALLENGE_CLASSES
from edge_qc_export.figures.costs import cost_matrix
from edge_qc_export.study import CONFIGURATIONS, StudySettings, run_study
from edge_qc_export.study.configurations import loss_costs
from tests.rig.real_images import deeppcb

pytestmark = pytest.mark.torch


def test_the_configurations_are_the_report_s_and_our_own_default() -> None:
    """The report's tables, with the PWA that it printed."""
    assert {(c.network, c.unfreeze, c.dropout, c.loss, c.report_pwa) for c in CONFIGURATIONS} == {
        ("efficientnet-lite0", 0, None, "cross-entropy", None),
        ("efficientnet-lite0", 5, None, "cross-entropy", None),
        ("cnn-basic", None, None, "cross-entropy", 0.9561),
        ("cnn-deep", None, None, "cross-entropy", 0.9942),
        ("resnet50", 6, None, "cross-entropy", 0.9963),
        ("resnet50", 12, None, "cross-entropy", 0.9950),
        ("resnet50", 24, None, "cross-entropy", 0.9957),
        ("resnet50", 3, None, "cost", 0.9984),
        ("resnet50", 3, None, "cost", None),
        ("resnet101", 3, None, "cross-entropy", 0.9881),
        ("resnet101", 6, None, "cross-entropy", 0.9915),
        ("resnet101", 12, 0.3, "cross-entropy", 0.9936),
        ("resnet101", 24, 0.3, "cross-entropy", 0.9914),
    }
    assert len({c.name for c in CONFIGURATIONS}) == len(CONFIGURATIONS) == 13


@pytest.mark.parametrize(("order", "precious"), [("alphabetical", GOOD), ("table", "Boucle plate")])
def test_the_order_says_which_class_the_cost_loss_protects(order: Any, precious: str) -> None:
    costs = loss_costs(order, CHALLENGE_CLASSES)
    others = [name for name in CHALLENGE_CLASSES if name != precious]
    assert {costs[name][precious] for name in others} == {10.0}
    assert {costs[precious][name] for name in others} == {5.0}
    assert cost_matrix(costs, CHALLENGE_CLASSES).sum() == 5 * 10 + 5 * 5 + 20 * 2


def test_the_matrix_serves_classes_of_any_name() -> None:
    costs = loss_costs("alphabetical", (GOOD, "copper", "open"))
    assert costs["copper"][GOOD] == costs["open"][GOOD] == 10
    assert loss_costs("table", (GOOD, "copper", "open"))["open"]["copper"] == 10


@pytest.mark.deeppcb
def test_real_pictures_with_their_own_dies_and_costs(tmp_path: Path) -> None:
    """A few hundred of DeepPCB."""
    data = deeppcb(tmp_path, 399, 149)
    study = run_study(
        StudySettings(
            data=data,
            out=tmp_path / "study",
            size=(24, 24),
            epochs=1,
            only=("cnn-basic",),
            dies=data / "dies.json",
            costs=data / "costs.json",
            threads=1,
            device="cpu",
        )
    )
    constant, cnn = study.rows
    assert constant.title != f"constant {GOOD}"
    assert cnn.scores is not None
    assert set(cnn.scores["by_class"]) >= {GOOD, "open", "mousebite"}
