"""Installed bundles on disk: brought whole, switched at once, whatever is killed when."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_qc.bundle.slots import Slots
from edge_qc.bundle.verification import open_bundle
from edge_qc.errors import BundleError, EdgeQCError
from tests.rig.tiny_bundle import make_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {version: make_bundle(folder / str(version), version=version) for version in (1, 2, 3)}


def installed(slots: Slots, bundle: Path) -> None:
    with slots.locked():
        slots.switch(slots.bring(bundle))


def version_that_starts(slots: Slots) -> int | None:
    """What a station that starts finds: whole, or it could not start."""
    current = slots.read().current
    if current is None:
        return None
    bundle = open_bundle(slots.path_of(current))
    assert bundle.id == current.id
    return bundle.manifest.version


def test_install_and_back_and_forth(tmp_path: Path, bundles: dict[int, Path]) -> None:
    """Current and previous follow; a folder that no slot names is gone after the next install."""
    slots = Slots(tmp_path / "bundles")
    for version in (1, 2, 3):
        installed(slots, bundles[version])
    assert version_that_starts(slots) == 3
    assert {entry.name.split("-")[0] for entry in slots.folder.iterdir() if entry.is_dir()} == {
        "1", "2", "3"
    }  # fmt: skip
    slots.roll_back()
    assert version_that_starts(slots) == 2
    slots.roll_back()
    assert version_that_starts(slots) == 3
    with slots.locked():
        slots.bring(bundles[3])
    assert {entry.name.split("-")[0] for entry in slots.folder.iterdir() if entry.is_dir()} == {
        "2", "3"
    }  # fmt: skip


def test_older_versions_and_twins_are_refused(tmp_path: Path, bundles: dict[int, Path]) -> None:
    """The high-water mark outlives a roll-back; another bundle of the same version is no step."""
    slots = Slots(tmp_path / "bundles")
    installed(slots, bundles[1])
    installed(slots, bundles[3])
    slots.roll_back()
    with pytest.raises(BundleError, match=r"version 2 is older than 3.*--allow-downgrade"):
        slots.may_follow(open_bundle(bundles[2]))
    slots.may_follow(open_bundle(bundles[3]))
    twin = make_bundle(tmp_path / "twin", version=3, shift=0.001)
    with pytest.raises(BundleError, match="another bundle of version 3"):
        slots.may_follow(open_bundle(twin))


def test_a_damaged_copy_is_not_taken_for_the_bundle(
    tmp_path: Path, bundles: dict[int, Path]
) -> None:
    """The same bundle installed again, after its folder rotted, comes to a new folder."""
    slots = Slots(tmp_path / "bundles")
    installed(slots, bundles[1])
    installed(slots, bundles[2])
    rotten = slots.path_of(slots.read().current)  # type: ignore[arg-type]
    (rotten / "model.onnx").write_bytes(b"rot")
    installed(slots, bundles[2])
    assert version_that_starts(slots) == 2
    assert slots.path_of(slots.read().current) != rotten  # type: ignore[arg-type]
    assert slots.previous().version == 1, "not the rotten one"


def test_an_altered_bundle_is_not_brought(tmp_path: Path, bundles: dict[int, Path]) -> None:
    slots = Slots(tmp_path / "bundles")
    altered = tmp_path / "altered"
    shutil.copytree(bundles[1], altered)
    (altered / "model.onnx").write_bytes(b"other")
    with slots.locked(), pytest.raises(BundleError, match=r"model\.onnx has 5 bytes"):
        slots.bring(altered)
    assert not [
        entry for entry in slots.folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    ]


def test_a_bundle_that_changes_while_it_is_copied_is_refused(
    tmp_path: Path, bundles: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the copy."""
    slots = Slots(tmp_path / "bundles")

    def torn(source: Path, target: Path, **options: Any) -> None:
        copied(source, target, **options)
        (target / "model.onnx").write_bytes(b"")

    copied = shutil.copytree
    monkeypatch.setattr(shutil, "copytree", torn)
    with slots.locked(), pytest.raises(BundleError, match=r"model\.onnx has 0 bytes"):
        slots.bring(bundles[1])


def test_one_install_at_a_time(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "bundles")
    with slots.locked(), pytest.raises(EdgeQCError, match="under way"), slots.locked():
        pass


def test_slots_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    (tmp_path / "slots.json").write_text('{"current": {"folder": "../../etc", "id": ""}}')
    with pytest.raises(BundleError, match=r"slots\.json.*install\s+the bundle again"):
        slots.read()


_STEPS = {
    os: ("fsync", "mkdir", "rename", "replace", "unlink", "rmdir", "open"),
    shutil: ("copyfile", "rmtree"),
}


def _killed_at(step: int, work: Callable[[], None]) -> bool:
    """Does the work in a process that SIGKILLs itself before its step-th change of the disk;
    whether it came to that."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = iter(range(step))

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    try:
        for module, names in _STEPS.items():
            for name in names:
                setattr(module, name, counted(getattr(module, name)))
        work()
    finally:
        os._exit(0)


def _steps(work: Callable[[], None], prepare: Callable[[], None]) -> Iterator[int]:
    """Yields after each kill, until the work comes through."""
    for step in range(500):
        prepare()
        killed = _killed_at(step, work)
        yield step
        if not killed:
            assert step > 10, "the work has steps to be killed at"
            return
    raise AssertionError("the work never ends")


def test_killed_at_each_step_of_an_install(tmp_path: Path, bundles: dict[int, Path]) -> None:
    """Whatever the moment of a SIGKILL: the station starts with one whole bundle, the old one or
    the new one, and the next install comes through."""
    slots = Slots(tmp_path / "bundles")
    seen: list[int | None] = []

    def prepare() -> None:
        shutil.rmtree(slots.folder, ignore_errors=True)
        installed(slots, bundles[1])
        installed(slots, bundles[2])

    for _ in _steps(lambda: installed(slots, bundles[3]), prepare):
        seen.append(version_that_starts(slots))
        before = slots.read().previous
        assert before is not None
        open_bundle(slots.path_of(before))
        installed(slots, bundles[3])
        assert version_that_starts(slots) == 3
        assert not list(slots.folder.glob(".incoming*"))
    assert set(seen) == {2, 3}
    assert seen.index(3) == seen.count(2), "from 2 to 3 at one step"


def test_killed_at_each_step_of_the_way_back(tmp_path: Path, bundles: dict[int, Path]) -> None:
    slots = Slots(tmp_path / "bundles")
    installed(slots, bundles[1])
    installed(slots, bundles[2])
    kept = (slots.folder / "slots.json").read_bytes()
    seen: list[int | None] = []
    for step in range(50):
        (slots.folder / "slots.json").write_bytes(kept)
        killed = _killed_at(step, slots.roll_back)
        seen.append(version_that_starts(slots))
        if not killed:
            break
    assert set(seen) == {1, 2}
    assert seen.index(1) == seen.count(2), "from 2 to 1 at one step"
