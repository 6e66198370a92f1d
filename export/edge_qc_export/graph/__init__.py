"""One module that answers everything in one pass, and its ONNX.

``OnePass`` takes the uint8 view, normalises it, runs the trunk once and gives logits, patch
distances, drift and embedding distance. ``onnx_from_module`` makes of it a graph of opset 18 that a
strict checker takes, with operators that TensorRT 10.3 supports, the same bytes each time.
How distances are fitted lives in ``padim`` and ``embedding``, what runs in half in ``precision``.
"""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from edge_qc.bundle.manifest import OUTPUTS
from edge_qc.errors import EdgeQCError
from edge_qc_export.drift.embedding import EmbeddingWhitening, class_distances
from edge_qc_export.drift.patches import Layout, stage_features
from edge_qc_export.drift.whitening import Score, Whitening, patch_distances, score_from_distances
from edge_qc_export.graph.body import SCALE, trace_body
from edge_qc_export.learn.network import Network

if TYPE_CHECKING:
    import onnx

OPSET = 18
_BODY = "features.body"
IR_VERSION = 9
"""What opset 18 needs; ONNX Runtime and TensorRT's parser of the last years read it."""

_OPERATORS = """
Add AveragePool BatchNormalization Cast Clip Concat Constant Conv Div Expand Flatten Gather Gemm
GlobalAveragePool Identity MatMul Max MaxPool Min Mul Pow ReduceMax ReduceMean ReduceMin
ReduceSum Relu Reshape Shape Slice Split Sqrt Squeeze Sub TopK Transpose Unsqueeze
"""
TENSORRT_OPERATORS = frozenset(_OPERATORS.split())
"""Those of TensorRT 10.3's published list (onnx-tensorrt, docs/operators.md) that a graph of ours
may hold."""


