"""A station of aarch64: its wheels resolve, and it judges, under qemu. Minutes; never a timing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.wheelhouse import CONSTRAINTS, ROOT, fetch, requirements
from edge_qc.publisher import Subscription
from edge_qc.settings import MqttTable
from tests.delivery import aarch64
from tests.rig.brokers import running_broker
from tests.rig.tiny_bundle import make_bundle

pytestmark = [pytest.mark.aarch64, pytest.mark.xdist_group("aarch64")]

PLATFORMS = [
    f"--platform={tag}_aarch64"
    for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_17")
]
PLATFORMS.append("--platform=manylinux2014_aarch64")

PATIENT = """
from edge_qc.camera import Camera
Camera.__init__.__kwdefaults__["open_timeout_s"] = 120.0
from edge_qc.cli import main
main()
"""
"""edge-qc on a busy machine that emulates: starting a camera's process takes longer there than a
station waits before it starts another, and that would go on for ever."""


@pytest.mark.parametrize(
    ("python", "lock"),
    [("3.10", "station-numpy1.txt"), ("3.12", "station.txt"), ("3.12", "station-numpy1.txt")],
)
def test_every_wheel_of_the_lock_exists(tmp_path: Path, python: str, lock: str) -> None:
    """For JetPack 6 and 7: nothing of a station is built from source, pycuda aside."""
    file = tmp_path / "requirements.txt"
    file.write_text("\n".join(requirements(CONSTRAINTS / lock, python, "aarch64")))
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", *PLATFORMS]
    command += [f"--python-version={python}", "--target", str(tmp_path / "site"), "-r", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An aarch64 root with the station's wheels; qemu; the folder that is its /srv."""
    if (why := aarch64.unavailable()) is not None:
        pytest.skip(why)
    root, qemu = aarch64.root()
    folder = tmp_path_factory.mktemp("aarch64")
    fetch(folder / "wheels", aarch64.PYTHON, "aarch64", CONSTRAINTS / "station.txt")
    site = root / "opt" / "site"
    shutil.rmtree(site)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    command += [*PLATFORMS, f"--python-version={aarch64.PYTHON}", "--only-binary=:all:"]
    wheels = [str(wheel) for wheel in (folder / "wheels").glob("*.whl")]
    subprocess.run([*command, "--target", str(site), *wheels], check=True)
    shutil.copytree(ROOT / "edge_qc", site / "edge_qc")
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == aarch64.PYTHON:
        # Bytecode is the same on every processor, and compiling is slow there.
        subprocess.run([sys.executable, "-m", "compileall", "-q", site], check=False)
    shared = folder / "shared"
    (shared / "images").mkdir(parents=True)
    draw = np.random.default_rng(3)
    for number in range(6):
        picture = draw.integers(40, 215, (8, 8), np.uint8)
        cv2.imwrite(str(shared / "images" / f"{number:02}.png"), picture)
    make_bundle(shared / "bundle", seed=3)
    return root, qemu, shared


def test_the_golden_answers_come_out_there(place: tuple[Path, Path, Path]) -> None:
    root, qemu, shared = place
    done = aarch64.run(
        root, qemu, shared, "/usr/bin/python3.11", "-m", "edge_qc.cli", "accept", "/srv/bundle",
        "--json", "--repeat", "0", "--out", "/srv/report.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((shared / "report.json").read_text(encoding="utf-8"))
    assert report["accepted"] is True
    assert "aarch64" in json.dumps(report["machine"])


@pytest.mark.broker
def test_the_daemon_judges_there(place: tuple[Path, Path, Path]) -> None:
    """From images through its camera process, ONNX Runtime and outbox to a broker of this machine,
    with the verdicts that this machine gives too."""
    root, qemu, shared = place
    with running_broker("mosquitto") as (host, port):
        (shared / "station.toml").write_text(
            '[station]\nsite = "s"\nname = "arm"\nstate_dir = "/srv/state"\n'
            '[bundle]\npath = "/srv/bundle"\n'
            '[[camera]]\nname = "cam"\nsource = "file:///srv/images"\ndie = "Die01"\n'
            "timeout_s = 60\n[line]\nmax_frame_age_s = 120\n"
            f'[mqtt]\nhost = "{host}"\nport = {port}\n'
        )
        subscription = Subscription(MqttTable(host=host, port=port), ["edge-qc/v1/s/arm/verdict"])
        done = aarch64.run(
            root, qemu, shared, "/usr/bin/python3.11", "-c", PATIENT, "run",
            "--config", "/srv/station.toml", "--until-end",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        verdicts = []
        while (received := subscription.read(1.0)) is not None:
            verdicts.append(json.loads(received.payload))
        subscription.close()
    # A fault of the camera on the way is a verdict without an image.
    judged = {row["image"]: row["label"] for row in verdicts if row["image"] is not None}
    here = subprocess.run(
        [sys.executable, "-m", "edge_qc.cli", "judge", "--json", "--die", "Die01", "--bundle",
         shared / "bundle", *sorted((shared / "images").glob("*.png"))],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    labels = {Path(row["image"]).name: row["label"] for row in json.loads(here.stdout)}
    assert judged == labels
    assert set(labels.values()) == {"GOOD"}
