"""Faults of outputs that only a person ends: kept on disk, so that no restart ends them either."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

from edge_qc.system.whole_file import sync_folder, write_whole

log = logging.getLogger(__name__)

FILE = "output-faults.json"
"""Its name in a station's ``state_dir``."""

_SEEN_FILE = "output-acknowledged.json"


class Latch:
    """May be used from any thread. A file that cannot be read is a fault of its own: what stood in
    it is not known."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._standing: dict[str, str] = {}
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            self._standing = {str(name): str(why) for name, why in document.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError) as error:
            self._standing = {"outputs": f"{file} cannot be read: {error}"}

    def standing(self) -> dict[str, str]:
        """By output, why it is in FAULT."""
        with self._lock:
            return dict(self._standing)

    def set(self, name: str, why: str) -> None:
        """From now on, until ``acknowledge``; what stood there stays."""
        with self._lock:
            if name not in self._standing:
                self._standing[name] = why
                self._keep()

    def acknowledge(self) -> dict[str, str]:
        """Acknowledge for a person. Returns the fault that stood."""
        with self._lock:
            before, self._standing = self._standing, {}
            self._keep()
            return before

    def acknowledge_for_next_start(self) -> dict[str, str]:
        """As ``acknowledge``, while no station runs that could publish it. Raises OSError, and ends
        nothing, if that cannot be noted for the next start."""
        seen = {**(self.seen_meanwhile() or {}), **self.standing()}
        # Root may write it, the station's user must read it.
        write_whole(self._file.with_name(_SEEN_FILE), json.dumps(seen).encode(), 0o644)
        return self.acknowledge()

    def seen_meanwhile(self) -> dict[str, str] | None:
        """What ``acknowledge_for_next_start`` ended; None if nobody called it."""
        try:
            document = json.loads(self._file.with_name(_SEEN_FILE).read_text(encoding="utf-8"))
            return {str(name): str(why) for name, why in document.items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError) as error:
            log.error("%s cannot be read: %s", self._file.with_name(_SEEN_FILE), error)
            return {}

    def forget_seen(self) -> None:
        """It is published."""
        try:
            self._file.with_name(_SEEN_FILE).unlink(missing_ok=True)
        except OSError as error:
            log.error("%s; the next start publishes it again", error)

    def _keep(self) -> None:
        try:
            if self._standing:
                write_whole(self._file, json.dumps(self._standing).encode())
            else:
                self._file.unlink(missing_ok=True)
                sync_folder(self._file.parent)
        except OSError as error:
            until = "stands until the next start only"
            if not self._standing:
                until = "was acknowledged, and stands again at the next start"
            log.error("%s: %s; the fault %s", self._file, error, until)
