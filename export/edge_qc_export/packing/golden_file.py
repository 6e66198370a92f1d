"""Golden views and answers as they travel, and which views may be golden."""

from __future__ import annotations

import io

import numpy as np

from edge_qc.bundle.golden import Golden
from edge_qc.bundle.verification import Bundle
from edge_qc.inspection.decision import label_of
from edge_qc.parts import Reading


def golden_bytes(golden: Golden) -> bytes:
    """The npz, the same bytes for the same answers."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        views=golden.views,
        labels=np.array(golden.labels),
        dies=np.array(golden.dies),
        logits=golden.logits,
        distances=golden.distances,
        drift=golden.drift,
        embedding_distance=golden.embedding_distance,
        good_distance=golden.good_distance,
    )
    return stream.getvalue()


def is_steady(bundle: Bundle, die: str, seen: Reading) -> bool:
    """Whether the label stays the same when each answer moves by its tolerance, and as the engine
    and the reference may move apart, by twice that."""
    tolerances = bundle.manifest.tolerances
    logits = seen.logits
    nearer = np.zeros_like(logits)
    if len(logits) > 1:
        top, second = np.argsort(logits)[::-1][:2]
        nearer[top], nearer[second] = -1.0, 1.0
    labels = set()
    for sign in (-2.0, 0.0, 2.0):
        for logit_sign in (-2.0, 0.0, 2.0):
            drift, embedding, good = seen.drift, seen.embedding_distance, seen.good_distance
            assert good is not None
            reading = Reading(
                logits=np.asarray(logits + logit_sign * tolerances.logits * nearer, np.float32),
                distances=np.zeros(bundle.manifest.padim.grid, np.float32),
                drift=drift + sign * tolerances.drift * max(1.0, abs(drift)),
                embedding_distance=embedding
                + sign * tolerances.embedding_distance * max(1.0, abs(embedding)),
                good_distance=good + sign * tolerances.embedding_distance * max(1.0, abs(good)),
            )
            labels.add(label_of(bundle, die, reading))
    return len(labels) == 1
