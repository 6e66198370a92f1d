"""Networks that have learnt nothing, fitted and exported: graphs of the right form in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, fx, nn

from edge_qc_export.drift.embedding import EmbeddingMoments, EmbeddingWhitening, fit_embedding
from edge_qc_export.drift.moments import Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import choose_channels, plan_layout, stage_features
from edge_qc_export.drift.whitening import Score, Whitening, stored_in_half
from edge_qc_export.graph import Features, OnePass, onnx_from_module
from edge_qc_export.graph.precision import HalfPlan, half_body, layer_ranges, plan_half
from edge_qc_export.learn.networks import Network, build_network

MEAN, STD = {1: (0.4,), 3: (0.485, 0.456, 0.406)}, {1: (0.2,), 3: (0.229, 0.224, 0.225)}


def views(count: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)


def settled(network: Network, size: int) -> Network:
    """The network with batch norms that have seen something, so that folding them shows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # A hundredth of one batch would leave a deep network's features all the same.
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.randn(8, network.input_channels, size, size))
    return network.eval()


@dataclass(frozen=True)
class Fit:
    """What a graph is made of."""

    network: Network
    features: Features
    padim: Whitening
    embedding: EmbeddingWhitening
    score: Score
    size: int

    def module(self) -> OnePass:
        return OnePass(
            self.features, self.padim, self.embedding, self.network.classifier, self.score
        ).eval()

    def half_plan(self, told: tuple[str, ...] = ()) -> HalfPlan:
        """Which layers stay in FP32, over a few views. told: these in any case."""
        inputs = [self.features.inputs(views(4, self.size))]
        return plan_half(self.body, layer_ranges(self.body, inputs), told)

    def half_module(self, plan: HalfPlan) -> OnePass:
        """The module that ``edge-qc export --fp16`` makes."""
        channels = self.network.input_channels
        halved = half_body(self.body, plan)
        features = Features(self.network, MEAN[channels], STD[channels], halved).eval()
        padim = stored_in_half(self.padim)
        head = self.network.classifier
        return OnePass(features, padim, self.embedding, head, self.score).eval()

    def onnx(self, batch: int, plan: HalfPlan | None = None) -> onnx.ModelProto:
        """The graph; in half where there is a plan of it."""
        module = self.module() if plan is None else self.half_module(plan)
        size = (self.size, self.size)
        return onnx_from_module(module, size, batch, half_weights=plan is not None)

    @property
    def body(self) -> fx.GraphModule:
        body = self.features.body
        assert isinstance(body, fx.GraphModule)
        return body


def fitted(
    network: Network,
    size: int,
    channels: int = 12,
    rank: int = 512,
    score: Score = "mean",
    rows: int | None = None,
) -> Fit:
    """The fit over an untrained network. rows: of PaDiM's grid, None for the finest."""
    ch = network.input_channels
    features = Features(network, MEAN[ch], STD[ch]).eval()
    pixels, labels = views(40, size), torch.arange(40) % 2
    with torch.no_grad():
        embedding, levels = features(pixels)
    layout = plan_layout(
        [(level.shape[2], level.shape[3]) for level in levels],
        choose_channels([level.shape[1] for level in levels], channels, 0),
        rows,
    )
    moments, embeddings = Moments(layout), EmbeddingMoments(embedding.shape[1], 2)
    moments.update(stage_features(levels, layout))
    embeddings.update(embedding, labels)
    return Fit(
        network,
        features,
        fit(moments, Regularisation()),
        fit_embedding(embeddings, rank),
        score,
        size,
    )


def untrained(name: str, size: int, rows: int | None = None, channels: int = 12) -> Fit:
    """The named network with random weights, always the same, and its fit."""
    torch.manual_seed(0)
    return fitted(settled(build_network(name, 3, (size, size)), size), size, channels, rows=rows)
