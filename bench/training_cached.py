"""Ten epochs of a ResNet50 with 6 Keras layers unfrozen: the trunk's activations kept, against the
plain loop that runs the trunk in every epoch.

Both sides are ``train`` from a folder of pictures to a run folder, without augmentation, and write
the same checkpoints; views are decoded before. The plain side does not measure batch norm anew
after each epoch, which would cost it another pass of the trunk and which no plain loop does.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from timing import paired

from edge_qc_export.learn.epochs import Epochs
from edge_qc_export.learn.training import TrainingConfig, train

IMAGES, SIZE, EPOCHS, RUNS = 90, 128, 10, 2


def figures() -> list[dict[str, Any]]:
    """How many times faster ten epochs are, and how far the trained parameters lie apart."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = TrainingConfig(
            data=_pictures(folder / "data"),
            out=folder / "kept",
            network="resnet50",
            weights="none",
            unfreeze=6,
            dies=folder / "data" / "dies.json",
            size=(SIZE, SIZE),
            epochs=EPOCHS,
            patience=None,
            device="cpu",
            cache_folder=folder / "cache",
        )
        plain = replace(config, out=folder / "plain", cache=False)
        train(replace(config, out=folder / "views", epochs=1, network="resnet18", unfreeze=0))

        def ours() -> None:
            shutil.rmtree(config.out, ignore_errors=True)
            train(config)

        def theirs() -> None:
            shutil.rmtree(plain.out, ignore_errors=True)
            with mock.patch.object(Epochs, "_measure_batch_norm"):
                train(plain)

        figure = paired("training_cached", ours, theirs, RUNS, warm_up=0, goal=">= 5")
        kept, again = (load_file(c.out / "model.safetensors") for c in (config, plain))
    parameters = [name for name in kept if "running_" not in name and "num_batches" not in name]
    apart = max((kept[n].double() - again[n].double()).abs().max().item() for n in parameters)
    figure["note"] = (
        f"resnet50, 6 layers unfrozen, {SIZE} px, {IMAGES} images, {EPOCHS} epochs, "
        f"{torch.get_num_threads()} threads; largest difference of a parameter afterwards {apart:g}"
    )
    return [figure]


def _pictures(folder: Path) -> Path:
    """Noise in three classes: what is learnt does not matter, how long it takes does."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    (folder / "dies.json").write_text(json.dumps({"die": {"angle": 0, "center": [SIZE, SIZE]}}))
    for index in range(IMAGES):
        place = folder / ("GOOD", "bent", "torn")[index % 3]
        place.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
        cv2.imwrite(str(place / f"{index}.png"), pixels)
    return folder
