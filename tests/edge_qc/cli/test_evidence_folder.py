"""A folder that is named as evidence, and is none."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_qc.cli import app
from edge_qc.errors import UsageError
from edge_qc.evidence import Labels, Store
from edge_qc.plant.recorder import open_database
from tests.rig.publishing import TIME


def status(folder: Path) -> str:
    words = ["evidence", "status", "--folder", str(folder), "--json"]
    return CliRunner().invoke(app, words, catch_exceptions=False).stdout


@pytest.mark.parametrize(
    "words",
    [
        "evidence status --folder {}",
        "evidence export new --folder {}",
        "review --folder {}",
        "label --database {}/records.sqlite --from-review {}",
    ],
)
def test_a_folder_of_other_things_is_no_evidence(words: str, tmp_path: Path) -> None:
    """Such as a data set, which would look like a station that has kept nothing."""
    open_database(f"{tmp_path}/records.sqlite")
    (tmp_path / "train" / "good").mkdir(parents=True)
    (tmp_path / "train" / "good" / "1.png").write_bytes(b"png")
    done = CliRunner().invoke(app, words.format(tmp_path, tmp_path).split())
    assert isinstance(done.exception, UsageError)
    assert f"{tmp_path}: this is no evidence folder" in str(done.exception)


def test_a_folder_that_keeps_nothing_yet_or_nothing_any_more_is_evidence(tmp_path: Path) -> None:
    assert '"images": 0' in status(tmp_path)
    store = Store(tmp_path)
    frame = np.zeros((4, 4), np.uint8)
    kept = store.add(str(uuid.uuid4()), "GOOD", TIME, 0.5, frame=frame, verdict={})
    (tmp_path / "notes.txt").write_text("line 3")
    assert '"images": 1' in status(tmp_path)
    (tmp_path / "notes.txt").unlink()
    store.remove(kept)
    assert '"images": 0' in status(tmp_path)
    Labels(tmp_path).add(kept.verdict_id, "Missing", "GOOD", "ann")
    (tmp_path / "notes.txt").write_text("line 3")
    assert '"images": 0' in status(tmp_path)
