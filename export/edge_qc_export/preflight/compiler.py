"""TensorRT for RTX asked about one ONNX: ``python -m`` this file, with a model and architectures.

A process of its own, because a compiler that crashes must not take an export along, and because
``build_plan`` finds it under TensorRT's name. The answer is one JSON document on standard output:
what it read, by layer, and for which architectures it built; or why it refused. Nothing runs: what
is built here is thrown away.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edge_qc.engine.plan import build_plan
from edge_qc.engine.tensorrt_log import Messages, logger_of
from edge_qc.errors import EngineError

_WORKSPACE_MB = 1024
_OPTIMIZATION_LEVEL = 3
"""As a station's by default."""


def main(file: str, *architectures: str) -> None:
    # What TensorRT for RTX is called at home; ``tensorrt_rtx`` is only another name of it.
    import tensorrt_rtx_bindings as trt

    sys.modules["tensorrt"] = trt
    model = Path(file).read_bytes()
    messages = Messages()
    logger = logger_of(messages)
    answer: dict[str, Any] = {"version": trt.__version__, "built": [], "refusal": None}
    try:
        for architecture in architectures:
            answer["building"] = architecture
            build_plan(
                model,
                logger,
                messages,
                workspace_mb=_WORKSPACE_MB,
                optimization_level=_OPTIMIZATION_LEVEL,
                configure=lambda config, name=architecture: _build_for(config, name),  # type: ignore[misc]
            )
            answer["built"].append(architecture)
        answer["layers"] = _layers(trt, model, logger)
    except EngineError as error:
        # build_plan found it under TensorRT's name.
        own = f"TensorRT {trt.__version__}"
        answer["refusal"] = str(error).replace(own, f"TensorRT for RTX {trt.__version__}")
    sys.stdout.write(json.dumps(answer) + "\n")


def _build_for(config: Any, architecture: str) -> None:
    import tensorrt_rtx_bindings as trt

    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, architecture), 0)


def _layers(trt: Any, model: bytes, logger: Any) -> list[dict[str, Any]]:
    """The network as it was read: each layer's name, kind, and types of its inputs and outputs.
    constant: whether nothing but weights goes into it."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    trt.OnnxParser(network, logger).parse(model)
    constants: set[str] = set()
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        inputs = [layer.get_input(place) for place in range(layer.num_inputs)]
        outputs = [layer.get_output(place) for place in range(layer.num_outputs)]
        inputs = [tensor for tensor in inputs if tensor is not None]
        constant = all(tensor.name in constants for tensor in inputs)
        if constant:
            constants |= {tensor.name for tensor in outputs}
        layers.append(
            {
                "name": layer.name,
                "kind": layer.type.name,
                "inputs": [tensor.dtype.name for tensor in inputs],
                "outputs": [tensor.dtype.name for tensor in outputs],
                "constant": constant,
            }
        )
    return layers


if __name__ == "__main__":
    main(*sys.argv[1:])
