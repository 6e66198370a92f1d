"""Sends notices by Apprise, which knows webhooks, e-mail and a hundred services by their URLs.

Each target is tried again by itself until it has taken a notice, so that one that is away neither
loses its notices nor repeats those of others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_qc.errors import PublishError, UsageError
from edge_qc.extras import how_to_install
from edge_qc.plant.notices.conditions import Notice

try:
    import apprise
except ImportError as error:
    raise PublishError(
        f"notices need Apprise, which is not installed here: {how_to_install('notices')}"
    ) from error

MOST_WAITING = 1000
_FIRST_REST_S, _LAST_REST_S = 5.0, 600.0
_TURN_S = 0.5

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Target:
    """name: for the log; a URL holds passwords."""

    name: str
    service: Any
    waiting: deque[Notice]
    rest_s: float = _FIRST_REST_S
    retry_s: float = 0.0


def read_targets(file: Path) -> list[str]:
    """The URLs in a file, one a line; # begins a comment. Raises UsageError if there are none."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    urls = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not urls:
        raise UsageError(
            f"{file} names no target; write one URL a line, such as jsons://host/path for a "
            "webhook or mailtos://user:password@host?to=shift@example for e-mail"
        )
    return urls


class Sender:
    """Sends on a thread of its own until closed."""

    def __init__(self, urls: list[str], *, rest_s: float = _FIRST_REST_S) -> None:
        """rest_s: how long to wait after a first failure. Raises UsageError for a URL that Apprise
        does not know."""
        self._first_rest_s = rest_s
        self._targets = [_target(number, url, rest_s) for number, url in enumerate(urls, 1)]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many targets have not taken everything yet."""
        return sum(bool(target.waiting) for target in self._targets)

    def send(self, notice: Notice) -> None:
        """Have every target get a notice."""
        log.warning("%s %s", notice.title, notice.text)
        for target in self._targets:
            if len(target.waiting) == MOST_WAITING:
                _tell_lost(target)
            target.waiting.append(notice)

    def close(self, timeout_s: float = 10.0) -> None:
        """Send what can be sent at once, and end."""
        self._closing.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            for target in self._targets:
                while target.waiting and time.monotonic() >= target.retry_s:
                    if not self._try(target):
                        break
            if closing:
                return
            self._closing.wait(_TURN_S)

    def _try(self, target: _Target) -> bool:
        # Taken first: a full queue drops its oldest when another notice comes meanwhile.
        notice = target.waiting.popleft()
        kind = apprise.NotifyType.SUCCESS if notice.over else apprise.NotifyType.WARNING
        try:
            taken = bool(
                target.service.notify(body=notice.text, title=notice.title, notify_type=kind)
            )
        except Exception:
            # Whatever a service's plugin raises must not end the others.
            log.exception("%s: a notice was not sent", target.name)
            taken = False
        if taken:
            target.rest_s = self._first_rest_s
        else:
            if len(target.waiting) < MOST_WAITING:
                target.waiting.appendleft(notice)
            else:
                _tell_lost(target)
            log.warning("%s does not take notices; %d wait", target.name, len(target.waiting))
            target.retry_s = time.monotonic() + target.rest_s
            target.rest_s = min(2 * target.rest_s, _LAST_REST_S)
        return taken


def _tell_lost(target: _Target) -> None:
    log.error("%s takes no notices: the oldest of %d is lost", target.name, MOST_WAITING)


def _target(number: int, url: str, rest_s: float) -> _Target:
    service = apprise.Apprise()
    scheme = url.partition(":")[0]
    if not service.add(url):
        raise UsageError(
            f"target {number} ({scheme}:…) is no address that Apprise knows; see "
            "https://appriseit.com/services/"
        )
    name = f"target {number} ({scheme}:…)"
    return _Target(name, service, deque(maxlen=MOST_WAITING), rest_s)
