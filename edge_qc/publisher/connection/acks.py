"""The recorder's acknowledgements on their way from the inbox's thread to the sender's."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable

from edge_qc.errors import PublishError
from edge_qc.publisher.connection.recorded import RecorderWatch
from edge_qc.publisher.ledger.outbox import Outbox
from edge_qc.publisher.messages import AckMessage
from edge_qc.publisher.wire import read_ack

log = logging.getLogger(__name__)


class Acks:
    """wake: called from the inbox's thread when one has come."""

    def __init__(self, recorder: RecorderWatch, outbox: Outbox, wake: Callable[[], None]) -> None:
        self._recorder, self._outbox, self._wake = recorder, outbox, wake
        self._waiting: queue.Queue[AckMessage] = queue.Queue()

    def take(self, payload: bytes, _came_s: float) -> None:
        """Takes a message; one that cannot be read is logged."""
        try:
            self._waiting.put(read_ack(payload))
        except PublishError as error:
            log.warning("%s", error)
        self._wake()

    def heed(self) -> list[str]:
        """Release what the recorder has acknowledged; for the sender's thread. Return a warning if
        the recorder is silent."""
        now_s = time.monotonic()
        while not self._waiting.empty():
            ack = self._waiting.get()
            if self._recorder.heard(ack, now_s):
                self._outbox.acknowledged(ack.epoch, ack.kind, ack.upto)
            else:
                log.warning(
                    "ignored an ack of %s %d, which this station never sent",
                    ack.kind.value,
                    ack.upto,
                )
        silence = self._recorder.silence(now_s)
        return [silence] if silence is not None else []
