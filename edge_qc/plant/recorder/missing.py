"""Which numbers of a stream are missing, also once those that came were deleted.

``gap`` holds the numbers that a station gave up and that have not come since; ``stream.pruned``
those that came, were deleted (``--keep-days``) and are above the acknowledged one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, insert, select, update

from edge_qc.plant.recorder.progress import Range, Ranges
from edge_qc.plant.recorder.tables import event, gap, part, set_aside, stream, verdict

OF_KIND = {"verdict": verdict, "part": part, "event": event}


def have_come(db: Connection, numbers: Mapping[int, Iterable[int]]) -> None:
    """Take numbers that were given up, and have come by a replay, out of the gaps. numbers: by
    stream."""
    for stream_id, come in numbers.items():
        for seq in come:
            found = db.execute(
                delete(gap)
                .where(gap.c.stream_id == stream_id, gap.c.first <= seq, gap.c.last >= seq)
                .returning(gap.c.first, gap.c.last, gap.c.received)
            ).all()
            for row in found:
                rest = Ranges([(row.first, row.last)])
                rest.remove(seq)
                for first, last in rest:
                    fields = {"stream_id": stream_id, "received": row.received}
                    db.execute(insert(gap).values(first=first, last=last, **fields))


def correct_gaps(db: Connection) -> None:
    """Take all numbers that came out of the gaps: a recorder before this one let them stand."""
    known = select(gap.c.stream_id, gap.c.first, gap.c.last, stream.c.kind).join(stream)
    for row in db.execute(known).all():
        for table in (OF_KIND[row.kind], set_aside):
            come = select(table.c.seq).where(
                table.c.stream_id == row.stream_id, table.c.seq.between(row.first, row.last)
            )
            have_come(db, {row.stream_id: list(db.execute(come).scalars())})


def note_pruned(db: Connection, deleted: Iterable[tuple[int, int]]) -> None:
    """Note which numbers came though they are deleted now. deleted: stream and number. Below the
    acknowledged one nothing is missing but gaps."""
    by_stream: defaultdict[int, list[int]] = defaultdict(list)
    for stream_id, seq in deleted:
        by_stream[stream_id].append(seq)
    for stream_id, numbers in by_stream.items():
        query = select(stream.c.upto, stream.c.pruned).where(stream.c.stream_id == stream_id)
        upto, pruned = db.execute(query).one()
        known = Ranges((first, last) for first, last in pruned_of(pruned) if last > upto)
        for seq in sorted(numbers):
            if seq > upto:
                known.add(seq, seq)
        text = json.dumps(list(known)) if known else None
        if text != pruned:
            changed = update(stream).where(stream.c.stream_id == stream_id)
            db.execute(changed.values(pruned=text))


def pruned_of(text: str | None) -> list[Range]:
    """The ranges that ``stream.pruned`` holds."""
    return [(first, last) for first, last in json.loads(text or "[]")]


def open_gaps(db: Connection, stream_id: int, kind: str, upto: int) -> list[Range]:
    """Numbers above the acknowledged one that are missing and that the station has not given up."""
    pruned = select(stream.c.pruned).where(stream.c.stream_id == stream_id)
    known = Ranges(pruned_of(db.execute(pruned).scalar_one()))
    given_up = select(gap.c.first, gap.c.last).where(gap.c.stream_id == stream_id)
    for first, last in db.execute(given_up).all():
        known.add(first, last)
    for table in (OF_KIND[kind], set_aside):
        above = select(table.c.seq).where(table.c.stream_id == stream_id, table.c.seq > upto)
        for seq in db.execute(above.order_by(table.c.seq)).scalars():
            known.add(seq, seq)
    highest = max((last for _, last in known), default=0)
    return known.missing(upto + 1, highest) if highest > upto else []
