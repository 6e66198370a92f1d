"""The golden part check: a part with a known result, inserted once a shift and compared with its
recorded verdicts.

It may be good or have a known defect. Its verdicts are published like any other; here they are only
compared, and the result is an event. A failed check makes the station DEGRADED until one passes,
also after a restart; people decide whether the line goes on.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_qc.errors import DataError, EdgeQCError
from edge_qc.line import Line
from edge_qc.parts import Frame, Reason, Verdict
from edge_qc.publisher import Outbox, Severity
from edge_qc.system.control import Conversation
from edge_qc.system.whole_file import write_whole

log = logging.getLogger(__name__)

_UNREADABLE = "golden parts"


class CheckRequest(BaseModel):
    """The request of ``edge-qc golden-part``. record: store the result as expected from now on.
    part: use only frames with this part id; otherwise the next frame of each die. within_s: the
    time limit."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(default="golden", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    record: bool = False
    part: str | None = None
    within_s: float = Field(default=60.0, gt=0, le=3600)


class Expected(BaseModel):
    """The expected result for one die's view."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: str
    drift: float | None


class GoldenParts:
    """Stores expected results in a file, with which parts failed, and checks parts against them."""

    def __init__(self, file: Path, line: Line, outbox: Outbox, dies: frozenset[str]) -> None:
        """dies: those that a complete part shows. Failures before the last restart stand again."""
        self._file, self._line, self._outbox, self._dies = file, line, outbox, dies
        self._one = threading.Lock()
        with suppress(DataError):
            for name in self._read():
                self._stand(name, self._failure(name))

    def check(self, talk: Conversation) -> dict[str, Any]:
        """Wait for the part's views and compare or record them. Raises EdgeQCError if no golden
        part has that name or, with ``record``, if a view could not be judged."""
        try:
            request = CheckRequest.model_validate(talk.request)
        except ValidationError as error:
            if error.errors()[0]["loc"] == ("name",):
                raise EdgeQCError(
                    f"golden part {talk.request.get('name')!r}: wanted a name of 1 to 64 letters, "
                    "digits, dots, underscores or hyphens"
                ) from error
            raise EdgeQCError(f"golden part: {error.errors()[0]['msg']}") from error
        expected = {} if request.record else self._expected(request.name)
        if not self._one.acquire(blocking=False):
            raise EdgeQCError("another golden part check is running; wait until it ends")
        try:
            seen = self._collect(talk, request, self._dies if request.record else set(expected))
            if request.record:
                return self._record(request.name, seen)
            return self._compare(request.name, seen, expected)
        finally:
            self._one.release()

    def _collect(
        self, talk: Conversation, request: CheckRequest, dies: frozenset[str] | set[str]
    ) -> dict[str, tuple[Frame, Verdict]]:
        """The first view of each die from now on."""
        asked_s = time.monotonic()
        judged: queue.Queue[tuple[Frame, Verdict]] = queue.Queue()

        def look(frame: Frame, verdict: Verdict) -> None:
            if frame.monotonic_s >= asked_s and request.part in (None, frame.part_id):
                judged.put((frame, verdict))

        end = self._line.observe(look)
        seen: dict[str, tuple[Frame, Verdict]] = {}
        talk.tell(waiting=sorted(dies))
        try:
            while seen.keys() < dies and time.monotonic() - asked_s < request.within_s:
                if talk.gone:
                    raise EdgeQCError("the golden-part command has ended")
                try:
                    frame, verdict = judged.get(timeout=0.2)
                except queue.Empty:
                    continue
                if frame.die in dies and frame.die not in seen:
                    seen[frame.die] = frame, verdict
                    talk.tell(die=frame.die, camera=frame.camera, label=verdict.label)
        finally:
            end()
        return seen

    def _record(self, name: str, seen: Mapping[str, tuple[Frame, Verdict]]) -> dict[str, Any]:
        missing = sorted(self._dies - seen.keys())
        missing += [die for die, (_, v) in seen.items() if v.reason is not Reason.DECIDED]
        if missing:
            raise EdgeQCError(
                f"golden part {name!r} was not recorded: no judged view of {', '.join(missing)}. "
                "Insert it and try again"
            )
        views = {
            die: Expected(
                label=verdict.label, drift=None if verdict.drift is None else verdict.drift.score
            )
            for die, (_, verdict) in seen.items()
        }
        part = {
            "recorded": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "bundle": self._line.inspection.bundle.id,
            "views": {die: view.model_dump() for die, view in sorted(views.items())},
        }
        # Only a check that passes ends a failure.
        if (failed := self._failure(name)) is not None:
            part["failed"] = failed
        self._write(self._read() | {name: part})
        labels = ", ".join(f"{die} {view.label}" for die, view in sorted(views.items()))
        self._outbox.event("golden-part-recorded", f"{name}: {labels}")
        return {"passed": True, "recorded": True, "views": _rows(seen, views)}

    def _compare(
        self,
        name: str,
        seen: Mapping[str, tuple[Frame, Verdict]],
        expected: Mapping[str, Expected],
    ) -> dict[str, Any]:
        rows = _rows(seen, expected)
        wrong = [row for row in rows if not row["as_expected"]]
        words = None
        if wrong:
            words = "; ".join(
                f"{row['die']} is {row['label'] or 'missing'}, expected {row['expected']}"
                for row in wrong
            )
        self._stand(name, words)
        self._keep(name, words)
        if words is not None:
            self._outbox.event("golden-part-failed", f"{name}: {words}", severity=Severity.ALARM)
        else:
            self._outbox.event("golden-part-passed", f"{name}: {len(rows)} views as recorded")
        return {"passed": not wrong, "recorded": False, "views": rows}

    def _stand(self, name: str, failed: str | None) -> None:
        """Show that this part failed, and how; None: it did not."""
        trouble = f"golden part {name}"
        if failed is None:
            self._line.troubles.pop(trouble, None)
        else:
            self._line.troubles[trouble] = f"{trouble} failed: {failed}"

    def _keep(self, name: str, failed: str | None) -> None:
        """On disk, for the next start."""
        try:
            if failed != self._failure(name):
                document = self._read()
                document[name] = document[name] | {"failed": failed}
                self._write(document)
        except DataError as error:
            log.error("golden part %s: the next start will not know this result: %s", name, error)

    def _failure(self, name: str) -> str | None:
        """How this part failed, if no check has passed since."""
        part = self._read().get(name)
        failed = part.get("failed") if isinstance(part, dict) else None
        return None if failed is None else str(failed)

    def _expected(self, name: str) -> dict[str, Expected]:
        found = self._read().get(name)
        if found is None:
            known = ", ".join(sorted(self._read())) or "none"
            raise EdgeQCError(
                f"golden part {name!r} is not recorded (recorded: {known}). Insert it and record "
                "it with --record"
            )
        try:
            return {die: Expected.model_validate(view) for die, view in found["views"].items()}
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            raise DataError(f"{self._file}: {name!r} cannot be read; record it again") from error

    def _read(self) -> dict[str, Any]:
        """The file. Raises DataError if it cannot be read; which parts failed is not known then,
        and the station is DEGRADED until it can be."""
        document = {}
        try:
            with suppress(FileNotFoundError):
                document = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            said = (
                f"{self._file} cannot be read: {error}. Remove it, and record the golden parts "
                "again"
            )
            self._line.troubles[_UNREADABLE] = said
            raise DataError(said) from error
        self._line.troubles.pop(_UNREADABLE, None)
        return document if isinstance(document, dict) else {}

    def _write(self, document: Mapping[str, Any]) -> None:
        """Raises DataError."""
        try:
            write_whole(self._file, (json.dumps(document, indent=2) + "\n").encode())
        except OSError as error:
            raise DataError(
                f"{self._file} cannot be written: {error}. Check that the station's "
                "user may write there"
            ) from error


def _rows(
    seen: Mapping[str, tuple[Frame, Verdict]], expected: Mapping[str, Expected]
) -> list[dict[str, Any]]:
    rows = []
    for die, wanted in sorted(expected.items()):
        frame, verdict = seen.get(die, (None, None))
        label = None if verdict is None else verdict.label
        rows.append(
            {
                "die": die,
                "camera": None if frame is None else frame.camera,
                "label": label,
                "expected": wanted.label,
                "drift": None if verdict is None or verdict.drift is None else verdict.drift.score,
                "expected_drift": wanted.drift,
                "as_expected": label == wanted.label,
            }
        )
    return rows
