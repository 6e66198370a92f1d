"""Programs that tests need and Debian has: where each is, and the skip where one is missing.

A reason to skip is always ``needs WHAT``. Where WHAT can be installed it goes on
``: apt install …`` or ``: pip install …``, which ``end_of_run`` adds up.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = {
    "arv-fake-gv-camera-0.8": "aravis-tools gir1.2-aravis-0.8 python3-gi",
    "cc": "build-essential",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "initdb": "postgresql",
    "mosquitto": "mosquitto",
    "mosquitto_passwd": "mosquitto",
    "node": "nodejs",
    "npm": "npm",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "setpriv": "util-linux",
    "shellcheck": "shellcheck",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
"""The Debian packages that bring each program."""

# Debian keeps daemons, and PostgreSQL's programs, where an ordinary user's PATH does not look.
_ALSO = ("/usr/sbin", "/usr/local/sbin")
_POSTGRES = Path("/usr/lib/postgresql")


def find(program: str) -> str | None:
    """The path of a program; None where it is not installed."""
    newest_first = sorted(map(str, _POSTGRES.glob("*/bin")), reverse=True)
    also = os.pathsep.join([*_ALSO, *newest_first])
    return shutil.which(program) or shutil.which(program, path=also)


def lacking(*programs: str) -> str | None:
    """Why a test that needs these programs is skipped; None where all are installed."""
    missing = [program for program in programs if find(program) is None]
    if not missing:
        return None
    packages = dict.fromkeys(PACKAGES[program] for program in missing)
    return f"needs {', '.join(missing)}: apt install {' '.join(packages)}"


def need(program: str, *others: str) -> str:
    """The path of a program. Skips the test where it, or one of the others, is not installed."""
    if (why := lacking(program, *others)) is not None:
        pytest.skip(why)
    found = find(program)
    assert found is not None
    return found


def needs(*programs: str) -> pytest.MarkDecorator:
    """Marks a test, or a whole module, that needs programs."""
    why = lacking(*programs)
    return pytest.mark.skipif(why is not None, reason=why or "")
