"""The check of FP16: the half graph built, compared with FP32 on known and odd views, or refused.

What half does to a layer lives in ``precision``; here FP32's answers and half's meet the bundle's
own rule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from edge_qc.bundle.manifest import Manifest, Tolerances
from edge_qc.errors import EdgeQCError
from edge_qc.parts import GOOD
from edge_qc_export.drift import whitening
from edge_qc_export.drift.whitening import Score
from edge_qc_export.graph import Features, OnePass
from edge_qc_export.graph.precision import (
    EmulatedBody,
    HalfPlan,
    PrecisionReport,
    check_precision,
    half_body,
    layer_ranges,
    plan_half,
)
from edge_qc_export.learn.checkpoints import Run
from edge_qc_export.learn.network import Network
from edge_qc_export.learn.run_views import LabelledViews
from edge_qc_export.release.fitting import Answers, Fitted, answers, head_layer
from edge_qc_export.release.rule import drift_auroc, labels_from_answers

NATIVE_VIEWS = 2
"""Views that torch's own half is run on: seconds each for a ResNet50 on most CPUs."""
MOST_NATIVE_DIFFERENCE = 0.02
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Half:
    """The graph in half, what the check saw, and tolerances with room for half's differences."""

    module: OnePass
    plan: HalfPlan
    report: PrecisionReport
    tolerances: Tolerances


def check_half(
    run: Run,
    network: Network,
    features: Features,
    fitted: Fitted,
    good: int,
    score: Score,
    manifest: Manifest,
    views: LabelledViews,
    reference: Answers,
    advance: Callable[[int], None],
    fp32_nodes: Collection[str] = (),
) -> Half:
    """The half graph of a fitted network.

    views, reference: calibration views, some of them drift if any is known, and FP32's answers.
    good: GOOD's place among the classes. advance: called with each view twice. fp32_nodes: see
    ``plan_half``. Raises EdgeQCError where half changes more than it may.
    """
    body = features.body
    assert isinstance(body, fx.GraphModule)
    plan = plan_half(body, layer_ranges(body, _inputs(features, views, advance)), fp32_nodes)
    patches = whitening.stored_in_half(fitted.padim)

    def built(halved: nn.Module) -> OnePass:
        half_features = Features(network, run.mean, run.std, halved)
        head = head_layer(fitted.head)
        return OnePass(half_features, patches, fitted.embedding, head, score, good).eval()

    emulated = answers(built(EmulatedBody(body, plan)), views.pixels, advance=advance)
    module = built(half_body(body, plan))
    native_views = min(NATIVE_VIEWS, len(views))
    native = answers(module, views.pixels[:native_views], batch=1)
    native_difference = max(
        _relative(native.drift, emulated.drift[:native_views]),
        _relative(native.embedding_distance, emulated.embedding_distance[:native_views]),
    )
    if not native_difference <= MOST_NATIVE_DIFFERENCE:
        raise EdgeQCError(
            f"precision fp16: torch's own half differs by {native_difference:.2%} from what "
            f"rounding every layer gives, at most {MOST_NATIVE_DIFFERENCE:.0%} may. Export without "
            "--fp16"
        )
    before = labels_from_answers(manifest, views.dies, reference)
    after = labels_from_answers(manifest, views.dies, emulated)
    flipped = [
        (truth, half)
        for truth, whole, half in zip(views.labels, before, after, strict=True)
        if whole != half
    ]
    report = PrecisionReport(
        views=len(views),
        flips=len(flipped),
        escapes=sum(half == GOOD != truth for truth, half in flipped),
        auroc=_aurocs(manifest, views.labels, views.dies, reference, emulated),
        largest_logit_difference=float(np.abs(emulated.logits - reference.logits).max()),
        largest_drift_difference=_relative(emulated.drift, reference.drift),
        native_views=native_views,
        native_difference=native_difference,
    )
    check_precision(report)
    old = manifest.tolerances
    return Half(
        module,
        plan,
        report,
        Tolerances(
            logits=max(old.logits, 2 * report.largest_logit_difference),
            drift=max(old.drift, 2 * report.largest_drift_difference),
            embedding_distance=max(
                old.embedding_distance,
                2 * _relative(emulated.embedding_distance, reference.embedding_distance),
                2 * _relative(emulated.good_distance, reference.good_distance),
            ),
        ),
    )


def _aurocs(
    manifest: Manifest,
    truth: Sequence[str],
    dies: Sequence[str],
    reference: Answers,
    half: Answers,
) -> tuple[float, float] | None:
    before = drift_auroc(manifest, truth, dies, reference)
    after = drift_auroc(manifest, truth, dies, half)
    if before is None or after is None:
        return None
    return before["combined"], after["combined"]


def _relative(seen: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    return float((np.abs(seen - reference) / np.maximum(np.abs(reference), 1.0)).max())


def _inputs(
    features: Features, views: LabelledViews, advance: Callable[[int], None]
) -> Iterator[torch.Tensor]:
    for start in range(0, len(views), _BATCH):
        part = np.ascontiguousarray(views.pixels[start : start + _BATCH])
        yield features.inputs(torch.from_numpy(part))
        advance(len(part))
