"""The recorder as its station sees it: what it has acknowledged, whether it responds, and when to
resend.

A PUBACK means that the broker has a message. The recorder's acknowledgement means that the plant's
database has it and every one before it. Pure bookkeeping; ``session`` sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from edge_qc.publisher.ledger.statements import Stored
from edge_qc.publisher.messages import AckMessage, Kind

RESEND_S = 15.0
_LAST_RESEND_S = 300.0


@dataclass(slots=True)
class _Stream:
    """sent: the highest number sent. moved_s: when the acknowledgement last advanced, or when the
    first unacknowledged number was sent."""

    sent: int
    upto: int
    moved_s: float


class RecorderWatch:
    """For the sender's thread only; outlives connections."""

    def __init__(self, epoch: str, silent_s: float) -> None:
        """silent_s: how long the recorder may stay silent while the station is connected."""
        self._epoch, self._silent_s = epoch, silent_s
        self._streams: dict[tuple[str, Kind], _Stream] = {}
        self._heard_s: float | None = None
        self._silent_since: str | None = None
        self._patience_s = RESEND_S

    def connected(self, now_s: float) -> None:
        """Start a new connection, on which everything unacknowledged is sent again."""
        self._streams = {key: stream for key, stream in self._streams.items() if self._mine(key)}
        for stream in self._streams.values():
            stream.moved_s = now_s
        self._heard_s = now_s

    def sent(self, message: Stored, now_s: float) -> None:
        key = message.epoch, message.kind
        stream = self._streams.get(key)
        if stream is None:
            self._streams[key] = _Stream(message.seq, message.seq - 1, now_s)
            return
        if stream.sent <= stream.upto:
            stream.moved_s = now_s
        stream.sent = max(stream.sent, message.seq)

    def heard(self, ack: AckMessage, now_s: float) -> bool:
        """Whether an acknowledgement is plausible: nobody can have recorded what this run has not
        sent yet."""
        key = ack.epoch, ack.kind
        stream = self._streams.get(key)
        if self._mine(key) and ack.upto > (stream.sent if stream is not None else 0):
            return False
        self._heard_s = now_s
        if stream is not None and ack.upto > stream.upto:
            stream.upto, stream.moved_s = ack.upto, now_s
            self._patience_s = RESEND_S
            if stream.upto >= stream.sent and not self._mine(key):
                del self._streams[key]
        return True

    def wants_again(self, now_s: float) -> bool:
        """Whether the recorder responds but has not advanced for so long that a message must have
        been lost. Each True asks for one resend; the next one takes longer."""
        stalled = [
            stream
            for stream in self._streams.values()
            if stream.sent > stream.upto and now_s - stream.moved_s > self._patience_s
        ]
        if self.silence(now_s) is not None or self._heard_s is None:
            return False
        if not any(self._heard_s > stream.moved_s + RESEND_S / 2 for stream in stalled):
            return False
        for stream in self._streams.values():
            stream.moved_s = now_s
        self._patience_s = min(2 * self._patience_s, _LAST_RESEND_S)
        return True

    def silence(self, now_s: float) -> str | None:
        """A warning if the recorder is silent; None while it responds."""
        if self._heard_s is None or now_s - self._heard_s <= self._silent_s:
            self._silent_since = None
            return None
        if self._silent_since is None:
            # Words that stay: they are part of the station's state, which each change publishes.
            since = datetime.now(timezone.utc) - timedelta(seconds=now_s - self._heard_s)
            self._silent_since = f"{since:%Y-%m-%dT%H:%M:%SZ}"
        return (
            f"the recorder has been silent since {self._silent_since}: check that edge-qc record "
            "runs and that its account may write to ack. Nothing is lost; the outbox grows"
        )

    def _mine(self, key: tuple[str, Kind]) -> bool:
        return key[0] == self._epoch
