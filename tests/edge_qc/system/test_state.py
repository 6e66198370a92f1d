"""The station's state machine, over any history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_qc.system.state import Situation, State, may_judge, next_state

CAUSES = st.lists(st.sampled_from(["disk full", "engine gone"]), max_size=2).map(tuple)
SITUATIONS = st.builds(
    Situation,
    accepted=st.booleans(),
    building=st.booleans(),
    running=st.booleans(),
    stopping=st.booleans(),
    faults=CAUSES,
    troubles=CAUSES,
)


@given(st.lists(SITUATIONS, min_size=1))
def test_it_judges_only_when_accepted_and_free_of_faults(history: list[Situation]) -> None:
    """Over any history: a state that judges, before a stop, means an accepted engine, a running
    line, no build and no fault."""
    state = State.STARTING
    for situation in history:
        state, why = next_state(state, situation)
        assert why
        if state in (State.RUNNING, State.DEGRADED):
            assert situation.accepted
            assert situation.running
            assert not situation.building
            assert not situation.faults
            assert (state is State.DEGRADED) is bool(situation.troubles)


@given(st.lists(SITUATIONS, min_size=1))
def test_stopping_is_never_left(history: list[Situation]) -> None:
    state, stopped = State.STARTING, False
    for situation in history:
        state, _ = next_state(state, situation)
        stopped = stopped or situation.stopping
        assert (state is State.STOPPING) is stopped


@given(SITUATIONS)
def test_a_fault_is_left_when_its_cause_is_gone(situation: Situation) -> None:
    state, _ = next_state(State.FAULT, situation)
    if not situation.stopping:
        assert (state is State.FAULT) is bool(situation.faults)


def test_the_states_that_judge() -> None:
    judging = {state for state in State if may_judge(state)}
    assert judging == {State.RUNNING, State.DEGRADED, State.STOPPING}


def test_every_cause_is_told() -> None:
    _, why = next_state(State.RUNNING, Situation(faults=("disk full", "engine gone")))
    assert why == "disk full; engine gone"
