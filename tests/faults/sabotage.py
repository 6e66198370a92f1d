"""``edge-qc`` as it is, with faults armed from outside: ``python -m tests.faults.sabotage run …``.

Production code knows nothing of this: functions are wrapped here before the command line starts.
What is armed is said by the environment:

    FAULTS_JOURNAL  file that gets a line for the code that runs, for each trigger asked, and for
                    each that was durable
    FAULTS_POINT    ``name:n``: the process kills itself when it comes to that fail point the nth
                    time
    FAULTS_TORN     ``n``: the process kills itself in the transaction that holds its nth PASS,
                    after a moment in which whoever is too quick has told of it
    FAULTS_HURRY    patience in seconds where the station has more, so that a campaign stays short
    FAULTS_ROOM     ``low,full,ballast`` in bytes, for small disks

Faults that travel in frames (see ``load``) are always armed.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from tests.faults.load import CODES, SLOW_S

POINTS: dict[str, tuple[str, str]] = {
    "trigger-asked": ("before", "edge_qc.publisher.ledger.outbox:Outbox.trigger"),
    "trigger-queued": ("after", "edge_qc.publisher.ledger.outbox:Outbox.trigger"),
    "trigger-accepted": ("before", "edge_qc.line.intake:Work"),
    "commit-begun": ("before", "edge_qc.publisher.ledger.statements:count_commit"),
    "commit-made": ("before", "edge_qc.publisher.ledger.disk:HighWaterMark.write"),
    "commit-marked": ("after", "edge_qc.publisher.ledger.disk:HighWaterMark.write"),
    "view-asked": ("before", "edge_qc.inspection.inspecting:view"),
    "engine-asked": ("before", "edge_qc.engine.onnxruntime:OnnxRuntimeEngine.infer"),
    "engine-answered": ("after", "edge_qc.engine.onnxruntime:OnnxRuntimeEngine.infer"),
    "verdict-asked": ("before", "edge_qc.publisher.ledger.outbox:Outbox.verdict"),
    "verdict-queued": ("after", "edge_qc.publisher.ledger.outbox:Outbox.verdict"),
    "part-asked": ("before", "edge_qc.publisher.ledger.outbox:Outbox.part"),
    "sent": ("before", "paho.mqtt.client:Client.publish"),
    "sent-through": ("after", "paho.mqtt.client:Client.publish"),
    "epoch-begun": ("before", "edge_qc.publisher.ledger.statements:add_epoch"),
    "epoch-committed": ("after", "edge_qc.publisher.ledger.writer:Writer.start"),
    "ledger-opened": ("after", "edge_qc.publisher.ledger.recovery:open_ledger"),
}
"""Fail points that a running station comes to: before or after which call."""

WITHOUT_RECORDER: dict[str, tuple[str, str]] = {
    "acknowledged": ("before", "edge_qc.publisher.ledger.outbox:Outbox.delivered"),
    "acknowledgement-noted": ("after", "edge_qc.publisher.ledger.outbox:Outbox.delivered"),
}
WITH_RECORDER: dict[str, tuple[str, str]] = {
    "recorded": ("before", "edge_qc.publisher.ledger.outbox:Outbox.acknowledged"),
    "record-noted": ("after", "edge_qc.publisher.ledger.outbox:Outbox.acknowledged"),
}
"""What lets messages go."""

RARE_POINTS: dict[str, tuple[str, str]] = {
    "draining": ("before", "edge_qc.line.loop:Line._drain"),
    "publisher-closing": ("before", "edge_qc.publisher.connection.mqtt:Publisher.close"),
    "outbox-closing": ("before", "edge_qc.publisher.ledger.writer:Writer.close"),
    "setting-aside": ("before", "edge_qc.publisher.ledger.recovery:set_aside"),
    "set-aside": ("after", "edge_qc.publisher.ledger.recovery:set_aside"),
    "salvaging": ("before", "edge_qc.publisher.ledger.recovery:salvage"),
    "salvaged": ("after", "edge_qc.publisher.ledger.recovery:salvage"),
}
"""Fail points of a stop, and of a start on a corrupt outbox."""

ALL_POINTS = {**POINTS, **WITHOUT_RECORDER, **WITH_RECORDER, **RARE_POINTS}
ONCE = ("epoch-begun", "epoch-committed", "ledger-opened", *RARE_POINTS)
"""Fail points that a process comes to once."""


MISARMED = 70
"""Exit status where a name that is to be wrapped is no longer there."""


def main() -> None:
    """Arm what the environment asks for, then be ``edge-qc``."""
    from edge_qc import cli
    from edge_qc.camera import SCHEMES

    SCHEMES["load"] = "tests.faults.load:LoadSource"
    try:
        _arm()
    except (ImportError, AttributeError) as error:
        sys.stderr.write(f"sabotage: what was to be wrapped has another name now: {error}\n")
        sys.exit(MISARMED)
    cli.main()


def _arm() -> None:
    if seconds := os.environ.get("FAULTS_HURRY"):
        _hurry(float(seconds))
    if room := os.environ.get("FAULTS_ROOM"):
        _shrink(*map(int, room.split(",")))
    if journal := os.environ.get("FAULTS_JOURNAL"):
        _keep_journal(journal)
    _arm_stages()
    if point := os.environ.get("FAULTS_POINT"):
        name, _, nth = point.partition(":")
        _arm_point(*ALL_POINTS[name], int(nth))
    if nth := os.environ.get("FAULTS_TORN"):
        _arm_torn(int(nth))


def _found(target: str) -> tuple[Any, str, Callable[..., Any]]:
    """Owner, name and value of ``module:Class.attribute``."""
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name)


def _wrap(target: str, wrapper: Callable[..., Any]) -> None:
    """Puts ``wrapper(original, *arguments, **keys)`` in a function's place, wherever a module of
    the station has imported it by name."""
    owner, name, original = _found(target)
    wrapped = functools.wraps(original)(functools.partial(wrapper, original))
    if not isinstance(owner, type):
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("edge_qc"):
                for key, value in list(vars(module).items()):
                    if value is original:
                        setattr(module, key, wrapped)
        return

    # A partial is no descriptor: a method needs a function.
    @functools.wraps(original)
    def method(*arguments: Any, **keys: Any) -> Any:
        return wrapper(original, *arguments, **keys)

    setattr(owner, name, method)


def _arm_point(when: str, target: str, nth: int) -> None:
    passed = 0

    def counted(original: Callable[..., Any], *arguments: Any, **keys: Any) -> Any:
        nonlocal passed
        if when == "after":
            answer = original(*arguments, **keys)
        passed += 1
        if passed == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer if when == "after" else original(*arguments, **keys)

    importlib.import_module("edge_qc.station.daemon")
    importlib.import_module("edge_qc.engine.onnxruntime")
    _wrap(target, counted)


def _arm_torn(nth: int) -> None:
    written = 0

    def add_message(original: Callable[..., Any], db: Any, kind: Any, *more: Any) -> Any:
        nonlocal written
        if kind.value == "verdict" and '"disposition":"PASS"' in more[2]:
            written += 1
            if written == nth:
                time.sleep(0.4)
                os.kill(os.getpid(), signal.SIGKILL)
        return original(db, kind, *more)

    _wrap("edge_qc.publisher.ledger.statements:add_message", add_message)


def _keep_journal(file: str) -> None:
    """A line in the kernel's hands outlives the process, whatever kills it."""
    import edge_qc

    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.write(fd, f"code {edge_qc.__file__}\n".encode())

    def trigger(
        original: Callable[..., Any], outbox: Any, verdict_id: str, record: Any, **how: Any
    ) -> Any:
        os.write(fd, f"asked {verdict_id} {record.trigger_id} {record.image or '-'}\n".encode())
        future: Future[None] = original(outbox, verdict_id, record, **how)

        def durable(done: Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                os.write(fd, f"durable {verdict_id}\n".encode())

        future.add_done_callback(durable)
        return future

    _wrap("edge_qc.publisher.ledger.outbox:Outbox.trigger", trigger)


def _arm_stages() -> None:
    from edge_qc.engine.onnxruntime import OnnxRuntimeEngine
    from edge_qc.errors import EngineError
    from edge_qc.inspection import inspecting as inspection
    from edge_qc.parts import View

    undecidable: set[int] = set()

    def view(original: Callable[..., Any], pixels: Any, *arguments: Any, **keys: Any) -> Any:
        cut = original(pixels, *arguments, **keys)
        code = int(pixels.flat[0])
        if code == CODES["view"]:
            raise RuntimeError("sabotage: the view failed")
        if code == CODES["crop"]:
            return View(np.ascontiguousarray(cut.pixels[:, :4]), cut.to_frame)
        return cut

    def infer(original: Callable[..., Any], engine: Any, views: Any) -> Any:
        codes = [int(code) for code in views[:, 0, 0, 0]]
        if CODES["error"] in codes:
            raise EngineError("sabotage: the device fell off the bus")
        if CODES["bug"] in codes:
            raise RuntimeError("sabotage: a bug in the engine")
        if CODES["hang"] in codes:
            time.sleep(3600)
        if CODES["slow"] in codes:
            time.sleep(SLOW_S)
        session = engine._session
        engine._session = _Liar(session, codes)
        try:
            readings = original(engine, views)
        finally:
            engine._session = session
        undecidable.update(
            id(reading)
            for reading, code in zip(readings, codes, strict=True)
            if code == CODES["decide"]
        )
        return readings

    def judge(original: Callable[..., Any], bundle: Any, die: str, reading: Any, *more: Any) -> Any:
        if id(reading) in undecidable:
            undecidable.discard(id(reading))
            raise RuntimeError("sabotage: the decision failed")
        return original(bundle, die, reading, *more)

    _wrap("edge_qc.inspection.inspecting:view", view)
    _wrap("edge_qc.inspection.decision:judge", judge)
    # The golden views of acceptance are noise, which may look like a code.
    opening = inspection.open_inspection

    def opened(*arguments: Any, **keys: Any) -> Any:
        inspection = opening(*arguments, **keys)
        original = OnnxRuntimeEngine.infer
        OnnxRuntimeEngine.infer = lambda engine, views: infer(original, engine, views)  # type: ignore[method-assign]
        return inspection

    _wrap(
        "edge_qc.inspection.inspecting:open_inspection",
        lambda _, *args, **keys: opened(*args, **keys),
    )


class _Liar:
    """A session that answers with what the frames ask for."""

    def __init__(self, session: Any, codes: Sequence[int]) -> None:
        self._session, self._codes = session, codes

    def run(self, names: Sequence[str], feeds: Any) -> list[Any]:
        answers = [np.array(answer) for answer in self._session.run(names, feeds)]
        for index, code in enumerate(self._codes):
            victim = answers[index % len(answers)]
            if code == CODES["nan"]:
                victim[index] = np.nan
            if code == CODES["inf"]:
                victim[index] = np.inf
            if code == CODES["shape"]:
                return [answer[..., :1] for answer in answers]
        return answers


def _hurry(seconds: float) -> None:
    from edge_qc.publisher.connection import mqtt, recorded, session

    session.ACK_S = session.REST_S = recorded.RESEND_S = seconds
    mqtt._LAST_BACKOFF_S = seconds / 4


def _shrink(low: int, full: int, ballast: int) -> None:
    from edge_qc.publisher import Outbox

    original = Outbox.open.__func__  # type: ignore[attr-defined]

    def opened(cls: type[Outbox], path: Any, **keys: Any) -> Outbox:
        keys |= {"low_bytes": low, "full_bytes": full, "ballast_bytes": ballast}
        outbox: Outbox = original(cls, path, **keys)
        return outbox

    Outbox.open = classmethod(opened)  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main()
