"""``edge-qc label``: records the true class behind a verdict, or behind a part's views."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_qc.cli.options import database_option, who_option
from edge_qc.cli.times import Zone, start_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from edge_qc.plant.recorder.parts import Part, View

_MOST_TIMES = 10
"""How many times of a part that came again are listed."""


@click.command("label")
@database_option
@click.argument("words", nargs=-1, metavar="[VERDICT_ID] CLASS")
@click.option("--part", help="Label views of this part, instead of VERDICT_ID.")
@click.option("--die", help="With --part: only of this die; a defect is in one.")
@click.option("--station", help="With --part: only at this station: its name, or SITE/NAME.")
@click.option(
    "--at",
    metavar="TIME",
    help="With --part: when the part came, if its id came several times; or last.",
)
@click.option(
    "--zone", type=Zone(), default="UTC", show_default=True, help="Of --at and of times shown."
)
@click.option("--yes", is_flag=True, help="Label all views of the part without asking.")
@who_option
@click.option("--note", default="", help="How it was found.")
@click.option(
    "--from-review",
    "review",
    type=click.Path(path_type=Path, file_okay=False),
    help="Take in the labels that edge-qc review keeps in this folder of images.",
)
def command(
    database: str,
    words: tuple[str, ...],
    part: str | None,
    die: str | None,
    station: str | None,
    at: str | None,
    zone: tzinfo,
    yes: bool,
    who: str,
    note: str,
    review: Path | None,
) -> None:
    """Record the true class of a view: GOOD, a class of its bundle, DRIFT or UNUSABLE.

    Labels are only added; of several for one verdict the last counts. See edge-qc query escapes,
    quality and labels.
    """
    from edge_qc.plant.recorder import open_database, wrapped
    from edge_qc.plant.recorder.labels import add_labels, take_in

    if review is not None:
        from edge_qc.cli.review import require_evidence
        from edge_qc.evidence import Labels

        if words or part is not None:
            raise click.UsageError("--from-review takes all labels of a folder; give it alone")
        labels = Labels(require_evidence(review))
        engine = open_database(database, create=False)
        found = list(labels.history())
        new = take_in(engine, found)
        click.echo(f"{new} labels taken in, {len(found) - new} were known")
        return
    if len(words) != (2 if part is None else 1):
        raise click.UsageError("give VERDICT_ID and CLASS, or --part and CLASS")
    engine = open_database(database, create=False)
    with wrapped(engine):
        if part is None:
            truth = add_labels(engine, [words[0]], words[1], by=who, note=note)
            click.echo(f"1 view labelled {truth}")
            return
        one = _part(engine, part, station, at, zone)
        views = _views(one, die, words[0], zone, yes)
        ids = [view.verdict_id for view in views]
        truth = add_labels(engine, ids, words[0], by=who, note=note)
        count = f"{len(ids)} view{'s' * (len(ids) > 1)}"
        click.echo(f"{count} of {_told(one, zone)} labelled {truth}")


def _part(engine: Engine, part_id: str, station: str | None, at: str | None, zone: tzinfo) -> Part:
    """The one part that is meant. Raises UsageError if there are several, or none."""
    from edge_qc.errors import UsageError
    from edge_qc.plant.recorder.names import require_known
    from edge_qc.plant.recorder.parts import TOGETHER, parts_of
    from edge_qc.plant.recorder.where import Where

    where = Where(station=station)
    require_known(engine, Where(station=station, part=part_id))
    with engine.connect() as db:
        came = [one for one in parts_of(db, part_id, where) if one.views]
    found = came
    if at == "last":
        found = came[-1:]
    elif at is not None:
        moment = start_of(at, zone)
        assert moment is not None
        found = [one for one in came if one.first - TOGETHER <= moment <= one.last + TOGETHER]
    if len(found) == 1:
        return found[0]
    times = "\n".join(
        f"  --at {_time(one, zone)}  {_told(one, zone)}" for one in came[-_MOST_TIMES:]
    )
    if len(came) > _MOST_TIMES:
        times = f"  {len(came) - _MOST_TIMES} earlier times\n{times}"
    if not came:
        raise UsageError(f"part {part_id!r} has no view at that station")
    if at is None or len(found) > 1:
        raise UsageError(
            f"part {part_id} came {len(came)} times; say which with --at, or --at last:\n{times}"
        )
    raise UsageError(f"part {part_id} did not come at {at}; it came:\n{times}")


def _views(one: Part, die: str | None, truth: str, zone: tzinfo, yes: bool) -> Sequence[View]:
    """Which views to label: those of a die, or all of them. Asks before a defect is said to be in
    several dies."""
    from edge_qc.errors import UsageError
    from edge_qc.parts import GOOD

    if die is not None:
        views = [view for view in one.views if view.die == die]
        if not views:
            dies = ", ".join(sorted({view.die or "none" for view in one.views}))
            raise UsageError(f"die {die!r} was not seen of {_told(one, zone)}; there are {dies}")
        return views
    if len(one.views) == 1 or truth.upper() == GOOD or yes:
        return one.views
    seen = ", ".join(f"{view.die or 'no die'} {view.label}" for view in one.views)
    what = f"{truth} would be the label of all {len(one.views)} views of {_told(one, zone)}: {seen}"
    if not _is_asked():
        raise UsageError(f"{what}. Name the defect's die with --die, or mean them all with --yes")
    click.confirm(f"{what}.\nLabel them all?", abort=True)
    return one.views


def _told(one: Part, zone: tzinfo) -> str:
    said = f", {one.disposition}" if one.disposition else ""
    return f"part {one.part_id} of {_time(one, zone)} at {one.station}{said}"


def _time(one: Part, zone: tzinfo) -> str:
    return one.first.astimezone(zone).isoformat(timespec="seconds")


def _is_asked() -> bool:
    """Whether a person is there to answer."""
    return sys.stdin.isatty()
