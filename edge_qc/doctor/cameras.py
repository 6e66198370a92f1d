"""The cameras: device nodes and their permissions, hosts that answer, folders that exist. No frame
is grabbed, because the running station may use the camera."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from edge_qc.camera.gpio import check_pin
from edge_qc.camera.sources import SourceRequest, check_source, request_of
from edge_qc.doctor.finding import AS_ROOT, Finding, bad, good, none, note
from edge_qc.doctor.station_user import may, station_user
from edge_qc.errors import EdgeQCError
from edge_qc.extras import how_to_install
from edge_qc.settings import CameraTable, Settings
from edge_qc.settings.triggering import Pin

_ANSWER_S = 3.0
_RTSP = 554


def sources(settings: Settings | None, root: Path) -> Iterator[Finding]:
    """Check each camera of the station; without a station.toml, list the device nodes."""
    if settings is None:
        nodes = sorted(file.name for file in (root / "dev").glob("video[0-9]*"))
        if nodes:
            yield note("cameras", f"device nodes {', '.join(nodes)}; no station.toml names one")
        else:
            yield none("cameras", "no device nodes, no station.toml")
        return
    for camera in settings.camera:
        yield _camera(camera)
        if camera.triggering.pin is not None:
            yield pin_finding(f"trigger of {camera.name}", camera.triggering.pin)


def _camera(camera: CameraTable) -> Finding:
    check = f"camera {camera.name}"
    request = request_of(camera)
    try:
        check_source(request)
    except EdgeQCError as error:
        return bad(check, str(error), "correct its source in station.toml")
    scheme = camera.source.scheme
    if scheme == "v4l2":
        return _node(check, request.path)
    if scheme in ("rtsp", "rtsps"):
        return _host(check, request)
    if scheme == "file":
        # check_source has looked whether it is there and may be read.
        return good(check, f"{request.path} may be read")
    return note(check, f"{request.shown}: not checked, only the station opens it")


def _node(check: str, node: Path) -> Finding:
    if not os.path.exists(node):
        beside = sorted(str(file) for file in node.parent.glob("*video*"))
        return bad(
            check,
            f"{node} does not exist",
            f"plug the camera in, or correct its source; present: {', '.join(beside) or 'none'}",
        )
    if not may(node, os.R_OK | os.W_OK):
        return bad(
            check,
            f"{node}: this user may not open it",
            f"sudo usermod -aG video edge-qc; or {AS_ROOT}",
        )
    return good(check, f"{node} may be opened")


def pin_finding(check: str, pin: Pin, key: str = "trigger") -> Finding:
    """Whether this user may request a pin, without requesting it. key: of station.toml."""
    try:
        check_pin(pin)
    except EdgeQCError as error:
        return bad(check, str(error), how_to_install("gpio"))
    if not os.path.exists(pin.chip):
        beside = sorted(str(file) for file in Path("/dev").glob("gpiochip*"))
        return bad(
            check,
            f"{pin.chip} does not exist",
            f"correct {key} in station.toml; present: {', '.join(beside) or 'no chips'}",
        )
    with station_user():
        allowed = may(pin.chip, os.R_OK | os.W_OK)
    if not allowed:
        return bad(
            check,
            f"{pin.chip}: this user may not open it",
            f"sudo usermod -aG gpio edge-qc; or {AS_ROOT}",
        )
    return good(check, f"{pin} may be requested")


def _host(check: str, request: SourceRequest) -> Finding:
    parts = urlsplit(request.uri)
    port = parts.port or _RTSP
    try:
        with socket.create_connection((parts.hostname or "", port), _ANSWER_S):
            return good(check, f"{request.shown} answers")
    except OSError as error:
        return bad(
            check,
            f"{request.shown}: {error}",
            "check that the camera has power and that this network reaches it",
        )
