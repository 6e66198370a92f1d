"""``edge-qc inspect``: shows a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_qc.cli.options import json_option

if TYPE_CHECKING:
    from edge_qc.bundle.golden import Golden
    from edge_qc.bundle.verification import Bundle


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Require a signature that this key verifies.",
)
@json_option
def command(bundle: Path, public_key: Path | None, as_json: bool) -> None:
    """Verify BUNDLE (a folder or a .tar.zst) and show its content."""
    import json
    import tempfile

    from edge_qc.bundle.verification import open_bundle, unpack_bundle
    from edge_qc.cli.table import print_tree

    with tempfile.TemporaryDirectory(prefix="edge-qc-") as folder:
        path = unpack_bundle(bundle, Path(folder)) if bundle.is_file() else bundle
        opened = open_bundle(path, public_key)
        golden = opened.golden()
    if as_json:
        document = {
            "id": opened.id,
            "signed": opened.signed,
            "golden_views": len(golden.labels),
            "manifest": opened.manifest.model_dump(mode="json", exclude_none=True),
        }
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    print_tree(f"bundle {bundle}", _summary(opened, golden, public_key is not None))


def _summary(bundle: Bundle, golden: Golden, checked: bool) -> dict[str, Any]:
    """Describe the bundle for whoever decides whether to install it."""
    from collections import Counter

    from edge_qc.bundle.calibration import ANY_DIE, sentences
    from edge_qc.inspection.decision import least_p_to_pass

    manifest = bundle.manifest
    least = least_p_to_pass(manifest) if manifest.gate is None else None
    view = manifest.input
    padim = manifest.padim
    drift, rule = manifest.drift, manifest.decision
    gate = manifest.gate
    if gate is None:
        told = {
            "told from known parts": f"AUROC {drift.assumed_auroc:.3g}, assumed",
            "passes": "nothing at all" if least is None else f"nothing below p = {least:.2g}",
        }
    else:
        how = "measured on defects left out" if len(manifest.classes) > 1 else "assumed"
        told = {"told from known parts": f"AUROC {drift.assumed_auroc:.3g}, {how}"}
    signature = ("valid" if checked else "not checked (--public-key)") if bundle.signed else "none"
    return {
        "id": bundle.id,
        "name": manifest.name,
        "version": manifest.version,
        "created": manifest.created,
        "producer": manifest.producer,
        "signature": signature,
        "calibrated": {
            str(number): one.sentence for number, one in enumerate(manifest.calibrated or (), 1)
        }
        or "not since the export",
        "network": f"{manifest.network}, {manifest.precision}, opset {manifest.opset}",
        "view": f"{view.height}x{view.width} uint8, batch {view.batch}, {view.interpolation}",
        "classes": {label: rule.dispositions[label].value for label in manifest.labels},
        "dies": {
            name: f"{die.angle:g} degrees, "
            + (f"box {list(die.box)}" if die.box else f"center {list(die.center or ())}")
            for name, die in manifest.dies.items()
        },
        "alignment": "none: parts are taken to lie in their place"
        if manifest.alignment is None
        else f"parts are found within {100 * manifest.alignment.shift:.3g}% of the photograph and "
        f"{manifest.alignment.turn:g} degrees of their place",
        "PaDiM": f"{padim.fit}, {padim.channels} channels of {', '.join(padim.layers)} on "
        f"{padim.grid[0]}x{padim.grid[1]}, score {padim.score}",
        "gate to GOOD": "none: a bundle of schema 1"
        if gate is None
        else {
            "bound": dict(enumerate(sentences(gate.bound), 1)),
            "by defect": {
                name: f"{kind.passed} of {kind.images} pass: at most {kind.at_most:.1%}"
                for name, kind in (gate.bound.by_class if gate.bound else {}).items()
            },
            "threshold": {
                ("any die" if die == ANY_DIE else die): f"{score:.4g}"
                for die, score in gate.threshold.items()
            },
            "the line's shares": {name: f"{share:.2%}" for name, share in gate.mix.items()},
        },
        "drift": {
            "witnesses combined by": drift.combine,
            "known parts called drift": f"{drift.alpha:.2%}",
            "share of parts that are drift": f"{drift.prior:.2%}, assumed",
            **told,
            "images": {
                ("any die" if die == ANY_DIE else die): tail.count
                for die, tail in drift.combined.items()
            },
        },
        "decision": f"{rule.policy}, review margin {rule.review_margin:g}",
        "temperature": f"{manifest.temperature:.3g}",
        "golden views": {
            f"{die} {label}": count
            for (die, label), count in sorted(
                Counter(zip(golden.dies, golden.labels, strict=True)).items()
            )
        },
        "files": {name: f"{entry.size} bytes" for name, entry in manifest.files.items()},
    }
