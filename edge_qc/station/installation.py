"""``edge-qc install`` and ``rollback``: the part that runs in the command's own process.

It verifies, copies, builds the plan and accepts, all outside of the station's process. Then the
running station takes over or, if none runs, the slots switch. Killed at any point, it leaves one
complete bundle that was accepted here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_qc.bundle.slots import Slot, Slots, slots_of
from edge_qc.bundle.verification import open_bundle
from edge_qc.engine import BuildStep, DeviceOptions
from edge_qc.errors import EdgeQCError, UsageError
from edge_qc.inspection.commissioning import commission
from edge_qc.settings import Settings
from edge_qc.station.changeover import check_against_bundle, shown
from edge_qc.system.control import Client, connect
from edge_qc.system.owner import other_owner

__all__ = ["Installed", "Shadowing", "install", "roll_back", "shown"]

Listener = Callable[[dict[str, Any]], None]
"""Receives the station's progress: ``doing`` in words, ``seen`` of ``wanted`` parts, and each
``newly_good`` frame."""


@dataclass(frozen=True, slots=True)
class Shadowing:
    """parts: how many the candidate must see first, within ``within_s``. approve: decides by the
    shadow run's summary whether it may take over."""

    parts: int
    within_s: float
    approve: Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Installed:
    """slot: judges now (live), or from the next start on if no station was running. shadow: the
    shadow run's summary."""

    slot: Slot
    live: bool
    acceptance: dict[str, Any] | None = None
    shadow: dict[str, Any] | None = None
    already: bool = False


def install(
    settings: Settings,
    source: Path,
    *,
    allow_downgrade: bool = False,
    shadowing: Shadowing | None = None,
    progress: Callable[[BuildStep], None] | None = None,
    listener: Listener = lambda told: None,
) -> Installed:
    """Install the bundle at ``source``. Raises EdgeQCError; the station then keeps its old
    bundle."""
    slots = _slots(settings)
    with slots.locked():
        slot = slots.bring(source, settings.bundle.public_key)
        bundle = open_bundle(slots.path_of(slot), settings.bundle.public_key)
        if slots.read().current == slot:
            return Installed(slot, live=False, already=True)
        check_against_bundle(settings, bundle)
        if not allow_downgrade:
            slots.may_follow(bundle)
        acceptance = _prove(settings, slots, slot, progress)
        request: dict[str, Any] = {"slot": slot.model_dump()}
        if shadowing is not None:
            request |= {"shadow_parts": shadowing.parts, "within_s": shadowing.within_s}
        client = connect(settings.station.state_dir, command="install", **request)
        if client is None:
            if shadowing is not None:
                raise EdgeQCError(
                    "no station is running here, so a shadow run is impossible. Start the "
                    "station, or install without --shadow-parts"
                )
            slots.switch(slot)
            return Installed(slot, live=False, acceptance=acceptance)
        with client:
            answer = _follow(client, shadowing, listener)
    return Installed(slot, answer["live"], acceptance, answer["shadow"])


def roll_back(
    settings: Settings,
    *,
    progress: Callable[[BuildStep], None] | None = None,
    listener: Listener = lambda told: None,
) -> Installed:
    """Return to the previous bundle; a second call returns to the newer one. Raises EdgeQCError."""
    slots = _slots(settings)
    with slots.locked():
        slot = slots.previous()
        acceptance = _prove(settings, slots, slot, progress)
        client = connect(settings.station.state_dir, command="rollback")
        if client is None:
            slots.roll_back()
            return Installed(slot, live=False, acceptance=acceptance)
        with client:
            answer = _follow(client, None, listener)
    return Installed(slot, answer["live"], acceptance)


def _slots(settings: Settings) -> Slots:
    """The station's slots. Raises UsageError if this user may not change them."""
    folder = settings.station.state_dir
    if (owner := other_owner(folder)) is not None:
        raise UsageError(
            f"{folder} belongs to {owner}, but you are user {os.geteuid()}. Run the command as the "
            f"station's user, who must be able to read the bundle: sudo -u {owner} edge-qc …"
        )
    return slots_of(settings)


def _prove(
    settings: Settings, slots: Slots, slot: Slot, progress: Callable[[BuildStep], None] | None
) -> dict[str, Any]:
    """Build the plan if one is needed, and accept the bundle. Raises AcceptanceError,
    EngineError."""
    # Install may always build, whatever the settings say about a start.
    table = settings.engine.model_copy(update={"build_at_start": True})
    result = commission(
        slots.path_of(slot),
        public_key=settings.bundle.public_key,
        engine=settings.engine.kind,
        threads=settings.engine.threads,
        device=DeviceOptions.of_station(table, settings.station.state_dir, progress),
        repeats=0,
    )
    if result.refusal is not None:
        raise result.refusal
    return dict(result.document)


def _follow(client: Client, shadowing: Shadowing | None, listener: Listener) -> dict[str, Any]:
    """The station's last answer."""
    for told in client.answers():
        if told.get("ask") == "switch" and shadowing is not None:
            client.send(command="switch" if shadowing.approve(told["shadow"]) else "cancel")
        elif told.get("final"):
            return told
        else:
            listener(told)
    raise EdgeQCError(
        "the station ended the conversation without an answer. See journalctl -u edge-qc"
    )
