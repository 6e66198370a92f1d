"""A file is the old one or the new one, and never half of either."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_qc.system.whole_file import write_whole


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_whatever_breaks_off_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "faults.json"
    write_whole(file, b"before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space left"):
            write_whole(file, b"after")
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]
    write_whole(file, b"after")
    assert file.read_bytes() == b"after"


def test_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for step in ("fsync", "replace"):
        call = getattr(os, step)
        monkeypatch.setattr(
            os, step, lambda *given, call=call, step=step: (done.append(step), call(*given))
        )
    write_whole(tmp_path / "file", b"content")
    assert done == ["fsync", "replace", "fsync"], "content, name, and the folder that holds it"


def test_a_secret_is_never_readable_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (seen.append(os.fstat(fd).st_mode & 0o777), sync(fd))
    )
    write_whole(tmp_path / "accounts", b"ann admin -", mode=0o600)
    assert seen[0] == 0o600
    assert (tmp_path / "accounts").stat().st_mode & 0o777 == 0o600


def test_a_link_that_stands_in_its_way_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"somebody else's")
    (tmp_path / f".file.{os.getpid()}.new").symlink_to(other)
    write_whole(tmp_path / "file", b"ours")
    assert other.read_bytes() == b"somebody else's"
    assert (tmp_path / "file").read_bytes() == b"ours"
