"""`edge-qc doctor`: on a Jetson drawn in a folder, on this machine, against real brokers."""

from __future__ import annotations

import ctypes
import dataclasses
import datetime
import getpass
import ipaddress
import json
import os
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from edge_qc.bundle.slots import Slots
from edge_qc.doctor import (
    Finding,
    Status,
    board,
    broker,
    bundles,
    cameras,
    examine,
    software,
    storage,
)
from edge_qc.doctor import surroundings as around
from edge_qc.settings import Settings, read_settings
from edge_qc.system.machine import jetpack_of, this_machine
from tests.rig.brokers import running_broker
from tests.rig.privileges import without_root
from tests.rig.programs import need
from tests.rig.stations import put_in
from tests.rig.tiny_bundle import make_bundle

FAKES = Path(__file__).parents[2] / "fakes"


def settings(tmp_path: Path, **tables: Any) -> Settings:
    return Settings.model_validate(
        {
            "station": {"site": "s", "name": "n", "state_dir": tmp_path / "state"},
            "bundle": {"path": tmp_path / "bundle"},
            "camera": [{"name": "one", "source": f"file://{tmp_path}/", "die": "Die01"}],
            "mqtt": {"host": "127.0.0.1", "port": 1},
            **tables,
        }
    )


def jetson(root: Path, revision: str = "4.3") -> Path:
    """The files of an Orin Nano under ``root``."""
    files = {
        "etc/nv_tegra_release": f"# R36 (release), REVISION: {revision}, GCID: 1, BOARD: generic\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "var/lib/nvpmodel/status": "pmode:0002\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=1 NAME=25W >\n"
        "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
        "sys/class/devfreq/17000000.gpu/min_freq": "306000000",
        "sys/class/devfreq/17000000.gpu/max_freq": "1020000000",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "51000",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
        "sys/class/thermal/thermal_zone1/temp": "54500",
        "sys/class/hwmon/hwmon1/oc1_event_cnt": "0\n",
        "sys/class/hwmon/hwmon1/oc3_event_cnt": "0\n",
    }
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def only(found: Any) -> Finding:
    (finding,) = found
    assert isinstance(finding, Finding)
    return finding


def test_a_healthy_jetson_is_green(tmp_path: Path) -> None:
    root = jetson(tmp_path)
    machine = this_machine(root)
    assert only(board.jetpack(machine)).seen == (
        "JetPack 6.2, L4T 36.4.3 on NVIDIA Jetson Orin Nano Developer Kit"
    )
    assert only(board.power_mode(machine, None)).seen == "MAXN_SUPER"
    assert "between 306 and 1020 MHz" in only(board.clocks(machine, root)).seen
    assert only(board.heat(root)).seen == "54 °C (gpu-thermal), the hottest of 2"
    assert only(board.over_current(machine, root)).seen == "none on 2 counters"
    found = (*board.jetpack(machine), *board.heat(root), *board.over_current(machine, root))
    assert {finding.status for finding in found} == {Status.GOOD}


def test_an_ailing_jetson_is_red_with_remedies(tmp_path: Path) -> None:
    root = jetson(tmp_path, revision="3.0")
    (root / "sys/class/thermal/thermal_zone1/temp").write_text("97000")
    (root / "sys/class/hwmon/hwmon1/oc3_event_cnt").write_text("12\n")
    (root / "sys/class/devfreq/17000000.gpu/min_freq").write_text("1020000000")
    machine = this_machine(root)
    assert "JetPack 6.0" in only(board.jetpack(machine)).seen
    assert "JetPack 6.1 or newer" in only(board.jetpack(machine)).remedy
    assert only(board.heat(root)).status is Status.BAD
    assert only(board.over_current(machine, root)).seen == "oc3: 12 times"
    assert only(board.clocks(machine, root)).seen == "GPU fixed at 1020 MHz"


@pytest.mark.parametrize(
    ("commissioned", "status"), [("MAXN_SUPER", Status.GOOD), ("25W", Status.BAD)]
)
def test_another_power_mode_than_the_commissioned_one_is_red(
    tmp_path: Path, commissioned: str, status: Status
) -> None:
    station = {"site": "s", "name": "n", "state_dir": tmp_path, "power_mode": commissioned}
    finding = only(
        board.power_mode(this_machine(jetson(tmp_path)), settings(tmp_path, station=station))
    )
    assert finding.status is status
    assert commissioned in finding.seen


@pytest.mark.parametrize(
    ("revision", "jetpack"), [("4.0", "6.1"), ("4.3", "6.2"), ("4.7", "6.2"), ("3.1", "6.0")]
)
def test_jetpack_is_read_from_the_release_of_l4t(
    tmp_path: Path, revision: str, jetpack: str
) -> None:
    assert this_machine(jetson(tmp_path, revision)).jetpack == jetpack


