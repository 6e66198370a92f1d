"""Who may look at the dashboard, and who may do more: accounts, roles and sessions.

A session is verified from its cookie alone, so that a wall screen stays logged in when the
dashboard restarts. A new password ends an account's sessions. ``access`` asks at each request.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_qc.errors import SettingsError, UsageError
from edge_qc.redaction import redacted_uri
from edge_qc.settings.host import bare_host
from edge_qc.system.whole_file import write_whole

COOKIE = "edge_qc_dashboard"
SESSION_S = 14 * 24 * 3600
_FEWEST = 10
_NAME = re.compile(r"[A-Za-z0-9@._-]{1,64}")
_COST = 2**14


class Role(enum.IntEnum):
    """What an account may do; each may do what those before it may. LABEL: say what a part truly
    is. DECIDE: also overrule what another person said."""

    LOOK = 1
    LABEL = 2
    DECIDE = 3


@dataclass(frozen=True, slots=True)
class Account:
    """hashed: the password's, of ``hash_password``; empty for one whom a proxy lets in. name: empty
    for the password that all share."""

    name: str
    role: Role
    hashed: str = ""


class Login:
    """The accounts, and their sessions."""

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._accounts = dict(accounts)

    @classmethod
    def shared(cls, password: str) -> Login:
        """One password for all, who may look."""
        salt = b"edge-qc dashboard session"
        return cls({"": Account("", Role.LOOK, hash_password(password, salt))})

    @classmethod
    def from_password_file(cls, file: Path) -> Login:
        """The password is the file's first line. Raises SettingsError."""
        lines = _lines(file, "--login-file", "a password")
        if not lines or len(lines[0]) < _FEWEST:
            raise SettingsError(
                f"{file}: the first line must be a password of at least {_FEWEST} characters. "
                "Make one with: openssl rand -base64 18"
            )
        return cls.shared(lines[0])

    @classmethod
    def from_accounts_file(cls, file: Path) -> Login:
        """Lines of ``name role hash``, as ``edge-qc account`` writes them. Raises SettingsError."""
        accounts = {}
        for number, line in enumerate(_lines(file, "--accounts-file", "accounts"), 1):
            if not line.strip() or line.startswith("#"):
                continue
            account = account_of_line(line)
            if account is None or account.name in accounts:
                raise SettingsError(
                    f"{file}, line {number}: wanted NAME, look, label or decide, and a password's "
                    "hash, each name once. Write it with: edge-qc account NAME --role label "
                    f"--accounts-file {file}"
                )
            accounts[account.name] = account
        if not accounts:
            raise SettingsError(
                f"{file}: no account. Add one with: edge-qc account NAME --accounts-file {file}"
            )
        return cls(accounts)

    @property
    def names(self) -> bool:
        """Whether people log in with a name."""
        return "" not in self._accounts

    def check(self, name: str, password: str) -> Account | None:
        """The account, if the password is right. Slow on purpose."""
        account = self._accounts.get(name if self.names else "")
        # An unknown name takes as long as a known one.
        hashed = account.hashed if account is not None and account.hashed else _NOBODY
        right = hmac.compare_digest(hash_password(password, _salt(hashed)), hashed)
        return account if right and hashed is not _NOBODY else None

    def known(self, name: str) -> Account:
        """Somebody whom a proxy has let in; who has no account here may look."""
        return self._accounts.get(name) or Account(name, Role.LOOK)

    def session(self, account: Account, now_s: float | None = None) -> str:
        """A new session's cookie."""
        until = int((time.time() if now_s is None else now_s) + SESSION_S)
        named = base64.urlsafe_b64encode(account.name.encode()).decode().rstrip("=")
        signed = f"{named}.{until}.{secrets.token_hex(8)}"
        return f"{signed}.{_signature(account, signed)}"

    def of_session(self, cookie: str, now_s: float | None = None) -> Account | None:
        """Whose session a cookie is; None if it is none, or has ended."""
        signed, _, signature = cookie.rpartition(".")
        named, _, rest = signed.partition(".")
        try:
            name = base64.urlsafe_b64decode(named + "=" * (-len(named) % 4)).decode()
        except ValueError:
            return None
        account = self._accounts.get(name)
        if account is None or not account.hashed:
            return None
        if not hmac.compare_digest(signature.encode(), _signature(account, signed).encode()):
            return None
        now_s = time.time() if now_s is None else now_s
        return account if int(rest.partition(".")[0]) > now_s else None


def hash_password(password: str, salt: bytes | None = None) -> str:
    """A salted scrypt hash in text (RFC 7914)."""
    salt = secrets.token_bytes(16) if salt is None else salt
    key = hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=8, p=1)
    return f"{base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


_NOBODY = hash_password("", b"nobody")


def account_of_line(line: str) -> Account | None:
    """An account of one line of the file; None if the line is wrong. ``-`` for no password."""
    words = line.split()
    if len(words) != 3 or not _NAME.fullmatch(words[0]) or words[1].upper() not in Role.__members__:
        return None
    name, role, hashed = words[0], Role[words[1].upper()], words[2]
    if hashed != "-" and not re.fullmatch(r"[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+", hashed):
        return None
    return Account(name, role, "" if hashed == "-" else hashed)


def write_account(file: Path, name: str, role: Role, password: str | None) -> bool:
    """Add an account to a file, or replace it; True if it was new. password: None for one whom a
    proxy lets in. Raises UsageError for a name or a password that cannot be used, SettingsError for
    a file that cannot."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r}: a name has 1 to 64 letters, digits, or any of @ . _ -")
    if password is not None and len(password) < _FEWEST:
        raise UsageError(f"the password must have at least {_FEWEST} characters")
    hashed = "-" if password is None else hash_password(password)
    lines = _lines(file, "--accounts-file", "accounts") if file.exists() else []
    kept = [line for line in lines if line.split()[:1] != [name]]
    text = "\n".join([*kept, f"{name} {role.name.lower()} {hashed}"]) + "\n"
    try:
        write_whole(file, text.encode(), mode=0o600)
    except OSError as error:
        raise SettingsError(f"{file}: {error}. Name a file that this user may write") from error
    return len(kept) == len(lines)


def _lines(file: Path, option: str, what: str) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SettingsError(f"{option}: {file} is not UTF-8. Save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{option}: {error}. Name a file with {what}") from error


def _salt(hashed: str) -> bytes:
    return base64.b64decode(hashed.partition("$")[0])


def _signature(account: Account, signed: str) -> str:
    # The hash is as secret as a key, and another password has another.
    return hmac.new(account.hashed.encode(), signed.encode(), hashlib.sha256).hexdigest()


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
            f"--host {host}: others could see the plant without a password. Add --login-file FILE "
            "or --accounts-file FILE, or use 127.0.0.1"
        )
