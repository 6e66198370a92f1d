"""Cameras: read frames from files and devices, by URI.

A station uses ``Camera``: a source in its own process, reopened when it is lost. ``open_source``
reads a source in the calling process, for tools. This module imports neither OpenCV nor the
settings.
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