def test_off_a_jetson_the_board_does_not_apply(tmp_path: Path) -> None:
    machine = this_machine(tmp_path)
    for found in (
        board.jetpack(machine),
        board.power_mode(machine, None),
        board.clocks(machine, tmp_path),
        board.over_current(machine, tmp_path),
    ):
        finding = only(found)
        assert finding.status is Status.NONE
        assert "not a Jetson" in finding.seen


def test_an_environment_closed_to_jetpacks_packages_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    machine = this_machine(jetson(tmp_path))
    assert "--system-site-packages" in only(software.python(machine, None)).remedy
    (tmp_path / "pyvenv.cfg").write_text("include-system-site-packages = true\n")
    assert only(software.python(machine, None)).status is Status.GOOD


def test_tensorrt_is_looked_for_where_it_is_wanted_alone() -> None:
    assert only(software.tensorrt("not wanted")).status is Status.NONE
    finding = only(software.tensorrt(None))
    assert finding.status is Status.BAD
    assert "No module named 'tensorrt'" in finding.seen
    assert "python3-libnvinfer" in finding.remedy
    assert only(software.cuda(None)).status is Status.BAD


def test_tensorrt_that_is_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    finding = only(software.tensorrt(None))
    assert finding.status is Status.GOOD
    assert finding.seen.startswith("10.3.0 (")


@pytest.mark.parametrize(
    ("version", "l4t", "told"),
    [
        ("11.4.1.5", "36.4.3", "JetPack 6 stays on TensorRT 10"),
        ("11.4.0.106", "38.4", "from 11.4.1 on"),
        ("11.4.1.5", "39.2", None),
        ("10.16.2.10", "39.2", None),
        ("11.4.0.106", None, None),
    ],
)
def test_a_tensorrt_that_does_not_support_the_jetpack_is_red(
    monkeypatch: pytest.MonkeyPatch, version: str, l4t: str | None, told: str | None
) -> None:
    answer = f'print(\'["{version}", "/usr/lib/tensorrt", true, []]\')'
    monkeypatch.setattr("edge_qc.doctor.software._TENSORRT", answer)
    machine = dataclasses.replace(this_machine(), l4t=l4t)
    finding = only(software.tensorrt(None, machine))
    assert finding.status is (Status.GOOD if told is None else Status.BAD)
    assert told is None or told in finding.seen


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [("38.2.1", "7.0"), ("38.4", "7.1"), ("38.4.1", "7.1"), ("39.2", "7.2 or newer")],
)
def test_the_newer_jetpacks_are_told_apart(l4t: str, jetpack: str) -> None:
    assert jetpack_of(l4t) == jetpack


