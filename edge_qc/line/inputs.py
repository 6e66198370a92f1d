"""Where triggers come in: the station's topic, pins, and what controllers count.

``dispatch`` handles them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from edge_qc.camera.gpio import PinWatch
from edge_qc.line.dispatch import Dispatch, Post
from edge_qc.output import ControllerTrigger, Outputs
from edge_qc.publisher import Outbox, Publisher, Severity
from edge_qc.publisher.requests import TRIGGER_LEVEL, ReplyStatus
from edge_qc.settings.triggering import Pin

log = logging.getLogger(__name__)


class Inputs:
    """The topic, the pins and the controllers of a station's triggers, open until ``close``."""

    def __init__(
        self,
        dispatch: Dispatch,
        posts: Sequence[Post],
        outbox: Outbox,
        publisher: Publisher,
        troubles: dict[str, str],
        outputs: Outputs | None = None,
    ) -> None:
        """Listens at once. troubles: by name, why a pin cannot be watched, for as long as it
        cannot. Raises SettingsError if it never will be."""
        self._dispatch, self._outbox, self._publisher = dispatch, outbox, publisher
        self._troubles = troubles
        if any(post.settings.triggering.kind == "mqtt" for post in posts):
            publisher.listen(TRIGGER_LEVEL, self._hear)
        by_output: dict[str, list[Post]] = {}
        for post in posts:
            if post.settings.triggering.output is not None:
                by_output.setdefault(post.settings.triggering.output, []).append(post)
        for name, meant in by_output.items():
            assert outputs is not None
            outputs.on_trigger(name, self._counted(name, meant))
        by_pin: dict[Pin, list[Post]] = {}
        for post in posts:
            if post.settings.triggering.pin is not None:
                by_pin.setdefault(post.settings.triggering.pin, []).append(post)
        self._watches = [self._watch(pin, meant) for pin, meant in by_pin.items()]
        for watch in self._watches:
            watch.start()

    def close(self) -> None:
        """Accept no more triggers."""
        self._dispatch.close()
        for watch in self._watches:
            watch.stop()

    def _hear(self, payload: bytes, came_s: float) -> None:
        reply = self._dispatch.message(payload, came_s)
        self._publisher.reply(reply.model_dump(mode="json", by_alias=True))

    def _counted(self, name: str, posts: Sequence[Post]) -> Callable[[ControllerTrigger], None]:
        def counted(trigger: ControllerTrigger) -> None:
            reply = self._dispatch.counted(posts, trigger)
            if reply.status is ReplyStatus.REFUSED:
                log.warning(
                    "refused trigger %d of output %s: %s", trigger.count, name, reply.detail
                )

        return counted

    def _watch(self, pin: Pin, posts: Sequence[Post]) -> PinWatch:
        def lost(count: int) -> None:
            self._outbox.event(
                "trigger-lost",
                f"{count} edges at {pin} came faster than the station could read them; their parts "
                "have no verdict",
                severity=Severity.ALARM,
            )

        def trouble(why: str | None) -> None:
            if why is None:
                self._troubles.pop(str(pin), None)
            else:
                self._troubles[str(pin)] = why

        def edge(age_s: float) -> None:
            reply = self._dispatch.edge(posts, age_s)
            if reply.status is ReplyStatus.REFUSED:
                log.warning("refused an edge at %s: %s", pin, reply.detail)

        return PinWatch(pin, edge, lost, trouble)
