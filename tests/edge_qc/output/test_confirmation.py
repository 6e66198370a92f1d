"""The ejector's confirmation: within its window, once for each REJECT; what silence leads to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_qc.errors import OutputError
from edge_qc.output.confirmation import Confirmation
from edge_qc.output.connection import Counted
from edge_qc.output.polling import CounterWatch
from edge_qc.parts import Disposition
from tests.rig.controllers import ModbusController, modbus_controller
from tests.rig.outlets import Rig, result, running_outputs


def test_an_edge_confirms_the_oldest_reject_whose_window_is_open() -> None:
    window = Confirmation(0.1, 0.5)
    window.expect(1, 10.0)
    window.expect(2, 10.3)
    assert window.edge(10.05) is None, "before any part can be there"
    assert window.edge(10.2) == 1
    assert window.edge(10.45) == 2
    assert window.edge(10.46) is None, "once for each"
    window.expect(3, 11.0)
    assert window.edge(11.6) is None, "too late"
    assert window.overdue(11.4) == []
    assert window.overdue(11.6) == [3]
    assert window.overdue(11.6) == [], "told once"


@pytest.fixture
def controller() -> Iterator[ModbusController]:
    with modbus_controller() as found:
        yield found


def output(controller: ModbusController, **keys: Any) -> dict[str, Any]:
    return {"target": controller.target, "of": ["part"], "confirm": "count", **keys}


def ready(rig: Rig, controller: ModbusController) -> int:
    """Wait until it counts; the register in which it does."""
    rig.wait(lambda: controller.coils[2] and not rig.outputs.troubles())
    assert rig.map.confirm is not None
    time.sleep(0.1)
    return rig.map.confirm.register


def test_a_reject_that_is_confirmed_is_no_news(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller, confirm_within_ms=2000)) as rig:
        register = ready(rig, controller)
        rig.outputs.offer(result(Disposition.REJECT))
        rig.wait(lambda: rig.outputs.figures()["plc"].latency_ms)
        controller.set(register, 1)
        time.sleep(2.2)
        assert rig.outputs.figures()["plc"].unconfirmed == 0


def test_silence_is_an_alarm_and_a_fault_where_that_is_wanted(
    tmp_path: Path, controller: ModbusController
) -> None:
    keys = output(controller, confirm_within_ms=100)
    with running_outputs(tmp_path, keys) as rig:
        ready(rig, controller)
        rig.outputs.offer(result())
        rig.outputs.offer(result(Disposition.REJECT))
        rig.wait(lambda: rig.said("output-unconfirmed"))
        assert "a bad part may have passed" in rig.said("output-unconfirmed")[0]
        assert not rig.outputs.faults()
    with running_outputs(tmp_path, keys | {"on_unconfirmed": "fault"}) as rig:
        ready(rig, controller)
        rig.outputs.offer(result(Disposition.REJECT))
        rig.wait(rig.outputs.faults)
        rig.wait(lambda: not controller.coils[2])  # No longer ready.


def test_an_edge_that_nobody_asked_for_is_an_alarm(
    tmp_path: Path, controller: ModbusController
) -> None:
    with running_outputs(tmp_path, output(controller)) as rig:
        register = ready(rig, controller)
        controller.set(register, 1)
        rig.wait(lambda: rig.said("output-unconfirmed"))
        assert "no part was rejected for it" in rig.said("output-unconfirmed")[0]


@pytest.mark.parametrize(("before", "after"), [(7, 0), (65_535, 3), (9, 8), (40_000, 0)])
def test_a_count_that_goes_back_is_no_count(before: int, after: int) -> None:
    """A controller that was restarted: nobody knows how often its ejector moved. One that only
    counted past the last number of its register goes on."""
    counts = iter([before, after])
    confirmed: list[float] = []
    lost: list[int] = []

    class Controller:
        def read(self) -> Counted:
            if (count := next(counts, None)) is None:
                raise OutputError("enough")
            return Counted(count, count)

        def close(self) -> None: ...

    watch = CounterWatch(
        "plc", Controller, 0.001, on_lost=lost.append, on_confirmed=confirmed.append
    )
    watch.start()
    until_s = time.monotonic() + 20
    while watch.trouble is None and time.monotonic() < until_s:
        time.sleep(0.005)
    watch.close()
    assert "enough" in str(watch.trouble)
    further = 4 if before == 65_535 else 0
    assert (len(confirmed), lost) == (further, [further - 1] if further else [])


def test_counters_that_give_nonsense_are_told_and_read_again() -> None:
    answers = iter([Counted(1, None), TypeError("a node without a value"), Counted(1, None)])
    seen: list[object] = []

    class Controller:
        def read(self) -> Counted:
            answer = next(answers, Counted(2, None))
            if isinstance(answer, Exception):
                raise answer
            return answer

        def close(self) -> None: ...

    watch = CounterWatch("plc", Controller, 0.001, on_lost=seen.append, on_confirmed=seen.append)
    triggers: list[int] = []
    watch.on_trigger = lambda trigger: triggers.append(trigger.count)
    watch.start()
    until_s = time.monotonic() + 20
    while watch.trouble is None and time.monotonic() < until_s:
        time.sleep(0.005)
    assert "a node without a value" in str(watch.trouble)
    while not triggers and time.monotonic() < until_s:
        time.sleep(0.005)
    watch.close()
    assert triggers == [2]
    assert watch.trouble is None
