"""Stations that are not there: their messages, made up, on a broker, for the dashboard's bench.

    python bench/sides/drawn_plant.py HOST:PORT --stations 50 --rate 10 --seconds 60

Loopback brokers only. It stops by itself.
"""

from __future__ import annotations

import argparse
import math
import random
import time
import uuid
from datetime import datetime, timedelta, timezone

import paho.mqtt.client as paho

from edge_qc.parts import DRIFT, NOT_JUDGED, Disposition, Reason
from edge_qc.publisher.messages import (
    BundleRef,
    CameraHealth,
    DriftFields,
    EventContent,
    HealthContent,
    Kind,
    OutboxHealth,
    PartContent,
    Severity,
    StateContent,
    VerdictContent,
)
from edge_qc.publisher.wire import as_sent, stamped
from edge_qc.system.state import State

DIES = ("Die01", "Die02", "Die03", "Die04")
DEFECTS = ("Missing", "Lift-off blanc", "Lift-off noir", "Boucle plate", "Short circuit MOS")
_WEIGHTS = (40, 25, 15, 10, 5)
_BUNDLE = BundleRef(id="6f1d" * 16, version=12)
Content = VerdictContent | PartContent | EventContent | StateContent | HealthContent


class Station:
    """One station that makes up its day. faults: whether this one has something wrong."""

    def __init__(self, client: paho.Client, number: int, seed: int = 0) -> None:
        self.name = f"line-{number:02d}"
        self._client, self._number = client, number
        self._draw = random.Random(seed * 1_000 + number)
        self._epoch = uuid.UUID(int=self._draw.getrandbits(128)).hex
        self._seq: dict[Kind, int] = {}
        self._judged = 0

    def send(self, kind: Kind, content: Content, late: bool = False) -> None:
        """Publishes content with its stamp."""
        seq = None
        if kind in (Kind.VERDICT, Kind.PART, Kind.EVENT):
            seq = self._seq[kind] = self._seq.get(kind, 0) + 1
        text = stamped(
            kind,
            content.model_dump_json(),
            epoch=self._epoch,
            site="plant-1",
            station=self.name,
            seq=seq,
            verdict_id=str(uuid.UUID(int=self._draw.getrandbits(128)))
            if kind is Kind.VERDICT
            else None,
        )
        payload = text.encode() if seq is None else as_sent(text, late)
        topic = f"edge-qc/v1/plant-1/{self.name}/{kind.value}"
        self._client.publish(topic, payload, 1, retain=kind in (Kind.STATE, Kind.HEALTH))

    def lose(self, verdicts: int) -> None:
        """Leaves numbers out, as if they had been lost on the way."""
        self._seq[Kind.VERDICT] += verdicts

    def state(self, state: State, why: str, since: datetime) -> None:
        self.send(Kind.STATE, StateContent(state=state, time=since, why=why, bundle=_BUNDLE))

    def event(self, name: str, severity: Severity, detail: str, at: datetime) -> None:
        self.send(Kind.EVENT, EventContent(event=name, severity=severity, time=at, detail=detail))

    def part(self, at: datetime, late: bool = False, worse: float = 1.0) -> None:
        """One part: its four views and their join."""
        part_id = f"W26-{self._number:02d}-{self._judged:06d}"
        labels = {die: self._view(at, die, part_id, late, worse) for die in DIES}
        label = next((label for label in labels.values() if label != "GOOD"), "GOOD")
        complete = NOT_JUDGED not in labels.values()
        disposition = Disposition.PASS if label == "GOOD" else Disposition.REJECT
        if label in (DRIFT, NOT_JUDGED):
            disposition = Disposition.REVIEW
        self.send(
            Kind.PART,
            PartContent(
                part_id=part_id,
                time=at,
                label=label,
                disposition=disposition,
                complete=complete,
                labels=labels,
                missing=(),
                verdict_ids=(),
            ),
            late,
        )

    def view(self, at: datetime) -> None:
        self._view(at, DIES[self._judged % 4], f"W26-{self._judged // 4:06d}", False, 1.0)

    def health(self, at: datetime, waiting: int = 0, lost: str | None = None) -> None:
        wave = 1 + 0.2 * math.sin(at.timestamp() / 400)
        self.send(
            Kind.HEALTH,
            HealthContent(
                time=at,
                state=State.RUNNING,
                uptime_s=4_000,
                verdicts={"GOOD": self._judged},
                rate_per_s=10,
                latency_ms={"p50": 4.2, "p99": self._draw.gauss(8.2, 0.4) * wave},
                queue=self._draw.choice((0, 0, 0, 1, 2)),
                last_verdict_age_s=0.1,
                cameras={
                    die.lower(): CameraHealth(state="lost" if die == lost else "running")
                    for die in DIES
                },
                outbox=OutboxHealth(
                    waiting=waiting, open_triggers=0, free_bytes=48 << 30, space="ok"
                ),
                temperatures_c={"gpu-thermal": 49.5},
            ),
        )

    def _view(self, at: datetime, die: str, part_id: str, late: bool, worse: float) -> str:
        draw = self._draw
        self._judged += 1
        score = draw.expovariate(1.0) * worse
        label, disposition, reason = "GOOD", Disposition.PASS, Reason.DECIDED
        chance = draw.random()
        if chance < 0.012 * (2.5 if die == "Die02" else 1):
            label, disposition = draw.choices(DEFECTS, _WEIGHTS)[0], Disposition.REJECT
        elif score > 7.4:
            label, disposition = DRIFT, Disposition.REVIEW
        elif chance > 0.9992:
            label, disposition, reason = NOT_JUDGED, Disposition.REVIEW, Reason.CAMERA
        judged = reason is Reason.DECIDED
        p_value = math.exp(-score)
        self.send(
            Kind.VERDICT,
            VerdictContent(
                camera=die.lower(),
                die=die,
                part_id=part_id,
                trigger_id=f"{draw.getrandbits(128):032x}",
                time=at,
                label=label,
                disposition=disposition,
                reason=reason,
                probabilities={label: 0.97, "Missing": 0.03} if judged else {},
                drift=DriftFields(
                    score=score,
                    p_value=p_value,
                    threshold=7.4,
                    witness="padim",
                    witnesses={"padim": p_value, "embedding": min(1.0, p_value * 1.4)},
                )
                if judged
                else None,
                expected_cost={label: 3.1, "GOOD": 310.0} if judged else {},
                bundle=_BUNDLE,
                engine="drawn",
                latency_ms={"view": 0.2, "engine": 3.6, "decision": 0.1} if judged else {},
                detail="" if judged else f"{die.lower()}: no picture for 5.0 s",
            ),
            late,
        )
        return label


