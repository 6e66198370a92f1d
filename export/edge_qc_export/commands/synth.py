"""``edge-qc synth``: a synthetic data set in the challenge's layout."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_qc.cli.options import Number, Share
from edge_qc_export.commands.options import SEED, THREADS

_IMAGES = click.IntRange(0, 1_000_000)
"""A plan of them all is kept in memory."""


@click.command("synth")
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option(
    "--train",
    type=_IMAGES,
    default=600,
    show_default=True,
    help="Training images (challenge: 8278).",
)
@click.option(
    "--test",
    type=_IMAGES,
    default=200,
    show_default=True,
    help="Test images, 12 % of them drift.",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="The same seed gives the same bytes."
)
@click.option(
    "--photographs",
    "size",
    type=click.Choice(["both", "540x630", "720x840"]),
    default="both",
    show_default=True,
    help="Their width and height.",
)
@click.option(
    "--balance",
    type=click.Choice(["challenge", "even"]),
    default="challenge",
    show_default=True,
    help="The challenge's proportions of the classes, or the same number of each.",
)
@click.option(
    "--shift",
    type=Share(),
    help="Parts lie aside by up to so much of the photograph's width and height, such as 6%.",
)
@click.option(
    "--turn",
    type=Number(0, 45),
    default=0.0,
    help="Parts are turned by up to so many degrees to either side.",
)
@click.option("--processes", type=THREADS, help="Default: one per core.")
@click.option("--force", is_flag=True, help="Replace an earlier data set in OUT.")
@click.option(
    "--contact-sheet",
    "sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a PNG of every class and drift on every die; without OUT, write only that.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def command(
    out: Path | None,
    train: int,
    test: int,
    seed: int,
    size: str,
    balance: str,
    shift: float | None,
    turn: float,
    processes: int | None,
    force: bool,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Make a synthetic data set in the folder OUT: photographs of wire bonds on four power dies,
    six classes, and in the test part also drift. The layout is that of the challenge (Y_train.csv,
    win_and_lib.csv), with the test part's truth in Y_test_truth.csv."""
    from collections import Counter

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from edge_qc.errors import DataError, UsageError
    from edge_qc_export import synthetic

    if out is None and sheet is None:
        raise UsageError("nothing to write: name a folder OUT, or --contact-sheet FILE")
    answer: dict[str, object] = {}
    if out is not None:
        sizes = {"540x630": (synthetic.SMALL,), "720x840": (synthetic.LARGE,)}.get(
            size, (synthetic.SMALL, synthetic.LARGE)
        )
        training, testing = synthetic.plan(
            train,
            test,
            seed,
            sizes,
            "even" if balance == "even" else "challenge",
            synthetic.Aside(shift or 0.0, turn),
        )
        synthetic.prepare(out, force)
        with Progress(
            "synth",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as progress:
            task = progress.add_task("synth", total=len(training) + len(testing))
            for done in synthetic.write(out, training, testing, processes):
                progress.update(task, completed=done)
        answer |= {
            "folder": str(out),
            "seed": seed,
            "train": dict(Counter(item.label for item in training).most_common()),
            "test": dict(Counter(item.label for item in testing).most_common()),
        }
    if sheet is not None:
        import cv2

        encoded = cv2.imencode(
            ".png", synthetic.contact_sheet(seed), [cv2.IMWRITE_PNG_COMPRESSION, 9]
        )[1]
        try:
            sheet.parent.mkdir(parents=True, exist_ok=True)
            sheet.write_bytes(encoded.tobytes())
        except OSError as error:
            raise DataError(f"{sheet}: cannot be written ({error.strerror or error})") from error
        answer["contact_sheet"] = str(sheet)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    for part in ("train", "test"):
        counts = answer.get(part)
        if isinstance(counts, dict):
            listed = ", ".join(f"{label} {count}" for label, count in counts.items())
            click.echo(f"{part}: {sum(counts.values())} images ({listed})")
    for key in ("folder", "contact_sheet"):
        if key in answer:
            click.echo(f"{key.replace('_', ' ')}: {answer[key]}")
