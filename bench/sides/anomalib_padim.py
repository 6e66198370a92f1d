"""anomalib's PaDiM as a side: its own model, untrained trunk and random Gaussians.

Time does not depend on their values, and fitting its WideResNet50-2 would take 17 GB.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from sides.graphs import SIZE


def model(backbone: str, channels: int) -> Any:
    """anomalib's ``PadimModel`` in evaluation mode. ImportError where anomalib is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from anomalib.models.image.padim.torch_model import PadimModel

        made = PadimModel(backbone=backbone, pre_trained=False, n_features=channels).eval()
    patches = (SIZE // 4) ** 2
    made.gaussian.mean = torch.randn(channels, patches)
    # Symmetric and positive, as an inverse covariance is; one for all would be shared memory.
    made.gaussian.inv_covariance = torch.full((patches, channels, channels), 1e-4)
    made.gaussian.inv_covariance += torch.eye(channels)
    return made


def write(made: Any, folder: Path) -> Path:
    """Its ONNX, as anomalib exports it: one normalised image in, score and map out."""
    file = folder / "padim.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            made,
            (torch.zeros(1, 3, SIZE, SIZE),),
            str(file),
            opset_version=18,
            input_names=["input"],
            dynamo=True,
            external_data=True,
            verbose=False,
        )
    return file
