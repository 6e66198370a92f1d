"""``edge-qc install``: changes this station to another bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc.cli.options import Number, config_option, json_option


@click.command("install")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@config_option
@click.option(
    "--shadow-parts",
    type=click.IntRange(1, 100_000),
    help="First run the bundle in the shadow on this many live parts, and show where it disagrees.",
)
@click.option(
    "--within",
    "within_s",
    type=Number(1, 86_400),
    default=3600.0,
    show_default=True,
    help="Seconds to wait for those parts.",
)
@click.option("--yes", is_flag=True, help="Switch after the shadow run without asking.")
@click.option(
    "--allow-newly-good",
    is_flag=True,
    help="With --yes: switch even if parts would newly pass.",
)
@click.option("--allow-downgrade", is_flag=True, help="Allow an older version.")
@json_option
def command(
    bundle: Path,
    config: Path,
    shadow_parts: int | None,
    within_s: float,
    yes: bool,
    allow_newly_good: bool,
    allow_downgrade: bool,
    as_json: bool,
) -> None:
    """Install BUNDLE (a folder or a .tar.zst) on this station.

    It is verified, copied, built and accepted here. A running station then changes over between two
    triggers; nothing is lost. The previous bundle stays for 'edge-qc rollback'. Run it as the
    station's user: sudo -u edge-qc edge-qc install BUNDLE
    """
    from edge_qc.cli.device import drawn_progress
    from edge_qc.settings import read_settings
    from edge_qc.station.installation import Shadowing, install, shown

    def approve(summary: dict[str, Any]) -> bool:
        _show(summary)
        if not yes:
            return click.confirm("Switch to it?", err=True)
        if summary["newly_good"] and not allow_newly_good:
            click.echo(
                "not switched: parts would newly pass. Look at them, then allow it with "
                "--allow-newly-good",
                err=True,
            )
            return False
        return True

    shadowing = None
    if shadow_parts is not None:
        shadowing = Shadowing(shadow_parts, within_s, approve)
    with drawn_progress() as progress:
        done = install(
            read_settings(config),
            bundle,
            allow_downgrade=allow_downgrade,
            shadowing=shadowing,
            progress=progress,
            listener=tell,
        )
    if as_json:
        click.echo(as_document(done))
    elif done.already:
        click.echo(f"{shown(done.slot)} is already installed")
    else:
        click.echo(f"{shown(done.slot)} {when(done.live)}")


def tell(told: dict[str, Any]) -> None:
    """Print the station's progress on standard error."""
    if "doing" in told:
        click.echo(told["doing"], err=True)
    elif "wanted" in told:
        click.echo(f"shadow run: {told['seen']} of {told['wanted']} parts", err=True)
    elif "newly_good" in told:
        frame = told["newly_good"]
        part = f" part {frame['part_id']}" if frame["part_id"] else ""
        image = f" {frame['image']}" if frame["image"] else ""
        click.echo(
            f"would newly pass, now {frame['label']}: {frame['camera']} "
            f"{frame['die']}{part}{image} (trigger {frame['trigger_id']})",
            err=True,
        )


def as_document(done: Any) -> str:
    """One JSON document of an ``Installed``."""
    import json

    return json.dumps(
        {
            "bundle": done.slot.model_dump(),
            "live": done.live,
            "already": done.already,
            "acceptance": done.acceptance,
            "shadow": done.shadow,
        },
        indent=2,
    )


def when(live: bool) -> str:
    return "judges now" if live else "will judge from the station's next start on"


def _show(summary: dict[str, Any]) -> None:
    click.echo(
        f"shadow run over {summary['parts']} parts: {summary['agreed']} of {summary['frames']} "
        f"frames agree, {summary['newly_good']} would newly pass, {summary['not_judged']} not "
        f"judged, {summary['passed_over']} skipped",
        err=True,
    )
    for pair in summary["disagreements"]:
        click.echo(f"  {pair['frames']:6}  {pair['now']} -> {pair['candidate']}", err=True)
