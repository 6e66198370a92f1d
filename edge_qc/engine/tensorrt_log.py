"""TensorRT's messages: logs them and remembers the last ones, because TensorRT returns None on a
failure and gives the reason only here."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger("edge_qc.tensorrt")

_REMEMBERED = 20


class Messages:
    """The last errors and warnings, oldest first."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=_REMEMBERED)

    def note(self, level: int, text: str) -> None:
        """Takes one message; called from TensorRT's threads."""
        log.log(level, "%s", text)
        if level >= logging.ERROR:
            self._errors.append(text)

    def errors(self) -> list[str]:
        """The errors since the last ``forget``."""
        return list(self._errors)

    def forget(self) -> None:
        self._errors.clear()

    def why(self) -> str:
        """The errors in one text; says so where TensorRT said nothing."""
        return "; ".join(dict.fromkeys(self._errors)) or "TensorRT gave no reason"


def logger_of(messages: Messages) -> trt.ILogger:
    """What TensorRT writes to. Keep it: TensorRT does not."""
    import tensorrt as trt

    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
    }

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            # TensorRT calls from C++ that cannot take an exception.
            try:
                messages.note(levels.get(severity, logging.DEBUG), msg)
            except Exception:
                log.exception("a message of TensorRT's was lost")

    return Logger()
