"""``edge-qc keygen``: a key pair to sign bundles with."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import json_option


@click.command("keygen")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def command(out: Path, as_json: bool) -> None:
    """Write an Ed25519 key pair: the private key to OUT, the public one to OUT.pub.

    Keep OUT where bundles are released, and give OUT.pub to the stations. Nothing is overwritten.
    """
    import json

    from edge_qc_export.packing.signing import make_key_pair

    public = make_key_pair(out)
    if as_json:
        click.echo(json.dumps({"private": str(out), "public": str(public)}))
        return
    click.echo(f"private key: {out}   (keep it secret; 'edge-qc export --sign {out}')")
    click.echo(f"public key:  {public}   (give it to the stations: public_key in station.toml)")
