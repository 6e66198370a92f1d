"""Keeps images while the station runs, on its own thread behind a short queue.

The line offers an image and goes on; if the thread is behind, the image is dropped and counted.
Before each image, and every few seconds, the keeper checks the free space: it deletes evidence
before the outbox runs short.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc.evidence.labels import Labels
from edge_qc.evidence.quota import Shelves, fill
from edge_qc.evidence.store import Exhibit, Store
from edge_qc.parts import Frame, Reading, Verdict, View
from edge_qc.system.priority import LAST, set_nice

if TYPE_CHECKING:
    from edge_qc.settings import EvidenceTable

log = logging.getLogger(__name__)

_QUEUE = 8
"""Images that may wait: each holds a whole frame."""
_TURN_S = 5.0
_PAUSE_S = 60.0
"""The pause after a disk error, which an immediate retry would only repeat."""
_LEAP_S = 3600.0
"""A clock that was set by more weighs all images again."""
_UNCERTAIN = 0.5
_MB = 2**20


@dataclass(frozen=True, slots=True)
class EvidenceStats:
    """images and bytes: what is kept. dropped: images that came faster than they could be written.
    failed: images that the disk refused."""

    images: int
    bytes: int
    dropped: int
    failed: int


@dataclass(frozen=True, slots=True, eq=False)
class _Offer:
    verdict_id: str
    frame: Frame
    view: View | None
    distances: NDArray[np.float32] | None
    label: str
    doubt: float
    describe: Callable[[], str]


def doubt(verdict: Verdict) -> float:
    """How close the two most probable labels are: 0 (sure) to 1; 1 if nothing was judged."""
    shares = sorted(verdict.probabilities.values(), reverse=True)
    if not shares:
        return 1.0
    second = shares[1] if len(shares) > 1 else 0.0
    return float(min(1.0, max(0.0, 1.0 - (shares[0] - second))))


class _Allowance:
    """Limits the images per minute and label; sure ones may use only half of it."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, label: str, uncertain: bool, now_s: float) -> bool:
        left, then_s = self._left.get(label, (float(self._per_minute), now_s))
        left = min(self._per_minute, left + (now_s - then_s) * self._per_minute / 60.0)
        taken = left >= (1.0 if uncertain else 1.0 + self._per_minute / 2)
        self._left[label] = (left - taken, now_s)
        return taken


