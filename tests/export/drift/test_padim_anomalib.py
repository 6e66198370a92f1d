"""PaDiM against anomalib's with the same weights, images and channels.

anomalib is a peer that the benchmarks stand beside, in an environment of its own: `make peer`.
Its scores are square roots of the squared distances here; its covariance is the sample's plus
0.01 and 1e-5 on the diagonal, so ours is told to do the same.
"""

from __future__ import annotations

import importlib
import warnings

import pytest
import torch
from torch import Tensor

from edge_qc_export.drift.moments import Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import plan_layout, stage_features
from edge_qc_export.drift.whitening import patch_distances
from edge_qc_export.graph import Features
from edge_qc_export.learn.network import normalised
from edge_qc_export.learn.networks import build_network

pytestmark = [pytest.mark.torch, pytest.mark.peer]

TOLERANCE = 1e-4
"""Relative, of the distance: anomalib inverts in float32, where ours factors in float64."""

SIZE = 64


def views(count: int, seed: int) -> Tensor:
    """Smooth random pictures, (N, 1, 64, 64) uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 9, 9, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")
    return smooth.to(torch.uint8)


def test_distances_are_anomalibs() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        padim = importlib.import_module("anomalib.models.image.padim.torch_model")
    torch.manual_seed(0)
    network = build_network("resnet18", 2, (SIZE, SIZE)).train()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    with torch.no_grad():
        for seed in range(4):
            network(views(16, seed).float().expand(-1, 3, -1, -1) / 127 - 1)
    features = Features(network.eval(), mean, std).eval()
    theirs = padim.PadimModel(backbone="resnet18", pre_trained=False, n_features=100)
    trunk = network.get_submodule("trunk").state_dict()
    own = theirs.feature_extractor.feature_extractor.state_dict()
    theirs.feature_extractor.feature_extractor.load_state_dict({key: trunk[key] for key in own})

    channels: list[list[int]] = [[], [], []]
    for index in theirs.idx.tolist():
        level = 0 if index < 64 else 1 if index < 192 else 2
        channels[level].append(index - (0, 64, 192)[level])
    layout = plan_layout(((16, 16), (8, 8), (4, 4)), channels, None)
    moments = Moments(layout)
    theirs.train()
    with torch.no_grad():
        for seed in range(10, 20):
            pixels = views(16, seed)
            _, levels = features(pixels)
            moments.update(stage_features(levels, layout))
            theirs(normalised(pixels, mean, std))
    theirs.fit()
    theirs.eval()
    like_theirs = Regularisation(shrinkage=0, relative=0, absolute=0.01 + 1e-5)
    whitening = fit(moments, like_theirs)

    new = views(6, 99)
    new[:3, :, 20:40, 20:40] = 255
    with torch.no_grad():
        _, levels = features(new)
        ours = patch_distances(
            stage_features(levels, layout), layout, whitening.weights, whitening.means
        )
        extracted = theirs.feature_extractor(normalised(new, mean, std))
        embedding = theirs.generate_embedding(extracted)
        wanted = theirs.anomaly_map_generator.compute_distance(
            embedding, [theirs.gaussian.mean, theirs.gaussian.inv_covariance]
        )
    assert ours.shape == (6, 16, 16)
    difference = (ours.sqrt() - wanted.reshape(6, 16, 16)).abs() / wanted.reshape(6, 16, 16)
    assert float(difference.max()) < TOLERANCE
