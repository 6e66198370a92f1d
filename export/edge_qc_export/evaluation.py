"""Evaluates a trained run or a bundle on labelled images.

``evaluate`` runs the run's classifier and returns logits and embeddings for report and study. It
never predicts DRIFT: the export fits the detector. ``judge`` returns the verdicts of a station with
the bundle (``judging``). ``figures.scoring`` computes the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_qc.bundle.verification import Bundle
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.data.dataset import TRUTH_TABLE, Sample, read_samples
from edge_qc_export.data.split_file import held_out_by, read_split
from edge_qc_export.data.view_store import make_views
from edge_qc_export.drift.embedding import class_distances
from edge_qc_export.figures.costs import Costs
from edge_qc_export.figures.scoring import Scores, score
from edge_qc_export.gate.crossfit import whitening_of
from edge_qc_export.judging import judge_samples, opened
from edge_qc_export.learn.checkpoints import SPLIT, Run
from edge_qc_export.learn.network import normalised

Advance = Callable[[int], None]

_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The predictions for n labelled images.

    labels: the truth, DRIFT among them. predicted: n labels. probabilities: (n, C) of the classes,
    or (n, C + 1) with DRIFT last from a bundle. logits: (n, C); embeddings: (n, E); both empty from
    a bundle. passed: (n,) bool, which a station lets pass; of a run, which are called GOOD. judged:
    (n,) bool, False where a station would not judge the image: of a run, where the part was not
    found within the bounds. why: for people, of the first of those. drift_scores: (n,), higher is
    more unusual; None if not computed.
    """

    classes: tuple[str, ...]
    filenames: tuple[str, ...]
    dies: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: NDArray[np.float64]
    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    passed: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    why: str = ""
    drift_scores: NDArray[np.float64] | None = None

    def score(self, costs: Costs, chosen: Sequence[bool] | None = None) -> Scores:
        """The figures of all pictures, or of those ``chosen``."""
        rows = [i for i in range(len(self.labels)) if chosen is None or chosen[i]]
        order = (*self.classes, DRIFT)
        confidence = [self.probabilities[i, order.index(self.predicted[i])] for i in rows]
        drift = self.drift_scores if any(self.labels[i] == DRIFT for i in rows) else None
        return score(
            [self.labels[i] for i in rows],
            [self.predicted[i] for i in rows],
            costs,
            confidence=np.array(confidence),
            drift_scores=None if drift is None else drift[rows],
        )


def labelled(data: Path, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples whose truth is known. Raises DataError if there are none."""
    known = tuple(sample for sample in samples if sample.label is not None)
    if not known:
        raise DataError(
            f"data {data}: the truth of its {len(samples)} test images is not known. "
            f"Write it to {TRUTH_TABLE} (filename,Label), or take labelled images: evaluate "
            "--split held-out, qualify --split train"
        )
    return known


def samples_of_split(run: Run, data: Path, split: str) -> tuple[Sample, ...]:
    """The labelled samples of ``train`` (used for training), ``held-out`` or ``test``.

    Raises DataError if the data is at fault, is not what the run was split on, or the truth of its
    test part is not known.
    """
    if split == "test":
        return labelled(data, read_samples(data, "test", run.dies, (*run.classes, DRIFT)))
    samples = read_samples(data, "train", run.dies, run.classes)
    file = run.folder / SPLIT
    held_out = held_out_by(read_split(file), samples, file)
    wanted = split == "held-out"
    return tuple(s for s, out in zip(samples, held_out, strict=True) if bool(out) is wanted)


def evaluate(
    run: Run,
    samples: Sequence[Sample],
    *,
    device: str | None = None,
    advance: Advance = lambda _: None,
) -> Evaluation:
    """The run's classifier on samples, by the most probable class. A part that was not found is
    seen where the die table says.

    advance: called with the number of images done since. Raises DataError for pictures at fault.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network = run.load_network().to(place)
    views = make_views(
        run.data, samples, run.dies, run.size, run.interpolation, templates=run.templates()
    )
    logits = np.empty((len(samples), len(run.classes)), np.float32)
    embeddings = np.empty((len(samples), network.embedding_size), np.float32)
    for start in range(0, len(samples), _BATCH):
        rows = slice(start, min(start + _BATCH, len(samples)))
        pixels = torch.from_numpy(views.pixels[rows]).to(place)
        with torch.inference_mode():
            answer, embedding, _ = network.forward_all(normalised(pixels, run.mean, run.std))
        logits[rows], embeddings[rows] = answer.cpu().numpy(), embedding.cpu().numpy()
        advance(rows.stop - rows.start)
    scaled = logits.astype(np.float64) - logits.max(1, keepdims=True)
    exponentials = np.exp(scaled)
    predicted = tuple(run.classes[index] for index in logits.argmax(1))
    return Evaluation(
        classes=run.classes,
        filenames=tuple(sample.filename for sample in samples),
        dies=tuple(sample.die for sample in samples),
        labels=tuple(str(sample.label) for sample in samples),
        predicted=predicted,
        probabilities=exponentials / exponentials.sum(1, keepdims=True),
        logits=logits,
        embeddings=embeddings,
        passed=np.array([name == GOOD for name in predicted], np.bool_),
        judged=views.placed,
    )


def embedding_drift(learnt: Evaluation, asked: Evaluation) -> NDArray[np.float64]:
    """(n,): squared Mahalanobis distance of the given embeddings to the nearest class of the
    training images: the embedding's witness of drift, as in the bundle.

    Raises DataError if there are too few training images to fit it.
    """
    whitening = whitening_of(learnt.embeddings, learnt.labels, learnt.classes, 256)
    distances = class_distances(torch.from_numpy(asked.embeddings), whitening).amin(dim=0)
    return distances.numpy().astype(np.float64)


def judge(
    bundle: Bundle, samples: Sequence[Sample], *, advance: Advance = lambda _: None
) -> Evaluation:
    """The verdicts of a station with this bundle on samples, on ONNX Runtime. What it would not
    judge counts as DRIFT with the highest score, and does not pass.

    Raises AcceptanceError if the engine does not reproduce the bundle's golden answers.
    """
    manifest = bundle.manifest
    with opened(bundle.path) as inspection:
        found = judge_samples(inspection, samples, advance)
    scores = [one.verdict.drift.score for one in found if one.verdict.drift is not None]
    highest = max(scores, default=0.0) + 1.0
    unknown = dict.fromkeys(manifest.classes, 0.0) | {DRIFT: 1.0}
    shares = [one.verdict.probabilities if one.decided else unknown for one in found]
    return Evaluation(
        classes=manifest.classes,
        filenames=tuple(sample.filename for sample in samples),
        dies=tuple(sample.die for sample in samples),
        labels=tuple(str(sample.label) for sample in samples),
        predicted=tuple(one.verdict.label if one.decided else DRIFT for one in found),
        probabilities=np.array([[share[name] for name in manifest.labels] for share in shares]),
        logits=np.empty((len(samples), 0), np.float32),
        embeddings=np.empty((len(samples), 0), np.float32),
        passed=np.array([one.passed for one in found], np.bool_),
        judged=np.array([one.decided for one in found], np.bool_),
        why=next((one.verdict.detail for one in found if not one.decided), ""),
        drift_scores=np.array(
            [highest if one.verdict.drift is None else one.verdict.drift.score for one in found]
        ),
    )
