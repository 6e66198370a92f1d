"""From a training run to a bundle: fit, calibrate, export, prove, write.

``release`` is the one composition of the workstation's second half; each step lives in its own
module. The same run and settings give the same bytes: times come from the run, and nothing says
where it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_qc.bundle.alignment import ALIGNMENT, alignment_bytes
from edge_qc.bundle.manifest import GOLDEN, MODEL, NAME_LIMIT, PARTS, Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.engine.acceptance import AcceptanceReport
from edge_qc.errors import DataError, UsageError
from edge_qc.parts import GOOD
from edge_qc_export.figures.calibration import too_few_for_a_bundle
from edge_qc_export.gate.mix import learned_shares, line_mix
from edge_qc_export.gate.parts_file import KeptParts, parts_bytes, view_digest
from edge_qc_export.graph import Features, OnePass, onnx_from_module
from edge_qc_export.graph.in_engine import FeaturesInEngine
from edge_qc_export.graph.precision import require_layers
from edge_qc_export.learn.checkpoints import Run
from edge_qc_export.learn.network import trunk_learns
from edge_qc_export.learn.run_views import LabelledViews, chosen_views, joined, views_of_run
from edge_qc_export.packing.bundle_folder import require_free, require_version, write_bundle
from edge_qc_export.packing.golden_file import golden_bytes
from edge_qc_export.packing.proof import prove
from edge_qc_export.packing.signing import read_private_key
from edge_qc_export.preflight import PreflightReport, preflight, report_of, require_compiler
from edge_qc_export.progress import Reporter
from edge_qc_export.release.fitting import (
    BATCH,
    Answers,
    CrossFitted,
    Fitted,
    answers,
    fit_views,
    head_layer,
)
from edge_qc_export.release.golden import choose_golden
from edge_qc_export.release.manifest import (
    Calibrated,
    ReleaseSettings,
    learned_dies,
    manifest_from_run,
)
from edge_qc_export.release.named_parts import pictures_of
from edge_qc_export.release.precision_check import Half, check_half
from edge_qc_export.release.report import REPORT, report_bytes


@dataclass(frozen=True, slots=True)
class Released:
    """A bundle that was written, accepted by ONNX Runtime, and what its making saw."""

    bundle: Bundle
    fitted: Fitted
    calibrated: Calibrated
    acceptance: AcceptanceReport
    half: Half | None
    preflight: PreflightReport | None


def release(
    run: Run, out: Path, settings: ReleaseSettings, reporter: Reporter | None = None
) -> Released:
    """Write the bundle folder ``out`` from a run.

    Raises UsageError for settings that do not go with the run, DataError for data that do not
    suffice, EdgeQCError where half changes too many decisions or NVIDIA's compiler refuses the
    graph, AcceptanceError where ONNX Runtime does not reproduce torch. Nothing is left behind then.
    """
    reporter = reporter or Reporter()
    # "." has no name that a folder beside it could be called after.
    out = out if out.name else out.resolve()
    require_free(out)
    if settings.version is not None:
        require_version(settings.version)
    if settings.name is not None and not 0 < len(settings.name) <= NAME_LIMIT:
        raise UsageError(
            f"name of {len(settings.name)} characters: wanted 1 to {NAME_LIMIT}. Shorten --name"
        )
    key = None if settings.sign is None else read_private_key(settings.sign)
    if settings.preflight:
        require_compiler()
    network = run.load_network()
    features = Features(network, run.mean, run.std).eval()
    if settings.fp16:
        require_layers(features.body, settings.fp32_nodes)
    views = views_of_run(run, reporter)
    labels = views.known.labels
    if (lacking := too_few_for_a_bundle(sum(label == GOOD for label in labels))) is not None:
        raise DataError(f"data {run.data}: {lacking}")
    line_mix(settings.mix, learned_shares(labels), settings.prior)  # refused before the fit
    good = run.classes.index(GOOD)

    # A trunk that learned from a part tells it from GOOD better than it would a new one.
    seen = ~views.held_out_rows if trunk_learns(network) else np.zeros(len(views.known), np.bool_)
    reporter.begin("fit", len(views.known))
    in_engine = FeaturesInEngine(features, run.size, BATCH)
    fitted, cross = fit_views(
        in_engine, views.known, seen, run.classes, settings.fit, reporter.advance, reporter.note
    )
    score = settings.fit.score
    head = head_layer(fitted.head)
    module = OnePass(features, fitted.padim, fitted.embedding, head, score, good).eval()
    quick = OnePass(in_engine, fitted.padim, fitted.embedding, head, score, good).eval()
    reporter.note("each defect left out in turn, as if never seen")
    dies = learned_dies(run, views.known)
    calibrated = manifest_from_run(
        run, settings, fitted, cross, views.known.sessions, network.level_names, dies
    )
    manifest = calibrated.manifest
    if unseen := sorted(set(run.dies) - set(manifest.dies)):
        reporter.note(f"no GOOD image shows {', '.join(unseen)}: unknown to the bundle")

    held_out = chosen_views(views.known, views.held_out_rows)
    test: Answers | None = None
    if views.test is not None:
        reporter.begin("answers", len(views.test))
        test = answers(quick, views.test.pixels, advance=reporter.advance)
    half: Half | None = None
    if settings.fp16:
        known_and_odd = joined(held_out, views.test)
        reference = answers(quick, known_and_odd.pixels)
        reporter.begin("fp16 check", 2 * len(known_and_odd))
        half = check_half(
            run,
            network,
            features,
            fitted,
            good,
            score,
            manifest,
            known_and_odd,
            reference,
            reporter.advance,
            settings.fp32_nodes,
        )
        reporter.note(f"fp16: {half.plan.sentence}; {half.report.flips} decisions change")
        changes = {"precision": "fp16", "tolerances": half.tolerances}
        manifest = manifest.model_copy(update=changes)

    reporter.note("writing the graph, and proving it in ONNX Runtime")
    graph = onnx_from_module(
        module if half is None else half.module,
        run.size,
        settings.batch,
        half_weights=half is not None,
    )
    asked: PreflightReport | None = None
    if settings.preflight:
        reporter.note("pre-flight: NVIDIA's compiler TensorRT for RTX reads the graph")
        asked = preflight(graph)
        reporter.note(f"pre-flight: {asked.sentence}")
    golden = choose_golden(
        Bundle(out, "", manifest, signed=False),
        module,
        quick,
        [held_out, views.known, *([views.test] if views.test is not None else [])],
    )
    reports: list[AcceptanceReport] = []
    bundle = write_bundle(
        out,
        manifest,
        {
            MODEL: graph.SerializeToString(deterministic=True),
            GOLDEN: golden_bytes(golden),
            **_alignment_file(run, manifest),
            PARTS: parts_bytes(_kept(views.known, cross)),
            **pictures_of(views.known, calibrated.held, calibrated.doubts),
            REPORT: report_bytes(
                manifest, calibrated, fitted, views, cross, test, half, report_of(graph, asked)
            ),
        },
        key,
        lambda written: reports.append(prove(written)),
    )
    return Released(bundle, fitted, calibrated, reports[0], half, asked)


def _alignment_file(run: Run, manifest: Manifest) -> dict[str, bytes]:
    if manifest.alignment is None:
        return {}
    edges = run.edges()
    return {ALIGNMENT: alignment_bytes({name: edges[name] for name in manifest.alignment.dies})}


def _kept(views: LabelledViews, cross: CrossFitted) -> KeptParts:
    """What a calibration wants of the labelled parts."""
    return KeptParts(
        cross.scores,
        tuple(view_digest(view) for view in views.pixels),
        views.sessions or ("",) * len(views),
        np.zeros(len(views), np.int32),
    )
