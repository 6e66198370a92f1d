"""``build_plan`` with two compilers: the stand-in for TensorRT, which every run has, and TensorRT
for RTX (``make conformance``), which says whether the stand-in behaves as NVIDIA's own does."""

from __future__ import annotations

import re

import pytest

from edge_qc.engine import BuildStep
from edge_qc.engine.plan import nodes_without_kernel
from edge_qc.errors import EngineError
from tests.rig.compilers import Compiler

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install onnx")

from onnx import TensorProto, helper  # noqa: E402


def graph(
    *nodes: onnx.NodeProto, inputs: dict[str, int] | None = None, shape: tuple[int, ...] = (1, 4, 4)
) -> bytes:
    """An ONNX of the nodes, whose last one gives the output ``out``."""
    named = inputs or {"a": TensorProto.FLOAT}
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(name, kind, shape) for name, kind in named.items()],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    content: bytes = made.SerializeToString()
    return content


def good() -> bytes:
    return graph(
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Mul", ["b", "b"], ["out"], name="square"),
    )


def test_a_plan_comes_with_a_timing_cache_that_the_next_build_takes(compiler: Compiler) -> None:
    first = compiler.build(good())
    second = compiler.build(good(), timing=first.timing)
    assert first.plan
    assert first.timing
    assert second.plan


def test_a_timing_cache_of_another_kind_costs_time_and_no_build(compiler: Compiler) -> None:
    assert compiler.build(good(), timing=b"tactics of another version").plan


def test_progress_grows_to_one_and_names_phases(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_qc.engine.plan._TOLD_EVERY_S", 0.0)
    steps: list[BuildStep] = []
    compiler.build(good(), progress=steps.append)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) > 6
    assert fractions[-1] == 1.0
    assert "Building engine" in {step.doing for step in steps}


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_what_the_listener_raises_stops_the_build(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    """And nothing is told of the build after that, though the compiler ends its phases."""
    monkeypatch.setattr("edge_qc.engine.plan._TOLD_EVERY_S", 0.0)
    steps: list[BuildStep] = []

    def stop(step: BuildStep) -> None:
        steps.append(step)
        if len(steps) == 3:
            raise raised

    with pytest.raises(raised):
        compiler.build(good(), progress=stop)
    assert len(steps) == 3
    assert any("canceled" in error for error in compiler.errors())
    # And the next build is none the worse.
    assert compiler.build(good()).plan


def test_an_onnx_that_was_cut_is_called_cut(compiler: Compiler) -> None:
    with pytest.raises(EngineError, match="the file is cut or damaged"):
        compiler.build(good()[:-20])


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello world"])
def test_a_file_of_another_kind_is_shown(compiler: Compiler, content: bytes) -> None:
    """NVIDIA's parser takes it for a model that holds nothing."""
    with pytest.raises(EngineError) as refused:
        compiler.build(content)
    assert "finds no graph" in str(refused.value)
    assert repr(content[:8]) in str(refused.value)


def test_an_operator_that_the_compiler_lacks_is_named_with_its_node(compiler: Compiler) -> None:
    if not compiler.is_real:
        compiler.trt.fake.parser_errors = [("determinant", "Det", "false")]
    with pytest.raises(EngineError) as refused:
        compiler.build(
            graph(
                helper.make_node("Relu", ["a"], ["b"], name="relu"),
                helper.make_node("Det", ["b"], ["out"], name="determinant"),
            )
        )
    assert "node determinant (Det): TensorRT does not have this operator" in str(refused.value)
    assert "relu" not in str(refused.value)


def test_a_node_whose_types_disagree_is_named_with_both_types(compiler: Compiler) -> None:
    """What a strongly typed network is for: nothing is cast that the export did not cast."""
    if not compiler.is_real:
        words = "mixer: ElementWiseOperation PROD must have same input types: Float and Half"
        compiler.trt.fake.parser_errors = [
            ("mixer", "Mul", f"Invalid Node - mixer\n{words}\n(cudaError 35: no driver)")
        ]
    mixed = {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT16}
    with pytest.raises(EngineError) as refused:
        compiler.build(
            graph(helper.make_node("Mul", ["a", "b"], ["out"], name="mixer"), inputs=mixed)
        )
    said = str(refused.value)
    assert re.search(r"node mixer \(Mul\): .*must have same input types.*Float and Half", said)
    assert "cudaError" not in said
    assert "Invalid Node" not in said


def test_too_little_workspace_says_what_to_raise(compiler: Compiler) -> None:
    with pytest.raises(EngineError, match=r"Raise engine\.workspace_mb \(now 0\)"):
        compiler.build(good(), workspace_mb=0)


@pytest.mark.conformance
def test_a_failing_build_is_not_explained_by_a_refused_timing_cache(rtx: Compiler) -> None:
    """Without a driver TensorRT for RTX cannot read a timing cache, and logs that as an error."""
    with pytest.raises(EngineError) as refused:
        rtx.build(good(), workspace_mb=0, timing=b"tactics of another version")
    assert "cudaError" not in str(refused.value)
    rtx.build(good(), timing=b"tactics of another version")
    assert rtx.errors() == []


@pytest.mark.conformance
@pytest.mark.parametrize("limit_mb", [1, 64, 1 << 20])
def test_any_limit_of_workspace_above_nothing_builds(rtx: Compiler, limit_mb: int) -> None:
    assert rtx.build(good(), workspace_mb=limit_mb).plan


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("layer", "nodes"),
    [
        ("a/Conv", ["a/Conv"]),
        ("trunk.conv_1 + trunk.relu_1", ["trunk.conv_1", "trunk.relu_1"]),
        ("{ForeignNode[head.mul...head.out]}", ["head.mul", "head.out"]),
    ],
)
@pytest.mark.parametrize("short_of_workspace", [False, True])
def test_nodes_without_a_kernel_are_read_from_nvidias_own_words(
    rtx: Compiler, layer: str, nodes: list[str], short_of_workspace: bool
) -> None:
    """The words are taken out of NVIDIA's library, the frame around them from an error that it
    raises here; no graph of ours makes it say them without a GPU."""
    library = rtx.library
    words = "Could not find any implementation for node "
    more = " due to insufficient workspace. See verbose log for requested sizes."
    assert words.encode() in library
    assert more.encode() in library
    with pytest.raises(EngineError):
        rtx.build(good(), workspace_mb=0)
    (framed,) = rtx.errors()
    frame = re.fullmatch(r"(.*\()Assertion .*( In \S+ at \S+\))", framed, re.DOTALL)
    assert frame is not None, framed
    said = f"{frame[1]}{words}{layer}{more if short_of_workspace else '.'}{frame[2]}"
    assert nodes_without_kernel([said]) == nodes
