"""The socket between commands and the running station."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_qc.errors import EdgeQCError, SettingsError
from edge_qc.system.control import Control, Conversation, connect
from tests.rig.cameras import wait_until


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Longer than a socket's address may be."""
    return tmp_path / ("deep" * 20) / ("deeper" * 20)


@pytest.fixture
def control(state_dir: Path) -> Iterator[Control]:
    control = Control(state_dir)
    yield control
    control.close()


def said(state_dir: Path, **request: Any) -> list[dict[str, Any]]:
    client = connect(state_dir, **request)
    assert client is not None
    with client:
        return list(client.answers())


def test_a_conversation(control: Control, state_dir: Path) -> None:
    """A request, answers on the way, a word back, a last answer."""

    def add(talk: Conversation) -> dict[str, Any]:
        talk.tell(ask="second")
        second = talk.listen(20)
        assert second is not None
        return {"sum": talk.request["first"] + second["second"]}

    control.on("add", add)
    client = connect(state_dir, command="add", first=2)
    assert client is not None
    with client:
        answers = []
        for answer in client.answers():
            answers.append(answer)
            if "ask" in answer:
                client.send(second=3)
    assert answers == [{"ask": "second"}, {"sum": 5, "final": True}]


def test_errors_keep_their_exit_status(control: Control, state_dir: Path) -> None:
    """Also what nobody foresaw is one line at the command, and a traceback in the journal."""

    def refuse(talk: Conversation) -> dict[str, Any]:
        raise SettingsError("mend it")

    control.on("refuse", refuse)
    control.on("fail", lambda talk: {"never": 1 // 0})
    with pytest.raises(EdgeQCError, match=r"^mend it$") as caught:
        said(state_dir, command="refuse")
    assert caught.value.exit_status == 78
    with pytest.raises(EdgeQCError, match="fail failed at the station: ZeroDivisionError"):
        said(state_dir, command="fail")
    with pytest.raises(EdgeQCError, match="cannot take 'good'"):
        said(state_dir, command="good")


def test_what_is_no_request_hurts_nothing(control: Control, state_dir: Path) -> None:
    control.on("ping", lambda talk: {"pong": True})
    folder = os.open(state_dir / "run", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for rubbish in (
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b'{"client": "../../control"}',
            b'{"client": "client-1", "command": "ping"}',
            b"[" * 20_000,
        ):
            sender.sendto(rubbish, f"/proc/self/fd/{folder}/control")
    os.close(folder)
    assert said(state_dir, command="ping") == [{"pong": True, "final": True}]


def test_a_person_may_think_for_longer_than_the_stations_words_have_room(
    control: Control, state_dir: Path
) -> None:
    """Its signs of life would fill a socket that nobody reads, and the command would count as
    one that died."""

    told = threading.Event()

    def ask(talk: Conversation) -> dict[str, Any]:
        talk.tell(ask=True)
        for _ in range(1000):
            if not talk.gone:
                talk.tell(alive=True)
        told.set()
        heard = talk.listen(20)
        return {"heard": heard is not None, "gone": talk.gone}

    control.on("ask", ask)
    client = connect(state_dir, command="ask")
    assert client is not None
    with client:
        answers = client.answers()
        assert next(answers) == {"ask": True}
        assert told.wait(20)
        client.send(answer=True)
        assert list(answers) == [{"heard": True, "gone": False, "final": True}]


def test_one_that_left_is_noticed(control: Control, state_dir: Path) -> None:
    """A command that was killed leaves a socket behind that nobody reads."""
    gone: list[bool] = []

    def wait(talk: Conversation) -> dict[str, Any]:
        assert talk.listen(30) is None
        gone.append(talk.gone)
        return {}

    control.on("wait", wait)
    client = connect(state_dir, command="wait")
    assert client is not None
    client._socket.close()
    wait_until(lambda: gone == [True])


def test_open_to_the_stations_user_alone(control: Control, state_dir: Path) -> None:
    assert stat.S_IMODE((state_dir / "run").stat().st_mode) == 0o700


def test_left_overs_are_removed_and_a_station_that_died_is_none(state_dir: Path) -> None:
    first = Control(state_dir)
    client = connect(state_dir, command="x")
    assert client is not None
    client._socket.close()
    first.close()
    (state_dir / "run" / "control").touch()
    assert connect(state_dir, command="x") is None
    second = Control(state_dir)
    assert [entry.name for entry in (state_dir / "run").iterdir()] == ["control"]
    second.close()
    assert connect(state_dir, command="x") is None


def test_where_nothing_ever_ran(tmp_path: Path) -> None:
    assert connect(tmp_path, command="x") is None
