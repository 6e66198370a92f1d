"""From the outbox to a real broker and back: in order, at least once, whatever is cut."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from edge_qc.publisher import Kind, Outbox, Subscription
from edge_qc.publisher.messages import HealthContent
from edge_qc.settings import MqttTable
from edge_qc.system.state import STOP_REQUESTED, State
from tests.rig.brokers import HOST, free_port, running_broker
from tests.rig.certificates import Authority
from tests.rig.proxy import Proxy
from tests.rig.publishing import (
    TIME,
    Ear,
    judge,
    open_outbox,
    open_publisher,
    wait_until,
)

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with open_outbox(tmp_path) as outbox:
        yield outbox


def numbers(verdicts: list[dict[str, Any]]) -> list[int]:
    return [verdict["seq"] for verdict in verdicts]


def test_verdicts_arrive_once_in_order_and_on_time(
    broker: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    publisher = open_publisher(outbox, tmp_path, broker)
    with Ear(broker) as ear:
        wait_until(lambda: publisher.connected)
        ids = judge(outbox, 200)
        assert publisher.drain(20)
        wait_until(lambda: len(ear.verdicts) == 200)
        publisher.close()
    assert [verdict["verdict_id"] for verdict in ear.verdicts] == ids
    assert numbers(ear.verdicts) == list(range(1, 201))
    assert not any(verdict["historical"] for verdict in ear.verdicts)


def test_the_state_is_kept_by_the_broker_from_birth_to_the_end(
    broker: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    publisher = open_publisher(outbox, tmp_path, broker)
    publisher.state(State.RUNNING, "judging")
    with Ear(broker) as ear:
        wait_until(lambda: ear.state == "RUNNING")
        assert ear.of("state")[-1]["epoch"] == outbox.epoch
        publisher.state(State.STOPPING, STOP_REQUESTED)
        publisher.close()
        wait_until(lambda: ear.state == "DEAD")
        assert [state["state"] for state in ear.of("state")][-2:] == ["STOPPING", "DEAD"]
        assert "stopped by an operator" in ear.of("state")[-1]["why"]
    with Ear(broker) as later:
        wait_until(lambda: later.state == "DEAD")
        assert later.of("state")[-1]["retained"]


def test_a_station_that_fails_at_once_has_said_why(
    broker: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    with Ear(broker) as ear:
        publisher = open_publisher(outbox, tmp_path, broker)
        publisher.state(State.FAULT, "model.onnx was altered")
        publisher.close()
        wait_until(lambda: ear.state == "DEAD")
        said = [(state["state"], state["why"]) for state in ear.of("state")]
    assert ("FAULT", "model.onnx was altered") in said
    assert "FAULT model.onnx was altered" in said[-1][1]


def test_while_the_broker_is_away_the_line_goes_on(
    broker: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    """Then the backlog comes in order, marked historical, and what is new is not."""
    with Proxy(broker) as proxy, Ear(broker) as ear:
        proxy.cut(away=True)
        publisher = open_publisher(outbox, tmp_path, proxy.address, late_s=0.5)
        judge(outbox, 60)
        assert not publisher.drain(0.6)
        assert publisher.trouble is not None
        assert outbox.status().waiting == 60
        proxy.cut(away=False)
        assert publisher.drain(20)
        judge(outbox, 5)
        wait_until(lambda: len(ear.first_of_each) == 65)
        publisher.close()
    assert numbers(ear.first_of_each) == list(range(1, 66))
    assert [v["historical"] for v in ear.first_of_each] == [True] * 60 + [False] * 5


def test_a_connection_that_is_cut_again_and_again_loses_nothing(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    """Of a broker that keeps what it acknowledged: amqtt forgets what of it was not passed on yet
    when a connection ends."""
    with Proxy(mosquitto) as proxy, Ear(mosquitto) as ear:
        publisher = open_publisher(outbox, tmp_path, proxy.address)
        ids = []
        for _ in range(3):
            wait_until(lambda: publisher.connected)
            ids += judge(outbox, 80)
            proxy.cut()
            wait_until(lambda: not publisher.connected)
        assert publisher.drain(20)
        wait_until(lambda: len(ear.first_of_each) == 240)
        publisher.close()
    assert proxy.connections >= 4
    assert [verdict["verdict_id"] for verdict in ear.first_of_each] == ids
    assert numbers(ear.first_of_each) == list(range(1, 241))


def test_acknowledgements_that_never_come_are_noticed(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has the messages, the station cannot know: it sends them again, unchanged."""
    monkeypatch.setattr("edge_qc.publisher.connection.session.ACK_S", 0.5)
    with Proxy(mosquitto) as proxy, Ear(mosquitto) as ear:
        publisher = open_publisher(outbox, tmp_path, proxy.address, late_s=60)
        judge(outbox, 1)
        assert publisher.drain(20)
        proxy.deaf = True
        judge(outbox, 10)
        wait_until(lambda: len(ear.verdicts) == 11)
        assert outbox.status().waiting == 10
        wait_until(lambda: not publisher.connected)
        proxy.deaf = False
        proxy.cut()
        assert publisher.drain(20)
        wait_until(lambda: len(ear.verdicts) == 21)
        publisher.close()
    first, again = ear.verdicts[1:11], ear.verdicts[11:]
    assert first == again


