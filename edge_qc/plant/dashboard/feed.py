"""Listens to the broker on its own thread, and returns the plant's current state."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import datetime, timezone

from edge_qc.plant.dashboard.card import card
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.plant import PlantState
from edge_qc.plant.dashboard.rows import Document, other_views, verdict_in_full
from edge_qc.plant.dashboard.snapshot import snapshot
from edge_qc.plant.dashboard.station import Now
from edge_qc.publisher import Received, Subscription
from edge_qc.settings import MqttTable

log = logging.getLogger(__name__)

REFRESH_S = 0.5
_CACHED = 64


class Feed:
    """A plant that follows its broker until closed."""

    def __init__(self, mqtt: MqttTable, topics: list[str]) -> None:
        """Connect. Raises PublishError if the first try fails."""
        self.where = f"{mqtt.host}:{mqtt.port}"
        self._plant = PlantState()
        self._lock = threading.Lock()
        self._subscription = Subscription(mqtt, topics)
        self._trouble_since: datetime | None = None
        self._made: dict[Filter, tuple[float, dict[str, str]]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="feed", daemon=True)
        self._thread.start()

    def sections(self, chosen: Filter) -> dict[str, str]:
        """Each section of the page as JSON. Pages with the same filter share one answer."""
        with self._lock:
            now = _now()
            made = self._made.get(chosen)
            if made is None or now.monotonic_s - made[0] >= 0.9 * REFRESH_S:
                document: Document = snapshot(self._plant, chosen, now)
                document["broker"] = {
                    "where": self.where,
                    "trouble": self._subscription.trouble,
                    "since": self._trouble_since and self._trouble_since.isoformat(),
                    "listening": self._thread.is_alive(),
                }
                sections = {
                    name: json.dumps(section, separators=(",", ":"), allow_nan=False)
                    for name, section in document.items()
                }
                while len(self._made) >= _CACHED:
                    del self._made[next(iter(self._made))]
                made = self._made[chosen] = now.monotonic_s, sections
            return made[1]

    def verdict(self, station: str, verdict_id: str) -> Document | None:
        """The card of one of the latest verdicts; None if it is not among them."""
        with self._lock:
            found = verdict_in_full(self._plant, station, verdict_id)
            views = [] if found is None else other_views(self._plant, station, found)
        if found is None:
            return None
        return {
            "verdict": found.model_dump(mode="json", by_alias=True),
            "card": card(found),
            "views": [
                {
                    "id": view.verdict_id,
                    "die": view.die or "-",
                    "label": view.label,
                    "disposition": view.disposition.value,
                }
                for view in views
            ],
        }

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._subscription.close()

    def _listen(self) -> None:
        while not self._closing.is_set():
            received = self._subscription.read(0.25)
            trouble = self._subscription.trouble
            if (trouble is None) is not (self._trouble_since is None):
                self._trouble_since = None if trouble is None else datetime.now(timezone.utc)
                with self._lock:
                    tell = self._plant.lose_broker if trouble else self._plant.find_broker
                    tell(_now())
                log.warning("%s", trouble or f"connected to {self.where} again")
            if received is not None:
                self._take(received)

    def _take(self, received: Received) -> None:
        with self._lock:
            try:
                self._plant.feed(
                    received.topic, received.payload, _now(), retained=received.retained
                )
            except Exception:
                # A message that fails must not hide the others.
                self._plant.unreadable += 1
                log.exception("a message on %s could not be counted", received.topic)


def _now() -> Now:
    return Now(time.monotonic(), datetime.now(timezone.utc))
