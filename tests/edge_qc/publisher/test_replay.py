"""Delivered messages sent once more, beside a station that runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_qc.cli.outbox import command
from edge_qc.errors import PublishError
from edge_qc.publisher import Outbox
from tests.rig.brokers import running_broker
from tests.rig.publishing import Ear, judge, open_outbox, open_publisher, wait_until

pytestmark = pytest.mark.broker


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with open_outbox(tmp_path) as outbox:
        yield outbox


def config(folder: Path, address: tuple[str, int]) -> str:
    (folder / "station.toml").write_text(
        f'[station]\nsite = "s"\nname = "n"\nstate_dir = "{folder}"\n[bundle]\npath = "b"\n'
        '[[camera]]\nname = "c"\nsource = "file:///x"\ndie = "d"\n'
        f'[mqtt]\nhost = "{address[0]}"\nport = {address[1]}\n'
    )
    return str(folder / "station.toml")


def settled(folder: Path, count: int) -> bool:
    """Whether so many are marked as delivered on disk: marks wait for company."""
    with closing(sqlite3.connect(folder / "outbox.sqlite")) as hand:
        found = hand.execute("SELECT count(*) FROM message WHERE state = 1").fetchone()
    return bool(found[0] == count)


def call(*words: str) -> str:
    words = ("replay", *words, "--yes")
    return str(CliRunner().invoke(command, words, catch_exceptions=False).output)


def test_a_range_is_sent_again_while_the_station_runs(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    """By number and by time; as it was but historical, and what waits or is damaged is left."""
    settings = config(tmp_path, mosquitto)
    publisher = open_publisher(outbox, tmp_path, mosquitto)
    ids = judge(outbox, 120)
    wait_until(lambda: settled(tmp_path, 120))
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as hand, hand:
        hand.execute("UPDATE message SET payload = payload || ' ' WHERE seq = 50")
        hand.execute("UPDATE message SET state = 0 WHERE seq = 60")
    with Ear(mosquitto) as ear:
        words = ("--config", settings, "--epoch", outbox.epoch, "--from", "41", "--to", "110")
        assert call(*words, "--dry-run") == "68 messages would be sent\n"
        assert call(*words) == "68 messages sent\n"
        wait_until(lambda: len(ear.verdicts) == 68)
        live = judge(outbox, 3)
        wait_until(lambda: len(ear.verdicts) == 71 and settled(tmp_path, 122))
        assert [v["verdict_id"] for v in ear.verdicts] == [
            *ids[40:49], *ids[50:59], *ids[60:110], *live
        ]  # fmt: skip
        assert [v["historical"] for v in ear.verdicts] == [True] * 68 + [False] * 3
    day = ("--config", settings, "--from", "2026-03-01", "--to", "2026-03-01")
    assert call(*day, "--dry-run") == "121 messages would be sent\n"
    assert call(*day, "--kind", "event", "--dry-run") == "0 messages would be sent\n"
    later = ("--config", settings, "--from", "2026-03-01T13:31:00+01:00")
    assert call(*later, "--dry-run") == "0 messages would be sent\n"
    publisher.close()


def test_a_broker_of_mqtt_3_1_1_gets_it_too(outbox: Outbox, tmp_path: Path) -> None:
    with running_broker("amqtt") as address:
        publisher = open_publisher(outbox, tmp_path, address)
        ids = judge(outbox, 3)
        wait_until(lambda: settled(tmp_path, 4))  # and the event that says so
        publisher.close()
        with Ear(address) as ear:
            words = ("--config", config(tmp_path, address), "--kind", "verdict")
            assert call(*words) == "3 messages sent\n"
            wait_until(lambda: [said["verdict_id"] for said in ear.verdicts] == ids)


def test_a_broker_that_refuses_is_told(outbox: Outbox, tmp_path: Path) -> None:
    with running_broker("mosquitto") as address:
        publisher = open_publisher(outbox, tmp_path, address)
        judge(outbox, 3)
        wait_until(lambda: settled(tmp_path, 3))
        publisher.close()
    rules = tmp_path / "rules"
    rules.write_text("topic write edge-qc/v1/s/n/event\n")
    with (
        running_broker("mosquitto", None, [f"acl_file {rules}"]) as address,
        pytest.raises(PublishError, match="Not authorized"),
    ):
        call("--config", config(tmp_path, address))
    with pytest.raises(PublishError, match="refused"):
        call("--config", config(tmp_path, address))


def test_it_says_how_many_and_asks_before_it_sends(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    publisher = open_publisher(outbox, tmp_path, mosquitto)
    ids = judge(outbox, 3)
    wait_until(lambda: settled(tmp_path, 3))
    publisher.close()
    words = ["replay", "--config", config(tmp_path, mosquitto), "--kind", "verdict"]
    with Ear(mosquitto) as ear:
        for answer in ("", "n\n"):
            refused = CliRunner().invoke(command, words, input=answer)
            assert refused.exit_code == 1
            asked = f"Send 3 messages again to {mosquitto[0]}:{mosquitto[1]}? [y/N]"
            assert asked in refused.stderr
        assert CliRunner().invoke(command, words, input="y\n").stdout == "3 messages sent\n"
        wait_until(lambda: len(ear.verdicts) >= 3)
        assert [said["verdict_id"] for said in ear.verdicts] == ids


@pytest.mark.parametrize("words", [("--from", "noon"), ("--epoch", "e", "--from", "2026-03-01")])
def test_a_range_that_is_none_is_refused(
    words: tuple[str, ...], outbox: Outbox, tmp_path: Path
) -> None:
    run: Any = CliRunner().invoke(command, ["replay", *words])
    assert run.exit_code == 2
