"""``edge-qc study``: every configuration of the report and the constant prediction."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import ViewSize
from edge_qc_export.commands.options import SEED, THREADS

_FILE = click.Path(path_type=Path)


@click.command("study", short_help="Run every configuration of the report and the constant.")
@click.argument("data", type=_FILE)
@click.option("--out", type=_FILE, help="Folder.  [default: studies/ and DATA's name]")
@click.option("--dies", type=_FILE, help="Die table, JSON.  [default: the challenge's]")
@click.option(
    "--costs", type=_FILE, help="Costs by class name, JSON.  [default: the challenge's pattern]"
)
@click.option(
    "--size",
    type=ViewSize(),
    help="Pixels of the view, height first: 320x96, or 96 for a square.  [default: the shape of "
    "the die table's crops]",
)
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option(
    "--weights",
    multiple=True,
    default=("imagenet",),
    show_default=True,
    help="Of the trunks: imagenet, none, a file, or NETWORK=FILE; may be given several times.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Only this one; several times.")
@click.option("--batch", default=32, show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--threads", type=THREADS, help="CPU threads.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    data: Path,
    out: Path | None,
    weights: tuple[str, ...],
    only: tuple[str, ...],
    as_json: bool,
    **options: object,
) -> None:
    """Train and measure every configuration of the report's tables on DATA, beside the constant
    prediction, and write study.md, study.json, study.csv and study.png.

    Call it again to go on: what is finished is not run again. Exit status 1 where a run COLLAPSED
    to one class or failed, whatever its PWA.
    """
    import json

    from edge_qc.errors import EdgeQCError
    from edge_qc_export.progress import ConsoleReporter
    from edge_qc_export.study import StudySettings, run_study
    from edge_qc_export.study.picture import write_picture

    settings = StudySettings(
        data=data,
        out=out or Path("studies") / data.resolve().name,
        weights=weights,
        only=only,
        **options,  # type: ignore[arg-type]
    )
    with ConsoleReporter() as reporter:
        study = run_study(settings, reporter)
    write_picture(study)
    if as_json:
        click.echo(json.dumps(study.as_json(), indent=1, ensure_ascii=False))
    else:
        click.echo(study.markdown())
    unsound = [
        f"{word}: {', '.join(names)}"
        for word, names in (("COLLAPSED", study.collapsed), ("FAILED", study.failed))
        if names
    ]
    if unsound:
        raise EdgeQCError(f"{'; '.join(unsound)}. The table is whole in {study.out}")
