"""Frames to verdicts: view, engine and decision in turn; only here the three meet.

The line and ``edge-qc judge`` both call ``Inspection.judge``, so that a verdict is the same with
and without a broker.
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

__all__ = ["Inspected", "Inspection", "open_inspection"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inspected:
    """A verdict with its view and reading; each is None if inspection did not get that far."""

    verdict: Verdict
    view: View | None = None
    reading: Reading | None = None


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
        found: list[Inspected | None] = [None] * len(frames)
        views: list[tuple[int, View, float]] = []
        manifest = self.bundle.manifest
        size = (manifest.input.height, manifest.input.width)
        for index, frame in enumerate(frames):
            die = manifest.dies.get(frame.die)
            if die is None:
                unknown = decision.unknown_die(self.bundle, frame.die)
                found[index] = Inspected(decision.not_judged(self.bundle.id, Reason.FRAME, unknown))
                continue
            height, width = frame.pixels.shape[:2]
            if unlearned := die.unlearned(width, height):
                detail = f"{frame.image or 'frame'} {unlearned}"
                found[index] = Inspected(decision.not_judged(self.bundle.id, Reason.FRAME, detail))
                continue
            began = time.perf_counter()
            try:
                template = self._templates.get(frame.die)
                cut = view(frame.pixels, die, size, manifest.input.interpolation, template)
            except Exception as error:
                found[index] = self._failed(Reason.FRAME, "the view cannot be cut", error)
                continue
            if cut.placement is not None and cut.placement.fault:
                detail = f"{frame.image or 'frame'}: {cut.placement.fault}"
                misplaced = decision.not_judged(self.bundle.id, Reason.FRAME, detail)
                found[index] = Inspected(_placed(misplaced, cut), cut)
                continue
            views.append((index, cut, _ms_since(began)))
        batch = manifest.input.batch
        for start in range(0, len(views), batch):
            self._inspect_batch(frames, views[start : start + batch], running, found)
        return [inspected for inspected in found if inspected is not None]

    def _inspect_batch(
        self,
        frames: Sequence[Frame],
        views: Sequence[tuple[int, View, float]],
        running: bool,
        found: list[Inspected | None],
    ) -> None:
        began = time.perf_counter()
        try:
            readings = self.engine.infer(np.stack([cut.pixels for _, cut, _ in views]))
        except EngineError as error:
            for index, cut, _ in views:
                found[index] = Inspected(
                    decision.not_judged(self.bundle.id, Reason.ENGINE, str(error)), cut
                )
            return
        except Exception as error:
            for index, cut, _ in views:
                found[index] = self._failed(Reason.ENGINE, "the engine failed", error, cut)
            return
        engine_ms = _ms_since(began)
        for (index, cut, view_ms), reading in zip(views, readings, strict=True):
            began = time.perf_counter()
            circumstances = decision.Circumstances(
                frame_age_s=time.monotonic() - frames[index].monotonic_s,
                max_frame_age_s=self._max_frame_age_s,
                accepted=self.acceptance.bundle_id == self.bundle.id,
                running=running,
            )
            try:
                verdict = decision.judge(self.bundle, frames[index].die, reading, circumstances)
            except Exception as error:
                found[index] = self._failed(Reason.ENGINE, "the decision failed", error, cut)
                continue
            verdict = dataclasses.replace(
                _placed(verdict, cut),
                latency_ms={
                    "view": view_ms,
                    "engine": engine_ms,
                    "decision": _ms_since(began),
                },
            )
            found[index] = Inspected(verdict, cut, reading)

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
