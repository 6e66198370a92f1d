"""A verdict in full, in words that a person on the line uses."""

from __future__ import annotations

from typing import Any

import pytest

from edge_qc.parts import Disposition
from edge_qc.plant.dashboard.card import card
from edge_qc.plant.dashboard.rows import other_views, verdict_in_full
from edge_qc.publisher import VerdictMessage
from tests.edge_qc.plant.test_dashboard_state import Plant
from tests.rig.recording import verdict


def said(**fields: Any) -> str:
    message = VerdictMessage.model_validate_json(verdict(1, **fields))
    return str(card(message)["sentence"])


GATE = {"score": 4.25, "threshold": 3.0, "witnesses": {}}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"label": "Missing", "probabilities": {"GOOD": 0.1, "Missing": 0.9}},
            "Die01 was rejected: it looks like Missing (90 %).",
        ),
        (
            {"label": "Missing"},
            "Die01 was rejected: its likeliest class is GOOD (75 %), but Missing costs less.",
        ),
        (
            {"label": "Missing", "gate": GATE},
            "Die01 was rejected: its likeliest class is GOOD (75 %), but the gate to GOOD is "
            "closed (score 4.25, open below 3), so it is called Missing.",
        ),
        ({}, "Die01 passed: it looks GOOD (75 %)."),
        ({"probabilities": {"GOOD": 0.99996}}, "Die01 passed: it looks GOOD (99.9 %)."),
        (
            {"label": "NOT_JUDGED", "detail": "no picture"},
            "Die01 was not judged (restart): no picture. A part without a verdict is not good.",
        ),
        (
            {"label": "DRIFT", "disposition": "REVIEW"},
            "Die01 needs a person: it is unlike everything that the model learned (p = 0.6).",
        ),
        (
            {"disposition": "REVIEW"},
            "Die01 needs a person: it looks GOOD (75 %), but another label costs nearly as little.",
        ),
    ],
)
def test_a_sentence_says_what_became_of_it_and_why(fields: dict[str, Any], sentence: str) -> None:
    assert said(**fields) == sentence


def test_three_labels_and_the_costs_in_words() -> None:
    shares = {"GOOD": 0.1, "Missing": 0.6, "Flat": 0.2, "Lifted": 0.06, "Short": 0.04}
    costs = {"GOOD": 2500.0, "Missing": 1.5, "Flat": 20.0}
    fields = {"label": "Missing", "probabilities": shares, "expected_cost": costs}
    shown = card(VerdictMessage.model_validate_json(verdict(1, **fields)))
    assert [row["label"] for row in shown["labels"]] == ["Missing", "Flat", "GOOD"]
    assert shown["cost"] == (
        "Called Missing, it costs 1.5 on average; called GOOD, it would cost 2,500 (by the "
        "bundle's cost matrix)."
    )


def test_a_parts_other_views_are_those_of_this_run_of_its_id() -> None:
    """An id that comes again in the next hour is another part; so is one of another station."""
    plant = Plant()
    plant.verdict(1, "Missing", part_id="p1", die="Die01")
    plant.verdict(2, part_id="p1", die="Die02")
    plant.verdict(3, part_id="p2", die="Die01")
    plant.verdict(1, part_id="p1", die="Die03", station="m")
    plant.verdict(4, part_id="p1", die="Die04", ago_s=3000)
    found = verdict_in_full(plant.state, "s/n", "e-1")
    assert found is not None
    assert found.disposition is Disposition.REJECT
    others = other_views(plant.state, "s/n", found)
    assert [view.verdict_id for view in others] == ["e-2"]
    assert verdict_in_full(plant.state, "s/m", "e-2") is None
