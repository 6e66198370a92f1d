"""The recorder's service: subscribes to every station, commits in groups, then acknowledges.

A message is in the database before the broker may forget it, and then its station. If the database
is away, broker and stations keep the messages.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone

from sqlalchemy.exc import SQLAlchemyError

from edge_qc.errors import EdgeQCError
from edge_qc.evidence import Labels
from edge_qc.plant.recorder.arrivals import Arrival, Source, arrival
from edge_qc.plant.recorder.store import Recorded, Store
from edge_qc.publisher import (
    AckMessage,
    Kind,
    Received,
    StateMessage,
    Subscription,
    parse_topic,
)
from edge_qc.publisher.messages import STATE_LIFE_S
from edge_qc.system.state import State

KINDS = (Kind.VERDICT, Kind.PART, Kind.EVENT)
REPEAT_S = 5.0
"""How often to repeat a station's acknowledgement; the station takes it as the recorder's sign of
life."""

LABELS_EVERY_S = 30.0
"""How often to look for new labels in files."""

_GROUP = 500
_GATHER_S = 0.02
_WINDOW, _LULL_S = 20, 0.002
"""So many messages and then none for so long: the broker waits for acknowledgements before it sends
more. Mosquitto's own ``max_inflight_messages`` is 20."""

_TURN_S = 0.2
_PRUNE_EVERY_S = 60.0
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 15.0

log = logging.getLogger(__name__)


class Recorder:
    """Counts are for this run. trouble: why nothing can be recorded now, or None."""

    def __init__(
        self,
        subscription: Subscription,
        store: Store,
        *,
        acknowledge: bool = True,
        keep_days: float | None = None,
        labels: Sequence[Labels] = (),
    ) -> None:
        """acknowledge: send acknowledgements; only one of several recorders may. keep_days: how
        long to keep messages; None: forever. labels: files of labels, such as those of stations'
        evidence, whose labels are recorded too."""
        self._subscription, self._store = subscription, store
        self._acknowledge, self._keep_days = acknowledge, keep_days
        self._alive: dict[Source, str] = {}
        self._labels = dict.fromkeys(labels, 0)
        self._repeated_s = self._pruned_s = self._labelled_s = 0.0
        self.trouble: str | None = None
        self.new = self.repeated = self.unreadable = 0

    def run(self, stop: threading.Event) -> None:
        """Record until ``stop`` is set, including every message read by then."""
        while not stop.is_set():
            received = self._gather()
            if received:
                self._record(received, stop)
            self._tell_trouble(self._subscription.trouble)
            now_s = time.monotonic()
            if now_s - self._repeated_s >= REPEAT_S:
                self._repeated_s = now_s
                self._repeat(self._alive)
            if self._labels and now_s - self._labelled_s >= LABELS_EVERY_S:
                self._labelled_s = now_s
                self._take_in_labels()
            if self._keep_days is not None and now_s - self._pruned_s >= _PRUNE_EVERY_S:
                self._prune(self._keep_days)

    def _gather(self) -> list[Received]:
        first = self._subscription.read(_TURN_S)
        if first is None:
            return []
        received = [first]
        until_s = time.monotonic() + _GATHER_S
        while len(received) < _GROUP:
            left_s = max(0.0, until_s - time.monotonic())
            more = self._subscription.read(
                min(_LULL_S, left_s) if len(received) >= _WINDOW else left_s
            )
            if more is None:
                break
            received.append(more)
        return received

    def _record(self, received: list[Received], stop: threading.Event) -> None:
        arrivals = []
        for message in received:
            read = arrival(
                message.topic,
                message.payload,
                _observed(message),
                message.retained or message.again,
            )
            if read is not None:
                arrivals.append(read)
            elif message.payload:
                self.unreadable += 1
                log.warning("%s: a message that cannot be read is not recorded", message.topic)
            elif (where := parse_topic(message.topic)) is not None and where[2] is Kind.STATE:
                # Somebody had the broker forget the station.
                self._alive.pop(Source(where[0], where[1]), None)
        done = self._commit(arrivals, stop)
        if done is None:
            return
        self._subscription.acknowledge(received)
        self.new += done.new
        self.repeated += done.repeated
        for (source, epoch, kind), (first, last) in done.lost:
            log.warning("%s: %s %d to %d of epoch %s are lost", source.root, kind.value, first,
                        last, epoch)  # fmt: skip
        if done.set_aside:
            log.warning("%d messages are kept in set_aside", done.set_aside)
        for (source, epoch, kind), upto in done.upto.items():
            self._ack(source, epoch, kind, upto)
        self._repeat(self._heed_states(arrivals))

    def _commit(self, arrivals: list[Arrival], stop: threading.Event) -> Recorded | None:
        """Retry until the database accepts them; None if stopped before."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                return self._store.record(arrivals)
            except SQLAlchemyError as error:
                said = " ".join(str(getattr(error, "orig", None) or error).split())
                self._tell_trouble(
                    f"the database rejects messages: {said[:300]}. They wait at the "
                    "broker and the stations"
                )
            if stop.wait(backoff_s):
                return None
            backoff_s = min(2 * backoff_s, _LAST_BACKOFF_S)

    def _heed_states(self, arrivals: Iterable[Arrival]) -> list[Source]:
        """Note which stations are alive. Returns those that have begun an epoch."""
        begun = []
        for one in arrivals:
            if not isinstance(one.message, StateMessage):
                continue
            if one.message.state is State.DEAD:
                self._alive.pop(one.source, None)
            elif self._alive.get(one.source) != one.epoch:
                self._alive[one.source] = one.epoch
                begun.append(one.source)
        # A station that began and died in the same group needs no acknowledgement.
        return [source for source in begun if source in self._alive]

    def _repeat(self, sources: Iterable[Source]) -> None:
        for source in sources:
            epoch = self._alive[source]
            try:
                uptos = [(kind, self._store.upto(source, epoch, kind)) for kind in KINDS]
            except SQLAlchemyError:
                # While the database is away, send nothing: silence tells the stations.
                return
            for kind, upto in uptos:
                self._ack(source, epoch, kind, upto)

    def _ack(self, source: Source, epoch: str, kind: Kind, upto: int) -> None:
        if self._acknowledge:
            ack = AckMessage.model_validate({"epoch": epoch, "kind": kind, "upto": upto})
            self._subscription.publish(
                f"{source.root}/ack", ack.model_dump_json(by_alias=True).encode()
            )

    def _take_in_labels(self) -> None:
        """Labels are only added to a file, so those at its beginning are known."""
        for file, known in self._labels.items():
            try:
                given = list(file.history())
                # A file that has fewer than before is another one.
                self._store.take_in(given[known if known <= len(given) else 0 :])
                self._labels[file] = len(given)
            except EdgeQCError as error:
                log.warning("labels wait in %s: %s", file.file, error)

    def _prune(self, keep_days: float) -> None:
        before = datetime.now(timezone.utc) - timedelta(days=keep_days)
        try:
            gone = self._store.prune(before)
        except SQLAlchemyError as error:
            log.warning("old records were not deleted: %s", error)
            gone = 0
        if gone == 0:
            self._pruned_s = time.monotonic()

    def _tell_trouble(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble is None:
                log.warning("recording again")
            else:
                log.warning("%s", trouble)


def _observed(message: Received) -> datetime | None:
    """When the broker had a state, by how much of its life it has counted down since."""
    if message.expires_s is None or not 0 <= message.expires_s <= STATE_LIFE_S:
        return None
    kept_s = STATE_LIFE_S - message.expires_s
    return datetime.now(timezone.utc) - timedelta(seconds=kept_s)
