"""A data set becomes a run: the same for the same seed, cached or not; what fails says why."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edge_qc.errors import DataError, EdgeQCError, UsageError
from edge_qc.parts import DRIFT
from edge_qc_export.figures.costs import challenge_costs
from edge_qc_export.learn import epochs
from edge_qc_export.learn.training import Run, TrainingConfig, load_run, train
from edge_qc_export.learn.trunk_cache import CachedSource, PlainSource
from edge_qc_export.progress import Reporter
from tests.rig.pictures import CLASSES, write_challenge

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_challenge(tmp_path_factory.mktemp("learning") / "data")


@pytest.fixture
def config(data: Path, tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(
        network="cnn-basic",
        data=data,
        out=tmp_path / "run",
        dies=data / "dies.json",
        size=(32, 32),
        epochs=2,
        batch=16,
        threads=1,
        device="cpu",
    )


def weights(run: Run) -> dict[str, torch.Tensor]:
    return dict(load_file(run.folder / "model.safetensors"))


def assert_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert set(one) == set(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_run_holds_all_that_the_next_step_needs(config: TrainingConfig) -> None:
    run = train(config)
    assert sorted(file.name for file in run.folder.iterdir()) == [
        "log.csv",
        "model.safetensors",
        "run.json",
        "split.csv",
    ]
    document = json.loads((run.folder / "run.json").read_text())
    assert document["classes"] == list(CLASSES)
    assert document["schema_version"] == 1
    assert document["size"] == [32, 32]
    assert document["costs"]["GOOD"][DRIFT] == 10000
    assert document["dies"]["Die02"] == {"angle": 90.0, "center": [32, 32]}
    assert document["created"].endswith("Z")
    again = load_run(run.folder)
    assert again == run
    network = again.load_network()
    assert not network.training
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, len(CLASSES))
    with (run.folder / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(math.isfinite(float(row["held_out_loss"])) for row in rows)
    with (run.folder / "split.csv").open() as stream:
        parts = [row["split"] for row in csv.DictReader(stream)]
    assert len(parts) == 64
    assert 11 <= parts.count("held-out") <= 14


def test_training_learns(config: TrainingConfig) -> None:
    run = train(replace(config, epochs=10))
    accuracy = run.held_out["accuracy"]
    assert accuracy is not None
    assert accuracy > 0.7
    assert not run.collapsed


def test_one_seed_makes_equal_runs_and_another_seed_others(
    config: TrainingConfig, tmp_path: Path
) -> None:
    one, same, other = (
        weights(train(replace(config, out=tmp_path / name, seed=seed)))
        for name, seed in (("one", 5), ("same", 5), ("other", 6))
    )
    assert_equal(one, same)
    assert not torch.equal(one["dense.weight"], other["dense.weight"])


@pytest.mark.parametrize("unfreeze", [3, 6, 9])
def test_a_kept_trunk_trains_to_the_weights_of_the_plain_loop(
    config: TrainingConfig, tmp_path: Path, unfreeze: int
) -> None:
    frozen = replace(
        config, network="resnet18", weights="none", unfreeze=unfreeze, dropout=0.3, epochs=2
    )
    plain = train(replace(frozen, out=tmp_path / "plain", cache=False))
    cached = train(replace(frozen, out=tmp_path / "cached"))
    assert_equal(weights(plain), weights(cached))
    assert plain.held_out == cached.held_out
    assert not (tmp_path / "cached" / "cache").exists(), "the kept trunk was left on the disk"


def test_a_kept_trunk_is_computed_once(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_qc_export.learn.residual import ResidualNetwork

    seen: list[int] = []
    frozen = ResidualNetwork.frozen

    def counted(self: ResidualNetwork, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(len(x))
        return frozen(self, x)

    monkeypatch.setattr(ResidualNetwork, "frozen", counted)
    train(replace(config, network="resnet18", weights="none", unfreeze=3, epochs=3))
    assert sum(seen) == 64 + 1, "one look at the shapes, one pass of all images"


def test_a_full_disk_for_the_kept_trunk_is_told_before_it_is_used(config: TrainingConfig) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            EdgeQCError, match=r"activations want 0\.\d GiB in .* with\s+--no-cache"
        ):
            train(replace(config, network="resnet18", weights="none", unfreeze=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_two_trainings_with_one_cache_and_one_name_keep_to_themselves(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one comes, and goes, while the first one learns from what it kept."""
    frozen = replace(config, network="resnet18", weights="none", unfreeze=3, epochs=1)
    alone = train(replace(frozen, out=tmp_path / "alone" / "run"))
    shared = tmp_path / "cache"
    states = CachedSource.states

    def after_another(self: CachedSource, *given: Any) -> tuple[torch.Tensor, ...]:
        monkeypatch.setattr(CachedSource, "states", states)
        dice = torch.get_rng_state()
        with torch.enable_grad():
            train(replace(frozen, out=tmp_path / "b" / "run", cache_folder=shared, seed=9))
        torch.set_rng_state(dice)
        return states(self, *given)

    monkeypatch.setattr(CachedSource, "states", after_another)
    beside = train(replace(frozen, out=tmp_path / "a" / "run", cache_folder=shared))
    assert_equal(weights(alone), weights(beside))
    assert not list(shared.glob("trunk-*")), "a kept trunk was left on the disk"


