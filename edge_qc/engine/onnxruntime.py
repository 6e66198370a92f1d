"""ONNX Runtime on the CPU: the engine everywhere that is not a Jetson."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.verification import Bundle
from edge_qc.engine import DeviceOptions, padded, readings_from_outputs
from edge_qc.errors import EngineError
from edge_qc.parts import Reading


class OnnxRuntimeEngine:
    """A session of the bundle's graph. Not shared between threads."""

    def __init__(self, bundle: Bundle, threads: int, device: DeviceOptions | None = None) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while no part passes burn the station's cores and fight other sessions.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                str(bundle.model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no root
            raise EngineError(f"ONNX Runtime cannot load {bundle.model}: {error}") from error
        produced = {output.name for output in self._session.get_outputs()}
        self._manifest = bundle.manifest
        self._wanted = bundle.manifest.outputs
        if not set(self._wanted) <= produced:
            raise EngineError(
                f"{bundle.model}: outputs {sorted(produced)}, wanted {', '.join(self._wanted)}"
            )
        self.name = f"onnxruntime {ort.__version__} cpu {bundle.manifest.precision}"

    def infer(self, views: NDArray[np.uint8]) -> tuple[Reading, ...]:
        """See ``Engine.infer``."""
        batch = padded(self._manifest, views)
        try:
            answers = self._session.run(list(self._wanted), {"view": batch})
        except Exception as error:  # onnxruntime's exceptions share no root
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        outputs = dict(zip(self._wanted, answers, strict=True))
        return readings_from_outputs(self._manifest, outputs, len(views))

    def close(self) -> None:
        """Free the session."""
        del self._session
