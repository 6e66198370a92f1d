"""True labels that people add later, in the table ``label``. Labels are never changed; the last one
of a verdict counts, by the time at which it was given.

``RecordedLabels`` is the label store of ``edge-qc review``, where a database is named; the command
``edge-qc label`` uses ``add_labels``, which accepts only classes of the verdict's bundle.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Subquery, func, select

from edge_qc.errors import UsageError
from edge_qc.evidence import UNUSABLE, Label, Labels
from edge_qc.evidence.labels import WITHDRAWN, behind, new_label, withdrawal
from edge_qc.parts import DRIFT, GOOD
from edge_qc.plant.recorder.database import wrapped
from edge_qc.plant.recorder.tables import label, verdict


def latest_labels() -> Subquery:
    """Of each labelled verdict the label that counts, as a table with the columns of ``label``."""
    place = func.row_number().over(
        partition_by=label.c.verdict_id, order_by=(label.c.time.desc(), label.c.label_no.desc())
    )
    placed = select(label, place.label("place")).subquery()
    return (
        select(*(placed.c[column.name] for column in label.columns))
        .where(placed.c.place == 1, placed.c.truth != WITHDRAWN)
        .subquery("truth")
    )


class RecordedLabels:
    """An ``evidence.LabelStore`` in the records. A verdict may be labelled before it is recorded.

    Raises RecordError where the database fails.
    """

    def __init__(self, engine: Engine, beside: Labels | None = None) -> None:
        """beside: a file of labels, which is taken in, and gets each new label too: from it a
        station knows which of its images to keep longer."""
        self._engine, self._beside = engine, beside
        if beside is not None:
            take_in(engine, beside.history())

    def add(self, verdict_id: str, label: str, said: str, who: str, note: str = "") -> Label:
        """See ``LabelStore``."""
        return self._add(new_label(verdict_id, label, said, who, note))

    def withdraw(self, verdict_id: str, who: str) -> None:
        """See ``LabelStore``."""
        self._add(withdrawal(verdict_id, who))

    def latest(self) -> Mapping[str, Label]:
        """See ``LabelStore``."""
        with wrapped(self._engine), self._engine.connect() as db:
            rows = db.execute(select(latest_labels()))
            return {row.verdict_id: _label(row) for row in rows}

    def _add(self, given: Label) -> Label:
        with wrapped(self._engine), self._engine.begin() as db:
            given = behind(given, _last_time(db, given.verdict_id))
            add_new(db, given, "review")
        if self._beside is not None:
            self._beside.append(given)
        return given


def take_in(engine: Engine, given: Iterable[Label], via: str = "review") -> int:
    """Record labels that are not recorded yet, and return how many. via: what they were given in.
    May be called with the same labels again. Raises RecordError."""
    with wrapped(engine), engine.begin() as db:
        return sum(add_new(db, one, via) for one in given)


def add_new(db: Connection, one: Label, via: str) -> bool:
    """Record a label in the open transaction, unless it is recorded: False."""
    time = datetime.fromisoformat(one.time)
    known = select(label.c.label_no).where(
        label.c.verdict_id == one.verdict_id,
        label.c.truth == one.label,
        label.c.labelled_by == one.who,
        label.c.time == time,
    )
    if db.execute(known.limit(1)).first() is not None:
        return False
    _insert(db, one, via, time)
    return True


def _last_time(db: Connection, verdict_id: str) -> datetime | None:
    query = select(func.max(label.c.time)).where(label.c.verdict_id == verdict_id)
    found: datetime | None = db.execute(query).scalar_one()
    return found


def _insert(db: Connection, one: Label, via: str, time: datetime) -> None:
    db.execute(
        label.insert().values(
            verdict_id=one.verdict_id,
            truth=one.label,
            labelled_by=one.who,
            time=time,
            note=one.note,
            said=one.said or None,
            via=via,
        )
    )


def _label(row: Any) -> Label:
    time = row.time.isoformat(timespec="milliseconds")
    return Label(row.verdict_id, row.truth, row.said or "", row.labelled_by, time, row.note)


def add_labels(
    engine: Engine,
    verdict_ids: Sequence[str],
    truth: str,
    *,
    by: str,
    note: str = "",
    via: str = "label",
) -> str:
    """Label verdicts and return the stored label. via: what it was given in.

    Raises UsageError for an unknown verdict, and for a class that its bundle does not know: a
    typing error would count as an escape. DataError for a name that is empty, too long or not
    printable.
    """
    with engine.begin() as db:
        taken = truth
        for verdict_id in verdict_ids:
            found = db.execute(
                select(verdict.c.payload, verdict.c.label).where(verdict.c.verdict_id == verdict_id)
            ).one_or_none()
            if found is None:
                raise UsageError(f"verdict {verdict_id!r} is not recorded")
            taken = _known(truth, found.payload)
            given = behind(
                new_label(verdict_id, taken, found.label, by, note), _last_time(db, verdict_id)
            )
            _insert(db, given, via, datetime.fromisoformat(given.time))
    return taken


def _known(truth: str, payload: str) -> str:
    fields = json.loads(payload)
    known: set[str] = {GOOD, DRIFT, UNUSABLE, *fields["probabilities"], *fields["expected_cost"]}
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
