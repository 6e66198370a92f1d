"""How long to wait before a lost camera is opened again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from ``first_s`` to ``most_s``, each drawn from its upper half, so that
    cameras that failed together do not return together."""

    first_s: float = 0.5
    most_s: float = 30.0

    def delay_s(self, attempt: int) -> float:
        """The delay before attempt 0, 1, …"""
        return min(self.most_s, self.first_s * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)
