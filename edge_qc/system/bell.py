"""Wakes a thread that polls descriptors, from any other thread."""

from __future__ import annotations

import os
import threading


class Bell:
    """Wakes the thread that polls it, from any other."""

    def __init__(self) -> None:
        self._number = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._rung = self._closed = False

    def fileno(self) -> int:
        """Readable when it has rung."""
        return self._number

    def ring(self) -> None:
        """Of no effect when it has rung already, or is closed."""
        with self._lock:
            if not self._rung and not self._closed:
                self._rung = True
                os.eventfd_write(self._number, 1)

    def hush(self) -> None:
        """Make it ready to ring again."""
        with self._lock:
            if self._rung and not self._closed:
                self._rung = False
                os.eventfd_read(self._number)

    def close(self) -> None:
        """Nobody may poll it any more; it may still be rung."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._number)
