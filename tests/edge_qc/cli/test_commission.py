"""`edge-qc commission` as a person types it on a new device, to the archive that they send."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from edge_qc.doctor.condition import condition
from tests.rig.tiny_bundle import make_bundle

TESTS = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]


def commission(tmp_path: Path, *arguments: object, path: Path | None = None) -> Done:
    """The command, with a home of its own. path: of modules that stand for a device's."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    environment.pop("XDG_CACHE_HOME", None)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    named = ["--config", tmp_path / "station.toml", "--out", tmp_path / "sent.tar.gz"]
    return subprocess.run(
        [sys.executable, "-m", "edge_qc.cli", "commission", *map(str, [*arguments, *named])],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=TESTS.parent,
    )


def sent(tmp_path: Path) -> dict[str, Any]:
    """What is in the archive, by name: JSON read, logs as text."""
    found = {}
    with tarfile.open(tmp_path / "sent.tar.gz") as tar:
        for member in tar:
            folder, name = member.name.split("/")
            assert folder == "sent"
            stream = tar.extractfile(member)
            assert stream is not None
            text = stream.read().decode()
            found[name] = json.loads(text) if name.endswith(".json") else text
    return found


def test_a_machine_without_a_gpu_is_commissioned_to_the_last_step(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    done = commission(tmp_path, bundle, "--repeat", 30)
    assert done.returncode == 0, done.stderr
    assert "accepted: onnxruntime" in done.stdout
    assert f"send this back: {tmp_path / 'sent.tar.gz'}" in done.stderr
    files = sent(tmp_path)
    assert {"summary.json", "doctor.json", "accept.json"} <= set(files)
    summary = files["summary.json"]
    assert summary["accepted"] is True
    assert summary["answers_timed"] == 32
    assert summary["latency_ms"] == files["accept.json"]["latency_ms"]
    assert [step["step"] for step in summary["steps"]] == ["doctor", "accept"]
    assert set(summary["condition"]) == {"before", "after"}
    # What stands in docs/acceptance is this very report.
    assert files["accept.json"]["schema"] == "edge-qc/acceptance/1"
    assert {finding["check"] for finding in files["doctor.json"]["findings"]} > {"OpenCV", "clock"}


def test_nothing_of_the_home_folder_is_sent(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert commission(tmp_path, bundle, "--repeat", 0).returncode == 0
    files = sent(tmp_path)
    assert str(tmp_path) not in json.dumps(files)
    assert "~/bundle" in files["summary.json"]["steps"][-1]["command"]


def test_with_tensorrt_a_plan_is_built_first(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    done = commission(tmp_path, bundle, "--engine", "tensorrt", "--repeat", 5, path=TESTS / "fakes")
    assert done.returncode == 0, done.stderr
    files = sent(tmp_path)
    assert [step["step"] for step in files["summary.json"]["steps"]] == [
        "doctor",
        "build",
        "accept",
    ]
    assert "building a TensorRT plan: 100%" in files["build.log"]
    assert "building" not in files["accept.log"]


def test_a_refusal_is_what_people_most_want_sent(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", shift=0.5)
    done = commission(tmp_path, bundle, "--repeat", 0)
    assert done.returncode == 78
    assert "NOT accepted: onnxruntime" in done.stdout
    files = sent(tmp_path)
    assert files["summary.json"]["accepted"] is False
    assert "largest difference 0.5" in files["accept.json"]["refusal"]


def test_a_driver_that_crashes_leaves_its_log_in_the_archive(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text(
        "import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 11)"
    )
    bundle = make_bundle(tmp_path / "bundle")
    done = commission(tmp_path, bundle, "--engine", "tensorrt", path=tmp_path)
    assert done.returncode == 1
    files = sent(tmp_path)
    assert files["summary.json"]["steps"][-1]["step"] == "build"
    assert "last words" in files["build.log"]
    assert "killed by signal 11" in files["build.log"]


def test_an_archive_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "sent.tar.gz").write_text("")
    done = commission(tmp_path, tmp_path / "bundle")
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert "doctor" not in done.stderr


def test_the_condition_of_a_jetson_is_read(tmp_path: Path) -> None:
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
        "var/lib/nvpmodel/status": "pmode:0002\n",
        "sys/class/thermal/thermal_zone0/type": "gpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "51250",
        "sys/class/thermal/cooling_device0/type": "pwm-fan",
        "sys/class/thermal/cooling_device0/cur_state": "2",
        "sys/class/devfreq/17000000.gpu/min_freq": "306000000",
        "sys/class/devfreq/17000000.gpu/cur_freq": "612000000",
        "sys/class/devfreq/17000000.gpu/max_freq": "1020000000",
        "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
        "sys/class/hwmon/hwmon1/in1_input": "5000",
        "sys/class/hwmon/hwmon1/curr1_input": "1100",
        "sys/class/hwmon/hwmon2/oc1_event_cnt": "0",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    seen = condition(tmp_path)
    assert seen["power_mode"] == "MAXN_SUPER"
    assert seen["temperatures_c"] == {"gpu-thermal": 51.25}
    assert seen["cooling"] == {"pwm-fan (cooling_device0)": 2}
    assert seen["clocks_mhz"] == {"17000000.gpu": {"min": 306, "cur": 612, "max": 1020}}
    assert seen["rails"] == {"VDD_IN": {"mv": 5000, "ma": 1100}}
    assert seen["over_current"] == {"oc1": 0}


@pytest.mark.parametrize("key", ["temperatures_c", "clocks_mhz", "rails", "over_current"])
def test_off_a_jetson_the_condition_is_empty_and_no_error(tmp_path: Path, key: str) -> None:
    assert condition(tmp_path)[key] == {}
