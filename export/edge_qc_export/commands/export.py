"""``edge-qc export``: a training run becomes one bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc.cli.options import Number, Share, json_option
from edge_qc_export.commands.options import SEED, THREADS, sign_option
from edge_qc_export.commands.station import ask_station, prove_where_asked


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Default: bundles/ and RUN's name.")
@click.option("--fp16", is_flag=True, help="The network in half, where hardly a decision changes.")
@click.option(
    "--max-escape",
    type=Share(),
    default="1%",
    show_default=True,
    help="At most this share of bad parts may pass the gate.",
)
@click.option(
    "--confidence",
    type=Share(),
    default="95%",
    show_default=True,
    help="How sure that must be, by exact binomial bound on all labelled bad parts.",
)
@click.option(
    "--mix",
    metavar="GOOD=0.95,…",
    help="The line's shares of the labels.  [default: GOOD 0.95, defects as labelled]",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Each labelled part is scored by what the other folds taught.",
)
@click.option(
    "--fp32-node",
    "fp32_nodes",
    multiple=True,
    metavar="NODE",
    help="With --fp16: keep this node in FP32, as 'edge-qc build' may ask; may be repeated.",
)
@click.option(
    "--preflight",
    is_flag=True,
    help="NVIDIA's compiler TensorRT for RTX must read and build the graph, or there is no bundle.",
)
@click.option("--batch", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option(
    "--score",
    type=click.Choice(["largest", "max", "mean"]),
    default="largest",
    show_default=True,
    help="An image's score: the mean of its largest 5 % of patch distances, the largest, or the "
    "mean of all.",
)
@click.option(
    "--channels",
    type=click.IntRange(1),
    help="Of PaDiM; default: 144, or all that the network has.",
)
@click.option(
    "--grid", metavar="finest|ROWS", help="PaDiM's patches; default: at most 256 of them."
)
@click.option(
    "--combine",
    type=click.Choice(["fisher", "max", "padim", "embedding"]),
    default="fisher",
    show_default=True,
    help="How the two witnesses of drift become one score.",
)
@click.option(
    "--alpha",
    type=Share(),
    default=0.01,
    show_default=True,
    help="Share of known parts called drift at its threshold; without defects, of GOOD stopped.",
)
@click.option(
    "--prior",
    type=Share(),
    default=0.01,
    show_default=True,
    help="Share of parts that are drift, as the decision assumes it.",
)
@click.option(
    "--assumed-auroc",
    type=Number(0.5, 1, max_open=True),
    default=0.9,
    show_default=True,
    help="Assumed AUROC of drift, if there is no defect to leave out and measure it.",
)
@click.option(
    "--policy",
    type=click.Choice(["expected-cost", "threshold"]),
    help="What a part is that the gate stops: the cheapest label, or drift over its threshold, "
    "else the likeliest.  [default: expected-cost; without defects threshold]",
)
@click.option(
    "--review-margin",
    type=Number(0),
    default=0.0,
    show_default=True,
    help="REVIEW where another disposition costs less than 1 + this times as much.",
)
@click.option(
    "--memory-limit",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    metavar="MIB",
    help="What the fit of PaDiM may take.",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Of the choice of channels.",
)
@click.option(
    "--threads",
    type=THREADS,
    help="CPU threads; default: one per core. On the same machine the same run and threads give "
    "the same bytes.",
)
@click.option("--name", help="Default: the run folder's.")
@click.option(
    "--version",
    "number",
    type=click.IntRange(1),
    help="Must grow from bundle to bundle; default: the run's time in seconds.",
)
@sign_option
@click.option(
    "--on",
    "target",
    metavar="USER@STATION",
    help="Copy the bundle there over ssh, build and accept it there, bring the report back.",
)
@click.option(
    "--station-command",
    default="edge-qc",
    show_default=True,
    metavar="PATH",
    help="With --on: how edge-qc is called there.",
)
@click.option(
    "--engine",
    type=click.Choice(["tensorrt", "onnxruntime"]),
    help="With --on, what runs there (default: tensorrt); without, build and accept here too.",
)
@click.option("--archive", is_flag=True, help="Also write BUNDLE.tar.zst, to carry it away.")
@json_option
def command(
    run: Path | None,
    out: Path | None,
    fp16: bool,
    fp32_nodes: tuple[str, ...],
    preflight: bool,
    batch: int,
    max_escape: float,
    confidence: float,
    mix: str | None,
    folds: int,
    score: str,
    channels: int | None,
    grid: str | None,
    combine: str,
    alpha: float,
    prior: float,
    assumed_auroc: float,
    policy: str | None,
    review_margin: float,
    memory_limit: int,
    seed: int,
    threads: int | None,
    name: str | None,
    number: int | None,
    sign: Path | None,
    target: str | None,
    station_command: str,
    engine: str | None,
    archive: bool,
    as_json: bool,
) -> None:
    """Turn the training run RUN (default: the newest below runs/) into one bundle: PaDiM and the
    classifier in one ONNX graph, calibrated, with the golden answers that a station's engine must
    reproduce."""
    import json
    import os
    from typing import cast

    import torch

    from edge_qc.errors import UsageError
    from edge_qc_export.gate.mix import read_mix
    from edge_qc_export.learn.checkpoints import load_run, newest_run
    from edge_qc_export.packing.bundle_folder import archive_of, pack_bundle, require_free_archive
    from edge_qc_export.progress import ConsoleReporter
    from edge_qc_export.release import release
    from edge_qc_export.release.fitting import FitSettings
    from edge_qc_export.release.manifest import ReleaseSettings
    from edge_qc_export.release.telling import document_of, lines_of
    from edge_qc_export.whole_file import write_whole

    if grid is not None and grid != "finest" and not grid.isdecimal():
        raise UsageError(f"grid {grid!r}: wanted 'finest' or a number of rows")
    if fp32_nodes and not fp16:
        raise UsageError("--fp32-node goes with --fp16: without it every node is FP32")
    folder = newest_run() if run is None else run
    settings = ReleaseSettings(
        fit=FitSettings(
            folds=folds,
            score=cast(Any, score),
            channels=channels,
            grid=grid if grid is None or grid == "finest" else int(grid),  # type: ignore[arg-type]
            seed=seed,
            memory_limit=memory_limit * 2**20,
        ),
        fp16=fp16,
        fp32_nodes=fp32_nodes,
        batch=batch,
        max_escape=max_escape,
        confidence=confidence,
        mix={} if mix is None else read_mix(mix),
        combine=cast(Any, combine),
        alpha=alpha,
        prior=prior,
        assumed_auroc=assumed_auroc,
        policy=cast(Any, policy),
        review_margin=review_margin,
        version=number,
        name=name,
        sign=sign,
        preflight=preflight,
    )
    # Sums in another order end in other last digits: not left to the environment.
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    loaded = load_run(folder)
    place = Path("bundles") / folder.resolve().name if out is None else out
    if archive:
        require_free_archive(archive_of(place))
    if target is not None:
        ask_station(target, station_command)
    with ConsoleReporter() as reporter:
        released = release(loaded, place, settings, reporter)
    bundle = released.bundle
    packed = archive_of(bundle.path) if archive else None
    if packed is not None:
        pack_bundle(bundle.path, packed)
    answer = document_of(released, folder, packed)
    # Before the station is asked: whatever it says, the bundle is made.
    if not as_json:
        click.echo("\n".join(lines_of(answer)))
    report = prove_where_asked(bundle.path, target, station_command, engine)
    if report is not None:
        kept = bundle.path.with_name(f"{bundle.path.name}.acceptance.json")
        write_whole(kept, json.dumps(report, indent=2).encode(), "The bundle is whole all the same")
        answer |= {"acceptance": report, "acceptance_report": str(kept)}
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    elif report is not None:
        click.echo(f"accepted: {report['engine']}, report in {answer['acceptance_report']}")
