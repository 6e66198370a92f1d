"""The first entries of an epoch: what happened to the ledger, and a verdict for every trigger that
the previous epoch left without one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from edge_qc.parts import NOT_JUDGED, Disposition, Reason
from edge_qc.publisher.ledger.statements import TriggerRecord
from edge_qc.publisher.ledger.writer import Entry
from edge_qc.publisher.messages import (
    DETAIL_LIMIT,
    EventContent,
    Kind,
    OverruleContent,
    PartContent,
    Severity,
    VerdictContent,
)
from edge_qc.publisher.wire import utc_now


def first_entries(
    gap: str | None, unfinished: Sequence[tuple[str, TriggerRecord]], damaged: Sequence[str]
) -> list[Entry]:
    """gap: what the ledger lost, in words. unfinished: triggers without a verdict, by verdict id.
    damaged: the verdict ids of triggers that cannot be read."""
    gaps = [gap] if gap is not None else []
    gaps += [f"the trigger of verdict {verdict_id} was damaged on disk" for verdict_id in damaged]
    entries = [
        Entry(
            as_json(an_event("ledger-gap", said, Severity.ALARM, None)),
            Kind.EVENT,
            None,
            time.monotonic(),
        )
        for said in gaps
    ]
    entries += [
        Entry(as_json(_restarted(record)), Kind.VERDICT, verdict_id)
        for verdict_id, record in unfinished
    ]
    return entries


def as_json(content: VerdictContent | PartContent | EventContent | OverruleContent) -> str:
    """The content's JSON text as the outbox stores it."""
    try:
        return content.model_dump_json(by_alias=True)
    except ValueError:
        # Python represents odd bytes of a file name by characters that no encoding accepts. Replace
        # them by question marks, so that they cost neither the verdict nor every later start.
        text = json.dumps(content.model_dump(mode="json", by_alias=True), ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def an_event(event: str, detail: str, severity: Severity, camera: str | None) -> EventContent:
    """An event with the current time; a detail that is too long is cut."""
    return EventContent(
        event=event, severity=severity, time=utc_now(), camera=camera, detail=detail[:DETAIL_LIMIT]
    )


def _restarted(record: TriggerRecord) -> VerdictContent:
    return VerdictContent(
        camera=record.camera,
        die=record.die,
        part_id=record.part_id,
        trigger_id=record.trigger_id,
        time=record.time,
        label=NOT_JUDGED,
        disposition=Disposition.REVIEW,
        reason=Reason.RESTART,
        image=record.image,
        lot=record.lot,
        serial=record.serial,
        detail="the station stopped between this trigger and its verdict",
    )
