"""Listens to the broker on its own thread, and returns the plant's current state.

With records, it begins with their last hours, and asks them for what a page shows of a shift, a day
or a week.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from edge_qc.errors import RecordError, UsageError
from edge_qc.plant.dashboard.card import card
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.login import Account
from edge_qc.plant.dashboard.plant import PlantState
from edge_qc.plant.dashboard.rows import Document, other_views, verdict_in_full
from edge_qc.plant.dashboard.snapshot import snapshot
from edge_qc.plant.dashboard.station import Now
from edge_qc.publisher import Received, Subscription, VerdictMessage
from edge_qc.settings import MqttTable

if TYPE_CHECKING:
    from edge_qc.plant.dashboard.records.recorded import Records

log = logging.getLogger(__name__)

REFRESH_S = 0.5
_CACHED = 64
_RECORDS_S = {"shift": 5.0, "day": 10.0, "week": 30.0}
"""How old the figures of a period may be."""
_AGAIN_S = 5.0
"""After a failure."""
_FOLLOW_S = 10.0
_BACK = timedelta(hours=8)


class Feed:
    """A plant that follows its broker until closed. trouble: why the records cannot be read."""

    def __init__(self, mqtt: MqttTable, topics: list[str], records: Records | None = None) -> None:
        """Connect. Raises PublishError if the first try fails."""
        self.where = f"{mqtt.host}:{mqtt.port}"
        self.records = records
        self.trouble: str | None = None
        self._plant = PlantState()
        self._lock, self._records_lock = threading.Lock(), threading.Lock()
        self._subscription = Subscription(mqtt, topics)
        self._trouble_since: datetime | None = None
        self._made: dict[Filter, tuple[float, dict[str, str]]] = {}
        self._of_records: dict[Filter, tuple[float, Document]] = {}
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._listen, name="feed", daemon=True)]
        if records is not None:
            follow = threading.Thread(target=self._follow, name="records", daemon=True)
            self._threads.append(follow)
        self._recalled = threading.Event()
        for thread in self._threads:
            thread.start()

    def sections(self, chosen: Filter) -> dict[str, str]:
        """Each section of the page as JSON. Pages with the same filter share one answer."""
        of_records = {} if chosen.period is None else self._period(chosen)
        with self._lock:
            now = _now()
            made = self._made.get(chosen)
            if made is None or now.monotonic_s - made[0] >= 0.9 * REFRESH_S:
                document: Document = snapshot(self._plant, chosen, now)
                document.update(of_records)
                document["broker"] = {
                    "where": self.where,
                    "trouble": self._subscription.trouble,
                    "since": self._trouble_since and self._trouble_since.isoformat(),
                    "listening": self._threads[0].is_alive(),
                    "records": self.trouble,
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
        """The card of one of the latest verdicts, or of one in the records; None if unknown."""
        with self._lock:
            found = verdict_in_full(self._plant, station, verdict_id)
            views = [] if found is None else other_views(self._plant, station, found)
        if found is None and self.records is not None:
            try:
                recorded = self.records.verdict(station, verdict_id)
            except RecordError as error:
                log.warning("%s", error)
                recorded = None
            if recorded is not None:
                found, views = recorded
        return None if found is None else {**_in_full(found, views), "truth": self._truth(found)}

    def _truth(self, found: VerdictMessage) -> Document | None:
        """The label that a person gave this verdict; None without one."""
        try:
            return None if self.records is None else self.records.truth(found.verdict_id)
        except RecordError as error:
            log.warning("%s", error)
            return None

    def label(self, account: Account, asked: Mapping[str, object]) -> Document:
        """Store what a person says a part truly is. Raises UsageError, DataError, RecordError."""
        from edge_qc.plant.dashboard.records.labelling import label

        if self.records is None:
            raise UsageError("labels need records: edge-qc dashboard --database")
        words = (str(asked.get(name, "")) for name in ("id", "label", "note"))
        return label(self.records.engine, account, *words)

    def handover(self, last: bool) -> Document:
        """This shift, or the last one, and what is wrong now. Raises RecordError."""
        from edge_qc.plant.dashboard.records.handover import handover

        assert self.records is not None
        told = handover(self.records, datetime.now(timezone.utc), last=last)
        with self._lock:
            now = snapshot(self._plant, Filter(window_s=28_800), _now())
        open_ = [
            {"station": one["name"], **trouble}
            for one in now["stations"]
            for trouble in one["troubles"]
        ]
        states = [
            {"station": one["name"], "state": one["state"], "why": one["why"], "next": one["next"]}
            for one in now["stations"]
        ]
        return {**told, "headline": now["headline"], "open": open_, "states": states,
                "missing": now["gaps"]}  # fmt: skip

    def health(self) -> Document:
        """Whether it works, for the plant's IT; anybody may ask, so no name and no address."""
        with self._lock:
            stations = len(self._plant.stations)
            last_s = self._plant.last_s
        broken = {
            "broker": self._subscription.trouble is not None,
            "records": self.trouble is not None,
            "listening": not self._threads[0].is_alive(),
        }
        return {
            "ok": not any(broken.values()),
            "broken": [name for name, is_so in broken.items() if is_so],
            "records": self.records is not None,
            "stations": stations,
            "last_message_age_s": None if last_s is None else round(time.monotonic() - last_s, 1),
        }

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._subscription.close()

    def _period(self, chosen: Filter) -> Document:
        """A period's sections; the last ones while the database fails."""
        assert self.records is not None
        assert chosen.period is not None
        with self._records_lock:
            made = self._of_records.get(chosen)
            if made is not None and time.monotonic() < made[0]:
                return made[1]
            good_s = _RECORDS_S[chosen.period]
            try:
                document = self.records.sections(chosen, datetime.now(timezone.utc))
                self.trouble = None
            except RecordError as error:
                self.trouble = str(error)
                document = {} if made is None else made[1]
                good_s = _AGAIN_S
            while len(self._of_records) >= _CACHED:
                del self._of_records[next(iter(self._of_records))]
            self._of_records[chosen] = time.monotonic() + good_s, document
            return document

    def _listen(self) -> None:
        try:
            if self.records is not None:
                self._recall(self.records)
        finally:
            self._recalled.set()
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

    def _recall(self, records: Records) -> None:
        from edge_qc.plant.dashboard.records.recall import recall

        plant = PlantState()
        try:
            recall(records, plant, datetime.now(timezone.utc))
        except RecordError as error:
            self.trouble = str(error)
            log.warning("%s", error)
            return
        except Exception as error:
            # Something that this edition does not know must not keep it from the broker.
            self.trouble = f"the last hours cannot be read: {error!r}"
            log.error("%s", self.trouble)
            return
        with self._lock:
            self._plant = plant

    def _follow(self) -> None:
        """Heed what is recorded meanwhile: no message of it is missing."""
        from edge_qc.plant.dashboard.records.recall import uptos

        assert self.records is not None
        self._recalled.wait()
        while not self._closing.wait(_FOLLOW_S):
            try:
                known = uptos(self.records, datetime.now(timezone.utc) - _BACK)
            except RecordError as error:
                self.trouble = str(error)
                continue
            self.trouble = None
            with self._lock:
                for (name, epoch, kind), upto in known.items():
                    self._plant.note_recorded(name, kind, epoch, upto)

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


def _in_full(found: VerdictMessage, views: list[VerdictMessage]) -> Document:
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


def _now() -> Now:
    return Now(time.monotonic(), datetime.now(timezone.utc))
