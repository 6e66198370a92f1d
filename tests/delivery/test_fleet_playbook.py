"""deploy/fleet against three machines, each with a systemd and an sshd of its own on the loopback.

The tests of this file are one story, in their order: install, refuse, roll back, roll out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.delivery import machine as machines
from tests.delivery.machine import Machine, booted
from tests.rig.brokers import free_port, running_broker
from tests.rig.programs import need
from tests.rig.tiny_bundle import make_bundle

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("machine")]

ROOT = Path(__file__).parents[2]
FLEET = ROOT / "deploy" / "fleet"
BIN = Path(sys.executable).parent
STATIONS = ("line-1", "line-2", "line-3")

SETTINGS = """
[station]
site = "{{ edge_qc_site }}"
name = "{{ inventory_hostname }}"
state_dir = "/var/lib/edge-qc"
[mqtt]
host = "127.0.0.1"
port = {{ broker_port }}
{% if secret is defined %}
username = "line"
password_file = "credential:mqtt.password"
{% endif %}
[[camera]]
name = "cam"
source = "file:///srv/images"
die = "Die01"
loop = true
fps = {{ fps | default(20) }}
"""

ALL_GOOD, ALL_REJECTED, ALSO_GOOD = 3, 1, 5
"""Seeds of tiny bundles by what they say of the images here."""


@dataclass(frozen=True)
class Fleet:
    folder: Path
    broker: str
    machines: dict[str, Machine]

    def play(
        self, playbook: str, *, limit: str | None = None, **variables: object
    ) -> subprocess.CompletedProcess[str]:
        """ansible-playbook, as a person calls it."""
        return subprocess.run(
            [
                BIN / "ansible-playbook",
                "-i",
                self.folder / "inventory.yml",
                FLEET / playbook,
                "-e",
                json.dumps(variables),
                *(["--limit", limit] if limit is not None else []),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "ANSIBLE_HOST_KEY_CHECKING": "False",
                "ANSIBLE_PIPELINING": "True",
                "ANSIBLE_HOME": str(self.folder / "ansible"),
                "ANSIBLE_NOCOLOR": "1",
                "LC_ALL": "C.UTF-8",
            },
        )

    def versions(self) -> dict[str, int | None]:
        """The bundle's version by station, as the broker has kept it."""
        return {row["station"]: row["bundle_version"] for row in self.rows() if row["state"]}

    def rows(self) -> list[dict[str, object]]:
        done = subprocess.run(
            [BIN / "edge-qc", "fleet", "status", "--broker", self.broker, "--json", "--for", "1"],
            capture_output=True,
            text=True,
            check=False,
        )
        stations: list[dict[str, object]] = json.loads(done.stdout)["stations"]
        return stations

    def bundle(self, version: int, seed: int, shift: float = 0.0) -> str:
        """A packed bundle."""
        from edge_qc_export.packing.bundle_folder import pack_bundle

        folder = make_bundle(
            self.folder / "bundles" / str(version), version=version, seed=seed, shift=shift
        )
        pack_bundle(folder, file := self.folder / f"{version}.tar.zst")
        return str(file)


def serve_ssh(machine: Machine, port: int, public_key: str) -> None:
    machine.write("/root/.ssh/authorized_keys", public_key, "600")
    machine.shell(
        "chmod 700 /root/.ssh; mkdir -p /run/sshd; ssh-keygen -A >/dev/null\n"
        f"systemd-run -q --unit=ssh-of-test /usr/sbin/sshd -D -e -p {port} "
        "-o ListenAddress=127.0.0.1 -o PermitRootLogin=prohibit-password -o UsePAM=no"
    )


