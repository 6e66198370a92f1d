"""Views are made once, equal the station's, and bad pictures are told with their table's line."""

from __future__ import annotations

import resource
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_qc.bundle.dies import CHALLENGE_DIES, read_dies
from edge_qc.errors import DataError, EdgeQCError
from edge_qc.inspection.view import view
from edge_qc_export.data.dataset import read_samples
from edge_qc_export.data.tables import Fault
from edge_qc_export.data.view_store import make_views
from tests.rig.pictures import DIES, write_challenge

SIZE = (24, 20)


def test_a_kept_view_is_the_view_that_the_station_makes(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 3, "Missing": 3})
    dies = read_dies(tmp_path / "dies.json")
    samples = read_samples(tmp_path, "train", DIES)
    made = make_views(tmp_path, samples, dies, SIZE, folder=tmp_path / "cache")
    assert made.pixels.shape == (6, *SIZE)
    for sample, pixels in zip(samples, made.pixels, strict=True):
        photograph = cv2.imread(str(sample.file), cv2.IMREAD_GRAYSCALE)
        assert photograph is not None
        wanted = view(photograph.astype(np.uint8), dies[sample.die], SIZE).pixels[0]
        np.testing.assert_array_equal(pixels, wanted)


def test_pictures_are_read_by_the_stations_rule(tmp_path: Path) -> None:
    """Grey saved as colour and with 16 bits, and colour: as the station turns it to grey."""
    write_challenge(tmp_path, {"GOOD": 4})
    dies, samples = read_dies(tmp_path / "dies.json"), read_samples(tmp_path, "train", DIES)
    plain = make_views(tmp_path, samples, dies, SIZE).pixels
    grey = [cv2.imread(str(sample.file), cv2.IMREAD_GRAYSCALE) for sample in samples]
    colour = np.dstack([grey[2], 255 - grey[2], grey[2] // 3]).astype(np.uint8)
    cv2.imwrite(str(samples[0].file), np.dstack([grey[0]] * 3))
    cv2.imwrite(str(samples[1].file), grey[1].astype(np.uint16) * 257)
    cv2.imwrite(str(samples[2].file), colour)
    seen = make_views(tmp_path, samples, dies, SIZE).pixels
    np.testing.assert_array_equal(seen[[0, 1, 3]], plain[[0, 1, 3]])
    np.testing.assert_array_equal(seen[2], view(colour, dies[samples[2].die], SIZE).pixels[0])


def test_kept_views_are_found_again_and_made_anew_when_a_picture_changes(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 2})
    dies, cache = read_dies(tmp_path / "dies.json"), tmp_path / "cache"
    samples = read_samples(tmp_path, "train", DIES)
    first = make_views(tmp_path, samples, dies, SIZE, folder=cache)
    assert isinstance(first.pixels, np.memmap)
    files = sorted(cache.iterdir())
    stamps = [file.stat().st_mtime_ns for file in files]
    again = make_views(tmp_path, samples, dies, SIZE, folder=cache)
    assert [file.stat().st_mtime_ns for file in files] == stamps
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.hashes, again.hashes)
    assert again.frame_sizes.tolist() == [[40, 36]] * 2
    Image.new("L", (40, 36), 77).save(samples[1].file)
    changed = make_views(tmp_path, samples, dies, SIZE, folder=cache)
    np.testing.assert_array_equal(changed.pixels[0], first.pixels[0])
    assert (changed.pixels[1] == 77).all()


def test_all_bad_pictures_are_told_at_once_beside_the_tables_faults(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 5})
    folder = tmp_path / "input_train"
    whole = (folder / "train_0001.png").read_bytes()
    (folder / "train_0001.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train_0002.png").write_text("no picture")
    Image.new("RGBA", (40, 36)).save(folder / "train_0003.png")
    Image.new("I;16", (40, 36), 4000).save(folder / "train_0004.png")
    samples = read_samples(tmp_path, "train", DIES)
    table = tmp_path / "Y_train.csv"
    with pytest.raises(DataError) as caught:
        make_views(
            tmp_path,
            samples,
            read_dies(tmp_path / "dies.json"),
            SIZE,
            folder=tmp_path / "cache",
            faults=[Fault(table, 9, "of the table")],
        )
    rows = str(caught.value).splitlines()
    assert "5 faults" in rows[0]
    for row, line, told in zip(
        rows[1:6],
        (2, 3, 4, 5, 9),
        (
            "train_0001.png: truncated",
            "train_0002.png: damaged, or not an image",
            "train_0003.png: partly transparent",
            "train_0004.png: 16 bits per channel, but no value above 4000",
            "of the table",
        ),
        strict=True,
    ):
        assert f"{table}:{line}: " in row
        assert told in row
    assert not list((tmp_path / "cache").iterdir()), "half-made views were left behind"


def test_a_die_table_for_other_pictures_is_told(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 1})
    samples = read_samples(tmp_path, "train", DIES)
    with pytest.raises(DataError, match=r"40x36 pixels lies wholly outside the box of Die01"):
        make_views(tmp_path, samples, CHALLENGE_DIES, SIZE)


def test_a_full_disk_is_told_before_a_picture_is_decoded(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 8})
    samples = read_samples(tmp_path, "train", DIES)
    dies = read_dies(tmp_path / "dies.json")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(EdgeQCError, match=r"cannot be written .* Make room, or name another"):
            make_views(tmp_path, samples, dies, SIZE, folder=tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 1})
    samples = read_samples(tmp_path, "train", DIES)
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeQCError, match="cannot be written"):
        make_views(
            tmp_path, samples, read_dies(tmp_path / "dies.json"), SIZE, folder=tmp_path / "file"
        )


def test_a_picture_is_read_as_the_station_reads_it(tmp_path: Path) -> None:
    """Grey that a tool saved as colour, with alpha or with 16 bits is the same view."""
    write_challenge(tmp_path, {"GOOD": 5})
    folder = tmp_path / "input_train"
    grey = cv2.imread(str(folder / "train_0001.png"), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    cv2.imwrite(str(folder / "train_0003.png"), colour)
    cv2.imwrite(str(folder / "train_0005.png"), grey.astype(np.uint16) * 257)
    tinted = colour.copy()
    tinted[:, :, 2] = 255
    cv2.imwrite(str(folder / "train_0002.png"), tinted)
    samples = read_samples(tmp_path, "train", DIES)
    dies = read_dies(tmp_path / "dies.json")
    pixels = make_views(tmp_path, samples, dies, SIZE).pixels
    assert np.array_equal(pixels[2], pixels[0])
    assert np.array_equal(pixels[4], pixels[0])
    assert np.array_equal(pixels[1], view(tinted, dies["Die02"], SIZE).pixels[0])
