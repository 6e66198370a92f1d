"""``edge-qc`` with another way to learn, for ``bench/tables/learning.py``: ``WAY train DATA …``.

``averaged``: what is measured and kept after an epoch is the exponential average of the weights
over about an epoch's steps (Izmailov et al. 2018, *Averaging Weights Leads to Wider Optima and
Better Generalization*). ``logit-adjusted``: the cross-entropy of the logits plus the logarithm of
each class's share, so that the logits are those of even classes (Menon et al. 2021, *Long-tail
learning via logit adjustment*). Neither stands in ``edge-qc``: the table says why.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edge_qc import cli
from edge_qc_export.learn import training
from edge_qc_export.learn.epochs import Epochs
from edge_qc_export.learn.network import learning_parameters


class AveragedEpochs(Epochs):
    """The average is in the network from the end of an epoch's steps until the next begins."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self._own = [parameter for _, parameter in learning_parameters(self._network)]
        self._mean = [parameter.detach().clone() for parameter in self._own]
        self._steps, self._averaged = 0, False
        self._optimizer.register_step_post_hook(lambda *_: self._count())

    def _count(self) -> None:
        self._steps += 1
        epoch_steps = max(1, round(len(self._learn) / self._batch))
        # The plain mean at first: the start weighs no more than other steps.
        keep = min(math.exp(-1 / epoch_steps), 1 - 1 / self._steps)
        with torch.no_grad():
            for mean, parameter in zip(self._mean, self._own, strict=True):
                mean.lerp_(parameter, 1 - keep)

    def _exchange(self) -> None:
        self._averaged = not self._averaged
        with torch.no_grad():
            for mean, parameter in zip(self._mean, self._own, strict=True):
                held = parameter.detach().clone()
                parameter.copy_(mean)
                mean.copy_(held)

    def _train(self, *arguments: Any) -> dict[str, float]:
        if self._averaged:
            self._exchange()
        return super()._train(*arguments)

    def _measure_batch_norm(self, *arguments: Any) -> None:
        self._exchange()
        super()._measure_batch_norm(*arguments)


def logit_adjusted(
    _name: str, classes: Sequence[str], counts: Mapping[str, int], _costs: object
) -> Any:
    total = sum(counts[label] for label in classes)
    shares = torch.tensor([counts[label] / total for label in classes]).log()

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits + shares, targets)

    return loss


way = sys.argv.pop(1)
if way == "averaged":
    training.Epochs = AveragedEpochs  # type: ignore[misc]
elif way == "logit-adjusted":
    training.build_loss = logit_adjusted
else:
    sys.exit(f"way {way!r}: wanted averaged or logit-adjusted")
cli.main()
