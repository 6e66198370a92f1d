"""A loopback proxy between a station and its broker, to be cut and to be made to swallow."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time

_PUBACK = 4


class Proxy:
    """Forwards to an address. ``away`` refuses new connections, ``deaf`` swallows what the broker
    answers, ``mute`` what either side says while the connection stays open, ``full`` leaves unread
    what the station sends; ``swallow`` is the share of PUBACKs that vanish, ``delay_s`` what each
    piece waits. ``cut`` ends what is open, ``reset`` by RST, losing what is on its way."""

    def __init__(self, target: tuple[str, int], *, mqtt: bool = True) -> None:
        """mqtt: it passes MQTT on, whose packets it can tell apart; else any bytes."""
        self.deaf = self.mute = self.full = False
        self.swallow = self.delay_s = 0.0
        self.connections = 0
        self._away = False
        self._target, self._mqtt = target, mqtt
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listening = True
        self.address = ("127.0.0.1", self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, away: bool = False) -> None:
        self._away = away
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()

    def heal(self) -> None:
        """Forward everything again. A connection that lost a part of its bytes is ended."""
        lossy = self.mute or self.deaf
        self.deaf = self.mute = self.full = self._away = False
        self.swallow = self.delay_s = 0.0
        if lossy:
            self.cut()

    def close(self) -> None:
        self._listening = False
        self._listener.close()
        self.cut()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _accept(self) -> None:
        while self._listening:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._away:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self.connections += 1
            self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(source, sink, source is server), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        packets = _Packets()
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                while self.full and not answers:
                    time.sleep(0.01)
                if self.delay_s:
                    time.sleep(self.delay_s)
                if answers and self._mqtt:
                    data = packets.without_acknowledgements(data, self.swallow)
                if not (self.mute or (answers and self.deaf)):
                    sink.sendall(data)
        for connection in (source, sink):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            self._open.discard(connection)
            # The other direction's thread may still be in recv: shutdown wakes it, it closes too.
            connection.close()


class _Packets:
    """MQTT packets out of a stream of bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def without_acknowledgements(self, data: bytes, share: float) -> bytes:
        """The whole packets so far, that share of their PUBACKs left out."""
        stream, kept, start = self._rest + data, [], 0
        while (end := _packet_end(stream, start)) is not None:
            if stream[start] >> 4 != _PUBACK or random.random() >= share:
                kept.append(stream[start:end])
            start = end
        self._rest = stream[start:]
        return b"".join(kept)


def _packet_end(stream: bytes, start: int) -> int | None:
    """Where the packet at ``start`` ends; None where it is not all there."""
    length = 0
    for index, byte in enumerate(stream[start + 1 : start + 5]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            end = start + 2 + index + length
            return end if end <= len(stream) else None
    return None
