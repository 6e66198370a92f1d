"""The shadow run: a candidate sees live frames, and its verdicts are only counted.

The loop offers each judged frame and never waits; frames that come while the candidate has others
before them are skipped. People decide whether the candidate takes over, see ``changeover``.
"""

from __future__ import annotations

import queue
from collections import Counter
from dataclasses import dataclass, field

from edge_qc.inspection.inspecting import Inspection
from edge_qc.parts import Disposition, Frame, Reason, Verdict

_ROOM = 16
"""Frames that may wait for the candidate: the views of one part come together, and with room for
one alone it would always see the same dies."""


@dataclass(frozen=True, slots=True)
class NewlyGood:
    """A frame that passes with the candidate and not with the current bundle."""

    camera: str
    die: str
    trigger_id: str
    part_id: str | None
    image: str | None
    label: str
    drift_p_value: float | None


@dataclass(slots=True)
class Comparison:
    """frames: how many both judged. labels: counts of (current label, candidate's label). parts:
    part ids seen, or trigger ids of frames without a part. passed_over: frames skipped while the
    candidate was busy. not_judged: frames that the candidate could not judge."""

    frames: int = 0
    agreed: int = 0
    passed_over: int = 0
    not_judged: int = 0
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: set[str] = field(default_factory=set)
    newly_good: list[NewlyGood] = field(default_factory=list)

    def add(self, frame: Frame, now: Verdict, candidate: Verdict) -> NewlyGood | None:
        """Count one frame. Returns it if it would newly pass."""
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
        """The counts for a report, with the label pairs that differ, most frequent first."""
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
    """Holds the candidate beside the loop. The loop calls ``offer``, another thread ``compare``."""

    def __init__(self, candidate: Inspection) -> None:
        self.comparison = Comparison()
        self._candidate = candidate
        self._offered: queue.Queue[tuple[Frame, Verdict]] = queue.Queue(_ROOM)

    def offer(self, frame: Frame, verdict: Verdict) -> None:
        """Offer a judged frame and its verdict."""
        try:
            self._offered.put_nowait((frame, verdict))
        except queue.Full:
            self.comparison.passed_over += 1

    def compare(self, timeout_s: float) -> NewlyGood | None:
        """Judge the next frame with the candidate and count it; None if no frame came."""
        try:
            frame, verdict = self._offered.get(timeout=timeout_s)
        except queue.Empty:
            return None
        (candidate,) = self._candidate.judge([frame])
        return self.comparison.add(frame, verdict, candidate)
