"""A host as a key or an option of ours takes it: a name or an address, no scheme and no port."""

from __future__ import annotations

import ipaddress
import re

_NAME = re.compile(r"(?!-)[\w-]{1,63}(?<!-)(\.(?!-)[\w-]{1,63}(?<!-))*\.?")


def bare_host(text: str) -> str:
    """The host itself. Raises ValueError that says what to write for an address with a scheme, a
    port, a user, a path or blanks."""
    if _is_host(text):
        return text
    scheme, _, rest = text.strip().rpartition("://")
    authority = re.split(r"[/?#]", rest.rpartition("@")[2])[0]
    named, port = authority.strip("[] "), ""
    if (authority.startswith("[") or authority.count(":") == 1) and not authority.endswith("]"):
        named, _, port = authority.rpartition(":")
        named = named.strip("[] ")
    if not _is_host(named):
        raise ValueError(
            "is no host: wanted a name such as broker.example, or an address such as 192.0.2.5"
        )
    also = [f"port = {port}"] if port.isdecimal() else []
    also += ["ca_file for TLS"] if scheme.lower() in ("mqtts", "ssl", "tls", "wss") else []
    also += ["username and password_file"] if "@" in rest else []
    advice = f'"{named}"' + (f", and {', '.join(also)} beside it" if also else "")
    raise ValueError(f"is more than a host: write {advice}")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # What is all digits and dots and yet no address is a slip, not a name.
        return (
            len(text) <= 253 and bool(_NAME.fullmatch(text)) and not re.fullmatch(r"[\d.]+", text)
        )
    return True
