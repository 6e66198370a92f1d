"""Each loss is the formula that it is named after."""

from __future__ import annotations

import pytest
import torch

from edge_qc.errors import UsageError
from edge_qc_export.figures.costs import report_loss_costs
from edge_qc_export.learn.losses import LOSSES, build_loss

pytestmark = pytest.mark.torch

CLASSES = ("GOOD", "Boucle plate", "Missing")
COUNTS = {"GOOD": 30, "Boucle plate": 10, "Missing": 60}
COSTS = report_loss_costs()
LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 3.0]])
TARGETS = torch.tensor([0, 1, 1])


def test_cross_entropy_is_the_mean_surprise() -> None:
    p = LOGITS.softmax(1)
    wanted = -(p[0, 0].log() + p[1, 1].log() + p[2, 1].log()) / 3
    torch.testing.assert_close(
        build_loss("cross-entropy", CLASSES, COUNTS, COSTS)(LOGITS, TARGETS), wanted
    )


def test_class_weights_make_every_class_weigh_the_same() -> None:
    p = LOGITS.softmax(1)
    good, flat = 100 / (3 * 30), 100 / (3 * 10)
    wanted = -(good * p[0, 0].log() + flat * p[1, 1].log() + flat * p[2, 1].log()) / 3
    loss = build_loss("class-weighted", CLASSES, COUNTS, COSTS)
    torch.testing.assert_close(loss(LOGITS, TARGETS), wanted)


def test_focal_loss_turns_away_from_what_is_known() -> None:
    p = LOGITS.softmax(1)[torch.arange(3), TARGETS]
    torch.testing.assert_close(
        build_loss("focal", CLASSES, COUNTS, COSTS)(LOGITS, TARGETS),
        ((1 - p) ** 2 * -p.log()).mean(),
    )


def test_cost_loss_is_the_expected_cost_by_name() -> None:
    p = LOGITS.softmax(1)
    wanted = (
        (5 * p[0, 1] + 5 * p[0, 2]) + (10 * p[1, 0] + 2 * p[1, 2]) + (10 * p[2, 0] + 2 * p[2, 2])
    ) / 3
    torch.testing.assert_close(build_loss("cost", CLASSES, COUNTS, COSTS)(LOGITS, TARGETS), wanted)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_finite_gradient_where_the_network_is_certain(name: str) -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], requires_grad=True)
    loss = build_loss(name, CLASSES, COUNTS, COSTS)(logits, torch.tensor([0, 0]))
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_an_unknown_loss_is_told() -> None:
    with pytest.raises(UsageError, match="wanted one of cross-entropy, class-weighted, f"):
        build_loss("hinge", CLASSES, COUNTS, COSTS)
