"""Every reason code of MQTT 5: nothing is lost, and a person is told what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge_qc.publisher import Outbox
from edge_qc.publisher.connection.reasons import ADVICE, SUCCESSES, words
from tests.rig.fake_broker import FakeBroker
from tests.rig.publishing import judge, open_outbox, open_publisher, wait_until

ANSWERS = (PacketTypes.CONNACK, PacketTypes.PUBACK, PacketTypes.SUBACK, PacketTypes.DISCONNECT)
REASONS = {
    packet: [
        code
        for code, names in ReasonCode(PacketTypes.CONNACK).names.items()
        if any(packet in packets for packets in names.values())
    ]
    for packet in ANSWERS
}


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with open_outbox(tmp_path) as outbox:
        yield outbox


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_qc.publisher.connection.session.REST_S", 0.2)
    monkeypatch.setattr("edge_qc.publisher.connection.mqtt._LAST_BACKOFF_S", 0.2)


def failures(packet: int) -> list[int]:
    return sorted(code for code in REASONS[packet] if code >= 0x80)


@pytest.mark.parametrize("packet", ANSWERS)
def test_every_code_has_its_advice(packet: int) -> None:
    assert failures(packet)
    for code in REASONS[packet]:
        if code < 0x80:
            assert code in SUCCESSES
        else:
            assert ADVICE[code] in words(ReasonCode(packet, identifier=code))


@pytest.mark.parametrize("code", failures(PacketTypes.PUBACK))
def test_a_message_that_is_refused_stays_and_keeps_its_place(
    code: int, outbox: Outbox, tmp_path: Path
) -> None:
    with FakeBroker(pubacks=(0, code, 0x10)) as broker:
        publisher = open_publisher(outbox, tmp_path, broker.address)
        wait_until(lambda: publisher.connected)
        ids = judge(outbox, 1)
        wait_until(lambda: len(broker.taken) == 1)
        ids += judge(outbox, 1)
        wait_until(lambda: f"reason code {code}" in str(publisher.trouble))
        ids += judge(outbox, 3)
        assert publisher.drain(10)
        assert [json.loads(payload)["verdict_id"] for payload in broker.taken] == ids
        wait_until(lambda: publisher.unheard == 1)
        wait_until(lambda: publisher.trouble is None)
        publisher.close()


@pytest.mark.parametrize("code", [code for code in failures(PacketTypes.CONNACK) if code != 0x84])
def test_a_connection_that_is_refused_is_tried_again(
    code: int, outbox: Outbox, tmp_path: Path
) -> None:
    with FakeBroker(connack=code) as broker:
        publisher = open_publisher(outbox, tmp_path, broker.address)
        judge(outbox)
        wait_until(lambda: ADVICE[code] in str(publisher.trouble))
        broker.connack = 0
        assert publisher.drain(10)
        publisher.close()


@pytest.mark.parametrize("code", failures(PacketTypes.DISCONNECT))
def test_a_connection_that_is_ended_is_made_again(
    code: int, outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeBroker(bye=code) as broker:
        publisher = open_publisher(outbox, tmp_path, broker.address)
        judge(outbox)
        assert publisher.drain(10)
        assert broker.connects == 2
        # paho says "unspecified" of a connection that just ended, too.
        assert code == 0x80 or f"reason code {code}" in caplog.text
        publisher.close()


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        (b"\x24\x00", "only accepts QoS 0"),
        (b"\x25\x00", "does not store retained messages"),
        (b"\x27\x00\x00\x02\x58", "accepts at most 600"),
    ],
)
def test_a_broker_that_can_too_little_is_told(
    properties: bytes, told: str, outbox: Outbox, tmp_path: Path
) -> None:
    """QoS 0, no retained messages, packets shorter than a verdict: the station keeps what it has,
    and does not run into the broker's hanging up again and again."""
    with FakeBroker(properties=properties) as broker:
        publisher = open_publisher(outbox, tmp_path, broker.address)
        judge(outbox)
        wait_until(lambda: told in str(publisher.trouble))
        assert outbox.status().waiting == 1
        assert not broker.taken
        publisher.close()
