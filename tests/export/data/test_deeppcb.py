"""Real images, from training to verdicts on a broker."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.rig.real_images import deeppcb
from tests.rig.trained import EDGE_QC

pytestmark = [pytest.mark.deeppcb, pytest.mark.broker, pytest.mark.torch]

TRAIN, TEST = 600, 100


def test_real_images_become_verdicts(any_broker: tuple[str, int], tmp_path: Path) -> None:
    """train, export and run with a die table and costs of the set's own: every test image gets
    its verdict on the broker, and none is refused."""
    pytest.importorskip("torch", reason="needs torch: pip install ./export")
    data = deeppcb(tmp_path, TRAIN, TEST)
    run, bundle = tmp_path / "run", tmp_path / "bundle"

    def edge_qc(*arguments: object) -> None:
        done = subprocess.run(
            [*EDGE_QC, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    edge_qc(
        "train", data, "--network", "cnn-basic", "--size", 32, "--epochs", 2, "--out", run,
        "--dies", data / "dies.json", "--costs", data / "costs.json",
    )  # fmt: skip
    edge_qc("export", run, "--out", bundle)
    (tmp_path / "station.toml").write_text(
        '[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
        f'[bundle]\npath = "{bundle}"\n'
        f'[mqtt]\nhost = "{any_broker[0]}"\nport = {any_broker[1]}\n'
        f'[[camera]]\nname = "c"\nsource = "file://{data}/input_test"\n'
        f'table = "{data}/win_and_lib.csv"\n'
    )
    watch = subprocess.Popen(
        [
            *EDGE_QC, "watch", "--broker", f"{any_broker[0]}:{any_broker[1]}", "--json",
            "--count", str(TEST), "--for", "60",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    time.sleep(1.5)
    edge_qc("run", "--config", tmp_path / "station.toml", "--until-end")
    output, _ = watch.communicate(timeout=30)
    messages = [json.loads(line) for line in output.splitlines()]
    verdicts = [message for message in messages if "verdict_id" in message]
    assert len({verdict["image"] for verdict in verdicts}) == TEST
    assert {verdict["reason"] for verdict in verdicts} == {"decided"}
    with (data / "Y_test_truth.csv").open(newline="") as file:
        truth = {row["filename"]: row["Label"] for row in csv.DictReader(file)}
    escaped = [v for v in verdicts if v["label"] == "GOOD" and truth[v["image"]] != "GOOD"]
    assert len(escaped) <= len(verdicts) // 10
