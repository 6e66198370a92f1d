"""The heartbeat: collects the station's state and health from its rooms and publishes both.

``system.state`` derives the state from the situation; ``health`` counts.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from edge_qc.bundle.verification import Bundle
from edge_qc.camera import Camera, CameraState, CameraStats
from edge_qc.evidence import Evidence
from edge_qc.line.health import Health
from edge_qc.output import Outputs
from edge_qc.publisher import (
    BundleRef,
    CameraHealth,
    EvidenceHealth,
    HealthContent,
    Outbox,
    OutboxHealth,
    OutputHealth,
    Publisher,
    Space,
)
from edge_qc.system.state import Situation, State, next_state

log = logging.getLogger(__name__)

_LOST = (CameraState.LOST, CameraState.FAILED)
_FRESH_S = 0.05
"""For how long a look at the situation is good: a quick line makes hundreds of turns a second."""


class Heartbeat:
    """state, why: the station's state, and its reason in words. troubles: by name, what makes the
    station DEGRADED while it is listed here; any thread may change it, all else belongs to the
    loop. picture_of: returns a camera's process monitoring figures. tell: also receives the
    figures; must return at once."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        outbox: Outbox,
        publisher: Publisher,
        health: Health,
        every_s: float,
        evidence: Evidence | None = None,
        outputs: Outputs | None = None,
    ) -> None:
        """every_s: how often to publish health; the state is published whenever it changes."""
        self.state = State.READY
        self.troubles: dict[str, str] = {}
        self.picture_of: Callable[[str], Mapping[str, float]] = lambda camera: {}
        self.tell: Callable[[HealthContent], None] = lambda figures: None
        self.why = ""
        self._cameras, self._outbox, self._publisher = cameras, outbox, publisher
        self._health, self._every_s, self._evidence = health, every_s, evidence
        self._outputs = outputs
        self._told_s = 0.0
        self._frames: dict[str, int] = {}
        self._looked_s = -math.inf
        self._looked: tuple[str | None, bool, list[str]] = (None, False, [])

    def beat(self, *, queue: int, failure: str | None, stopping: bool) -> None:
        """Call it once in each turn of the loop; it looks around twenty times a second, and at once
        where the loop has changed or an output has a fault. queue: how many frames wait. failure:
        why the loop gave up, or None."""
        now_s = time.monotonic()
        seen = failure, stopping, self._outputs.faults() if self._outputs is not None else []
        if now_s - self._looked_s < _FRESH_S and seen == self._looked:
            return
        self._looked_s, self._looked = now_s, seen
        before = self.state, self.why
        self.state, self.why = next_state(self.state, self._situation(failure, stopping))
        if self._outputs is not None:
            self._outputs.station(self.state)
        if (self.state, self.why) != before:
            self._publisher.state(self.state, self.why)
            log.info("%s: %s", self.state.value, self.why)
        if now_s - self._told_s >= self._every_s:
            figures = self._figures(queue, now_s)
            self._told_s = now_s
            self._publisher.health(figures)
            self.tell(figures)

    def name_bundle(self, bundle: Bundle) -> None:
        """Publish which bundle judges from now on."""
        self._publisher.bundle = BundleRef(id=bundle.id, version=bundle.manifest.version)
        self._publisher.state(self.state, self.why)

    def _situation(self, failure: str | None, stopping: bool) -> Situation:
        status = self._outbox.status()
        faults = []
        if failure is not None:
            faults.append(failure)
        elif status.fault is not None:
            faults.append(f"outbox: {status.fault}")
        if status.space is Space.FULL:
            faults.append("the disk is full, so triggers are refused")
        troubles = []
        if self._outputs is not None:
            faults += self._outputs.faults()
            troubles += self._outputs.troubles()
        states = {camera.name: camera.stats.state for camera in self._cameras}
        lost = [name for name, state in states.items() if state in _LOST]
        if lost:
            troubles.append(f"no picture from {', '.join(lost)}")
        ended = [name for name, state in states.items() if state is CameraState.ENDED]
        if ended:
            troubles.append(f"at its end, no more pictures will come: {', '.join(ended)}")
        if status.space is Space.LOW:
            troubles.append("the disk is nearly full")
        if self._publisher.connected and self._publisher.trouble is not None:
            troubles.append(self._publisher.trouble)
        if self._evidence is not None and self._evidence.trouble is not None:
            troubles.append(self._evidence.trouble)
        troubles += list(self.troubles.values())
        return Situation(
            accepted=True,
            running=True,
            stopping=stopping,
            faults=tuple(faults),
            troubles=tuple(troubles),
        )

    def _figures(self, queue: int, now_s: float) -> HealthContent:
        status = self._outbox.status()
        return HealthContent.model_validate(
            {
                **self._health.snapshot(),
                "time": datetime.now(timezone.utc),
                "state": self.state,
                "queue": queue,
                "cameras": {
                    camera.name: self._camera(camera.name, camera.stats, now_s)
                    for camera in self._cameras
                },
                "outbox": OutboxHealth(
                    waiting=status.waiting,
                    unheard=self._publisher.unheard,
                    open_triggers=status.open_triggers,
                    free_bytes=status.free_bytes,
                    space=status.space.value,
                ),
                "outputs": {
                    name: OutputHealth.model_validate(asdict(figures))
                    for name, figures in (self._outputs.figures() if self._outputs else {}).items()
                },
                "evidence": None
                if self._evidence is None
                else EvidenceHealth.model_validate(asdict(self._evidence.stats)),
            }
        )

    def _camera(self, name: str, stats: CameraStats, now_s: float) -> CameraHealth:
        last_s, before = stats.last_frame_monotonic, self._frames.get(name)
        self._frames[name] = stats.frames
        return CameraHealth(
            state=stats.state.value,
            frames=stats.frames,
            faults=stats.faults,
            rate_per_s=None if before is None else (stats.frames - before) / (now_s - self._told_s),
            last_frame_age_s=None if last_s is None else now_s - last_s,
            picture=self.picture_of(name),
        )
