"""A pin of a GPIO chip as a trigger: edges in, by the kernel's character device.

Needs the package ``gpiod`` (libgpiod 2, ``pip install '.[gpio]'`` in a clone). The owner decides
what an edge triggers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from edge_qc.camera.backoff import Backoff
from edge_qc.errors import CameraError
from edge_qc.settings.triggering import Pin
from edge_qc.system.gpiod import require_gpiod

log = logging.getLogger(__name__)

_TURN_S = 0.25
_BUFFERED = 64
"""Edges that the kernel keeps for us while a trigger is being recorded."""


def check_pin(pin: Pin) -> None:
    """Refuse a pin that can never work. Raises SettingsError."""
    require_gpiod(f"gpio:{pin}")


class PinWatch:
    """Watches one pin from a thread of its own, and requests it again when it is lost.

    on_edge: called with the edge's age in seconds. on_lost: with how many edges nobody heard of,
    because more came than the kernel keeps. on_trouble: with why the pin cannot be watched, None
    when it can.
    """

    def __init__(
        self,
        pin: Pin,
        on_edge: Callable[[float], object],
        on_lost: Callable[[int], None],
        on_trouble: Callable[[str | None], None],
        backoff: Backoff | None = None,
        buffered: int = _BUFFERED,
    ) -> None:
        """buffered: how many edges the kernel keeps while one is being handled."""
        self.pin = pin
        self._on_edge, self._on_lost, self._on_trouble = on_edge, on_lost, on_trouble
        self._backoff = backoff or Backoff()
        self._buffered = buffered
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"gpio-{pin}", daemon=True)

    def start(self) -> None:
        """Raises SettingsError if gpiod is missing; waits for a missing chip."""
        check_pin(self.pin)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the watch; an edge that is being handled is handled first."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._watch()
            except Exception as error:
                # Whatever it is: a thread that ends would leave a pin that nobody watches.
                known = isinstance(error, CameraError)
                said = str(error) if known else f"gpio:{self.pin}: cannot be watched ({error!r})"
                log.warning("%s", said, exc_info=not known)
                self._on_trouble(said)
                delay_s = self._backoff.delay_s(attempt)
                attempt = 0 if time.monotonic() - began_s > delay_s else attempt + 1
                self._stopping.wait(delay_s)

    def _watch(self) -> None:
        """Receive edges until stopped. Raises CameraError if the pin is lost."""
        try:
            with self._request() as request:
                self._on_trouble(None)
                heard = 0
                while not self._stopping.is_set():
                    if request.wait_edge_events(_TURN_S):
                        for event in request.read_edge_events():
                            if event.line_seqno > heard + 1:
                                self._on_lost(event.line_seqno - heard - 1)
                            heard = event.line_seqno
                            self._tell(time.monotonic() - event.timestamp_ns / 1e9)
        except (OSError, ValueError) as error:
            raise CameraError(
                f"gpio:{self.pin}: {error}. Check that the chip and the pin exist (gpioinfo lists "
                "them), that no other program holds the pin, and that the station's user may open "
                "the chip (group gpio)"
            ) from error

    def _tell(self, age_s: float) -> None:
        try:
            self._on_edge(max(0.0, age_s))
        except Exception:
            log.exception("an edge at %s could not be handled", self.pin)

    def _request(self) -> Any:
        import gpiod
        from gpiod.line import Bias, Direction, Edge

        pin = self.pin
        settings = gpiod.LineSettings(
            direction=Direction.INPUT,
            edge_detection={"rising": Edge.RISING, "falling": Edge.FALLING}[pin.edge],
            bias={
                "as-is": Bias.AS_IS,
                "pull-up": Bias.PULL_UP,
                "pull-down": Bias.PULL_DOWN,
                "disabled": Bias.DISABLED,
            }[pin.bias],
            debounce_period=timedelta(milliseconds=pin.debounce_ms),
        )
        return gpiod.request_lines(
            pin.chip,
            consumer="edge-qc",
            config={pin.line: settings},
            event_buffer_size=self._buffered,
        )
