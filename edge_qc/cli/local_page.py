"""A page that a command serves to a browser of this machine, until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge_qc.evidence.serving import Site

port_option = click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="By default any free port."
)


def show(site: Site, port: int) -> None:
    """Serve it and print its address. Raises UsageError where the port is taken."""
    from edge_qc.errors import UsageError
    from edge_qc.evidence.serving import LocalServer

    try:
        server = LocalServer(site, port)
    except OSError as error:
        raise UsageError(
            f"port {port} of 127.0.0.1: {error.strerror}. Choose another --port"
        ) from error
    with server:
        click.echo(server.url)
        click.echo("Open it in a browser of this machine; Ctrl-C ends it.", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo(err=True)
