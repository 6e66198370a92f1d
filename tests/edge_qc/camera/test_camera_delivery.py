"""What a camera's process says wrongly costs one frame, not the camera."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import numpy as np
import pytest

from edge_qc.camera import Event, Fault
from edge_qc.camera.delivery import Delivery
from edge_qc.parts import Reason


@pytest.mark.parametrize("shape", [(8, 8, 4), (0, 8), (2, 8, 8, 3)])
def test_pixels_that_are_no_frame_are_a_fault(shape: tuple[int, ...]) -> None:
    events: list[Event] = []
    delivery = Delivery("north", "Die01", None, events.append)
    message = {
        "die": "Die01",
        "image": "a.png",
        "part_id": "p1",
        "time": datetime.now(timezone.utc).isoformat(),
        "monotonic_s": time.monotonic(),
    }
    delivery.item(message, np.zeros(shape, np.uint8), None)
    (fault,) = events
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.image, fault.part_id) == (Reason.FRAME, "a.png", "p1")
    assert "pixel" in fault.detail
    assert (delivery.frames, delivery.faults) == (0, 1)
