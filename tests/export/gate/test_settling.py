"""Thresholds from parts that are scored already: what may loosen them, and what may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_qc.bundle.calibration import sentences
from edge_qc.bundle.manifest import Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.errors import DataError
from edge_qc.inspection.decision import Circumstances, judge
from edge_qc.parts import GOOD, Disposition, Reading
from edge_qc_export.figures.exact import most_by_chance, upper_bound
from edge_qc_export.gate.rule_of_many import said_of, weigh
from edge_qc_export.gate.scored import Scored, both
from edge_qc_export.gate.settling import Refitted, Settled, refit, settle
from edge_qc_export.gate.threshold import Wish
from edge_qc_export.recalibration.fitness import Fitness, require_fit
from tests.edge_qc.inspection.test_decision import CLASSES, gated

WISH = Wish(max_escape=0.05, confidence=0.95, alpha=0.01)
FRESH = Circumstances(frame_age_s=0.0, max_frame_age_s=1.0, accepted=True, running=True)


def parts_of(good: int, bad: int, *, seed: int = 0, shift: float = 0.0, gap: float = 6.0) -> Scored:
    """GOOD parts and flat ones that lie ``gap`` further off; all ``shift`` further by the patches,
    as under another lamp, which the classifier hardly sees."""
    rng = np.random.default_rng(seed)
    n = good + bad
    labels = (GOOD,) * good + (CLASSES[1],) * bad
    odd = np.array([label != GOOD for label in labels])
    near = rng.chisquare(4, n) + 1
    logits = rng.normal(0, 0.5, (n, 3))
    logits[:, 0] += np.where(odd, -gap, gap) / 2
    logits[:, 2] -= 5
    return Scored(
        labels,
        ("Die01",) * n,
        tuple(f"{seed}-{row}.png" for row in range(n)),
        np.zeros(n, np.bool_),
        CLASSES,
        padim=rng.chisquare(8, n) + gap * odd + shift,
        logits=logits,
        good_distance=near + odd,
        embedding_distance=near,
    )


def refitted(*sets: Scored) -> Refitted:
    """The first was there when the bundle was made; the others were added."""
    parts = sets[0]
    for other in sets[1:]:
        parts = both(parts, other)
    added = np.arange(len(parts)) >= len(sets[0])
    return refit(manifest(), parts, added)


def manifest(classes: tuple[str, ...] = CLASSES) -> Manifest:
    """As an export writes it; its tails are set anew."""
    return gated(classes=classes).manifest


def exported() -> tuple[Scored, Settled]:
    """150 GOOD and 100 bad parts, and what their bundle says."""
    made = parts_of(150, 100)
    return made, settle(refitted(made), WISH)


def passes(settled: Settled, chosen: NDArray[np.bool_]) -> float:
    return float(settled.passes[chosen].mean())


def test_more_bad_parts_that_it_stops_loosen_the_threshold_and_bound_more() -> None:
    made, before = exported()
    after = settle(refitted(made, parts_of(0, 200, seed=1, gap=12.0)), WISH)
    assert before.manifest.gate is not None
    assert after.manifest.gate is not None
    old, new = before.manifest.gate.bound, after.manifest.gate.bound
    assert old is not None
    assert new is not None
    assert (old.added, old.bad.images, new.bad.images) == (None, 100, 300)
    assert new.added is not None
    assert (new.added.images, new.added.passed) == (200, 0)
    assert new.bad.at_most <= WISH.max_escape < upper_bound(new.bad.passed + 1, 300)
    assert new.good_passed >= old.good_passed
    assert any("200 of these bad parts came with a calibration" in s for s in sentences(new))


def test_good_parts_of_another_lamp_pass_where_the_old_tails_stopped_them() -> None:
    """And no more of the bad parts pass than the bound allows: these hold the threshold."""
    made = parts_of(150, 100, gap=10.0)
    shifted = parts_of(80, 0, seed=2, shift=60.0, gap=10.0)
    begun = refitted(made, shifted)
    old = settle(refitted(made), WISH).manifest
    before = said_of(old, weigh(old, begun.weighed.parts)).passes
    after = settle(begun, WISH)
    added = begun.added
    assert before[added].mean() < 0.1
    assert passes(after, added) > 0.9
    bad = ~begun.weighed.parts.good
    assert upper_bound(int(after.open[bad].sum()), int(bad.sum())) <= WISH.max_escape


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 12), st.floats(0, 20))
@settings(deadline=None, max_examples=25)
def test_whatever_is_added_every_bound_holds(seed: int, good: int, bad: int, gap: float) -> None:
    """All bad parts, and those that were added by themselves."""
    made, _ = exported()
    begun = refitted(made, parts_of(good, bad, seed=seed, gap=gap))
    after = settle(begun, WISH)
    assert after.choice is not None
    assert after.manifest.gate is not None
    bound = after.manifest.gate.bound
    assert bound is not None
    wrong = ~begun.weighed.parts.good
    assert bound.bad.passed == int(after.open[wrong].sum())
    assert bound.bad.at_most <= WISH.max_escape
    own = wrong & begun.added
    assert int(after.open[own].sum()) <= most_by_chance(int(own.sum()), WISH.max_escape)


def test_one_bad_part_that_looks_good_tightens() -> None:
    made, before = exported()
    odd = parts_of(0, 1, seed=4, gap=1.0)
    begun = refitted(made, odd)
    after = settle(begun, WISH)
    assert not after.open[-1]
    assert after.open[~begun.added].sum() < before.open.sum()


def test_a_bundle_of_good_alone_gains_a_bound_and_keeps_its_share_of_good() -> None:
    made = parts_of(150, 0)
    alone = replace(made, classes=(GOOD,), logits=made.logits[:, :1])
    bad = parts_of(0, 5, seed=3, gap=40.0)
    begun = refit(
        manifest((GOOD,)),
        both(alone, replace(bad, classes=(GOOD,), logits=bad.logits[:, :1])),
        np.arange(155) >= 150,
    )
    settled = settle(begun, WISH)
    gate = settled.manifest.gate
    assert gate is not None
    assert gate.bound is not None
    assert (gate.bound.bad.images, gate.bound.bad.passed) == (5, 0)
    assert not gate.bound.met
    # Five bad parts, far off, are no reason to pass what lies between.
    assert 0.0 < 1 - settled.open[:150].mean() < 0.05


@pytest.mark.parametrize("policy", ["expected-cost", "threshold"])
@pytest.mark.parametrize("classes", [CLASSES, (GOOD,)])
@pytest.mark.parametrize("margin", [0.0, 1e4])
def test_many_parts_are_judged_as_the_station_judges_each(
    policy: str, classes: tuple[str, ...], margin: float
) -> None:
    """One rule: labels, mixes, costs and closed gates of odd parts too, and what becomes of them
    where another disposition costs hardly more."""
    parts = both(parts_of(150, 60), parts_of(30, 60, seed=8, shift=15.0, gap=2.0))
    parts = replace(parts, classes=classes, logits=parts.logits[:, : len(classes)])
    begun = refit(manifest(classes), parts, np.zeros(len(parts), np.bool_))
    labels = (*classes, "DRIFT")
    for mix in (None, dict.fromkeys(labels, 1 / len(labels))):
        settled = settle(begun, WISH, mix)
        rule = settled.manifest.decision.model_copy(
            update={"policy": policy, "review_margin": margin}
        )
        judged = settled.manifest.model_copy(update={"decision": rule})
        bundle = Bundle(Path(), "", judged, signed=False)
        said = [
            judge(
                bundle,
                die,
                Reading(
                    parts.logits[row].astype(np.float32),
                    np.zeros(judged.padim.grid, np.float32),
                    float(parts.padim[row]),
                    float(parts.embedding_distance[row]),
                    float(parts.good_distance[row]),
                ),
                FRESH,
            )
            for row, die in enumerate(parts.dies)
        ]
        exact = replace(parts, logits=parts.logits.astype(np.float32).astype(np.float64))
        found = said_of(judged, weigh(judged, exact))
        assert [judged.labels[place] for place in found.labels] == [one.label for one in said]
        dispositions = [found.disposition(row) for row in range(len(parts))]
        assert dispositions == [one.disposition for one in said]
        assert len({one.label for one in said}) > 1
        doubted = [
            one for one in said if one.label == GOOD and one.disposition is Disposition.REVIEW
        ]
        assert bool(doubted) is (margin > 0), "the case shows GOOD parts that wait for a person"


def test_a_network_that_no_longer_fits_is_refused_by_what_to_do() -> None:
    made, before = exported()
    foreign = parts_of(40, 0, seed=6, gap=-14.0)  # the classifier takes them for flat
    begun = refitted(made, foreign)
    after = settle(begun, WISH)
    passed = np.concatenate([before.passes, np.zeros(40, np.bool_)])
    with pytest.raises(DataError, match=r"no longer fits.*of 40 verified GOOD.*Train again"):
        require_fit(before.manifest, passed, begun, after)


@pytest.mark.parametrize(
    ("good", "passed", "unfit"), [(4, 0, False), (5, 0, True), (40, 15, False), (40, 10, True)]
)
def test_chance_is_ruled_out_before_a_network_is_called_unfit(
    good: int, passed: int, unfit: bool
) -> None:
    assert Fitness(good, passed, before=0.94).unfit is unfit
