"""Fixtures of cameras: how one is started, and the files that one reads."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_qc.camera import SCHEMES, Backoff, Camera, Event
from edge_qc.settings import CameraTable
from tests.rig.cameras import SOON_S, Start, Watched, picture


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a camera by its settings; stopped after the test."""
    monkeypatch.setitem(SCHEMES, "scripted", "scripted_camera:ScriptedCamera")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "rig"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "rig"))
    started: list[Watched] = []

    def start(
        source: str,
        *,
        deliver: Callable[[Event], None] | None = None,
        dies: tuple[str, ...] | None = None,
        triggered: bool = False,
        open_timeout_s: float = SOON_S,
        name: str = "north",
        memory: Path | None = None,
        **keys: object,
    ) -> Watched:
        if "table" not in keys:
            keys.setdefault("die", "Die01")
        settings = CameraTable.model_validate({"name": name, "source": source, **keys})
        camera = Camera(
            settings,
            dies=dies,
            triggered=triggered,
            memory=memory,
            open_timeout_s=open_timeout_s,
            backoff=Backoff(0.02, 0.1),
        )
        watched = Watched(camera, deliver)
        camera.start(watched.deliver)
        started.append(watched)
        return watched

    yield start
    for watched in started:
        assert watched.camera.stop(), "the camera's thread does not end"
        assert watched.camera.stats.pid is None


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Six images, each larger than the one before, and a table that knows five of them."""
    folder = tmp_path / "images"
    folder.mkdir()
    lines = [",filename,window,lib,part"]
    for i in range(6):
        cv2.imwrite(str(folder / f"{i}.png"), picture(i, 64 * (i + 1), 48 * (i + 1)))
        if i != 4:
            lines.append(f"{i},{i}.png,2003,Die0{i % 4 + 1},part-{i // 2}")
    (folder / "notes.txt").write_text("not an image")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def video_file(tmp_path: Path) -> Path:
    """Thirty frames, each a grey step brighter, without loss."""
    file = tmp_path / "film.mkv"
    writer = cv2.VideoWriter(
        str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 25, (64, 48), isColor=False
    )
    assert writer.isOpened()
    for i in range(30):
        writer.write(np.full((48, 64), 40 + 5 * i, np.uint8))
    writer.release()
    return file


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets between processes that hold few messages, as they do not on Linux by default."""
    socketpair = socket.socketpair

    def small(*arguments: int) -> tuple[socket.socket, socket.socket]:
        pair = socketpair(*arguments)
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        return pair

    monkeypatch.setattr(socket, "socketpair", small)
