"""torchrun trains on two processes: one run folder, and the same mathematics."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edge_qc_export.learn.training import TrainingConfig, load_run, train
from tests.rig.pictures import write_challenge

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[3]


def two_processes(*arguments: object) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
            "--master-addr", "127.0.0.1", "--master-port", str(port),
            "-m", "edge_qc.cli", *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


@pytest.mark.parametrize("network", ["resnet18", "efficientnet-lite0"])
def test_two_processes_reach_the_weights_of_one(tmp_path: Path, network: str) -> None:
    """A linear head over a frozen trunk: no dropout and no batch norm, whose noise differs."""
    data = write_challenge(tmp_path / "data")
    config = TrainingConfig(
        data=data,
        out=tmp_path / "one",
        network=network,
        weights="none",
        unfreeze=0,
        dies=data / "dies.json",
        size=(32, 32),
        epochs=2,
        batch=16,
        device="cpu",
    )
    one = train(config)
    done = two_processes(
        "train", data, "--network", network, "--weights", "none", "--unfreeze", 0,
        "--dies", data / "dies.json", "--size", 32, "--epochs", 2, "--batch", 16,
        "--out", tmp_path / "two", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2, "one process answers, once"
    two = load_run(tmp_path / "two")
    ours, theirs = (load_file(run.folder / "model.safetensors") for run in (two, one))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    assert two.held_out["accuracy"] == one.held_out["accuracy"]
    assert not (tmp_path / "two" / "cache").exists()
    assert train(replace(config, out=tmp_path / "two", resume=True)) == two
