"""Access control: only this machine's users, unless there is a password.

All users share one password. A session is verified from its cookie alone, so that a wall screen
stays logged in when the dashboard restarts.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from pathlib import Path

from edge_qc.errors import SettingsError, UsageError
from edge_qc.redaction import redacted_uri
from edge_qc.settings.host import bare_host

COOKIE = "edge_qc_dashboard"
SESSION_S = 14 * 24 * 3600
_FEWEST = 10


class Login:
    """Checks passwords and sessions. The session key derives from the password, so a new password
    ends every session."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._key = hashlib.scrypt(
            self._password, salt=b"edge-qc dashboard session", n=2**14, r=8, p=1
        )

    @classmethod
    def from_file(cls, file: Path) -> Login:
        """The password is the file's first line. Raises SettingsError."""
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise SettingsError(f"--login-file: {file} is not UTF-8. Save it as UTF-8") from None
        except OSError as error:
            raise SettingsError(f"--login-file: {error}. Name a file with a password") from error
        if not lines or len(lines[0]) < _FEWEST:
            raise SettingsError(
                f"{file}: the first line must be a password of at least {_FEWEST} characters. "
                "Make one with: openssl rand -base64 18"
            )
        return cls(lines[0])

    def is_right(self, password: str) -> bool:
        return hmac.compare_digest(password.encode(), self._password)

    def session(self, now_s: float | None = None) -> str:
        """A new session's cookie."""
        until = int((time.time() if now_s is None else now_s) + SESSION_S)
        told = f"{until}.{secrets.token_hex(8)}"
        return f"{told}.{self._signature(told)}"

    def knows(self, cookie: str, now_s: float | None = None) -> bool:
        """Whether a cookie belongs to a session that is still valid."""
        told, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(told).encode()):
            return False
        return int(told.partition(".")[0]) > (time.time() if now_s is None else now_s)

    def _signature(self, told: str) -> str:
        return hmac.new(self._key, told.encode(), hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_login(host: str, login: Login | None) -> None:
    """Raises UsageError if others could look without a password, and for what is no host."""
    try:
        if host:
            bare_host(host)
    except ValueError as error:
        raise UsageError(f"--host {redacted_uri(host)!r}: {error}") from error
    if login is None and not is_loopback(host):
        raise UsageError(
            f"--host {host}: others could see the plant without a password. Add --login-file FILE, "
            "or use 127.0.0.1"
        )
