"""Dispatches triggers from outside, by message, pin or controller, to their cameras.

A trigger is accepted when it is durable in the outbox, before any camera is asked. From then on
each of its cameras owes one verdict. Verdict ids derive from the trigger id, so that a repeated
trigger is recognised, even after a restart. ``camera`` takes the picture, ``judging`` judges it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timezone

from edge_qc.camera import Camera, Fault
from edge_qc.errors import CameraError, PublishError
from edge_qc.line.intake import Intake
from edge_qc.line.outgoing import Origin
from edge_qc.output import ControllerTrigger
from edge_qc.parts import Reason
from edge_qc.publisher import Outbox, TriggerRecord
from edge_qc.publisher.requests import (
    ReplyStatus,
    TriggerReply,
    TriggerRequest,
    read_trigger,
    trigger_id_of,
)
from edge_qc.settings import CameraTable, StationTable
from edge_qc.system.state import State

_REMEMBERED = 10_000
_CLOSE_S = 5.0
_OWED = 16
"""How many triggers may wait for one camera; more would be photographed too late."""


@dataclass(frozen=True, slots=True)
class Post:
    """A camera that the station triggers, and its settings."""

    camera: Camera
    settings: CameraTable


class Dispatch:
    """Accepts or refuses triggers. Safe from any thread. It handles one trigger at a time, so that
    all cameras of one trigger fire before those of the next."""

    def __init__(
        self,
        posts: Sequence[Post],
        station: StationTable,
        outbox: Outbox,
        intake: Intake,
        state: Callable[[], State],
        *,
        part_per_trigger: bool = False,
    ) -> None:
        """state: returns the station's state; triggers are accepted while it judges.
        part_per_trigger: a part without an id takes the trigger's id."""
        self._posts = tuple(posts)
        self._station, self._outbox, self._intake, self._state = station, outbox, intake, state
        self._part_per_trigger = part_per_trigger
        self._recent: OrderedDict[str, Mapping[str, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def message(self, payload: bytes, came_s: float | None = None) -> TriggerReply:
        """Handle a trigger message and return the reply. came_s: its arrival (``time.monotonic``),
        None for now."""
        if came_s is None:
            came_s = time.monotonic()
        try:
            request = read_trigger(payload)
        except PublishError as error:
            return self._reply(trigger_id_of(payload), ReplyStatus.REFUSED, detail=str(error))
        posts = [post for post in self._posts if post.settings.triggering.kind == "mqtt"]
        meant = [post for post in posts if _is_meant(post, request)]
        if not meant:
            return self._reply(
                request.trigger_id, ReplyStatus.REFUSED, detail=_nobody(request, posts)
            )
        with self._lock:
            try:
                before = self._known(request.trigger_id, posts)
            except PublishError as error:
                return self._reply(request.trigger_id, ReplyStatus.REFUSED, detail=str(error))
            if before is not None:
                return self._reply(request.trigger_id, ReplyStatus.DUPLICATE, before)
            origin = Origin(request.trigger_id, came_s, request.lot, request.serial)
            return self._accept(origin, request.part_id, meant)

    def edge(self, posts: Sequence[Post], age_s: float = 0.0) -> TriggerReply:
        """Handle an edge at the pin of these cameras: a trigger without a part, with a new id.
        age_s: how long ago it happened."""
        came_s = time.monotonic() - age_s
        with self._lock:
            return self._accept(Origin(uuid.uuid4().hex, came_s), None, posts)

    def counted(self, posts: Sequence[Post], trigger: ControllerTrigger) -> TriggerReply:
        """A trigger that a controller counted. Its id ends in the count, and no restart of either
        side gives it out again."""
        trigger_id = f"{uuid.uuid4().hex[:16]}.{trigger.count}"
        origin = Origin(trigger_id, trigger.came_s, trigger.lot, trigger.serial)
        with self._lock:
            return self._accept(origin, trigger.part, posts)

    def close(self) -> None:
        """Accept no more triggers. Returns when the accepted ones are with their cameras, or after
        a few seconds if the disk delays one."""
        self._closed = True
        if self._lock.acquire(timeout=_CLOSE_S):
            self._lock.release()

    def _accept(self, origin: Origin, part_id: str | None, posts: Sequence[Post]) -> TriggerReply:
        trigger_id, came_s = origin.trigger_id, origin.triggered_s
        assert came_s is not None
        state = self._state()
        if self._closed or state not in (State.RUNNING, State.DEGRADED):
            return self._reply(
                trigger_id, ReplyStatus.REFUSED, detail=f"the station is {state.value}"
            )
        if part_id is None and self._part_per_trigger:
            part_id = trigger_id
        now = datetime.now(timezone.utc)
        verdict_ids = {post.camera.name: self._verdict_id(trigger_id, post) for post in posts}
        recorded: list[tuple[Post, Future[None]]] = []
        detail = ""
        for post in posts:
            record = TriggerRecord(
                camera=post.camera.name,
                die=post.settings.die,
                trigger_id=trigger_id,
                part_id=part_id,
                time=now,
                lot=origin.lot,
                serial=origin.serial,
            )
            try:
                done = self._outbox.trigger(verdict_ids[post.camera.name], record, hurry=True)
            except PublishError as error:
                detail = str(error)
                break
            recorded.append((post, done))
        durable = []
        for post, done in recorded:
            try:
                done.result()
            except PublishError as error:
                detail = str(error)
            else:
                durable.append(post)
        accepted = {post.camera.name: verdict_ids[post.camera.name] for post in durable}
        # Fire only now, one right after the other, so that all cameras of a trigger see the same
        # moment.
        faults = []
        for post in durable:
            name = post.camera.name
            self._intake.expect(name, verdict_ids[name], origin)
            fault = self._fire(post, trigger_id, part_id, time.monotonic() - came_s)
            if fault is not None:
                faults.append(
                    Fault(
                        camera=name,
                        die=post.settings.die,
                        trigger_id=trigger_id,
                        part_id=part_id,
                        image=None,
                        detail=fault[1],
                        reason=fault[0],
                        time=now,
                    )
                )
        for owed in faults:
            self._intake.deliver(owed)
        if detail:
            self._intake.refuse(detail)
            return self._reply(trigger_id, ReplyStatus.REFUSED, accepted, detail)
        self._recent[trigger_id] = accepted
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        return self._reply(trigger_id, ReplyStatus.ACCEPTED, accepted)

    def _fire(
        self, post: Post, trigger_id: str, part_id: str | None, age_s: float
    ) -> tuple[Reason, str] | None:
        """Ask the camera for a picture. Returns the reason and detail if that fails, since the
        camera still owes a verdict."""
        if age_s > post.settings.timeout_s:
            # By now another part may lie there.
            return Reason.CAMERA, f"recorded only {age_s:.1f} s after the trigger; no picture taken"
        owed = self._intake.owed(post.camera.name)
        if owed > _OWED:
            return Reason.OVERRUN, f"{owed - 1} triggers already wait for this camera"
        try:
            post.camera.trigger(trigger_id, part_id)
        except CameraError as error:
            return Reason.CAMERA, str(error)
        return None

    def _known(self, trigger_id: str, posts: Sequence[Post]) -> Mapping[str, str] | None:
        """The verdict ids of a trigger that was accepted before; None for a new one."""
        if trigger_id in self._recent:
            return self._recent[trigger_id]
        ids = {post.camera.name: self._verdict_id(trigger_id, post) for post in posts}
        known = {name: found for name, found in ids.items() if self._outbox.knows(found)}
        return known or None

    def _verdict_id(self, trigger_id: str, post: Post) -> str:
        name = f"{self._station.root}/{post.camera.name}/{trigger_id}"
        return str(uuid.uuid5(uuid.NAMESPACE_URL, name))

    def _reply(
        self,
        trigger_id: str | None,
        status: ReplyStatus,
        verdict_ids: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> TriggerReply:
        return TriggerReply(
            epoch=self._outbox.epoch,
            site=self._station.site,
            station=self._station.name,
            time=datetime.now(timezone.utc),
            trigger_id=trigger_id,
            status=status,
            verdict_ids=verdict_ids or {},
            detail=detail,
        )


def _is_meant(post: Post, request: TriggerRequest) -> bool:
    if request.camera is not None:
        return post.camera.name == request.camera
    return request.die is None or post.settings.die == request.die


def _nobody(request: TriggerRequest, posts: Sequence[Post]) -> str:
    asked = f"camera {request.camera!r}" if request.camera is not None else f"die {request.die!r}"
    names = ", ".join(f"{post.camera.name} ({post.settings.die or 'by table'})" for post in posts)
    return f'{asked} has no trigger = "mqtt" at this station; cameras that have: {names or "none"}'
