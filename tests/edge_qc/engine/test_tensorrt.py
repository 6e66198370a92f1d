"""The TensorRT engine against stand-ins for TensorRT and pycuda, whose signatures
``tests/conformance`` holds against the real ones."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FAKES = Path(__file__).parents[2] / "fakes"

from edge_qc.bundle.verification import Bundle, open_bundle  # noqa: E402
from edge_qc.engine import BuildStep, DeviceOptions, Engine, open_engine  # noqa: E402
from edge_qc.engine.acceptance import accept  # noqa: E402
from edge_qc.errors import AcceptanceError, EngineError  # noqa: E402
from edge_qc.inspection import decision  # noqa: E402
from tests.rig.tiny_bundle import SIDE, make_bundle  # noqa: E402


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in for TensorRT, as ``import tensorrt`` finds it, and reset."""
    monkeypatch.syspath_prepend(str(FAKES))
    import tensorrt

    tensorrt.fake.reset()
    yield tensorrt
    tensorrt.fake.reset()


@pytest.fixture
def cuda(trt: Any) -> Iterator[Any]:
    """The stand-in for pycuda's driver; nothing may be left allocated."""
    import pycuda.driver

    pycuda.driver.fake.reset()
    yield pycuda.driver
    pycuda.driver.fake.reset()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(make_bundle(tmp_path / "bundle"))


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    return tmp_path / "plans"


def opened(bundle: Bundle, plans: Path, **options: Any) -> Engine:
    return open_engine(bundle, "tensorrt", device=DeviceOptions(plans=plans, **options))


@pytest.mark.parametrize("memory", ["mapped", "copied"])
def test_it_answers_as_onnx_runtime_does_and_frees_everything(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path, memory: str
) -> None:
    engine = opened(bundle, plans, memory=memory)
    reference = open_engine(bundle)
    views = bundle.golden().views[:2]
    for count in (2, 1):
        for mine, theirs in zip(
            engine.infer(views[:count]), reference.infer(views[:count]), strict=True
        ):
            assert np.allclose(mine.logits, theirs.logits)
            assert mine.drift == pytest.approx(theirs.drift)
    assert "10.3.0" in engine.name
    assert "sm_87" in engine.name
    accept(bundle, engine, decision.label_of)
    engine.close()
    assert cuda.fake.live == {"context": 0, "pinned": 0, "device": 0}


