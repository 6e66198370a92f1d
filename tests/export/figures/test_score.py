"""``edge-qc score`` on files as people have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_qc.errors import DataError
from edge_qc_export.commands.score import command
from edge_qc_export.data.dataset import CHALLENGE_CLASSES
from edge_qc_export.figures.labels import read_pair
from tests.rig.pictures import write_rows

TRUTH = [["filename", "Label"], ["a.png", "GOOD"], ["b.png", "Missing"], ["c.png", "Drift"]]


def scored(
    folder: Path, truth: list[list[str]], said: list[list[str]], *more: str
) -> dict[str, object]:
    write_rows(folder / "truth.csv", truth)
    write_rows(folder / "said.csv", said, delimiter=";")
    result = CliRunner().invoke(
        command,
        [str(folder / "truth.csv"), str(folder / "said.csv"), "--json", *more],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def test_a_submission_of_integers_is_scored_against_names(tmp_path: Path) -> None:
    said = [["filename", "Label"], ["c.png", "6"], ["a.png", "0"], ["b.png", "0"]]
    document = scored(tmp_path, TRUTH, said)
    assert document["images"] == 3
    assert document["accuracy"] == pytest.approx(2 / 3)
    assert document["escape_rate"] == pytest.approx(1 / 2)
    assert document["pwa_challenge"] == pytest.approx(1 - 10000 / 30000)


def test_the_reports_constant_scores_as_the_report_saw(tmp_path: Path) -> None:
    counts = zip(CHALLENGE_CLASSES, (1235, 71, 270, 104, 6472, 126), strict=True)
    labels = [label for label, count in counts for _ in range(count)]
    truth = [["filename", "Label"], *([f"{i}.png", label] for i, label in enumerate(labels))]
    said = [["filename", "Label"], *([f"{i}.png", "Missing"] for i in range(len(labels)))]
    document = scored(tmp_path, truth, said)
    assert document["pwa_challenge"] == pytest.approx(0.99850, abs=5e-6)
    assert document["pwa_report"] == pytest.approx(0.99824, abs=5e-6)
    assert document["pwa_skill"] == 0
    assert document["collapsed"] is True
    assert document["best_constant"] == "Missing"


def test_classes_of_ones_own_are_scored_by_the_challenges_pattern_or_by_a_file(
    tmp_path: Path,
) -> None:
    truth = [["filename", "Label"], ["a", "GOOD"], ["b", "bent"], ["c", "torn"]]
    said = [["filename", "Label"], ["a", "bent"], ["b", "bent"], ["c", "bent"]]
    assert scored(tmp_path, truth, said)["mean_cost"] == pytest.approx(101 / 3)
    names = ("GOOD", "bent", "torn")
    costs = {t: {p: 7 * int(t != p) for p in names} for t in names}
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    document = scored(tmp_path, truth, said, "--costs", str(tmp_path / "costs.json"))
    assert document["mean_cost"] == pytest.approx(14 / 3)


def test_all_that_does_not_match_is_told_at_once(tmp_path: Path) -> None:
    said = [
        ["filename", "Label"],
        ["a.png", ""],
        ["d.png", "GOOD"],
        ["b.png", "GOOD"],
        ["b.png", "GOOD"],
    ]
    with pytest.raises(DataError) as caught:
        scored(tmp_path, TRUTH, said)
    text = str(caught.value)
    assert f"{tmp_path}/truth.csv:4: c.png is not in {tmp_path}/said.csv" in text
    assert f"{tmp_path}/said.csv:2: a.png has no label" in text
    assert f"{tmp_path}/said.csv:3: d.png is not in {tmp_path}/truth.csv" in text
    assert f"{tmp_path}/said.csv:5: b.png is named twice, first in line 4" in text
    assert "4 faults" in text


@pytest.mark.parametrize("wrong", ["truth.csv", "said.csv"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"file,Label\na.png,GOOD\n", "1: has no column filename"),
        (b"filename,Label\na.png,n\xe9ant\n", "2: is not UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_the_only_fault(
    tmp_path: Path, wrong: str, content: bytes, told: str
) -> None:
    for name in ("truth.csv", "said.csv"):
        write_rows(tmp_path / name, TRUTH)
    (tmp_path / wrong).write_bytes(content)
    with pytest.raises(DataError, match="1 fault:") as caught:
        read_pair(tmp_path / "truth.csv", tmp_path / "said.csv")
    assert f"{tmp_path / wrong}:{told}" in str(caught.value)


def test_a_label_that_is_misspelt_is_told(tmp_path: Path) -> None:
    said = [["filename", "Label"], ["a.png", "GOOD"], ["b.png", "Mising"], ["c.png", "Drift"]]
    with pytest.raises(DataError, match="labels 'Mising' are none of the challenge's"):
        scored(tmp_path, TRUTH, said)


def test_a_table_for_people_shows_figures_and_collapse(tmp_path: Path) -> None:
    write_rows(tmp_path / "truth.csv", TRUTH)
    constant = [["filename", "Label"], *([row[0], "Missing"] for row in TRUTH[1:])]
    write_rows(tmp_path / "said.csv", constant)
    result = CliRunner().invoke(command, [str(tmp_path / "truth.csv"), str(tmp_path / "said.csv")])
    assert result.exit_code == 0
    assert "PWA skill" in result.stdout
    assert "COLLAPSED" in result.stdout
