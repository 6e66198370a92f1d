"""A packed wheelhouse, and a machine on which it is installed."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.wheelhouse import pack
from tests.delivery.machine import Machine, booted, missing
from tests.rig.tiny_bundle import make_bundle

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"

SETTINGS = """
[station]
site = "plant"
name = "line"
state_dir = "/var/lib/edge-qc"
[bundle]
path = "/var/lib/edge-qc/bundle"
[mqtt]
host = "127.0.0.1"
username = "line"
password_file = "credential:mqtt.password"
[[camera]]
name = "cam"
source = "file:///srv/images"
die = "Die01"
loop = true
fps = 10
"""

BROKER = """
listener 1883
password_file /etc/mosquitto/accounts
allow_anonymous false
persistence false
"""


def system_python() -> str:
    """Its version, as 3.12."""
    said = subprocess.run(
        [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip()


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make wheelhouse`` packs for this machine's system Python."""
    folder = tmp_path_factory.mktemp("packed") / "wheelhouse"
    return pack(folder, system_python(), platform.machine())


@pytest.fixture(scope="session")
def newer(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same wheelhouse with a station of version 9.9.9."""
    return with_version(wheelhouse, "9.9.9", tmp_path_factory.mktemp("newer") / "wheelhouse")


def with_version(wheelhouse: Path, version: str, out: Path, *, broken: bool = False) -> Path:
    """A wheelhouse with another version of the station. broken: one that cannot run."""
    source = out.parent / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy2(ROOT / name, source)
    shutil.copytree(ROOT / "edge_qc", source / "edge_qc")
    init = source / "edge_qc" / "__init__.py"
    text = init.read_text(encoding="utf-8")
    init.write_text(text.replace('"0.1.0"', f'"{version}"'), encoding="utf-8")
    assert version in init.read_text(encoding="utf-8")
    if broken:
        run = source / "edge_qc" / "station" / "daemon.py"
        assert run.exists()
        run.write_text("raise RuntimeError('a release that does not start')\n", encoding="utf-8")
    shutil.copytree(wheelhouse, out)
    for wheel in (out / "wheels").glob("edge_qc-*.whl"):
        wheel.unlink()
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w"]
    subprocess.run([*build, out / "wheels", source], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine without a station: a broker with accounts, images, a bundle."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with booted(tmp_path_factory.mktemp("machine") / "of") as machine:
        shared = machine.shared
        (shared / "images").mkdir()
        draw = np.random.default_rng(3)
        for number in range(20):
            picture = draw.integers(40, 215, (8, 8), np.uint8)
            cv2.imwrite(str(shared / "images" / f"{number:02}.png"), picture)
        make_bundle(shared / "bundle")
        shutil.copy2(Path(__file__).with_name("probe.py"), shared)
        machine.shell("cp -r /srv/shared/images /srv/; chmod -R a+rX /srv/images")
        machine.write("/etc/mosquitto/edge-qc.conf", BROKER)
        machine.shell(
            "mosquitto_passwd -b -c /etc/mosquitto/accounts line secret\n"
            "chown mosquitto /etc/mosquitto/accounts\n"
            "systemd-run -q --unit=broker mosquitto -c /etc/mosquitto/edge-qc.conf"
        )
        yield machine


def carry(machine: Machine, wheelhouse: Path, name: str) -> str:
    """A wheelhouse copied onto the machine; its install.sh there."""
    shutil.copytree(wheelhouse, machine.shared / name)
    return f"/srv/shared/{name}/install.sh"
