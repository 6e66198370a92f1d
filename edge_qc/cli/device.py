"""Shared by ``build`` and ``accept``: bundle and engine, the progress of a build, and the
report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from edge_qc.cli.options import config_option, json_option, threads_option

if TYPE_CHECKING:
    from edge_qc.engine import BuildStep
    from edge_qc.inspection.commissioning import Commissioning

_F = TypeVar("_F", bound=Callable[..., Any])

_TOLD_EVERY = 0.05


def commissioning_options(command: _F) -> _F:
    """The argument and options that ``commissioned`` takes."""
    options = (
        click.argument("bundle", type=click.Path(path_type=Path), required=False),
        click.option("--engine", help="onnxruntime or tensorrt; by default the station's."),
        click.option(
            "--plans",
            type=click.Path(path_type=Path, file_okay=False),
            help="The folder of TensorRT plans; by default the station's, or the user's cache.",
        ),
        click.option(
            "--repeat",
            "repeats",
            type=click.IntRange(0, 1_000_000),
            default=50,
            show_default=True,
            help="How many answers to time.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write the report to this file, also if the engine is refused.",
        ),
        threads_option,
        config_option,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def commissioned(
    bundle: Path | None,
    *,
    config: Path,
    engine: str | None,
    plans: Path | None,
    threads: int,
    repeats: int,
    out: Path | None,
    build: Literal["if-needed", "always"],
    default_engine: str,
    **changes: int | None,
) -> Commissioning:
    """Accept the named bundle, or the station's from ``config``, and write the report.

    default_engine: used if neither the call nor the station names one. changes: to a station's
    device options, or None.
    """
    import dataclasses

    from edge_qc.bundle.slots import bundle_folder
    from edge_qc.engine import DeviceOptions
    from edge_qc.inspection.commissioning import commission
    from edge_qc.settings import read_settings

    public_key = None
    device = DeviceOptions()
    if bundle is None:
        settings = read_settings(config)
        bundle, public_key = bundle_folder(settings), settings.bundle.public_key
        engine = engine or settings.engine.kind
        threads = settings.engine.threads
        device = DeviceOptions.of_station(settings.engine, settings.station.state_dir)
    wanted: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if plans is not None:
        wanted["plans"] = plans
    with drawn_progress() as progress:
        result = commission(
            bundle,
            public_key=public_key,
            engine=engine or default_engine,
            threads=threads,
            device=dataclasses.replace(device, build=build, progress=progress, **wanted),
            repeats=repeats,
        )
    if out is not None:
        result.keep(out)
        click.echo(f"report written to {out}", err=True)
    return result


def show(result: Commissioning, as_json: bool) -> None:
    """Prints the report; raises its refusal."""
    if as_json:
        import json

        click.echo(json.dumps(result.document, indent=2))
    elif result.refusal is None:
        from edge_qc.cli.table import print_tree

        document = dict(result.document)
        print_tree(f"accepted: {document.pop('engine')}", document)
    if result.refusal is not None:
        raise result.refusal


@contextlib.contextmanager
def drawn_progress() -> Iterator[Callable[[BuildStep], None]]:
    """A listener that draws a bar on a terminal's standard error, and lines on any other."""
    import sys

    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("building a TensorRT plan"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %  {task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    task = None

    def draw(step: BuildStep) -> None:
        nonlocal task
        if task is None:
            bar.start()
            task = bar.add_task(step.doing, total=1.0)
        bar.update(task, completed=step.fraction, description=step.doing)

    try:
        yield draw
    finally:
        bar.stop()


def _lines() -> Callable[[BuildStep], None]:
    told = -1.0

    def line(step: BuildStep) -> None:
        nonlocal told
        if step.fraction - told >= _TOLD_EVERY or step.fraction == 1.0:
            told = step.fraction
            click.echo(f"building a TensorRT plan: {step.fraction:4.0%}  {step.doing}", err=True)

    return line
