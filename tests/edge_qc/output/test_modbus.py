"""Results at a real Modbus server: what stands there, when, and in which order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_qc.output.block import STATES, Fault
from edge_qc.parts import Disposition
from edge_qc.system.state import State
from tests.rig.controllers import ModbusController, modbus_controller
from tests.rig.outlets import Rig, result, running_outputs

PASSED, TOGGLE, READY = 0, 1, 2


@pytest.fixture
def controller() -> Iterator[ModbusController]:
    with modbus_controller() as found:
        yield found


def part_of(rig: Rig, controller: ModbusController, name: str) -> int:
    return controller.number(rig.map.block("part"), name, rig.map)


def shown(rig: Rig, controller: ModbusController, counter: int) -> None:
    """Wait until the part's block shows this result, its coils too."""
    coil = rig.map.block("part").coil
    assert coil is not None
    rig.wait(
        lambda: (
            part_of(rig, controller, "counter") == counter
            and any(w.coils and w.address == coil and len(w.values) == 2 for w in controller.writes)
            and rig.outputs.figures()["plc"].latency_ms
        )
    )


def output(controller: ModbusController, **keys: Any) -> dict[str, Any]:
    return {"target": controller.target, "of": ["part"], **keys}


def test_a_pass_is_shown_registers_first_and_coils_last(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller)) as rig:
        rig.wait(lambda: controller.coils[READY])
        controller.writes.clear()
        rig.outputs.offer(result(part_id="W27-004411", trigger_id="a.77"))
        rig.wait(lambda: controller.coils[PASSED])
        block = rig.map.block("part")
        assert controller.text(block, "part", rig.map) == "W27-004411"
        assert controller.text(block, "trigger", rig.map) == "a.77"
        found = [part_of(rig, controller, name) for name in ("part_number", "trigger_number")]
        assert found == [4411, 77]
        assert [part_of(rig, controller, n) for n in ("disposition", "label", "fault")] == [1, 1, 0]
        own = [w for w in controller.writes if len(w.values) not in (1, 2) or w.coils]
        assert [w.coils for w in own][:2] == [False, True], "registers before coils"


def test_a_reject_flips_the_toggle_and_passes_nothing(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller)) as rig:
        rig.wait(lambda: controller.coils[READY])
        before = controller.coils[TOGGLE]
        for number, disposition in enumerate((Disposition.REJECT, Disposition.REVIEW), 1):
            rig.outputs.offer(result(disposition))
            rig.wait(lambda number=number: controller.coils[TOGGLE] == (before + number) % 2)
            assert not controller.coils[PASSED]
        assert part_of(rig, controller, "fault") == Fault.REVIEW
        assert not any(w.coils and w.values[0] and len(w.values) == 2 for w in controller.writes)


def test_the_pass_is_taken_back(tmp_path: Path, controller: ModbusController) -> None:
    with running_outputs(tmp_path, output(controller, hold_ms=50)) as rig:
        rig.wait(lambda: controller.coils[READY])
        rig.outputs.offer(result())
        rig.wait(lambda: controller.coils[PASSED])
        toggle = controller.coils[TOGGLE]
        rig.wait(lambda: not controller.coils[PASSED])
        rig.wait(lambda: not part_of(rig, controller, "disposition"))
        assert controller.coils[TOGGLE] == toggle, "no new result"


def test_a_late_pass_is_a_reject_an_event_and_a_figure(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller, deadline_ms=100)) as rig:
        rig.wait(lambda: controller.coils[READY])
        rig.outputs.offer(result(age_s=0.2))
        shown(rig, controller, 1)
        assert part_of(rig, controller, "fault") == Fault.LATE
        assert not any(w.coils and w.values[0] for w in controller.writes if len(w.values) == 2)
        assert "wanted at most 100 ms" in rig.said("output-late")[0]
        figures = rig.outputs.figures()["plc"]
        assert (figures.late, figures.passed) == (1, 0)
        assert figures.latency_ms["worst"] >= 200


def test_several_late_in_a_row_are_a_fault_until_acknowledged(
    tmp_path: Path, controller: ModbusController
) -> None:
    keys = output(controller, deadline_ms=100, late_in_a_row=3)
    with running_outputs(tmp_path, keys) as rig:
        rig.wait(lambda: controller.coils[READY])
        for number in range(3):
            rig.outputs.offer(result(age_s=0.2))
            rig.wait(lambda number=number: part_of(rig, controller, "counter") == number + 1)
        rig.wait(rig.outputs.faults)
        assert "3 results in a row came late" in rig.outputs.faults()[0]
        rig.wait(lambda: part_of(rig, controller, "state") == STATES[State.FAULT])
    with running_outputs(tmp_path, keys | {"deadline_ms": 5000}) as rig:
        rig.wait(rig.connected)
        assert rig.outputs.faults(), "a restart ends no fault"
        rig.outputs.offer(result())
        shown(rig, controller, 1)
        assert part_of(rig, controller, "fault") & Fault.WITHHELD
        assert not controller.coils[PASSED]
        assert rig.outputs.acknowledge()
        rig.outputs.offer(result())
        rig.wait(lambda: controller.coils[PASSED])


