"""``edge-qc tune`` over 2 000 labelled parts: a move of a slider, from the request to the answer.

The parts are drawn scores, half of them the bundle's own; the page's server answers over HTTP.
Beside it, the station's own decision on the same parts one by one, which a page cannot wait for.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from timing import paired

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

PARTS, ALLOWED_S, ROUNDS = 2000, 0.1, 5
OWN = {"max_escape": 0.01, "good": 0.95, "escape": 1, "overkill": 1, "confusion": 1}


def _begun() -> Any:
    """Drawn parts: a third GOOD, as a collection of defects has them."""
    from edge_qc_export.gate.parts_file import KeptParts
    from edge_qc_export.gate.rule_of_many import said_of, weigh
    from edge_qc_export.gate.scored import Scored
    from edge_qc_export.gate.settling import refit
    from edge_qc_export.recalibration import Begun
    from tests.edge_qc.inspection.test_decision import CLASSES, gated

    rng = np.random.default_rng(0)
    bundle = gated()
    labels = tuple(rng.choice(CLASSES, PARTS))
    odd = np.array([label != "GOOD" for label in labels])
    near = rng.chisquare(4, PARTS) + 1
    logits = rng.normal(0, 1.5, (PARTS, len(CLASSES)))
    logits[np.arange(PARTS), [CLASSES.index(label) for label in labels]] += 4
    scored = Scored(
        labels,
        ("Die01",) * PARTS,
        tuple(f"{row}.png" for row in range(PARTS)),
        np.zeros(PARTS, np.bool_),
        CLASSES,
        padim=rng.chisquare(8, PARTS) + 6 * odd,
        logits=logits,
        good_distance=near + odd,
        embedding_distance=near,
    )
    added = np.arange(PARTS) >= PARTS // 2
    names = scored.names
    kept = KeptParts(scored, names, ("",) * PARTS, added.astype(np.int32))
    refitted = refit(bundle.manifest, scored, added)
    pixels = np.zeros((PARTS // 2, 1, 8, 8), np.uint8)
    before = said_of(bundle.manifest, weigh(bundle.manifest, scored))
    return Begun(bundle, kept, pixels, "drawn", before, refitted, 0)


def figures() -> list[dict[str, Any]]:
    """tuning: all parts decided at once against one by one. tuning_move: the slowest answer over
    HTTP of sliders moved through their ranges, in parts of 100 ms."""
    from edge_qc.evidence.serving import LocalServer
    from edge_qc.inspection.decision import label_of
    from edge_qc.parts import Reading
    from edge_qc_export.tuning.site import Tuner

    begun = _begun()
    site = Tuner(begun, None, Path("nowhere"))  # type: ignore[arg-type]
    parts = begun.parts.scored
    patches = np.zeros((2, 2), np.float32)
    readings = [
        Reading(
            parts.logits[row].astype(np.float32), patches, float(parts.padim[row]),
            float(parts.embedding_distance[row]), float(parts.good_distance[row]),
        )
        for row in range(PARTS)
    ]  # fmt: skip

    def one_by_one() -> None:
        for die, reading in zip(parts.dies, readings, strict=True):
            label_of(begun.bundle, die, reading)

    note = (
        f"a move over {PARTS} parts with threshold, bounds, intervals and what changes, against "
        "the station's decision alone on them one by one"
    )
    found = [paired("tuning", lambda: site.move(OWN), one_by_one, runs=20, goal=">= 1", note=note)]
    moves = [{**OWN, "max_escape": share} for share in np.geomspace(1e-4, 0.2, 25)]
    moves += [{**OWN, name: times} for name in ("escape", "overkill") for times in (0.01, 1, 100)]
    moves += [{**OWN, "good": good} for good in (0.5, 0.9, 0.999)]
    taken = []
    with LocalServer(site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
        for move in moves * ROUNDS:
            began = time.perf_counter()
            connection.request("POST", f"/{server.secret}/move", json.dumps(move))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            taken.append(time.perf_counter() - began)
        connection.close()
        server.shutdown()
    # Of each position the median, so that a neighbour on the machine is not taken for a slow move.
    slowest = float(np.median(np.reshape(taken, (ROUNDS, len(moves))), axis=0).max())
    found.append(
        {
            "name": "tuning_move",
            "ratio": slowest / ALLOWED_S,
            "ratio_is": "slowest move/100 ms",
            "goal": "<= 1",
            "ours_median_s": float(np.median(taken)),
            "theirs_median_s": ALLOWED_S,
            "runs": len(taken),
            "note": f"edge-qc tune, {PARTS} parts, sliders through their ranges, over HTTP; median "
            f"{1e3 * float(np.median(taken)):.0f} ms, slowest position {1e3 * slowest:.0f} ms",
        }
    )
    return found