def test_a_kept_trunk_goes_when_its_filling_is_interrupted(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, calls = PlainSource.states, []

    def interrupted(self: PlainSource, *given: Any) -> tuple[torch.Tensor, ...]:
        calls.append(1)
        if len(calls) == 2:
            assert list((tmp_path / "cache").glob("trunk-*")), "the case has kept something"
            raise KeyboardInterrupt
        return states(self, *given)

    monkeypatch.setattr(PlainSource, "states", interrupted)
    with pytest.raises(EdgeQCError, match="stopped"):
        train(
            replace(
                config,
                network="resnet18",
                weights="none",
                unfreeze=3,
                cache_folder=tmp_path / "cache",
            )
        )
    assert not list((tmp_path / "cache").glob("trunk-*"))


def test_augmentation_changes_what_is_learnt_and_stays_seeded(
    config: TrainingConfig, tmp_path: Path
) -> None:
    plain, one, same = (
        weights(train(replace(config, out=tmp_path / name, augment=augmented)))
        for name, augmented in (("plain", False), ("one", True), ("same", True))
    )
    assert_equal(one, same)
    assert not torch.equal(plain["dense.weight"], one["dense.weight"])


@pytest.mark.parametrize("loss", ["class-weighted", "focal", "cost"])
def test_every_loss_trains(config: TrainingConfig, loss: str) -> None:
    assert train(replace(config, loss=loss, epochs=1)).loss == loss


def test_a_run_that_says_one_class_is_marked_collapsed(
    config: TrainingConfig, tmp_path: Path
) -> None:
    """The report's collapse: whatever the loss, Missing is the cheap thing to say."""
    costs = {
        true: {said: 0 if said == true else 1e-6 if said == "Missing" else 100 for said in CLASSES}
        for true in CLASSES
    }
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    notes: list[str] = []

    class Notes(Reporter):
        def note(self, text: str) -> None:
            notes.append(text)

    cheap = replace(config, loss="cost", loss_costs=tmp_path / "costs.json")
    # Quick enough that six epochs get there, whatever the order of the sums.
    run = train(replace(cheap, epochs=6, learning_rate=3e-3), Notes())
    assert run.collapsed
    assert load_run(run.folder).collapsed
    assert any(text.startswith("COLLAPSED") for text in notes)
    with (run.folder / "log.csv").open() as stream:
        assert "True" in {row["collapsed"] for row in csv.DictReader(stream)}


def test_an_epoch_that_is_only_surer_than_another_costs_the_same() -> None:
    """Epochs are compared as the station decides: with probabilities that were calibrated."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(CLASSES), 300)
    logits = torch.from_numpy(rng.normal(size=(300, len(CLASSES)))).float()
    logits[np.arange(300), truth] += 1.5
    one = epochs.Epochs.__new__(epochs.Epochs)
    one._held, one._targets = np.arange(300), torch.from_numpy(truth)
    one._classes, one._costs = CLASSES, challenge_costs(CLASSES)
    one._loss = torch.nn.functional.cross_entropy
    one.outcome = epochs.Outcome()

    def cost(sureness: float) -> float:
        one.held_out_logits = lambda: sureness * logits  # type: ignore[method-assign]
        return float(one._measure()["held_out_decided_cost"])

    assert cost(1.0) == cost(8.0) == cost(0.3)


def test_an_epoch_that_is_no_better_than_a_constant_is_chosen_by_its_loss() -> None:
    def row(skill: float, cost: float, loss: float, collapsed: bool = False) -> dict[str, Any]:
        return {
            "held_out_decided_skill": skill,
            "held_out_decided_cost": cost,
            "held_out_loss": loss,
            "collapsed": collapsed,
        }

    cheap_constant, honest = row(-0.01, 15.0, 10.0), row(-20.0, 300.0, 0.4)
    useful, more_useful = row(0.2, 12.0, 0.5), row(0.4, 9.0, 0.7)
    collapsed = row(0.5, 1.0, 0.1, collapsed=True)
    ranked = sorted([collapsed, cheap_constant, useful, honest, more_useful], key=epochs._rank)
    assert ranked == [more_useful, useful, honest, cheap_constant, collapsed]


def test_training_stops_early_and_keeps_the_best_epochs_weights(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(replace(config, out=tmp_path / "first", epochs=1))
    monkeypatch.setattr(epochs, "_rank", lambda row: (float(row["epoch"]),))
    stopped = train(replace(config, epochs=9, patience=2))
    assert (stopped.epochs, stopped.best_epoch) == (3, 1)
    assert_equal(weights(stopped), weights(first))


def test_a_loss_that_is_not_finite_is_told(config: TrainingConfig) -> None:
    with pytest.raises(EdgeQCError) as caught:
        train(replace(config, learning_rate=1e30))
    text = str(caught.value)
    assert re.search(r"the loss is (nan|inf) in epoch \d, batch \d", text)
    assert "with learning rate 1e+30" in text
    assert "smaller --learning-rate" in text


def test_all_faults_of_tables_and_pictures_are_told_at_once(tmp_path: Path) -> None:
    data = write_challenge(tmp_path / "data", {"GOOD": 6, "Missing": 6})
    folder = data / "input_train"
    (folder / "train_0002.png").unlink()
    Image.new("RGBA", (40, 36), (9, 9, 9, 90)).save(folder / "train_0003.png")
    (folder / "train_0005.png").write_bytes((folder / "train_0005.png").read_bytes()[:60])
    table = data / "Y_train.csv"
    table.write_text(table.read_text().replace("train_0008.png", "train_0007.png"))
    with pytest.raises(DataError) as caught:
        train(
            TrainingConfig(
                data, tmp_path / "run", "cnn-basic", dies=data / "dies.json", size=(32, 32)
            )
        )
    text = str(caught.value)
    assert "4 faults" in text
    for line in (3, 4, 6, 9):
        assert f"{table}:{line}: " in text
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_split_is_reused(config: TrainingConfig, tmp_path: Path) -> None:
    first = train(replace(config, epochs=1))
    again = train(
        replace(config, epochs=1, out=tmp_path / "again", seed=9, split=first.folder / "split.csv")
    )
    assert (again.folder / "split.csv").read_text() == (first.folder / "split.csv").read_text()


def test_a_split_that_leaves_a_class_on_one_side_is_told(
    config: TrainingConfig, tmp_path: Path
) -> None:
    first = train(replace(config, epochs=1))
    split = tmp_path / "mine.csv"
    split.write_text((first.folder / "split.csv").read_text().replace("held-out", "train"))
    with pytest.raises(DataError, match=r"mine\.csv: leaves no image of the class 'GOOD' to hold"):
        train(replace(config, epochs=1, out=tmp_path / "again", split=split))


def test_costs_that_name_a_class_without_images_are_told(
    config: TrainingConfig, tmp_path: Path
) -> None:
    names = (*CLASSES, "Lift-off noir")
    costs = {true: {said: float(said != true) for said in names} for true in names}
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    with pytest.raises(DataError, match="the class 'Lift-off noir' has no image; add some"):
        train(replace(config, costs=tmp_path / "costs.json"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 0}, "epochs 0: wanted at least 1"),
        ({"batch": 1}, "batch 1: wanted at least 2"),
        ({"size": (4, 32)}, "size 4: wanted at least 8"),
        ({"learning_rate": 0.0}, "learning rate 0.0: wanted a number above 0"),
        ({"network": "lenet"}, "network 'lenet' is unknown; wanted one of efficientnet-lite0"),
        ({"loss": "hinge"}, "loss 'hinge' is unknown"),
    ],
)
def test_a_call_that_cannot_be_is_told(
    config: TrainingConfig, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        train(replace(config, **change))
    assert told in str(caught.value)
    assert not config.out.exists()


def test_a_file_in_the_place_of_the_run_is_told_at_once(config: TrainingConfig) -> None:
    config.out.write_text("mine")
    with pytest.raises(UsageError, match=r"is a file\. Name a folder with --out"):
        train(config)
    assert config.out.read_text() == "mine"


def test_a_run_is_never_overwritten(config: TrainingConfig) -> None:
    run = train(replace(config, epochs=1))
    before = (run.folder / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match=r"holds run\.json already\. Name another folder"):
        train(config)
    assert (run.folder / "model.safetensors").read_bytes() == before


def test_the_normalisation_is_that_of_the_views_to_learn(config: TrainingConfig) -> None:
    run = train(replace(config, epochs=1, cache_folder=config.out.parent / "kept"))
    (views,) = (config.out.parent / "kept").glob("views-*.npy")
    pixels = np.load(views)
    with (run.folder / "split.csv").open() as stream:
        learnt = [row["split"] == "train" for row in csv.DictReader(stream)]
    assert run.mean == pytest.approx([(pixels[learnt] / 255).mean()], abs=1e-5)
    assert run.std == pytest.approx([(pixels[learnt] / 255).std()], abs=1e-5)
