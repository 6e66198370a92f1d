"""From one bundle to the next while frames come, back, and back by itself at a start."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_qc.bundle.slots import Slots
from edge_qc.errors import AcceptanceError, BundleError, EdgeQCError
from edge_qc.inspection.inspecting import open_inspection
from edge_qc.parts import Disposition
from edge_qc.settings import Settings
from edge_qc.station import changeover, installation
from edge_qc.station.changeover.shadow import Shadow
from edge_qc.station.installation import Shadowing, install, roll_back
from edge_qc.system.control import connect
from edge_qc.system.state import State
from tests.rig.lines import frame, pictures
from tests.rig.stations import put_in, running_station, settings_in
from tests.rig.tiny_bundle import make_bundle

PASS, REJECT = Disposition.PASS, Disposition.REJECT
OTHER = 5
"""A seed of weights that pass what the first bundle rejects, and reject what it passes."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a station that judges with version 1."""
    settings = settings_in(tmp_path / "state")
    put_in(settings, make_bundle(tmp_path / "v1"))
    return settings


def versions(verdicts: list[dict[str, Any]]) -> list[int]:
    return [verdict["bundle"]["version"] for verdict in verdicts]


def current(settings: Settings) -> int | None:
    slot = Slots.of_station(settings.station.state_dir).read().current
    return None if slot is None else slot.version


def test_switched_between_two_triggers(settings: Settings, tmp_path: Path) -> None:
    """Frames come all the while: each has its one verdict, none is NOT_JUDGED, and from one seq on
    the new bundle judges; then back the same way."""
    with running_station(settings) as station, station.feed(PASS, REJECT):
        station.wait_until(lambda: station.given > 20)
        done = install(settings, make_bundle(tmp_path / "v2", version=2, seed=OTHER))
        given = station.given
        station.wait_until(lambda: station.given > given + 20)
        assert done.live
        assert current(settings) == 2
        assert roll_back(settings).live
        given = station.given
        station.wait_until(lambda: station.given > given + 20)
    verdicts = station.said("verdict")
    assert len(verdicts) == station.given
    assert [verdict["seq"] for verdict in verdicts] == list(range(1, station.given + 1))
    seen = versions(verdicts)
    first, second = seen.index(2), len(seen) - seen[::-1].index(2)
    assert seen == [1] * first + [2] * (second - first) + [1] * (len(seen) - second)
    for verdict in verdicts:
        passes = verdict["bundle"]["version"] == 1
        given_good = verdicts.index(verdict) % 2 == 0
        assert (verdict["label"] == "GOOD") is (passes is given_good)
    events = [(event["event"], event["detail"][:16]) for event in station.said("event")]
    assert events == [
        ("bundle-accepted", "bundle version 1"),
        ("bundle-accepted", "bundle version 2"),
        ("bundle-rolled-back", "bundle version 1"),
    ]
    assert current(settings) == 1


def test_a_shadow_run_shows_what_would_change(settings: Settings, tmp_path: Path) -> None:
    """Counts by pair of labels, every frame that would newly pass by name, and the bundle before
    judges meanwhile; parts are counted, not frames."""
    told: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []

    def approve(summary: dict[str, Any]) -> bool:
        summaries.append(summary)
        return True

    with running_station(settings) as station:
        with station.feed(PASS, REJECT, part=lambda n: f"part-{n // 2}"):
            done = install(
                settings,
                make_bundle(tmp_path / "v2", version=2, seed=OTHER),
                shadowing=Shadowing(10, 30, approve),
                listener=told.append,
            )
            seen_before = len([v for v in versions(station.said("verdict")) if v == 1])
        assert done.live
    (summary,) = summaries
    assert done.shadow == summary
    assert summary["parts"] == 10
    assert summary["agreed"] == 0
    pairs = {(pair["now"], pair["candidate"]) for pair in summary["disagreements"]}
    assert ("GOOD", "missing") in pairs
    assert all(pair[0] != pair[1] for pair in pairs)
    passing = [frame["newly_good"] for frame in told if "newly_good" in frame]
    assert len(passing) == summary["newly_good"] > 0
    rejected = {v["trigger_id"]: v for v in station.said("verdict") if v["label"] != "GOOD"}
    for one in passing:
        assert rejected[one["trigger_id"]]["label"] == one["label"] != "GOOD"
        assert one["part_id"].startswith("part-")
    assert seen_before >= summary["frames"]
    assert [message["seen"] for message in told if "wanted" in message]


