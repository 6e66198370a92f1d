"""Publishes people's words on views in REVIEW.

A label is in its file beside the images before anybody hears of it (``evidence.labels``). This
thread reads the file from where it stopped, also across restarts, and puts an ``…/overrule`` into
the outbox for each label of a view whose verdict was REVIEW. The verdict itself stays as it was
given.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from datetime import datetime
from pathlib import Path

from edge_qc.errors import DataError, EdgeQCError
from edge_qc.evidence import Exhibit, Label, Labels, Store
from edge_qc.evidence.labels import WITHDRAWN
from edge_qc.parts import Disposition
from edge_qc.publisher import Outbox, OverruleContent
from edge_qc.publisher.messages import DETAIL_LIMIT
from edge_qc.system.whole_file import write_whole

TOLD_FILE = "overrules.json"
"""Below ``state_dir``: how many of the file's labels the outbox has heard of."""

_TURN_S = 2.0
_DURABLE_S = 30.0
_SPACE = uuid.UUID("6d8ac4b7-5b7e-4a53-9a2f-0a6a3a1d0c55")
"""Any fixed one: the same label has the same id, whenever it is published."""

log = logging.getLogger(__name__)


class Overrules:
    """Starts at once. Labels that are older than a station's first start are not
    published."""

    def __init__(self, store: Store, outbox: Outbox, state_dir: Path) -> None:
        self._store, self._labels, self._outbox = store, Labels(store.folder), outbox
        self._file = state_dir / TOLD_FILE
        self._seen: tuple[int, int] | None = None
        self._told: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="overrules", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Tell what is there, and end."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            last = self._stopping.is_set()
            try:
                self._tell()
            except (EdgeQCError, OSError, TimeoutError) as error:
                log.warning("overrules wait in %s: %s", self._labels.file, error)
            except Exception:
                log.exception("overrules wait in %s", self._labels.file)
            if last:
                return
            self._stopping.wait(_TURN_S)

    def _tell(self) -> None:
        seen = _state_of(self._labels.file)
        if seen == self._seen:
            return
        given = list(self._labels.history())
        if self._told is None:
            self._told = self._read(len(given))
        # A file that has fewer than before is another one.
        start = self._told if self._told <= len(given) else 0
        for number, label in enumerate(given[start:], start + 1):
            content = self._content(label)
            if content is not None:
                self._outbox.overrule(content).result(_DURABLE_S)
                self._write(number)
        self._write(len(given))
        self._seen = seen

    def _content(self, label: Label) -> OverruleContent | None:
        """None where the verdict was no REVIEW, and where its image is damaged or no longer
        kept."""
        exhibit = self._store.find(label.verdict_id)
        try:
            return None if exhibit is None else _overrule(label, exhibit)
        except (DataError, ValueError) as error:
            log.warning("a label of %s is not told: %s", label.verdict_id, error)
            return None

    def _read(self, labels: int) -> int:
        """How many have been published; all of them at a station's first start."""
        try:
            return int(json.loads(self._file.read_text(encoding="utf-8"))["told"])
        except FileNotFoundError:
            self._write(labels)
            return labels
        except (ValueError, TypeError, KeyError):
            # Again rather than never: their ids are the same.
            return 0

    def _write(self, told: int) -> None:
        if told == self._told:
            return
        write_whole(self._file, json.dumps({"told": told}).encode())
        self._told = told


def _overrule(label: Label, exhibit: Exhibit) -> OverruleContent | None:
    verdict = exhibit.verdict()
    if verdict.get("disposition") != Disposition.REVIEW.value:
        return None
    taken_back = label.label == WITHDRAWN
    what = "overruled" if label.label != exhibit.label else "confirmed"
    return OverruleContent.model_validate(
        {
            **{name: verdict.get(name) for name in ("part_id", "lot", "serial", "bundle")},
            "overrule_id": str(uuid.uuid5(_SPACE, f"{label.verdict_id} {label}")),
            "verdict_id": label.verdict_id,
            "camera": verdict.get("camera"),
            "die": verdict.get("die"),
            "verdict_time": verdict.get("time") or exhibit.time,
            "time": datetime.fromisoformat(label.time),
            "what": "withdrawn" if taken_back else what,
            "said": exhibit.label,
            "label": None if taken_back else label.label,
            "who": label.who,
            "why": label.note[:DETAIL_LIMIT],
        }
    )


def _state_of(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
