"""A candidate beside the bundle that judges: it sees live frames, and what it says is only counted.

The loop offers each judged frame and never waits; a frame that comes while the candidate is at
another is passed over. Whether the candidate then takes over is decided by people, see
``changeover``.
"""

from __future__ import annotations

import queue
from collections import Counter
from dataclasses import dataclass, field

from edge_qc.inspection.inspecting import Inspection
from edge_qc.parts import Disposition, Frame, Reason, Verdict


@dataclass(frozen=True, slots=True)
class NewlyGood:
    """A frame that would pass, and does not pass now."""

    camera: str
    die: str
    trigger_id: str
    part_id: str | None
    image: str | None
    label: str
    drift_p_value: float | None


@dataclass(slots=True)
class Comparison:
    """frames: how many both judged. labels: how often (the label now, the candidate's) came. parts:
    part ids seen, or trigger ids where a frame names no part. passed_over: while the candidate was
    busy. not_judged: which the candidate could not judge."""

    frames: int = 0
    agreed: int = 0
    passed_over: int = 0
    not_judged: int = 0
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: set[str] = field(default_factory=set)
    newly_good: list[NewlyGood] = field(default_factory=list)

    def add(self, frame: Frame, now: Verdict, candidate: Verdict) -> NewlyGood | None:
        """Count one frame; what is to be told of it at once."""
        self.frames += 1
        self.parts.add(frame.part_id or frame.trigger_id)
        self.labels[now.label, candidate.label] += 1
        self.agreed += now.label == candidate.label
        self.not_judged += candidate.reason is not Reason.DECIDED
        if (
            candidate.disposition is not Disposition.PASS
            or now.disposition is Disposition.PASS
            or now.reason is not Reason.DECIDED
        ):
            return None
        found = NewlyGood(
            camera=frame.camera,
            die=frame.die,
            trigger_id=frame.trigger_id,
            part_id=frame.part_id,
            image=frame.image,
            label=now.label,
            drift_p_value=None if now.drift is None else now.drift.p_value,
        )
        self.newly_good.append(found)
        return found

    def summary(self) -> dict[str, object]:
        """For a report: the counts, and label pairs that differ, the most frequent first."""
        return {
            "parts": len(self.parts),
            "frames": self.frames,
            "agreed": self.agreed,
            "passed_over": self.passed_over,
            "not_judged": self.not_judged,
            "newly_good": len(self.newly_good),
            "disagreements": [
                {"now": now, "candidate": candidate, "frames": count}
                for (now, candidate), count in self.labels.most_common()
                if now != candidate
            ],
        }


class Shadow:
    """The candidate's place beside the loop. ``offer`` is the loop's, ``compare`` another
    thread's."""

    def __init__(self, candidate: Inspection) -> None:
        self.comparison = Comparison()
        self._candidate = candidate
        self._offered: queue.Queue[tuple[Frame, Verdict]] = queue.Queue(1)

    def offer(self, frame: Frame, verdict: Verdict) -> None:
        """A frame that was judged, and how."""
        try:
            self._offered.put_nowait((frame, verdict))
        except queue.Full:
            self.comparison.passed_over += 1

    def compare(self, timeout_s: float) -> NewlyGood | None:
        """Judge the next frame with the candidate and count it; nothing where none came."""
        try:
            frame, verdict = self._offered.get(timeout=timeout_s)
        except queue.Empty:
            return None
        (candidate,) = self._candidate.judge([frame])
        return self.comparison.add(frame, verdict, candidate)
