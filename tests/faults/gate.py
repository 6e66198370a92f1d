"""The referee at the controller: reads every write that came there, and says what must not be.

It knows the truth of each part from its id (see ``load``), the verdicts that were heard, when the
station was killed, and when the network was disturbed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from edge_qc.output.layout import Area, RegisterMap, number_of, text_of
from tests.faults.load import FORBIDS_A_DECISION, shown
from tests.faults.referee import GOOD, PASS, Heard
from tests.rig.controllers import ROOM, Write

_CLOCKS_S = 0.02
"""The controller's thread may wait so long for a processor before it notes a write."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A result as the controller's programme sees it: the toggle has flipped. at_s: wall clock."""

    at_s: float
    passed: bool
    disposition: int
    counter: int
    trigger: str
    part: str


@dataclass
class Troubles:
    """killed_s: when the station was killed. disturbed_s: from when to when the network was not as
    before. Wall clock."""

    killed_s: list[float] = field(default_factory=list)
    disturbed_s: list[float] = field(default_factory=list)


def results(writes: Iterable[Write], found: RegisterMap, area: Area) -> Iterator[Shown]:
    """What one block showed, in order."""
    registers, toggle = [0] * ROOM, 0
    for write in writes:
        if not write.coils:
            registers[write.address : write.address + len(write.values)] = write.values
            continue
        if write.address != area.coil or len(write.values) != 2 or write.values[1] == toggle:
            continue
        toggle = write.values[1]
        own = registers[area.register : area.register + area.words]
        yield Shown(
            write.wall_s,
            bool(write.values[0]),
            number_of(own, area.field("disposition"), found.table),
            number_of(own, area.field("counter"), found.table),
            text_of(own, area.field("trigger"), found.table),
            text_of(own, area.field("part"), found.table),
        )


def breaches(
    writes: Sequence[Write],
    found: RegisterMap,
    area: Area,
    verdicts: Mapping[str, Heard],
    troubles: Troubles,
) -> Iterator[str]:
    """Every invariant that does not hold, in words. verdicts: by trigger."""
    passed: set[str] = set()
    before = ""
    for one in results(writes, found, area):
        what = f"part {one.part}, trigger {one.trigger}"
        if one.trigger == before:
            yield f"{what}: the toggle flipped, and nothing new was shown"
        before = one.trigger
        if one.passed != bool(one.disposition):
            yield f"{what}: coil {one.passed} and register {one.disposition} contradict each other"
        if not one.passed:
            continue
        if one.trigger in passed:
            yield f"{what}: PASS was shown twice"
        passed.add(one.trigger)
        truth = shown(one.part)
        if truth.label != GOOD or truth.fault in FORBIDS_A_DECISION:
            yield f"{what}: PASS was shown, and it is {truth.label} with fault {truth.fault}"
        verdict = verdicts.get(one.trigger)
        if verdict is None:
            yield f"{what}: PASS was shown, and no verdict was heard"
            continue
        if verdict.disposition != PASS:
            yield f"{what}: PASS was shown, and the verdict is {verdict.label} ({verdict.reason})"
        triggered_s = datetime.fromisoformat(verdict.time.replace("Z", "+00:00")).timestamp()
        late_s = one.at_s - triggered_s - found.table.deadline_ms / 1e3
        # What left in time may be held up on its way: the controller's own deadline is for that.
        disturbed = any(triggered_s <= at_s <= one.at_s for at_s in troubles.disturbed_s)
        if late_s > _CLOCKS_S and not disturbed:
            yield f"{what}: PASS came {late_s * 1e3:.0f} ms after its deadline"
    yield from _after_kills(writes, area, troubles.killed_s)
    for at, write in enumerate(writes):
        if write.coils and write.address == area.coil and write.values[0] and at:
            flips = [w for w in writes[:at] if w.coils and w.address == area.coil]
            if flips and len(write.values) == 2 and flips[-1].values[1:] == write.values[1:]:
                yield "PASS was set without a new result"


def _after_kills(writes: Sequence[Write], area: Area, killed_s: Sequence[float]) -> Iterator[str]:
    own = [w for w in writes if w.coils and w.address == area.coil and len(w.values) == 2]
    for killed in killed_s:
        # What was on its way is the dead one's own.
        before = [write for write in own if write.wall_s <= killed + 0.1]
        later = own[len(before) :]
        if later and before and later[0].values != (0, before[-1].values[1]):
            yield "after a kill the first that was shown is a result, and not REJECT"
