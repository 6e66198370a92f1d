"""Two compilers for ``build_plan``: the stand-in for TensorRT, and TensorRT for RTX, which is
NVIDIA's own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_qc.engine.plan import BuiltPlan, build_plan
from edge_qc.engine.tensorrt_log import Messages, logger_of

FAKES = Path(__file__).parents[1] / "fakes"


@dataclass(frozen=True)
class Compiler:
    """trt: the module that ``import tensorrt`` finds. is_real: whether NVIDIA wrote it."""

    trt: Any
    is_real: bool

    def build(
        self,
        model: bytes,
        *,
        architectures: tuple[str, ...] = ("SM86",),
        workspace_mb: int = 64,
        **options: Any,
    ) -> BuiltPlan:
        """``build_plan`` itself, for GPUs that are not here. architectures: TensorRT for RTX's
        names."""
        messages, logger = _logging_to(self.is_real)
        return build_plan(
            model,
            logger,
            messages,
            workspace_mb=workspace_mb,
            optimization_level=3,
            configure=self._configuring(architectures) if self.is_real else None,
            **options,
        )

    @property
    def library(self) -> bytes:
        """The compiler itself, as NVIDIA built it."""
        folder = Path(self.trt.__file__).parents[1] / "tensorrt_rtx_libs"
        return next(folder.glob("libtensorrt_rtx.so.*")).read_bytes()

    def errors(self) -> list[str]:
        """What the compiler logged as errors of the last build."""
        return _logging_to(self.is_real)[0].errors()

    def network(self, model: bytes) -> Any:
        """The model as the real parser reads it, and what must outlive it."""
        _, logger = _logging_to(self.is_real)
        flags = 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        builder = self.trt.Builder(logger)
        network = builder.create_network(flags)
        assert self.trt.OnnxParser(network, logger).parse(model)
        return network, builder

    def _configuring(self, architectures: tuple[str, ...]) -> Any:
        def configure(config: Any) -> None:
            config.num_compute_capabilities = len(architectures)
            for index, name in enumerate(architectures):
                config.set_compute_capability(getattr(self.trt.ComputeCapability, name), index)

        return configure


@functools.cache
def _logging_to(is_real: bool) -> tuple[Messages, Any]:
    """One logger a process: TensorRT keeps the first one that it is given."""
    messages = Messages()
    return messages, logger_of(messages)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    """The stand-in for TensorRT."""
    monkeypatch.syspath_prepend(str(FAKES))
    import tensorrt

    tensorrt.fake.reset()
    yield Compiler(tensorrt, is_real=False)
    tensorrt.fake.reset()


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """TensorRT for RTX. Mark the test with ``conformance``."""
    from tests.conformance.rtx import rtx_site

    monkeypatch.syspath_prepend(str(rtx_site()))
    import tensorrt_rtx_bindings

    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_rtx_bindings)
    return Compiler(tensorrt_rtx_bindings, is_real=True)


@pytest.fixture(params=["stand_in", pytest.param("rtx", marks=pytest.mark.conformance)])
def compiler(request: pytest.FixtureRequest) -> Compiler:
    """Each of the two in turn."""
    made: Compiler = request.getfixturevalue(request.param)
    return made
