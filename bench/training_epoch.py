"""An epoch of training as ``train`` does it, against a plain loop in torch; and a frozen trunk's
features.

The plain loop has the same network, views, batches and optimiser in float32, and measures the
held-out part behind its epoch. It does not measure batch norm anew, as ``train`` does beside that,
with a pass over the images. Where the processor multiplies bfloat16 itself, ``train`` learns in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timing import paired
from torch.nn import functional

from edge_qc_export.figures.costs import challenge_costs
from edge_qc_export.learn.epochs import Epochs
from edge_qc_export.learn.losses import build_loss
from edge_qc_export.learn.network import Network, normalised
from edge_qc_export.learn.networks import build_network
from edge_qc_export.learn.processes import Processes, half_of
from edge_qc_export.learn.trunk_cache import CachedSource, PlainSource
from edge_qc_export.progress import Reporter

IMAGES, BATCH, RUNS = 1103, 32, 3
CLASSES = ("GOOD", "flat", "white", "black", "missing", "short")
MEAN, STD = (0.5,), (0.25,)
CPU = torch.device("cpu")


def figures() -> Iterator[dict[str, Any]]:
    """training_epoch, features_lite0 and head_epoch."""
    with tempfile.TemporaryDirectory() as name:
        yield _epoch(Path(name))
        yield from _head(Path(name))


def _views(rows: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Noise: what is learnt does not matter, how long it takes does. A fifth is held out."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES, rows, rows), dtype=np.uint8)
    return pixels, np.arange(IMAGES) % len(CLASSES), np.arange(IMAGES) % 5 == 0


def _epochs(network: Network, source: Any, views: Any, folder: Path) -> Epochs:
    _, targets, held_out = views
    folder.mkdir(exist_ok=True)
    costs = challenge_costs(CLASSES)
    counts = {name: int((targets == at).sum()) for at, name in enumerate(CLASSES)}
    return Epochs(
        *(network, source, targets, held_out, CLASSES, costs),
        *(build_loss("cross-entropy", CLASSES, counts, costs), Processes(0, 1, CPU)),
        folder=folder,
        settings={"learning_rate": 1e-3},
        batch=BATCH,
        seed=0,
        learning_rate=1e-3,
    )


def _epoch(folder: Path) -> dict[str, Any]:
    views = pixels, targets, held_out = _views(96)

    def network() -> Network:
        torch.manual_seed(0)
        return build_network(
            "cnn-basic", len(CLASSES), (96, 96), unfreeze=None, dropout=None, weights="none"
        )

    mine, other = network(), network()
    source = PlainSource(mine, pixels, MEAN, STD, CPU)
    epochs = _epochs(mine, source, views, folder / "epoch")
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-3)
    learn, held = np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def ours() -> None:
        epochs.run(epochs.outcome.epoch + 1, None, Reporter())

    def theirs() -> None:
        other.train()
        for rows in np.array_split(np.random.permutation(learn), len(learn) // BATCH):
            x = normalised(torch.from_numpy(pixels[rows]), MEAN, STD)
            loss = functional.cross_entropy(other(x), torch.from_numpy(targets[rows]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        other.eval()
        with torch.no_grad():
            for rows in np.array_split(held, len(held) // BATCH):
                other(normalised(torch.from_numpy(pixels[rows]), MEAN, STD))

    figure = paired("training_epoch", ours, theirs, RUNS, warm_up=0, goal=">= 2")
    half = half_of(CPU)
    figure["note"] = (
        f"cnn-basic at 96, an epoch of {IMAGES} images on {torch.get_num_threads()} threads, in "
        f"{'float32' if half is None else str(half).removeprefix('torch.')}: "
        f"{figure['ours_median_s']:.1f} s against {figure['theirs_median_s']:.1f} s of a plain loop"
    )
    return figure


def _head(folder: Path) -> Iterator[dict[str, Any]]:
    """EfficientNet-Lite0 at 192 pixels, of which the head alone learns."""
    views = pixels, _, _ = _views(192)
    network = build_network(
        "efficientnet-lite0", len(CLASSES), (192, 192), unfreeze=0, dropout=None, weights="imagenet"
    )
    plain = PlainSource(network, pixels, MEAN * 3, STD * 3, CPU)
    began = time.perf_counter()
    source = CachedSource(plain, IMAGES, folder / "kept", BATCH, Processes(0, 1, CPU))
    took_s = time.perf_counter() - began
    yield _alone("features_lite0", IMAGES / took_s, "images/s", ">= 25", "kept once, 192 pixels")
    epochs = _epochs(network, source, views, folder / "head")
    began = time.perf_counter()
    epochs.run(1, None, Reporter())
    took_s = time.perf_counter() - began
    yield _alone("head_epoch", took_s, "s an epoch", "<= 1", f"{IMAGES} images' kept features")


def _alone(name: str, value: float, what: str, goal: str, note: str) -> dict[str, Any]:
    return {
        "name": name,
        "ratio": value,
        "ratio_is": what,
        "goal": goal,
        "ours_median_s": None,
        "theirs_median_s": None,
        "runs": 1,
        "note": f"efficientnet-lite0, the head alone: {note}",
    }
