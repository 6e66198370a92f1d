"""Labels by people: only added, never changed; the last one of a verdict counts, by its time.

Each is given a time behind that of the one before, so that a clock that is set back does not make
it count for less.

There is one store, whichever command writes: the plant's records where a database is named
(``plant.recorder.labels.RecordedLabels``), else ``labels.jsonl`` beside the images (``Labels``,
here), which the records take in later. Code that shows or accepts labels takes a ``LabelStore`` and
never asks which of the two it is:

    labels.add(verdict_id, "Missing", said="GOOD", who="ann", note="seen under the microscope")
    labels.latest()[verdict_id].label      # "Missing"
    labels.withdraw(verdict_id, who="ann") # undo: no label counts any more
"""

from __future__ import annotations

import json
import os
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Protocol

from edge_qc.errors import DataError

LABELS_FILE = "labels.jsonl"
UNUSABLE = "UNUSABLE"
"""The label for an image that is of no use for training; it is not exported."""
WITHDRAWN = ""
"""What stands in a label's place once a person has taken it back."""
_LONGEST, _LONGEST_NOTE = 64, 2000


@dataclass(frozen=True, slots=True)
class Label:
    """said: the station's label; empty if unknown. who: the person's name. time: RFC 3339, UTC.
    note: how it was found."""

    verdict_id: str
    label: str
    said: str
    who: str
    time: str
    note: str = ""


class LabelStore(Protocol):
    """Safe from any thread."""

    def add(self, verdict_id: str, label: str, said: str, who: str, note: str = "") -> Label:
        """Add a label; durable when this returns. Raises DataError if label or name is empty, too
        long or not printable, EdgeQCError if it cannot be stored."""

    def withdraw(self, verdict_id: str, who: str) -> None:
        """Take a verdict's label back: none counts until another is added. What was there stays in
        the history."""

    def latest(self) -> Mapping[str, Label]:
        """The label that counts, by verdict id; withdrawn ones are not among them."""


def new_label(verdict_id: str, label: str, said: str, who: str, note: str = "") -> Label:
    """A label given now. Raises DataError, see ``LabelStore.add``."""
    for what, text in (("label", label), ("name", who)):
        if not text.strip() or len(text) > _LONGEST or not text.isprintable():
            raise DataError(f"{what} {text!r}: wanted 1 to {_LONGEST} printable characters")
    return _now(verdict_id, _composed(label.strip()), said, who.strip(), note[:_LONGEST_NOTE])


def withdrawal(verdict_id: str, who: str) -> Label:
    """The label that takes a label back."""
    return _now(verdict_id, WITHDRAWN, "", who.strip())


def _now(verdict_id: str, label: str, said: str, who: str, note: str = "") -> Label:
    return Label(verdict_id, label, said, who, _written(datetime.now(timezone.utc)), note)


def _written(time: datetime) -> str:
    """One without a zone is UTC."""
    known = time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
    return known.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def behind(given: Label, last: datetime | None) -> Label:
    """A label given now, with a time behind that of its verdict's last one."""
    if last is None or datetime.fromisoformat(given.time) > last:
        return given
    try:
        return replace(given, time=_written(last + timedelta(milliseconds=1)))
    except OverflowError:
        return given


class Labels:
    """The labels of the images below ``folder``, in a file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LABELS_FILE
        self._lock = threading.Lock()
        self._last: dict[str, str] = {}
        self._read_bytes = 0

    def add(self, verdict_id: str, label: str, said: str, who: str, note: str = "") -> Label:
        """See ``LabelStore``."""
        return self._add(new_label(verdict_id, label, said, who, note))

    def withdraw(self, verdict_id: str, who: str) -> None:
        """See ``LabelStore``."""
        self._add(withdrawal(verdict_id, who))

    def append(self, given: Label) -> Label:
        """Write one label as it is; durable when this returns. Raises DataError if the disk
        fails."""
        with self._lock:
            self._write(given)
        return given

    def _add(self, given: Label) -> Label:
        with self._lock:
            self._read_new()
            last = self._last.get(given.verdict_id)
            given = behind(given, None if last is None else datetime.fromisoformat(last))
            self._write(given)
        return given

    def _read_new(self) -> None:
        """Note the last time of each verdict's labels, from what the file has gained: other
        programs write it too."""
        try:
            with open(self.file, "rb") as stream:
                if os.fstat(stream.fileno()).st_size < self._read_bytes:
                    self._last, self._read_bytes = {}, 0
                stream.seek(self._read_bytes)
                gained = stream.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"labels {self.file}: {error}") from error
        whole = gained[: gained.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for label in _labels_in(whole.decode("utf-8-sig", "replace").split("\n")):
            self._last[label.verdict_id] = max(label.time, self._last.get(label.verdict_id, ""))

    def _write(self, given: Label) -> None:
        fields = asdict(given)
        if not given.note:
            del fields["note"]
        line = json.dumps(fields, ensure_ascii=False) + "\n"
        try:
            with open(self.file, "a+b") as stream:
                # A power cut may have left an incomplete line.
                if stream.tell() and not self._ends_whole(stream.fileno(), stream.tell()):
                    line = "\n" + line
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise DataError(f"labels {self.file}: {error}") from error

    @staticmethod
    def _ends_whole(fd: int, size: int) -> bool:
        return os.pread(fd, 1, size - 1) == b"\n"

    def history(self) -> Iterator[Label]:
        """All labels in order; a line that is no whole label is skipped. Raises DataError if the
        file cannot be read."""
        try:
            text = self.file.read_text(encoding="utf-8-sig", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"labels {self.file}: {error}") from error
        # Not splitlines: a note may hold a line separator of Unicode, which JSON leaves as it is.
        yield from _labels_in(text.split("\n"))

    def latest(self) -> Mapping[str, Label]:
        """See ``LabelStore``."""
        last: dict[str, Label] = {}
        for label in self.history():
            if label.verdict_id not in last or label.time >= last[label.verdict_id].time:
                last[label.verdict_id] = label
        return {key: label for key, label in last.items() if label.label != WITHDRAWN}


def _labels_in(lines: Iterable[str]) -> Iterator[Label]:
    for line in lines:
        try:
            label = Label(**json.loads(line))
            time = datetime.fromisoformat(label.time.replace("Z", "+00:00"))
            told = replace(label, label=_composed(label.label), time=_written(time))
        except (ValueError, TypeError, AttributeError, OverflowError):
            continue
        if all(isinstance(text, str) for text in asdict(told).values()):
            yield told


def _composed(name: str) -> str:
    """The name in NFC: keyboards of different systems write one accent in two ways."""
    return unicodedata.normalize("NFC", name)
