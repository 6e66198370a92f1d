"""``edge-qc review``: label kept images in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_qc.cli.local_page import port_option, show
from edge_qc.cli.options import config_option, who_option

if TYPE_CHECKING:
    from edge_qc.evidence import Labels, LabelStore

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of images, such as a copy of a station's, instead of --config.",
)

labels_option = click.option(
    "--database",
    envvar="EDGE_QC_DATABASE",
    show_envvar=True,
    metavar="FILE|URL",
    help="Keep the labels in these records, with those of edge-qc label; by default in a file "
    "beside the images.",
)


def label_store(beside: Labels, database: str | None) -> LabelStore:
    """The records' labels where a database is named, or those of the file beside the images."""
    if database is None:
        return beside
    from edge_qc.plant.recorder import open_database
    from edge_qc.plant.recorder.labels import RecordedLabels

    return RecordedLabels(open_database(database, create=False), beside)


def evidence_folder(config: Path, folder: Path | None) -> Path:
    """The folder that the options name. Raises UsageError, see ``require_evidence``."""
    from edge_qc.settings import read_settings

    return require_evidence(folder or read_settings(config).evidence_dir)


def require_evidence(folder: Path) -> Path:
    """The folder itself. Raises UsageError if it does not exist, this user may not read it, or it
    holds other things than evidence."""
    import os
    import stat

    from edge_qc.errors import UsageError

    try:
        is_there = stat.S_ISDIR(folder.stat().st_mode)
        readable = os.access(folder, os.R_OK | os.X_OK)
    except PermissionError:
        is_there, readable = True, False
    except OSError:
        is_there = readable = False
    if not is_there:
        raise UsageError(
            f"{folder}: no such folder. Either no image was kept yet, or the path is wrong"
        )
    if not readable:
        raise UsageError(
            f"{folder}: this user may not read it. Run the command as the station's "
            "user: sudo -u edge-qc …"
        )
    if _holds_other_things(folder):
        raise UsageError(
            f"{folder}: this is no evidence folder: it holds neither a kept image nor labels. "
            "Name the station's evidence folder, which has one folder for each label, or a copy"
        )
    return folder


def _holds_other_things(folder: Path) -> bool:
    """Whether it holds something, and no evidence. The empty folder of a label may have held images
    that were deleted since."""
    from edge_qc.evidence import Labels, Store

    if Labels(folder).file.exists() or any(True for _ in Store(folder).exhibits()):
        return False
    return any(
        not entry.is_dir() or any(entry.iterdir())
        for entry in folder.iterdir()
        if not entry.name.startswith(".")
    )


@click.command("review")
@config_option
@folder_option
@labels_option
@who_option
@click.option("--label", "labels", multiple=True, help="A class that the station does not know.")
@port_option
def command(
    config: Path,
    folder: Path | None,
    database: str | None,
    who: str,
    labels: tuple[str, ...],
    port: int,
) -> None:
    """Label kept images in a browser, the most doubtful first, with single keys.

    The page is served on 127.0.0.1 only, until Ctrl-C. From another machine: ssh -L
    PORT:127.0.0.1:PORT station, with the same --port.
    """
    from edge_qc.evidence import Labels, Store
    from edge_qc.evidence.page import Desk

    store = Store(evidence_folder(config, folder))
    kept = label_store(Labels(store.folder), database)
    desk = Desk(store, who, labels, kept)
    show(desk, port)
