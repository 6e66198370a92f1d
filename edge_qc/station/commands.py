"""Commands from the plant: a short list, none of which can make a part GOOD.

``publisher.requests`` defines them. Commands that change a station (install a bundle, record a
golden part) only work on its own machine, see ``system.control``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from edge_qc.errors import EdgeQCError
from edge_qc.line import Line
from edge_qc.publisher import BundleRef, Outbox, Publisher
from edge_qc.publisher.requests import (
    COMMAND_LEVEL,
    CommandReply,
    CommandRequest,
    read_command,
    request_id_of,
)
from edge_qc.settings import StationTable
from edge_qc.station.golden_part import GoldenParts
from edge_qc.system.control import Conversation

log = logging.getLogger(__name__)


class Commands:
    """Answers ``…/command`` on ``…/reply``."""

    def __init__(
        self,
        station: StationTable,
        outbox: Outbox,
        publisher: Publisher,
        line: Line,
        golden: GoldenParts,
    ) -> None:
        self._station, self._epoch, self._publisher = station, outbox.epoch, publisher
        self._line, self._golden = line, golden
        publisher.listen(COMMAND_LEVEL, self._hear)

    def _hear(self, payload: bytes, _came_s: float) -> None:
        try:
            request = read_command(payload)
        except EdgeQCError as error:
            self._reply(request_id_of(payload), "refused", detail=str(error))
            return
        if request.command == "status":
            self._reply(request.request_id, "done", detail=self._line.why)
            return
        # On its own thread: a part may take minutes to come, and the next command may be
        # ``status``.
        threading.Thread(
            target=self._check, args=(request,), name="golden-part", daemon=True
        ).start()

    def _check(self, request: CommandRequest) -> None:
        asked = {"name": request.name, "part": request.part_id, "within_s": request.within_s}
        try:
            result = self._golden.check(Conversation(asked, lambda fields: True))
        except EdgeQCError as error:
            self._reply(request.request_id, "refused", detail=str(error))
            return
        except Exception as error:
            log.exception("the golden part check failed")
            self._reply(request.request_id, "refused", detail=repr(error))
            return
        self._reply(request.request_id, "done", result)

    def _reply(
        self,
        request_id: str | None,
        status: Literal["done", "refused"],
        result: Mapping[str, Any] | None = None,
        detail: str = "",
    ) -> None:
        bundle = self._line.inspection.bundle
        reply = CommandReply.model_validate(
            {
                "epoch": self._epoch,
                "site": self._station.site,
                "station": self._station.name,
                "time": datetime.now(timezone.utc),
                "request_id": request_id,
                "status": status,
                "state": self._line.state,
                "bundle": BundleRef(id=bundle.id, version=bundle.manifest.version),
                "detail": detail,
                "passed": result["passed"] if result else None,
                "views": result["views"] if result else (),
            }
        )
        self._publisher.reply(reply.model_dump(mode="json", by_alias=True))