class Evidence:
    """Starts at once. The line calls only ``offer``, from its one thread."""

    def __init__(
        self, store: Store, settings: EvidenceTable, tight: Callable[[], bool] = lambda: False
    ) -> None:
        """tight: whether the outbox is short of space; evidence is deleted while it is."""
        self._store, self._settings, self._tight = store, settings, tight
        self._allowance = _Allowance(settings.per_minute)
        self._queue: queue.Queue[_Offer | None] = queue.Queue(_QUEUE)
        self._shelves = Shelves()
        self._dropped = self._failed = 0
        self._stopping = threading.Event()
        self._paused_s = 0.0
        self._cramped = False
        self._refusal: str | None = None
        self._labels_seen = 0
        self._clock_s = 0.0
        self._stock: tuple[int, int] | None = None
        self._stocked = False
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> EvidenceStats:
        """Safe from any thread."""
        shelves = self._shelves
        return EvidenceStats(len(shelves), shelves.bytes, self._dropped, self._failed)

    @property
    def trouble(self) -> str | None:
        """Why no image can be kept now, or None. Safe from any thread."""
        if self._cramped:
            return (
                f"no images are kept: the disk of {self._store.folder} has no free space. Free some"
            )
        return self._refusal

    def offer(
        self,
        verdict_id: str,
        frame: Frame,
        view: View | None,
        reading: Reading | None,
        verdict: Verdict,
        describe: Callable[[], str],
    ) -> None:
        """Keep this image if there is room. Returns at once, copies nothing and never raises
        because of the disk. describe: returns the verdict as JSON; the keeper's thread calls it."""
        unsure = doubt(verdict)
        if not self._allowance.take(verdict.label, unsure >= _UNCERTAIN, time.monotonic()):
            return
        distances = None if reading is None else reading.distances
        try:
            self._queue.put_nowait(
                _Offer(verdict_id, frame, view, distances, verdict.label, unsure, describe)
            )
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, and end."""
        self._stopping.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout_s)
        if self._dropped or self._failed:
            log.info("evidence: %d images dropped, %d refused", self._dropped, self._failed)

    def _run(self) -> None:
        set_nice(LAST)
        offer = None
        while True:
            try:
                if self._stock_is_due():
                    self._take_stock()
                if self._weights_are_old():
                    self._shelve(self._shelves.exhibits())
                self._make_room()
                if offer is not None:
                    self._keep(offer)
            except (OSError, DataError) as error:
                self._refused(error)
            except Exception:
                log.exception("an image could not be kept; the verdicts stand")
            if self._stopping.is_set() and self._queue.empty():
                return
            try:
                offer = self._queue.get(timeout=0.2 if self._stopping.is_set() else _TURN_S)
            except queue.Empty:
                offer = None

    def _stock_is_due(self) -> bool:
        """At the start, until it succeeds, and where another folder came in its place: a share that
        was mounted late."""
        if time.monotonic() < self._paused_s:
            return False
        return not self._stocked or _place(self._store.folder) != self._stock

    def _weights_are_old(self) -> bool:
        if not self._stocked or time.monotonic() < self._paused_s:
            return False
        changed = _changed_ns(Labels(self._store.folder).file) != self._labels_seen
        return changed or abs(_clock_s() - self._clock_s) > _LEAP_S

    def _take_stock(self) -> None:
        self._stocked = False
        place = _place(self._store.folder)
        self._store.sweep()
        self._shelve(list(self._store.exhibits()))
        for surplus in self._shelves.surplus("", 0, self._settings.megabytes * _MB):
            self._store.remove(surplus)
        self._stock, self._stocked, self._refusal = place, True, None

    def _shelve(self, exhibits: Collection[Exhibit]) -> None:
        labels = Labels(self._store.folder)
        self._labels_seen, self._clock_s = _changed_ns(labels.file), _clock_s()
        shelves = Shelves()
        fill(shelves, exhibits, labels.latest().keys(), time.time())
        self._shelves = shelves

    def _keep(self, offer: _Offer) -> None:
        if self._cramped or not self._stocked or time.monotonic() < self._paused_s:
            return
        exhibit = self._store.add(
            offer.verdict_id,
            offer.label,
            offer.frame.time,
            offer.doubt,
            frame=offer.frame.pixels,
            verdict=offer.describe(),
            view=None if offer.view is None else offer.view.pixels[0],
            distances=offer.distances,
        )
        self._refusal = None
        self._shelves.put(exhibit, time.time())
        limit = self._settings.megabytes * _MB
        for surplus in self._shelves.surplus(exhibit.label, self._settings.images_per_label, limit):
            self._store.remove(surplus)

    def _make_room(self) -> None:
        """Delete evidence, the least valuable first, until the disk has room again."""
        before = self._cramped
        self._cramped = self._wanting()
        while self._cramped and (exhibit := self._shelves.take_least()) is not None:
            self._store.remove(exhibit)
            self._cramped = self._wanting()
        if self._cramped and not before:
            log.warning("evidence: the disk has no free space; no images are kept")

    def _wanting(self) -> bool:
        folder = self._store.folder
        while not folder.exists():
            folder = folder.parent
        room = os.statvfs(folder)
        wanted = self._settings.min_free_mb * _MB
        return room.f_bavail * room.f_frsize < wanted or self._tight()

    def _refused(self, error: Exception) -> None:
        self._failed += 1
        if time.monotonic() < self._paused_s:
            # A pause that each refusal made longer would never end.
            return
        log.warning("evidence: %s; next try in a minute", error)
        self._refusal = f"no images are kept: {error}"
        self._paused_s = time.monotonic() + _PAUSE_S


def _changed_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _place(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _clock_s() -> float:
    """How far the clock is from one that nobody sets."""
    return time.time() - time.monotonic()
