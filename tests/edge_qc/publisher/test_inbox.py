"""What the plant says to a station, over a real broker."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from edge_qc.publisher import Outbox, Publisher
from tests.rig.brokers import running_broker
from tests.rig.proxy import Proxy
from tests.rig.publishing import Ear, judge, open_outbox, open_publisher, wait_until

pytestmark = pytest.mark.broker


class Mouth:
    """Somebody in the plant who publishes to the station ``s/n``."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.connect(*address)
        self._client.loop_start()

    def say(self, level: str, payload: bytes, retain: bool = False) -> None:
        self._client.publish(f"edge-qc/v1/s/n/{level}", payload, 1, retain).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with open_outbox(tmp_path) as outbox:
        yield outbox


@pytest.fixture
def mouth(broker: tuple[str, int]) -> Iterator[Mouth]:
    mouth = Mouth(broker)
    yield mouth
    mouth.close()


def heard_by(publisher: Publisher, level: str) -> list[bytes]:
    heard: list[bytes] = []
    publisher.listen(level, lambda payload, _came_s: heard.append(payload))
    return heard


def test_what_is_said_is_heard_on_every_connection(
    broker: tuple[str, int], mouth: Mouth, outbox: Outbox, tmp_path: Path
) -> None:
    with Proxy(broker) as proxy:
        publisher = open_publisher(outbox, tmp_path, proxy.address)
        heard = heard_by(publisher, "trigger")

        def said(payload: bytes) -> bool:
            # A subscription has no moment at which others see it: say it until it is heard.
            mouth.say("trigger", payload)
            return payload in heard

        wait_until(lambda: said(b"one"))
        proxy.cut()
        wait_until(lambda: said(b"two"))
        publisher.close()


def test_junk_changes_nothing(
    broker: tuple[str, int],
    mouth: Mouth,
    outbox: Outbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Too long, far too long, retained from the past, on another level: none reaches the handler,
    the connection stays, and the sizes are told."""
    caplog.set_level(logging.WARNING)
    mouth.say("command", b"from the past", retain=True)
    publisher = open_publisher(outbox, tmp_path, broker)
    heard = heard_by(publisher, "command")

    def arrives(payload: bytes) -> bool:
        mouth.say("command", payload)
        return payload in heard

    wait_until(lambda: arrives(b"first"))
    mouth.say("command", b"x" * (64 * 1024 + 1))
    mouth.say("command", b"x" * 1_000_000)
    mouth.say("commands", b"of another level")
    mouth.say("command/of", b"a level below")
    mouth.say("command", b"")
    mouth.say("command", b"y" * (64 * 1024))
    mouth.say("command", b"\xff\x00 no text")
    wait_until(lambda: heard[-1] == b"\xff\x00 no text")
    assert set(heard) == {b"first", b"", b"y" * (64 * 1024), b"\xff\x00 no text"}
    assert "65537 bytes; the limit is 65536" in caplog.text
    judge(outbox)
    assert publisher.drain(20)
    publisher.close()


def test_a_handler_that_raises_or_hangs_holds_up_no_other(
    broker: tuple[str, int],
    mouth: Mouth,
    outbox: Outbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher = open_publisher(outbox, tmp_path, broker)
    heard: list[bytes] = []
    release = threading.Event()

    def raise_first(payload: bytes, _came_s: float) -> None:
        heard.append(payload)
        if len(heard) == 1:
            raise RuntimeError("a bug of the handler's")

    publisher.listen("trigger", raise_first)

    def hang(_: bytes, _came_s: float) -> None:
        release.wait(30)

    publisher.listen("command", hang)
    for _ in range(3):
        mouth.say("command", b"hang")

    def goes_on() -> bool:
        mouth.say("trigger", b"go")
        return len(heard) > 1

    wait_until(goes_on)
    assert "a bug of the handler's" in caplog.text
    judge(outbox)
    assert publisher.drain(20)
    release.set()
    publisher.close()


def test_a_flood_drops_what_cannot_wait_and_stays_connected(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = open_publisher(outbox, tmp_path, mosquitto)
    mouth, release, begun = Mouth(mosquitto), threading.Event(), threading.Event()
    heard: list[bytes] = []

    def slow(payload: bytes, _came_s: float) -> None:
        begun.set()
        release.wait(30)
        heard.append(payload)

    publisher.listen("trigger", slow)

    def has_begun() -> bool:
        mouth.say("trigger", b"0")
        return begun.is_set()

    wait_until(has_begun)
    for number in range(300):
        mouth.say("trigger", b"%d" % number)
    wait_until(lambda: "dropped a message" in caplog.text)
    release.set()
    judge(outbox)
    assert publisher.drain(20)
    wait_until(lambda: len(heard) >= 257)
    publisher.close()
    mouth.close()


def test_a_message_is_as_old_as_its_coming_and_not_as_its_turn(
    broker: tuple[str, int], mouth: Mouth, outbox: Outbox, tmp_path: Path
) -> None:
    publisher = open_publisher(outbox, tmp_path, broker)
    waited: list[float] = []
    release, begun = threading.Event(), threading.Event()

    def slow(payload: bytes, came_s: float) -> None:
        begun.set()
        if payload == b"hold":
            release.wait(30)
        elif payload == b"behind":
            waited.append(time.monotonic() - came_s)

    publisher.listen("trigger", slow)

    def held() -> bool:
        mouth.say("trigger", b"hold")
        return begun.wait(0.2)

    wait_until(held)
    mouth.say("trigger", b"behind")
    time.sleep(1.0)
    release.set()
    wait_until(lambda: len(waited) == 1)
    assert waited[0] > 0.5
    publisher.close()


def test_answers_are_published_once_connected(
    broker: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    with Proxy(broker) as proxy, Ear(broker) as ear:
        proxy.cut(away=True)
        publisher = open_publisher(outbox, tmp_path, proxy.address)
        publisher.reply({"id": 1, "ok": True, "detail": "Prüfung"})
        publisher.reply({"id": 2, "ok": False})
        proxy.cut(away=False)
        wait_until(lambda: len(ear.of("reply")) == 2)
        with pytest.raises(ValueError, match="JSON"):
            publisher.reply({"id": float("nan")})
        publisher.close()
    assert [(answer["id"], answer["retained"]) for answer in ear.of("reply")] == [
        (1, False),
        (2, False),
    ]
    assert ear.of("reply")[0]["detail"] == "Prüfung"


def test_a_broker_that_refuses_the_subscription_is_named(outbox: Outbox, tmp_path: Path) -> None:
    plugins = list(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
    if not plugins:
        # Its access files refuse no subscription.
        pytest.skip("needs mosquitto's plugin for dynamic security: apt install mosquitto")
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False}
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"defaultACLAccess": access}))
    extra = [f"plugin {plugins[0]}", f"plugin_opt_config_file {rules}"]
    with running_broker("mosquitto", None, extra) as address:
        publisher = open_publisher(outbox, tmp_path, address)
        publisher.listen("trigger", lambda payload, came_s: None)
        said = "refuses to let this station read edge-qc/v1/s/n/trigger: Not authorized"
        wait_until(lambda: said in str(publisher.trouble))
        judge(outbox)
        assert publisher.drain(20)
        publisher.close()
