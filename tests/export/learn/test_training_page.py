"""What docs/training.md shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install ./export")

import torch
from torchvision.models import get_model

import edge_qc.cli
from edge_qc.bundle.dies import read_dies
from edge_qc_export.data.dataset import read_samples
from edge_qc_export.figures.costs import read_costs
from edge_qc_export.learn.keras_layers import keras_layers
from edge_qc_export.learn.training import TrainingConfig, train
from tests.rig.trained import ROOT

pytestmark = pytest.mark.torch

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The page's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def told_commands() -> list[list[str]]:
    """Every ``edge-qc`` line of the page, in blocks and in the text, as words."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`(edge-qc [^`]+)`", PAGE)
    return [line.split(" #")[0].split() for line in lines if line.startswith("edge-qc ")]


def test_the_commands_and_their_options_exist() -> None:
    told = told_commands()
    assert len(told) > 15
    for _, name, *words in told:
        found = edge_qc.cli.app.get_command(edge_qc.cli.app.make_context("edge-qc", ["x"]), name)
        assert found is not None, name
        known = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, words


@pytest.mark.parametrize("network", ["resnet50", "resnet101"])
def test_the_table_of_unfrozen_layers_is_right(network: str) -> None:
    with torch.device("meta"):
        layers = keras_layers(get_model(network, weights=None))
    for count in (3, 6, 12, 24):
        tail = layers[len(layers) - count :]
        learning = [layer.module for layer in tail if layer.has_parameters and layer.module]
        parameters = sum(p.numel() for module in learning for p in module.parameters())
        shown = f"{parameters:,}".replace(",", " ")
        row = rf"^\| {count} \| `{tail[0].name}` \|.*\| {shown} \|$"
        assert re.search(row, PAGE, re.MULTILINE), row


def write_boards(folder: Path) -> None:
    """A tiny DeepPCB: boards with one defect of each kind, in its own layout."""
    rng = np.random.default_rng(0)
    for listing, boards in (("trainval", range(6)), ("test", range(6, 9))):
        lines = []
        for board in boards:
            place = folder / "group0001" / "0001"
            marks = place.with_name("0001_not") / f"0001{board:03}.txt"
            for made in (place, marks.parent):
                made.mkdir(parents=True, exist_ok=True)
            for kind in ("test", "temp"):
                pixels = rng.integers(0, 2, (640, 640), np.uint8) * 255
                cv2.imwrite(str(place / f"0001{board:03}_{kind}.jpg"), pixels)
            marks.write_text("".join(f"{90 * k} 10 {90 * k + 30} 50 {k}\n" for k in range(1, 7)))
            lines.append(f"group0001/0001/0001{board:03}.jpg group0001/0001_not/{marks.name}\n")
        (folder / f"{listing}.txt").write_text("".join(lines))


def test_the_script_makes_a_data_set_of_deeppcb(tmp_path: Path) -> None:
    write_boards(tmp_path / "PCBData")
    (tmp_path / "deeppcb.py").write_text(blocks("python")[0], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "deeppcb.py", "PCBData", "pcb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = tmp_path / "pcb"
    dies = read_dies(data / "dies.json")
    learnt = read_samples(data, "train", dies)
    tested = read_samples(data, "test", dies)
    assert {sample.label for sample in learnt} == {
        "GOOD",
        "open",
        "short",
        "mousebite",
        "spur",
        "copper",
    }
    assert [sample.label for sample in tested].count("DRIFT") == 3
    assert {sample.group for sample in learnt} == {f"0001{board:03}" for board in range(6)}
    assert read_costs(data / "costs.json")["GOOD"]["DRIFT"] == 10_000
    run = train(
        TrainingConfig(
            network="cnn-basic",
            data=data,
            out=tmp_path / "run",
            dies=data / "dies.json",
            costs=data / "costs.json",
            size=(16, 16),
            epochs=1,
            threads=1,
            device="cpu",
        )
    )
    assert len(run.classes) == 6
