"""Process monitoring: control charts of each camera's pictures tell station drift from part drift.

A camera's reference is learned from the first good frames under a bundle and stored in the state
folder. After that a moved camera, an ageing lamp, lost focus or a creeping drift score each raise
an event and make the station DEGRADED. Nothing here stops the station or changes a verdict.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.picture import Picture, measure
from edge_qc.monitoring.control_chart import Chart
from edge_qc.monitoring.reference import Learner, Reference, figures_of
from edge_qc.parts import GOOD, Frame, Reason, Verdict

log = logging.getLogger(__name__)

LEARNT = 100
"""How many good frames make a reference: the first half its picture, the second half its
scatter."""

_EVERY_S = 0.5

_LEAST = {
    "brightness": math.log(1.08),
    "sharpness": math.log(1.5),
    "right": 1.5,
    "down": 1.5,
    "likeness": 0.4,
    "drift": 0.2,
}
"""The smallest relevant change: two ratios, two percentages of the picture, a correlation, and the
cube root of the score."""

Tell = Callable[[str, str, str], None]
"""Receives a camera, an event name and its detail."""


class _Watched:
    """One camera and die."""

    def __init__(self, file: Path, bundle_id: str, count: int) -> None:
        self._file, self.bundle_id = file, bundle_id
        self._learner = Learner(count)
        self._charts: dict[str, Chart] = {}
        self._small: NDArray[np.float32] | None = None
        if (kept := Reference.read(file, bundle_id)) is not None:
            self._use(kept)

    def add(self, picture: Picture, good_drift: float | None) -> None:
        """good_drift: the cube root of the drift score, if the verdict is GOOD."""
        if not self._charts:
            if good_drift is None:
                return
            self._learner.add(picture, good_drift)
            if (learnt := self._learner.learnt(self.bundle_id)) is not None:
                try:
                    learnt.keep(self._file)
                except OSError as error:
                    log.warning(
                        "%s: the reference cannot be stored, so the next start learns it again: %s",
                        self._file,
                        error,
                    )
                self._use(learnt)
            return
        for name, value in figures_of(picture, self._small).items():
            self._charts[name].add(value)
        if good_drift is not None:
            self._charts["drift"].add(good_drift)

    def findings(self) -> dict[str, str]:
        """The events for figures outside their limits, by name, in words."""
        found: dict[str, str] = {}
        charts = self._charts
        if not charts:
            return found
        if charts["likeness"].out and charts["likeness"].deviation < 0:
            found["camera-moved"] = "the picture no longer resembles the reference"
        elif charts["right"].out or charts["down"].out:
            found["camera-moved"] = (
                f"the picture has moved {charts['right'].deviation:+.1f} % to the right and "
                f"{charts['down'].deviation:+.1f} % down"
            )
        if charts["brightness"].out:
            ratio = math.exp(charts["brightness"].deviation)
            name = "lamp-ageing" if ratio < 1 else "picture-brighter"
            found[name] = f"the picture has {ratio:.0%} of the reference brightness"
        if charts["sharpness"].out:
            ratio = math.exp(charts["sharpness"].deviation)
            name = "focus-lost" if ratio < 1 else "picture-sharper"
            found[name] = f"the picture has {ratio:.0%} of the reference sharpness"
        if charts["drift"].out and charts["drift"].deviation > 0:
            now = charts["drift"].average
            before = now - charts["drift"].deviation
            found["good-parts-creep"] = (
                f"the drift score of good parts is about {now**3:.2f}; the reference is "
                f"{before**3:.2f}"
            )
        return found

    def shown(self) -> dict[str, float]:
        """The figures for the heartbeat."""
        charts = self._charts
        if not charts:
            return {}
        return {
            "brightness": math.exp(charts["brightness"].deviation),
            "sharpness": math.exp(charts["sharpness"].deviation),
            "right_percent": charts["right"].deviation,
            "down_percent": charts["down"].deviation,
            "good_drift": charts["drift"].average ** 3,
        }

    def _use(self, reference: Reference) -> None:
        self._small = reference.small
        self._charts = {
            name: Chart(baseline, _LEAST[name]) for name, baseline in reference.baselines.items()
        }


class ProcessMonitor:
    """Monitors all cameras. The loop calls ``look``. troubles: by name, for the station's state."""

    def __init__(
        self,
        folder: Path,
        cameras: frozenset[str],
        tell: Tell,
        troubles: dict[str, str],
        *,
        every_s: float = _EVERY_S,
        learnt: int = LEARNT,
    ) -> None:
        """folder: where references are stored. cameras: the monitored ones. every_s: the least time
        between two measurements of a camera."""
        self._folder, self._cameras, self._tell = folder, cameras, tell
        self._troubles, self._every_s, self._learnt = troubles, every_s, learnt
        self._measured_s: dict[tuple[str, str], float] = {}
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._told: dict[tuple[str, str], frozenset[str]] = {}
        self._last_die: dict[str, str] = {}
        self._forgotten: set[str] = set()

    def look(self, frame: Frame, verdict: Verdict) -> None:
        """Measure a judged frame, if a measurement is due."""
        self._forget()
        key = frame.camera, frame.die
        now_s = time.monotonic()
        if (
            verdict.reason is not Reason.DECIDED
            or frame.camera not in self._cameras
            or now_s - self._measured_s.get(key, -math.inf) < self._every_s
        ):
            return
        self._measured_s[key] = now_s
        watched = self._watched.get(key)
        if watched is None or watched.bundle_id != verdict.bundle_id:
            watched = _Watched(self._file(*key), verdict.bundle_id, self._learnt)
            self._watched[key] = watched
        good = None
        if verdict.label == GOOD and verdict.drift is not None:
            good = _root_of(verdict.drift.score)
        watched.add(measure(frame.pixels), good)
        self._last_die[frame.camera] = frame.die
        self._report(key, watched.findings())

    def shown(self, camera: str) -> dict[str, float]:
        """A camera's figures relative to its reference; empty while that is being learned."""
        watched = self._watched.get((camera, self._last_die.get(camera, "")))
        return {} if watched is None or camera in self._forgotten else watched.shown()

    def forget(self, camera: str | None = None) -> list[str]:
        """Relearn the reference of one camera, or of all, for example after a camera was mounted
        again or a lamp changed. Returns the cameras concerned."""
        concerned = [name for name in sorted(self._cameras) if camera in (None, name)]
        # The files now, for a restart; the rest by the loop, which may be writing one just now.
        for name in concerned:
            self._remove(name)
        self._forgotten.update(concerned)
        return concerned

    def _forget(self) -> None:
        for name in list(self._forgotten):
            self._remove(name)
            for key in [key for key in self._watched if key[0] == name]:
                del self._watched[key]
            self._forgotten.discard(name)

    def _remove(self, camera: str) -> None:
        for file in self._folder.glob(f"{camera}@*.npz"):
            file.unlink(missing_ok=True)

    def _report(self, key: tuple[str, str], findings: Mapping[str, str]) -> None:
        before = self._told.get(key, frozenset())
        if findings.keys() != before:
            for event in findings.keys() - before:
                self._tell(key[0], event, findings[event])
            for event in before - findings.keys():
                self._tell(key[0], f"{event}-over", "within its limits again, or relearned")
            self._told[key] = frozenset(findings)
        name = f"picture {key[0]} {key[1]}"
        if findings:
            names = ", ".join(event.replace("-", " ") for event in sorted(findings))
            self._troubles[name] = f"{key[0]}: {names}"
        else:
            self._troubles.pop(name, None)

    def _file(self, camera: str, die: str) -> Path:
        return self._folder / f"{camera}@{quote(die, safe='')}.npz"


def _root_of(score: float) -> float:
    """The cube root: a score is -ln p, and its cube root is nearly normal (Wilson and Hilferty
    1931)."""
    return float(max(score, 0.0) ** (1 / 3))
