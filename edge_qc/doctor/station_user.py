"""Access as the station's user has it, also where root asks.

Root runs the doctor, since root alone reads the station's secrets. But root may open everything, so
what the station must be able to open is asked for under the station's own name.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from edge_qc.doctor.finding import Finding
from edge_qc.doctor.unit import shown


def as_station(findings: Iterable[Finding]) -> list[Finding]:
    """The findings of a check that is run under the name of the station's user."""
    with station_user():
        return list(findings)


@contextmanager
def station_user() -> Iterator[None]:
    """For root, the unit's user and groups as the effective ones. Nothing changes for another user,
    and where no unit is installed or its user cannot read this program."""
    found = _unit_user() if os.geteuid() == 0 else None
    if found is None:
        yield
        return
    entry, groups = found
    before = os.getegid(), os.getgroups()
    try:
        os.setgroups(groups)
        os.setegid(entry.pw_gid)
        os.seteuid(entry.pw_uid)
        if not may(__file__, os.R_OK):
            os.seteuid(0)
        yield
    finally:
        os.seteuid(0)
        os.setegid(before[0])
        os.setgroups(before[1])


def may(path: str | os.PathLike[str], mode: int) -> bool:
    """``os.access`` for the effective user."""
    return os.access(path, mode, effective_ids=True)


def _unit_user() -> tuple[pwd.struct_passwd, list[int]] | None:
    """The unit's user and all groups that it runs with; None if there is no such unit or user."""
    unit = shown("LoadState", "User", "SupplementaryGroups")
    if unit.get("LoadState") != "loaded":
        return None
    try:
        entry = pwd.getpwnam(unit.get("User", ""))
        more = [grp.getgrnam(name).gr_gid for name in unit.get("SupplementaryGroups", "").split()]
    except KeyError:
        return None
    return entry, [*os.getgrouplist(entry.pw_name, entry.pw_gid), *more]
