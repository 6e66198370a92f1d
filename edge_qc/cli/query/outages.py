"""Questions about stations: which state when, and when they did not judge."""

from __future__ import annotations

import click

from edge_qc.cli.query.asking import Question, question

_KEYS = ("station", "from", "to", "seconds", "why")


@click.command("downtime")
@question("station")
def downtime(asked: Question) -> None:
    """List when a station did not judge: who, when, how long, why."""
    from edge_qc.plant.recorder import states

    answer = states.downtime(asked.engine, asked.where)
    asked.answer(answer, _KEYS, lambda: "no downtime is recorded")


@click.command("states")
@question("station")
def states(asked: Question) -> None:
    """List each station's states, one after the other."""
    from edge_qc.plant.recorder import states as recorded

    answer = recorded.timeline(asked.engine, asked.where)
    asked.answer(answer, ("station", "state", *_KEYS[1:]), lambda: "no state is recorded")
