"""The folder of plans: what is taken from it, what is refused, and with which words."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from edge_qc.engine import BuildStep
from edge_qc.engine.plan import _Watch, nodes_without_kernel
from edge_qc.engine.plan_cache import KEEP, PlanCache, PlanKey, Refused
from edge_qc.errors import EngineError

PLAN = b"plan" * 100


def key(**facts: str | int) -> PlanKey:
    return PlanKey({"onnx": "a" * 64, "tensorrt": "10.3.0", "gpu": "Orin", **facts})


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    made = PlanCache(tmp_path / "plans")
    made.prepare(0)
    return made


def refusal(cache: PlanCache, wanted: PlanKey | None = None) -> str:
    found = cache.find(wanted or key())
    assert isinstance(found, Refused)
    return found.reason


def test_what_is_kept_is_found_by_its_key_alone(cache: PlanCache) -> None:
    file = cache.keep(key(), PLAN, {"seconds": 3})
    assert cache.find(key()) == PLAN
    assert file.stat().st_mode & 0o777 == 0o644
    assert refusal(cache, key(tensorrt="10.7.0")).endswith("tensorrt was 10.3.0, is 10.7.0")
    assert "no plan of this model" in refusal(cache, key(onnx="b" * 64))
    assert not list(cache.folder.glob(".*"))


def test_an_empty_folder_and_a_missing_one_hold_no_plan(tmp_path: Path) -> None:
    assert "no plan of this model" in refusal(PlanCache(tmp_path))
    assert "no plan of this model" in refusal(PlanCache(tmp_path / "nowhere"))


def test_a_changed_byte_is_seen(cache: PlanCache) -> None:
    file = cache.keep(key(), PLAN, {})
    file.write_bytes(b"X" + PLAN[1:])
    assert "not the file that its fingerprint describes" in refusal(cache)


def test_a_cut_plan_is_seen(cache: PlanCache) -> None:
    file = cache.keep(key(), PLAN, {})
    file.write_bytes(PLAN[:-1])
    assert "not the file that its fingerprint describes" in refusal(cache)


def test_a_changed_fingerprint_is_seen(cache: PlanCache) -> None:
    file = cache.keep(key(), PLAN, {}).with_suffix(".json")
    document = json.loads(file.read_bytes())
    document["machine"] = "another"
    file.write_text(json.dumps(document))
    assert "was altered" in refusal(cache)


def test_a_plan_renamed_to_anothers_name_is_seen(cache: PlanCache) -> None:
    """Both files whole, but of another model."""
    for suffix in (".plan", ".json"):
        file = cache.keep(key(onnx="b" * 64), PLAN, {}).with_suffix(suffix)
        file.rename(cache.folder / f"{key().name}{suffix}")
    assert f"onnx was {'b' * 64}, is {'a' * 64}" in refusal(cache)


def test_a_fingerprint_that_is_no_json_is_a_reason(cache: PlanCache) -> None:
    cache.keep(key(), PLAN, {}).with_suffix(".json").write_text("{")
    assert refusal(cache)


def test_a_plan_without_its_fingerprint_is_not_taken(cache: PlanCache) -> None:
    """A power cut between the two writes leaves exactly that."""
    cache.keep(key(), PLAN, {}).with_suffix(".json").unlink()
    assert "no plan" in refusal(cache)


def test_a_fingerprint_without_its_plan_is_a_reason(cache: PlanCache) -> None:
    cache.keep(key(), PLAN, {}).unlink()
    assert "No such file" in refusal(cache)


def test_a_plan_copied_from_another_machine_is_refused(
    cache: PlanCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other-id"
    other.write_text("another machine\n")
    monkeypatch.setattr("edge_qc.engine.plan_cache._MACHINE_ID", other)
    cache.keep(key(), PLAN, {})
    monkeypatch.undo()
    assert "built on another machine" in refusal(cache)


@pytest.mark.parametrize("what", ["folder", "plan", "fingerprint"])
def test_what_others_may_write_is_not_run(cache: PlanCache, what: str) -> None:
    plan = cache.keep(key(), PLAN, {})
    files = {"folder": cache.folder, "plan": plan, "fingerprint": plan.with_suffix(".json")}
    files[what].chmod(files[what].stat().st_mode | 0o022)
    assert "can be written by other users" in refusal(cache)


def test_a_link_is_not_followed(cache: PlanCache, tmp_path: Path) -> None:
    plan = cache.keep(key(), PLAN, {})
    plan.rename(tmp_path / "elsewhere")
    plan.symlink_to(tmp_path / "elsewhere")
    assert "symbolic links" in refusal(cache)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_a_plan_of_another_user_is_refused(cache: PlanCache) -> None:
    os.chown(cache.keep(key(), PLAN, {}), 12345, 12345)
    assert "belongs to another user" in refusal(cache)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_a_folder_that_root_makes_belongs_to_its_parents_owner(tmp_path: Path) -> None:
    """After `sudo edge-qc build` the station's own user can build as well, and root's plan is
    root's: whoever owns the folder cannot make root run another."""
    os.chown(tmp_path, 12345, 12345)
    cache = PlanCache(tmp_path / "plans")
    cache.prepare(0)
    assert cache.folder.stat().st_uid == 12345
    assert cache.keep(key(), PLAN, {}).stat().st_uid == 0
    assert cache.find(key()) == PLAN


