"""Model changeover: from one bundle to another at the start, while the line runs, and back.

A bundle judges only after its engine, opened outside of the loop, has reproduced its golden
answers. Then the slots switch on disk, and the loop takes the new inspection between two turns: no
trigger waits and none is lost. ``bundle.slots`` stores the bundles; ``shadow`` counts what a
candidate would have decided.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_qc.bundle.manifest import MODEL
from edge_qc.bundle.slots import Slot, Slots, bundle_folder, slots_of
from edge_qc.bundle.verification import Bundle
from edge_qc.camera import request_of
from edge_qc.engine import BuildStep, DeviceOptions
from edge_qc.errors import BundleError, EdgeQCError, SettingsError
from edge_qc.inspection.inspecting import Inspection, open_inspection
from edge_qc.line import Line
from edge_qc.line.health import available_memory
from edge_qc.publisher import Outbox, Severity
from edge_qc.settings import Settings
from edge_qc.station.changeover.shadow import Shadow
from edge_qc.system.control import Conversation

log = logging.getLogger(__name__)

_SPARE_BYTES = 128 << 20
_ANSWER_S = 600.0
"""How long a person may consider a shadow run; the candidate occupies memory meanwhile."""

_TROUBLE = "bundle"


class InstallRequest(BaseModel):
    """The request of ``edge-qc install``. slot: already copied, and accepted in the command's own
    process. shadow_parts: how many parts the candidate must see before it may take over, within
    ``within_s``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    slot: Slot
    shadow_parts: int = Field(default=0, ge=0, le=100_000)
    within_s: float = Field(default=3600.0, gt=0, le=86_400)


class Changeover:
    """Changes the bundle of a running line. ``install`` and ``roll_back`` handle conversations."""

    def __init__(self, settings: Settings, line: Line, outbox: Outbox) -> None:
        self._settings, self._line, self._outbox = settings, line, outbox
        self._one = threading.Lock()

    def install(self, talk: Conversation) -> dict[str, Any]:
        """Open the new bundle, run it in the shadow if asked to, and switch. Raises EdgeQCError;
        the old bundle then continues to judge."""
        try:
            request = InstallRequest.model_validate(talk.request)
        except ValidationError as error:
            raise EdgeQCError(f"the install request is not valid: {error}") from error
        slots = slots_of(self._settings)
        answer: dict[str, Any] = {"shadow": None}
        with self._alone(), self._candidate(slots, request.slot) as candidate:
            talk.tell(doing=f"accepted at the station on {candidate.engine.name}")
            if request.shadow_parts:
                answer["shadow"] = self._shadow(candidate, talk, request)
                talk.tell(ask="switch", shadow=answer["shadow"])
                heard = talk.listen(_ANSWER_S)
                if heard is None and talk.gone:
                    raise EdgeQCError("not switched: the install command has ended")
                if heard is None:
                    raise EdgeQCError(
                        f"not switched: nobody answered within {_ANSWER_S:.0f} s; the old bundle "
                        "continues to judge. Run the command again"
                    )
                if heard.get("command") != "switch":
                    raise EdgeQCError("not switched: the old bundle continues to judge")
            slots.switch(request.slot)
            return answer | self._take_over(candidate, slots, "bundle-accepted")

    def roll_back(self, talk: Conversation) -> dict[str, Any]:
        """Open the previous bundle and switch back to it. Raises EdgeQCError."""
        slots = slots_of(self._settings)
        with self._alone(), self._candidate(slots, slots.previous()) as candidate:
            talk.tell(doing=f"accepted at the station on {candidate.engine.name}")
            slots.roll_back()
            return self._take_over(candidate, slots, "bundle-rolled-back")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._one.acquire(blocking=False):
            raise EdgeQCError("another install or rollback is under way; wait for it")
        try:
            yield
        finally:
            self._one.release()

    @contextlib.contextmanager
    def _candidate(self, slots: Slots, slot: Slot) -> Iterator[Inspection]:
        """The inspection that may take over; it is closed if it does not."""
        folder = slots.path_of(slot)
        needed = 2 * (folder / MODEL).stat().st_size + _SPARE_BYTES
        left = available_memory()
        if left < needed:
            raise EdgeQCError(
                f"{shown(slot)} needs about {needed >> 20} MiB beside the current bundle, but only "
                f"{left >> 20} MiB are free. Stop the station, install the bundle, and start the "
                "station again"
            )
        # The command has built the plan in its own process; the station never builds here.
        engine = self._settings.engine.model_copy(update={"build_at_start": False})
        settings = self._settings.model_copy(update={"engine": engine})
        candidate = open_as_station(settings, folder)
        try:
            check_against_bundle(settings, candidate.bundle)
            now = sorted(self._line.inspection.bundle.manifest.dies)
            dies = sorted(candidate.bundle.manifest.dies)
            if now != dies:
                raise EdgeQCError(
                    f"{shown(slot)} knows the dies {', '.join(dies)}, the running station uses "
                    f"{', '.join(now)}. Stop the station, install the bundle, and start the "
                    "station again"
                )
            yield candidate
        finally:
            if self._line.inspection is not candidate:
                candidate.close()

    def _shadow(
        self, candidate: Inspection, talk: Conversation, request: InstallRequest
    ) -> dict[str, object]:
        shadow = Shadow(candidate)
        comparison = shadow.comparison
        until_s = time.monotonic() + request.within_s
        end = self._line.observe(shadow.offer)
        told_s = 0.0
        try:
            while len(comparison.parts) < request.shadow_parts:
                found = shadow.compare(0.5)
                now_s = time.monotonic()
                if found is not None:
                    talk.tell(newly_good=dataclasses.asdict(found))
                if now_s - told_s > 1.0:
                    told_s = now_s
                    talk.tell(seen=len(comparison.parts), wanted=request.shadow_parts)
                if talk.gone:
                    raise EdgeQCError("not switched: the install command has ended")
                if now_s > until_s:
                    raise EdgeQCError(
                        f"not switched: only {len(comparison.parts)} of {request.shadow_parts} "
                        f"parts came within {request.within_s:.0f} s; the old bundle continues to "
                        "judge"
                    )
        finally:
            end()
        return comparison.summary()

    def _take_over(self, candidate: Inspection, slots: Slots, event: str) -> dict[str, Any]:
        """Hand the candidate, already current on disk, to the loop."""
        before = self._line.exchange(candidate)
        if before is None:
            return {"live": False}
        before.close()
        self._line.troubles.pop(_TROUBLE, None)
        now = slots.announce() or slots.read().current
        assert now is not None
        self._outbox.event(
            event,
            f"{shown(now)} now judges and replaces version {before.bundle.manifest.version}",
        )
        log.info("%s judges", shown(now))
        return {"live": True}


