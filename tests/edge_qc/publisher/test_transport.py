"""What a station's connection to its broker needs of the machine."""

from __future__ import annotations

import socket

import pytest

from edge_qc.publisher.connection.transport import Connected, Note, cut, open_client
from edge_qc.settings import MqttTable


@pytest.mark.broker
def test_a_connection_listens_nowhere(
    any_broker: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing works where listen(2) is denied, as in the unit."""
    import queue

    def denied(*_arguments: object) -> None:
        raise PermissionError("listen is not to be had")

    monkeypatch.setattr(socket.socket, "listen", denied)
    notes: queue.Queue[Note] = queue.Queue()
    client = open_client(MqttTable(host=any_broker[0], port=any_broker[1]), "quiet", notes.put)
    client.connect(*any_broker)
    client.loop_start()
    try:
        assert isinstance(notes.get(timeout=10), Connected)
    finally:
        cut(client)


@pytest.mark.broker
def test_a_small_message_does_not_wait_for_the_one_before(any_broker: tuple[str, int]) -> None:
    """Nagle's algorithm is off: with delayed acknowledgements it costs 40 ms a verdict."""
    client = open_client(
        MqttTable(host=any_broker[0], port=any_broker[1]), "prompt", lambda note: None
    )
    client.connect(*any_broker)
    try:
        connection = client.socket()
        assert isinstance(connection, socket.socket)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        client.disconnect()
