"""``edge-qc account``: who may look at the dashboard, label and decide."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("account")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["look", "label", "decide"]),
    default="look",
    show_default=True,
    help="look; label: also say what a part truly is; decide: also overrule others' labels.",
)
@click.option(
    "--accounts-file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("dashboard.accounts"),
    show_default=True,
    help="The file that edge-qc dashboard --accounts-file reads.",
)
@click.option(
    "--no-password", is_flag=True, help="A reverse proxy lets this person in (--user-header)."
)
def command(name: str, role: str, file: Path, no_password: bool) -> None:
    """Add an account of the dashboard to a file, or change its role or password.

    The password is asked for, or read from standard input if that is no terminal. The dashboard
    reads the file at its start.
    """
    import sys

    from edge_qc.plant.dashboard.login import Role, write_account

    password = None
    if not no_password:
        if sys.stdin.isatty():
            password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        else:
            password = sys.stdin.readline().rstrip("\r\n")
    new = write_account(file, name, Role[role.upper()], password)
    click.echo(f"{file}: {name} may {role}{'' if new else ' (changed)'}. Restart the dashboard")
