"""Seeded mistakes in our own code, of the kind that a tired author makes: each must be caught.

A mutant is a copy of the station with some lines changed; the harness runs it in the station's
place. Where the code has moved on and a line is no longer there, the mutant must be seeded anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import edge_qc

SOURCE = Path(edge_qc.__file__).parent


@dataclass(frozen=True)
class Mutant:
    """changes: file below ``edge_qc``, the lines as they are, the lines as they become."""

    name: str
    changes: tuple[tuple[str, str, str], ...]


class Stale(AssertionError):
    """The code to mutate is no longer there."""


MUTANTS = (
    Mutant(
        "a trigger is accepted before it is on disk",
        (
            (
                "publisher/ledger/outbox.py",
                "            self._open.add(verdict_id)\n        return entry.done\n",
                "            self._open.add(verdict_id)\n"
                "        done: Future[None] = Future()\n"
                "        done.set_result(None)\n"
                "        return done\n",
            ),
        ),
    ),
    Mutant(
        "a message leaves the outbox when it is published, not when it is acknowledged",
        (
            (
                "publisher/connection/session.py",
                "            self._sent[info.mid] = message, now_s\n",
                "            self._sent[info.mid] = message, now_s\n"
                "            self._outbox.delivered([message.row])\n",
            ),
        ),
    ),
    Mutant(
        "a connection goes on behind what the one before had sent",
        (
            (
                "publisher/connection/session.py",
                "        self._cursor = 0\n        self._ready: deque",
                "        self._cursor = getattr(outbox, 'cursor', 0)\n        self._ready: deque",
            ),
            (
                "publisher/connection/session.py",
                "            self._cursor = message.row\n",
                "            self._cursor = self._outbox.cursor = message.row\n",
            ),
        ),
    ),
    Mutant(
        "a start forgets the triggers that it finds",
        (
            (
                "publisher/ledger/beginning.py",
                "        for verdict_id, record in unfinished\n",
                "        for verdict_id, record in unfinished[:0]\n",
            ),
        ),
    ),
    Mutant(
        "a trigger found at a start gets a verdict of another id",
        (
            (
                "publisher/ledger/beginning.py",
                "        Entry(as_json(_restarted(record)), Kind.VERDICT, verdict_id)\n",
                "        Entry(as_json(_restarted(record)), Kind.VERDICT, verdict_id[::-1])\n",
            ),
        ),
    ),
    Mutant(
        "an epoch's numbers are given out again after a restart",
        (
            (
                "publisher/ledger/outbox.py",
                "        self.epoch = str(uuid.uuid4())\n",
                "        self.epoch = str(uuid.uuid5(uuid.NAMESPACE_URL, str(path)))\n",
            ),
            (
                "publisher/ledger/file.py",
                "    epoch TEXT NOT NULL UNIQUE,\n",
                "    epoch TEXT NOT NULL,\n",
            ),
            (
                "publisher/ledger/file.py",
                "    delivered_s REAL,\n    UNIQUE (epoch, kind, seq)\n",
                "    delivered_s REAL\n",
            ),
        ),
    ),
    Mutant(
        "NaN is taken for nought",
        (
            (
                "engine/onnxruntime.py",
                "zip(self._wanted, answers, strict=True)",
                "zip(self._wanted, map(np.nan_to_num, answers), strict=True)",
            ),
        ),
    ),
    Mutant(
        "a stale frame is judged",
        (
            (
                "inspection/inspecting.py",
                "            frame_age_s=time.monotonic() - frame.monotonic_s,\n",
                "            frame_age_s=time.perf_counter() - began,\n",
            ),
        ),
    ),
    Mutant(
        "readings are given to the wrong frames of a batch",
        (
            (
                "inspection/inspecting.py",
                "in zip(prepared, readings, strict=True):\n",
                "in zip(prepared, readings[::-1], strict=True):\n",
            ),
        ),
    ),
    Mutant(
        "a frame's memory is given back before it was copied",
        (
            (
                "camera/ring.py",
                ".reshape(shape).copy()\n",
                ".reshape(shape)\n",
            ),
        ),
    ),
    Mutant(
        "a black frame is judged",
        (
            (
                "camera/checks.py",
                "        if beyond(pixels[::16]) >= 0.98 and beyond(pixels) >= _SHARE:\n",
                "        if beyond(pixels[::16]) >= 2.0 and beyond(pixels) >= _SHARE:\n",
            ),
        ),
    ),
    Mutant(
        "a full queue drops what was accepted",
        (
            (
                "line/intake.py",
                "            self._queue.put(Work(verdict_id, event, origin, prepared))\n",
                "            if not self._queue.full():\n"
                "                self._queue.put(Work(verdict_id, event, origin, prepared))\n",
            ),
        ),
    ),
    Mutant(
        "a stop leaves what is queued",
        (
            (
                "line/loop.py",
                "            if self._stopping and self._stopped.is_set() and self._idle:\n",
                "            if self._stopping:\n",
            ),
        ),
    ),
)


def seeded(mutant: Mutant, folder: Path) -> Path:
    """A folder to put on the path before the real one. Raises Stale."""
    target = folder / "mutant" / "edge_qc"
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in mutant.changes:
        file = target / name
        text = file.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise Stale(f"{mutant.name}: edge_qc/{name} has {text.count(old)} times\n{old}")
        file.write_text(text.replace(old, new), encoding="utf-8")
    return target.parent