def test_a_library_that_crashes_does_not_take_the_doctor_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text("import os, signal\nos.kill(os.getpid(), 11)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "status -11" in only(software.tensorrt(None)).seen


def test_a_workstation_is_told_whether_it_can_ask_nvidias_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_qc.doctor.software.metadata.version", lambda name: "1.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = only(software.preflight())
    assert finding.status is Status.NOTE
    assert "edge-qc-export[preflight]" in finding.remedy
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("edge_qc.doctor.software._PREFLIGHT", "raise SystemExit('no library')")
    assert "makes no builder: no library" in only(software.preflight()).seen


def test_a_station_is_not_asked_for_nvidias_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("edge_qc.doctor.software.metadata.version", missing)
    assert only(software.preflight()).status is Status.NONE


@pytest.mark.conformance
def test_nvidias_compiler_is_named_with_what_it_does_not_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.conformance.rtx import VERSION, rtx_site

    monkeypatch.setenv("PYTHONPATH", str(rtx_site()))
    monkeypatch.syspath_prepend(str(rtx_site()))
    monkeypatch.setattr("edge_qc.doctor.software.metadata.version", lambda name: "1.0")
    finding = only(software.preflight())
    assert finding.status is Status.GOOD
    assert finding.seen == f"TensorRT for RTX {VERSION} builds graphs here, and runs none"


def test_an_opencv_for_another_numpy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('numpy.core.multiarray failed to import')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "numpy<2" in only(software.opencv(None)).remedy


def test_gstreamer_is_wanted_where_a_camera_speaks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text(
        "__version__ = '4.8.0'\n"
        "def getBuildInformation(): return '  GStreamer:    NO\\n  v4l/v4l2:   YES (linux)\\n'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    camera = {"name": "one", "source": "gst:videotestsrc ! appsink", "die": "Die01"}
    finding = only(software.opencv(settings(tmp_path, camera=[camera])))
    assert finding.status is Status.BAD
    assert "python3-opencv" in finding.remedy
    assert only(software.opencv(None)).status is Status.NOTE


def test_a_disk_that_is_low_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    station = settings(tmp_path)
    assert only(storage.state(station)).status is Status.GOOD
    assert not (tmp_path / "state").exists()
    monkeypatch.setattr(storage, "free_bytes", lambda _: 100 << 20)
    finding = only(storage.state(station))
    assert finding.status is Status.BAD
    assert "100 MB free" in finding.seen


def test_a_ballast_that_was_given_up_is_red(tmp_path: Path) -> None:
    station = settings(tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    (state / "outbox.sqlite").touch()
    assert only(storage.state(station)).status is Status.BAD
    (state / "outbox.sqlite.ballast").touch()
    assert "ballast there" in only(storage.state(station)).seen


def test_the_plans_folder_is_looked_at_for_tensorrt_alone(tmp_path: Path) -> None:
    assert only(storage.plans(settings(tmp_path))).status is Status.NONE
    station = settings(tmp_path, engine={"kind": "tensorrt"})
    assert only(storage.plans(station)).status is Status.GOOD
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "plans").write_text("no folder")
    assert only(storage.plans(station)).status is Status.BAD


def test_the_bundles_of_the_slots_are_named_and_verified(tmp_path: Path) -> None:
    known = settings(tmp_path, bundle={})
    (empty,) = bundles.slots(known)
    assert (empty.check, empty.status) == ("bundle, current", Status.BAD)
    assert empty.remedy == "edge-qc install BUNDLE"
    for version in (1, 2):
        put_in(known, make_bundle(tmp_path / f"v{version}", version=version))
    current, previous = bundles.slots(known)
    assert (current.check, previous.check) == ("bundle, current", "bundle, previous")
    assert {current.status, previous.status} == {Status.GOOD}
    assert current.seen.startswith("version 2, ")
    assert previous.seen.startswith("version 1, ")
    with (Path(previous.seen.rpartition(", ")[2]) / "model.onnx").open("r+b") as model:
        model.write(b"\xff")
    current, previous = bundles.slots(known)
    assert (current.status, previous.status) == (Status.GOOD, Status.BAD)
    assert "model.onnx" in previous.seen


def test_a_bundle_that_was_given_up_is_told(tmp_path: Path) -> None:
    known = settings(tmp_path, bundle={})
    for version in (1, 2):
        put_in(known, make_bundle(tmp_path / f"v{version}", version=version))
    Slots.of_station(known.station.state_dir).give_up_current("golden view 3 came out otherwise")
    current, gone, previous = bundles.slots(known)
    assert current.seen.startswith("version 1, ")
    assert gone.status is Status.NOTE
    assert "version 2, " in gone.seen
    assert "golden view 3" in gone.seen
    assert previous.status is Status.NONE


def test_a_bundle_that_nobody_signed_is_red_where_a_key_is_there(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = tmp_path / "key.pem"
    pem.write_bytes(
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    folder = make_bundle(tmp_path / "bundle")
    assert only(bundles.slots(settings(tmp_path, bundle={"path": folder}))).status is Status.GOOD
    named = settings(tmp_path, bundle={"path": folder, "public_key": pem})
    assert only(bundles.slots(named)).status is Status.BAD


def test_each_camera_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "one.png").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        sources = {
            "there": f"file://{tmp_path}/",
            "absent": "v4l2:///dev/v4l/by-id/no-such-camera",
            "answers": f"rtsp://user:secret@127.0.0.1:{port}/stream",
            "silent": "rtsp://127.0.0.1:1/stream",
            "strange": "ftp://127.0.0.1/",
        }
        station = settings(
            tmp_path,
            camera=[
                {"name": name, "source": source, "die": "Die01"} for name, source in sources.items()
            ],
        )
        found = {finding.check: finding for finding in cameras.sources(station, tmp_path)}
    status = {name.removeprefix("camera "): finding.status for name, finding in found.items()}
    assert status == {
        "there": Status.GOOD,
        "absent": Status.BAD,
        "answers": Status.GOOD,
        "silent": Status.BAD,
        "strange": Status.BAD,
    }
    assert "secret" not in str(found)
    assert "plug the camera in" in found["camera absent"].remedy


def test_device_nodes_are_named_where_no_settings_are(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "video0").touch()
    assert "video0" in only(cameras.sources(None, tmp_path)).seen


def test_a_node_that_this_user_may_not_open_is_red() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "video0").touch(mode=0)
        camera = {"name": "one", "source": f"v4l2://{folder}/video0", "die": "Die01"}
        station = settings(folder, camera=[camera])
        assert "usermod -aG video" in without_root(
            lambda: only(cameras.sources(station, folder)).remedy
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to ask for another user's access")
def test_root_asks_for_access_as_the_stations_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may open everything, so its own access says nothing of the station's."""
    systemctl_says(tmp_path, monkeypatch, "LoadState=loaded\nActiveState=active\nUser=nobody\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "inbox").mkdir(mode=0o700)
        (folder / "inbox" / "a.png").touch()
        (folder / "video0").touch(mode=0o600)
        (folder / "state").mkdir(mode=0o700)
        closed = [
            {"name": "watched", "source": f"file://{folder}/inbox", "die": "D", "watch": True},
            {"name": "device", "source": f"v4l2://{folder}/video0", "die": "D"},
        ]
        station = settings(folder, camera=closed)
        found = {finding.check: finding for finding in examine(station)}
        assert found["unit"].status is Status.GOOD
        for check in ("camera watched", "camera device", "state folder"):
            assert found[check].status is Status.BAD, found[check]
            assert "this user may not" in found[check].seen
        # Behind it, root reads the secrets again.
        assert os.geteuid() == 0


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            'username = "line"\npassword_file = "credential:mqtt.password"\n',
            "Root alone reads a credential",
        ),
        ('cert_file = "own.pem"\nkey_file = "credential:mqtt.key"\n', "mqtt.key: cannot be used"),
    ],
)
def test_a_secret_that_root_alone_reads_is_said_to_be_one(keys: str, told: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "credentials").mkdir(mode=0)
        (folder / "station.toml").write_text(
            '[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
            '[[camera]]\nname = "c"\nsource = "file:///"\ndie = "D"\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = 1\n{keys}'
        )
        certificate(folder, "own")
        station = read_settings(folder / "station.toml")

        def said() -> str:
            finding = only(broker.reach(station))
            return f"{finding.seen}. {finding.remedy}"

        answer = without_root(said)
        assert told in answer
        assert "sudo edge-qc doctor" in answer
        assert "orrect" not in answer
        (folder / "credentials").chmod(0o700)


def test_settings_that_this_user_may_not_read_are_red() -> None:
    from click.testing import CliRunner

    from edge_qc.cli.doctor import command

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "etc").mkdir(mode=0)
        wanted = ["--config", str(folder / "etc" / "station.toml")]
        told = without_root(lambda: CliRunner().invoke(command, wanted).output)
        assert "this user may not read it" in told
        assert "sudo edge-qc doctor" in told
        (folder / "etc").chmod(0o700)


