"""`edge-qc build` and `edge-qc accept` as a person types them, with stand-ins for the hardware."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]

from tests.rig.tiny_bundle import make_bundle  # noqa: E402

Done = subprocess.CompletedProcess[str]


def edge_qc(*arguments: object, fakes: bool = True) -> Done:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if fakes:
        environment["PYTHONPATH"] = str(TESTS / "fakes")
    return subprocess.run(
        [sys.executable, "-m", "edge_qc.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=TESTS.parent,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def station(tmp_path: Path, bundle: Path, engine: str) -> Path:
    config = tmp_path / "station.toml"
    config.write_text(
        f"""
        [station]
        site = "plant-1"
        name = "line-1"
        state_dir = "{tmp_path / "state"}"
        [bundle]
        path = "{bundle}"
        [engine]
        {engine}
        [[camera]]
        name = "one"
        source = "file:///nowhere"
        die = "Die01"
        [mqtt]
        host = "127.0.0.1"
        """
    )
    return config


def test_build_builds_accepts_and_reports(tmp_path: Path, bundle: Path) -> None:
    plans = tmp_path / "plans"
    done = edge_qc("build", bundle, "--plans", plans, "--repeat", 3, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["accepted"] is True
    assert report["engine"] == "tensorrt 10.3.0 Orin (fake) sm_87 fp32"
    assert report["answers_timed"] == 5
    assert report["machine"]["arch"]
    assert "building a TensorRT plan:   0%  no plan of this model" in done.stderr
    assert "100%  done" in done.stderr
    assert "only this machine's GPU and TensorRT" in done.stderr
    assert len(list(plans.glob("*.plan"))) == 1


def test_a_second_build_only_accepts_and_force_builds_again(tmp_path: Path, bundle: Path) -> None:
    plans = tmp_path / "plans"
    for force, told in (([], True), ([], False), (["--force"], True)):
        done = edge_qc("build", bundle, "--plans", plans, *force)
        assert done.returncode == 0, done.stderr
        assert ("building a TensorRT plan" in done.stderr) is told
    assert "accepted: tensorrt" in done.stdout


def test_build_takes_bundle_engine_and_folder_from_the_station(
    tmp_path: Path, bundle: Path
) -> None:
    config = station(tmp_path, bundle, 'kind = "tensorrt"\nworkspace_mb = 99')
    done = edge_qc("build", "--config", config, "--json")
    assert done.returncode == 0, done.stderr
    (fingerprint,) = (tmp_path / "state" / "plans").glob("*.json")
    assert json.loads(fingerprint.read_text())["key"]["workspace_mb"] == 99
    # A station that never builds finds the very plan.
    config = station(
        tmp_path, bundle, 'kind = "tensorrt"\nworkspace_mb = 99\nbuild_at_start = false'
    )
    done = edge_qc("accept", "--config", config, "--json")
    assert done.returncode == 0, done.stderr
    assert "building" not in done.stderr


def test_a_refusal_is_kept_printed_and_fails(tmp_path: Path) -> None:
    """A refused engine is what people most want the report of."""
    bundle = make_bundle(tmp_path / "bundle", shift=0.5)
    kept = tmp_path / "reports" / "refused.json"
    done = edge_qc("accept", bundle, "--out", kept, "--json", fakes=False)
    assert done.returncode == 78
    assert "logits: largest difference 0.5" in done.stderr
    assert json.loads(done.stdout) == json.loads(kept.read_text())
    assert json.loads(done.stdout)["accepted"] is False
    assert "largest difference" in json.loads(done.stdout)["refusal"]


def test_accept_takes_onnx_runtime_where_nobody_says(bundle: Path) -> None:
    done = edge_qc("accept", bundle, "--repeat", 10, "--json", fakes=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["engine"].startswith("onnxruntime")
    assert report["differences"]["logits"] <= report["tolerances"]["logits"]
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert report["versions"]["edge-qc"]


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 4])
def test_a_real_gpu_reproduces_the_golden_answers(tmp_path: Path, batch: int) -> None:
    """TensorRT, the CUDA library that is installed, and a driver: no stand-in. Ten thousand answers
    of one process. Nobody has run this yet."""
    nodes = [Path("/dev/nvidiactl"), Path("/etc/nv_tegra_release")]
    if not any(node.exists() for node in nodes):
        pytest.skip("needs an NVIDIA GPU: run this on a workstation with one, or on a Jetson")
    bundle = make_bundle(tmp_path / "bundle", batch=batch)
    done = edge_qc("build", bundle, "--plans", tmp_path, "--repeat", 10_000, "--json", fakes=False)
    assert done.returncode == 0, done.stderr
    assert "running without a CUDA graph" not in done.stderr
    assert json.loads(done.stdout)["engine"].startswith("tensorrt")


def test_without_tensorrt_build_says_what_is_missing(tmp_path: Path, bundle: Path) -> None:
    done = edge_qc("build", bundle, "--plans", tmp_path / "plans", fakes=False)
    assert done.returncode == 1
    assert "TensorRT's Python bindings cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_that_nobody_knows_is_refused(bundle: Path) -> None:
    done = edge_qc("accept", bundle, "--engine", "openvino", fakes=False)
    assert done.returncode == 1
    assert "wanted one of onnxruntime, tensorrt" in done.stderr
