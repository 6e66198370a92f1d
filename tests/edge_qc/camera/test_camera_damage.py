"""A picture whose decoder reports damage is never judged, nor what was predicted from it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from edge_qc.camera import BadImage, EndOfStream, Grab, open_source
from edge_qc.camera.damage import Damage
from tests.rig.films import damage, write_film

Item: TypeAlias = Grab | BadImage


def items_of(file: Path) -> list[Item]:
    source = open_source(f"file://{file}", die="Die01")
    found: list[Item] = []
    try:
        while True:
            item = source.read(1.0)
            assert item is not None
            found.append(item)
    except EndOfStream:
        return found
    finally:
        source.close()


def bad(items: list[Item]) -> list[int]:
    """Which of the film's frames are not judged."""
    return [number for number, item in enumerate(items) if isinstance(item, BadImage)]


NO_REORDERING = {"bf": "0"}
FILMS = {
    "mpeg4.mp4": ("mpeg4", "yuv420p", NO_REORDERING),
    "mpeg4.avi": ("mpeg4", "yuv420p", NO_REORDERING),
    "h264.mp4": ("libx264", "yuv420p", NO_REORDERING),
    "h264.mkv": ("libx264", "yuv420p", NO_REORDERING),
    "ffv1.mkv": ("ffv1", "gray", {}),
}


@pytest.mark.parametrize("name", FILMS)
def test_damage_reaches_up_to_the_next_key_frame(tmp_path: Path, name: str) -> None:
    """Key frames are 0, 12, 24 and 36. Frame 17 is damaged: 17 to 23 are not judged, all else is as
    in the whole film."""
    codec, pixel_format, options = FILMS[name]
    file = tmp_path / name
    spans = write_film(file, codec, pixel_format=pixel_format, options=options)
    whole = items_of(file)
    assert len(whole) == 48
    assert not bad(whole)
    damage(file, spans[17])
    items = items_of(file)
    assert len(items) == 48
    assert bad(items) == list(range(17, 24))
    for number in set(range(48)) - set(range(17, 24)):
        before, after = whole[number], items[number]
        assert isinstance(before, Grab)
        assert isinstance(after, Grab)
        assert np.array_equal(before.pixels, after.pixels)
    first, second = items[17], items[18]
    assert isinstance(first, BadImage)
    assert isinstance(second, BadImage)
    assert f"video {name}: frame 18 is damaged" in first.detail
    assert "predicted from a damaged one (" in second.detail


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "bframes=3:b-pyramid=2"}),
        ("libx264", {"x264-params": "open-gop=1:bframes=3"}),
        ("mpeg4", {"bf": "2"}),
    ],
)
def test_damage_is_found_where_frames_are_shown_in_another_order(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    """No frame is judged that differs from the whole film's, and there is an item for each."""
    file = tmp_path / "film.mp4"
    spans = write_film(file, codec, options=options)
    whole = items_of(file)
    assert not bad(whole)
    damage(file, spans[20])
    items = items_of(file)
    assert len(items) == 48
    assert bad(items)
    known = {grab.pixels.tobytes() for grab in whole if isinstance(grab, Grab)}
    judged = [item for item in items if isinstance(item, Grab)]
    assert len(judged) > 24, "half of the film is whole"
    assert all(grab.pixels.tobytes() in known for grab in judged)


def test_a_cut_picture_of_an_mjpeg_film_is_one_picture(tmp_path: Path) -> None:
    """Each stands for itself: the next is judged."""
    file = tmp_path / "film.avi"
    spans = write_film(file, "mjpeg", 12, pixel_format="yuvj420p")
    assert not bad(items_of(file))
    offset, size = spans[5]
    data = bytearray(file.read_bytes())
    data[offset + size // 2 : offset + size] = bytes(size - size // 2)
    file.write_bytes(data)
    items = items_of(file)
    assert bad(items) == [5]
    assert "frame 6 is damaged" in items[5].detail  # type: ignore[union-attr]


def test_a_damaged_film_goes_on_at_the_same_item_after_a_reopening(tmp_path: Path) -> None:
    """And damage from before the place is not forgotten."""
    from edge_qc.camera.ffmpeg import VideoSource
    from edge_qc.camera.sources import SourceRequest

    file = tmp_path / "film.mp4"
    damage(file, write_film(file, "mpeg4", options=NO_REORDERING)[17])
    source = VideoSource(SourceRequest(f"file://{file}", "Die01", start=20))
    kinds = [type(source.read(1.0)) for _ in range(6)]
    source.close()
    assert kinds == [BadImage] * 4 + [Grab] * 2


def test_damage_goes_by_the_order_of_decoding() -> None:
    found = Damage()
    assert found.of(0, key=True) == ""
    found.note(2, "a hole")
    assert found.of(1, key=False) == ""
    assert found.of(2, key=False) == "damaged (a hole)"
    assert "predicted" in found.of(3, key=False)
    # Shown before the key frame, decoded after it: it may lean on what lies before.
    assert "predicted" in found.of(5, key=False)
    assert found.of(4, key=True) == ""
    assert found.of(6, key=False) == ""


def test_a_damaged_key_frame_ends_no_damage() -> None:
    found = Damage()
    found.note(3, "a hole")
    found.of(3, key=False)
    found.note(6, "another")
    assert found.of(6, key=True) == "damaged (another)"
    assert "predicted" in found.of(7, key=False)


def test_a_frame_that_never_came_is_told_once() -> None:
    """At once by a decoder that holds none back, later by one that was seen to hold two."""
    found = Damage()
    found.note(4, "a hole")
    assert found.lost(3, 3) == []
    assert found.lost(5, 5) == ["a hole"]
    found.note(10, "another")
    assert found.lost(9, 11) == []
    assert found.lost(12, 14) == []
    assert found.lost(13, 15) == ["another"]
    found.note(30, "at the end")
    assert found.lost(None, 30) == ["at the end"]
    assert found.lost(None, 30) == []
