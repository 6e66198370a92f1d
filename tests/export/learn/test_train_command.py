"""``edge-qc train`` as it is typed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from edge_qc.errors import DataError, UsageError
from edge_qc_export.commands.export import command as export
from edge_qc_export.commands.study import command as study
from edge_qc_export.commands.train import command
from edge_qc_export.learn.training import load_run
from tests.rig.pictures import write_challenge

pytestmark = pytest.mark.torch


def test_a_table_with_no_sound_row_is_told_by_the_command(tmp_path: Path) -> None:
    data = write_challenge(tmp_path / "data", {"GOOD": 2})
    dies = tmp_path / "other.json"
    dies.write_text(json.dumps({"elsewhere": {"angle": 0, "center": [8, 8]}}))
    arguments = [str(data), "--out", str(tmp_path / "run"), "--dies", str(dies)]
    with pytest.raises(DataError, match="2 faults"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_the_command_trains_and_answers_with_the_run(tmp_path: Path) -> None:
    data, run = write_challenge(tmp_path / "data"), tmp_path / "run"
    arguments = [data, "--dies", data / "dies.json", "--size", "32x28", "--epochs", 1, "--out", run]
    arguments += ["--network", "cnn-basic"]
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["size"] == [32, 28]
    assert load_run(run).load_network()(torch.zeros(1, 1, 32, 28)).shape == (1, 3)


@pytest.mark.parametrize("size", ["", "axb", "0", "1x2x3", "-5"])
def test_a_size_that_is_none_is_wrong_use(tmp_path: Path, size: str) -> None:
    result = CliRunner().invoke(command, [str(tmp_path), "--size", size])
    assert result.exit_code == 2
    assert "wanted HEIGHTxWIDTH in pixels such as 320x96, or 96 for a square" in result.stderr


def test_several_processes_want_a_named_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="name it with --out"):
        CliRunner().invoke(command, [str(tmp_path)], catch_exceptions=False)


def test_one_number_is_a_square_and_a_size_the_network_cannot_take_is_told_at_once(
    tmp_path: Path,
) -> None:
    data = write_challenge(tmp_path / "data")
    arguments = [str(data), "--dies", str(data / "dies.json"), "--out", str(tmp_path / "run")]
    for given, shown in (("100", "100x100"), ("320x100", "320x100")):
        with pytest.raises(UsageError, match=f"size {shown}: .* multiples of 32"):
            CliRunner().invoke(command, [*arguments, "--size", given], catch_exceptions=False)
    assert not (tmp_path / "run").exists()


def test_too_few_images_for_a_bundle_are_told_before_the_first_epoch(tmp_path: Path) -> None:
    data = write_challenge(tmp_path / "data")
    arguments = [data, "--dies", data / "dies.json", "--size", "32", "--epochs", 1]
    arguments += ["--network", "cnn-basic", "--out", tmp_path / "run"]
    result = CliRunner().invoke(command, [*map(str, arguments)], catch_exceptions=False)
    told = " ".join(result.stderr.split())
    assert re.search(r"too few images for a bundle: \d+ are GOOD, .* wants at least 30", told)
    assert told.index("too few images") < told.index("epoch 1")


def test_good_alone_trains_and_exports_and_says_what_nothing_bounds(tmp_path: Path) -> None:
    """No defect, no class to learn: a frozen trunk, one epoch, a gate by a share of GOOD."""
    from edge_qc.bundle.verification import open_bundle

    data = write_challenge(tmp_path / "data", {"GOOD": 60}, {"GOOD": 4, "Drift": 4})
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    arguments = [data, "--dies", data / "dies.json", "--size", "64", "--out", run]
    told = CliRunner().invoke(command, [*map(str, arguments)], catch_exceptions=False).stderr
    assert "only GOOD images" in told
    said = CliRunner().invoke(export, [str(run), "--out", str(bundle)], catch_exceptions=False)
    assert "escapes are not bounded" in said.output
    manifest = open_bundle(bundle).manifest
    assert manifest.labels == ("GOOD", "DRIFT")
    assert manifest.decision.policy == "threshold"
    assert manifest.gate is not None
    assert manifest.gate.bound is None


@pytest.mark.parametrize("weights", ["imagenet", "file.safetensors"])
def test_a_network_without_a_trunk_takes_no_weights(tmp_path: Path, weights: str) -> None:
    arguments = ["data", "--network", "cnn-basic", "--weights", weights]
    with pytest.raises(UsageError, match="cnn-basic starts from random numbers"):
        CliRunner().invoke(
            command, [*arguments, "--out", str(tmp_path / "run")], catch_exceptions=False
        )


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seed", "-1"), ("--seed", "9" * 20), ("--threads", "0"), ("--threads", "99999")],
)
@pytest.mark.parametrize("asked", [command, study, export])
def test_a_number_out_of_range_is_wrong_use(
    tmp_path: Path, asked: click.Command, option: str, value: str
) -> None:
    said = CliRunner().invoke(asked, ["data", option, value, "--out", str(tmp_path / "run")])
    assert said.exit_code == 2
    assert f"{value} is not in the range" in said.output


def test_good_alone_teaches_no_trunk(tmp_path: Path) -> None:
    data = write_challenge(tmp_path / "data", {"GOOD": 60})
    arguments = [data, "--dies", data / "dies.json", "--size", "32", "--network", "cnn-basic"]
    with pytest.raises(UsageError, match=r"holds only GOOD images.*--unfreeze 0"):
        CliRunner().invoke(
            command, [*map(str, arguments), "--out", str(tmp_path / "run")], catch_exceptions=False
        )


def test_a_run_folder_whose_name_is_not_utf8_is_refused_before_the_work(tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(UsageError, match=r"caf\\udce9: the name is not UTF-8"):
        CliRunner().invoke(command, [str(tmp_path), "--out", str(out)], catch_exceptions=False)
    assert not out.exists()
