"""True labels that people add later. Labels are never changed; of several the last counts."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timezone

from sqlalchemy import Engine, select

from edge_qc.errors import UsageError
from edge_qc.parts import DRIFT, GOOD
from edge_qc.plant.recorder.tables import label, station, verdict


def verdicts_of_part(
    engine: Engine, part_id: str, *, die: str | None = None, name: str | None = None
) -> list[str]:
    """The ids of a part's verdicts. name: the station's. Raises UsageError if there are none."""
    query = select(verdict.c.verdict_id).where(verdict.c.part_id == part_id)
    if die is not None:
        query = query.where(verdict.c.die == die)
    if name is not None:
        stations = select(station.c.station_id).where(station.c.name == name)
        query = query.where(verdict.c.station_id.in_(stations))
    with engine.connect() as db:
        found = list(db.execute(query.order_by(verdict.c.time)).scalars())
    if not found:
        raise UsageError(f"no verdict is recorded for part {part_id!r} with that die and station")
    return found


def add_labels(
    engine: Engine, verdict_ids: Sequence[str], truth: str, *, by: str, note: str = ""
) -> str:
    """Label verdicts and return the stored label. Raises UsageError for an unknown verdict, and for
    a class that its bundle does not know: a typing error would count as an escape.
    """
    now = datetime.now(timezone.utc)
    with engine.begin() as db:
        taken = truth
        for verdict_id in verdict_ids:
            payload = db.execute(
                select(verdict.c.payload).where(verdict.c.verdict_id == verdict_id)
            ).scalar_one_or_none()
            if payload is None:
                raise UsageError(f"verdict {verdict_id!r} is not recorded")
            taken = _known(truth, payload)
            db.execute(
                label.insert().values(
                    verdict_id=verdict_id, truth=taken, labelled_by=by, time=now, note=note
                )
            )
    return taken


def _known(truth: str, payload: str) -> str:
    fields = json.loads(payload)
    known: set[str] = {GOOD, DRIFT, *fields["probabilities"], *fields["expected_cost"]}
    by_form = {_form(str(name)): str(name) for name in known}
    if _form(truth) in by_form:
        return by_form[_form(truth)]
    if not fields["probabilities"] and not fields["expected_cost"]:
        # A view that was not judged lists no classes.
        return unicodedata.normalize("NFC", truth)
    raise UsageError(
        f"label {truth!r} is not a class of this verdict's bundle; use one of "
        f"{', '.join(sorted(known))}"
    )


def _form(name: str) -> str:
    """What two spellings of one name share: case, and whether an accent is a character of its
    own."""
    return unicodedata.normalize("NFC", name).lower()
