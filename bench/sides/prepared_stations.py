"""Stations whose messages are prepared, on plain sockets: hundreds of them load a plant, and take
little of the machine that is measured.

They speak just enough MQTT 5 to publish at QoS 1 within a window and to hear the recorder's
acknowledgements. Lag is from sending a verdict to its acknowledgement. Nothing is sent again, so
what a broker loses stays unacknowledged. Loopback brokers only.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

DIES = ("Die01", "Die02", "Die03", "Die04")
LABELS = ("GOOD", "Boucle plate", "Lift-off blanc", "Lift-off noir", "Missing", "Short circuit MOS")
_WEIGHTS = (93, 2, 1, 1, 2, 1)
WINDOW = 64
HEARTBEAT_S = 5.0

_CONNACK, _PUBLISH, _PUBACK = 2, 3, 4


class Station:
    """One station and its connection. lag_s: of each acknowledged verdict."""

    def __init__(self, number: int, host: str, port: int, site: str = "load") -> None:
        self.name, self.epoch = f"line-{number}", str(uuid.uuid4())
        self.root = f"edge-qc/v1/{site}/{self.name}"
        self.lag_s: list[float] = []
        self.sent = {"verdict": 0, "part": 0}
        self.acknowledged = {"verdict": 0, "part": 0}
        self.bytes = self.messages = 0
        self._site, self._draw = site, random.Random(number)
        self._sent_s: dict[int, float] = {}
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._in_flight, self._mid = 0, 0
        self._buffer = b""
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # MQTT 5, clean start, no keep-alive, no properties.
        self._write(b"\x10", b"\x00\x04MQTT\x05\x02\x00\x00\x00" + _text(self.name))
        self._write(b"\x82", b"\xff\xff\x00" + _text(f"{self.root}/ack") + b"\x01")
        self._publish("state", {"state": "RUNNING", "why": "judging", "time": _now()}, retain=True)

    @property
    def settled(self) -> bool:
        """Whether all that was sent is acknowledged by the recorder."""
        return not self._waiting and self.acknowledged == self.sent

    def part(self) -> None:
        """The messages of one part: four verdicts, and the verdict on the part."""
        verdicts = [self.verdict(die) for die in DIES]
        self._numbered(
            "part",
            {
                "part_id": f"P{self.sent['part']}",
                "time": _now(),
                "label": "GOOD",
                "disposition": "PASS",
                "complete": True,
                "labels": dict.fromkeys(DIES, "GOOD"),
                "missing": [],
                "verdict_ids": verdicts,
            },
        )

    def verdict(self, die: str | None = None) -> str:
        """One verdict; its id."""
        draw, number = self._draw, self.sent["verdict"]
        label = draw.choices(LABELS, _WEIGHTS)[0]
        verdict_id = str(uuid.UUID(int=draw.getrandbits(128)))
        die = die or DIES[number % len(DIES)]
        self._numbered(
            "verdict",
            {
                "verdict_id": verdict_id,
                "camera": die.lower(),
                "die": die,
                "part_id": f"P{number // 4}",
                "trigger_id": f"{draw.getrandbits(128):032x}",
                "time": _now(),
                "label": label,
                "disposition": "PASS" if label == "GOOD" else "REJECT",
                "reason": "decided",
                "probabilities": {**dict.fromkeys(LABELS, 0.0001), label: 0.9994, "DRIFT": 1e-4},
                "drift": {
                    "score": draw.expovariate(1.0),
                    "p_value": 0.4137,
                    "threshold": 0.01,
                    "witness": "padim",
                    "witnesses": {"padim": 0.4137, "embedding": 0.6},
                },
                "expected_cost": dict.fromkeys((*LABELS, "DRIFT"), 99.93),
                "bundle": {"id": "0" * 64, "version": 7},
                "engine": "tensorrt 10.3.0 Orin fp16",
                "latency_ms": {"wait": 0.4, "view": 0.1, "infer": 3.1, "decide": 0.1},
                "image": None,
                "detail": "",
            },
        )
        return verdict_id

    def heartbeat(self) -> None:
        """A health message as a station with four cameras sends it."""
        camera = {"state": "running", "frames": 1, "faults": 0, "rate_per_s": 1.0}
        self._publish(
            "health",
            {
                "time": _now(),
                "state": "RUNNING",
                "uptime_s": 100.0,
                "verdicts": {"GOOD": self.sent["verdict"]},
                "rate_per_s": 4.0,
                "latency_ms": {"p50": 4.2, "p99": 8.1},
                "cameras": {die.lower(): camera for die in DIES},
                "outbox": {
                    "waiting": 0, "open_triggers": 0, "free_bytes": 1 << 35, "space": "ok",
                },
            },
            retain=True,
        )  # fmt: skip

    def forget_figures(self) -> None:
        """Count lag, messages and bytes from now on."""
        self.lag_s.clear()
        self.messages = self.bytes = 0

    def flush(self) -> None:
        """Send what waits, as far as the window allows."""
        sent_s, packets = time.monotonic(), []
        while self._waiting and self._in_flight < WINDOW:
            level, body = self._waiting.popleft()
            if level == "verdict":
                self._sent_s[len(self._sent_s) + 1] = sent_s
            self._in_flight += 1
            packets.append(body)
        if packets:
            self.socket.sendall(b"".join(packets))

    def receive(self) -> None:
        """Read what has come: the broker's acknowledgements, and the recorder's."""
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError(f"{self.name}: the broker has ended the connection")
        self._buffer += data
        for kind, flags, body in self._packets():
            if kind == _PUBACK:
                self._in_flight -= 1
            elif kind == _PUBLISH:
                topic = 2 + int.from_bytes(body[:2], "big")
                at = topic
                if flags & 0x06:
                    self._write(b"\x40", body[topic : topic + 2])
                    at += 2
                self._heard(body[at + 1 + body[at] :])
            elif kind == _CONNACK and body[1]:
                raise ConnectionError(f"{self.name}: refused with reason {body[1]}")

    def close(self) -> None:
        self.socket.sendall(b"\xe0\x00")
        self.socket.close()

    def _heard(self, payload: bytes) -> None:
        ack = json.loads(payload)
        kind, upto = ack["kind"], ack["upto"]
        if ack["epoch"] != self.epoch or upto <= self.acknowledged.get(kind, upto):
            return
        if kind == "verdict":
            now_s = time.monotonic()
            first = self.acknowledged[kind] + 1
            self.lag_s += [now_s - self._sent_s[seq] for seq in range(first, upto + 1)]
        self.acknowledged[kind] = upto

    def _numbered(self, level: str, content: dict[str, object]) -> None:
        self.sent[level] += 1
        self._publish(level, {"seq": self.sent[level], "historical": False, **content})

    def _publish(self, level: str, content: dict[str, object], retain: bool = False) -> None:
        stamp = {
            "schema": f"edge-qc/{level}/1",
            "epoch": self.epoch,
            "site": self._site,
            "station": self.name,
        }
        payload = json.dumps(stamp | content).encode()
        self._mid = self._mid % 65_534 + 1
        head = _text(f"{self.root}/{level}") + self._mid.to_bytes(2, "big") + b"\x00"
        packet = _packet(b"\x33" if retain else b"\x32", head + payload)
        self._waiting.append((level, packet))
        self.messages += 1
        self.bytes += len(packet)

    def _packets(self) -> Iterator[tuple[int, int, bytes]]:
        """Whole packets that were received: kind, flags, body."""
        while len(self._buffer) >= 2:
            length, at, shift = 0, 1, 0
            while True:
                if at >= len(self._buffer):
                    return
                byte = self._buffer[at]
                length |= (byte & 0x7F) << shift
                at, shift = at + 1, shift + 7
                if byte < 0x80:
                    break
            if len(self._buffer) < at + length:
                return
            first, body = self._buffer[0], self._buffer[at : at + length]
            self._buffer = self._buffer[at + length :]
            yield first >> 4, first & 0x0F, body

    def _write(self, head: bytes, body: bytes) -> None:
        self.socket.sendall(_packet(head, body))


class Stations:
    """Many stations served by one loop."""

    def __init__(self, count: int, host: str, port: int) -> None:
        if host not in ("127.0.0.1", "localhost"):
            raise SystemExit("prepared stations speak to a broker on this machine alone")
        self._ready = selectors.DefaultSelector()
        self.all = [Station(number, host, port) for number in range(1, count + 1)]
        for station in self.all:
            self._ready.register(station.socket, selectors.EVENT_READ, station)

    def steadily(self, parts_per_s: float, seconds: float) -> float:
        """Each station makes so many parts a second, evenly; how many seconds it took."""
        began_s = time.monotonic()
        sent = beats = 0
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            due = int(elapsed_s * parts_per_s * len(self.all))
            for number in range(sent, due):
                self.all[number % len(self.all)].part()
            sent = due
            due = int(elapsed_s / HEARTBEAT_S * len(self.all))
            for number in range(beats, due):
                self.all[number % len(self.all)].heartbeat()
            beats = due
            self.turn(0.01)
        return time.monotonic() - began_s

    def settle(self, limit_s: float) -> float:
        """Wait until the recorder has acknowledged all; seconds. Ends at ``limit_s`` anyway."""
        began_s = time.monotonic()
        while not all(one.settled for one in self.all):
            if time.monotonic() - began_s > limit_s:
                break
            self.turn(0.02)
        return time.monotonic() - began_s

    def turn(self, wait_s: float) -> None:
        """Send and receive what can be now; waits at most ``wait_s`` for something to come."""
        for station in self.all:
            station.flush()
        for key, _ in self._ready.select(wait_s):
            key.data.receive()

    def close(self) -> None:
        for station in self.all:
            station.close()
        self._ready.close()


def quantiles(lags_s: Sequence[float]) -> tuple[float, float, float]:
    """Median, 99th per cent and the longest; zeros of none."""
    ordered = sorted(lags_s) or [0.0]
    return ordered[len(ordered) // 2], ordered[int(0.99 * len(ordered))], ordered[-1]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(head: bytes, body: bytes) -> bytes:
    length, size = len(body), b""
    while True:
        length, low = divmod(length, 128)
        size += bytes([low | (0x80 if length else 0)])
        if not length:
            return head + size + body
