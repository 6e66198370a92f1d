"""Whether the ejector followed its command: every REJECT expects one edge within a window; pure."""

from __future__ import annotations

from collections import deque


class Confirmation:
    """after_s, within_s: the window, from the moment of the REJECT. Used with a lock held."""

    def __init__(self, after_s: float, within_s: float) -> None:
        self._after_s, self._within_s = after_s, within_s
        self._expected: deque[tuple[float, int]] = deque()

    def expect(self, counter: int, at_s: float) -> None:
        """Result ``counter`` is a REJECT, at the ejector at ``at_s`` (``time.monotonic``)."""
        self._expected.append((at_s, counter))

    def edge(self, at_s: float) -> int | None:
        """The ejector moved: the result that this confirms, None if none expects it."""
        for index, (since_s, counter) in enumerate(self._expected):
            if since_s + self._after_s <= at_s <= since_s + self._within_s:
                del self._expected[index]
                return counter
        return None

    def overdue(self, now_s: float) -> list[int]:
        """The results whose window is over without an edge; each is reported once."""
        late = []
        while self._expected and self._expected[0][0] + self._within_s < now_s:
            late.append(self._expected.popleft()[1])
        return late

    def next_s(self) -> float:
        """When the next window is over; infinite if none is open."""
        return self._expected[0][0] + self._within_s if self._expected else float("inf")

    def forget(self) -> None:
        """Expect nothing more: the ejector's commands meanwhile are unknown."""
        self._expected.clear()
