"""Installed bundles: the slots *current* and *previous* in a station's ``state_dir/bundles``.

Each bundle has its own folder, which never changes. ``slots.json`` names the two and is replaced by
one rename, so that a station that loses power at any moment finds either the old or the new slots.
The next install removes folders that no slot names. Everything is on disk before a slot names it.
Acceptance happens before ``switch``, and not here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_qc.bundle.verification import Bundle, open_bundle, unpack_bundle
from edge_qc.errors import BundleError, EdgeQCError
from edge_qc.settings import Settings
from edge_qc.system.whole_file import PARTIAL, sync_folder, write_whole

SCHEMA = "edge-qc/slots/1"

_FILE = "slots.json"
_LOCK = "install.lock"
_INCOMING = ".incoming-"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Slot(_Model):
    """One installed bundle. folder: its name beside ``slots.json``."""

    folder: str = Field(pattern=r"^[0-9]+-[0-9a-f]{12}(\.[0-9]+)?$")
    id: str
    version: int


class SetAside(_Model):
    """A current bundle that the station rejected by itself, and why."""

    slot: Slot
    why: str
    time: datetime


class Contents(_Model):
    """high_water: the newest bundle that was ever current, so that a downgrade needs a decision.
    announced: the id of the bundle that the station announced last."""

    schema_version: str = SCHEMA
    current: Slot | None = None
    previous: Slot | None = None
    high_water: Slot | None = None
    set_aside: SetAside | None = None
    announced: str | None = None


class Slots:
    """The slots in one folder. Anyone may read them; hold ``locked`` to change them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_station(cls, state_dir: Path) -> Slots:
        return cls(state_dir / "bundles")

    def read(self) -> Contents:
        """The slots' content; empty if nothing was ever installed. Raises BundleError."""
        file = self.folder / _FILE
        try:
            return Contents.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return Contents()
        except (OSError, ValidationError) as error:
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise BundleError(
                f"{file} does not name the installed bundle: {what}. Remove it, and install the "
                "bundle again"
            ) from error

    def path_of(self, slot: Slot) -> Path:
        return self.folder / slot.folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Allow one install or rollback at a time. Raises EdgeQCError while another runs."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            opened = (self.folder / _LOCK).open("a")
        except OSError as error:
            raise EdgeQCError(
                f"{self.folder}: a bundle cannot be kept there ({error}). Make room, or let the "
                "station's user write there"
            ) from error
        with opened as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EdgeQCError(
                    f"{self.folder}: another install or rollback is under way; wait for it"
                ) from error
            yield

    def may_follow(self, bundle: Bundle) -> None:
        """Raises BundleError if the bundle is older than any that the station had, or a different
        one of the same version."""
        newest = self.read().high_water
        if newest is None or newest.id == bundle.id or newest.version < bundle.manifest.version:
            return
        seen = bundle.manifest.version
        why = (
            f"its version {seen} is older than {newest.version}, which was installed before"
            if seen < newest.version
            else f"another bundle of version {seen} was installed before"
        )
        raise BundleError(
            f"bundle {bundle.path}: {why}. Export it with a higher --version, or allow the "
            "downgrade with --allow-downgrade"
        )

    def bring(self, source: Path, public_key: Path | None = None) -> Slot:
        """Verify the bundle at ``source`` (a folder or a ``.tar.zst``), copy it durably to its own
        folder and verify it again. No slot names it yet. Raises BundleError."""
        self._sweep()
        try:
            incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.folder))
            copy = incoming / "bundle"
            if source.is_file():
                copy = unpack_bundle(source, copy)
            else:
                # Verified first, so that nothing is copied but a bundle.
                open_bundle(source, public_key)
                shutil.copytree(source, copy, symlinks=True, copy_function=shutil.copyfile)
            bundle = open_bundle(copy, public_key)
            _sync_tree(copy)
            slot = self._name(bundle, public_key)
            if not self.path_of(slot).exists():
                copy.rename(self.path_of(slot))
            sync_folder(self.folder)
            shutil.rmtree(incoming)
        except OSError as error:
            raise BundleError(
                f"bundle {source} cannot be copied to {self.folder}: {error}. Check that the disk "
                "has room and that this user may read the bundle and write there"
            ) from error
        return slot

    def switch(self, slot: Slot) -> None:
        """Make an accepted bundle the current one."""
        before = self.read()
        newest = before.high_water
        if newest is None or newest.version <= slot.version:
            newest = slot
        again = before.current is not None and before.current.id == slot.id
        previous = before.previous if again else before.current
        self._write(
            before.model_copy(
                update={
                    "current": slot,
                    "previous": previous,
                    "high_water": newest,
                    "set_aside": None,
                }
            )
        )

    def previous(self) -> Slot:
        """The bundle that a rollback returns to. Raises BundleError if there is none."""
        slot = self.read().previous
        if slot is None:
            raise BundleError(
                f"{self.folder}: there is no previous bundle. Install the one you "
                "want with 'edge-qc install BUNDLE'"
            )
        return slot

    def roll_back(self) -> None:
        """Exchange current and previous. Raises BundleError."""
        before = self.read()
        self._write(
            before.model_copy(
                update={"current": self.previous(), "previous": before.current, "set_aside": None}
            )
        )

    def give_up_current(self, why: str) -> bool:
        """Return to the previous bundle because the current one may not judge; False if there is
        none."""
        before = self.read()
        if before.current is None or before.previous is None:
            return False
        gone = SetAside(slot=before.current, why=why, time=datetime.now(timezone.utc))
        self._write(
            before.model_copy(
                update={"current": before.previous, "previous": None, "set_aside": gone}
            )
        )
        return True

    def announce(self) -> Slot | None:
        """The current bundle if it has not been announced yet; marks it as announced."""
        before = self.read()
        if before.current is None or before.current.id == before.announced:
            return None
        self._write(before.model_copy(update={"announced": before.current.id}))
        return before.current

    def _write(self, contents: Contents) -> None:
        text = contents.model_dump_json(indent=2) + "\n"
        try:
            write_whole(self.folder / _FILE, text.encode())
        except OSError as error:
            raise BundleError(
                f"{self.folder / _FILE} cannot be written: {error}. The slots are unchanged. Check "
                "the disk and the folder's permissions"
            ) from error

    def _name(self, bundle: Bundle, public_key: Path | None) -> Slot:
        """A folder that already holds this bundle, or a free name."""
        base = f"{bundle.manifest.version}-{bundle.id[:12]}"
        name, count = base, 1
        while (self.folder / name).exists():
            with contextlib.suppress(BundleError):
                if open_bundle(self.folder / name, public_key).id == bundle.id:
                    break
            count += 1
            name = f"{base}.{count}"
        return Slot(folder=name, id=bundle.id, version=bundle.manifest.version)

    def _sweep(self) -> None:
        """Remove what no slot names."""
        contents = self.read()
        named = {slot.folder for slot in (contents.current, contents.previous) if slot is not None}
        if contents.set_aside is not None:
            named.add(contents.set_aside.slot.folder)
        for entry in self.folder.iterdir():
            if entry.is_dir() and entry.name not in named:
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name.endswith(PARTIAL):
                entry.unlink(missing_ok=True)


def bundle_folder(settings: Settings) -> Path:
    """The station's bundle: ``bundle.path`` from station.toml, otherwise the current slot. Raises
    BundleError if nothing is installed."""
    if settings.bundle.path is not None:
        return settings.bundle.path
    slots = Slots.of_station(settings.station.state_dir)
    current = slots.read().current
    if current is None:
        raise BundleError(
            f"{slots.folder}: no bundle is installed. Install one with 'edge-qc install BUNDLE', "
            "or name a folder as bundle.path in station.toml"
        )
    return slots.path_of(current)


def slots_of(settings: Settings) -> Slots:
    """The station's slots. Raises BundleError if station.toml names a bundle folder instead."""
    if settings.bundle.path is not None:
        raise BundleError(
            f"station.toml names a bundle itself, bundle.path = {settings.bundle.path}. Remove "
            "that line to use installed bundles"
        )
    return Slots.of_station(settings.station.state_dir)


def _sync_tree(folder: Path) -> None:
    for entry in folder.rglob("*"):
        sync_folder(entry) if entry.is_dir() else _sync_file(entry)
    sync_folder(folder)


def _sync_file(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