def test_the_views_of_a_part_that_come_together_are_all_compared(tmp_path: Path) -> None:
    """Not the first of its dies alone, part after part."""
    candidate = open_inspection(make_bundle(tmp_path / "v1"))
    shadow = Shadow(candidate)
    shown = [frame(pictures()[PASS], part_id="p") for _ in range(4)]
    for one, verdict in zip(shown, candidate.judge(shown), strict=True):
        shadow.offer(one, verdict)
    for _ in shown:
        shadow.compare(10)
    assert shadow.comparison.frames == shadow.comparison.agreed == 4
    assert (len(shadow.comparison.parts), shadow.comparison.passed_over) == (1, 0)
    candidate.close()


@pytest.mark.parametrize("answer", ["no", "nobody"])
def test_a_candidate_that_is_not_wanted_leaves_all_as_it_was(
    settings: Settings, tmp_path: Path, answer: str
) -> None:
    """The operator says no, or the command is killed while it asks."""

    class Killed(BaseException):
        pass

    def approve(summary: dict[str, Any]) -> bool:
        if answer == "nobody":
            raise Killed
        return False

    with running_station(settings) as station, station.feed(PASS):
        with pytest.raises((EdgeQCError, Killed)):
            install(
                settings,
                make_bundle(tmp_path / "v2", version=2),
                shadowing=Shadowing(2, 30, approve),
            )
        assert station.line.inspection.bundle.manifest.version == 1

        # The station has noticed, and takes the next request.
        def again() -> bool:
            try:
                return install(settings, tmp_path / "v2").live
            except EdgeQCError:
                return False

        station.wait_until(again)
    assert current(settings) == 2