def test_a_jetson_gets_mapped_memory_and_a_card_gets_copies(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    engine = opened(bundle, plans)
    assert cuda.fake.live["device"] == 0
    engine.close()
    cuda.fake.attributes[cuda.device_attribute.INTEGRATED] = 0
    engine = opened(bundle, plans)
    assert cuda.fake.live["device"] == 5
    engine.close()


def test_a_reading_does_not_change_with_the_next_answer(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    engine = opened(bundle, plans)
    golden = bundle.golden()
    (first,) = engine.infer(golden.views[:1])
    before = first.logits.copy()
    engine.infer(golden.views[1:2])
    assert np.array_equal(first.logits, before)
    engine.close()


def test_it_may_be_asked_on_another_thread(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    """The context is pushed where the call is, and popped again."""
    engine = opened(bundle, plans)
    answers: list[object] = []
    views = bundle.golden().views[:1]
    thread = threading.Thread(target=lambda: answers.extend(engine.infer(views)))
    thread.start()
    thread.join()
    assert len(answers) == 1
    assert cuda.fake.contexts.stack == []
    engine.close()


def test_the_plan_is_strongly_typed_and_without_tf32(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    opened(bundle, plans, workspace_mb=64, optimization_level=1).close()
    (built,) = trt.fake.built
    assert built["flags"] == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert built["tf32"] is False
    assert built["workspace"] == 64 << 20
    assert built["level"] == 1


def test_a_second_start_builds_nothing(trt: Any, cuda: Any, bundle: Bundle, plans: Path) -> None:
    opened(bundle, plans).close()
    opened(bundle, plans, build="never").close()
    assert len(trt.fake.built) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "10.7.0"}, "tensorrt was 10.3.0, is 10.7.0"),
        ({"name": "Orin Nano"}, "gpu was Orin (fake), is Orin Nano"),
        ({"capability": (11, 0)}, "capability was 8.7, is 11.0"),
        ({"multiprocessors": 16}, "multiprocessors was 8, is 16"),
    ],
)
def test_a_plan_of_another_device_or_version_is_never_loaded(
    trt: Any,
    cuda: Any,
    bundle: Bundle,
    plans: Path,
    change: dict[str, Any],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened(bundle, plans).close()
    trt.fake.loaded.clear()
    monkeypatch.setattr(trt, "__version__", change.get("version", "10.3.0"))
    cuda.fake.name = change.get("name", cuda.fake.name)
    cuda.fake.capability = change.get("capability", cuda.fake.capability)
    if "multiprocessors" in change:
        attribute = cuda.device_attribute.MULTIPROCESSOR_COUNT
        cuda.fake.attributes[attribute] = change["multiprocessors"]
    with pytest.raises(EngineError, match="edge-qc build") as refused:
        opened(bundle, plans, build="never")
    assert told in str(refused.value)
    assert trt.fake.loaded == []
    opened(bundle, plans).close()
    assert len(trt.fake.built) == 2


def test_the_timing_cache_is_reused_by_the_same_version_alone(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(bundle, plans).close()
    opened(bundle, plans, build="always").close()
    monkeypatch.setattr(trt, "__version__", "10.7.0")
    opened(bundle, plans).close()
    assert [built["timing"] for built in trt.fake.built] == [b"", b"10.3.0 tactics", b""]


def test_a_plan_that_does_not_load_is_built_again_once(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(bundle, plans).close()
    trt.fake.refuses = "version tag does not match"
    with pytest.raises(EngineError, match="built just now does not load: version tag"):
        opened(bundle, plans)
    assert "does not load: version tag does not match" in caplog.text
    assert len(trt.fake.built) == 2
    assert cuda.fake.live == {"context": 0, "pinned": 0, "device": 0}


def test_parser_errors_name_the_node(trt: Any, cuda: Any, bundle: Bundle, plans: Path) -> None:
    trt.fake.parser_errors = [("layer3/conv", "DeformConv", "no importer")]
    with pytest.raises(EngineError, match=r"node layer3/conv \(DeformConv\): no importer"):
        opened(bundle, plans)
    assert not list(plans.glob("*.plan"))


def test_a_node_without_a_kernel_is_named_with_what_to_do(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    trt.fake.build_errors = [
        "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error "
        "(Could not find any implementation for node node_conv2d_3 + node_relu_3.)"
    ]
    with pytest.raises(EngineError) as failed:
        opened(bundle, plans)
    assert "--fp32-node node_conv2d_3 --fp32-node node_relu_3" in str(failed.value)
    assert cuda.fake.live == {"context": 0, "pinned": 0, "device": 0}


def test_a_build_out_of_memory_says_what_to_lower(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    trt.fake.build_errors = ["Requested amount of GPU memory (2147483648 bytes) not available"]
    with pytest.raises(EngineError, match=r"engine\.workspace_mb \(now 1024\)"):
        opened(bundle, plans)


def test_a_machine_without_gpu_is_told_so(trt: Any, cuda: Any, bundle: Bundle, plans: Path) -> None:
    cuda.fake.failing["cuInit"] = cuda.LogicError("cuInit failed: no CUDA-capable device")
    with pytest.raises(EngineError, match="no CUDA-capable device"):
        opened(bundle, plans)
    del cuda.fake.failing["cuInit"]
    trt.fake.no_builder = True
    with pytest.raises(EngineError, match="CUDA initialization failure"):
        opened(bundle, plans)


def test_progress_grows_to_one_and_never_falls(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_qc.engine.plan._TOLD_EVERY_S", 0.0)
    steps: list[BuildStep] = []
    opened(bundle, plans, progress=steps.append).close()
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert len(set(fractions)) > 6
    assert "no plan of this model" in steps[0].doing


def test_ctrl_c_stops_a_build_and_leaves_no_plan(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT's C++ takes no exception, so the interrupt waits until the builder has stopped."""
    monkeypatch.setattr("edge_qc.engine.plan._TOLD_EVERY_S", 0.0)

    def interrupt(step: BuildStep) -> None:
        if step.fraction > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(bundle, plans, progress=interrupt)
    assert trt.fake.cancelled
    assert not list(plans.glob("*.plan"))
    assert cuda.fake.live == {"context": 0, "pinned": 0, "device": 0}


def test_a_nan_is_an_engine_error_and_the_next_answer_may_be_fine(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    engine = opened(bundle, plans)

    def poison(answers: dict[str, Any]) -> None:
        answers["logits"][0, 1] = np.nan

    views = bundle.golden().views[:2]
    trt.fake.poison = poison
    with pytest.raises(EngineError, match="logits holds values that are not finite"):
        engine.infer(views)
    trt.fake.poison = None
    assert len(engine.infer(views)) == 2
    engine.close()


def test_wrong_numbers_are_refused_by_acceptance(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    def poison(answers: dict[str, Any]) -> None:
        answers["drift"] *= 2

    engine = opened(bundle, plans)
    trt.fake.poison = poison
    with pytest.raises(AcceptanceError, match="drift: largest difference"):
        accept(bundle, engine, decision.label_of)
    engine.close()


def test_a_lost_context_is_not_asked_again(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    """CUDA's errors are sticky: every later call says that the engine must be opened again."""
    engine = opened(bundle, plans)
    views = bundle.golden().views[:1]
    cuda.fake.failing["cuEventQuery"] = cuda.LaunchError("unspecified launch failure")
    with pytest.raises(EngineError, match="unspecified launch failure"):
        engine.infer(views)
    cuda.fake.failing.clear()
    with pytest.raises(EngineError, match="must be opened again"):
        engine.infer(views)
    engine.close()


def test_a_gpu_that_hangs_is_an_error_in_time(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    engine = opened(bundle, plans, timeout_s=0.05)
    cuda.fake.hang = True
    with pytest.raises(EngineError, match=r"no answer in 0\.05 s"):
        engine.infer(bundle.golden().views[:1])
    engine.close()


def test_an_engine_that_does_not_run_says_so(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    engine = opened(bundle, plans)
    trt.fake.runs = False
    with pytest.raises(EngineError, match="did not run"):
        engine.infer(bundle.golden().views[:1])
    engine.close()


@pytest.mark.parametrize("call", ["cuMemHostAlloc", "cuMemAlloc", "cuStreamCreate"])
def test_a_full_gpu_is_told_and_leaves_nothing_behind(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path, call: str
) -> None:
    cuda.fake.failing[call] = cuda.MemoryError(f"{call} failed: out of memory")
    with pytest.raises(EngineError, match="memory is full"):
        opened(bundle, plans, memory="copied")
    assert cuda.fake.live == {"context": 0, "pinned": 0, "device": 0}


def test_a_plan_with_other_tensors_is_refused(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    trt.fake.extra_output = True
    with pytest.raises(EngineError, match="the bundle promises"):
        opened(bundle, plans)


def test_views_of_another_size_are_refused(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path
) -> None:
    engine = opened(bundle, plans)
    for shape in ((1, 1, SIDE, SIDE + 1), (3, 1, SIDE, SIDE), (0, 1, SIDE, SIDE)):
        with pytest.raises(EngineError, match="engine takes uint8 views"):
            engine.infer(np.zeros(shape, np.uint8))
    engine.close()


def test_an_old_tensorrt_is_refused_with_the_jetpack_to_install(
    trt: Any, cuda: Any, bundle: Bundle, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt, "__version__", "8.6.1")
    with pytest.raises(EngineError, match=r"JetPack 6\.1"):
        opened(bundle, plans)


@pytest.mark.parametrize(
    ("module", "told"), [("tensorrt", "python3-libnvinfer"), ("pycuda.driver", "pycuda cannot be")]
)
def test_what_is_missing_is_named(
    trt: Any,
    cuda: Any,
    bundle: Bundle,
    plans: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    told: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.delitem(sys.modules, "edge_qc.engine.cuda_bindings", raising=False)
    with pytest.raises(EngineError, match=told):
        opened(bundle, plans)
