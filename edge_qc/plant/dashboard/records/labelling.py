"""Labels given on the dashboard: who may say what a part truly is, and who may overrule it."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Engine, select

from edge_qc.errors import UsageError
from edge_qc.plant.dashboard.login import Account, Role
from edge_qc.plant.recorder.database import wrapped
from edge_qc.plant.recorder.labels import add_labels, latest_labels

log = logging.getLogger(__name__)


def label(
    engine: Engine, account: Account, verdict_id: str, truth: str, note: str = ""
) -> dict[str, Any]:
    """Store a label in the plant's records, and return it. Another person's label may be overruled
    by one who may decide.

    Raises UsageError for a verdict or a class that is not known and for a label that this account
    may not change, DataError for one that is none, RecordError.
    """
    truths = latest_labels()
    query = select(truths.c.labelled_by, truths.c.truth).where(truths.c.verdict_id == verdict_id)
    with wrapped(engine):
        with engine.connect() as db:
            before = db.execute(query).one_or_none()
        overruled = before is not None and before.labelled_by != account.name
        if overruled and account.role < Role.DECIDE:
            assert before is not None
            raise UsageError(
                f"{before.labelled_by} labelled this {before.truth}; {account.name} may not "
                "overrule it: that needs the role decide"
            )
        taken = add_labels(engine, [verdict_id], truth, by=account.name, note=note, via="dashboard")
    log.info(
        "%s (%s) labelled %s as %s%s",
        account.name,
        account.role.name.lower(),
        verdict_id,
        taken,
        f", overruling {before.labelled_by}'s {before.truth}" if overruled and before else "",
    )
    return {"label": taken, "who": account.name}