def test_an_answer_that_comes_too_late_is_none(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The station waits for a person for minutes and no longer, and says so."""
    monkeypatch.setattr(changeover, "_ANSWER_S", 0.2)
    with running_station(settings) as station, station.feed(PASS):

        def approve(summary: dict[str, Any]) -> bool:
            station.wait_until(lambda: all(t.name != "command" for t in threading.enumerate()))
            return True

        with pytest.raises(EdgeQCError, match="not switched: nobody answered within 0 s"):
            install(
                settings,
                make_bundle(tmp_path / "v2", version=2),
                shadowing=Shadowing(2, 30, approve),
            )
    assert current(settings) == 1


def test_no_parts_no_switch(settings: Settings, tmp_path: Path) -> None:
    """A line that stands still: said after the time, and nothing changed."""
    with (
        running_station(settings),
        pytest.raises(EdgeQCError, match="0 of 5 parts came within 1 s"),
    ):
        install(
            settings,
            make_bundle(tmp_path / "v2", version=2),
            shadowing=Shadowing(5, 1, lambda summary: True),
        )
    assert current(settings) == 1


def test_what_the_engine_does_not_reproduce_is_not_installed(
    settings: Settings, tmp_path: Path
) -> None:
    with running_station(settings) as station:
        with pytest.raises(AcceptanceError, match="does not reproduce"):
            install(settings, make_bundle(tmp_path / "v2", version=2, shift=1.0))
        assert station.line.inspection.bundle.manifest.version == 1
    assert current(settings) == 1


def test_the_station_accepts_for_itself(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that skipped the acceptance gets no bundle into the loop."""
    monkeypatch.setattr(installation, "_prove", lambda *given: {})
    with running_station(settings) as station:
        with pytest.raises(EdgeQCError, match="does not reproduce"):
            install(settings, make_bundle(tmp_path / "v2", version=2, shift=1.0))
        assert station.line.inspection.bundle.manifest.version == 1
    assert current(settings) == 1


def test_no_room_for_two(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changeover, "available_memory", lambda: 2**20)
    with running_station(settings), pytest.raises(EdgeQCError, match="Stop the station, install"):
        install(settings, make_bundle(tmp_path / "v2", version=2))
    assert current(settings) == 1


def test_back_by_itself_where_the_current_bundle_may_not_judge(
    settings: Settings, tmp_path: Path
) -> None:
    """At a start: the previous bundle judges, the station is DEGRADED and says why, an alarm is
    raised, and the next start does not try the bad one again."""
    put_in(settings, make_bundle(tmp_path / "v2", version=2))
    slots = Slots.of_station(settings.station.state_dir)
    bad = slots.read().current
    assert bad is not None
    (slots.path_of(bad) / "golden.npz").write_bytes(b"rot")
    for start in range(2):
        with running_station(settings) as station:
            station.wait_until(lambda: station.line.state is State.DEGRADED)
            with station.feed(PASS):
                station.wait_until(lambda: station.given > 3)
            assert "golden.npz" in station.line.troubles["bundle"]
        alarms = [e for e in station.said("event") if e["severity"] == "alarm"]
        assert [e["event"] for e in alarms] == ["bundle-rolled-back"], start
        assert "golden.npz" in alarms[0]["detail"]
    assert set(versions(station.said("verdict"))) == {1}
    assert current(settings) == 1
    with pytest.raises(BundleError, match="no previous bundle"):
        roll_back(settings)
    with running_station(settings) as station:
        assert install(settings, make_bundle(tmp_path / "v3", version=3)).live
        station.wait_until(lambda: station.line.state is State.RUNNING)


def test_both_bad_is_a_fault_and_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    """What is wrong with both may be the station's key: when that is mended, the current bundle is
    still the current one."""
    put_in(settings, make_bundle(tmp_path / "v2", version=2))
    key = {"bundle": {"public_key": tmp_path / "none.pem"}}
    keyed = settings_in(settings.station.state_dir, **key)
    with pytest.raises(BundleError, match="not signed"), running_station(keyed):
        pass
    assert current(settings) == 2


def test_without_a_station_the_next_start_takes_it(settings: Settings, tmp_path: Path) -> None:
    done = install(settings, make_bundle(tmp_path / "v2", version=2))
    assert not done.live
    assert install(settings, tmp_path / "v2").already
    with pytest.raises(EdgeQCError, match="older than 2"):
        install(settings, make_bundle(tmp_path / "old", version=1, seed=OTHER))
    assert install(settings, tmp_path / "old", allow_downgrade=True).slot.version == 1
    with pytest.raises(EdgeQCError, match="no station is running here"):
        install(
            settings,
            make_bundle(tmp_path / "v3", version=3),
            shadowing=Shadowing(5, 1, lambda summary: True),
        )


def test_a_station_with_a_folder_of_its_own_takes_nothing(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "state", bundle={"path": make_bundle(tmp_path / "v1")})
    with pytest.raises(BundleError, match=r"bundle\.path = .*Remove\s+that line"):
        install(settings, make_bundle(tmp_path / "v2", version=2))
    with running_station(settings):
        pass


def test_a_loop_that_is_over_takes_no_bundle(settings: Settings) -> None:
    """The one who waits for the exchange is told, and it never happens later."""
    with running_station(settings) as station:
        pass
    other = station.line.inspection
    assert station.line.exchange(other, timeout_s=0.05) is None


def test_a_loop_that_comes_too_late_takes_no_bundle(settings: Settings) -> None:
    """Whoever was told that it did not happen can rely on that."""
    held, go = threading.Event(), threading.Event()

    def hold(frame: object, verdict: object) -> None:
        held.set()
        go.wait(20)

    with running_station(settings) as station:
        before = station.line.inspection
        station.line.observe(hold)
        with station.feed(PASS):
            assert held.wait(20)
            other = copy.copy(before)
            assert station.line.exchange(other, timeout_s=0.05) is None
            go.set()
            given = station.given
            station.wait_until(lambda: station.given > given + 10)
        assert station.line.inspection is before


def test_a_candidate_that_agrees(settings: Settings, tmp_path: Path) -> None:
    with running_station(settings) as station, station.feed(PASS, REJECT):
        done = install(
            settings,
            make_bundle(tmp_path / "v2", version=2),
            shadowing=Shadowing(6, 30, lambda summary: True),
        )
    assert done.shadow is not None
    assert done.shadow["agreed"] == done.shadow["frames"] >= 6
    assert done.shadow["newly_good"] == 0
    assert done.shadow["disagreements"] == []


def test_commands_that_the_station_does_not_know(settings: Settings) -> None:
    """An answer for each, and none of them disturbs the station."""
    with running_station(settings) as station:
        for command in ("pass-everything", "install"):
            client = connect(settings.station.state_dir, command=command, slot={"folder": ".."})
            assert client is not None
            with client, pytest.raises(EdgeQCError, match=r"cannot take|not valid"):
                list(client.answers())
        with station.feed(REJECT):
            station.wait_until(lambda: station.given > 5)
    assert {verdict["disposition"] for verdict in station.said("verdict")} == {"REJECT"}
    assert connect(settings.station.state_dir, command="install") is None


def test_two_cannot_install_at_once(settings: Settings, tmp_path: Path) -> None:
    waiting, go = threading.Event(), threading.Event()

    def approve(summary: dict[str, Any]) -> bool:
        waiting.set()
        return go.wait(20)

    with running_station(settings) as station, station.feed(PASS):
        bundle = make_bundle(tmp_path / "v2", version=2)
        first = threading.Thread(
            target=install, args=(settings, bundle), kwargs={"shadowing": Shadowing(1, 9, approve)}
        )
        first.start()
        assert waiting.wait(20)
        with pytest.raises(EdgeQCError, match="under way"):
            install(settings, bundle)
        go.set()
        first.join()
    assert current(settings) == 2


def test_with_tensorrt_the_command_builds_and_the_station_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the stand-ins: engines are opened on one thread, asked on another and closed on a
    third, nothing stays allocated, and the station finds the plan that the command built."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "fakes"))
    import pycuda.driver
    import tensorrt

    tensorrt.fake.reset()
    pycuda.driver.fake.reset()
    settings = settings_in(
        tmp_path / "state", engine={"kind": "tensorrt", "build_at_start": False, "timeout_s": 20}
    )
    assert not install(settings, make_bundle(tmp_path / "v1")).live
    with running_station(settings) as station, station.feed(PASS):
        assert install(settings, make_bundle(tmp_path / "v2", version=2, seed=OTHER)).live
        given = station.given
        station.wait_until(lambda: station.given > given + 10)
        assert roll_back(settings).live
        monkeypatch.setattr(installation, "_prove", lambda *given: {})
        with pytest.raises(EdgeQCError, match="edge-qc build"):
            install(settings, make_bundle(tmp_path / "v3", version=3, seed=7))
    assert {verdict["reason"] for verdict in station.said("verdict")} == {"decided"}
    assert {1, 2} == set(versions(station.said("verdict")))
    assert "tensorrt" in station.said("verdict")[0]["engine"]
    assert len(list((tmp_path / "state" / "plans").glob("*.plan"))) == 2
    assert pycuda.driver.fake.live == {"context": 0, "pinned": 0, "device": 0}
    tensorrt.fake.reset()
    pycuda.driver.fake.reset()
