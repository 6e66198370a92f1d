"""Labelled photographs judged by a station's own inspection: for ``evaluate``, ``report`` and
``qualify`` alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.images import frame_from_image, frame_of
from edge_qc.errors import DataError
from edge_qc.inspection.decision import not_judged
from edge_qc.inspection.inspecting import Inspected, Inspection, open_inspection
from edge_qc.parts import GOOD, Disposition, Frame, Reason, Verdict
from edge_qc_export.data.dataset import Sample

Advance = Callable[[int], None]

_BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One photograph and its verdict. wrong: what a line would have done wrong, if anything; its
    view (H, W) and patch distances (gh, gw) are kept only then, and if there are any."""

    sample: Sample
    verdict: Verdict
    view: NDArray[np.uint8] | None = None
    distances: NDArray[np.float32] | None = None

    @property
    def decided(self) -> bool:
        """Whether a station would judge it."""
        return self.verdict.reason is Reason.DECIDED

    @property
    def passed(self) -> bool:
        return self.verdict.disposition is Disposition.PASS

    @property
    def good(self) -> bool:
        return self.sample.label == GOOD

    @property
    def escaped(self) -> bool:
        """A bad part that passed."""
        return self.passed and not self.good

    @property
    def overkilled(self) -> bool:
        """A good part that did not pass."""
        return self.good and not self.passed

    @property
    def mistaken(self) -> bool:
        """A bad part that was stopped under another name."""
        return not self.good and not self.passed and self.verdict.label != self.sample.label


@contextmanager
def opened(bundle: Path) -> Iterator[Inspection]:
    """The bundle's inspection on ONNX Runtime, for photographs of any age."""
    inspection = open_inspection(bundle, max_frame_age_s=math.inf)
    try:
        yield inspection
    finally:
        inspection.close()


def judge_samples(
    inspection: Inspection, samples: Sequence[Sample], advance: Advance = lambda _: None
) -> list[Judged]:
    """Each sample's verdict, in order. A photograph that cannot be read, shows nothing or is of a
    size that was not learned is NOT_JUDGED, as the station would have it."""
    judged: list[Judged] = []
    for start in range(0, len(samples), _BATCH):
        part = samples[start : start + _BATCH]
        judged.extend(_judge_batch(inspection, part))
        advance(len(part))
    return judged


def inspect_pixels(
    inspection: Inspection, pictures: Sequence[NDArray[np.uint8]], die: str
) -> list[Inspected]:
    """What the inspection makes of photographs (H, W) or (H, W, 3) of one die."""
    return inspection.inspect([frame_of(pixels, die, "disturbed") for pixels in pictures])


def _judge_batch(inspection: Inspection, samples: Sequence[Sample]) -> list[Judged]:
    frames: list[Frame | DataError] = []
    for sample in samples:
        try:
            frames.append(frame_from_image(sample.file, sample.die, sample.filename))
        except DataError as error:
            frames.append(error)
    answers = iter(inspection.inspect([f for f in frames if isinstance(f, Frame)]))
    judged = []
    for sample, frame in zip(samples, frames, strict=True):
        if isinstance(frame, DataError):
            verdict = not_judged(inspection.bundle.id, Reason.FRAME, str(frame))
            judged.append(Judged(sample, verdict))
            continue
        found = next(answers)
        one = Judged(sample, found.verdict)
        if (one.escaped or one.overkilled or one.mistaken) and found.view is not None:
            distances = None if found.reading is None else found.reading.distances
            one = Judged(sample, found.verdict, found.view.pixels[0], distances)
        judged.append(one)
    return judged
