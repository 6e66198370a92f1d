"""Folders and films that the station's user may not read, or that cannot be looked at for now."""

from __future__ import annotations

import errno
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from edge_qc.camera.sources import SourceRequest, check_source
from edge_qc.camera.watched import forget_gone, remember, remembered
from edge_qc.errors import CameraError, SettingsError
from tests.rig.cameras import Start, picture
from tests.rig.privileges import without_root


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may read, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for below in folder.iterdir():
        below.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("source", "watch", "mode"),
    [
        *itertools.product(
            ["inbox/", "inbox", "inbox/below", "inbox/below/"], [False, True], [0, 0o444]
        ),
        ("film.avi", False, 0),
    ],
)
def test_what_this_user_may_not_read_is_refused_in_words(
    place: Path, source: str, watch: bool, mode: int
) -> None:
    """Not with a traceback, after which a station would start again and again. A folder that may be
    listed and not entered shows no image either."""
    (place / "inbox" / "below").mkdir(parents=True)
    cv2.imwrite(str(place / "inbox" / "a.png"), picture(1))
    cv2.imwrite(str(place / "inbox" / "below" / "a.png"), picture(1))
    (place / "film.avi").write_bytes(b"film")
    for closed in ("inbox", "film.avi"):
        (place / closed).chmod(mode)
    request = SourceRequest(f"file://{place}/{source}", "Die01", watch=watch)

    def refusal() -> str:
        try:
            check_source(request)
        except SettingsError as error:
            return str(error)
        return "taken"

    assert f"this user may not read {place}/{source.rstrip('/')} (Permission denied)" in (
        without_root(refusal)
    )


def test_a_share_that_cannot_be_looked_at_for_now_is_waited_for(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops neither this camera nor the station's others."""

    def away(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    cv2.imwrite(str(tmp_path / "a.png"), picture(1))
    monkeypatch.setattr("edge_qc.camera.access.os.scandir", away)
    with pytest.raises(CameraError, match=r"cannot be looked at .*its disk or share"):
        check_source(SourceRequest(f"file://{tmp_path}", "Die01", watch=True))
    watched = start(f"file://{tmp_path}", watch=True)
    assert [frame.image for frame in watched.frames(1)] == ["a.png"]


def test_a_folder_that_cannot_be_listed_is_not_forgotten(place: Path) -> None:
    """Its share may be there and not yet open to this user."""
    memory = place / "state" / "north.seen"
    for folder, mode in ((memory.parent, 0o777), (place / "inbox", 0)):
        folder.mkdir()
        folder.chmod(mode)
    remember(memory, '["a.png", 10, 1]')
    memory.chmod(0o666)

    def kept() -> str:
        forget_gone(place / "inbox", memory)
        return str(remembered(memory))

    assert "a.png" in without_root(kept)
