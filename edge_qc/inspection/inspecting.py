"""Frames to verdicts: view, engine and decision in turn; only here the three meet.

``edge-qc judge`` has all three in one call; on the line each camera's thread cuts its views, and
the engine works on one frame while the loop decides on the one before. Both are the same three
stages, so that a verdict is the same with and without a broker.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
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

__all__ = ["Inspected", "Inspection", "Prepared", "open_inspection"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inspected:
    """A verdict with its view and reading; each is None if inspection did not get that far."""

    verdict: Verdict
    view: View | None = None
    reading: Reading | None = None


@dataclass(slots=True)
class Prepared:
    """One frame on its way to its verdict. by: the inspection that prepared it. found: what is
    known without the engine, or where it failed."""

    frame: Frame
    by: Inspection
    view: View | None = None
    view_ms: float = 0.0
    reading: Reading | None = None
    engine_ms: float = 0.0
    found: Inspected | None = None


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
        prepared = [self.prepare(frame) for frame in frames]
        self.read(prepared)
        return self.finish(prepared, running)

    def prepare(self, frame: Frame) -> Prepared:
        """The first stage: cut the view. From any thread, several at a time."""
        prepared = Prepared(frame, self)
        try:
            prepared.found = self._prepare(prepared, frame)
        except Exception as error:
            prepared.found = self._failed(Reason.FRAME, "the view cannot be cut", error)
        return prepared

    def read(self, prepared: Sequence[Prepared]) -> None:
        """The second stage: ask the engine. From one thread at a time; the other stages may go on
        beside it with other frames."""
        batch = self.bundle.manifest.input.batch
        whole = [one for one in prepared if one.found is None]
        for first in range(0, len(whole), batch):
            self._read(whole[first : first + batch])

    def finish(self, prepared: Sequence[Prepared], running: bool = True) -> list[Inspected]:
        """The third stage: decide. running: whether the station may judge now."""
        return [self._finish(one, running) if one.found is None else one.found for one in prepared]

    def _prepare(self, prepared: Prepared, frame: Frame) -> Inspected | None:
        """Cut the view. Returns what is found instead, if it cannot be judged."""
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
        template = self._templates.get(frame.die)
        cut = view(frame.pixels, die, size, manifest.input.interpolation, template)
        if cut.placement is not None and cut.placement.fault:
            detail = f"{frame.image or 'frame'}: {cut.placement.fault}"
            misplaced = decision.not_judged(self.bundle.id, Reason.FRAME, detail)
            return Inspected(_placed(misplaced, cut), cut)
        prepared.view, prepared.view_ms = cut, _ms_since(began)
        return None

    def _read(self, prepared: Sequence[Prepared]) -> None:
        """One engine call, which fails for all of its views."""
        views = [one.view for one in prepared if one.view is not None]
        began = time.perf_counter()
        try:
            readings = self.engine.infer(np.stack([cut.pixels for cut in views]))
        except EngineError as error:
            for one in prepared:
                one.found = Inspected(
                    decision.not_judged(self.bundle.id, Reason.ENGINE, str(error)), one.view
                )
            return
        except Exception as error:
            for one in prepared:
                one.found = self._failed(Reason.ENGINE, "the engine failed", error, one.view)
            return
        engine_ms = _ms_since(began)
        for one, reading in zip(prepared, readings, strict=True):
            one.reading, one.engine_ms = reading, engine_ms

    def _finish(self, prepared: Prepared, running: bool) -> Inspected:
        frame, cut, reading = prepared.frame, prepared.view, prepared.reading
        if cut is None or reading is None:
            raise EngineError("a view was not read")
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
            return self._failed(Reason.ENGINE, "the decision failed", error, cut)
        verdict = dataclasses.replace(
            verdict,
            placement=cut.placement,
            latency_ms={
                "view": prepared.view_ms,
                "engine": prepared.engine_ms,
                "decision": _ms_since(began),
            },
        )
        return Inspected(verdict, cut, reading)

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
