"""Folders, tables and videos as sources, read in this very process."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from edge_qc.camera import BadImage, EndOfStream, Grab, open_source
from edge_qc.camera.files import TableRow, read_table
from edge_qc.camera.sources import SourceRequest
from edge_qc.errors import CameraError, SettingsError
from tests.rig.cameras import picture


def read_all(folder: Path, **keys: object) -> list[Grab | BadImage]:
    source = open_source(f"file://{folder}", **keys)  # type: ignore[arg-type]
    items = []
    try:
        while (item := source.read(1.0)) is not None:
            items.append(item)
    except EndOfStream:
        return items
    finally:
        source.close()
    raise AssertionError("a folder is never idle")


def test_a_folder_is_read_by_name_whatever_else_lies_there(image_folder: Path) -> None:
    (image_folder / ".hidden.png").write_bytes(b"")
    (image_folder / "sub").mkdir()
    items = read_all(image_folder, die="Die01")
    assert [item.image for item in items] == [f"{i}.png" for i in range(6)]
    assert {item.die for item in items} == {"Die01"}


def test_names_with_blanks_and_signs_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "lot 7? #1 é"
    folder.mkdir()
    cv2.imwrite(str(folder / "a b.png"), picture(1))
    assert read_all(folder, die="Die01")[0].image == "a b.png"
    assert SourceRequest("file:///lot%207").path == Path("/lot 7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "filename,window\na.png,2003\n",
            "has no column lib; wanted filename, lib, seen filename, window",
        ),
        ("", "has no column filename, lib; wanted filename, lib, seen nothing"),
        ("filename,lib\n", "names no image"),
        ("filename,lib\na.png,Die01\na.png,Die02\n", "line 3: names 'a.png' twice, differently"),
        ("filename,lib\n,Die01\n", "line 2: has no filename"),
        ("filename,lib\na.png,\xff", "line 2: is not UTF-8; save it as UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_names_its_fault(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        read_table(file)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_as_a_spreadsheet_saves_it_is_a_table(tmp_path: Path, mark: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(
        f"{mark}Filename;Lib;Part\r\n a.png ; Die01 ;7\r\n\r\nb.png;Die02;\r\n", "utf-8"
    )
    assert read_table(file) == {"a.png": TableRow("Die01", "7"), "b.png": TableRow("Die02", None)}


def test_all_faults_of_a_table_are_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("filename,lib\na.png,Die01\na.png,Die02\n,Die01\nb.png\n")
    with pytest.raises(SettingsError) as caught:
        read_table(file)
    for told in ("line 3: names", "line 4: has no filename", "line 5: has 1 cells, wanted 2"):
        assert told in str(caught.value)


def test_the_challenges_own_tables_are_tables(tmp_path: Path) -> None:
    """With the unnamed index column, with Windows' line ends and mark, with further columns."""
    file = tmp_path / "table.csv"
    file.write_bytes(b"\xef\xbb\xbf,filename,window,lib,Label\r\n0,a.png,2003,Die01,GOOD\r\n")
    assert read_table(file)["a.png"].die == "Die01"
    file.write_text("filename,window,lib\na.png,2005,Die04\n")
    assert read_table(file)["a.png"].part_id is None


def test_a_video_and_a_folder_start_where_they_are_asked(
    image_folder: Path, video_file: Path
) -> None:
    """As they do after a reopening."""
    from edge_qc.camera.ffmpeg import VideoSource
    from edge_qc.camera.files import FolderSource

    folder = FolderSource(SourceRequest(f"file://{image_folder}", "Die01", start=4))
    item = folder.read(1.0)
    assert item is not None
    assert item.image == "4.png"
    video = VideoSource(SourceRequest(f"file://{video_file}", "Die01", start=7, loop=True))
    grab = video.read(1.0)
    assert isinstance(grab, Grab)
    assert grab.pixels[0, 0] == 40 + 5 * 7


def test_a_file_that_is_no_video_says_so(tmp_path: Path) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(b"no video at all" * 100)
    with pytest.raises(CameraError, match=f"{file}: cannot be opened"):
        open_source(f"file://{file}", die="Die01")


def test_a_missing_camera_names_the_device_and_those_that_are_there() -> None:
    with pytest.raises(CameraError, match="no device /dev/video99; seen "):
        open_source("v4l2:///dev/video99", die="Die01")


def test_a_device_that_is_no_camera_is_a_camera_error(tmp_path: Path) -> None:
    (tmp_path / "video0").write_bytes(b"")
    with pytest.raises(CameraError, match="cannot be opened"):
        open_source(f"v4l2://{tmp_path}/video0", die="Die01")


def test_gstreamer_says_what_to_install_or_that_the_pipeline_gives_nothing() -> None:
    """pip's OpenCV has no GStreamer; apt's has."""
    wanted = "appsink"
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        wanted = "apt install python3-opencv"
    with pytest.raises(SettingsError, match=wanted):
        open_source("gst:videotestsrc ! fakesink", die="Die01")
