"""How PaDiM's fit, its score and the rule that combines the witnesses fare on a run's test part.

    python bench/tables/drift.py RUN [--grid ROWS]

One pass over the training views gives the moments of both fits; one over held-out and test views
gives every combination's scores. Thresholds come from held-out views alone, as in a release. The
tables in docs/drift.md are made with this.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_qc.bundle.manifest import Manifest
from edge_qc.errors import EdgeQCError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.drift.embedding import EmbeddingMoments, embedding_distances, fit_embedding
from edge_qc_export.drift.moments import Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import stage_features
from edge_qc_export.drift.whitening import patch_distances, score_from_distances
from edge_qc_export.graph import Features
from edge_qc_export.learn.checkpoints import load_run
from edge_qc_export.learn.run_views import LabelledViews, views_of_run
from edge_qc_export.progress import Reporter
from edge_qc_export.release.fitting import Answers, FitSettings, Fitted, plan_fit
from edge_qc_export.release.manifest import ReleaseSettings, manifest_from_run
from edge_qc_export.release.rule import compare_policies, drift_auroc

BATCH = 16
FITS, SCORES, RULES = (
    ("pooled", "per-class"),
    ("mean", "max"),
    ("padim", "embedding", "fisher", "max"),
)


def batches(views: LabelledViews, what: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """Slices and pixels, with a count on standard error."""
    for start in range(0, len(views), BATCH):
        part = slice(start, min(start + BATCH, len(views)))
        print(f"\r{what}: {part.stop} of {len(views)}", end="", file=sys.stderr, flush=True)
        yield part, torch.from_numpy(np.ascontiguousarray(views.pixels[part]))
    print(file=sys.stderr)


def rows(folder: Path, grid: int | None) -> Iterator[dict[str, Any]]:
    """A row of the table for each fit, score and rule."""
    run = load_run(folder)
    network = run.load_network()
    views = views_of_run(run, Reporter())
    if views.test is None:
        raise EdgeQCError(f"run {folder}: its data has no test part with a known truth")
    features = Features(network, run.mean, run.std).eval()
    classes = run.classes
    settings = FitSettings(grid=grid)
    layout, length, memory = plan_fit(features, run.size, len(views.train), len(classes), settings)
    patches, embeddings = Moments(layout, len(classes)), EmbeddingMoments(length, len(classes))
    labels = torch.from_numpy(views.train.class_indices(classes))
    with torch.no_grad():
        for part, pixels in batches(views.train, "fit"):
            embedding, levels = features(pixels)
            patches.update(stage_features(levels, layout), labels[part])
            embeddings.update(embedding, labels[part])
    whole = fit_embedding(embeddings, settings.directions)
    whitenings = {kind: fit(patches, kind, Regularisation()) for kind in FITS}  # type: ignore[arg-type]

    def answered(part_views: LabelledViews, what: str) -> dict[tuple[str, str], Answers]:
        logits, distance = [], []
        drift: dict[tuple[str, str], list[Any]] = {(k, s): [] for k in FITS for s in SCORES}
        with torch.no_grad():
            for _, pixels in batches(part_views, what):
                embedding, levels = features(pixels)
                logits.append(network.get_submodule("classifier")(embedding).numpy())
                distance.append(embedding_distances(embedding, whole).numpy())
                stages = stage_features(levels, layout)
                for kind, whitening in whitenings.items():
                    squared = patch_distances(stages, layout, whitening.weights, whitening.means)
                    for score in SCORES:
                        made = score_from_distances(squared, score)  # type: ignore[arg-type]
                        drift[kind, score].append(made.numpy())
        return {
            key: Answers(np.concatenate(logits), np.concatenate(d), np.concatenate(distance), None)
            for key, d in drift.items()
        }

    held_out, test = answered(views.held_out, "held out"), answered(views.test, "test")
    for (kind, score), answers in held_out.items():
        fitted = Fitted(whitenings[kind], whole, len(views.train), memory)  # type: ignore[index]
        for rule in RULES:
            released = ReleaseSettings(
                fit=dataclasses.replace(settings, fit=kind, score=score),  # type: ignore[arg-type]
                combine=rule,  # type: ignore[arg-type]
            )
            manifest = manifest_from_run(
                run,
                released,
                fitted,
                network.level_names,
                views.train,
                views.held_out,
                answers,
            )
            yield _row(manifest, views.test, test[kind, score], kind, score, rule)


def _row(
    manifest: Manifest, test: LabelledViews, answers: Answers, kind: str, score: str, rule: str
) -> dict[str, Any]:
    aurocs = drift_auroc(manifest, test.labels, test.dies, answers)
    policies = compare_policies(manifest, test.labels, test.dies, answers)
    counts = Counter(label for label in test.labels if label not in (GOOD, DRIFT))
    other = counts.most_common(1)[0][0]
    labels = np.array(test.labels)
    medians = [float(np.median(answers.drift[labels == name])) for name in (GOOD, other)]
    row: dict[str, Any] = {
        "fit": kind,
        "score": score,
        "rule": rule,
        f"GOOD's median over {other}'s": medians[0] / medians[1],
        "AUROC": None if aurocs is None else aurocs["combined"],
    }
    for policy, figures in policies.items():
        for name in ("pwa_skill", "escape_rate", "overkill_rate"):
            row[f"{policy}: {name}"] = figures[name]
        row[f"{policy}: drift missed"] = figures["drift_missed"]
        row[f"{policy}: known called drift"] = figures["known_called_drift"]
    return row


def main() -> int:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--grid", type=int)
    arguments = parser.parse_args()
    try:
        table = list(rows(arguments.run, arguments.grid))
    except EdgeQCError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    names = list(table[0])
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names))
    for row in table:
        cells = [f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