def archived(wheelhouse: Path, folder: Path) -> None:
    """A release, packed under the one name that all have here."""
    with tarfile.open(folder / "wheelhouse.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(wheelhouse, "wheelhouse")


@pytest.fixture(scope="module")
def fleet(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if (why := machines.missing()) is not None:
        pytest.skip(why)
    need("mosquitto", "ssh", "sshd", "ssh-keygen")
    if not (BIN / "ansible-playbook").exists():
        pytest.skip("needs ansible-playbook: pip install ansible-core")
    folder = tmp_path_factory.mktemp("fleet")
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    archived(wheelhouse, folder)
    images = folder / "images"
    images.mkdir()
    draw = np.random.default_rng(3)
    for number in range(20):
        picture = draw.integers(40, 215, (8, 8), np.uint8)
        cv2.imwrite(str(images / f"{number:02}.png"), picture)
    (folder / "station.toml.j2").write_text(SETTINGS, encoding="utf-8")
    with contextlib.ExitStack() as stack:
        host, port = stack.enter_context(running_broker("mosquitto"))
        running, hosts = {}, {}
        for name in STATIONS:
            machine = stack.enter_context(booted(folder / name, name, private_network=False))
            ssh_port = free_port()
            serve_ssh(machine, ssh_port, key.with_suffix(".pub").read_text(encoding="utf-8"))
            shutil.copytree(images, machine.shared / "images")
            machine.shell("cp -r /srv/shared/images /srv/ && chmod -R a+rX /srv/images")
            running[name], hosts[name] = machine, {"ansible_port": ssh_port}
        inventory = {
            "stations": {
                "vars": {
                    "ansible_host": "127.0.0.1",
                    "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(key),
                    "ansible_python_interpreter": "/usr/bin/python3",
                    "edge_qc_site": "plant",
                    "edge_qc_weigh": 60,
                    "edge_qc_weigh_s": 40,
                    "broker_port": port,
                },
                "hosts": hosts,
            },
            "all": {
                "vars": {
                    "edge_qc_command": str(BIN / "edge-qc"),
                    "edge_qc_broker": ["--broker", f"{host}:{port}"],
                }
            },
        }
        # JSON is YAML.
        (folder / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")
        yield Fleet(folder, f"{host}:{port}", running)


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, int]]:
    """What Ansible counted, by host."""
    counted = {}
    for line in done.stdout.partition("PLAY RECAP")[2].splitlines():
        if match := re.match(r"(\S+)\s+: (.*)", line):
            pairs = (word.split("=") for word in match[2].split())
            counted[match[1]] = {name: int(number) for name, number in pairs}
    return counted


def test_three_bare_machines_become_stations(fleet: Fleet) -> None:
    done = fleet.play(
        "fleet.yml",
        edge_qc_wheelhouse=str(fleet.folder / "wheelhouse.tar.gz"),
        edge_qc_settings=str(fleet.folder / "station.toml.j2"),
        edge_qc_bundle=fleet.bundle(1, ALL_GOOD),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    end_s = time.monotonic() + 20
    while fleet.versions() != dict.fromkeys(STATIONS, 1) and time.monotonic() < end_s:
        time.sleep(0.5)
    rows = fleet.rows()
    assert {row["station"]: row["state"] for row in rows} == dict.fromkeys(STATIONS, "RUNNING")
    # The report at the end names every station.
    report = done.stdout.partition("Show it")[2]
    assert all(f"plant/{name}" in report for name in STATIONS)


def test_again_changes_nothing(fleet: Fleet) -> None:
    """Numbers are text where a person gives them by ``-e name=value``."""
    done = fleet.play(
        "fleet.yml",
        edge_qc_wheelhouse=str(fleet.folder / "wheelhouse.tar.gz"),
        edge_qc_settings=str(fleet.folder / "station.toml.j2"),
        edge_qc_bundle=str(fleet.folder / "1.tar.zst"),
        edge_qc_weigh="0",
        edge_qc_shadow_parts="0",
        limit="line-1,localhost",
    )
    assert done.returncode == 0, done.stdout
    assert recap(done)["line-1"]["changed"] == 0


def test_the_first_refused_acceptance_stops_it(fleet: Fleet) -> None:
    """The canary judges on with what it had; nobody else was touched."""
    done = fleet.play("fleet.yml", edge_qc_bundle=fleet.bundle(2, ALSO_GOOD, shift=1.0))
    assert done.returncode != 0
    assert "does not reproduce" in done.stdout
    assert set(recap(done)) & set(STATIONS) == {"line-1"}
    assert fleet.versions() == dict.fromkeys(STATIONS, 1)


def test_a_step_in_the_rejected_share_rolls_the_canary_back(fleet: Fleet) -> None:
    done = fleet.play("fleet.yml", edge_qc_bundle=fleet.bundle(3, ALL_REJECTED))
    assert done.returncode != 0
    assert "rolled back to the bundle before: plant/line-1: 100.0% rejected" in done.stdout
    assert set(recap(done)) & set(STATIONS) == {"line-1"}
    assert fleet.versions() == dict.fromkeys(STATIONS, 1)


def test_settings_that_do_not_start_are_taken_back(fleet: Fleet) -> None:
    done = fleet.play("fleet.yml", edge_qc_settings=str(fleet.folder / "station.toml.j2"), fps=-1)
    assert done.returncode != 0
    assert "those before are back" in done.stdout
    assert "camera.[1].fps" in done.stdout or "camera[1].fps" in done.stdout
    assert fleet.versions() == dict.fromkeys(STATIONS, 1)
    assert "fps = 20" in fleet.machines["line-1"].shell("cat /etc/edge-qc/station.toml")


def test_secrets_that_do_not_start_are_taken_back(fleet: Fleet) -> None:
    """The one before returns, one that is new goes, and no copy of either stays."""
    password, key = fleet.folder / "password", fleet.folder / "unknown"
    key.write_bytes(b"a key")
    place = "/etc/edge-qc/credentials"
    for content, more in ((b"before", {}), (b"not UTF-8: \xff", {"mqtt.key": str(key)})):
        password.write_bytes(content)
        done = fleet.play(
            "fleet.yml",
            edge_qc_settings=str(fleet.folder / "station.toml.j2"),
            edge_qc_credentials={"mqtt.password": str(password), **more},
            secret=True,
            limit="line-1,localhost",
        )
        assert (done.returncode == 0) is (not more), done.stdout
        machine = fleet.machines["line-1"]
        assert machine.shell(f"cat {place}/mqtt.password") == "before"
        assert machine.shell(f"ls -A {place}").split() == ["mqtt.password"]
        assert machine.shell("systemctl is-active edge-qc").strip() == "active"
    assert "those before are back" in done.stdout
    assert "not UTF-8" in done.stdout


def test_a_good_bundle_reaches_all(fleet: Fleet) -> None:
    done = fleet.play("fleet.yml", edge_qc_bundle=fleet.bundle(4, ALSO_GOOD))
    assert done.returncode == 0, done.stdout
    assert fleet.versions() == dict.fromkeys(STATIONS, 4)


def test_everything_back(fleet: Fleet) -> None:
    done = fleet.play("rollback.yml")
    assert done.returncode == 0, done.stdout
    assert fleet.versions() == dict.fromkeys(STATIONS, 1)


def test_another_release_reaches_a_station_and_goes_again(fleet: Fleet, newer: Path) -> None:
    """Under the same name, too: what counts is what is in the archive."""
    archived(newer, fleet.folder)
    done = fleet.play(
        "fleet.yml",
        edge_qc_wheelhouse=str(fleet.folder / "wheelhouse.tar.gz"),
        limit="line-1,localhost",
    )
    assert done.returncode == 0, done.stdout
    station = fleet.machines["line-1"]
    assert station.shell("edge-qc --version").strip().endswith("9.9.9")
    assert len(station.shell("ls -d /var/cache/edge-qc-fleet/unpacked-*").split()) == 1
    done = fleet.play("rollback.yml", edge_qc_what="software", limit="line-1")
    assert done.returncode == 0, done.stdout
    assert station.shell("edge-qc --version").strip().endswith("0.1.0")


def test_a_station_that_is_away_stops_it_with_its_name(tmp_path: Path) -> None:
    """Unreachable is not skipped: the play ends there, before the stations behind it."""
    hosts = {name: {"ansible_port": free_port()} for name in STATIONS}
    variables = {"ansible_host": "127.0.0.1", "ansible_user": "root", "edge_qc_site": "plant"}
    inventory = {"stations": {"vars": {**variables, "edge_qc_broker": []}, "hosts": hosts}}
    (tmp_path / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")
    (tmp_path / "1.tar.zst").touch()
    nobody = Fleet(tmp_path, "", {})
    done = nobody.play("fleet.yml", edge_qc_bundle=str(tmp_path / "1.tar.zst"), edge_qc_answer_s=2)
    assert done.returncode != 0
    assert recap(done)["line-1"]["failed"] == 1
    assert set(recap(done)) == {"line-1"}
