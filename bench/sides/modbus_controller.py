"""A controller in a process of its own: notes when each result's coils came, until its input ends.

Answers as lean as Python can, so that what is measured is the station's side and the network: a
controller's own time to answer is its maker's figure. The tests speak to a whole Modbus server.
Prints its port, then, at the end, the moments (``time.monotonic``) as JSON.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time

READ_COILS, READ_REGISTERS, WRITE_COIL, WRITE_COILS, WRITE_REGISTERS = 1, 3, 5, 15, 16


def answer(request: bytes, moments: list[float]) -> bytes:
    """The answer to one request; a write of two coils is a result."""
    head, function = request[:4], request[7]
    if function in (WRITE_COIL, WRITE_COILS, WRITE_REGISTERS):
        if function == WRITE_COILS and request[10:12] == b"\0\x02":
            moments.append(time.monotonic())
        return head + struct.pack(">H", 6) + request[6:12]
    count = struct.unpack(">H", request[10:12])[0]
    size = 2 * count if function == READ_REGISTERS else -(-count // 8)
    return head + struct.pack(">HBBB", 3 + size, request[6], function, size) + bytes(size)


def serve(server: socket.socket, moments: list[float]) -> None:
    """One client after the other, for ever."""
    while True:
        client, _ = server.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client:
            waiting = b""
            while received := client.recv(4096):
                waiting += received
                while len(waiting) >= 6 and len(waiting) >= 6 + waiting[5]:
                    length = 6 + waiting[5]
                    client.sendall(answer(waiting[:length], moments))
                    waiting = waiting[length:]


def main() -> None:
    """One controller on the loopback."""
    moments: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server, moments), daemon=True).start()
        print(server.getsockname()[1], flush=True)
        sys.stdin.read()
        print(json.dumps(moments))


if __name__ == "__main__":
    main()
