"""A network camera for tests: RTSP over TCP with JPEG pictures (RFC 2326, RFC 2435), one client at
a time, that can freeze, fall silent, or go away.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray

PERIOD_S = 0.02
_PACKET_BYTES = 1400


class RtspServer:
    """Serves ``uri``. Set ``mode`` to "fresh", "frozen", "silent" or "lossy", which leaves out a
    packet of every second picture; ``drop`` ends the client's connection, ``close`` the server."""

    def __init__(self) -> None:
        self.mode = "fresh"
        self.clients = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._picture = _picture(0)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"rtsp://inspector:secret@127.0.0.1:{self.port}/band"

    def drop(self) -> None:
        with suppress(OSError):
            if self._client is not None:
                self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # Wakes accept(), which close does not.
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.clients += 1
            self._client = client
            try:
                with client:
                    self._serve(client)
            except OSError:
                pass

    def _serve(self, client: socket.socket) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                received = client.recv(4096)
                if not received:
                    return
                data += received
            asked, _, data = data.partition(b"\r\n\r\n")
            lines = asked.decode().split("\r\n")
            method = lines[0].split()[0]
            number = next(line for line in lines if line.lower().startswith("cseq"))
            extra, body = self._answer(method)
            head = f"RTSP/1.0 200 OK\r\n{number}\r\n{extra}Content-Length: {len(body)}"
            client.sendall(f"{head}\r\n\r\n{body}".encode())
            if method == "PLAY":
                self._play(client)
                return

    def _answer(self, method: str) -> tuple[str, str]:
        if method == "OPTIONS":
            return "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""
        if method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=band\r\nt=0 0\r\n"
                "m=video 0 RTP/AVP 26\r\na=control:track\r\n"
            )
            base = f"Content-Base: rtsp://127.0.0.1:{self.port}/band/\r\n"
            return f"{base}Content-Type: application/sdp\r\n", body
        if method == "SETUP":
            return "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", ""
        return "Session: 1\r\n", ""

    def _play(self, client: socket.socket) -> None:
        number = sequence = 0
        while True:
            if self.mode != "silent":
                if self.mode in ("fresh", "lossy"):
                    number += 1
                    self._picture = _picture(number)
                stamp = int(time.monotonic() * 90_000) & 0xFFFFFFFF
                for place, packet in enumerate(_packets(self._picture, sequence, stamp)):
                    sequence = (sequence + 1) & 0xFFFF
                    if self.mode == "lossy" and number % 2 and place == 1:
                        continue
                    client.sendall(b"$\x00" + struct.pack(">H", len(packet)) + packet)
            time.sleep(PERIOD_S)


def _picture(number: int) -> NDArray[np.uint8]:
    soft = np.random.default_rng(number).integers(60, 200, (12, 16), dtype=np.uint8)
    return np.asarray(cv2.resize(soft, (160, 120), interpolation=cv2.INTER_CUBIC), np.uint8)


def _packets(picture: NDArray[np.uint8], sequence: int, stamp: int) -> list[bytes]:
    """RTP packets of one picture: RFC 2435, type 1 (4:2:0), quantisation tables in band."""
    colour = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    _, encoded = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 80])
    data = encoded.tobytes()
    tables, scan = b"", b""
    at = 2
    while at < len(data):
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        segment = data[at + 4 : at + 2 + length]
        if marker == 0xDB:
            while segment:
                tables += segment[1:65]
                segment = segment[65:]
        at += 2 + length
        if marker == 0xDA:
            scan = data[at:-2]
            break
    height, width = picture.shape
    packets = []
    for offset in range(0, len(scan), _PACKET_BYTES):
        part = scan[offset : offset + _PACKET_BYTES]
        last = offset + len(part) == len(scan)
        header = struct.pack(
            ">BBHII", 0x80, 26 | (0x80 if last else 0), (sequence + len(packets)) & 0xFFFF, stamp, 1
        )
        jpeg = struct.pack(">I", offset) + bytes([1, 255, width // 8, height // 8])
        if offset == 0:
            jpeg += struct.pack(">BBH", 0, 0, len(tables)) + tables
        packets.append(header + jpeg + part)
    return packets
