"""Our fused graph, its bare classifier and our PaDiM alone, as ONNX files to time.

Weights and whitening are random: time and size do not depend on them. What is fitted, and how
well, is the tests' matter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from edge_qc_export.drift.embedding import EmbeddingWhitening
from edge_qc_export.drift.patches import Layout, choose_channels, plan_layout, stage_features
from edge_qc_export.drift.whitening import (
    Whitening,
    arranged,
    patch_distances,
    score_from_distances,
    whitened_centres,
)
from edge_qc_export.graph import Features, OnePass, onnx_from_module
from edge_qc_export.learn.network import Network
from edge_qc_export.learn.networks import build_network
from edge_qc_export.learn.residual import IMAGENET_MEAN, IMAGENET_STD

SIZE, CLASSES, CHANNELS, DIRECTIONS = 224, 6, 100, 256
USUAL_CHANNELS, USUAL_ROWS = 144, 14
"""What an export takes at 224 if it is told nothing: the most rows with at most 256 patches."""
THREADS = 2


def session(file: Path) -> onnxruntime.InferenceSession:
    """As the station opens one: two threads that do not spin (two sessions would fight)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def openvino_request(file: Path) -> Any:
    """The graph compiled by OpenVINO in FP32, for as many threads. Needs OpenVINO."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()


def a_view() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(1, 1, 224, 224) uint8."""
    return np.random.default_rng(0).integers(0, 256, (1, 1, SIZE, SIZE), dtype=np.uint8)


def random_network(name: str) -> tuple[Network, Features]:
    """A network with settled batch norms, and its features."""
    torch.manual_seed(0)
    network = build_network(name, CLASSES, (SIZE, SIZE)).train()
    with torch.no_grad():
        network(torch.randn(2, network.input_channels, SIZE, SIZE))
    return network.eval(), Features(network, IMAGENET_MEAN, IMAGENET_STD).eval()


def layout_of(features: Features, rows: int | None, channels: int = CHANNELS) -> Layout:
    """PaDiM's layout on a grid of ``rows``; None for the finest."""
    with torch.no_grad():
        _, levels = features(torch.from_numpy(a_view()))
    sizes = [(level.shape[2], level.shape[3]) for level in levels]
    return plan_layout(sizes, choose_channels([x.shape[1] for x in levels], channels, 0), rows)


def random_whitening(layout: Layout) -> Whitening:
    """Whitening of the right shapes."""
    rows = [
        0.01 * torch.randn(stage.patches, stage.width, layout.before(i) + stage.width)
        for i, stage in enumerate(layout.stages)
    ]
    weights = arranged(rows, layout)
    centres = tuple(
        torch.randn(stage.patches, stage.width, dtype=torch.float64) for stage in layout.stages
    )
    means = whitened_centres(centres, layout, weights)
    return Whitening(layout, weights, means, centres, 0.0)


def random_embedding(size: int) -> EmbeddingWhitening:
    """The short form that a release makes of so many features."""
    return EmbeddingWhitening(
        inverse_scale=torch.ones(size),
        weights=torch.randn(size, DIRECTIONS) / size**0.5,
        means=torch.randn(CLASSES, DIRECTIONS),
        centres=torch.randn(CLASSES, size),
        shrinkage=0.0,
    )


def fused(
    network: Network, features: Features, rows: int | None, channels: int = CHANNELS
) -> OnePass:
    """The module that a release exports."""
    whitening = random_whitening(layout_of(features, rows, channels))
    embedding = random_embedding(network.embedding_size)
    head: nn.Linear = network.classifier  # type: ignore[assignment]
    return OnePass(features, whitening, embedding, head, "largest").eval()


class Bare(nn.Module):
    """The classifier alone, from the same view."""

    def __init__(self, network: Network, features: Features) -> None:
        super().__init__()
        self.features, self.head = features, network.get_submodule("classifier")

    def forward(self, view: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(view)[0])
        return logits


class PaDiMAlone(nn.Module):
    """Distances and score alone: what a peer's PaDiM answers."""

    def __init__(self, features: Features, rows: int | None) -> None:
        super().__init__()
        self.features, self.layout = features, layout_of(features, rows)
        self.whitening = random_whitening(self.layout)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        _, levels = self.features(view)
        patches = stage_features(levels, self.layout)
        distances = patch_distances(
            patches, self.layout, self.whitening.weights, self.whitening.means
        )
        return distances, score_from_distances(distances, "max")


def write(module: nn.Module, outputs: tuple[str, ...], file: Path) -> Path:
    """The module's graph in a file."""
    graph = onnx_from_module(module.eval(), (SIZE, SIZE), 1, outputs=outputs)
    file.write_bytes(graph.SerializeToString(deterministic=True))
    return file
