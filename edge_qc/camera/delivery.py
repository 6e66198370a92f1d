"""Turns a camera process's messages into the line's events, and counts them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.events import Deliver, Fault
from edge_qc.camera.triggers import Trigger
from edge_qc.camera.watched import Memory
from edge_qc.errors import CameraError, SettingsError
from edge_qc.parts import Frame, Reason


class Delivery:
    """Makes the frames and faults of one camera and hands them to ``deliver``.

    die: of a camera that sees one die. dies: those that can be judged, None for any. memory: where
    a source's tokens are kept, once their items were delivered.
    """

    def __init__(
        self,
        camera: str,
        die: str | None,
        dies: Collection[str] | None,
        deliver: Deliver,
        memory: Memory | None = None,
    ) -> None:
        self.frames = self.faults = self.overruns = 0
        self.last_frame_s: float | None = None
        self._camera = camera
        self._die = die
        self._dies = dies
        self._deliver = deliver
        self._memory = memory

    def check_die(self) -> None:
        """Raises SettingsError if the camera's die cannot be judged."""
        if self._dies is not None and self._die not in self._dies:
            raise SettingsError(
                f"camera {self._camera}: die {self._die!r} is unknown to the bundle, which knows "
                f"{', '.join(self._dies)}"
            )

    def item(
        self, message: Mapping[str, Any], pixels: NDArray[np.uint8] | None, trigger: Trigger | None
    ) -> None:
        """Deliver a message of kind ``frame`` with its pixels, or of kind ``bad`` without. Raises
        CameraError if an image of a source with a memory could not be recorded."""
        recorded = self._item(message, pixels, trigger)
        if self._memory is not None and message["token"] is not None:
            # Behind the delivery: a crash in between judges one image twice, and loses none.
            if recorded is False:
                image = _text(message["image"])
                raise CameraError(
                    f"camera {self._camera}: image {image} could not be recorded; it is read again"
                )
            self._memory.add(message["token"])

    def _item(
        self, message: Mapping[str, Any], pixels: NDArray[np.uint8] | None, trigger: Trigger | None
    ) -> bool | None:
        die, image = message["die"], _text(message["image"])
        if pixels is None:
            return self.fault(Reason(message["reason"]), message["detail"], trigger, message)
        if self._dies is not None and die not in self._dies:
            subject = f"image {image}: " if image else ""
            known = ", ".join(self._dies)
            detail = f"{subject}die {die!r} is not in the bundle, which knows {known}"
            return self.fault(Reason.FRAME, detail, trigger, message)
        try:
            frame = Frame(
                pixels=pixels,
                camera=self._camera,
                die=die,
                trigger_id=trigger.trigger_id if trigger else uuid.uuid4().hex,
                part_id=trigger.part_id if trigger and trigger.part_id else message["part_id"],
                sequence=self.frames,
                time=datetime.fromisoformat(message["time"]),
                monotonic_s=message["monotonic_s"],
                image=image,
            )
        except ValueError as error:
            # A source's mistake costs its frame, not the camera.
            detail = f"camera {self._camera}: {error}"
            return self.fault(Reason.FRAME, detail, trigger, message)
        self.frames += 1
        self.last_frame_s = frame.monotonic_s
        return self._deliver(frame)

    def overrun(self) -> None:
        """Deliver the fault of one frame that was dropped."""
        self.overruns += 1
        self.fault(Reason.OVERRUN, "dropped: the line is slower than the camera")

    def fault(
        self,
        reason: Reason,
        detail: str,
        trigger: Trigger | None = None,
        message: Mapping[str, Any] | None = None,
    ) -> bool | None:
        """Deliver a fault; ``message`` names the image that it is about."""
        named = message or {}
        self.faults += 1
        return self._deliver(
            Fault(
                camera=self._camera,
                die=named.get("die") or self._die,
                trigger_id=trigger.trigger_id if trigger else uuid.uuid4().hex,
                part_id=trigger.part_id if trigger and trigger.part_id else named.get("part_id"),
                image=_text(named.get("image")),
                detail=_text(detail),
                reason=reason,
                time=datetime.now(timezone.utc),
            )
        )


def _text(said: Any) -> Any:
    """What a message can hold of it: file names may be bytes in no encoding, which Python keeps as
    characters that nothing can write."""
    return said.encode("utf-8", "replace").decode() if isinstance(said, str) else said
