"""The plant's broker as deploy/mosquitto has it, certificates of deploy/pki.sh, real daemons."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from tests.rig.brokers import free_port
from tests.rig.programs import need
from tests.rig.tiny_bundle import make_bundle
from tests.rig.trained import EDGE_QC

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
PKI = ROOT / "deploy" / "pki.sh"
MOSQUITTO = ROOT / "deploy" / "mosquitto"
WAIT_S = 30.0


def pki(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PKI, *map(str, arguments)], capture_output=True, text=True, check=False)


def expire(authority: Path, name: str) -> None:
    """A certificate of the authority for a station, out of date since yesterday."""
    file = authority / name.replace("/", "_")
    key = ec.generate_private_key(ec.SECP256R1())
    signer = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes()).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now - timedelta(days=1))
        .sign(signer, hashes.SHA256())
    )
    file.with_suffix(".pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    file.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@dataclass(frozen=True)
class Plant:
    """A broker on 127.0.0.1, TLS at port and websockets at web_port; pki: its authority."""

    folder: Path
    port: int
    web_port: int
    pki: Path

    def listen(self, who: str, topic: str, seen: list[tuple[str, bytes]]) -> paho.Client:
        """A subscriber with a certificate of its own."""
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.tls_set(
            str(self.pki / "ca.pem"), str(self.pki / f"{who}.pem"), str(self.pki / f"{who}.key")
        )
        client.on_message = lambda _c, _d, message: seen.append(
            (message.topic, bytes(message.payload))
        )
        client.on_connect = lambda c, *_rest: c.subscribe(topic, 1)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        return client


def until(condition: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"waited {WAIT_S:.0f} s for {what}")


@contextlib.contextmanager
def mosquitto(settings: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    program = need("mosquitto")
    with settings.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen([program, "-c", settings], stdout=log, stderr=log)
    try:
        until(lambda: _answers(port) or process.poll() is not None, "the broker")
        assert process.poll() is None, settings.with_suffix(".log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def settings_of(folder: Path, pki_folder: Path, port: int, web_port: int, *more: str) -> Path:
    """deploy/mosquitto's own file with the paths and ports of a trial."""
    text = (MOSQUITTO / "edge-qc.conf").read_text(encoding="utf-8")
    shutil.copy2(MOSQUITTO / "acl", folder / "acl")
    (folder / "acl").chmod(0o600)
    (folder / "kept").mkdir(exist_ok=True)
    text = text.replace("listener 8883", f"listener {port} 127.0.0.1")
    text = text.replace("listener 8884", f"listener {web_port} 127.0.0.1")
    text = text.replace("/var/lib/mosquitto/", f"{folder / 'kept'}/")
    for name in ("ca.pem", "ca.crl", "broker.pem", "broker.key"):
        text = text.replace(f"/etc/mosquitto/edge-qc/{name}", str(pki_folder / name))
    for name in ("acl", "accounts"):
        text = text.replace(f"/etc/mosquitto/edge-qc/{name}", str(folder / name))
    assert "/etc/" not in text.replace("Copy this folder's files to /etc/", "").replace(
        "file to /etc/", ""
    ).replace("(mosquitto_passwd /etc/mosquitto/edge-qc/accounts NAME)", "")
    # It would become another user, who cannot read a trial's folder.
    user = ["user root"] if os.geteuid() == 0 else []
    file = folder / "mosquitto.conf"
    file.write_text("\n".join([text, *user, *more, ""]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    need("openssl", "mosquitto", "mosquitto_passwd")
    folder = tmp_path_factory.mktemp("plant")
    made = folder / "pki"
    for arguments in (
        ("init", made),
        ("broker", made, "127.0.0.1"),
        *(("station", made, f"plant/{name}") for name in ("line-1", "stolen")),
        *(("client", made, name) for name in ("recorder", "dashboard", "operator", "bridge")),
    ):
        done = pki(*arguments)
        assert done.returncode == 0, done.stderr
    expire(made, "plant/late")
    for suffix in ("pem", "key"):  # what a thief has
        shutil.copy2(made / f"plant_stolen.{suffix}", folder / f"thief.{suffix}")
    assert pki("revoke", made, "plant/stolen").returncode == 0
    port, web_port = free_port(), free_port()
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", folder / "accounts", "dashboard", "seen"], check=True
    )
    with mosquitto(settings_of(folder, made, port, web_port), port):
        yield Plant(folder, port, web_port, made)


def strangers(plant: Plant) -> Path:
    """Another authority, with a station of the same name."""
    other = plant.folder / "strangers"
    if not other.exists():
        pki("init", other)
        pki("station", other, "plant/line-1")
    return other


@dataclass(frozen=True)
class Case:
    """One station and what it must say. mqtt: lines of its [mqtt]."""

    name: str
    says: str
    host: str = "127.0.0.1"
    ca: str | None = "pki/ca.pem"
    identity: str | None = "pki/plant_line-1"


CASES = {
    "another's topic": Case("line-2", "Not authorized"),
    "signed by a stranger": Case("line-1", "unknown ca", identity="strangers/plant_line-1"),
    "expired": Case("late", "certificate expired", identity="pki/plant_late"),
    "revoked": Case("stolen", "certificate revoked", identity="thief"),
    "no certificate": Case("line-1", "certificate required", identity=None),
    "plaintext": Case("line-1", "may require TLS", ca=None, identity=None),
    "a broker of another name": Case("line-1", "Hostname mismatch", host="localhost"),
    "a broker of a stranger": Case("line-1", "verify failed", ca="strangers/ca.pem"),
}


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    log: Path
    outbox: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle and images."""
    folder = tmp_path_factory.mktemp("goods")
    make_bundle(folder / "bundle")
    (folder / "images").mkdir()
    draw = np.random.default_rng(3)
    for number in range(8):
        picture = draw.integers(40, 215, (8, 8), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number:02}.png"), picture)
    return folder


def start(plant: Plant, goods: Path, folder: Path, case: Case) -> Running:
    folder.mkdir()
    mqtt = [f'host = "{case.host}"', f"port = {plant.port}", "keepalive_s = 5"]
    if case.ca is not None:
        mqtt.append(f'ca_file = "{plant.folder / case.ca}"')
    if case.identity is not None:
        mqtt.append(f'cert_file = "{plant.folder / case.identity}.pem"')
        mqtt.append(f'key_file = "{plant.folder / case.identity}.key"')
    file = folder / "station.toml"
    file.write_text(
        f'[station]\nsite = "plant"\nname = "{case.name}"\nstate_dir = "state"\n'
        f'[bundle]\npath = "{goods / "bundle"}"\n'
        f'[[camera]]\nname = "cam"\nsource = "file://{goods / "images"}"\ndie = "Die01"\n'
        f"loop = true\nfps = 2\n[line]\ndrain_s = 0.2\n[mqtt]\n{chr(10).join(mqtt)}\n"
    )
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen([*EDGE_QC, "run", "--config", file], stdout=sink, stderr=sink)
    return Running(process, log, folder / "state" / "outbox.sqlite")


@pytest.fixture(scope="module")
def refused(
    plant: Plant, goods: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Running], list[tuple[str, bytes]]]]:
    """A daemon for each case, and everything that the broker let through."""
    folder = tmp_path_factory.mktemp("stations")
    strangers(plant)
    seen: list[tuple[str, bytes]] = []
    recorder = plant.listen("recorder", "edge-qc/v1/#", seen)
    running = {
        name: start(plant, goods, folder / str(number), case)
        for number, (name, case) in enumerate(CASES.items())
    }
    try:
        yield running, seen
    finally:
        recorder.disconnect()
        recorder.loop_stop()
        for station in running.values():
            station.process.send_signal(signal.SIGTERM)
        for station in running.values():
            station.process.wait(30)


@pytest.mark.parametrize("name", list(CASES))
def test_refused_and_the_daemon_lives_and_says_why(
    refused: tuple[dict[str, Running], list[tuple[str, bytes]]], name: str
) -> None:
    running, seen = refused
    station = running[name]
    until(lambda: CASES[name].says.lower() in station.said().lower(), f"the reason: {station.log}")
    until(lambda: "judging" in station.said(), "its line to run all the same")
    assert station.process.poll() is None
    assert not seen


def test_its_own_topics_are_allowed(plant: Plant, goods: Path, tmp_path: Path) -> None:
    """Verdicts, state and health arrive, at a recorder and at a browser's websocket; the station
    has nothing to complain of."""
    seen: list[tuple[str, bytes]] = []
    recorder = plant.listen("recorder", "edge-qc/v1/#", seen)
    at_web: list[str] = []
    browser = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, transport="websockets")
    browser.tls_set(str(plant.pki / "ca.pem"))
    browser.username_pw_set("dashboard", "seen")
    browser.on_message = lambda _c, _d, message: at_web.append(message.topic)
    browser.on_connect = lambda c, *_rest: c.subscribe("edge-qc/v1/plant/line-1/verdict", 1)
    browser.connect("127.0.0.1", plant.web_port)
    browser.loop_start()
    station = start(plant, goods, tmp_path / "station", Case("line-1", ""))
    root = "edge-qc/v1/plant/line-1"
    try:
        until(lambda: {f"{root}/verdict", f"{root}/state"} <= {topic for topic, _ in seen}, "it")
        until(lambda: at_web, "the browser")
        assert "WARNING" not in station.said()
    finally:
        station.process.send_signal(signal.SIGTERM)
        assert station.process.wait(30) == 0
        for client in (recorder, browser):
            client.disconnect()
            client.loop_stop()


@pytest.mark.parametrize(
    ("who", "topic"),
    [
        ("dashboard", "edge-qc/v1/plant/line-1/verdict"),
        ("dashboard", "edge-qc/v1/plant/line-1/command"),
        ("recorder", "edge-qc/v1/plant/line-1/verdict"),
        ("recorder", "edge-qc/v1/plant/line-1/command"),
        ("operator", "edge-qc/v1/plant/line-1/verdict"),
        ("plant_line-1", "edge-qc/v1/plant/line-1/command"),
    ],
)
def test_nobody_forges_a_verdict_or_gives_a_command_that_is_not_theirs(
    plant: Plant, who: str, topic: str
) -> None:
    refused: list[str] = []
    client = plant.listen(who, "nothing", [])
    client.on_publish = lambda _c, _d, _m, reason, _p: refused.append(str(reason))
    until(client.is_connected, "the connection")
    client.publish(topic, b"{}", 1)
    until(lambda: refused, "the answer")
    client.disconnect()
    client.loop_stop()
    assert refused == ["Not authorized"]


def test_a_browser_without_its_password_is_refused(plant: Plant) -> None:
    answers: list[str] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, transport="websockets")
    client.tls_set(str(plant.pki / "ca.pem"))
    client.on_connect = lambda _c, _d, _f, reason, _p: answers.append(str(reason))
    client.connect("127.0.0.1", plant.web_port)
    client.loop_start()
    until(lambda: answers, "the answer")
    client.disconnect()
    client.loop_stop()
    assert answers[0] == "Not authorized"


def test_a_killed_broker_keeps_what_it_acknowledged_and_a_bridge_hands_it_on(
    plant: Plant, tmp_path: Path
) -> None:
    """Two brokers: SIGKILL of the lower one with 300 acknowledged messages that the upper one,
    which is away, has not seen: after both are back, all are there, in order."""
    upper_folder, lower_folder = tmp_path / "upper", tmp_path / "lower"
    ports = [free_port() for _ in range(4)]
    files = []
    for folder, port, web in ((upper_folder, *ports[:2]), (lower_folder, *ports[2:])):
        folder.mkdir()
        shutil.copy2(plant.folder / "accounts", folder)
        files.append(settings_of(folder, plant.pki, port, web))
    # Up here a bridge speaks for all stations below it.
    acl = upper_folder / "acl"
    acl.write_text(f"{acl.read_text()}\nuser bridge\ntopic write edge-qc/v1/#\n", encoding="utf-8")
    bridge = (MOSQUITTO / "bridge.conf").read_text(encoding="utf-8")
    bridge = bridge.replace("plant-broker.example:8883", f"127.0.0.1:{ports[0]}")
    bridge = bridge.replace("/etc/mosquitto/edge-qc/plant-ca.pem", str(plant.pki / "ca.pem"))
    bridge = bridge.replace("/etc/mosquitto/edge-qc/", f"{plant.pki}/")
    bridge = bridge.replace("restart_timeout 2 30", "restart_timeout 1 1")
    files[1].write_text(f"{files[1].read_text()}\n{bridge}", encoding="utf-8")
    upper = Plant(upper_folder, ports[0], ports[1], plant.pki)
    lower = Plant(lower_folder, ports[2], ports[3], plant.pki)
    topic = "edge-qc/v1/plant/line-1/verdict"
    with mosquitto(files[0], upper.port), mosquitto(files[1], lower.port):
        seen: list[tuple[str, bytes]] = []
        recorder = upper.listen("recorder", "edge-qc/v1/#", seen)
        station = lower.listen("plant_line-1", "nothing", [])
        until(station.is_connected, "the station")

        def crosses() -> bool:
            station.publish(topic, b"first", 1)
            return bool(seen)

        until(crosses, "the bridge")
        recorder.disconnect()
        station.disconnect()
    with mosquitto(files[1], lower.port) as killed:
        station = lower.listen("plant_line-1", "nothing", [])
        until(station.is_connected, "the station again")
        sent = [station.publish(topic, str(number).encode(), 1) for number in range(300)]
        for info in sent:
            info.wait_for_publish(10)
        assert all(info.is_published() for info in sent)
        station.disconnect()
        station.loop_stop()
        time.sleep(1.5)  # autosave_interval
        killed.kill()
        killed.wait()
    with mosquitto(files[0], upper.port):
        seen = []
        recorder = upper.listen("recorder", "edge-qc/v1/#", seen)
        until(recorder.is_connected, "the recorder")
        with mosquitto(files[1], lower.port):
            until(lambda: len({payload for _, payload in seen}) >= 300, "the backlog")
        recorder.disconnect()
        recorder.loop_stop()
    numbers = [int(payload) for _, payload in seen if payload.isdigit()]
    assert list(dict.fromkeys(numbers)) == list(range(300))


def test_the_authority_refuses_what_would_be_a_mistake(plant: Plant, tmp_path: Path) -> None:
    for arguments, said in (
        (("station", plant.pki, "line-1"), "SITE/STATION"),
        (("station", plant.pki, "plant/line-1"), "exists"),
        (("station", tmp_path, "a/b"), "has no authority"),
        (("client", plant.pki, "a/b"), "no slash"),
        (("init", plant.pki), "not replaced"),
        (("revoke", plant.pki, "plant/unknown"), "is not there"),
        (("revoke", plant.pki), "wants the name"),
        (("revoke", plant.pki, "ca"), "does not revoke itself"),
        (("client", plant.pki, "ca"), "take another"),
        (("client", plant.pki, "broker"), "take another"),
    ):
        done = pki(*arguments)
        assert done.returncode in (1, 2)
        assert said in done.stderr
    assert (plant.pki / "ca.key").exists()
    key = plant.pki / "plant_line-1.key"
    assert key.stat().st_mode & 0o077 == 0
