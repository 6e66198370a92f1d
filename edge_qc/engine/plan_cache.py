"""Where plans are kept, and which of them may be used.

A plan is a program for one GPU and one TensorRT: deserialising it runs it. So a plan is taken only
when its fingerprint, a file beside it, says that this machine made it, from this ONNX, with this
TensorRT, for this GPU, and when both files are whole and nobody else could have written them.
Otherwise it returns a reason, and the plan is built again. Nothing here knows TensorRT; ``plan``
builds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_qc.errors import EngineError
from edge_qc.system.whole_file import PARTIAL, write_whole

_SCHEMA = 1
_SPARE_BYTES = 64 << 20
_MODE = 0o644
"""After ``sudo edge-qc build`` the station's own user must be able to read it."""
_MACHINE_ID = Path("/etc/machine-id")
KEEP = 4
"""How many plans a folder keeps: the current one, the previous bundle's, and two to spare."""

Facts = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class PlanKey:
    """What a plan depends on. facts: by name, as a refusal tells them; ``onnx`` is among them."""

    facts: Facts

    @property
    def name(self) -> str:
        """The stem of the plan's files."""
        return _digest(json.dumps(dict(self.facts), sort_keys=True).encode())[:16]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why no plan of the folder may be used."""

    reason: str


class PlanCache:
    """The folder of plans of one station or one user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: PlanKey) -> bytes | Refused:
        """The plan of ``key``, exactly the bytes whose hash was checked, or why there is none."""
        plan, fingerprint = self._files(key)
        try:
            if not fingerprint.exists():
                return Refused(self._why_none(key))
            _not_writable_by_others(self.folder, self.folder.stat())
            document = _fingerprint(_trusted(fingerprint), fingerprint)
            made = _trusted(plan)
        except (OSError, ValueError) as error:
            return Refused(str(error))
        if document["key"] != dict(key.facts):
            return Refused(f"{fingerprint} is of another plan: {_difference(document['key'], key)}")
        if document["machine"] != machine_id():
            return Refused(f"{plan} was built on another machine and copied here")
        if document["size"] != len(made) or document["sha256"] != _digest(made):
            return Refused(f"{plan} is not the file that its fingerprint describes")
        with contextlib.suppress(OSError):
            os.utime(fingerprint)
        return made

    def prepare(self, need_bytes: int) -> None:
        """Makes the folder, and sees that a plan can be written there before hours are spent.

        Raises EngineError with what to do.
        """
        try:
            self._make_folder()
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".probe-") as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
            room = os.statvfs(self.folder)
        except OSError as error:
            raise EngineError(
                f"plans folder {self.folder}: cannot be written: {error}. Correct its owner, or "
                "name another with --plans"
            ) from error
        free = room.f_bavail * room.f_frsize
        if free < need_bytes + _SPARE_BYTES:
            raise EngineError(
                f"plans folder {self.folder}: {free >> 20} MB free, a build wants "
                f"{(need_bytes + _SPARE_BYTES) >> 20} MB. Free some, or remove old plans there"
            )

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """One build at a time in this folder; waits for another process's."""
        # The folder itself is locked: a lock file of root's would keep the station's user out.
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def keep(self, key: PlanKey, plan: bytes, notes: Facts) -> Path:
        """Writes the plan, then its fingerprint, each synced and renamed; drops the plans that
        were not used for longest. notes: what else is worth knowing. Raises EngineError."""
        file, fingerprint = self._files(key)
        document = {
            "schema": _SCHEMA,
            "key": dict(key.facts),
            "machine": machine_id(),
            "sha256": _digest(plan),
            "size": len(plan),
            "built": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **notes,
        }
        document["fingerprint"] = _self_digest(document)
        try:
            write_whole(file, plan, _MODE)
            write_whole(fingerprint, (json.dumps(document, indent=1) + "\n").encode(), _MODE)
            self._prune()
        except OSError as error:
            raise EngineError(f"plan {file}: cannot be written: {error}") from error
        return file

    def drop(self, key: PlanKey) -> None:
        """Removes a plan, such as one that does not load; if it cannot, the next one replaces it or
        says why not."""
        for file in reversed(self._files(key)):
            with contextlib.suppress(OSError):
                file.unlink()

    def timing(self, name: str) -> bytes:
        """The timing cache of a GPU and a TensorRT; empty if there is none that is whole."""
        file = self._timing_file(name)
        try:
            stored = _trusted(file)
        except (OSError, ValueError):
            return b""
        digest, cache = stored[:32], stored[32:]
        return cache if hashlib.sha256(cache).digest() == digest else b""

    def keep_timing(self, name: str, cache: bytes) -> None:
        """Keeps what tactics took: the next build is shorter. Losing it costs only time."""
        with contextlib.suppress(OSError):
            write_whole(self._timing_file(name), hashlib.sha256(cache).digest() + cache, _MODE)

    def _files(self, key: PlanKey) -> tuple[Path, Path]:
        return self.folder / f"{key.name}.plan", self.folder / f"{key.name}.json"

    def _timing_file(self, name: str) -> Path:
        return self.folder / f"{_digest(name.encode())[:16]}.timing"

    def _make_folder(self) -> None:
        if self.folder.is_dir():
            return
        self.folder.mkdir(parents=True, mode=0o755)
        if os.geteuid() == 0:
            # After ``sudo edge-qc build`` the station's own user must be able to build as well.
            owner = self.folder.parent.stat()
            os.chown(self.folder, owner.st_uid, owner.st_gid)

    def _why_none(self, key: PlanKey) -> str:
        """In words, from the nearest plan in the folder."""
        nearest: str | None = None
        for file in sorted(self.folder.glob("*.json")):
            try:
                facts = _fingerprint(_trusted(file), file)["key"]
            except (OSError, ValueError):
                continue
            if isinstance(facts, dict) and facts.get("onnx") == key.facts["onnx"]:
                nearest = f"the one there does not serve: {_difference(facts, key)}"
        return nearest or f"no plan of this model in {self.folder}"

    def _prune(self) -> None:
        fingerprints = sorted(
            self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True
        )
        for old in fingerprints[KEEP:]:
            old.unlink()
            old.with_suffix(".plan").unlink(missing_ok=True)
        for partial in self.folder.glob(f".*{PARTIAL}"):
            partial.unlink(missing_ok=True)


