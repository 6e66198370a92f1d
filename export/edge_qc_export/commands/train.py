"""``edge-qc train``: from labelled images to a run folder."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import Share, ViewSize
from edge_qc_export.commands.options import SEED, THREADS

_FILE = click.Path(path_type=Path)


@click.command("train", short_help="Train a classifier on labelled images.")
@click.argument("data", type=_FILE)
@click.option(
    "--network",
    default="efficientnet-lite0",
    show_default=True,
    help="efficientnet-lite0, resnet18, resnet50, resnet101, cnn-basic, cnn-deep",
)
@click.option("--epochs", default=10, show_default=True)
@click.option("--out", type=_FILE, help="Run folder.  [default: runs/TIME-NETWORK]")
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
@click.option(
    "--interpolation", type=click.Choice(["area", "nearest"]), default="area", show_default=True
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--loss",
    default="cross-entropy",
    show_default=True,
    help="cross-entropy, class-weighted, focal, cost",
)
@click.option(
    "--loss-costs", type=_FILE, help="Costs for --loss cost alone.  [default: those of --costs]"
)
@click.option(
    "--unfreeze",
    type=int,
    help="How much of the trunk learns. 0: the head alone, in seconds. N: EfficientNet-Lite0, the "
    "last N of 16 blocks and all behind them (17: everything); ResNets, the last N layers, counted "
    "as Keras does.  [default: 5 in EfficientNet-Lite0, 0 if there is nothing but GOOD; all in "
    "ResNets]",
)
@click.option(
    "--dropout", type=float, help="Before the last layer.  [default: 0.5 in CNNs, else 0]"
)
@click.option(
    "--weights", help="Of the trunk: imagenet, none, or a file.  [default: imagenet; none for CNNs]"
)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--batch", default=32, show_default=True, help="Images a step, over all processes.")
@click.option(
    "--patience",
    type=int,
    default=5,
    show_default=True,
    help="Stop after so many epochs without a lower held-out cost; 0: never.",
)
@click.option("--augment", is_flag=True, help="Shift, light, focus and noise, at random.")
@click.option("--no-cache", is_flag=True, help="Run the frozen trunk every epoch.")
@click.option(
    "--cache",
    "cache_folder",
    type=_FILE,
    help="Keep views and activations here.  [default: in the run folder, until done]",
)
@click.option(
    "--align",
    is_flag=True,
    help="Find each part before its view is cut: what it is found by is learned from GOOD images, "
    "and a part beyond the bounds is not judged.",
)
@click.option(
    "--align-shift",
    type=Share(),
    default="8%",
    show_default=True,
    help="Bound: how far a part may lie aside, of the photograph's width and height.",
)
@click.option(
    "--align-turn", default=5.0, show_default=True, help="Bound: degrees that it may be turned."
)
@click.option("--split-file", "split", type=_FILE, help="Reuse a split.csv.")
@click.option(
    "--session",
    type=click.Choice(["column", "folder", "day", "none"]),
    default="column",
    show_default=True,
    help="The day, lot or shift of a picture, kept whole on one side: the table's column session, "
    "the folder CLASS/DIE/SESSION, or the day of the file's last change.",
)
@click.option("--resume", is_flag=True, help="Go on after the last finished epoch in --out.")
@click.option("--threads", type=THREADS, help="CPU threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
def command(
    data: Path,
    out: Path | None,
    patience: int,
    no_cache: bool,
    align: bool,
    align_shift: float,
    align_turn: float,
    as_json: bool,
    network: str,
    **options: object,
) -> None:
    """Train a classifier on the images in DATA and leave a run folder.

    DATA is a folder in the challenge's layout, with a folder per class, or with a _classes.csv in
    each of its parts. On several processes: torchrun --nproc-per-node 2 -m edge_qc.cli train DATA …
    """
    import os
    from datetime import datetime

    from edge_qc.errors import UsageError
    from edge_qc_export.learn.alignment import Bounds
    from edge_qc_export.learn.training import TrainingConfig, train
    from edge_qc_export.progress import ConsoleReporter, Reporter

    if out is None and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("several processes need one run folder: name it with --out")
    config = TrainingConfig(
        data=data,
        out=out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{network}",
        network=network,
        patience=patience or None,
        cache=not no_cache,
        align=Bounds(align_shift, align_turn) if align else None,
        **options,  # type: ignore[arg-type]
    )
    if os.environ.get("RANK", "0") != "0":
        train(config, Reporter())
        return
    with ConsoleReporter() as reporter:
        run = train(config, reporter)
    if as_json:
        click.echo(run.model_dump_json(indent=1))
    else:
        click.echo(run.folder)
