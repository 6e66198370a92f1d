"""``edge-qc view``: shows the view that the network sees, for setting up a camera."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edge_qc.cli.options import ViewSize, json_option

if TYPE_CHECKING:
    from edge_qc.parts import Placement, View


class _SizeOrFull(ViewSize):
    def convert(  # type: ignore[override]
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int] | Literal["full"]:
        """(rows, columns), or ``full``."""
        return "full" if value == "full" else super().convert(value, param, ctx)


@click.command("view")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--die", required=True, help="The die that the images show, by its name in the table."
)
@click.option(
    "--dies",
    "dies_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Die table (JSON); by default the challenge's.",
)
@click.option(
    "--bundle",
    "bundle_path",
    type=click.Path(path_type=Path),
    help="Show what a bundle's network sees: its die table, size and pixels, the part found as it "
    "finds it.",
)
@click.option(
    "--nearest/--averages",
    default=None,
    help="The benchmark's nearest-neighbour pixels, or averages.  [default: averages, or as the "
    "bundle]",
)
@click.option(
    "--size",
    type=_SizeOrFull(),
    help="Pixels, height first, as 'edge-qc train' takes them: 320x96, or 96 for a square; full: "
    "the crop before resizing.  [default: full, or as the bundle]",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder."
)
@json_option
def command(
    images: tuple[Path, ...],
    die: str,
    dies_file: Path | None,
    bundle_path: Path | None,
    nearest: bool | None,
    size: tuple[int, int] | Literal["full"] | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write the view of IMAGES of one die, as IMAGE.DIE.png in a folder: with --bundle the very
    pixels that its network sees.

    Reports how much of a view lies outside the photograph, and with a bundle that finds its parts
    where the part lies. An image that cannot be read is skipped and named at the end, with exit
    status 1.
    """
    import dataclasses
    import json

    import cv2

    from edge_qc.bundle.dies import CHALLENGE_DIES, read_dies
    from edge_qc.bundle.verification import open_bundle
    from edge_qc.camera import read_image
    from edge_qc.errors import DataError, UsageError
    from edge_qc.inspection.alignment import templates_of
    from edge_qc.inspection.view import Interpolation, view

    template = None
    rows_columns = None if size == "full" else size
    interpolation: Interpolation = "nearest" if nearest else "area"
    if bundle_path is not None:
        if dies_file is not None:
            raise UsageError("--bundle and --dies: give one of them, a bundle has its own table")
        bundle = open_bundle(bundle_path)
        table = bundle.manifest.dies
        template = templates_of(bundle.manifest.alignment, bundle.edges()).get(die)
        given = bundle.manifest.input
        rows_columns = (given.height, given.width) if size is None else rows_columns
        interpolation = given.interpolation if nearest is None else interpolation
    else:
        table = CHALLENGE_DIES if dies_file is None else read_dies(dies_file)
    if die not in table:
        where = str(bundle_path or dies_file or "the challenge's table")
        raise UsageError(f"--die {die}: not in {where}, which has {', '.join(table)}")
    files = [out / f"{image.stem}.{_file_name(die)}.png" for image in images]
    for file in files:
        if files.count(file) > 1:
            raise UsageError(
                f"two images would be written to {file}; run the command for each of them"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error

    documents = []
    faults = []
    for image, file in zip(images, files, strict=True):
        try:
            pixels = read_image(image)
        except DataError as error:
            faults.append(str(error))
            continue
        seen = view(pixels, table[die], rows_columns, interpolation, template)
        try:
            # Not by OpenCV, which crashes at a name that is not UTF-8.
            file.write_bytes(bytes(cv2.imencode(".png", seen.pixels[0])[1]))
        except OSError as error:
            raise DataError(
                f"--out {out}: {file.name} cannot be written ({error.strerror}). Make room, or "
                "name a folder that is writable"
            ) from error
        outside = _outside(seen, pixels.shape[1], pixels.shape[0])
        rows, columns = seen.pixels.shape[1:]
        if as_json:
            documents.append(
                {
                    "image": str(image),
                    "die": die,
                    "view": str(file),
                    "width": columns,
                    "height": rows,
                    "outside": round(outside, 4),
                    "to_frame": seen.to_frame.tolist(),
                    "placement": seen.placement and dataclasses.asdict(seen.placement),
                }
            )
        else:
            click.echo(file if seen.placement is None else f"{file}  {_lies(seen.placement)}")
        if seen.placement is not None and seen.placement.fault:
            click.echo(f"{image}: {seen.placement.fault}", err=True)
        if outside >= 0.01:
            click.echo(f"{image}: {outside:.0%} of the view of {die} lies outside it", err=True)
    if as_json:
        click.echo(json.dumps(documents, indent=2))
    if faults:
        raise DataError("; ".join(faults))


def _file_name(die: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in die)


def _lies(placement: Placement) -> str:
    return (
        f"{placement.right_px:+.1f} px right  {placement.down_px:+.1f} px down  "
        f"{placement.turn_deg:+.2f}°  residual {placement.residual:.2f} of {placement.limit:.2f}"
    )


def _outside(seen: View, width: int, height: int) -> float:
    """Share of the view's pixels whose centres lie outside the photograph."""
    import numpy as np

    rows, columns = seen.pixels.shape[1:]
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    across, down = np.tensordot(seen.to_frame, np.stack([x, y, np.ones_like(x)]), axes=1)
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    return 1.0 - float(inside.mean())
