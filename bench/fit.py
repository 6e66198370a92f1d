"""Fitting PaDiM: images per second and peak memory, against anomalib's fit with the same trunk.

ResNet18, 100 channels on 56 x 56, 120 images at 224, two threads. Each side runs in a
process of its own, so that its peak of memory is its own. Needs bench/requirements.txt.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

from peers import beside

IMAGES, RUNS = 120, 3

_COMMON = """
import sys, time, warnings; sys.path[:0] = {path!r}
warnings.simplefilter("ignore")
import torch
from sides import graphs
torch.set_num_threads(graphs.THREADS)
def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if key in line)
generator = torch.Generator().manual_seed(0)
batches = [
    torch.randint(0, 256, (15, 1, 224, 224), generator=generator, dtype=torch.uint8)
    for _ in range({images} // 15)
]
network, features = graphs.random_network("resnet18")
"""

_OURS = """
from edge_qc_export.drift.moments import Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import stage_features
layout = graphs.layout_of(features, None)
before, began = kilobytes("VmRSS"), time.perf_counter()
moments = Moments(layout)
with torch.no_grad():
    for pixels in batches:
        _, levels = features(pixels)
        moments.update(stage_features(levels, layout))
fit(moments, Regularisation())
print(time.perf_counter() - began, kilobytes("VmHWM") - before)
"""

_THEIRS = """
from sides import anomalib_padim
made = anomalib_padim.model("resnet18", 100).train()
mean, std = (
    torch.tensor(values)[:, None, None] for values in (graphs.IMAGENET_MEAN, graphs.IMAGENET_STD)
)
before, began = kilobytes("VmRSS"), time.perf_counter()
with torch.no_grad():
    for pixels in batches:
        made((pixels.float() / 255 - mean) / std)
    made.fit()
print(time.perf_counter() - began, kilobytes("VmHWM") - before)
"""


def figures() -> list[dict[str, Any]]:
    """fit_speed (theirs over ours) and fit_memory (ours over theirs)."""
    if not beside("anomalib", "fit_speed", "fit_memory"):
        return []
    mine: list[tuple[float, float]] = []
    other: list[tuple[float, float]] = []
    for _ in range(RUNS):
        mine.append(_run(_OURS))
        other.append(_run(_THEIRS))
    seconds = [statistics.median(run[0] for run in side) for side in (mine, other)]
    peaks = [statistics.median(run[1] for run in side) / 1024 for side in (mine, other)]
    return [
        {
            "name": "fit_speed",
            "ratio": seconds[1] / seconds[0],
            "ratio_is": "theirs/ours",
            "goal": "",
            "ours_median_s": seconds[0],
            "theirs_median_s": seconds[1],
            "runs": RUNS,
            "note": f"fit of {IMAGES} images, ResNet18, 100 channels on 56x56: "
            f"{IMAGES / seconds[0]:.1f} images/s against anomalib's {IMAGES / seconds[1]:.1f}",
        },
        {
            "name": "fit_memory",
            "ratio": peaks[0] / peaks[1],
            "ratio_is": "ours/theirs",
            "goal": "",
            "ours_median_s": None,
            "theirs_median_s": None,
            "runs": RUNS,
            "note": f"peak of a fit: {peaks[0]:.0f} MiB against anomalib's {peaks[1]:.0f} MiB; "
            "anomalib's grows with the images, ours does not",
        },
    ]


def _run(side: str) -> tuple[float, float]:
    """Seconds, and KiB of peak over the process before the fit."""
    code = _COMMON.format(path=sys.path[:2], images=IMAGES) + side
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr.strip().splitlines()[-1])
    seconds, peak = map(float, ran.stdout.split()[-2:])
    return seconds, peak
