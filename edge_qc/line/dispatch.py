"""Triggers from outside, by message or at a pin, brought to the cameras that they are meant for.

A trigger is accepted when it is durable in the outbox, before any camera is asked; from then on
each of its cameras owes it one verdict. Its verdicts' ids are made of its own id, so that a trigger
that comes again, after a restart too, is known for what it is. When a picture is taken is
``camera``'s, what comes of it ``line``'s.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timezone

from edge_qc.camera import Camera, Fault
from edge_qc.camera.gpio import PinWatch
from edge_qc.errors import CameraError, PublishError
from edge_qc.line.intake import Intake
from edge_qc.parts import Reason
from edge_qc.publisher import Outbox, Publisher, Severity, TriggerRecord
from edge_qc.publisher.requests import (
    TRIGGER_LEVEL,
    ReplyStatus,
    TriggerReply,
    TriggerRequest,
    read_trigger,
    trigger_id_of,
)
from edge_qc.settings import CameraTable, StationTable
from edge_qc.settings.triggering import Pin
from edge_qc.system.state import State

log = logging.getLogger(__name__)

_REMEMBERED = 10_000
_CLOSE_S = 5.0
_OWED = 16
"""Triggers that may wait for one camera: the pictures of more would come too late."""


@dataclass(frozen=True, slots=True)
class Post:
    """A camera that the station triggers, and its settings."""

    camera: Camera
    settings: CameraTable


class Dispatch:
    """Accepts or refuses triggers. Any thread may call it; one trigger is taken in at a time, so
    that the cameras of one are not told apart from those of the next."""

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
        """state: what the station is doing; triggers are accepted while it judges.
        part_per_trigger: a part that nobody names takes its id from the trigger."""
        self._posts = tuple(posts)
        self._station, self._outbox, self._intake, self._state = station, outbox, intake, state
        self._part_per_trigger = part_per_trigger
        self._recent: OrderedDict[str, Mapping[str, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def message(self, payload: bytes, came_s: float | None = None) -> TriggerReply:
        """A trigger as a message has it; what to answer. came_s: when it came
        (``time.monotonic``), None for now."""
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
            return self._accept(request.trigger_id, request.part_id, meant, came_s)

    def edge(self, posts: Sequence[Post], age_s: float = 0.0) -> TriggerReply:
        """An edge at the pin of these cameras: a trigger without a part, its id made here. age_s:
        how long ago it was."""
        came_s = time.monotonic() - age_s
        with self._lock:
            return self._accept(uuid.uuid4().hex, None, posts, came_s)

    def close(self) -> None:
        """Accept no more; returns when those accepted before are with their cameras, or where the
        disk holds one up."""
        self._closed = True
        if self._lock.acquire(timeout=_CLOSE_S):
            self._lock.release()

    def _accept(
        self, trigger_id: str, part_id: str | None, posts: Sequence[Post], came_s: float
    ) -> TriggerReply:
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
            )
            try:
                done = self._outbox.trigger(verdict_ids[post.camera.name], record)
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
        # Only now, and one right after the other: the cameras of one trigger see one moment.
        faults = []
        for post in durable:
            name = post.camera.name
            self._intake.expect(name, trigger_id, verdict_ids[name])
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
        """Ask the camera; why it cannot be asked, since it owes a verdict all the same."""
        if age_s > post.settings.timeout_s:
            # Another part may lie there by now.
            return Reason.CAMERA, f"recorded only {age_s:.1f} s after the trigger; no picture taken"
        owed = self._intake.owed(post.camera.name)
        if owed > _OWED:
            return Reason.OVERRUN, f"{owed - 1} triggers wait for this camera already"
        try:
            post.camera.trigger(trigger_id, part_id)
        except CameraError as error:
            return Reason.CAMERA, str(error)
        return None

    def _known(self, trigger_id: str, posts: Sequence[Post]) -> Mapping[str, str] | None:
        """The verdicts of a trigger that was accepted before; None for a new one."""
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


class Inputs:
    """The topic and the pins of a station's triggers, open until ``close``."""

    def __init__(
        self,
        dispatch: Dispatch,
        posts: Sequence[Post],
        outbox: Outbox,
        publisher: Publisher,
        troubles: dict[str, str],
    ) -> None:
        """Listens at once. troubles: by name, why a pin cannot be watched, for as long as it
        cannot. Raises SettingsError where it never will be."""
        self._dispatch, self._outbox, self._publisher = dispatch, outbox, publisher
        self._troubles = troubles
        if any(post.settings.triggering.kind == "mqtt" for post in posts):
            publisher.listen(TRIGGER_LEVEL, self._hear)
        by_pin: dict[Pin, list[Post]] = {}
        for post in posts:
            if post.settings.triggering.pin is not None:
                by_pin.setdefault(post.settings.triggering.pin, []).append(post)
        self._watches = [self._watch(pin, meant) for pin, meant in by_pin.items()]
        for watch in self._watches:
            watch.start()

    def close(self) -> None:
        """Accept no more triggers."""
        self._dispatch.close()
        for watch in self._watches:
            watch.stop()

    def _hear(self, payload: bytes, came_s: float) -> None:
        reply = self._dispatch.message(payload, came_s)
        self._publisher.reply(reply.model_dump(mode="json", by_alias=True))

    def _watch(self, pin: Pin, posts: Sequence[Post]) -> PinWatch:
        def lost(count: int) -> None:
            self._outbox.event(
                "trigger-lost",
                f"{count} edges at {pin} came faster than they could be taken in; their parts have "
                "no verdict",
                severity=Severity.ALARM,
            )

        def trouble(why: str | None) -> None:
            if why is None:
                self._troubles.pop(str(pin), None)
            else:
                self._troubles[str(pin)] = why

        def edge(age_s: float) -> None:
            reply = self._dispatch.edge(posts, age_s)
            if reply.status is ReplyStatus.REFUSED:
                log.warning("an edge at %s is refused: %s", pin, reply.detail)

        return PinWatch(pin, edge, lost, trouble)


def _is_meant(post: Post, request: TriggerRequest) -> bool:
    if request.camera is not None:
        return post.camera.name == request.camera
    return request.die is None or post.settings.die == request.die


def _nobody(request: TriggerRequest, posts: Sequence[Post]) -> str:
    asked = f"camera {request.camera!r}" if request.camera is not None else f"die {request.die!r}"
    names = ", ".join(f"{post.camera.name} ({post.settings.die or 'by table'})" for post in posts)
    return f'{asked} has no trigger = "mqtt" here; these have: {names or "none"}'