def test_a_coil_that_would_come_late_is_not_set(
    tmp_path: Path, controller: ModbusController
) -> None:
    """The registers took so long that the coil would come behind the deadline."""
    keys = output(controller, deadline_ms=250, timeout_ms=2000, heartbeat_ms=60_000)
    with running_outputs(tmp_path, keys) as rig:
        rig.wait(lambda: controller.coils[READY])
        controller.delay_s = 0.2
        rig.outputs.offer(result())
        rig.wait(lambda: rig.outputs.figures()["plc"].late == 1)
        assert not any(w.coils and w.values[0] for w in controller.writes if len(w.values) == 2)
        assert part_of(rig, controller, "disposition") == 0


def test_what_is_superseded_is_a_reject_and_told(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller, timeout_ms=2000)) as rig:
        rig.wait(lambda: controller.coils[READY])
        controller.delay_s = 0.1
        rig.outputs.offer(result(Disposition.REJECT, trigger_id="a"))
        time.sleep(0.05)
        for name in "bcd":
            rig.outputs.offer(result(trigger_id=name))
        controller.delay_s = 0.0
        rig.wait(lambda: part_of(rig, controller, "counter") == 4)
        rig.wait(lambda: controller.coils[PASSED])
        assert part_of(rig, controller, "fault") == Fault.SUPERSEDED
        assert rig.outputs.figures()["plc"].superseded == 2


def test_offering_to_a_dead_controller_takes_no_time(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller, timeout_ms=300)) as rig:
        rig.wait(lambda: controller.coils[READY])
        controller.delay_s = 30.0
        began_s = time.monotonic()
        for _ in range(1000):
            rig.outputs.offer(result())
        assert time.monotonic() - began_s < 1.0, "much less than one timeout for each"
        rig.wait(lambda: rig.said("output-away"))
        assert "away, its parts are rejected" in rig.outputs.troubles()[0]
        controller.delay_s = 0.0


def test_what_waited_while_the_controller_was_away_is_never_passed(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller)) as rig:
        rig.wait(lambda: controller.coils[READY])
        controller.stop()
        rig.wait(lambda: not rig.connected())
        rig.outputs.offer(result(trigger_id="old"))
        controller.coils[PASSED] = 1
        controller.start()
        rig.wait(lambda: rig.connected() and not controller.coils[PASSED])
        assert rig.outputs.figures()["plc"].unsent == 1
        rig.outputs.offer(result(trigger_id="new"))
        rig.wait(lambda: controller.coils[PASSED])
        assert controller.text(rig.map.block("part"), "trigger", rig.map) == "new"
        assert part_of(rig, controller, "fault") == Fault.SUPERSEDED
        assert rig.said("output-back")


def test_start_and_stop_leave_reject_and_do_not_flip(
    tmp_path: Path, controller: ModbusController
) -> None:
    controller.coils[:3] = [1, 1, 1]
    controller.stop()
    controller.start()
    with running_outputs(tmp_path, output(controller)) as rig:
        rig.wait(lambda: controller.coils[READY] and rig.connected())
        assert controller.coils[:2] == [0, 1]
        rig.outputs.offer(result())
        rig.wait(lambda: controller.coils[:2] == [1, 0])
    assert controller.coils[:3] == [0, 0, 0]
    assert part_of(rig, controller, "state") == STATES[State.DEAD]


def test_nothing_passes_before_the_station_runs(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller)) as rig:
        rig.wait(lambda: controller.coils[READY])
        rig.outputs.station(State.FAULT)
        rig.outputs.offer(result())
        shown(rig, controller, 1)
        assert part_of(rig, controller, "fault") == Fault.WITHHELD
        rig.wait(lambda: not controller.coils[READY])
        assert not controller.coils[PASSED]


def test_the_heartbeat_counts(tmp_path: Path, controller: ModbusController) -> None:
    with running_outputs(tmp_path, output(controller)) as rig:
        rig.wait(lambda: part_of(rig, controller, "heartbeat") > 3)
        assert part_of(rig, controller, "state") == STATES[State.RUNNING]


def test_an_output_with_little_to_say_is_not_taken_for_hung(
    tmp_path: Path, controller: ModbusController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_qc.output.outlet._TURN_S", 0.02)
    with running_outputs(tmp_path, output(controller, heartbeat_ms=600_000)) as rig:
        rig.wait(rig.connected)
        before = rig.outputs.loops()["output plc"]
        assert before is not None
        rig.wait(lambda: (rig.outputs.loops()["output plc"] or 0) > before + 3)


def test_a_missing_acknowledgement_is_told(tmp_path: Path, controller: ModbusController) -> None:
    with running_outputs(tmp_path, output(controller, acknowledge_ms=100)) as rig:
        rig.wait(lambda: controller.coils[READY])
        rig.outputs.offer(result())
        rig.wait(lambda: rig.said("output-unacknowledged"))
        assert "does not acknowledge part" in rig.outputs.troubles()[0]
        rig.outputs.offer(result())
        rig.wait(lambda: part_of(rig, controller, "counter") == 2)
        controller.set(rig.map.acknowledged["part"].register, 2)
        rig.wait(lambda: not rig.outputs.troubles())


def test_a_controller_without_room_is_named(tmp_path: Path, controller: ModbusController) -> None:
    with running_outputs(tmp_path, output(controller, register=990)) as rig:
        rig.wait(lambda: rig.said("output-away"))
        assert "See that its register map has room there" in rig.said("output-away")[0]