def test_a_broker_that_is_away_is_red(tmp_path: Path) -> None:
    finding = only(broker.reach(settings(tmp_path)))
    assert finding.status is Status.BAD
    assert "127.0.0.1:1: " in finding.seen


@pytest.mark.broker
def test_a_broker_without_rules_is_told_as_such(tmp_path: Path, mosquitto: tuple[str, int]) -> None:
    host, port = mosquitto
    found = list(broker.reach(settings(tmp_path, mqtt={"host": host, "port": port})))
    assert [finding.status.value for finding in found] == ["note", "good", "note"]
    assert "without encryption" in found[0].seen
    assert "as any other station too" in found[-1].seen


@pytest.mark.broker
def test_a_brokers_rules_are_probed_and_accounts_checked(tmp_path: Path) -> None:
    tool = need("mosquitto_passwd")
    (tmp_path / "passwords").touch(mode=0o600)
    subprocess.run([tool, "-b", tmp_path / "passwords", "line", "right"], check=True)
    (tmp_path / "rules").write_text("user line\ntopic readwrite edge-qc/v1/s/n/#\n")
    for file in ("rules", "passwords"):
        (tmp_path / file).chmod(0o600)
    password = tmp_path / "password"
    extra = [
        "allow_anonymous false",
        f"password_file {tmp_path / 'passwords'}",
        f"acl_file {tmp_path / 'rules'}",
    ]
    with running_broker("mosquitto", extra=extra) as (host, port):
        mqtt = {"host": host, "port": port, "username": "line", "password_file": password}
        password.write_text("right\n")
        found = list(broker.reach(settings(tmp_path, mqtt=mqtt)))
        assert {finding.status for finding in found[1:]} == {Status.GOOD}
        assert "may not write as another station" in found[-1].seen
        password.write_text("wrong\n")
        finding = only(broker.reach(settings(tmp_path, mqtt=mqtt)))
        assert finding.status is Status.BAD
        assert "refuses this station's account" in finding.seen
        (tmp_path / "password").unlink()
        assert "password_file" in only(broker.reach(settings(tmp_path, mqtt=mqtt))).seen


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.mark.broker
def test_tls_is_checked_against_the_stations_authority(tmp_path: Path) -> None:
    own, key = certificate(tmp_path, "broker")
    stranger, _ = certificate(tmp_path, "stranger")
    with running_broker("mosquitto", extra=[f"certfile {own}", f"keyfile {key}"]) as (host, port):
        mqtt = {"host": host, "port": port, "ca_file": own}
        found = list(broker.reach(settings(tmp_path, mqtt=mqtt)))
        assert found[0].status is Status.GOOD
        assert "reached with TLS" in found[0].seen
        finding = only(broker.reach(settings(tmp_path, mqtt=mqtt | {"ca_file": stranger})))
        assert "certificate is not valid" in finding.seen
        assert finding.remedy == "correct mqtt.ca_file"


