"""``edge-qc evaluate``: what a run or a bundle says of labelled images, and what that is worth."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edge_qc.bundle.verification import open_bundle
from edge_qc.cli.judge import command as judge_command
from edge_qc.errors import DataError, UsageError
from edge_qc.inspection.view import view
from edge_qc.parts import DRIFT
from edge_qc_export.commands.evaluate import command
from edge_qc_export.commands.score import command as score_command
from edge_qc_export.evaluation import evaluate, samples_of_split
from edge_qc_export.learn.network import normalised
from edge_qc_export.learn.training import Run, TrainingConfig, train
from edge_qc_export.packing.bundle_folder import write_bundle
from edge_qc_export.progress import Reporter
from edge_qc_export.report.gate_section import sentence
from edge_qc_export.report.material import gather
from tests.rig.pictures import write_challenge
from tests.rig.trained import EDGE_QC, Trained

pytestmark = pytest.mark.torch


@dataclass(frozen=True)
class Learnt:
    data: Path
    run: Run


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    root = tmp_path_factory.mktemp("evaluation")
    test = {"GOOD": 8, "Boucle plate": 8, "Missing": 8, "Drift": 6}
    data = write_challenge(root / "data", test=test)
    run = train(
        TrainingConfig(
            network="cnn-basic",
            data=data,
            out=root / "run",
            dies=data / "dies.json",
            size=(32, 32),
            epochs=3,
            threads=1,
        )
    )
    return Learnt(data, run)


def evaluated(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def test_an_evaluation_is_what_the_network_says_of_the_stations_view(learnt: Learnt) -> None:
    samples = samples_of_split(learnt.run, learnt.data, "test")
    found = evaluate(learnt.run, samples, device="cpu")
    assert found.labels.count(DRIFT) == 6
    assert found.embeddings.shape == (30, 128)
    network = learnt.run.load_network()
    for index in (0, 13, 29):
        photograph = cv2.imread(str(samples[index].file), cv2.IMREAD_GRAYSCALE)
        assert photograph is not None
        die = learnt.run.dies[samples[index].die]
        pixels = torch.from_numpy(view(photograph.astype(np.uint8), die, (32, 32)).pixels.copy())
        with torch.no_grad():
            logits = network(normalised(pixels, learnt.run.mean, learnt.run.std))[0].numpy()
        np.testing.assert_allclose(found.logits[index], logits, rtol=1e-4, atol=1e-4)
        assert found.predicted[index] == learnt.run.classes[int(logits.argmax())]
        assert found.probabilities[index].sum() == pytest.approx(1)


def test_the_held_out_figures_are_those_of_training(learnt: Learnt) -> None:
    document = evaluated(learnt.run.folder, learnt.data, "--split", "held-out")
    assert document["images"] < 20
    for name in ("accuracy", "pwa_challenge", "pwa_skill", "macro_f1", "mean_cost"):
        assert document[name] == pytest.approx(learnt.run.held_out[name]), name


def test_a_run_is_measured_with_and_without_the_drift_that_it_cannot_say(learnt: Learnt) -> None:
    document = evaluated(learnt.run.folder, learnt.data)
    assert document["judged_by"] == "run"
    assert document["split"] == "test"
    assert document["images"] == 30
    assert document["known"]["images"] == 24
    assert document["by_class"][DRIFT]["recall"] == 0
    assert DRIFT not in document["known"]["by_class"]
    assert document["known"]["accuracy"] > 0.7
    assert 0 <= document["drift_auroc"] <= 1
    low, high = document["intervals"]["drift_auprc"]
    assert low <= document["drift_auprc"] <= high
    assert set(document["by_die"]) == {"Die01", "Die02"}
    assert sum(die["images"] for die in document["by_die"].values()) == 30
    assert "never predicts Drift" in document["notes"][0]


def test_predictions_can_be_written_and_scored(learnt: Learnt, tmp_path: Path) -> None:
    file = tmp_path / "said.csv"
    document = evaluated(learnt.run.folder, learnt.data, "--predictions", file)
    result = CliRunner().invoke(
        score_command, [str(learnt.data / "Y_test_truth.csv"), str(file), "--json"]
    )
    scored = json.loads(result.stdout)
    for name in ("accuracy", "escape_rate", "overkill_rate"):
        assert scored[name] == document[name]


def test_other_costs_may_be_asked_for(learnt: Learnt, tmp_path: Path) -> None:
    names = (*learnt.run.classes, "Drift")
    costs = {t: {p: float(t != p) for p in names} for t in names}
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    document = evaluated(learnt.run.folder, learnt.data, "--costs", tmp_path / "costs.json")
    assert document["pwa_challenge"] == pytest.approx(document["accuracy"])


def test_a_run_that_says_one_class_of_all_is_marked_collapsed(
    learnt: Learnt, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    for file in learnt.run.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["classifier.bias"][2] = 1e6
    save_file(tensors, tmp_path / "model.safetensors")
    document = evaluated(tmp_path, learnt.data)
    assert document["collapsed"] is True
    assert any(note.startswith("COLLAPSED") for note in document["notes"])


def test_a_bundle_is_measured_by_the_stations_verdicts(trained: Trained, tmp_path: Path) -> None:
    file = tmp_path / "said.csv"
    document = evaluated(trained.bundle, trained.data, "--predictions", file)
    assert document["judged_by"] == "bundle"
    with file.open() as stream:
        said = {row["filename"]: row["Label"] for row in csv.DictReader(stream)}
    assert document["images"] == len(said)
    with (trained.data / "win_and_lib.csv").open() as stream:
        dies = {row["filename"]: row["lib"] for row in csv.DictReader(stream)}
    images = [name for name in said if dies[name] == "Die01"][:8]
    judged = subprocess.run(
        [
            *EDGE_QC, "judge", *(str(trained.data / "input_test" / name) for name in images),
            "--die", "Die01", "--bundle", str(trained.bundle), "--json",
        ],
        capture_output=True,
        check=True,
    )  # fmt: skip
    labels = [verdict["label"] for verdict in json.loads(judged.stdout)]
    assert [said[name].replace("Drift", DRIFT) for name in images] == labels


def test_what_a_station_would_not_judge_is_counted_and_said(
    trained: Trained, tmp_path: Path
) -> None:
    """A lens cap, a camera set to another size, a file cut short: a station judges none of them."""
    data = Path(shutil.copytree(trained.data, tmp_path / "data"))
    with (data / "win_and_lib.csv").open() as stream:
        names = [row["filename"] for row in csv.DictReader(stream) if row["lib"] == "Die01"]
    odd = [data / "input_test" / name for name in names[:3]]
    pixels = cv2.imread(str(odd[0]), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    cv2.imwrite(str(odd[0]), np.zeros_like(pixels))
    cv2.imwrite(str(odd[1]), cv2.resize(pixels, (333, 222)))
    odd[2].write_bytes(odd[2].read_bytes()[:-100])
    judged = CliRunner().invoke(
        judge_command, [*map(str, odd), "--die", "Die01", "--bundle", str(trained.bundle), "--json"]
    )
    assert [verdict["label"] for verdict in json.loads(judged.stdout)] == ["NOT_JUDGED"] * 3
    whole, document = evaluated(trained.bundle, trained.data), evaluated(trained.bundle, data)
    assert (whole["not_judged"], document["not_judged"]) == (0, 3)
    (note,) = (note for note in document["notes"] if "not judged" in note)
    assert note.startswith("3 of 80 images are not judged, as at a station, and count as Drift")
    assert "is black" in note


def test_good_parts_that_wait_for_a_person_are_said(trained: Trained, tmp_path: Path) -> None:
    """With a review margin a station lets fewer parts pass than it calls GOOD."""
    whole = open_bundle(trained.bundle)
    rule = whole.manifest.decision.model_copy(update={"review_margin": 1e9})
    files = {name: (whole.path / name).read_bytes() for name in whole.manifest.files}
    write_bundle(
        tmp_path / "careful",
        whole.manifest.model_copy(update={"decision": rule}),
        files,
        None,
        lambda _: None,
    )
    usual, careful = (
        evaluated(bundle, trained.data) for bundle in (trained.bundle, tmp_path / "careful")
    )
    called = sum(row["GOOD"] for row in usual["confusion"].values())
    assert called > 0, "the case has parts that are called GOOD"
    assert careful["confusion"] == usual["confusion"]
    (note,) = (note for note in careful["notes"] if "review margin" in note)
    assert note.startswith(f"{called} images are called GOOD and do not pass")
    page = gather(trained.run, None, tmp_path / "careful", Reporter())
    assert page.judged is not None
    said = sentence(page.judged, "test")
    assert "passes 0 of" in said


def test_a_test_part_without_truth_is_told(learnt: Learnt, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("input_test", "win_and_lib.csv"):
        (copy / name).symlink_to(learnt.data / name)
    with pytest.raises(DataError, match=r"truth of its 30 test images is not known\. Write it to"):
        evaluated(learnt.run.folder, copy)


def test_a_label_that_the_run_does_not_know_is_told(learnt: Learnt, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("input_test", "win_and_lib.csv"):
        (copy / name).symlink_to(learnt.data / name)
    with (learnt.data / "Y_test_truth.csv").open() as stream:
        rows = list(csv.reader(stream))
    rows[3][1] = "Lift off noir"
    (copy / "Y_test_truth.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    with pytest.raises(DataError, match="unknown label 'Lift off noir'; wanted Boucle plate, GOOD"):
        evaluated(learnt.run.folder, copy)


def test_a_folder_that_is_no_run_is_told(learnt: Learnt, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run\.json there"):
        evaluated(tmp_path, learnt.data)


def test_a_bundle_does_not_know_what_was_held_out(trained: Trained) -> None:
    with pytest.raises(UsageError, match="does not record which images were held-out"):
        evaluated(trained.bundle, trained.data, "--split", "held-out")