def machine_id() -> str:
    """Identifies this machine without revealing /etc/machine-id; empty if there is none."""
    try:
        return _digest(b"edge-qc plan " + _MACHINE_ID.read_bytes().strip())[:32]
    except OSError:
        return ""


def arch() -> str:
    """``aarch64`` or ``x86_64``: plans do not move between them."""
    return platform.machine()


def _fingerprint(content: bytes, file: Path) -> dict[str, object]:
    document = json.loads(content)
    if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
        raise ValueError(f"{file} is not a fingerprint that this edge-qc reads")
    if document.pop("fingerprint", None) != _self_digest(document):
        raise ValueError(f"{file} was altered")
    return document


def _self_digest(document: Mapping[str, object]) -> str:
    return _digest(json.dumps(dict(document), sort_keys=True).encode())


def _difference(facts: object, key: PlanKey) -> str:
    seen = facts if isinstance(facts, dict) else {}
    return "; ".join(
        f"{name} was {seen.get(name)}, is {wanted}"
        for name, wanted in key.facts.items()
        if seen.get(name) != wanted
    )


def _trusted(file: Path) -> bytes:
    """What a file holds that root or this user wrote, and nobody else can have: a plan is code,
    and root must not run a user's. Raises OSError or ValueError."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{file} is not a plain file")
        _not_writable_by_others(file, found)
        if found.st_uid not in {0, os.geteuid()}:
            raise ValueError(f"{file} belongs to another user")
        return stream.read()


def _not_writable_by_others(file: Path, found: os.stat_result) -> None:
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError(f"{file} can be written by other users: chmod go-w {file}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
