"""As much of an MQTT 5 broker as it takes to refuse: what it answers is the test's choice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class FakeBroker:
    """connack: reason code and properties of every answer to CONNECT. pubacks: reason codes of the
    PUBACKs to messages of the outbox, one after another, then success. bye: a DISCONNECT's reason
    code, sent once behind the first CONNACK. taken: the payloads that it acknowledged.
    states: those of …/state."""

    def __init__(
        self,
        connack: int = 0,
        properties: bytes = b"",
        pubacks: tuple[int, ...] = (),
        bye: int | None = None,
    ) -> None:
        self.taken: list[bytes] = []
        self.states: list[bytes] = []
        self.connects = 0
        self.connack = connack
        self._properties, self._pubacks, self._bye = properties, list(pubacks), bye
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = ("127.0.0.1", int(self._listener.getsockname()[1]))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, StopIteration), connection:
            for kind, flags, body in _packets(connection):
                if kind == 1:
                    self.connects += 1
                    properties = bytes([len(self._properties)]) + self._properties
                    answer = bytes([0, self.connack]) + properties
                    connection.sendall(bytes([0x20, len(answer)]) + answer)
                    if self.connack:
                        return
                    if self._bye is not None:
                        connection.sendall(bytes([0xE0, 2, self._bye, 0]))
                        self._bye = None
                        return
                elif kind == 3:
                    self._answer(connection, flags, body)
                elif kind == 12:
                    connection.sendall(b"\xd0\x00")
                elif kind == 14:
                    return

    def _answer(self, connection: socket.socket, flags: int, body: bytes) -> None:
        length = int.from_bytes(body[:2], "big")
        topic, mid = body[2 : 2 + length], body[2 + length : 4 + length]
        reason = 0
        if topic.endswith(b"/verdict"):
            reason = self._pubacks.pop(0) if self._pubacks else 0
            if reason < 0x80:
                self.taken.append(body[4 + length + 1 + body[4 + length] :])
        if topic.endswith(b"/state"):
            self.states.append(body[4 + length + 1 + body[4 + length] :])
        if flags & 0x06:
            connection.sendall(b"\x40\x04" + mid + bytes([reason, 0]))


def _packets(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    stream = connection.makefile("rb")
    while head := stream.read(1):
        length, shift = 0, 0
        while True:
            (more,) = stream.read(1)
            length |= (more & 0x7F) << shift
            shift += 7
            if not more & 0x80:
                break
        yield head[0] >> 4, head[0] & 0x0F, stream.read(length)
