"""``edge-qc golden-part``: the check once a shift, with a part whose result is known."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import Number, config_option, json_option


@click.command("golden-part")
@click.argument("name", default="golden")
@config_option
@click.option("--record", is_flag=True, help="Store this result as the expected one.")
@click.option(
    "--part", help="Use only frames with this part id; by default the next frame of each die."
)
@click.option(
    "--within",
    "within_s",
    type=Number(1, 3600),
    default=60.0,
    show_default=True,
    help="Seconds to wait for its views.",
)
@json_option
def command(
    name: str, config: Path, record: bool, part: str | None, within_s: float, as_json: bool
) -> int:
    """Check the running station with the golden part NAME: start this, then insert the part.

    Each die must get its recorded label; a known defect must be found as that defect. The result is
    an event. After a failure the station is DEGRADED until a check passes. Exit status 1 on
    failure.
    """
    import json

    from edge_qc.errors import EdgeQCError
    from edge_qc.settings import read_settings
    from edge_qc.system.control import connect

    client = connect(
        read_settings(config).station.state_dir,
        command="golden-part",
        name=name,
        record=record,
        part=part,
        within_s=within_s,
    )
    if client is None:
        raise EdgeQCError("no station is running here. Start it and run this command again")
    result: dict[str, object] = {}
    with client:
        for answer in client.answers():
            if "waiting" in answer:
                click.echo(
                    f"insert the golden part; waiting for {', '.join(answer['waiting'])}", err=True
                )
            elif "die" in answer:
                click.echo(f"{answer['die']} ({answer['camera']}): {answer['label']}", err=True)
            else:
                result = answer
    if as_json:
        click.echo(json.dumps({key: result[key] for key in ("passed", "recorded", "views")}))
        return 0 if result["passed"] else 1
    views = result["views"]
    assert isinstance(views, list)
    for view in views:
        drift = "" if view["drift"] is None else f"  drift {view['drift']:.2f}"
        if view["drift"] is not None and view["expected_drift"] is not None:
            drift += f" (recorded {view['expected_drift']:.2f})"
        mark = "  " if view["as_expected"] else "! "
        click.echo(
            f"{mark}{view['die']}: {view['label'] or 'no picture'}, expected "
            f"{view['expected']}{drift}"
        )
    click.echo("recorded" if result["recorded"] else "passed" if result["passed"] else "FAILED")
    return 0 if result["passed"] else 1
