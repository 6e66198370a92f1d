"""A study runs the report's configurations, goes on where it stopped, and names what collapsed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch", reason="needs torch: pip install ./export")

from safetensors.torch import load_file, save_file

from edge_qc.errors import DataError, EdgeQCError, UsageError
from edge_qc.parts import GOOD
from edge_qc_export.commands.study import command
from edge_qc_export.learn.checkpoints import MODEL, Run
from edge_qc_export.learn.training import TrainingConfig, train
from edge_qc_export.progress import Reporter
from edge_qc_export.study import Study, StudySettings, run_study, running
from edge_qc_export.study.configurations import loss_costs
from tests.rig.pictures import write_challenge

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    test = {GOOD: 8, "Boucle plate": 8, "Missing": 10, "Drift": 4}
    return write_challenge(tmp_path_factory.mktemp("study") / "data", test=test)


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> StudySettings:
    return StudySettings(
        data=data,
        out=tmp_path / "study",
        size=(16, 16),
        epochs=1,
        weights=("none",),
        only=("constant", "cnn-basic"),
        dies=data / "dies.json",
        threads=1,
        device="cpu",
    )


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One CNN and the cost loss in both orders."""
    return run_study(
        StudySettings(
            data=data,
            out=tmp_path_factory.mktemp("done") / "study",
            size=(32, 32),
            epochs=1,
            weights=("none",),
            only=("cnn-basic", "resnet50-3-cost", "resnet50-3-cost-table-order"),
            dies=data / "dies.json",
            threads=1,
            device="cpu",
        )
    )


def rigged(change: Callable[[TrainingConfig], None]) -> Callable[[TrainingConfig, Reporter], Run]:
    """Training that does something of its own first."""

    def trained(config: TrainingConfig, reporter: Reporter) -> Run:
        change(config)
        return train(config, reporter)

    return trained


def collapse(run: Run) -> Run:
    """The run's network says the last class of everything."""
    tensors = load_file(run.folder / MODEL)
    tensors["classifier.weight"] *= 0
    tensors["classifier.bias"] *= 0
    tensors["classifier.bias"][-1] = 5.0
    save_file(tensors, run.folder / MODEL)
    return run


def invoke(settings: StudySettings, *options: str) -> Result:
    arguments = [str(settings.data), "--out", str(settings.out), "--dies", str(settings.dies)]
    arguments += ["--size", "16", "--epochs", "1", "--weights", "none", "--threads", "1"]
    for name in settings.only:
        arguments += ["--only", name]
    return CliRunner().invoke(command, [*arguments, *options])