def first_inspection(
    settings: Settings, outbox: Outbox, told: Callable[[BuildStep], None]
) -> Inspection:
    """The inspection of a station that starts: its current bundle or, if that was installed and may
    not judge, the previous one. Raises EdgeQCError."""
    try:
        inspection = open_as_station(settings, bundle_folder(settings), told)
    except BundleError as error:
        if settings.bundle.path is not None:
            raise
        return _previous_inspection(settings, outbox, told, error)
    if settings.bundle.path is None and (new := slots_of(settings).announce()) is not None:
        outbox.event("bundle-accepted", f"{shown(new)} judges")
    return inspection


def _previous_inspection(
    settings: Settings, outbox: Outbox, told: Callable[[BuildStep], None], error: BundleError
) -> Inspection:
    slots = slots_of(settings)
    before = slots.read()
    if before.current is None or before.previous is None:
        raise error
    log.error("%s may not judge: %s", shown(before.current), error)
    try:
        inspection = open_as_station(settings, slots.path_of(before.previous), told)
    except BundleError as other:
        # If both fail, the cause is more likely the station itself.
        raise error from other
    slots.give_up_current(str(error))
    slots.announce()
    outbox.event(
        "bundle-rolled-back",
        f"rolled back to {shown(before.previous)}, because {shown(before.current)} may not judge: "
        f"{error}",
        severity=Severity.ALARM,
    )
    return inspection


def open_as_station(
    settings: Settings, bundle: Path, told: Callable[[BuildStep], None] | None = None
) -> Inspection:
    """Open and accept a bundle on the station's engine; verify its signature if the station has a
    public key. Raises EdgeQCError."""
    return open_inspection(
        bundle,
        public_key=settings.bundle.public_key,
        engine=settings.engine.kind,
        threads=settings.engine.threads,
        device=DeviceOptions.of_station(settings.engine, settings.station.state_dir, told),
        max_frame_age_s=settings.line.max_frame_age_s,
    )


def tell_standing_trouble(settings: Settings, line: Line) -> None:
    """Make a station that rolled back by itself DEGRADED until another bundle is installed."""
    if settings.bundle.path is None and (gone := slots_of(settings).read().set_aside) is not None:
        line.troubles[_TROUBLE] = (
            f"runs the previous bundle, because {shown(gone.slot)} was rejected: {gone.why}"
        )


def check_against_bundle(settings: Settings, bundle: Bundle) -> None:
    """Raises SettingsError if the settings name dies, or ask cameras for frame sizes, that the
    bundle did not learn."""
    known = ", ".join(bundle.manifest.dies)
    faults = [
        f"camera {camera.name!r}: die {camera.die!r}"
        for camera in settings.camera
        if camera.die is not None and camera.die not in bundle.manifest.dies
    ]
    faults += [
        f"line.part_dies: die {die!r}"
        for die in settings.line.part_dies or ()
        if die not in bundle.manifest.dies
    ]
    if faults:
        raise SettingsError(
            f"{'; '.join(faults)}: not in the bundle {bundle.path}, which knows {known}. Correct "
            "station.toml, or install a bundle trained on that die"
        )
    for camera in settings.camera:
        size = request_of(camera).frame_size
        die = bundle.manifest.dies.get(camera.die or "")
        if size is not None and die is not None and (unlearned := die.unlearned(*size)):
            raise SettingsError(f"camera {camera.name!r}: its frame {unlearned}")


def shown(slot: Slot) -> str:
    """For people."""
    return f"bundle version {slot.version} ({slot.id[:12]})"
