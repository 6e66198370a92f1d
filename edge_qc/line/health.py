"""The station's own figures: rates, latencies, memory, temperatures.

It only counts and reads; the line and people decide what follows.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from pathlib import Path

import numpy as np

_WINDOW_S = 60.0
_WINDOW_VERDICTS = 2_000


class Health:
    """Counts verdicts, from one thread."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._labels: Counter[str] = Counter()
        self._recent: deque[tuple[float, float]] = deque(maxlen=_WINDOW_VERDICTS)
        self._last_s: float | None = None

    def count(self, label: str, total_ms: float) -> None:
        """Count one verdict. total_ms: from frame to verdict."""
        self._last_s = time.monotonic()
        self._labels[label] += 1
        self._recent.append((self._last_s, total_ms))

    def snapshot(self) -> dict[str, object]:
        """The current figures: verdicts by label since the start; rate (1/s) and latency (ms) over
        the last minute; age of the last verdict (s, None before the first); resident memory
        (bytes); temperatures (degrees Celsius, by zone)."""
        now = time.monotonic()
        while self._recent and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()
        latencies = [total for _, total in self._recent]
        span = min(_WINDOW_S, max(now - self._started_s, 1e-3))
        if len(self._recent) == _WINDOW_VERDICTS:
            span = max(now - self._recent[0][0], 1e-3)
        return {
            "uptime_s": now - self._started_s,
            "verdicts": dict(self._labels),
            "rate_per_s": len(latencies) / span,
            "latency_ms": {
                "p50": float(np.percentile(latencies, 50)),
                "p99": float(np.percentile(latencies, 99)),
            }
            if latencies
            else {},
            "last_verdict_age_s": None if self._last_s is None else now - self._last_s,
            "memory_bytes": resident_memory(),
            "temperatures_c": temperatures(),
        }


def resident_memory() -> int:
    """This process's resident memory in bytes; 0 if /proc does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_memory(root: Path = Path("/")) -> int:
    """How many bytes this process may still allocate: the smaller of the machine's free memory and
    what its control group leaves. Files that the kernel keeps in memory give way."""
    meminfo = _text(root / "proc/meminfo").splitlines()
    left = [int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable:")]
    group = _text(root / "proc/self/cgroup").partition("0::/")[2]
    folder = root / "sys/fs/cgroup" / group
    most, taken = _text(folder / "memory.max"), _text(folder / "memory.current")
    if most.isdigit() and taken.isdigit():
        stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
        files = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))
        left.append(int(most) - int(taken) + files)
    return max(0, min(left, default=0))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def temperatures(root: Path = Path("/sys/class/thermal")) -> dict[str, float]:
    """Degrees Celsius by thermal zone, as the kernel reports them; may be empty."""
    found = {}
    for zone in sorted(root.glob("thermal_zone*")):
        try:
            name = (zone / "type").read_text(encoding="ascii").strip()
            found[name] = int((zone / "temp").read_text(encoding="ascii")) / 1000
        except (OSError, ValueError):
            continue
    return found