class Features(nn.Module):
    """The network without its head: uint8 views to embedding and levels, in one pass.

    body: what computes them from ``inputs``; None traces the network's own.
    """

    def __init__(
        self,
        network: Network,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        body: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body = trace_body(network, mean, std) if body is None else body

    @staticmethod
    def inputs(view: Tensor) -> Tensor:
        """What the body takes of uint8 (N, 1, H, W): the view over SCALE, and ones."""
        unit = view.to(torch.float32) * (1 / SCALE)
        return torch.cat([unit, torch.ones(unit.shape)], dim=1)

    def forward(self, view: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embedding (N, E) and the levels (N, c, h, w), finest first."""
        embedding, *levels = self.body(self.inputs(view))
        return embedding, levels


class OnePass(nn.Module):
    """uint8 views (N, 1, H, W) to the bundle's five outputs.

    features: ``Features``, or the same in an engine. padim: fitted on GOOD. head: the classifier's
    last layer, embedding to logits. good: GOOD's place among the embedding's classes.
    """

    embedding_inverse_scale: Tensor
    embedding_weights: Tensor
    embedding_means: Tensor
    embedding_centres: Tensor | None

    def __init__(
        self,
        features: nn.Module,
        padim: Whitening,
        embedding: EmbeddingWhitening,
        head: nn.Linear,
        score: Score,
        good: int = 0,
    ) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.good = good
        self.layout: Layout = padim.layout
        self.score = score
        for i, parts in enumerate(padim.weights):
            for j, weight in enumerate(parts):
                self.register_buffer(f"padim_weights_{i}_{j}", weight)
            self.register_buffer(f"padim_means_{i}", padim.means[i])
        for i, scales in enumerate(padim.scales):
            self.register_buffer(f"padim_scales_{i}", scales)
        self._scaled = len(padim.scales) > 0
        self.register_buffer("embedding_inverse_scale", embedding.inverse_scale)
        self.register_buffer("embedding_weights", embedding.weights)
        self.register_buffer("embedding_means", embedding.means)
        self.register_buffer("embedding_centres", embedding.centres)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Logits (N, C), distances (N, gh, gw), drift (N,), and the embedding's distance (N,) to
        the nearest class and to GOOD; float32."""
        embedding, levels = self.features(view)
        embedding = embedding.float()
        # Patches come last: ONNX Runtime orders a graph from its last leaf, and so reads a level as
        # soon as the trunk has made it, while it is still in the processor's cache.
        logits = self.head(embedding)
        whitening = EmbeddingWhitening(
            inverse_scale=self.embedding_inverse_scale,
            weights=self.embedding_weights,
            means=self.embedding_means,
            centres=self.embedding_centres,
            shrinkage=0.0,
        )
        to_class = class_distances(embedding, whitening)
        patches = stage_features(levels, self.layout)
        if self._scaled:
            patches = [x * self.get_buffer(f"padim_scales_{i}") for i, x in enumerate(patches)]
        distances = patch_distances(
            patches,
            self.layout,
            [
                [self.get_buffer(f"padim_weights_{i}_{j}") for j in range(i + 1)]
                for i in range(len(self.layout.stages))
            ],
            [self.get_buffer(f"padim_means_{i}") for i in range(len(self.layout.stages))],
        )
        drift = score_from_distances(distances, self.score)
        return logits, distances, drift, to_class.amin(dim=0), to_class[self.good]


def onnx_from_module(
    module: nn.Module,
    size: tuple[int, int],
    batch: int,
    *,
    outputs: tuple[str, ...] = OUTPUTS,
    half_weights: bool = False,
) -> onnx.ModelProto:
    """The module's graph, checked: opset 18, input ``view`` uint8 (batch, 1, rows, columns).

    half_weights: keep PaDiM's weights as half, and cast them. Raises EdgeQCError if the exporter
    fails or the graph holds what TensorRT does not support.
    """
    import onnx

    example = torch.zeros(batch, 1, *size, dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["view"],
                output_names=list(outputs),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever its passes raise
        raise EdgeQCError(f"torch.onnx.export cannot export the graph: {error}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _name_after_layers(model)
    _strip(model)
    if half_weights:
        _store_weights_in_half(model)
    onnx.checker.check_model(model, full_check=True)
    foreign = sorted({node.op_type for node in model.graph.node} - TENSORRT_OPERATORS)
    if foreign:
        raise EdgeQCError(
            f"the graph holds {', '.join(foreign)}, which TensorRT 10.3 does not support"
        )
    return model


def _name_after_layers(model: onnx.ModelProto) -> None:
    """Name the body's nodes as ``precision`` names its layers: an engine that fails at a node then
    names a layer that ``--fp32-node`` takes. A layer's further nodes get their operator behind a
    slash."""
    seen: set[str] = set()
    for node in model.graph.node:
        told = {entry.key: entry.value for entry in node.metadata_props}
        scopes = told.get("pkg.torch.onnx.name_scopes", "[]")
        path = [scope for scope in ast.literal_eval(scopes) if scope.startswith(f"{_BODY}.")]
        if not path:
            continue
        layer = path[-1].removeprefix(f"{_BODY}.").replace(".", "_")
        node.name = layer if layer not in seen else f"{layer}/{node.op_type}"
        seen.add(layer)


def _store_weights_in_half(model: onnx.ModelProto) -> None:
    """The whitening's weights, already rounded to half, as half with a Cast to FP32 behind them:
    half the file, the same numbers."""
    import onnx

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if not tensor.name.startswith("padim_weights"):
            continue
        values = onnx.numpy_helper.to_array(tensor)
        half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            raise EdgeQCError(f"{tensor.name} was not rounded to half before the graph was made")
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_half"))
        casts.append(
            onnx.helper.make_node(
                "Cast", [f"{name}_half"], [name], f"cast_{name}", to=onnx.TensorProto.FLOAT
            )
        )
    for cast in reversed(casts):
        graph.node.insert(0, cast)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what says where and when the graph was made, so that its bytes say only what it is."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "edge-qc-export", ""
    model.doc_string = model.domain = ""
    model.model_version = 0
    del model.metadata_props[:]
    del model.functions[:]
    for opset in list(model.opset_import):
        if opset.domain not in ("", "ai.onnx"):
            model.opset_import.remove(opset)
    graph = model.graph
    graph.name, graph.doc_string = "edge-qc", ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for thing in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        thing.doc_string = ""
        del thing.metadata_props[:]


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """The exporter prints and warns about itself; its faults come as exceptions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
