"""One pass against a classifier and anomalib's PaDiM in one process, and PaDiM against PaDiM.

Needs ``pip install -r bench/requirements.txt``. Both sides get their input as their engine takes
it (ours a uint8 view, theirs a normalised float image: its normalisation is not counted). Ours is
on 56 x 56, as anomalib is. Two ONNX Runtime sessions fight through spinning threads, so spinning is
off on both sides, which is the fair pair; torch's threads are given time to end theirs.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from peers import beside
from sides import anomalib_padim, graphs
from timing import paired

from edge_qc.bundle.manifest import OUTPUTS

RUNS, REST_S = 100, 0.05
PEERS = {
    "r18": ("resnet18", 100, "<= 0.60", "<= 0.32"),
    "wrn50": ("wide_resnet50_2", 550, "<= 0.14", "<= 0.07"),
}
WRN50_BYTES = 16 * 2**30
"""Free memory that exporting anomalib's WideResNet50-2 with 550 channels wants."""


def figures() -> Iterator[dict[str, Any]]:
    """vs_anomalib_{r18,wrn50}_{ort,torch}, padim_r18_{ort,openvino}, lite0_vs_anomalib_r18_ort."""
    if not beside(
        "anomalib",
        *(f"vs_anomalib_{p}_{e}" for p in PEERS for e in ("torch", "ort")),
        "padim_r18_ort",
        "padim_r18_openvino",
        "lite0_vs_anomalib_r18_ort",
    ):
        return
    with_openvino = beside("openvino", "padim_r18_openvino")
    torch.set_num_threads(graphs.THREADS)
    view = {"view": graphs.a_view()}
    network, features = graphs.random_network("resnet50")
    bare_module = graphs.Bare(network, features).eval()
    image = np.random.default_rng(1).normal(size=(1, 3, graphs.SIZE, graphs.SIZE))
    image = image.astype(np.float32)
    tensor, pixels = torch.from_numpy(image), torch.from_numpy(graphs.a_view())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module = graphs.fused(network, features, None)
        ours = graphs.session(graphs.write(module, OUTPUTS, folder / "fused.onnx"))
        bare = graphs.session(graphs.write(bare_module, ("logits",), folder / "bare.onnx"))

        def one_pass() -> None:
            ours.run(None, view)

        for peer, (backbone, channels, goal_ort, goal_torch) in PEERS.items():
            if peer == "wrn50" and _free_bytes() < WRN50_BYTES:
                print(f"  {peer} left out: {_free_bytes() / 2**30:.0f} GiB free, wants 16")
                continue
            theirs = anomalib_padim.model(backbone, channels)
            note = (
                f"fused ResNet50 and PaDiM (100 channels, 56x56) in ONNX Runtime "
                f"against ResNet50 and anomalib's PaDiM ({backbone}, {channels} channels)"
            )

            def both_in_torch(theirs: Any = theirs) -> None:
                with torch.inference_mode():
                    bare_module(pixels)
                    theirs(tensor)

            figure = paired(
                f"vs_anomalib_{peer}_torch",
                one_pass,
                both_in_torch,
                runs=RUNS,
                ratio="ours/theirs",
                goal=goal_torch,
                note=f"{note}, both in torch",
                rest_s=REST_S,
            )
            alone = paired("", lambda: bare.run(None, view), one_pass, runs=RUNS, rest_s=REST_S)
            floor = alone["ours_median_s"] / figure["theirs_median_s"]
            figure["note"] += f"; the bare classifier in ONNX Runtime alone would be {floor:.3f}"
            yield figure
            with tempfile.TemporaryDirectory(dir=folder) as place:
                file = anomalib_padim.write(theirs, Path(place))
                del theirs, both_in_torch
                gc.collect()
                session = graphs.session(file)

                def both(session: onnxruntime.InferenceSession = session) -> None:
                    bare.run(None, view)
                    session.run(None, {"input": image})

                yield paired(
                    f"vs_anomalib_{peer}_ort",
                    one_pass,
                    both,
                    runs=RUNS,
                    ratio="ours/theirs",
                    goal=goal_ort,
                    note=f"{note}, both in ONNX Runtime, spinning off",
                )
                if peer == "r18":
                    yield _lite0(folder, both)
                    yield from _alone(folder, file, session, image, with_openvino=with_openvino)
                del session, both
                gc.collect()


def _lite0(folder: Path, theirs: Callable[[], None]) -> dict[str, Any]:
    """What ``train`` and ``export`` make by default against what a plant would put together."""
    network, features = graphs.random_network("efficientnet-lite0")
    module = graphs.fused(network, features, graphs.USUAL_ROWS, graphs.USUAL_CHANNELS)
    session = graphs.session(graphs.write(module, OUTPUTS, folder / "lite0.onnx"))
    view = {"view": graphs.a_view()}
    return paired(
        "lite0_vs_anomalib_r18_ort",
        lambda: session.run(None, view),
        theirs,
        runs=RUNS,
        ratio="ours/theirs",
        goal="<= 0.12",
        note=f"fused EfficientNet-Lite0 and PaDiM ({graphs.USUAL_CHANNELS} channels, "
        f"{graphs.USUAL_ROWS}x{graphs.USUAL_ROWS}) against ResNet50 and anomalib's PaDiM "
        "(resnet18, 100 channels), both in ONNX Runtime, spinning off",
    )


def _alone(
    folder: Path,
    file: Path,
    theirs: onnxruntime.InferenceSession,
    image: Any,
    *,
    with_openvino: bool,
) -> Iterator[dict[str, Any]]:
    """PaDiM alone on a ResNet18 with 100 channels, in both engines."""
    _, features = graphs.random_network("resnet18")
    alone = graphs.write(
        graphs.PaDiMAlone(features, None), ("distances", "drift"), folder / "alone.onnx"
    )
    mine, view = graphs.session(alone), {"view": graphs.a_view()}
    note = "PaDiM alone, ResNet18, 100 channels, 56x56"
    yield paired(
        "padim_r18_ort",
        lambda: mine.run(None, view),
        lambda: theirs.run(None, {"input": image}),
        runs=RUNS,
        goal=">= 1.8",
        note=f"{note}, ONNX Runtime",
    )
    if not with_openvino:
        return
    requests = [graphs.openvino_request(one) for one in (alone, file)]
    yield paired(
        "padim_r18_openvino",
        lambda: requests[0].infer([graphs.a_view()]),
        lambda: requests[1].infer([image]),
        runs=RUNS,
        goal=">= 1.8",
        note=f"{note}, OpenVINO in FP32",
    )


def _free_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return 1024 * int(line.split()[1])
    return 0
