"""Labels by people: only added, never changed; the last one of a verdict counts.

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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
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


class Labels:
    """The labels of the images below ``folder``, in a file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LABELS_FILE
        self._lock = threading.Lock()

    def add(self, verdict_id: str, label: str, said: str, who: str, note: str = "") -> Label:
        """See ``LabelStore``."""
        return self.append(new_label(verdict_id, label, said, who, note))

    def withdraw(self, verdict_id: str, who: str) -> None:
        """See ``LabelStore``."""
        self.append(withdrawal(verdict_id, who))

    def append(self, given: Label) -> Label:
        """Write one label; durable when this returns. Raises DataError if the disk fails."""
        fields = asdict(given)
        if not given.note:
            del fields["note"]
        line = json.dumps(fields, ensure_ascii=False) + "\n"
        try:
            with self._lock, open(self.file, "a+b") as stream:
                # A power cut may have left an incomplete line.
                if stream.tell() and not self._ends_whole(stream.fileno(), stream.tell()):
                    line = "\n" + line
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise DataError(f"labels {self.file}: {error}") from error
        return given

    @staticmethod
    def _ends_whole(fd: int, size: int) -> bool:
        return os.pread(fd, 1, size - 1) == b"\n"

    def history(self) -> Iterator[Label]:
        """All labels in order; a line that is no whole label is skipped. Raises DataError if the
        file cannot be read."""
        try:
            lines = self.file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"labels {self.file}: {error}") from error
        for line in lines:
            try:
                label = Label(**json.loads(line))
                time = datetime.fromisoformat(label.time.replace("Z", "+00:00"))
                told = replace(label, label=_composed(label.label), time=_written(time))
            except (ValueError, TypeError, AttributeError):
                continue
            yield told

    def latest(self) -> Mapping[str, Label]:
        """See ``LabelStore``."""
        last = {label.verdict_id: label for label in self.history()}
        return {key: label for key, label in last.items() if label.label != WITHDRAWN}


def _composed(name: str) -> str:
    """The name in NFC: keyboards of different systems write one accent in two ways."""
    return unicodedata.normalize("NFC", name)
