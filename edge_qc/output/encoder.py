"""How far the belt has moved: the edges of its encoder, counted; pure.

The way from the camera to the ejector is a number of edges, whatever the belt's speed.
"""

from __future__ import annotations

from collections import deque

_KEPT = 16_384
"""Edges whose moments are remembered: at 1 000 a second, 16 s between trigger and verdict."""


class Encoder:
    """Used with a lock held. count: edges since the start."""

    def __init__(self) -> None:
        self.count = 0
        self._moments: deque[float] = deque(maxlen=_KEPT)
        self._whole_since_s = float("-inf")

    def edge(self, at_s: float) -> None:
        """The belt moved on at ``at_s`` (``time.monotonic``)."""
        self.count += 1
        self._moments.append(at_s)

    def lost(self, now_s: float) -> None:
        """Edges were missed: where the parts before ``now_s`` are, nobody knows any more."""
        self._whole_since_s = now_s
        self._moments.clear()

    def passed(self, at_s: float) -> int | None:
        """The count as it was at ``at_s``; None if that is not known."""
        if at_s < self._whole_since_s:
            return None
        later = 0
        for moment in reversed(self._moments):
            if moment <= at_s:
                break
            later += 1
        return None if later == _KEPT else self.count - later

    def moment(self, count: int) -> float:
        """When the edge ``count`` came; long ago if that is forgotten."""
        back = self.count - count
        return self._moments[-1 - back] if back < len(self._moments) else float("-inf")