def test_the_plans_unused_for_longest_go(cache: PlanCache) -> None:
    for number in range(KEEP + 2):
        file = cache.keep(key(batch=number), PLAN, {})
        os.utime(file.with_suffix(".json"), (number, number))
    cache.keep(key(batch=99), PLAN, {})
    assert len(list(cache.folder.glob("*.plan"))) == KEEP
    assert isinstance(cache.find(key(batch=0)), Refused)
    assert cache.find(key(batch=99)) == PLAN


def test_a_folder_that_cannot_be_written_is_told_before_the_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot be written"):
        PlanCache(tmp_path / "file" / "plans").prepare(0)


def test_a_disk_too_full_is_told_before_the_build(cache: PlanCache) -> None:
    with pytest.raises(EngineError, match="MB free, a build wants"):
        cache.prepare(1 << 60)


def test_a_timing_cache_that_was_cut_is_dropped(cache: PlanCache) -> None:
    cache.keep_timing("10.3.0 Orin", b"tactics")
    assert cache.timing("10.3.0 Orin") == b"tactics"
    assert cache.timing("10.7.0 Orin") == b""
    (file,) = cache.folder.glob("*.timing")
    file.write_bytes(file.read_bytes()[:-1])
    assert cache.timing("10.3.0 Orin") == b""


def test_two_builds_take_turns(cache: PlanCache) -> None:
    order: list[str] = []
    with cache.building():

        def second() -> None:
            with PlanCache(cache.folder).building():
                order.append("second")

        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_fraction_never_falls_when_a_phase_ends_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_qc.engine.plan._TOLD_EVERY_S", 0.0)
    told: list[BuildStep] = []
    watch = _Watch(told.append)
    watch.start("build", 2)
    watch.start("tactics", 4)
    watch.step("tactics", 2)
    watch.finish("tactics")
    watch.start("kernels", 4)
    watch.step("build", 1)
    fractions = [step.fraction for step in told]
    assert fractions == sorted(fractions)
    assert 0.3 < fractions[2] < 0.5
    assert fractions[-1] == 0.99


@pytest.mark.parametrize(
    ("message", "nodes"),
    [
        (
            "Error Code 10: Internal Error (Could not find any implementation for node a/Conv.)",
            ["a/Conv"],
        ),
        (
            "Error[10]: Could not find any implementation for node a.conv_1 + a.relu_1.",
            ["a.conv_1", "a.relu_1"],
        ),
        (
            "Error Code 10: Internal Error (Could not find any implementation for node "
            "{ForeignNode[head.mul...head.out]}.)",
            ["head.mul", "head.out"],
        ),
        (
            "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any "
            "implementation for node a/Conv. In computeCosts at /_src/optimizer/optimizer.cpp:12)",
            ["a/Conv"],
        ),
        (
            "Could not find any implementation for node a.conv_1 due to insufficient workspace. "
            "See verbose log for requested sizes.",
            ["a.conv_1"],
        ),
        ("CUDA initialization failure with error: 35", []),
    ],
)
def test_nodes_without_a_kernel_are_read_from_what_tensorrt_says(
    message: str, nodes: list[str]
) -> None:
    assert nodes_without_kernel([message]) == nodes
