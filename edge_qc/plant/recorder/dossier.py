"""All that is known of one part: its views, verdicts, labels and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select

from edge_qc.evidence import Store
from edge_qc.plant.recorder.labels import latest_labels
from edge_qc.plant.recorder.names import require_known
from edge_qc.plant.recorder.parts import Part, View, parts_of
from edge_qc.plant.recorder.tables import bundle, verdict
from edge_qc.plant.recorder.where import Answer, Row, Where

COLUMNS = (
    "part", "time", "station", "part_label", "part_disposition", "camera", "die", "label",
    "disposition", "reason", "truth", "labelled_by", "note", "drift_p", "lot", "serial", "bundle",
    "verdict_id", "image", "picture",
)  # fmt: skip


def of_part(engine: Engine, part_id: str, where: Where, evidence: Sequence[Path] = ()) -> Answer:
    """One row for each view, with ``COLUMNS``; part: 1 for the first time that this id came, 2 for
    the next. evidence: folders of kept images, in which a view's picture is looked up; one that is
    missing has none. Raises UsageError for a part that is not recorded."""
    require_known(engine, replace(where, part=part_id))
    stores = [Store(folder) for folder in evidence]
    rows: list[Row] = []
    with engine.connect() as db:
        for number, one in enumerate(parts_of(db, part_id, where), 1):
            rows += [
                _row(db, number, one, view, stores)
                for view in (*one.views, *([] if one.views else [None]))
            ]
    return Answer(COLUMNS, rows)


def _row(db: Connection, number: int, one: Part, view: View | None, stores: Sequence[Store]) -> Row:
    of_part = (number, view.time if view else one.first, one.station, one.label, one.disposition)
    if view is None:
        return (*of_part, *[None] * (len(COLUMNS) - len(of_part)))
    truth = latest_labels()
    row: Any = db.execute(
        select(verdict, bundle.c.bundle_id, truth.c.truth, truth.c.labelled_by, truth.c.note)
        .outerjoin(bundle, bundle.c.bundle_no == verdict.c.bundle_no)
        .outerjoin(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .where(verdict.c.verdict_id == view.verdict_id)
    ).one()
    return (
        *of_part, row.camera, row.die, row.label, row.disposition, row.reason, row.truth,
        row.labelled_by, row.note, row.drift_p, row.lot, row.serial, row.bundle_id,
        row.verdict_id, json.loads(row.payload).get("image"), _picture(view.verdict_id, stores),
    )  # fmt: skip


def _picture(verdict_id: str, stores: Sequence[Store]) -> str | None:
    """The folder of a kept image; None if there is none, or its share is away."""
    for store in stores:
        with suppress(OSError):
            if (exhibit := store.find(verdict_id)) is not None:
                return str(exhibit.folder)
    return None
