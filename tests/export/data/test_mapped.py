"""Mapped arrays have their place on the disk from the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_qc_export.data.mapped import make_mapped


def test_a_mapped_array_claims_its_blocks_before_anything_is_written(tmp_path: Path) -> None:
    array = make_mapped(tmp_path / "inner" / "a.npy", np.float32, (1000, 300))
    status = (tmp_path / "inner" / "a.npy").stat()
    assert status.st_blocks * 512 >= array.nbytes, "a hole: writing to it on a full disk is SIGBUS"
    array[-1, -1] = 7
    del array
    assert np.load(tmp_path / "inner" / "a.npy")[-1, -1] == 7


def test_a_folder_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_mapped(tmp_path / "file" / "a.npy", np.uint8, (1,))
