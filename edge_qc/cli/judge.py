"""``edge-qc judge``: judges image files, without cameras or broker."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import bundle_option, json_option, threads_option


@click.command("judge")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--die", required=True, help="The die that the images show, by its name in the bundle."
)
@bundle_option
@threads_option
@json_option
def command(
    images: tuple[Path, ...], die: str, bundle_path: Path, threads: int, as_json: bool
) -> int:
    """Judge IMAGES of one die: the same verdicts as the station's, on standard output.

    An image that cannot be read, that shows nothing or is of a size that the bundle did not learn
    is NOT_JUDGED, the others are judged; exit status 1 then.
    """
    import json
    import math
    from datetime import datetime, timezone

    from edge_qc.camera.images import frame_from_image
    from edge_qc.errors import DataError, UsageError
    from edge_qc.inspection.decision import not_judged, unknown_die
    from edge_qc.inspection.inspecting import open_inspection
    from edge_qc.parts import Reason, Verdict
    from edge_qc.publisher import verdict_content

    inspection = open_inspection(bundle_path, threads=threads, max_frame_age_s=math.inf)
    bundle = inspection.bundle
    if die not in bundle.manifest.dies:
        raise UsageError(unknown_die(bundle, die))

    def judged(image: Path) -> Verdict:
        try:
            frame = frame_from_image(image, die, image.name)
        except DataError as error:
            return not_judged(bundle.id, Reason.FRAME, str(error))
        return inspection.judge([frame])[0]

    failed = False
    documents = []
    for image in images:
        verdict = judged(image)
        failed |= verdict.reason is not Reason.DECIDED
        if as_json:
            content = verdict_content(
                verdict,
                camera="judge",
                die=die,
                trigger_id=str(image),
                time=datetime.now(timezone.utc),
                image=image.name,
                bundle_version=bundle.manifest.version,
                engine=inspection.engine.name,
            )
            documents.append(content.model_dump(mode="json"))
        else:
            share = verdict.probabilities.get(verdict.label)
            odd = f"  drift p = {verdict.drift.p_value:.2g}" if verdict.drift else ""
            sure = f"  probability {share:6.1%}" if share is not None else ""
            detail = f"  {verdict.detail}" if verdict.detail else ""
            click.echo(
                f"{image}  {verdict.label:<18} {verdict.disposition.value:<6}{sure}{odd}{detail}"
            )
    if as_json:
        click.echo(json.dumps(documents, indent=2))
    inspection.close()
    return 1 if failed else 0
