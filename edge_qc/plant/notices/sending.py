"""Sends notices by Apprise, which knows webhooks, e-mail and a hundred services by their URLs.

Each target is tried again by itself until it has taken a notice, so that one that is away neither
loses its notices nor repeats those of others. A notice that a target refuses, while it takes
another, is given up.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from edge_qc.errors import PublishError, SettingsError, UsageError
from edge_qc.extras import how_to_install
from edge_qc.plant.notices.conditions import Notice
from edge_qc.redaction import HIDDEN

try:
    import apprise
except ImportError as error:
    raise PublishError(
        f"notices need Apprise, which is not installed here: {how_to_install('notices')}"
    ) from error

MOST_WAITING = 1000
_FIRST_REST_S, _LAST_REST_S = 5.0, 600.0
_TURN_S = 0.5
_REFUSALS = 5
"""After so many, whether it is the target or this notice: another one tells."""

log = logging.getLogger(__name__)
_APPRISE = logging.getLogger("apprise")


class _Masking(logging.Filter):
    """Hides every part of the targets' URLs in what Apprise logs: of a hundred services any part
    may be the secret, the host too. What is left still says why a target refused."""

    _SHORTEST = 4

    def __init__(self) -> None:
        super().__init__()
        self._parts: set[str] = set()

    def know(self, url: str) -> None:
        for text in (url, unquote(url)):
            parts = re.split(r"[/:@?&=#,;+\s]+", text.partition("://")[2])
            self._parts |= {part for part in parts if len(part) >= self._SHORTEST}

    def masked(self, text: str) -> str:
        # The longest first: one part may hold another.
        for part in sorted(self._parts, key=len, reverse=True):
            text = text.replace(part, HIDDEN)
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.masked(record.getMessage()), ()
        # A traceback ends with the exception's words, which may hold the whole URL.
        record.exc_info = record.exc_text = None
        return True


_MASKING = _Masking()
_APPRISE.addFilter(_MASKING)


@contextmanager
def _silenced() -> Iterator[None]:
    """Apprise logs a URL that it does not know as it stands."""
    before, _APPRISE.disabled = _APPRISE.disabled, True
    try:
        yield
    finally:
        _APPRISE.disabled = before


@dataclass(slots=True)
class _Target:
    """name: for the log; a URL holds passwords. refusals: of the notice that waits longest."""

    name: str
    service: Any
    waiting: deque[Notice]
    rest_s: float = _FIRST_REST_S
    retry_s: float = 0.0
    refusals: int = 0


def read_targets(file: Path) -> list[str]:
    """The URLs in a file, one a line; # begins a comment. Raises UsageError if there are none,
    SettingsError if the file is not UTF-8."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        # The error's own words hold a byte of a password.
        raise SettingsError(f"--targets-file: {file} is not UTF-8. Save it as UTF-8") from None
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
        taken = _takes(target, notice)
        if not taken:
            target.refusals += 1
            taken = target.refusals >= _REFUSALS and self._takes_another(target)
            if taken:
                log.error("%s refuses a notice and takes others: given up: %s", target.name,
                          notice.title)  # fmt: skip
        if taken:
            target.rest_s, target.refusals = self._first_rest_s, 0
            return True
        if len(target.waiting) < MOST_WAITING:
            target.waiting.appendleft(notice)
        else:
            _tell_lost(target)
        log.warning("%s does not take notices; %d wait", target.name, len(target.waiting))
        target.retry_s = time.monotonic() + target.rest_s
        target.rest_s = min(2 * target.rest_s, _LAST_REST_S)
        return False

    def _takes_another(self, target: _Target) -> bool:
        """Whether a target takes one that waits behind the first: each time another is tried, since
        the next may be one that it refuses too."""
        if not target.waiting:
            return False
        place = (target.refusals - _REFUSALS) % len(target.waiting)
        other = target.waiting[place]
        if not _takes(target, other):
            return False
        # By identity, not place: a full queue may have dropped its oldest meanwhile.
        for at, one in enumerate(target.waiting):
            if one is other:
                del target.waiting[at]
                break
        return True


def _takes(target: _Target, notice: Notice) -> bool:
    kind = apprise.NotifyType.SUCCESS if notice.over else apprise.NotifyType.WARNING
    try:
        return bool(target.service.notify(body=notice.text, title=notice.title, notify_type=kind))
    except Exception as error:
        # Whatever a service's plugin raises must not end the others. No traceback: its last line
        # may hold the URL.
        why = f"{type(error).__name__}: {_MASKING.masked(str(error))}"
        log.error("%s: a notice was not sent: %s", target.name, why)
        return False


def _tell_lost(target: _Target) -> None:
    log.error("%s takes no notices: the oldest of %d is lost", target.name, MOST_WAITING)


def _target(number: int, url: str, rest_s: float) -> _Target:
    service = apprise.Apprise()
    scheme, found, _ = url.partition("://")
    # Without "://" the whole line may be the secret.
    name = f"target {number} ({scheme}:…)" if found else f"target {number}"
    _MASKING.know(url)
    with _silenced():
        added = service.add(url)
    if not added:
        raise UsageError(
            f"{name} is no address that Apprise knows; see https://appriseit.com/services/"
        )
    return _Target(name, service, deque(maxlen=MOST_WAITING), rest_s)
