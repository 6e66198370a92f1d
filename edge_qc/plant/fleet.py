"""Fleet status: a broker's stations by their retained states and heartbeats, and how often one
rejects. Ansible (``deploy/fleet``) changes stations.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from edge_qc.errors import UsageError
from edge_qc.parts import NOT_JUDGED
from edge_qc.publisher import HealthMessage, StateMessage, Subscription, VerdictMessage
from edge_qc.settings import MqttTable
from edge_qc.system.state import State

_KEPT = ("state", "health")
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class StationRow:
    """One station as the broker stores it. bundle_version: None before the first acceptance.
    health: None if the heartbeat has expired or never came. fault: why its message could not be
    read."""

    site: str
    station: str
    state: State | None = None
    since: datetime | None = None
    why: str = ""
    bundle_id: str | None = None
    bundle_version: int | None = None
    health: HealthMessage | None = None
    fault: str | None = None

    @property
    def name(self) -> str:
        """``site/station``, as in its certificate."""
        return f"{self.site}/{self.station}"

    @property
    def judges(self) -> bool:
        return self.state in (State.RUNNING, State.DEGRADED)


def roster(messages: Mapping[str, bytes]) -> tuple[StationRow, ...]:
    """The stations in retained messages by topic, sorted by name.

    A message that cannot be read is reported in its station's row and hides no other.
    """
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for topic, payload in messages.items():
        *_, site, station, level = topic.split("/")
        if not payload:
            continue
        row = rows.setdefault((site, station), {})
        try:
            if level == "state":
                state = StateMessage.model_validate_json(payload)
                row |= {"state": state.state, "since": state.time, "why": state.why}
                if state.bundle is not None:
                    row |= {"bundle_id": state.bundle.id, "bundle_version": state.bundle.version}
            elif level == "health":
                row["health"] = HealthMessage.model_validate_json(payload)
        except ValidationError as error:
            fault = error.errors()[0]
            row["fault"] = f"{level}: {fault['msg']} ({'.'.join(map(str, fault['loc']))})"
    return tuple(
        StationRow(site=site, station=station, **row)  # type: ignore[arg-type]
        for (site, station), row in sorted(rows.items())
    )


def retained(mqtt: MqttTable, for_s: float, site: str = "+") -> Mapping[str, bytes]:
    """The last states and heartbeats by topic, after listening for a while. Raises PublishError."""
    kept: dict[str, bytes] = {}
    for topic, payload in _heard(mqtt, [f"edge-qc/v1/{site}/+/{what}" for what in _KEPT], for_s):
        kept[topic] = payload
    return kept


@dataclass(frozen=True, slots=True)
class Rates:
    """The verdicts of one station while we listened. dispositions: of judged views, by name."""

    verdicts: int
    not_judged: int
    dispositions: Mapping[str, int]

    @property
    def rejected(self) -> float | None:
        """The share of REJECT among judged views; None if there were none."""
        judged = self.verdicts - self.not_judged
        return self.dispositions.get("REJECT", 0) / judged if judged else None


def rates(mqtt: MqttTable, station: str, *, count: int, for_s: float) -> Rates:
    """Listen to the live verdicts of ``site/station`` until ``count`` or the time limit.

    Late (historical) verdicts are skipped. Raises PublishError, UsageError.
    """
    _require_name(station)
    seen: Counter[str] = Counter()
    verdicts = not_judged = 0
    for _, payload in _heard(mqtt, [f"edge-qc/v1/{station}/verdict"], for_s):
        try:
            verdict = VerdictMessage.model_validate_json(payload)
        except ValidationError:
            continue
        if verdict.historical:
            continue
        verdicts += 1
        if verdict.label == NOT_JUDGED:
            not_judged += 1
        else:
            seen[verdict.disposition.value] += 1
        if verdicts >= count:
            break
    return Rates(verdicts, not_judged, dict(seen))


def forget(mqtt: MqttTable, station: str, *, for_s: float) -> StationRow:
    """Have the broker forget ``site/station``, whose last state is returned.

    A station lives that says something within ``for_s``, or whose state is not DEAD while the
    broker still holds a heartbeat, which expires. Raises UsageError for one that lives, or that
    the broker does not know; PublishError where this account may not clear its topics.
    """
    _require_name(station)
    topics = {what: f"edge-qc/v1/{station}/{what}" for what in _KEPT}
    subscription = Subscription(mqtt, list(topics.values()))
    try:
        kept: dict[str, bytes] = {}
        alive = False
        until_s = time.monotonic() + for_s
        while not alive and (left_s := until_s - time.monotonic()) > 0:
            received = subscription.read(min(_POLL_S, left_s))
            if received is not None:
                kept[received.topic] = received.payload
                alive = not received.retained and bool(received.payload)
        rows = roster(kept)
        if not rows:
            raise UsageError(f"{station}: this broker has no message of such a station")
        (row,) = rows
        if row.state is State.DEAD:
            alive = False
        if alive or (row.state not in (None, State.DEAD) and row.health is not None):
            raise UsageError(
                f"{station} is alive: {row.state.value if row.state else 'it sends heartbeats'}. "
                "Stop it first, or it is back with its next message"
            )
        for topic in topics.values():
            subscription.clear(topic)
        return row
    finally:
        subscription.close()


def _require_name(station: str) -> None:
    if station.count("/") != 1 or set(station) & set("+#") or not all(station.split("/")):
        raise UsageError(f"a station is named SITE/STATION, got {station!r}")


def _heard(mqtt: MqttTable, filters: list[str], for_s: float) -> Iterator[tuple[str, bytes]]:
    subscription = Subscription(mqtt, filters)
    try:
        until_s = time.monotonic() + for_s
        while (left_s := until_s - time.monotonic()) > 0:
            received = subscription.read(min(_POLL_S, left_s))
            if received is not None:
                yield received.topic, received.payload
    finally:
        subscription.close()