def test_kill_nine_loses_nothing(mosquitto: tuple[str, int], tmp_path: Path) -> None:
    """SIGKILL, three times: every trigger that was durable has exactly one verdict, repeated at
    most as it was; those that were open are not judged; numbers have no gap in any epoch."""
    accepted: list[str] = []
    host, port = mosquitto
    with Ear(mosquitto) as ear:
        for _ in range(3):
            station = start_station(tmp_path, host, port)
            assert station.stdout is not None
            accepted += [station.stdout.readline().strip() for _ in range(60)]
            station.send_signal(signal.SIGKILL)
            output, _ = station.communicate()
            accepted += [line for line in output.splitlines() if len(line) == 36]
        wait_until(lambda: ear.state == "DEAD")
        with open_outbox(tmp_path) as outbox:
            publisher = open_publisher(outbox, tmp_path, mosquitto)
            assert publisher.drain(20)
            wait_until(lambda: {v["verdict_id"] for v in ear.verdicts} >= set(accepted))
            publisher.close()
    said: dict[str, dict[str, Any]] = {}
    for verdict in ear.verdicts:
        known = said.setdefault(verdict["verdict_id"], verdict)
        assert {**known, "historical": None} == {**verdict, "historical": None}
    # One that was durable when the kill kept its id from being told may come on top.
    assert 0 <= len(said) - len(accepted) <= 3
    assert set(accepted) <= set(said)
    for verdict in said.values():
        assert (verdict["label"], verdict["reason"]) in [
            ("GOOD", "decided"),
            ("NOT_JUDGED", "restart"),
        ]
        assert verdict["label"] == "GOOD" or verdict["historical"]
    assert sum(verdict["label"] == "NOT_JUDGED" for verdict in said.values()) >= 180 // 7 - 3
    for epoch in {verdict["epoch"] for verdict in said.values()}:
        mine = sorted(v["seq"] for v in said.values() if v["epoch"] == epoch)
        assert mine == list(range(1, len(mine) + 1))


