"""``edge-qc doctor``: one page on everything that a station depends on."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import config_option, json_option

_MARKS = {"good": "[green]✓[/]", "bad": "[red]✗[/]", "note": "[yellow]·[/]", "none": "[dim]-[/]"}


@click.command("doctor")
@config_option
@json_option
def command(config: Path, as_json: bool) -> int:
    """Check board, software, disk, cameras, broker and clock: green, or red with the remedy.

    Works on any machine, with or without a station.toml. It changes nothing and publishes no
    verdict. Run it as root, who alone reads the station's secrets: sudo edge-qc doctor. It asks for
    access to files and devices as the station's user. Exit status 1 if anything is red.
    """
    import dataclasses
    import json

    from edge_qc.doctor import Finding, Status, examine
    from edge_qc.doctor.finding import bad, good, none, remedy_of
    from edge_qc.errors import SettingsError
    from edge_qc.settings import read_settings
    from edge_qc.system.machine import this_machine

    settings = None
    try:
        settings = read_settings(config)
        first = good("settings", str(config))
    except SettingsError as error:
        first = (
            none("settings", f"{config} does not exist; name the file with --config")
            if isinstance(error.__cause__, FileNotFoundError)
            else bad("settings", str(error), remedy_of(error, "edge-qc check"))
        )
    findings = [first]
    if as_json:
        findings += examine(settings)
        document = {
            "ok": all(finding.status is not Status.BAD for finding in findings),
            "machine": dataclasses.asdict(this_machine()),
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console
        from rich.markup import escape

        console = Console(highlight=False)

        def tell(finding: Finding) -> None:
            console.print(
                f"{_MARKS[finding.status.value]} [bold]{escape(finding.check):<18}[/] "
                f"{escape(finding.seen)}",
                soft_wrap=True,
            )
            if finding.remedy:
                console.print(f"{'':21}→ {escape(finding.remedy)}", style="dim", soft_wrap=True)

        tell(first)
        for finding in examine(settings):
            findings.append(finding)
            tell(finding)
        count = sum(finding.status is Status.BAD for finding in findings)
        console.print(
            "[green]nothing is red[/]" if not count else f"[red]{count} to repair[/]",
            soft_wrap=True,
        )
    return 1 if any(finding.status is Status.BAD for finding in findings) else 0
