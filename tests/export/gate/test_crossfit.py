"""Folds, head and cross-fitting: no part is scored by what learned from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from edge_qc.errors import DataError
from edge_qc.parts import GOOD
from edge_qc_export.gate.calibration import fit_gate
from edge_qc_export.gate.crossfit import Labelled, cross_fit
from edge_qc_export.gate.folds import assign_folds
from edge_qc_export.gate.head import fit_head
from edge_qc_export.gate.left_out import leave_each_out, told_apart
from edge_qc_export.gate.threshold import Wish

pytestmark = pytest.mark.torch

CLASSES = (GOOD, "flat", "missing")
WISH = Wish(max_escape=0.01, confidence=0.95, alpha=0.01)


def parts_of(counts: dict[str, int], size: int = 8, apart: float = 4.0, seed: int = 0) -> Labelled:
    """Parts whose classes lie ``apart`` along an axis each."""
    rng = np.random.default_rng(seed)
    labels = tuple(name for name, count in counts.items() for _ in range(count))
    values = rng.normal(size=(len(labels), size)) + 6
    for row, label in enumerate(labels):
        values[row, list(counts).index(label)] += apart
    groups = np.arange(len(labels))
    return Labelled(
        labels,
        ("Die01",) * len(labels),
        tuple(f"{row}.png" for row in range(len(labels))),
        np.zeros(len(labels), np.bool_),
        tuple(counts),
        values.astype(np.float32),
        assign_folds(labels, groups, 5),
        np.random.default_rng(1).chisquare(10, len(labels)),
    )


def test_near_duplicates_share_a_fold_and_classes_are_spread() -> None:
    labels = (GOOD,) * 40 + ("flat",) * 20
    groups = np.arange(60) // 2
    folds = assign_folds(labels, groups, 5)
    assert sorted(set(folds.tolist())) == [0, 1, 2, 3, 4]
    for group in range(30):
        assert len(set(folds[groups == group].tolist())) == 1
    for label, each in ((GOOD, 8), ("flat", 4)):
        rows = np.array([name == label for name in labels])
        assert all(abs(int((folds[rows] == fold).sum()) - each) <= 2 for fold in range(5))


def test_good_parts_that_are_all_alike_are_refused_by_what_to_do() -> None:
    groups = np.array([0] * 10 + [1, 2, 3, 4, 5])
    with pytest.raises(DataError, match=r"near-duplicates.*add images"):
        assign_folds((GOOD,) * 10 + ("flat",) * 5, groups, 5)


def test_the_head_is_the_textbooks_logistic_regression() -> None:
    parts = parts_of(dict.fromkeys(CLASSES, 60), apart=1.0)
    head = fit_head(parts.embeddings, parts.labels, CLASSES)
    x = parts.embeddings.astype(np.float64)
    variance = x.var(axis=0)
    x = (x - x.mean(axis=0)) / np.sqrt(variance + 0.01 * variance.mean())
    peer = LogisticRegression(C=0.01, max_iter=1000, tol=1e-8).fit(x, parts.labels)
    order = [list(peer.classes_).index(name) for name in CLASSES]
    wanted = peer.decision_function(x)[:, order]
    seen = head.logits(parts.embeddings)
    centred = [a - a.mean(axis=1, keepdims=True) for a in (seen, wanted)]
    np.testing.assert_allclose(centred[0], centred[1], atol=2e-3)


def test_the_head_is_the_same_wherever_it_begins() -> None:
    parts = parts_of(dict.fromkeys(CLASSES, 60), apart=1.0)
    other = parts_of(dict.fromkeys(CLASSES, 60), apart=1.0, seed=9)
    start = fit_head(other.embeddings, other.labels, CLASSES)
    one = fit_head(parts.embeddings, parts.labels, CLASSES).logits(parts.embeddings)
    two = fit_head(parts.embeddings, parts.labels, CLASSES, start).logits(parts.embeddings)
    np.testing.assert_allclose(one, two, atol=2e-3)


def test_labels_that_mean_nothing_tell_nothing_apart() -> None:
    """With more features than parts a head that is asked about what it learned is always right; a
    cross-fitted one is not."""
    parts = parts_of({GOOD: 40, "flat": 40}, size=200, apart=0.0)
    logits = cross_fit(parts, 16).logits
    right = (logits.argmax(axis=1) == np.array([0] * 40 + [1] * 40)).mean()
    assert 0.3 < right < 0.7
    own = fit_head(parts.embeddings, parts.labels, parts.classes).logits(parts.embeddings)
    assert (own.argmax(axis=1) == np.array([0] * 40 + [1] * 40)).mean() > 0.9


def test_a_defect_that_is_left_out_is_never_said_and_lies_far_from_all() -> None:
    parts = parts_of(dict.fromkeys(CLASSES, 60), apart=6.0)
    scores = cross_fit(parts, 16, left_out="missing")
    assert (scores.logits.argmax(axis=1) != CLASSES.index("missing")).all()
    odd = parts.is_class("missing")
    assert np.median(scores.embedding_distance[odd]) > 3 * np.median(
        scores.embedding_distance[~odd]
    )


def test_each_defect_left_out_is_counted() -> None:
    """A defect that PaDiM sees is stopped unseen; one that nothing sees passes."""
    parts = parts_of({GOOD: 120, "flat": 60, "missing": 60}, apart=0.0)
    parts.padim[parts.is_class("missing")] += 200
    found = leave_each_out(parts, WISH, directions=16)
    assert set(found) == {"flat", "missing"}
    assert found["missing"].passed == 0
    assert found["flat"].passed > 30
    assert 0.5 <= told_apart(found, 0.9) <= 0.99
    assert told_apart({}, 0.9) == 0.9


def test_good_alone_sets_the_gate_by_a_share_of_good() -> None:
    parts = parts_of({GOOD: 200})
    gate = fit_gate(cross_fit(parts, 16), Wish(0.01, 0.95, alpha=0.1))
    assert gate.choice is None
    assert gate.evidence is None
    assert "classifier" not in gate.tails
    assert 0.05 < (gate.scores >= gate.threshold["*"]).mean() < 0.15


def test_bad_parts_that_the_trunk_never_saw_set_the_threshold() -> None:
    """Those that it learned from are far off; the others are what new ones will be like."""
    parts = parts_of({GOOD: 120, "flat": 60}, apart=0.0)
    parts.seen[120:160] = True
    parts.padim[120:160] += 500
    parts.padim[160:] += 15
    gate = fit_gate(cross_fit(parts, 16), WISH)
    assert gate.choice is not None
    assert gate.threshold["*"] <= gate.scores[160:].min()


def test_scores_that_are_all_equal_are_refused() -> None:
    parts = parts_of({GOOD: 60, "flat": 60})
    with pytest.raises(DataError, match="degenerate"):
        fit_gate(cross_fit(replace(parts, padim=np.ones(len(parts))), 16), WISH)


def test_scores_that_are_not_numbers_are_refused() -> None:
    parts = parts_of({GOOD: 60, "flat": 60})
    parts.padim[3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        fit_gate(cross_fit(parts, 16), WISH)


def test_too_few_good_parts_are_refused_with_the_number() -> None:
    parts = parts_of({GOOD: 20, "flat": 60})
    with pytest.raises(DataError, match="20 images, wanted at least 30"):
        fit_gate(cross_fit(parts, 16), WISH)
