"""One pass against its bare classifier in the same engine, and what it costs in memory and disk;
and what another engine on the CPU would gain.

At 224: ResNet50 with 100 channels on 28 x 28 and on 56 x 56, EfficientNet-Lite0 as it is exported
by default. PaDiM is of GOOD parts, as the gate wants it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
from peers import beside
from sides import graphs
from timing import paired

from edge_qc.bundle.manifest import OUTPUTS

RUNS = 200
_RESIDENT = """
import sys; sys.path[:0] = {path!r}
from pathlib import Path
from sides import graphs
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if "VmRSS" in line)
before = resident()
session = graphs.session(Path({file!r}))
for _ in range(5):
    session.run(None, {{"view": graphs.a_view()}})
print(resident() - before)
"""


def figures() -> Iterator[dict[str, Any]]:
    """one_pass_28, one_pass_56, and for each the memory and the size of PaDiM's parameters;
    one_pass_openvino; one_pass_lite0."""
    with_openvino = beside("openvino", "one_pass_openvino")
    network, features = graphs.random_network("resnet50")
    with tempfile.TemporaryDirectory() as folder:
        bare_file = Path(folder) / "bare.onnx"
        graphs.write(graphs.Bare(network, features), ("logits",), bare_file)
        bare = graphs.session(bare_file)
        view = {"view": graphs.a_view()}
        for name, rows, goal in (("28", 28, "<= 1.05"), ("56", None, "<= 1.10")):
            module = graphs.fused(network, features, rows)
            file = graphs.write(module, OUTPUTS, Path(folder) / f"fused-{name}.onnx")
            session = graphs.session(file)
            yield paired(
                f"one_pass_{name}",
                lambda session=session: session.run(None, view),
                lambda: bare.run(None, view),
                runs=RUNS,
                ratio="ours/theirs",
                goal=goal,
                note=f"fused ResNet50 with PaDiM on {name}x{name} against the bare "
                "classifier, ONNX Runtime, 2 threads",
            )
            mine, other = _resident(file), _resident(bare_file)
            yield _sizes(
                f"one_pass_memory_{name}", mine, other, "<= 1.3", "resident memory of a session"
            )
            parameters = float(
                sum(buffer.nbytes for n, buffer in module.named_buffers() if n.startswith("padim"))
            )
            yield _sizes(
                f"padim_parameters_{name}",
                parameters,
                1.24e9,
                "<= 35 MB",
                "PaDiM's parameters against the benchmark's (550 channels on 32x32)",
            )
        if with_openvino:
            yield _in_openvino(file, session)
        yield _lite0(Path(folder))


def _lite0(folder: Path) -> dict[str, Any]:
    """The default network with the default PaDiM."""
    network, features = graphs.random_network("efficientnet-lite0")
    bare = graphs.session(
        graphs.write(graphs.Bare(network, features), ("logits",), folder / "bare-lite0.onnx")
    )
    module = graphs.fused(network, features, graphs.USUAL_ROWS, graphs.USUAL_CHANNELS)
    session = graphs.session(graphs.write(module, OUTPUTS, folder / "lite0.onnx"))
    view = {"view": graphs.a_view()}
    return paired(
        "one_pass_lite0",
        lambda: session.run(None, view),
        lambda: bare.run(None, view),
        runs=RUNS,
        ratio="ours/theirs",
        goal="<= 1.15",
        note=f"fused EfficientNet-Lite0 with PaDiM ({graphs.USUAL_CHANNELS} channels on "
        f"{graphs.USUAL_ROWS}x{graphs.USUAL_ROWS}) against the bare classifier, ONNX Runtime, "
        "2 threads",
    )


def _in_openvino(file: Path, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """The same graph in both engines: a second one has to be clearly faster to be worth keeping."""
    request = graphs.openvino_request(file)
    pixels = graphs.a_view()
    return paired(
        "one_pass_openvino",
        lambda: session.run(None, {"view": pixels}),
        lambda: request.infer([pixels]),
        runs=RUNS,
        ratio="ours/theirs",
        note="fused ResNet50 with PaDiM on 56x56 in ONNX Runtime, the station's engine, against "
        "the same graph in OpenVINO in FP32, 2 threads",
    )


def _resident(file: Path) -> float:
    """Bytes that a session takes, median of three processes."""
    code = _RESIDENT.format(path=[str(Path(__file__).parent)], file=str(file))
    taken = [
        int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    return 1024.0 * statistics.median(taken)


def _sizes(name: str, ours: float, theirs: float, goal: str, what: str) -> dict[str, Any]:
    return {
        "name": name,
        "ratio": ours / theirs,
        "ratio_is": "ours/theirs",
        "goal": goal,
        "ours_median_s": None,
        "theirs_median_s": None,
        "runs": 1,
        "note": f"{what}: {ours / 1e6:.1f} MB against {theirs / 1e6:.1f} MB",
    }
