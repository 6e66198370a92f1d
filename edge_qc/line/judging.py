"""Judging: turns queued work into verdicts on disk.

Each trigger gets its one verdict, which then goes to the part, to evidence and to observers. If one
of them fails, the verdict stands. Each camera's thread cuts its own views. The engine has a thread
too, so that it reads the next view while this one's verdict is made and recorded; the order of the
work stays.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from edge_qc.evidence import Evidence
from edge_qc.inspection.decision import not_judged
from edge_qc.inspection.inspecting import Inspected, Inspection, Prepared
from edge_qc.line.assembly import Assembly
from edge_qc.line.health import Health
from edge_qc.line.intake import Work
from edge_qc.line.outgoing import Outgoing
from edge_qc.parts import Frame, Reason, Verdict
from edge_qc.publisher import VerdictContent, verdict_content
from edge_qc.system.priority import FIRST, set_nice

log = logging.getLogger(__name__)

_CLOSE_S = 5.0
_ENGINE_FAILURES = 5
"""After this many engine errors in a row, a restart helps more than another try."""

Observer = Callable[[Frame, Verdict], None]

_Task = tuple[Inspection, Sequence[Prepared]]


class Judging:
    """For the loop's thread only, except ``observe`` and ``prepare``. inspection: the one that
    judges now. failure: why the station should restart, or None. To be closed: it has a thread."""

    def __init__(
        self,
        inspection: Inspection,
        outgoing: Outgoing,
        assembly: Assembly,
        health: Health,
        evidence: Evidence | None,
    ) -> None:
        self.inspection = inspection
        self.failure: str | None = None
        self._outgoing, self._assembly, self._health = outgoing, assembly, health
        self._evidence = evidence
        self._observers: tuple[Observer, ...] = ()
        self._engine_failures = 0
        self._begun: deque[tuple[Sequence[Work], Sequence[Prepared]]] = deque()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._engine = threading.Thread(target=self._run_engine, name="engine", daemon=True)
        self._engine.start()

    @property
    def begun(self) -> int:
        """How many turns' work was begun and is not finished."""
        return len(self._begun)

    def prepare(self, frame: Frame) -> Prepared:
        """Cut a frame's view; from any thread."""
        return self.inspection.prepare(frame)

    def close(self) -> None:
        """Close the inspection, once the engine has read what was begun. One that does not come
        back keeps its memory: freeing it under its hands would be worse."""
        self._tasks.put(None)
        self._engine.join(_CLOSE_S)
        if self._engine.is_alive():
            log.error("the engine has not come back in %.0f s; it is left behind", _CLOSE_S)
        else:
            self.inspection.close()

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer`` on the loop's thread with each frame once its verdict is recorded. It
        must be quick; its errors are logged. Returns a function that ends the observation."""
        self._observers = (*self._observers, observer)

        def end() -> None:
            self._observers = tuple(one for one in self._observers if one is not observer)

        return end

    def replace(self, inspection: Inspection) -> Inspection:
        """Judge with this inspection from now on; with nothing begun. Returns the previous one."""
        assert not self._begun
        before, self.inspection = self.inspection, inspection
        self._outgoing.labels = inspection.bundle.manifest.labels
        self._engine_failures = 0
        return before

    def begin(self, work: Sequence[Work]) -> None:
        """Leave the views of these items to the engine."""
        prepared = [
            self._prepared(item, item.event) for item in work if isinstance(item.event, Frame)
        ]
        self._begun.append((work, prepared))
        self._tasks.put((self.inspection, prepared))

    def await_engine(self) -> None:
        """Wait until the engine has read what was begun first."""
        error = self._answers.get()
        if error is not None:
            raise error

    def finish(self, *, running: bool) -> None:
        """Record one verdict for each item that was begun first and read. running: whether the
        station may judge now; if not, all become NOT_JUDGED. Raises PublishError if a verdict
        cannot be recorded."""
        work, prepared = self._begun.popleft()
        inspected = self.inspection.finish(prepared, running)
        self._watch_engine([one.verdict for one in inspected])
        found = iter(inspected)
        for item in work:
            seen: Inspected | None = None
            if isinstance(item.event, Frame):
                seen = next(found)
                verdict = seen.verdict
            else:
                verdict = not_judged(
                    self.inspection.bundle.id, item.event.reason, item.event.detail
                )
            content = self._complete(item, verdict)
            if seen is not None:
                self._keep(item, seen, content)
            if isinstance(item.event, Frame):
                self._show(item.event, verdict)

    def _run_engine(self) -> None:
        set_nice(FIRST)
        while (task := self._tasks.get()) is not None:
            inspection, prepared = task
            error: BaseException | None = None
            try:
                inspection.read(prepared)
            except BaseException as unforeseen:  # the loop waits for an answer
                error = unforeseen
            self._answers.put(error)
            # Not held until the next comes: a picture, and an inspection that may close by then.
            del task, inspection, prepared

    def _prepared(self, item: Work, frame: Frame) -> Prepared:
        """Its view, cut again if another inspection cut it."""
        if item.prepared is not None and item.prepared.by is self.inspection:
            return item.prepared
        return self.inspection.prepare(frame)

    def _keep(self, item: Work, seen: Inspected, content: VerdictContent) -> None:
        if self._evidence is None or not isinstance(item.event, Frame):
            return

        def described() -> str:
            return f'{{"verdict_id":"{item.verdict_id}",{content.model_dump_json()[1:]}'

        try:
            self._evidence.offer(
                item.verdict_id, item.event, seen.view, seen.reading, seen.verdict, described
            )
        except Exception:
            log.exception("an image could not be kept as evidence; the verdicts stand")

    def _show(self, frame: Frame, verdict: Verdict) -> None:
        for observer in self._observers:
            try:
                observer(frame, verdict)
            except Exception:
                log.exception("an observer failed; the verdicts stand")

    def _complete(self, item: Work, verdict: Verdict) -> VerdictContent:
        event, origin = item.event, item.origin
        if isinstance(event, Frame) and origin.triggered_s is None:
            origin = dataclasses.replace(origin, triggered_s=event.monotonic_s)
        bundle = self.inspection.bundle
        content = verdict_content(
            verdict,
            camera=event.camera,
            die=event.die,
            trigger_id=event.trigger_id,
            time=event.time,
            part_id=event.part_id,
            image=event.image,
            bundle_version=bundle.manifest.version,
            engine=self.inspection.engine.name,
            late=self._assembly.said(event) is not None,
            lot=origin.lot,
            serial=origin.serial,
        )
        self._outgoing.verdict(item.verdict_id, content, origin)
        total_ms = 0.0
        if isinstance(event, Frame):
            total_ms = (time.monotonic() - event.monotonic_s) * 1e3
        self._health.count(verdict.label, total_ms)
        log.debug("%s %s %s", event.camera, event.image or event.trigger_id, verdict.label)
        self._assembly.add(item.verdict_id, event, verdict, origin)
        return content

    def _watch_engine(self, verdicts: Sequence[Verdict]) -> None:
        """Count failed calls, not frames: a failed call costs its whole batch, and one frame's NaN
        does not mean a broken engine."""
        asked = [verdict for verdict in verdicts if verdict.reason is not Reason.FRAME]
        if not asked:
            return
        if any(verdict.reason is not Reason.ENGINE for verdict in asked):
            self._engine_failures = 0
            return
        self._engine_failures += 1
        if self._engine_failures == _ENGINE_FAILURES and self.failure is None:
            why = asked[-1].detail
            self.failure = f"the engine failed {_ENGINE_FAILURES} times in a row: {why}"
            log.error("%s", self.failure)
