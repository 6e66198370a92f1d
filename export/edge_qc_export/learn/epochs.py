"""The epochs of a training: batches, optimiser, held-out figures, best epoch, resuming.

Order of batches, dropout and augmentation follow from (seed, epoch) alone, so that an epoch
continued from its checkpoint is the epoch that would have been. What is trained on what is put
together in ``training``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_qc.errors import EdgeQCError
from edge_qc_export.figures import metrics
from edge_qc_export.figures.calibration import fit_temperature
from edge_qc_export.figures.costs import Costs
from edge_qc_export.learn.batch_norm import measure_batch_norm
from edge_qc_export.learn.losses import Loss
from edge_qc_export.learn.network import Network, learning_parameters, trunk_learns
from edge_qc_export.learn.processes import Processes, half_of
from edge_qc_export.learn.resuming import (
    Outcome,
    changing_state,
    frozen_digest,
    read_state,
    write_state,
)
from edge_qc_export.learn.trunk_cache import Change, Source, States
from edge_qc_export.progress import Reporter

_NORM_IMAGES = 1024
"""From so many of the epoch's images at most the statistics of batch norm are measured again."""


class _Learner(nn.Module):
    """The learning part as a module of its own, so that DistributedDataParallel can hold it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *states: Tensor) -> Tensor:
        return self.network.learning(states)


def _channels_last(state: Tensor) -> Tensor:
    """The same values in the order in which convolutions learn quicker. A copy always, since the
    last bits hang on the strides even of a map of one pixel, whose order is no other."""
    if state.ndim != 4:
        return state
    return torch.empty_like(state, memory_format=torch.channels_last).copy_(state)


def _rank(row: Mapping[str, Any]) -> tuple[float, ...]:
    """How an epoch compares, lower is better: by the held-out cost of deciding at least expected
    cost. Where that is no better than a constant prediction's, cost says nothing of the network
    (the cheapest constant rejects every part) and the loss decides."""
    useful = row["held_out_decided_skill"] > 0
    cost = row["held_out_decided_cost"] if useful else 0.0
    return float(row["collapsed"]), float(not useful), cost, row["held_out_loss"]


class Epochs:
    """One training. rows: into the source; targets: class indices of all rows."""

    def __init__(
        self,
        network: Network,
        source: Source,
        targets: NDArray[np.int64],
        held_out: NDArray[np.bool_],
        classes: Sequence[str],
        costs: Costs,
        loss: Loss,
        processes: Processes,
        *,
        folder: Path,
        settings: Mapping[str, Any],
        batch: int,
        seed: int,
        learning_rate: float,
        change: Callable[[int], Change] | None = None,
    ) -> None:
        self._network, self._source, self._loss = network, source, loss
        self._targets = torch.from_numpy(targets)
        self._learn, self._held = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        self._classes, self._costs, self._processes = classes, costs, processes
        self._folder, self._settings = folder, dict(settings)
        self._batch, self._seed, self._change = batch, seed, change
        self._learner = processes.joined(_Learner(network))
        self._optimizer = torch.optim.Adam(
            [parameter for _, parameter in learning_parameters(network)],
            lr=learning_rate,
            eps=1e-7,
        )
        # A head alone has no convolution that would gain by it.
        self._amp = half_of(processes.device) if trunk_learns(network) else None
        self._scaler = torch.amp.GradScaler("cuda", enabled=self._amp == torch.float16)
        self._frozen = frozen_digest(network)
        self.outcome = Outcome()

    def run(self, epochs: int, patience: int | None, reporter: Reporter) -> Outcome:
        """Train up to ``epochs`` in all; stop earlier after ``patience`` epochs without a better
        one. Raises EdgeQCError if the loss is not finite or a checkpoint cannot be written."""
        outcome = self.outcome
        while outcome.epoch < epochs:
            if patience is not None and outcome.epoch - outcome.best_epoch >= patience:
                break
            began = time.monotonic()
            reporter.begin(f"epoch {outcome.epoch + 1} of {epochs}", len(self._learn))
            row: dict[str, Any] = {"epoch": outcome.epoch + 1}
            row |= self._train(outcome.epoch + 1, reporter)
            row |= self._measure()
            row["seconds"] = round(time.monotonic() - began, 3)
            self._keep(row)
            outcome = self.outcome
            reporter.epoch(row)
        return outcome

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._amp is None:
            return nullcontext()
        return torch.autocast(self._processes.device.type, dtype=self._amp)

    def _measuring(self) -> AbstractContextManager[Any]:
        """A CPU measures, and runs the frozen trunk, in float32 as ``edge-qc evaluate`` does."""
        if self._processes.device.type == "cuda":
            return self._autocast()
        return torch.autocast("cpu", enabled=False)

    def _states(self, rows: NDArray[np.intp], change: Change | None = None) -> States:
        with torch.no_grad(), self._measuring():
            return tuple(map(_channels_last, self._source.states(rows, change)))

    def _train(self, epoch: int, reporter: Reporter) -> dict[str, float]:
        count, rank = self._processes.count, self._processes.rank
        order = np.random.default_rng([self._seed, epoch]).permutation(self._learn)
        torch.manual_seed(
            int(np.random.SeedSequence([self._seed, epoch, rank]).generate_state(1)[0])
        )
        change = self._change(epoch) if self._change is not None else None
        self._network.train()
        sums = torch.zeros(3, dtype=torch.float64)
        # Parts of equal size, none so small that batch norm has nothing to average.
        batches = np.array_split(order, max(1, round(len(order) / self._batch)))
        for number, whole in enumerate(batches):
            rows = whole[rank::count]
            target = self._targets[rows].to(self._processes.device)
            states = self._states(rows, change)
            with self._autocast():
                logits = self._learner(*states)
            loss = self._loss(logits.float(), target)
            value = loss.item()
            if not math.isfinite(value):
                where = f"epoch {epoch}, batch {number + 1}"
                raise EdgeQCError(self._not_finite(value, where))
            self._optimizer.zero_grad(set_to_none=True)
            # The processes' gradients are averaged: weigh each by its share of the batch.
            share = len(rows) * count / len(whole)
            torch.autograd.backward(self._scaler.scale(loss * share))
            self._scaler.step(self._optimizer)
            self._scaler.update()
            right = (logits.argmax(1) == target).sum().item()
            sums += torch.tensor([value * len(rows), right, len(rows)], dtype=torch.float64)
            reporter.advance(len(whole))
        self._measure_batch_norm(order[:_NORM_IMAGES])
        loss_sum, right_sum, images = self._processes.total(sums).tolist()
        return {"train_loss": loss_sum / images, "train_accuracy": right_sum / images}

    def _measure_batch_norm(self, rows: NDArray[np.intp]) -> None:
        count, rank = self._processes.count, self._processes.rank
        batches = np.array_split(rows, max(1, round(len(rows) / self._batch)))
        with self._autocast():
            shares = (self._states(whole[rank::count]) for whole in batches)
            measure_batch_norm(self._network, shares, self._processes)

    def _not_finite(self, value: float, where: str) -> str:
        done = self.outcome.epoch
        kept = (
            f"epochs 1 to {done} are whole in {self._folder}" if done else "no epoch was finished"
        )
        rate = self._settings["learning_rate"]
        return (
            f"the loss is {value} in {where}, with learning rate {rate}; "
            f"{kept}. Train again with a smaller --learning-rate or another --loss"
        )

    def held_out_logits(self) -> Tensor:
        """(n held out, C) float32 on the CPU, in the order of the samples."""
        count, rank = self._processes.count, self._processes.rank
        logits = torch.zeros(len(self._held), len(self._classes))
        self._network.eval()
        for start in range(rank * self._batch, len(self._held), self._batch * count):
            rows = self._held[start : start + self._batch]
            with torch.no_grad(), self._measuring():
                answer = self._network.learning(self._states(rows))
            logits[start : start + len(rows)] = answer.float().cpu()
        return self._processes.total(logits)

    def _measure(self) -> dict[str, Any]:
        logits = self.held_out_logits()
        targets = self._targets[self._held]
        truth = [self._classes[index] for index in targets.tolist()]
        said = [self._classes[index] for index in logits.argmax(1).tolist()]
        labels = metrics.present_labels(truth, said, self._costs)
        found = metrics.figures(metrics.confusion_matrix(truth, said, labels), self._costs, labels)
        loss = self._loss(logits, targets).item()
        if not math.isfinite(loss):
            where = f"the held-out part after epoch {self.outcome.epoch + 1}"
            raise EdgeQCError(self._not_finite(loss, where))
        row: dict[str, Any] = {"held_out_loss": loss}
        row |= {f"held_out_{name}": float(value) for name, value in found.items()}
        # The station weighs costs with calibrated probabilities: an epoch that is merely surer
        # than another must not seem the better or the worse for it.
        temperature = fit_temperature(logits.numpy(), targets.numpy())
        decided = metrics.least_cost_labels(
            (logits.double() / temperature).softmax(1).numpy(), self._costs, self._classes
        )
        found = metrics.figures(
            metrics.confusion_matrix(truth, decided, labels), self._costs, labels
        )
        row["held_out_decided_cost"] = float(found["mean_cost"])
        row["held_out_decided_skill"] = float(found["pwa_skill"])
        row["collapsed"] = metrics.collapsed(truth, said)
        return row

    def _keep(self, row: dict[str, Any]) -> None:
        before, rank = self.outcome, _rank(row)
        after = replace(before, epoch=row["epoch"], log=[*before.log, row])
        if rank < before.best_rank:
            after.best_epoch, after.best_rank = row["epoch"], rank
            after.best_state = changing_state(self._network)
        if self._processes.first:
            write_state(self._folder, after, *self._training_state())
        self.outcome = after
        self._processes.wait()

    def resume(self) -> None:
        """Go on from the last epoch that was finished in the folder; from the start if none was.

        Raises DataError if the checkpoint is damaged, or of other classes or settings.
        """
        self.outcome = read_state(self._folder, *self._training_state())

    def _training_state(
        self,
    ) -> tuple[
        Network, torch.optim.Optimizer, torch.amp.GradScaler, Mapping[str, Any], Sequence[str], str
    ]:
        return (
            self._network,
            self._optimizer,
            self._scaler,
            self._settings,
            self._classes,
            self._frozen,
        )
