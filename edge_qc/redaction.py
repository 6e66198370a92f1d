"""What people may see of a URI, and of a driver's text about it: ``***`` replaces each secret.

The one place that knows where the address of a camera or broker, or a GStreamer pipeline, carries a
secret. If it cannot tell (nobody percent-encoded a ``/`` or ``@`` in the password), it hides too
much rather than too little. It needs the standard library alone, since camera processes import it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

HIDDEN = "***"

_LOCAL = ("file", "v4l2", "aravis")
_HARMLESS = frozenset(
    (
        *("camera", "channel", "codec", "fps", "height", "latency_ms", "overview", "profile"),
        *("proto", "resolution", "stream", "streamtype", "subtype", "transport", "transportmode"),
        *("unicast", "videocodec", "width"),
    )
)
"""Query keys of network cameras whose values are shown; any other may be a key or a token."""

_SECRET_KEY = r"[\w.-]*(?:pass|pw|secret|token|key|auth|cred|sig|session|sas|cookie|pin)[\w.-]*"
_PAIR = re.compile(rf"({_SECRET_KEY}\s*=\s*)(\"[^\"]*\"|'[^']*'|\S+)", re.IGNORECASE)
_USER = re.compile(r"(?<=://)(?![/\s])(\S*)@")
_WHOLE_USER = re.compile(r"(?<=://)(?![/\s])(.*)@", re.DOTALL)
_QUERY = re.compile(r"\?([^\s\"']*)")
_OPTION = re.compile(r"([^&;=]+)=?([^&;]*)")
_TOKEN = re.compile(r"(?<=[/=])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,}(?![A-Za-z0-9])")
_SHORT = 3


def redacted_uri(uri: str) -> str:
    """The URI or pipeline with each secret in it replaced: what stands before the ``@`` behind the
    user's name, values of keys that sound like a secret, other values of a network camera's query,
    and path segments that look like a random token."""
    shown, end = [], 0
    for start, stop in _spans(uri):
        if start >= end:
            shown += [uri[end:start], HIDDEN]
        end = max(end, stop)
    return "".join([*shown, uri[end:]])


def redacted(text: str, uri: str = "") -> str:
    """A driver's text with nothing in it of the secrets in ``uri``: whole, decoded, encoded, or cut
    where a parser of addresses cuts. Other addresses in the text are redacted as well."""
    if uri:
        text = text.replace(uri, redacted_uri(uri))
    for part in sorted(_parts(uri), key=len, reverse=True):
        if len(part) > _SHORT:
            text = text.replace(part, HIDDEN)
        else:
            text = re.sub(rf"(?<![^\W_]){re.escape(part)}(?![^\W_])", HIDDEN, text)
    text = _PAIR.sub(rf"\1{HIDDEN}", text)
    return _USER.sub(lambda found: f"{_user(found[1])}{HIDDEN}@", text)


def _spans(uri: str) -> list[tuple[int, int]]:
    """Where the secrets stand, in order; spans may overlap."""
    found = [match.span(2) for match in _PAIR.finditer(uri)]
    scheme = uri.partition(":")[0].lower()
    # Only a pipeline has words behind the address; in any other a blank is part of the secret.
    for match in (_USER if scheme == "gst" else _WHOLE_USER).finditer(uri):
        user = _user(match[1])
        # A path may hold an @, as long as nothing before it looks like user:password.
        if user or "/" not in match[1]:
            found.append((match.start(1) + len(user), match.end(1)))
    if scheme not in _LOCAL and "://" in uri:
        found += [match.span() for match in _TOKEN.finditer(uri)]
        for query in _QUERY.finditer(uri):
            for match in _OPTION.finditer(uri, query.start(1), query.end(1)):
                if match[1].lower() not in _HARMLESS:
                    found.append(match.span(2 if match[2] else 1))
    return sorted(found)


def _user(before_at: str) -> str:
    """``name:`` of ``name:password``; empty if there is no colon, and all may be a secret."""
    name, colon, _ = before_at.partition(":")
    return f"{name}:" if colon and "/" not in name else ""


def _parts(uri: str) -> set[str]:
    """Every text that would give a secret away, whole or in part."""
    return {part for start, stop in _spans(uri) for part in _forms(uri[start:stop].strip("\"'"))}


def _forms(secret: str) -> Iterator[str]:
    plain = unquote(secret)
    pieces = re.split(r"[^A-Za-z0-9]+", plain)
    for form in (secret, plain, quote(plain), quote(plain, safe=""), *pieces):
        if len(form) > 1:
            yield form
