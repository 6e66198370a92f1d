"""Labels by people: appended to ``labels.jsonl``, never changed; the last one counts."""

from __future__ import annotations

import json
import os
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from edge_qc.errors import DataError

LABELS_FILE = "labels.jsonl"
UNUSABLE = "UNUSABLE"
"""The label for an image that is of no use for training; it is not exported."""
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Label:
    """said: the station's label. who: the person's name. time: RFC 3339, UTC."""

    verdict_id: str
    label: str
    said: str
    who: str
    time: str


class Labels:
    """The labels of the images below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LABELS_FILE
        self._lock = threading.Lock()

    def add(self, verdict_id: str, label: str, said: str, who: str) -> Label:
        """Append a label; durable when this returns. Raises DataError if label or name is empty,
        too long or not printable, or the disk fails."""
        for what, text in (("label", label), ("name", who)):
            if not text.strip() or len(text) > _LONGEST or not text.isprintable():
                raise DataError(f"{what} {text!r}: wanted 1 to {_LONGEST} printable characters")
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        given = Label(verdict_id, _composed(label.strip()), said, who.strip(), time)
        line = json.dumps(asdict(given), ensure_ascii=False) + "\n"
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
        """All labels in order; an incomplete line is skipped. Raises DataError if the file cannot
        be read."""
        try:
            lines = self.file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"labels {self.file}: {error}") from error
        for line in lines:
            try:
                label = Label(**json.loads(line))
                yield replace(label, label=_composed(label.label))
            except (ValueError, TypeError):
                continue

    def latest(self) -> Mapping[str, Label]:
        """The label that counts, by verdict id."""
        return {label.verdict_id: label for label in self.history()}


def _composed(name: str) -> str:
    """The name in NFC: keyboards of different systems write one accent in two ways."""
    return unicodedata.normalize("NFC", name)
