"""A whole bundle of a graph of a few nodes, made in milliseconds, for what runs bundles."""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

CLASSES = ("GOOD", "flat", "missing")
SIDE = 8
GRID = 2


def make_bundle(
    folder: Path,
    *,
    batch: int = 2,
    version: int = 1,
    shift: float = 0.0,
    seed: int = 0,
    frame_sizes: list[list[int]] | None = None,
) -> Path:
    """The bundle's folder. shift: added to the golden logits, so that no engine reproduces them.
    seed: of the weights, and so of what it says. frame_sizes: (width, height) that it learned."""
    folder.mkdir(parents=True)
    model = _model(batch, seed)
    views = _views(2 * batch)
    answers = _answers(model, views, batch)
    answers["logits"] = answers["logits"] + np.float32(shift)
    golden = io.BytesIO()
    np.savez(
        golden,
        views=views,
        labels=np.array(["GOOD"] * len(views)),
        dies=np.array(["Die01"] * len(views)),
        **answers,
    )
    files = {"model.onnx": model, "golden.npz": golden.getvalue()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    document: dict[str, Any] = _manifest(batch, version) | {
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for name, content in files.items()
        }
    }
    if frame_sizes is not None:
        document["dies"]["Die01"]["frame_sizes"] = frame_sizes
    manifest = json.dumps(document).encode()
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "manifest.sha256").write_text(hashlib.sha256(manifest).hexdigest() + "\n")
    return folder


def _model(batch: int, seed: int) -> bytes:
    """Means over quadrants, and things made of them by one matrix each."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install onnx")
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(seed)
    weights = {
        "scale": np.float32(1 / 255),
        "to_logits": draw.normal(size=(GRID * GRID, len(CLASSES))).astype(np.float32) * 8,
        "flat": np.array([batch, GRID * GRID], np.int64),
        "square": np.array([batch, GRID, GRID], np.int64),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["view"], ["float"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Mul", ["float", "scale"], ["scaled"], name="normalise"),
        helper.make_node(
            "AveragePool", ["scaled"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4], name="pool"
        ),
        helper.make_node("Reshape", ["pooled", "flat"], ["features"], name="features"),
        helper.make_node("MatMul", ["features", "to_logits"], ["logits"], name="head"),
        helper.make_node("Mul", ["features", "features"], ["squares"], name="squares"),
        helper.make_node("Reshape", ["squares", "square"], ["distances"], name="distances"),
        helper.make_node("ReduceMax", ["squares", "axes"], ["drift"], keepdims=0, name="drift"),
        helper.make_node(
            "ReduceMean", ["squares", "axes"], ["embedding_distance"], keepdims=0, name="embedding"
        ),
    ]

    def tensor(name: str, kind: int, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        nodes,
        "tiny",
        [tensor("view", TensorProto.UINT8, batch, 1, SIDE, SIDE)],
        [
            tensor("logits", TensorProto.FLOAT, batch, len(CLASSES)),
            tensor("distances", TensorProto.FLOAT, batch, GRID, GRID),
            tensor("drift", TensorProto.FLOAT, batch),
            tensor("embedding_distance", TensorProto.FLOAT, batch),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _views(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, 1, SIDE, SIDE), np.uint8)


def _answers(model: bytes, views: NDArray[np.uint8], batch: int) -> dict[str, Any]:
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    parts = [
        session.run(names, {"view": views[start : start + batch]})
        for start in range(0, len(views), batch)
    ]
    return {
        name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(names)
    }


def _manifest(batch: int, version: int) -> dict[str, object]:
    labels = (*CLASSES, "DRIFT")
    tail = {"count": 100, "scores": [0.0, 1.0], "survival": [1.0, 0.5], "scale": 1.0}
    combined = {"count": 100, "scores": [0.0, math.log(2)], "survival": [1.0, 0.5], "scale": 1.0}
    return {
        "schema_version": 1,
        "version": version,
        "name": "tiny",
        "created": "2026-01-01T00:00:00Z",
        "producer": "tests",
        "network": "tiny",
        "classes": CLASSES,
        "dies": {"Die01": {"angle": 0, "box": [0, 0, SIDE, SIDE]}},
        "input": {"height": SIDE, "width": SIDE, "batch": batch, "mean": [0.0], "std": [1.0]},
        "precision": "fp32",
        "opset": 18,
        "padim": {
            "layers": ["pool"],
            "channels": 1,
            "grid": [GRID, GRID],
            "fit": "pooled",
            "score": "max",
        },
        "temperature": 1.0,
        "drift": {
            "alpha": 0.01,
            "prior": 0.001,
            "assumed_auroc": 0.9,
            "combine": "padim",
            "padim": {"*": tail},
            "embedding": {"*": tail},
            "combined": {"*": combined},
        },
        "decision": {
            "policy": "expected-cost",
            "dispositions": {label: "PASS" if label == "GOOD" else "REJECT" for label in labels},
        },
        "costs": {true: {seen: float(true != seen) for seen in labels} for true in labels},
        "tolerances": {"logits": 0.01, "drift": 0.01, "embedding_distance": 0.01},
    }
