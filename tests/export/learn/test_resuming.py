"""A training that was stopped, killed or starved goes on to the result it would have had."""

from __future__ import annotations

import csv
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from edge_qc.errors import DataError, EdgeQCError, UsageError
from edge_qc_export.learn import checkpoints, epochs
from edge_qc_export.learn.resuming import require_no_more_epochs
from edge_qc_export.learn.training import Run, TrainingConfig, load_run, train
from edge_qc_export.progress import Reporter
from edge_qc_export.whole_file import write_whole
from tests.rig.pictures import write_challenge

pytestmark = pytest.mark.torch

EPOCHS = 4


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    root = tmp_path_factory.mktemp("resuming")
    data = write_challenge(root / "data")
    return TrainingConfig(
        network="cnn-basic",
        data=data,
        out=root / "whole",
        dies=data / "dies.json",
        size=(32, 32),
        epochs=EPOCHS,
        patience=None,
        batch=16,
        augment=True,
        threads=1,
        device="cpu",
    )


@pytest.fixture(scope="module")
def whole(config: TrainingConfig) -> Run:
    """The run that nothing disturbed."""
    return train(config)


def assert_same_run(run: Run, whole: Run) -> None:
    ours, theirs = (load_file(r.folder / "model.safetensors") for r in (run, whole))
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert log(run) == log(whole)
    assert (run.best_epoch, run.held_out) == (whole.best_epoch, whole.held_out)
    assert not (run.folder / "resume.safetensors").exists()


def log(run: Run) -> list[dict[str, str]]:
    with (run.folder / "log.csv").open() as stream:
        return [{n: v for n, v in row.items() if n != "seconds"} for row in csv.DictReader(stream)]


class During(Reporter):
    """Calls ``act`` within an epoch."""

    def __init__(self, epoch: int, act: Any) -> None:
        self._wanted, self._act, self._stage = f"epoch {epoch} of ", act, ""

    def begin(self, stage: str, images: int) -> None:
        self._stage = stage

    def advance(self, images: int) -> None:
        if self._stage.startswith(self._wanted):
            self._act()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_training_that_was_interrupted_goes_on_to_the_same_result(
    config: TrainingConfig, whole: Run, tmp_path: Path
) -> None:
    ours = replace(config, out=tmp_path / "run")
    with pytest.raises(EdgeQCError, match=r"stopped; the epochs that were finished .* --resume"):
        train(ours, During(3, interrupt))
    with pytest.raises(DataError, match="its training has not ended: go on with --resume"):
        load_run(ours.out)
    assert_same_run(train(replace(ours, resume=True)), whole)


def test_efficientnet_lite0_goes_on_to_the_same_result(
    config: TrainingConfig, tmp_path: Path
) -> None:
    lite0 = replace(
        config, network="efficientnet-lite0", size=(32, 32), unfreeze=1, epochs=2, augment=False
    )
    whole = train(replace(lite0, out=tmp_path / "whole"))
    ours = replace(lite0, out=tmp_path / "run")
    with pytest.raises(EdgeQCError, match="stopped"):
        train(ours, During(2, interrupt))
    assert_same_run(train(replace(ours, resume=True)), whole)


def test_the_best_epoch_survives_an_interruption_after_it(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "_rank", lambda row: (float(row["epoch"]),))
    whole = train(replace(config, out=tmp_path / "whole"))
    ours = replace(config, out=tmp_path / "run")
    with pytest.raises(EdgeQCError, match="stopped"):
        train(ours, During(4, interrupt))
    resumed = train(replace(ours, resume=True))
    assert resumed.best_epoch == 1
    assert_same_run(resumed, whole)


