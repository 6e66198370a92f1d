"""The network's features by ONNX Runtime, whose convolutions take a fifth of torch's time on a CPU.

For the passes of an export over all labelled views. What travels in the bundle is ``Features``
itself, and its golden answers are torch's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edge_qc.errors import EngineError
from edge_qc_export.graph import Features, onnx_from_module


class FeaturesInEngine(nn.Module):
    """``Features`` in ONNX Runtime: the same call, the same numbers but for rounding."""

    def __init__(self, features: Features, size: tuple[int, int], batch: int) -> None:
        """size: rows and columns of the views. batch: how many go through the graph at once; fewer
        are filled up. Raises EdgeQCError and EngineError where the graph cannot be made."""
        import onnxruntime as ort

        super().__init__()
        with torch.no_grad():
            _, levels = features(torch.zeros(1, 1, *size, dtype=torch.uint8))
        names = ("embedding", *(f"level_{index}" for index in range(len(levels))))
        graph = onnx_from_module(features, size, batch, outputs=names)
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no root
            raise EngineError(f"ONNX Runtime cannot load the network: {error}") from error
        self._batch, self._names = batch, names

    def forward(self, view: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See ``Features.forward``."""
        pixels = view.numpy()
        outputs: list[list[Tensor]] = [[] for _ in self._names]
        for start in range(0, len(pixels), self._batch):
            part = pixels[start : start + self._batch]
            filled = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), axis=0)])
            try:
                answers = self._session.run(list(self._names), {"view": filled})
            except Exception as error:  # onnxruntime's exceptions share no root
                raise EngineError(f"ONNX Runtime failed: {error}") from error
            for column, answer in zip(outputs, answers, strict=True):
                column.append(torch.from_numpy(answer[: len(part)]))
        embedding, *levels = (torch.cat(column) for column in outputs)
        return embedding, levels
