"""The types that an exported graph declares, which a strongly typed network has to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

HALF, FLOAT = "HALF", "FLOAT"


def node_types(model: onnx.ModelProto) -> dict[str, str]:
    """HALF or FLOAT by node, of what a node gives; nodes of indices and shapes are left out."""
    types = _tensor_types(model)
    return {
        node.name: types[node.output[0]] for node in model.graph.node if node.output[0] in types
    }


def count_casts(model: onnx.ModelProto) -> int:
    """Casts between half and FP32 that every answer pays for. Weights are cast once, by whoever
    builds a plan."""
    types = _tensor_types(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    return sum(
        node.op_type == "Cast"
        and node.input[0] not in constants
        and {types.get(node.input[0]), types.get(node.output[0])} == {HALF, FLOAT}
        for node in model.graph.node
    )


def _tensor_types(model: onnx.ModelProto) -> dict[str, str]:
    import onnx

    names = {onnx.TensorProto.FLOAT16: HALF, onnx.TensorProto.FLOAT: FLOAT}
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    typed = [
        (value.name, value.type.tensor_type.elem_type)
        for value in (*graph.input, *graph.value_info, *graph.output)
    ]
    typed += [(tensor.name, tensor.data_type) for tensor in graph.initializer]
    return {name: names[kind] for name, kind in typed if kind in names}