def connected(address: str) -> paho.Client:
    """A client of a loopback broker."""
    host, _, port = address.partition(":")
    if host not in ("127.0.0.1", "localhost"):
        raise SystemExit("drawn stations speak to a broker on this machine alone")
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_queued_messages_set(0)
    client.connect(host, int(port))
    client.loop_start()
    return client


def steady(client: paho.Client, stations: int, rate: float, seconds: float) -> int:
    """So many stations at so many verdicts a second each, evenly; how many were sent."""
    plant = [Station(client, number + 1) for number in range(stations)]
    now = datetime.now(timezone.utc)
    for station in plant:
        station.state(State.RUNNING, "judging", now)
    began_s, sent, beat_s = time.monotonic(), 0, 0.0
    while (elapsed_s := time.monotonic() - began_s) < seconds:
        due = int(elapsed_s * rate * stations)
        for number in range(sent, due):
            plant[number % stations].view(datetime.now(timezone.utc))
        sent = due
        if elapsed_s - beat_s > 5:
            beat_s = elapsed_s
            for station in plant:
                station.health(datetime.now(timezone.utc))
        time.sleep(0.01)
    return sent


def shift(client: paho.Client, minutes: int = 58) -> list[Station]:
    """Four lines at the end of a shift on which things happened: what the pictures in docs/ show.
    The past is sent with the times that it had."""
    now = datetime.now(timezone.utc)
    plant = [Station(client, number + 1, seed=7) for number in range(4)]
    for minute in range(minutes, -1, -1):
        at = now - timedelta(minutes=minute)
        for station in plant:
            third = station.name == "line-03"
            if third and 30 < minute <= 36:
                if minute == 33:
                    station.lose(3)
                continue
            worse = 1.0 + max(0, 16 - minute) * 0.04 if station.name == "line-02" else 1.0
            for turn in range(8):
                late = third and minute <= 44 and minute > 36
                station.part(at - timedelta(seconds=52 - 7 * turn), late, worse)
            station.health(at, lost="Die03" if third and minute < 3 else None)
    third = plant[2]
    third.send(
        Kind.EVENT,
        EventContent(event="outbox-drained", time=now - timedelta(minutes=30), detail="384 sent"),
    )
    third.event(
        "camera-lost", Severity.ALARM, "die03: no picture for 5.0 s", now - timedelta(minutes=3)
    )
    plant[0].event("bundle-accepted", Severity.INFO, "version 12", now - timedelta(minutes=52))
    states = [State.RUNNING, State.RUNNING, State.DEGRADED, State.DEAD]
    whys = ["judging", "judging", "without a picture: die03", "the connection was lost"]
    for station, state, why in zip(plant, states, whys, strict=True):
        station.state(state, why, now)
    return plant


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("address")
    asked.add_argument("--stations", type=int, default=50)
    asked.add_argument("--rate", type=float, default=10)
    asked.add_argument("--seconds", type=float, default=60)
    asked.add_argument("--shift", action="store_true", help="four lines at the end of a shift")
    said = asked.parse_args()
    client = connected(said.address)
    if said.shift:
        plant = shift(client)
        until_s = time.monotonic() + said.seconds
        while time.monotonic() < until_s:
            for station in plant[:3]:
                station.part(datetime.now(timezone.utc))
                station.health(datetime.now(timezone.utc))
            time.sleep(1)
    else:
        print(steady(client, said.stations, said.rate, said.seconds))
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