def test_a_training_that_was_killed_goes_on_to_the_same_result(
    config: TrainingConfig, whole: Run, tmp_path: Path
) -> None:
    """SIGKILL while the third epoch's checkpoint is being written: half of it is on the disk."""
    ours = replace(config, out=tmp_path / "run")
    program = f"""
import os, signal
from pathlib import Path
from edge_qc_export.learn.training import TrainingConfig, train
replace, written = os.replace, []
def kill_at_third(source, target):
    if Path(target).name == "resume.safetensors":
        written.append(target)
        if len(written) == 3:
            with open(source, "r+b") as half:
                half.truncate(1000)
            os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = kill_at_third
train(TrainingConfig(**{vars(ours)!r}))
"""
    program = program.replace("PosixPath(", "Path(")
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (ours.out / "resume.safetensors").exists()
    assert_same_run(train(replace(ours, resume=True)), whole)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(
    config: TrainingConfig, whole: Run, tmp_path: Path
) -> None:
    ours = replace(config, out=tmp_path / "run")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    try:
        with pytest.raises(EdgeQCError) as caught:
            train(ours, During(3, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    text = str(caught.value)
    assert "safetensors: cannot be written" in text
    assert "The previous one is whole. Make room and go on with --resume" in text
    assert not list(ours.out.glob(".*"))
    _, state = checkpoints.read_tensors(ours.out / "resume.safetensors")
    assert state["epoch"] == 2
    assert_same_run(train(replace(ours, resume=True)), whole)


def test_what_a_kill_left_half_written_goes_with_the_next_start(
    config: TrainingConfig, tmp_path: Path
) -> None:
    """Each may be as large as a network."""
    ours = stopped(replace(config, epochs=2), tmp_path)
    half = ours.out / ".resume.safetensors.4711.new"
    half.write_bytes(bytes(1000))
    train(ours)
    assert not half.exists()


def test_an_empty_folder_that_was_there_stays(config: TrainingConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError):
        train(replace(config, data=tmp_path / "none", out=tmp_path / "run"))
    assert (tmp_path / "run").is_dir()


def test_resuming_a_run_that_is_done_gives_it_back(config: TrainingConfig, whole: Run) -> None:
    assert train(replace(config, resume=True)) == load_run(whole.folder)


def test_a_run_that_is_done_is_not_given_back_for_another(
    config: TrainingConfig, whole: Run
) -> None:
    with pytest.raises(DataError, match=r"run\.json: was made with other settings: seed 0 -> 7"):
        train(replace(config, resume=True, seed=7))


def test_more_epochs_of_a_run_that_is_done_want_another_folder(
    config: TrainingConfig, whole: Run
) -> None:
    longer = replace(config, resume=True, epochs=EPOCHS + 1)
    with pytest.raises(UsageError, match=r"is done with 4 epochs, and 5 are asked for.*--out"):
        train(longer)
    early = whole.model_copy(update={"best_epoch": 1})
    require_no_more_epochs(early, EPOCHS + 1, patience=3)  # it ended early, as was asked for
    with pytest.raises(UsageError, match="5 are asked for"):
        require_no_more_epochs(early, EPOCHS + 1, patience=4)


def test_two_trainings_do_not_write_into_one_folder(
    config: TrainingConfig, whole: Run, tmp_path: Path
) -> None:
    ours = replace(config, out=tmp_path / "run")
    other = replace(ours, seed=5, epochs=1)
    told: list[str] = []

    def start_another() -> None:
        with pytest.raises(UsageError) as caught:
            train(other)
        told.append(str(caught.value))

    assert_same_run(train(ours, During(1, start_another)), whole)
    assert "another training writes into it" in told[0]


def test_a_training_that_cannot_begin_leaves_no_folder(
    config: TrainingConfig, tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        train(replace(config, data=tmp_path / "none", out=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def stopped(config: TrainingConfig, folder: Path) -> TrainingConfig:
    ours = replace(config, out=folder / "run")
    with pytest.raises(EdgeQCError, match="stopped"):
        train(ours, During(2, interrupt))
    return replace(ours, resume=True)


def test_a_checkpoint_of_other_classes_is_refused(config: TrainingConfig, tmp_path: Path) -> None:
    ours = stopped(config, tmp_path)
    other = write_challenge(tmp_path / "other", {"GOOD": 20, "Missing": 20, "Lift-off noir": 24})
    with pytest.raises(DataError) as caught:
        train(replace(ours, data=other))
    text = str(caught.value)
    assert "is of the classes GOOD, Boucle plate, Missing" in text
    assert "the data has GOOD, Lift-off noir, Missing" in text


def test_other_settings_are_refused_and_named(config: TrainingConfig, tmp_path: Path) -> None:
    ours = stopped(config, tmp_path)
    with pytest.raises(DataError, match="other settings: batch 16 -> 8, loss 'cross-entropy' -> "):
        train(replace(ours, batch=8, loss="focal"))


def test_more_epochs_may_be_asked_for_when_resuming(
    config: TrainingConfig, whole: Run, tmp_path: Path
) -> None:
    short = replace(config, out=tmp_path / "run", epochs=2)
    with pytest.raises(EdgeQCError, match="stopped"):
        train(short, At(interrupt))
    assert_same_run(train(replace(short, epochs=EPOCHS, resume=True)), whole)


class At(Reporter):
    """Calls ``act`` when the second epoch is done."""

    def __init__(self, act: Any) -> None:
        self._act = act

    def epoch(self, row: Mapping[str, Any]) -> None:
        if row["epoch"] == 2:
            self._act()


def test_a_frozen_trunk_is_not_written_every_epoch_and_must_be_the_same(
    config: TrainingConfig, tmp_path: Path
) -> None:
    frozen = replace(
        config, network="resnet18", weights="none", unfreeze=3, augment=False, epochs=2
    )
    whole = train(replace(frozen, out=tmp_path / "whole"))
    ours = stopped(frozen, tmp_path)
    assert (ours.out / "resume.safetensors").stat().st_size < 200_000
    assert_same_run(train(ours), whole)
    other = stopped(frozen, tmp_path / "other")
    tensors, state = checkpoints.read_tensors(other.out / "resume.safetensors")
    state["frozen"] = "another"
    checkpoints.write_tensors(other.out / "resume.safetensors", tensors, state)
    with pytest.raises(DataError, match="its frozen weights were others"):
        train(other)


def test_a_damaged_checkpoint_is_told(config: TrainingConfig, tmp_path: Path) -> None:
    ours = stopped(config, tmp_path)
    file = ours.out / "resume.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"resume\.safetensors: cannot be read"):
        train(ours)


def test_a_checkpoint_holds_no_pickle(config: TrainingConfig, tmp_path: Path) -> None:
    ours = stopped(config, tmp_path)
    header_size = int.from_bytes((ours.out / "resume.safetensors").read_bytes()[:8], "little")
    assert 0 < header_size < 100_000
    tensors, state = checkpoints.read_tensors(ours.out / "resume.safetensors")
    assert {name.split(".")[0] for name in tensors} <= {"model", "best", "optimizer"}
    assert state["epoch"] == 1
    assert all(not file.suffix.startswith(".p") for file in ours.out.iterdir() if file.is_file())


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda folder: (folder / "run.json").unlink(), r"no run\.json there; make a run with"),
        (lambda folder: (folder / "run.json").write_text("{"), "cannot be read as JSON"),
        (
            lambda folder: (folder / "run.json").write_text('{"schema_version": 9}'),
            "schema version 9, wanted 1",
        ),
        (
            lambda folder: (folder / "run.json").write_text('{"schema_version": 1}'),
            r"run\.json: network: Field required; classes",
        ),
    ],
)
def test_a_folder_that_is_no_run_is_told(
    whole: Run, tmp_path: Path, break_it: Any, told: str
) -> None:
    (tmp_path / "run.json").write_bytes((whole.folder / "run.json").read_bytes())
    break_it(tmp_path)
    with pytest.raises(DataError, match=told):
        load_run(tmp_path)


def test_a_model_of_another_class_list_is_told(whole: Run, tmp_path: Path) -> None:
    for name in ("run.json", "model.safetensors"):
        (tmp_path / name).write_bytes((whole.folder / name).read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["classifier.weight"] = torch.zeros(7, 128)
    (tmp_path / "model.safetensors").write_bytes(save(tensors))
    with pytest.raises(DataError, match=r"is not of a cnn-basic with 3 classes .*Train again"):
        load_run(tmp_path).load_network()
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load_run(tmp_path).load_network()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(file, b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(EdgeQCError, match="cannot be written"):
            write_whole(file, os.urandom(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