def start_station(folder: Path, host: str, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.rig.publishing_station", folder, host, str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_wrong_account_keeps_everything_and_says_so(outbox: Outbox, tmp_path: Path) -> None:
    port = free_port()
    with running_broker("mosquitto", port, ["allow_anonymous false"]) as address:
        publisher = open_publisher(outbox, tmp_path, address, username="line-1")
        judge(outbox, 3)
        wait_until(lambda: "Not authorized" in str(publisher.trouble))
        assert not publisher.connected
    assert outbox.status().waiting == 3
    with running_broker("mosquitto", port) as address:
        assert publisher.drain(20)
    publisher.close()


def test_a_topic_that_is_not_allowed_waits_and_the_others_go_on(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker drops verdicts by its access rules: they are kept, the state says DEGRADED, events
    pass; when the rules allow them they come, in order."""
    monkeypatch.setattr("edge_qc.publisher.connection.session.REST_S", 0.5)
    rules = tmp_path / "rules"
    rules.write_text(
        "topic write edge-qc/v1/s/n/state\ntopic write edge-qc/v1/s/n/event\ntopic read #\n"
    )
    port = free_port()
    with running_broker("mosquitto", port, [f"acl_file {rules}"]) as address, Ear(address) as ear:
        publisher = open_publisher(outbox, tmp_path, address)
        publisher.state(State.RUNNING, "judging")
        judge(outbox, 30)
        outbox.event("camera-lost")
        wait_until(lambda: ear.state == "DEGRADED")
        assert "refuses edge-qc/v1/s/n/verdict: Not authorized" in ear.of("state")[-1]["why"]
        wait_until(lambda: ear.of("event"))
        assert not ear.verdicts
        wait_until(lambda: outbox.status().waiting == 30)
    with running_broker("mosquitto", port) as address, Ear(address) as ear:
        assert publisher.drain(20)
        wait_until(lambda: len(ear.verdicts) == 30 and ear.state == "RUNNING")
        assert numbers(ear.verdicts) == list(range(1, 31))
        assert publisher.trouble is None
        publisher.close()


def test_what_rested_comes_on_the_same_connection(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker's rules change while the station stays connected."""
    monkeypatch.setattr("edge_qc.publisher.connection.session.REST_S", 0.5)
    rules = tmp_path / "rules"
    rules.write_text("topic write edge-qc/v1/s/n/state\ntopic read #\n")
    # With max_queued_messages 0, mosquitto 2.0.11 ends the connection on which it refuses.
    extra = [f"acl_file {rules}", "max_queued_messages 1000"]
    with running_broker("mosquitto", None, extra) as address, Ear(address) as ear:
        publisher = open_publisher(outbox, tmp_path, address)
        judge(outbox, 30)
        wait_until(lambda: "Not authorized" in str(publisher.trouble))
        judge(outbox, 5)
        rules.write_text("topic readwrite #\n")
        (mosquitto,) = (
            int(child)
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            if "mosquitto" in Path(f"/proc/{child}/comm").read_text()
        )
        os.kill(mosquitto, signal.SIGHUP)
        assert publisher.drain(20)
        wait_until(lambda: len(ear.verdicts) == 35)
        assert numbers(ear.verdicts) == list(range(1, 36))
        assert [state["state"] for state in ear.of("state")] == ["STARTING"]
        publisher.close()


def test_an_error_in_the_sender_does_not_end_it(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, failures = outbox.waiting, [RuntimeError("a bug"), TypeError("another")]

    def fail(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return waiting(*arguments)

    monkeypatch.setattr(outbox, "waiting", fail)
    publisher = open_publisher(outbox, tmp_path, mosquitto)
    judge(outbox, 3)
    assert publisher.drain(20)
    assert not failures
    publisher.close()


def test_another_client_of_the_same_name_costs_nothing(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    publisher = open_publisher(outbox, tmp_path, mosquitto)
    wait_until(lambda: publisher.connected)
    rival = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="edge-qc.s.n", protocol=5)
    rival.connect(*mosquitto)
    rival.loop_start()
    wait_until(lambda: not publisher.connected)
    rival.disconnect()
    rival.loop_stop()
    judge(outbox)
    assert publisher.drain(20)
    publisher.close()


def test_health_is_kept_and_the_last_one_counts(
    broker: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    publisher = open_publisher(outbox, tmp_path, broker)
    wait_until(lambda: publisher.connected)
    for verdicts in (1, 2):
        health = {"time": TIME, "state": "RUNNING", "uptime_s": 1.0, "rate_per_s": 2.0}
        publisher.health(HealthContent.model_validate({**health, "verdicts": {"GOOD": verdicts}}))
        time.sleep(0.1)
    with Ear(broker) as ear:
        wait_until(lambda: ear.of("health"))
        assert ear.of("health")[-1]["verdicts"] == {"GOOD": 2}
    publisher.close()


def test_a_broker_of_the_version_before_is_served_and_told_of(
    outbox: Outbox, tmp_path: Path
) -> None:
    with running_broker("amqtt") as address, Ear(address) as ear:
        publisher = open_publisher(outbox, tmp_path, address)
        wait_until(lambda: ear.of("event"))
        assert ear.of("event")[0]["event"] == "mqtt-3.1.1"
        assert ear.of("event")[0]["severity"] == "warning"
        publisher.close()


@pytest.mark.parametrize("address", [("127.0.0.1", 0), ("edge-qc.invalid", 1883)])
def test_no_broker_never_raises_and_closing_is_quick(
    outbox: Outbox, tmp_path: Path, address: tuple[str, int]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host, port = address[0], address[1] or nobody.getsockname()[1]
        publisher = open_publisher(outbox, tmp_path, (host, port))
        judge(outbox, 2)
        wait_until(lambda: f"{host}:{port}: [Errno" in str(publisher.trouble))
        assert not publisher.connected
        publisher.close()
    assert outbox.status().waiting == 2


def test_a_certificate_that_is_not_there_is_named(
    outbox: Outbox, tmp_path: Path, mosquitto: tuple[str, int]
) -> None:
    publisher = open_publisher(outbox, tmp_path, mosquitto, ca_file=tmp_path / "ca.pem")
    wait_until(lambda: "No such file" in str(publisher.trouble))
    publisher.close()


def test_tls_with_a_certificate_on_both_sides(outbox: Outbox, tmp_path: Path) -> None:
    """The station proves itself by its certificate, and talks to no broker that its authority does
    not vouch for."""
    authority = Authority(tmp_path)
    server, server_key = authority.certify("broker", HOST)
    mine, my_key = authority.certify("line-1")
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    extra = [
        f"cafile {authority.ca}",
        f"certfile {server}",
        f"keyfile {server_key}",
        "require_certificate true",
    ]
    keys = {"cert_file": mine, "key_file": my_key}
    with running_broker("mosquitto", None, extra) as address:
        wary = open_publisher(outbox, tmp_path, address, ca_file=stranger.ca, **keys)
        judge(outbox, 3)
        wait_until(lambda: "certificate verify failed" in str(wary.trouble))
        wary.close()
        assert outbox.status().waiting == 3
        publisher = open_publisher(outbox, tmp_path, address, ca_file=authority.ca, **keys)
        assert publisher.drain(20)
        publisher.close()


@pytest.mark.broker
def test_what_waited_for_a_session_comes_before_what_is_retained(
    mosquitto: tuple[str, int],
) -> None:
    """A recorder that was away takes no old state for news."""
    table = MqttTable(host=mosquitto[0], port=mosquitto[1])
    topic = f"edge-qc/v1/s/n/{Kind.STATE.value}"
    Subscription(table, [topic], session="recorder", session_s=60).close()
    sender = paho.Client(paho.CallbackAPIVersion.VERSION2)
    sender.connect(*mosquitto)
    sender.loop_start()
    for text in (b"DEGRADED", b"RUNNING"):
        sender.publish(topic, text, 1, retain=True).wait_for_publish(5)
    sender.disconnect()
    sender.loop_stop()
    subscription = Subscription(table, [topic], session="recorder", session_s=60)
    # So that all has come before any is read.
    time.sleep(0.5)
    came = [subscription.read(5), subscription.read(5)]
    subscription.close()
    assert [one and one.payload for one in came] == [b"DEGRADED", b"RUNNING"]
    assert not any(one and one.retained for one in came)


@pytest.mark.broker
def test_two_that_share_a_session_say_so_and_do_not_fight(mosquitto: tuple[str, int]) -> None:
    """Two recorders under one name took the connection from each other three times a second."""
    table = MqttTable(host=mosquitto[0], port=mosquitto[1])
    first = Subscription(table, ["edge-qc/#"], session="recorder", session_s=60)
    second = Subscription(table, ["edge-qc/#"], session="recorder", session_s=60)
    both, lost = (first, second), 0
    while not any("--session" in str(one.trouble) for one in both):
        for one in both:
            connected = one.trouble is None
            one.read(0.1)
            lost += connected and one.trouble is not None
        assert lost < 20
    (yielding,) = (one for one in both if "--session" in str(one.trouble))
    (other,) = (one for one in both if one is not yielding)
    wait_until(lambda: other.read(0.05) is None and other.trouble is None)
    assert yielding.read(1.0) is None
    assert other.read(1.0) is None
    assert other.trouble is None, "it is left in peace"
    first.close()
    second.close()


def test_a_subscription_outlives_its_connection(broker: tuple[str, int]) -> None:
    with Proxy(broker) as proxy:
        subscription = Subscription(
            MqttTable(host=proxy.address[0], port=proxy.address[1]), ["edge-qc/#"]
        )
        proxy.cut()
        wait_until(lambda: subscription.read(0.05) is None and subscription.trouble is not None)
        wait_until(lambda: subscription.read(0.05) is None and subscription.trouble is None)
        sender = paho.Client(paho.CallbackAPIVersion.VERSION2)
        sender.connect(*broker)
        sender.loop_start()
        sender.publish(f"edge-qc/v1/s/n/{Kind.EVENT.value}", b"hello", 1).wait_for_publish(5)
        received = subscription.read(10)
        sender.disconnect()
        sender.loop_stop()
        subscription.close()
    assert received is not None
    assert received.payload == b"hello"
