"""``edge-qc query``: a quality engineer's questions to the records. ``asking`` holds what all
questions share."""

from __future__ import annotations

import click

from edge_qc.cli.query import counting, listing, outages


@click.group("query")
def command() -> None:
    """Query the records: yield, parts, escapes, cost and PWA, downtime, gaps, labels."""


for _question in (
    counting.yields,
    listing.verdicts,
    listing.part,
    listing.escapes,
    counting.quality,
    listing.labels,
    outages.downtime,
    outages.states,
    listing.gaps,
):
    command.add_command(_question)
