"""Costs go by class name: no order can be mistaken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import CHALLENGE_CLASSES
from edge_qc_export.figures.costs import (
    challenge_costs,
    cost_matrix,
    costs_for,
    read_costs,
    report_loss_costs,
)


def test_the_challenges_matrix_is_the_challenges() -> None:
    matrix = cost_matrix(challenge_costs(CHALLENGE_CLASSES), (*CHALLENGE_CLASSES, DRIFT))
    wanted = np.array(
        [
            [0, 100, 100, 100, 100, 100, 10000],
            [10000, 0, 1, 1, 1, 1, 1000],
            [10000, 1, 0, 1, 1, 1, 1000],
            [10000, 1, 1, 0, 1, 1, 1000],
            [10000, 1, 1, 1, 0, 1, 1000],
            [10000, 1, 1, 1, 1, 0, 1000],
            [10000, 1000, 1000, 1000, 1000, 1000, 0],
        ]
    )
    np.testing.assert_array_equal(matrix, wanted)


def test_the_reports_training_matrix_means_good_in_alphabetical_order() -> None:
    costs = report_loss_costs()
    assert costs["Missing"]["GOOD"] == 10
    assert costs["GOOD"]["Missing"] == 5
    assert costs["Missing"]["Boucle plate"] == 2
    assert costs["Lift-off noir"]["Lift-off noir"] == 0


def test_read_in_the_csvs_order_the_reports_matrix_takes_boucle_plate_for_good() -> None:
    costs = report_loss_costs(CHALLENGE_CLASSES)
    assert costs["Missing"]["Boucle plate"] == 10
    assert costs["Boucle plate"]["GOOD"] == 5
    assert costs["Missing"]["GOOD"] == 2


def test_a_file_is_read_by_name_and_may_spell_drift_as_the_challenge_does(tmp_path: Path) -> None:
    costs = challenge_costs(["GOOD", "bent"])
    text = json.dumps(costs).replace(DRIFT, "Drift")
    (tmp_path / "costs.json").write_text(text, encoding="utf-8-sig")
    assert read_costs(tmp_path / "costs.json") == costs


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"GOOD": {"GOOD": 0}, "bent": {"GOOD": 1, "bent": 0}}, "GOOD: no cost for bent"),
        ({"GOOD": {"GOOD": 0, "bent": 1}}, "GOOD: bent has no row of its own"),
        ({"bent": {"bent": 0}}, "no row GOOD"),
        ({"GOOD": {"GOOD": 1}}, "GOOD: the right answer costs 1, wanted 0"),
        ({"GOOD": {"GOOD": -1}}, "GOOD: GOOD costs -1, wanted a number of at least 0"),
        ({"GOOD": {"GOOD": True}}, "costs True, wanted a number"),
        ({"GOOD": {"GOOD": "0"}}, "costs '0', wanted a number"),
        ({"GOOD": {"GOOD": float("nan")}}, "costs nan, wanted a number"),
        (
            {"ok": {"GOOD": 0, "bent": 1}, "GOOD": {"bent": 9}, "bent": {"GOOD": 1}},
            "rows: 'ok' and 'GOOD' are one class, GOOD; write one",
        ),
        (
            {"GOOD": {"bent": 9}, "bent": {"GOOD": 1, "good": 2}},
            "costs of bent: 'GOOD' and 'good' are one class, GOOD; write one",
        ),
        ([1], "wanted {true: {predicted: cost}} by class name"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, document: object, told: str) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(document))
    with pytest.raises(DataError) as caught:
        read_costs(file)
    assert told in str(caught.value)
    assert str(file) in str(caught.value)


def test_the_right_answer_costs_nothing_unless_said(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps({"GOOD": {"bent": 3}, "bent": {"GOOD": 4}}))
    assert read_costs(file) == {"GOOD": {"GOOD": 0, "bent": 3}, "bent": {"GOOD": 4, "bent": 0}}


def test_a_file_that_is_not_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_costs(tmp_path / "costs.json")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_costs(tmp_path / "none.json")


def test_costs_without_drift_take_the_challenges_pattern_for_it() -> None:
    costs = costs_for({"GOOD": {"GOOD": 0, "a": 3}, "a": {"GOOD": 4, "a": 0}}, ["GOOD", "a"])
    assert costs["GOOD"] == {"GOOD": 0, "a": 3, DRIFT: 10000}
    assert costs["a"][DRIFT] == 1000
    assert costs[DRIFT] == {"GOOD": 10000, "a": 1000, DRIFT: 0}


def test_costs_that_lack_a_class_of_the_data_are_told() -> None:
    with pytest.raises(DataError, match=r"costs\.json: no costs for a; they name GOOD"):
        costs_for({"GOOD": {"GOOD": 0}}, ["GOOD", "a"], "costs.json")
