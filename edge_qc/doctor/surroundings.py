"""The environment: the clock that stamps verdicts, and the systemd unit."""

from __future__ import annotations

import ctypes
import getpass
import os
import shutil
from collections.abc import Iterator

from edge_qc.doctor.finding import AS_ROOT, Finding, bad, good, none, note
from edge_qc.doctor.unit import UNIT, shown
from edge_qc.settings import Settings

_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""

_PATHS = ("LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_HOME", "CUDA_PATH")


def clock() -> Iterator[Finding]:
    """Whether the kernel's clock is synchronised, by any daemon."""
    # struct timex: modes, offset, freq, maxerror (microseconds), … in fields of a long each.
    timex = (ctypes.c_long * 64)()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    if state == _UNSYNCHRONISED:
        yield bad(
            "clock",
            "not synchronised",
            "verdicts carry its time: start systemd-timesyncd or chrony and configure a server",
        )
    elif state < 0:
        yield note("clock", "the kernel does not report whether the clock is synchronised")
    else:
        yield good("clock", f"synchronised, error at most {timex[3] / 1000:.0f} ms")


def unit(settings: Settings | None) -> Iterator[Finding]:
    """The systemd unit: its state and user, and variables of this shell that it will not have."""
    if shutil.which("systemctl") is None:
        yield none("unit", "no systemd here")
        return
    found = shown("LoadState", "ActiveState", "SubState", "User")
    if found.get("LoadState") != "loaded":
        yield none("unit", f"{UNIT} is not installed")
        return
    user = found.get("User") or "root"
    seen = f"{UNIT}: {found.get('ActiveState')} ({found.get('SubState')}), user {user}"
    if found.get("ActiveState") == "failed":
        yield bad("unit", seen, f"journalctl -u {UNIT} -e")
    elif os.geteuid() != 0 and user != getpass.getuser():
        yield note(
            "unit",
            f"{seen}; this is {getpass.getuser()}",
            f"{AS_ROOT}, who reads its secrets and asks for access as {user}",
        )
    else:
        yield good("unit", seen)
    own = [name for name in _PATHS if os.environ.get(name)]
    if own:
        yield note(
            "unit's environment",
            f"this shell sets {', '.join(own)}; the unit does not",
            "what works here may fail there: set them in the unit, or unset them and run the "
            "doctor again",
        )
