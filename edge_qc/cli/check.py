"""``edge-qc check``: validates station.toml and its bundle before anything runs."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import config_option, json_option


@click.command("check")
@config_option
@json_option
def command(config: Path, as_json: bool) -> None:
    """Check station.toml and its bundle, and show the resulting settings.

    Secrets are blanked. Exit status 78 if a file must be corrected.
    """
    import json

    from edge_qc.bundle.slots import bundle_folder, slots_of
    from edge_qc.bundle.verification import open_bundle
    from edge_qc.camera import check_source, request_of
    from edge_qc.camera.gpio import check_pin
    from edge_qc.cli.table import print_tree
    from edge_qc.output import check_output, maps_of
    from edge_qc.settings import read_settings
    from edge_qc.station.changeover import check_against_bundle

    settings = read_settings(config)
    settings.mqtt.password()
    bundle = open_bundle(bundle_folder(settings), settings.bundle.public_key)
    check_against_bundle(settings, bundle)
    resolved = settings.model_dump(mode="json")
    for camera in settings.camera:
        check_source(request_of(camera))
        if camera.triggering.pin is not None:
            check_pin(camera.triggering.pin)
    maps = maps_of(settings)
    for output, found, shown in zip(settings.output, maps, resolved["output"], strict=True):
        check_output(output)
        if output.confirming_pin is not None:
            check_pin(output.confirming_pin)
        if output.encoder_pin is not None:
            check_pin(output.encoder_pin)
        given = {name: shown[name] for name in sorted(output.model_fields_set)}
        shown.clear()
        shown |= {"name": output.name, **given}
        shown["shows"] = list(settings.blocks_of(output))
        if output.where.kind == "modbus":
            shown["registers"] = {
                area.title: f"{area.register} to {area.register + area.words - 1}"
                for area in found.areas()
            }
    if settings.mqtt.password_file is not None:
        resolved["mqtt"]["password"] = "***"
    resolved["mqtt"]["root"] = settings.station.root
    manifest = bundle.manifest
    resolved["bundle"] |= {
        "path": str(bundle.path),
        "from": "bundle.path" if settings.bundle.path is not None else "edge-qc install",
        "id": bundle.id,
        "name": manifest.name,
        "version": manifest.version,
        "classes": list(manifest.classes),
        "dies": list(manifest.dies),
        "precision": manifest.precision,
        "signed": bundle.signed,
    }
    if settings.bundle.path is None:
        slots = slots_of(settings).read()
        resolved["bundle"]["previous"] = slots.previous and slots.previous.version
        if slots.set_aside is not None:
            resolved["bundle"]["given up"] = {
                "version": slots.set_aside.slot.version,
                "why": slots.set_aside.why,
            }
    if as_json:
        click.echo(json.dumps(resolved, indent=2))
    else:
        print_tree(str(config), resolved)