def test_the_clock_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(around.clock()).check == "clock"

    class Library:
        def __init__(self, state: int) -> None:
            self.state = state

        def adjtimex(self, _: object) -> int:
            return self.state

    for state, status in ((5, Status.BAD), (0, Status.GOOD), (-1, Status.NOTE)):
        monkeypatch.setattr(ctypes, "CDLL", lambda _, state=state: Library(state))
        assert only(around.clock()).status is status


def systemctl_says(folder: Path, monkeypatch: pytest.MonkeyPatch, shown: str) -> None:
    """``systemctl show`` gives these properties."""
    command = folder / "systemctl"
    command.write_text(f"#!/bin/sh\nprintf '{shown}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("shown", "status", "told"),
    [
        ("LoadState=not-found\n", Status.NONE, "not installed"),
        ("LoadState=loaded\nActiveState=failed\nUser={me}\n", Status.BAD, "failed"),
        ("LoadState=loaded\nActiveState=active\nUser={me}\n", Status.GOOD, "active"),
        ("LoadState=loaded\nActiveState=active\nUser=other\n", Status.NOTE, "user other"),
    ],
)
def test_the_unit_is_told_with_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, status: Status, told: str
) -> None:
    systemctl_says(tmp_path, monkeypatch, shown.format(me=getpass.getuser()))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    finding = only(around.unit(None))
    assert finding.status is status
    assert told in finding.seen
    assert ("sudo edge-qc doctor" in finding.remedy) is (status is Status.NOTE)


def test_what_only_this_shell_sets_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl_says(tmp_path, monkeypatch, "LoadState=loaded\nActiveState=active\n")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/cuda")
    found = list(around.unit(None))
    assert "LD_LIBRARY_PATH" in found[-1].seen


def test_a_check_that_breaks_is_a_line_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Any:
        raise RuntimeError("surprise")

    monkeypatch.setattr("edge_qc.doctor.CHECKS", (broken,))
    assert "surprise" in only(examine(None)).seen


def doctor(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_qc.cli", "doctor", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_is_whole_without_settings_and_as_json(tmp_path: Path) -> None:
    done = doctor("--config", tmp_path / "absent.toml", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["ok"] else 1)
    checks = [finding["check"] for finding in document["findings"]]
    assert checks[:3] == ["settings", "JetPack", "power mode"]
    assert {"TensorRT", "OpenCV", "broker", "clock", "unit"} <= set(checks)
    assert document["findings"][0]["status"] == "none"


def test_a_station_toml_that_is_wrong_is_red(tmp_path: Path) -> None:
    (tmp_path / "station.toml").write_text("[station]\nsite = 1\n")
    done = doctor("--config", tmp_path / "station.toml")
    assert done.returncode == 1
    assert "✗ settings" in done.stdout
    assert "to repair" in done.stdout


def test_the_pin_of_a_trigger_is_looked_for(tmp_path: Path) -> None:
    pytest.importorskip("gpiod", reason="needs gpiod: pip install '.[gpio]'")
    (tmp_path / "a.png").touch()
    source = {"source": f"file://{tmp_path}/", "die": "Die01"}
    triggered = [
        {"name": "there", "trigger": "gpio:/dev/null/17", **source},
        {"name": "absent", "trigger": "gpio:/dev/gpiochip-absent/17", **source},
    ]
    station = settings(tmp_path, camera=triggered)
    found = {finding.check: finding for finding in cameras.sources(station, tmp_path)}
    assert found["trigger of there"].status is Status.GOOD
    assert found["trigger of absent"].status is Status.BAD
    assert "/dev/gpiochip-absent does not exist" in found["trigger of absent"].seen
