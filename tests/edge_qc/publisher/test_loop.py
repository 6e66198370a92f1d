"""The sender's own network loop: brokers that do not read, answer late, or answer all at once."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from edge_qc.publisher import Outbox, Publisher
from edge_qc.publisher.connection.inbox import Inbox
from edge_qc.settings import MqttTable, StationTable
from edge_qc.system.state import State
from tests.rig.brokers import HOST, running_broker
from tests.rig.certificates import Authority
from tests.rig.proxy import Proxy
from tests.rig.publishing import Ear, judge, open_outbox, open_publisher, wait_until

CONNACK = bytes([0x20, 3, 0, 0, 0])


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with open_outbox(tmp_path) as outbox:
        yield outbox


@contextlib.contextmanager
def mouth(first: bytes, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, int]]:
    """A broker that says this at once to whoever speaks to it, and nothing after."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError), contextlib.ExitStack() as open_:
                while True:
                    connection = open_.enter_context(listener.accept()[0])
                    if tls is not None:
                        connection = tls.wrap_socket(connection, server_side=True)
                        open_.enter_context(connection)
                    connection.recv(4096)
                    connection.sendall(first)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def stuffed(
    mosquitto: tuple[str, int], outbox: Outbox, folder: Path
) -> Iterator[tuple[Proxy, Ear, Publisher]]:
    """A publisher with more to say than the sockets hold, whose broker does not read."""
    with Proxy(mosquitto) as proxy, Ear(mosquitto) as ear:
        publisher = open_publisher(outbox, folder, proxy.address)
        wait_until(lambda: ear.state == "STARTING")
        proxy.full = True
        for number in range(100):
            publisher.reply({"number": number, "filling": "x" * 200_000})
        yield proxy, ear, publisher


@pytest.mark.broker
def test_a_broker_that_does_not_read_for_a_while_blocks_nothing(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    """The sender goes on turning, the connection stays, and all arrives once it reads again."""
    with stuffed(mosquitto, outbox, tmp_path) as (proxy, ear, publisher):
        judge(outbox, 40)
        for number in range(5):
            before = publisher.turns
            publisher.state(State.RUNNING, f"judging {number}")
            wait_until(lambda before=before: publisher.turns > before, 1.0)
        assert not ear.of("reply")
        assert outbox.status().waiting == 40
        proxy.full = False
        assert publisher.drain(20)
        wait_until(lambda: len(ear.verdicts) == 40 and len(ear.of("reply")) == 100)
        assert [reply["number"] for reply in ear.of("reply")] == list(range(100))
        assert [verdict["seq"] for verdict in ear.verdicts] == list(range(1, 41))
        assert ear.of("state")[-1]["why"] == "judging 4"
        assert proxy.connections == 1
        publisher.close()


@pytest.mark.broker
def test_closing_does_not_wait_for_a_broker_that_does_not_read(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    """Its last word could not leave: the broker publishes the last will."""
    with stuffed(mosquitto, outbox, tmp_path) as (proxy, ear, publisher):
        judge(outbox, 5)
        began_s = time.monotonic()
        publisher.close()
        assert time.monotonic() - began_s < 8
        proxy.full = False
        wait_until(lambda: ear.state == "DEAD")
        assert "lost" in ear.of("state")[-1]["why"]
    assert outbox.status().waiting == 5


def test_a_broker_that_falls_silent_is_noticed(outbox: Outbox, tmp_path: Path) -> None:
    """By the keep-alive alone: no message waits for an acknowledgement."""
    with mouth(CONNACK) as address:
        publisher = open_publisher(outbox, tmp_path, address, keepalive_s=1)
        wait_until(lambda: publisher.connected)
        wait_until(lambda: "Keep alive timeout" in str(publisher.trouble), 8)
        publisher.close()


def test_a_broker_that_never_accepts_does_not_delay_the_end(outbox: Outbox, tmp_path: Path) -> None:
    with mouth(b"") as address:
        publisher = open_publisher(outbox, tmp_path, address)
        judge(outbox, 2)
        time.sleep(0.2)
        assert not publisher.connected
        began_s = time.monotonic()
        publisher.close()
        assert time.monotonic() - began_s < 4
    assert outbox.status().waiting == 2


def test_what_tls_holds_already_is_read(outbox: Outbox, tmp_path: Path) -> None:
    """Three commands that came in one record with the acceptance, and nothing after them."""
    authority = Authority(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.certify("broker", HOST))
    topic = b"edge-qc/v1/s/n/command"
    head = bytes([0x30, 2 + len(topic) + 2, 0, len(topic), *topic, 0])
    commands = b"".join(head + number for number in (b"1", b"2", b"3"))
    heard: list[bytes] = []
    with mouth(CONNACK + commands, tls) as address:
        mqtt = MqttTable(host=address[0], port=address[1], ca_file=authority.ca)
        publisher = Publisher(mqtt, StationTable(site="s", name="n", state_dir=tmp_path), outbox)
        publisher.listen("command", lambda payload, _s: heard.append(payload))
        publisher.start()
        wait_until(lambda: heard == [b"1", b"2", b"3"], 5)
        publisher.close()


@pytest.mark.broker
def test_many_at_once_over_tls(outbox: Outbox, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, server_key = authority.certify("broker", HOST)
    extra = [f"cafile {authority.ca}", f"certfile {server}", f"keyfile {server_key}"]
    judge(outbox, 500)
    with running_broker("mosquitto", None, extra) as address:
        publisher = open_publisher(outbox, tmp_path, address, ca_file=authority.ca)
        assert publisher.drain(20)
        publisher.close()


@pytest.mark.broker
def test_an_error_in_a_callback_is_told_and_ends_nothing(
    mosquitto: tuple[str, int],
    outbox: Outbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = [RuntimeError("a bug")]
    take = Inbox.take

    def fail(inbox: Inbox, note: Any) -> None:
        if failures:
            raise failures.pop()
        take(inbox, note)

    monkeypatch.setattr(Inbox, "take", fail)
    heard: list[bytes] = []
    publisher = open_publisher(outbox, tmp_path, mosquitto)
    publisher.listen("command", lambda payload, _s: heard.append(payload))
    plant = paho.Client(paho.CallbackAPIVersion.VERSION2)
    plant.connect(*mosquitto)
    plant.loop_start()

    def say_until_heard() -> bool:
        plant.publish("edge-qc/v1/s/n/command", b"go", 1).wait_for_publish(5)
        time.sleep(0.1)
        return bool(heard)

    with caplog.at_level(logging.ERROR):
        wait_until(say_until_heard)
    plant.disconnect()
    plant.loop_stop()
    assert not failures
    assert "a bug" in caplog.text
    judge(outbox, 3)
    assert publisher.drain(20)
    publisher.close()
