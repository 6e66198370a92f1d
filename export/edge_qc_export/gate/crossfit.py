"""Every labelled part scored by head and Gaussians that did not learn from it.

The parts are divided into folds; what scores a fold was fitted on the others. ``left_out`` does the
same as if one defect had never been seen. PaDiM is fitted on GOOD alone, so no defect changes it.
``calibration`` and ``threshold`` make the gate from these scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edge_qc.parts import GOOD
from edge_qc_export.drift.embedding import (
    EmbeddingMoments,
    EmbeddingWhitening,
    class_distances,
    fit_embedding,
)
from edge_qc_export.gate.head import Head, fit_head
from edge_qc_export.gate.scored import Parts, Scored

_ROWS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Labelled(Parts):
    """What the network's features say of labelled parts. embeddings: (n, E) float32; folds: (n,);
    padim: (n,) image scores of the distances to GOOD, by the other folds."""

    embeddings: NDArray[np.float32]
    folds: NDArray[np.intp]
    padim: NDArray[np.float64]


def whitening_of(
    embeddings: NDArray[np.floating], labels: Sequence[str], classes: Sequence[str], directions: int
) -> EmbeddingWhitening:
    """The shared-covariance Gaussians of those ``classes`` that have a part, in their order."""
    names = np.asarray(labels)
    present = [name for name in classes if (names == name).any()]
    place = {name: index for index, name in enumerate(present)}
    indices = torch.tensor([place[name] for name in labels])
    moments = EmbeddingMoments(embeddings.shape[1], len(present))
    for start in range(0, len(names), _ROWS):
        rows = slice(start, start + _ROWS)
        moments.update(torch.from_numpy(np.ascontiguousarray(embeddings[rows])), indices[rows])
    return fit_embedding(moments, directions)


def cross_fit(
    parts: Labelled,
    directions: int,
    start: Head | None = None,
    left_out: str | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Scored:
    """Each part's scores by head and Gaussians of the other folds.

    start: the head of all parts. left_out: a defect that none of them may learn from; its own parts
    are scored all the same. advance: called with the number of parts scored since.
    """
    count = len(parts)
    scores = Scored(
        parts.labels,
        parts.dies,
        parts.names,
        parts.seen,
        parts.classes,
        padim=parts.padim,
        logits=np.empty((count, len(parts.classes))),
        good_distance=np.empty(count),
        embedding_distance=np.empty(count),
    )
    labels = np.asarray(parts.labels)
    for fold, rows in _folds(parts):
        learned = (parts.folds != fold) & (labels != left_out)
        names = tuple(labels[learned])
        head = fit_head(parts.embeddings[learned], names, parts.classes, start)
        whitening = whitening_of(parts.embeddings[learned], names, parts.classes, directions)
        distances = class_distances(torch.from_numpy(parts.embeddings[rows]), whitening).numpy()
        scores.logits[rows] = head.logits(parts.embeddings[rows])
        scores.good_distance[rows] = distances[_good_place(parts.classes, names)]
        scores.embedding_distance[rows] = distances.min(axis=0)
        advance(len(rows))
    return scores


def _folds(parts: Labelled) -> Iterator[tuple[int, NDArray[np.intp]]]:
    for fold in range(int(parts.folds.max()) + 1):
        yield fold, np.flatnonzero(parts.folds == fold)


def _good_place(classes: Sequence[str], learned: Sequence[str]) -> int:
    """GOOD's place among those classes that were learned."""
    return [name for name in classes if name in set(learned)].index(GOOD)
