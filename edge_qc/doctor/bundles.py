"""The bundles in the slots, or the one that station.toml names: present, intact, and signed with a
trusted key. ``edge-qc accept`` checks whether the engine reproduces their golden answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_qc.bundle.slots import Slots
from edge_qc.bundle.verification import open_bundle
from edge_qc.doctor.finding import NO_SETTINGS, Finding, bad, good, none, note
from edge_qc.errors import BundleError
from edge_qc.settings import Settings


def slots(settings: Settings | None) -> Iterator[Finding]:
    """Which bundle is current and which previous, and whether each verifies."""
    if settings is None:
        yield none("bundle", NO_SETTINGS)
        return
    key = settings.bundle.public_key
    if settings.bundle.path is not None:
        yield _verified("bundle", settings.bundle.path, key, "named by station.toml")
        return
    found = Slots.of_station(settings.station.state_dir)
    try:
        contents = found.read()
    except BundleError as error:
        yield bad("bundle, current", str(error), "edge-qc install BUNDLE")
        return
    if contents.current is None:
        yield bad("bundle, current", f"{found.folder}: none", "edge-qc install BUNDLE")
        return
    yield _verified("bundle, current", found.path_of(contents.current), key)
    if contents.set_aside is not None:
        gone = contents.set_aside
        yield note(
            "bundle, rejected",
            f"version {gone.slot.version}, {gone.slot.id[:12]}, {gone.time:%Y-%m-%d %H:%M} UTC: "
            f"{gone.why}",
            "install a bundle that this station accepts",
        )
    if contents.previous is None:
        yield none("bundle, previous", "none, so edge-qc rollback is not possible")
        return
    yield _verified("bundle, previous", found.path_of(contents.previous), key)


def _verified(check: str, folder: Path, key: Path | None, more: str = "") -> Finding:
    try:
        bundle = open_bundle(folder, key)
    except BundleError as error:
        return bad(check, str(error), "copy the bundle again and run edge-qc install BUNDLE")
    signed = "hashes match; no public_key is set, so no signature is required"
    if key is not None:
        signed = f"hashes and signature match ({key})"
    words = [f"version {bundle.manifest.version}, {bundle.id[:12]}", signed, more, str(folder)]
    return good(check, ", ".join(word for word in words if word))