def test_the_table_stands_beside_the_report_s(done: Study) -> None:
    assert [row.name for row in done.rows] == [
        "constant",
        "cnn-basic",
        "resnet50-3-cost",
        "resnet50-3-cost-table-order",
    ]
    document = json.loads((done.out / "study.json").read_text())
    constant, cnn = document["rows"][:2]
    assert constant["scores"]["pwa_skill"] == 0
    assert constant["scores"]["overkill_rate"] == 1
    assert cnn["report_pwa"] == 0.9561
    assert cnn["scores"]["images"] == 26
    assert 0 < cnn["scores"]["pwa_challenge"] <= 1
    table = (done.out / "study.md").read_text()
    assert "| 0.9984 (collapsed) |" in table
    assert "No weights were given for resnet50: the frozen part" in table
    with (done.out / "study.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [row.name for row in done.rows]
    assert float(rows[1]["pwa_skill_low"]) <= float(rows[1]["pwa_skill"])
    assert rows[1]["decided_escape_rate"] != ""


def test_all_configurations_hold_out_the_same_pictures(done: Study) -> None:
    splits = [file.read_text() for file in done.out.glob("*/split.csv")]
    assert splits == [(done.out / "split.csv").read_text()] * 3
    assert not (done.out / "cache").exists()


def test_the_cost_loss_learns_from_the_matrix_named(done: Study) -> None:
    for order in ("alphabetical", "table"):
        matrix = json.loads((done.out / f"loss-costs-{order}.json").read_text())
        assert matrix == loss_costs(order, (GOOD, "Boucle plate", "Missing"))
    settings = json.loads((done.out / "resnet50-3-cost-table-order" / "run.json").read_text())
    assert settings["loss"] == "cost"
    assert settings["settings"]["loss_costs"].endswith("loss-costs-table.json")


def test_what_is_finished_is_not_run_again(
    settings: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_study(settings)

    def never(config: TrainingConfig, reporter: Reporter) -> Run:
        raise AssertionError(f"{config.out} is trained again")

    monkeypatch.setattr(running, "train", never)
    again = run_study(settings)
    assert again.as_json() == first.as_json()
    # Naming less does not take away what is there.
    assert len(run_study(replace(settings, only=("constant",))).rows) == 2


def test_an_interrupted_study_goes_on(
    settings: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, only=("cnn-basic", "cnn-deep"))

    def stop_at_deep(config: TrainingConfig) -> None:
        if config.network == "cnn-deep":
            raise EdgeQCError("stopped") from KeyboardInterrupt()

    monkeypatch.setattr(running, "train", rigged(stop_at_deep))
    with pytest.raises(EdgeQCError, match="stopped"):
        run_study(settings)
    assert "CNN, 2 blocks" in (settings.out / "study.md").read_text()
    seen: list[str] = []
    monkeypatch.setattr(running, "train", rigged(lambda config: seen.append(config.network)))
    study = run_study(settings)
    assert seen == ["cnn-deep"]
    assert [row.state for row in study.rows] == ["", "", ""]


def test_a_collapsed_run_is_named_everywhere(
    settings: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "train", lambda config, heard: collapse(train(config, heard)))
    result = invoke(settings)
    assert isinstance(result.exception, EdgeQCError)
    assert result.exception.exit_status == 1
    assert "COLLAPSED: cnn-basic" in str(result.exception)
    assert "cnn-basic: COLLAPSED" in result.stderr
    assert "**COLLAPSED**" in result.stdout
    assert "**COLLAPSED**" in (settings.out / "study.md").read_text()
    with (settings.out / "study.csv").open() as stream:
        assert [row["state"] for row in csv.DictReader(stream)] == ["", "COLLAPSED"]
    # And again where nothing is left to run.
    assert "COLLAPSED" in str(invoke(settings).exception)


def test_a_training_that_fails_leaves_the_others(
    settings: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, only=("cnn-basic", "cnn-deep"))

    def fail_basic(config: TrainingConfig) -> None:
        if config.network == "cnn-basic":
            raise EdgeQCError("the loss is nan in epoch 1")

    monkeypatch.setattr(running, "train", rigged(fail_basic))
    study = run_study(settings)
    assert [row.state for row in study.rows] == ["", "FAILED", ""]
    assert "**FAILED**: the loss is nan" in (settings.out / "study.md").read_text()
    result = invoke(settings, "--json")
    assert "FAILED: cnn-basic" in str(result.exception)
    assert json.loads(result.stdout)["failed"] == ["cnn-basic"]
    monkeypatch.setattr(running, "train", train)
    assert run_study(settings).failed == []


def test_a_full_disk_stops_the_study(
    settings: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(config: TrainingConfig) -> None:
        raise EdgeQCError("cannot be written") from OSError(28, "No space left on device")

    monkeypatch.setattr(running, "train", rigged(full))
    with pytest.raises(EdgeQCError, match="cannot be written"):
        run_study(settings)


def test_another_study_s_folder_is_refused(settings: StudySettings) -> None:
    run_study(replace(settings, only=("constant",)))
    with pytest.raises(UsageError, match=r"size .*16.* -> .*32.*--out"):
        run_study(replace(settings, size=(32, 32), only=("constant",)))


def test_what_cannot_be_is_said_before_anything_is_trained(settings: StudySettings) -> None:
    with pytest.raises(UsageError, match="cnn-huge is unknown; wanted one of efficientnet-lite0-0"):
        run_study(replace(settings, only=("cnn-huge",)))
    with pytest.raises(DataError, match=r"no\.pth: no such file"):
        run_study(replace(settings, only=("resnet101-3",), weights=("none", "resnet101=no.pth")))
    with pytest.raises(UsageError, match="in multiples of 32, such as 32x32"):
        run_study(replace(settings, only=(), size=(40, 40), out=settings.out / "odd"))
    with pytest.raises(UsageError, match="too small for 4 blocks"):
        run_study(replace(settings, only=("cnn-deep",), size=(15, 15), out=settings.out / "small"))
    with pytest.raises(UsageError, match="cnn-deep starts from nothing"):
        run_study(replace(settings, weights=("cnn-deep=imagenet",)))
    assert not (settings.out / "cnn-basic").exists()


def test_a_call_that_was_wrong_is_corrected_in_the_same_folder(
    settings: StudySettings, tmp_path: Path
) -> None:
    """A size, a batch, weights and a picture: none of them has taken the folder."""
    data = write_challenge(tmp_path / "data", test={GOOD: 2, "Missing": 2})
    ours = replace(settings, data=data, only=("cnn-deep",), size=(32, 32))
    with pytest.raises(UsageError, match="too small for 4 blocks"):
        run_study(replace(ours, size=(15, 15)))
    with pytest.raises(UsageError, match="batch 1: wanted at least 2"):
        run_study(replace(ours, batch=1))
    with pytest.raises(DataError, match=r"no\.pth: no such file"):
        run_study(replace(ours, only=("resnet101-3",), weights=("no.pth",)))
    picture = data / "input_test" / "test_0002.png"
    whole = picture.read_bytes()
    picture.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"test_0002\.png"):
        run_study(replace(ours, epochs=2))
    picture.write_bytes(whole)
    assert [row.state for row in run_study(ours).rows] == ["", ""]


def test_a_damaged_picture_is_found_before_anything_is_trained(
    settings: StudySettings, tmp_path: Path
) -> None:
    data = write_challenge(tmp_path / "data", test={GOOD: 2, "Missing": 2})
    (data / "input_test" / "test_0002.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"test_0002\.png"):
        run_study(replace(settings, data=data))
    assert not (settings.out / "cnn-basic").exists()


def test_weights_may_differ_by_network(settings: StudySettings) -> None:
    given = replace(settings, weights=("none", "resnet101=a.pth"))
    assert given.weights_of("resnet50") == "none"
    assert given.weights_of("resnet101") == "a.pth"
    assert given.weights_of("cnn-deep") is None


def test_without_truth_the_held_out_pictures_are_measured(
    settings: StudySettings, tmp_path: Path
) -> None:
    data = write_challenge(tmp_path / "data")
    study = run_study(replace(settings, data=data))
    assert "held out" in study.facts["measured on"]
    counts = {row.scores["images"] for row in study.rows if row.scores is not None}
    assert len(counts) == 1
    assert counts.pop() < 20
