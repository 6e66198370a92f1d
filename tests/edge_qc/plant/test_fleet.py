"""What runs where, from what a broker has kept."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import click
import paho.mqtt.client as paho
import pytest
from click.testing import CliRunner, Result
from paho.mqtt.enums import CallbackAPIVersion

from edge_qc.cli.fleet import command
from edge_qc.cli.tally import Tally
from edge_qc.errors import UsageError
from edge_qc.plant.fleet import Rates, roster
from edge_qc.system.state import State

NOW = "2026-01-01T00:00:00Z"


def state(station: str, word: str, version: int | None = 1, why: str = "judging") -> bytes:
    site, name = station.split("/")
    document = {
        "schema": "edge-qc/state/1",
        "epoch": "e",
        "site": site,
        "station": name,
        "state": word,
        "time": NOW,
        "why": why,
        "bundle": None if version is None else {"id": "abc" * 10, "version": version},
    }
    return json.dumps(document).encode()


def verdict(label: str, disposition: str, seq: int, *, historical: bool = False) -> bytes:
    document = {
        "schema": "edge-qc/verdict/1",
        "epoch": "e",
        "seq": seq,
        "site": "plant",
        "station": "line",
        "historical": historical,
        "verdict_id": str(seq),
        "camera": "c",
        "die": "Die01",
        "part_id": None,
        "trigger_id": str(seq),
        "time": NOW,
        "label": label,
        "disposition": disposition,
        "reason": "frame" if label == "NOT_JUDGED" else "decided",
    }
    return json.dumps(document).encode()


def topic(station: str, level: str) -> str:
    return f"edge-qc/v1/{station}/{level}"


def test_a_row_for_each_station_and_a_message_that_cannot_be_read_hides_none() -> None:
    rows = roster(
        {
            topic("b/two", "state"): state("b/two", "DEAD", None, "connection lost"),
            topic("a/one", "state"): state("a/one", "RUNNING", 7),
            topic("c/three", "state"): b"not json",
        }
    )
    assert [row.name for row in rows] == ["a/one", "b/two", "c/three"]
    one, two, three = rows
    assert (one.state, one.bundle_version, one.judges) == (State.RUNNING, 7, True)
    assert (two.judges, two.bundle_version, two.why) == (False, None, "connection lost")
    assert three.state is None
    assert three.fault is not None


def test_the_share_is_of_what_was_judged() -> None:
    assert Rates(10, 5, {"PASS": 4, "REJECT": 1}).rejected == pytest.approx(0.2)
    assert Rates(3, 3, {}).rejected is None


@pytest.fixture
def speaker(mosquitto: tuple[str, int]) -> Iterator[paho.Client]:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect(*mosquitto)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def asked(mosquitto: tuple[str, int], *arguments: str) -> Result:
    what, *rest = arguments
    broker = f"{mosquitto[0]}:{mosquitto[1]}"
    return CliRunner().invoke(
        command, [what, "--broker", broker, *rest], standalone_mode=False, catch_exceptions=False
    )


@pytest.mark.broker
def test_status_says_where_another_bundle_runs(
    mosquitto: tuple[str, int], speaker: paho.Client
) -> None:
    """As a gate: exit status 1 while one station is not on the wanted version, or not running."""
    said = {"a/one": ("RUNNING", 2), "a/two": ("RUNNING", 2), "b/dead": ("DEAD", 2)}
    for station, (word, version) in said.items():
        payload = state(station, word, version)
        speaker.publish(topic(station, "state"), payload, 1, retain=True).wait_for_publish(5)
    everything = asked(mosquitto, "status", "--for", "0.7", "--json")
    assert everything.return_value == 0
    stations = json.loads(everything.stdout)["stations"]
    assert [row["station"] for row in stations] == ["one", "two", "dead"]
    site_a = asked(mosquitto, "status", "--for", "0.7", "--site", "a", "--bundle-version", "2")
    assert site_a.return_value == 0
    gate = asked(mosquitto, "status", "--for", "0.7", "--bundle-version", "2")
    assert gate.return_value == 1
    assert "✗ DEAD" in gate.stdout
    drawn = asked(mosquitto, "status", "--for", "0.7", "--bundle-version", "3")
    assert drawn.return_value == 1
    assert drawn.stdout.count("✗") == 3


@pytest.mark.broker
def test_a_pipe_gets_each_station_whole_on_one_line(
    mosquitto: tuple[str, int], speaker: paho.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name, why = f"plant-{'a' * 40}/line-{'b' * 40}", "the camera sends no pictures " * 4
    payload = state(name, "FAULT", why=why.strip())
    speaker.publish(topic(name, "state"), payload, 1, retain=True).wait_for_publish(5)
    drawn = asked(mosquitto, "status", "--for", "0.7").stdout
    (line,) = [line for line in drawn.splitlines() if name in line]
    assert "2026-01-01 00:00:00Z" in line
    assert why.strip() in line


@pytest.mark.broker
def test_nobody_there_is_said(mosquitto: tuple[str, int]) -> None:
    done = asked(mosquitto, "status", "--for", "0.3")
    assert done.return_value == 1
    assert "no message of any station" in done.stderr


@pytest.mark.broker
def test_rate_is_a_gate_on_what_is_seen_now(
    mosquitto: tuple[str, int], speaker: paho.Client
) -> None:
    """A backlog and what was not judged do not count; too little seen is no permission."""
    import threading

    stop = threading.Event()

    def say() -> None:
        seq = 0
        while not stop.is_set():
            for label, disposition, late in (
                ("GOOD", "PASS", False),
                ("GOOD", "PASS", False),
                ("GOOD", "PASS", False),
                ("flat", "REJECT", False),
                ("NOT_JUDGED", "REJECT", False),
                ("flat", "REJECT", True),
            ):
                seq += 1
                message = verdict(label, disposition, seq, historical=late)
                speaker.publish(topic("plant/line", "verdict"), message, 1)
            time.sleep(0.02)

    thread = threading.Thread(target=say)
    thread.start()
    try:
        arguments = ("rate", "plant/line", "--count", "50", "--for", "20", "--json")
        well = asked(mosquitto, *arguments, "--at-most", "0.3")
        assert well.return_value == 0
        assert json.loads(well.stdout)["rejected"] == pytest.approx(0.25, abs=0.03)
        assert asked(mosquitto, *arguments, "--at-most", "0.2").return_value == 1
    finally:
        stop.set()
        thread.join()
    quiet = asked(mosquitto, "rate", "plant/line", "--count", "5", "--for", "0.5", "--at-most", "1")
    assert quiet.return_value == 1
    assert "0 of 5 verdicts" in quiet.stderr


@pytest.mark.broker
def test_a_station_that_is_gone_is_forgotten_and_one_that_lives_is_not(
    mosquitto: tuple[str, int], speaker: paho.Client
) -> None:
    """A renamed station's old name vanishes from status; the recorder and watch take no harm."""
    for station, word in (("a/old", "DEAD"), ("a/new", "RUNNING"), ("a/lost", "RUNNING")):
        payload = state(station, word)
        speaker.publish(topic(station, "state"), payload, 1, retain=True).wait_for_publish(5)

    def names() -> list[str]:
        rows = json.loads(asked(mosquitto, "status", "--for", "0.7", "--json").stdout)["stations"]
        return [row["station"] for row in rows]

    assert names() == ["lost", "new", "old"]
    done = asked(mosquitto, "forget", "a/old", "--yes", "--for", "0.7")
    assert "a/old (last state: DEAD): forgotten" in done.stdout
    assert names() == ["lost", "new"]
    beating = threading.Event()

    def beat() -> None:
        while not beating.wait(0.1):
            speaker.publish(topic("a/new", "state"), state("a/new", "RUNNING"), 1, retain=True)

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        with pytest.raises(UsageError, match=r"a/new is alive: RUNNING\. Stop it first"):
            asked(mosquitto, "forget", "a/new", "--yes", "--for", "3")
    finally:
        beating.set()
        heart.join()
    assert asked(mosquitto, "forget", "a/lost", "--yes", "--for", "0.7").exit_code == 0
    assert names() == ["new"]
    for wrong in ("a/none", "a", "a/+", "/"):
        with pytest.raises(UsageError):
            asked(mosquitto, "forget", wrong, "--yes", "--for", "0.5")


@pytest.mark.broker
def test_forgetting_asks_first(mosquitto: tuple[str, int], speaker: paho.Client) -> None:
    speaker.publish(topic("a/old", "state"), state("a/old", "DEAD"), 1, retain=True)
    with pytest.raises(click.Abort):
        asked(mosquitto, "forget", "a/old", "--for", "0.5")
    assert "a/old" in json.dumps(asked(mosquitto, "status", "--for", "0.7").stdout)


def test_what_was_forgotten_is_not_counted_as_unreadable() -> None:
    tally = Tally()
    tally.add(topic("a/old", "state"), state("a/old", "DEAD"), 0)
    assert tally.add(topic("a/old", "health"), b"", 1) is None
    assert tally.add(topic("a/old", "state"), b"", 1) is None
    assert tally.stations == {}
    assert tally.unreadable == 0
    assert roster({topic("a/old", "state"): b""}) == ()
