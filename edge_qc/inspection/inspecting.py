"""Frames to verdicts: view, engine and decision in turn; only here the three meet.

``edge-qc judge`` has all three in one call; the line has the engine work on one frame while it
decides on the one before. Both are the same three stages, so that a verdict is the same with and
without a broker.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_qc.bundle.verification import Bundle, open_bundle
from edge_qc.engine import DeviceOptions, Engine, open_engine
from edge_qc.engine.acceptance import AcceptanceReport, accept
from edge_qc.errors import EngineError
from edge_qc.inspection import decision
from edge_qc.inspection.alignment import templates_of
from edge_qc.inspection.view import view
from edge_qc.parts import Frame, Reading, Reason, Verdict, View

__all__ = ["Inspected", "Inspection", "Started", "open_inspection"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inspected:
    """A verdict with its view and reading; each is None if inspection did not get that far."""

    verdict: Verdict
    view: View | None = None
    reading: Reading | None = None


@dataclass(slots=True)
class _Cut:
    """The view of frame ``index``, and what the engine says of it."""

    index: int
    view: View
    view_ms: float
    reading: Reading | None = None
    engine_ms: float = 0.0


@dataclass(slots=True)
class Started:
    """Frames on their way to their verdicts, from one stage to the next. found: by frame, what is
    known already."""

    frames: Sequence[Frame]
    found: list[Inspected | None]
    cuts: list[_Cut] = field(default_factory=list)


class Inspection:
    """A bundle, an engine accepted for it, and the maximum age of a frame. Raises BundleError where
    the bundle's parts cannot be found by what it holds."""

    def __init__(
        self, bundle: Bundle, engine: Engine, acceptance: AcceptanceReport, max_frame_age_s: float
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.acceptance = acceptance
        self._max_frame_age_s = max_frame_age_s
        self._templates = templates_of(bundle.manifest.alignment, bundle.edges())

    def judge(self, frames: Sequence[Frame], running: bool = True) -> list[Verdict]:
        """A verdict for each frame, in order; see ``inspect``."""
        return [inspected.verdict for inspected in self.inspect(frames, running)]

    def inspect(self, frames: Sequence[Frame], running: bool = True) -> list[Inspected]:
        """Each frame's verdict with its view and reading, in order; as many engine calls as the
        bundle's batch needs.

        A failure of a frame or the engine becomes NOT_JUDGED with its reason.
        """
        started = self.start(frames)
        self.read(started)
        return self.finish(started, running)

    def start(self, frames: Sequence[Frame]) -> Started:
        """The first stage: cut the views."""
        started = Started(frames, [None] * len(frames))
        for index, frame in enumerate(frames):
            started.found[index] = self._start(started, index, frame)
        return started

    def read(self, started: Started) -> None:
        """The second stage: ask the engine. From one thread at a time; the other stages may go on
        beside it with other frames."""
        batch = self.bundle.manifest.input.batch
        for first in range(0, len(started.cuts), batch):
            self._read(started, started.cuts[first : first + batch])

    def finish(self, started: Started, running: bool = True) -> list[Inspected]:
        """The third stage: decide. running: whether the station may judge now."""
        for cut in started.cuts:
            if cut.reading is not None:
                frame = started.frames[cut.index]
                started.found[cut.index] = self._finish(frame, cut, cut.reading, running)
        if None in started.found:
            raise EngineError("a view was not read")
        return [inspected for inspected in started.found if inspected is not None]

    def _start(self, started: Started, index: int, frame: Frame) -> Inspected | None:
        """Cut one view and add it. Returns what is found instead, if it cannot be cut or judged."""
        manifest = self.bundle.manifest
        die = manifest.dies.get(frame.die)
        if die is None:
            unknown = decision.unknown_die(self.bundle, frame.die)
            return Inspected(decision.not_judged(self.bundle.id, Reason.FRAME, unknown))
        height, width = frame.pixels.shape[:2]
        if unlearned := die.unlearned(width, height):
            detail = f"{frame.image or 'frame'} {unlearned}"
            return Inspected(decision.not_judged(self.bundle.id, Reason.FRAME, detail))
        size = (manifest.input.height, manifest.input.width)
        began = time.perf_counter()
        try:
            template = self._templates.get(frame.die)
            cut = view(frame.pixels, die, size, manifest.input.interpolation, template)
        except Exception as error:
            return self._failed(Reason.FRAME, "the view cannot be cut", error)
        if cut.placement is not None and cut.placement.fault:
            detail = f"{frame.image or 'frame'}: {cut.placement.fault}"
            misplaced = decision.not_judged(self.bundle.id, Reason.FRAME, detail)
            return Inspected(_placed(misplaced, cut), cut)
        started.cuts.append(_Cut(index, cut, _ms_since(began)))
        return None

    def _read(self, started: Started, cuts: Sequence[_Cut]) -> None:
        """One engine call, which fails for all of its views."""
        began = time.perf_counter()
        try:
            readings = self.engine.infer(np.stack([cut.view.pixels for cut in cuts]))
        except EngineError as error:
            for cut in cuts:
                started.found[cut.index] = Inspected(
                    decision.not_judged(self.bundle.id, Reason.ENGINE, str(error)), cut.view
                )
            return
        except Exception as error:
            for cut in cuts:
                started.found[cut.index] = self._failed(
                    Reason.ENGINE, "the engine failed", error, cut.view
                )
            return
        engine_ms = _ms_since(began)
        for cut, reading in zip(cuts, readings, strict=True):
            cut.reading, cut.engine_ms = reading, engine_ms

    def _finish(self, frame: Frame, cut: _Cut, reading: Reading, running: bool) -> Inspected:
        began = time.perf_counter()
        circumstances = decision.Circumstances(
            frame_age_s=time.monotonic() - frame.monotonic_s,
            max_frame_age_s=self._max_frame_age_s,
            accepted=self.acceptance.bundle_id == self.bundle.id,
            running=running,
        )
        try:
            verdict = decision.judge(self.bundle, frame.die, reading, circumstances)
        except Exception as error:
            return self._failed(Reason.ENGINE, "the decision failed", error, cut.view)
        verdict = dataclasses.replace(
            verdict,
            placement=cut.view.placement,
            latency_ms={
                "view": cut.view_ms,
                "engine": cut.engine_ms,
                "decision": _ms_since(began),
            },
        )
        return Inspected(verdict, cut.view, reading)

    def _failed(
        self, reason: Reason, what: str, error: Exception, cut: View | None = None
    ) -> Inspected:
        """An unforeseen failure of a stage costs one frame, not the line."""
        log.error("%s", what, exc_info=error)
        return Inspected(decision.not_judged(self.bundle.id, reason, f"{what}: {error!r}"), cut)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


def open_inspection(
    bundle_path: Path,
    *,
    public_key: Path | None = None,
    engine: str = "onnxruntime",
    threads: int = 2,
    device: DeviceOptions | None = None,
    max_frame_age_s: float = 10.0,
) -> Inspection:
    """Verify the bundle, open the engine and accept it by the golden views.

    device: for an engine on a device, which may first build a plan; that takes minutes.

    Raises BundleError, EngineError or AcceptanceError; what was opened is closed again.
    """
    bundle = open_bundle(bundle_path, public_key)
    opened = open_engine(bundle, engine, threads, device)
    try:
        acceptance = accept(bundle, opened, decision.label_of)
    except BaseException:
        opened.close()
        raise
    return Inspection(bundle, opened, acceptance, max_frame_age_s)


def _placed(verdict: Verdict, cut: View) -> Verdict:
    """The verdict with where its part was found."""
    return dataclasses.replace(verdict, placement=cut.placement)


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3
