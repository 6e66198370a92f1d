"""Which numbers may be acknowledged, against plain sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_qc.plant.recorder.progress import Progress, Ranges

NUMBERS = st.integers(1, 40)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "give up"]), NUMBERS, st.integers(0, 6)))


def upto(settled: set[int]) -> int:
    number = 0
    while number + 1 in settled:
        number += 1
    return number


@given(STEPS)
def test_progress_is_what_sets_say(steps: list[tuple[str, int, int]]) -> None:
    progress, held, given_up = Progress(), set[int](), set[int]()
    for step, number, more in steps:
        if step == "add":
            assert progress.wants(number) == (number not in held)
            progress.add(number)
            held.add(number)
        else:
            numbers = set(range(number, number + more + 1))
            newly = progress.give_up(number, number + more)
            told = {n for first, last in newly for n in range(first, last + 1)}
            assert told == numbers - held - given_up
            given_up |= numbers - held
        given_up -= held
        assert progress.upto == upto(held | given_up)
        assert {n for f, last in progress.lost for n in range(f, last + 1)} == given_up
        assert all(progress.wants(n) == (n not in held) for n in range(1, 50))


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 5))), NUMBERS, st.integers(0, 20))
def test_ranges_are_what_sets_say(added: list[tuple[int, int]], removed: int, more: int) -> None:
    ranges, numbers = Ranges(), set[int]()
    for first, count in added:
        ranges.add(first, first + count)
        numbers |= set(range(first, first + count + 1))
    ranges.remove(removed)
    numbers.discard(removed)
    assert len(ranges) == len(numbers)
    listed = list(ranges)
    assert all(low[1] + 1 < high[0] for low, high in pairwise(listed))
    wanted = set(range(removed, removed + more + 1))
    assert {
        n for first, last in ranges.missing(removed, removed + more) for n in range(first, last + 1)
    } == wanted - numbers
    assert all((n in ranges) == (n in numbers) for n in range(50))


def test_nothing_above_a_gap_is_acknowledged_until_it_closes() -> None:
    progress = Progress()
    for seq in (1, 2, 5, 6):
        progress.add(seq)
    assert progress.upto == 2
    assert progress.open_gaps() == [(3, 4)]
    progress.add(3)
    assert progress.upto == 3
    assert progress.give_up(4, 4) == [(4, 4)]
    assert progress.upto == 6
    assert progress.wants(4)
