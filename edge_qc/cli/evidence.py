"""``edge-qc evidence``: counts kept images and exports them as a data set."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import config_option, json_option
from edge_qc.cli.review import evidence_folder, folder_option, label_store, labels_option


@click.group("evidence")
def command() -> None:
    """Count the kept images, or export the labelled ones."""


@command.command("status")
@config_option
@folder_option
@labels_option
@json_option
def status(config: Path, folder: Path | None, database: str | None, as_json: bool) -> None:
    """Count kept images by the station's label, and how many a person has labelled."""
    import json
    from collections import Counter

    from edge_qc.cli.table import print_tree
    from edge_qc.evidence import Labels, Store

    store = Store(evidence_folder(config, folder))
    given = label_store(Labels(store.folder), database).latest()
    images: Counter[str] = Counter()
    labelled: Counter[str] = Counter()
    size = 0
    for exhibit in store.exhibits():
        images[exhibit.label] += 1
        size += exhibit.size_bytes
        if exhibit.verdict_id in given:
            labelled[given[exhibit.verdict_id].label] += 1
    found = {
        "folder": str(store.folder),
        "images": images.total(),
        "bytes": size,
        "said": dict(sorted(images.items())),
        "labelled": dict(sorted(labelled.items())),
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        print_tree(str(found.pop("folder")), found)


@command.command("export")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@config_option
@folder_option
@labels_option
@json_option
def export(
    target: Path, config: Path, folder: Path | None, database: str | None, as_json: bool
) -> None:
    """Write the labelled images into the new folder DIR, in the layout that edge-qc train reads.

    Images labelled DRIFT go to its test part; UNUSABLE images are left out.
    """
    import json

    from edge_qc.evidence import Labels, Store
    from edge_qc.evidence.dataset import export_dataset

    store = Store(evidence_folder(config, folder))
    report = export_dataset(store, target, label_store(Labels(store.folder), database))
    if as_json:
        document = {
            "folder": str(target),
            "images": dict(report.counts),
            "gone": report.gone,
            "damaged": report.damaged,
        }
        click.echo(json.dumps(document, indent=2))
        return
    for label, count in sorted(report.counts.items()):
        click.echo(f"{count:6}  {label}")
    if report.gone:
        click.echo(f"left out {report.gone} labels whose images are not here", err=True)
    for what in report.damaged:
        click.echo(f"left out: {what}", err=True)
