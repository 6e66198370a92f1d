"""Two stations with one site and name: both report it, both go on, neither throws the other out for
ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_qc.publisher import Publisher
from edge_qc.publisher.connection.conflict import NameConflict
from edge_qc.settings import MqttTable, StationTable
from edge_qc.system.state import State
from tests.rig.fake_broker import FakeBroker
from tests.rig.publishing import judge, open_outbox, open_publisher, wait_until

STATION = StationTable(site="s", name="n", state_dir=Path("/nowhere"))
WORDS = "another client uses the name s/n at this broker"


def test_one_that_loses_its_id_twice_goes_on_under_one_of_its_own_and_tries_again() -> None:
    conflict = NameConflict(STATION, "0123456789abcdef", probe_s=60)
    assert conflict.client_id(0) == "edge-qc.s.n"
    assert conflict.warning(0) is None
    conflict.taken_over(1)
    assert WORDS in str(conflict.warning(1))
    assert conflict.client_id(1) == "edge-qc.s.n", "the other has to learn of it too"
    conflict.taken_over(2)
    assert conflict.client_id(2) == "edge-qc.s.n.0123456789ab"
    assert conflict.client_id(63) == "edge-qc.s.n", "is the other still there?"
    assert conflict.warning(63) is not None
    assert conflict.warning(153) is None


def test_a_broker_that_gives_no_reason_is_suspected_after_three_losses() -> None:
    """As Mosquitto before 2.0.13 does; a state of another epoch makes it sure."""
    conflict = NameConflict(STATION, "mine", probe_s=60)
    conflict.lost(1, lasted_s=3600)
    assert not conflict.suspected(1)
    conflict.lost(2, lasted_s=0.1)
    conflict.lost(3, lasted_s=5)
    assert conflict.suspected(3)
    assert conflict.client_id(3) == "edge-qc.s.n"
    assert conflict.warning(3) is None
    conflict.lost(4, lasted_s=5)
    assert conflict.client_id(4) == "edge-qc.s.n.mine"
    assert "another client may use the name s/n" in str(conflict.warning(4))
    for nothing in (b"", b"no JSON", b"[]", b'{"epoch": "mine", "state": "RUNNING"}',
                    b'{"epoch": "other", "state": "DEAD"}'):  # fmt: skip
        conflict.saw_state(nothing, 5)
    assert WORDS not in str(conflict.warning(5))
    conflict.saw_state(b'{"epoch": "other", "state": "RUNNING"}', 6)
    assert WORDS in str(conflict.warning(6))


def test_where_no_other_id_is_allowed_it_leaves_the_name_to_the_other_for_longer_each_time() -> (
    None
):
    conflict = NameConflict(STATION, "0123456789abcdef", probe_s=60)
    conflict.taken_over(1)
    conflict.taken_over(2)
    conflict.refused()
    assert conflict.client_id(3) == "edge-qc.s.n"
    rests = [conflict.rest_s()]
    for at_s in range(3, 12):
        conflict.taken_over(at_s)
        rests.append(conflict.rest_s())
    assert rests[:3] == [15, 30, 60]
    assert rests[-1] == 300


def test_the_state_names_the_conflict_and_is_degraded(tmp_path: Path) -> None:
    with FakeBroker(bye=0x8E) as broker, open_outbox(tmp_path) as outbox:
        publisher = open_publisher(outbox, tmp_path, broker.address)
        try:
            publisher.state(State.RUNNING, "judging")
            wait_until(lambda: broker.connects == 2 and publisher.connected)
            wait_until(lambda: WORDS in str(publisher.trouble))
            wait_until(lambda: any(b"DEGRADED" in state for state in broker.states))
            assert any(WORDS.encode() in state for state in broker.states)
        finally:
            publisher.close()


@pytest.mark.broker
def test_two_stations_of_one_name_both_say_so_and_both_deliver(
    mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    mqtt = MqttTable(host=mosquitto[0], port=mosquitto[1])
    with (
        open_outbox(tmp_path / "a") as outbox_a,
        open_outbox(tmp_path / "b") as outbox_b,
    ):
        one, other = (
            Publisher(mqtt, STATION, outbox, probe_s=3.0) for outbox in (outbox_a, outbox_b)
        )
        for publisher in (one, other):
            publisher.state(State.RUNNING, "judging")
            publisher.start()
            wait_until(lambda publisher=publisher: publisher.connected)
        wait_until(lambda: all(WORDS in str(p.trouble) and p.connected for p in (one, other)), 30)
        judge(outbox_a, 3)
        judge(outbox_b, 3)
        assert one.drain(10)
        assert other.drain(10)
        other.close()
        wait_until(lambda: one.connected and one.trouble is None, 40)
        one.close()
