"""Cameras: frames in, from files and devices, by URI.

``Camera`` is what a station uses: a source in a process of its own, reopened when it is lost.
``open_source`` reads one in this very process, for tools. This page is the room's face; it imports
neither OpenCV nor the settings.
"""

from edge_qc.camera.backoff import Backoff
from edge_qc.camera.events import CameraState, CameraStats, Deliver, Ended, Event, Fault
from edge_qc.camera.images import read_image
from edge_qc.camera.reader import Camera
from edge_qc.camera.sources import (
    SCHEMES,
    BadImage,
    EndOfStream,
    Grab,
    Source,
    SourceRequest,
    check_source,
    open_source,
    request_of,
)

__all__ = [
    "SCHEMES",
    "Backoff",
    "BadImage",
    "Camera",
    "CameraState",
    "CameraStats",
    "Deliver",
    "EndOfStream",
    "Ended",
    "Event",
    "Fault",
    "Grab",
    "Source",
    "SourceRequest",
    "check_source",
    "open_source",
    "read_image",
    "request_of",
]
