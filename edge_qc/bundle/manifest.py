"""The manifest of a bundle: all facts about a model, as types.

How a bundle is verified and read lives in ``bundle``; what the calibration means for a verdict, in
``decision``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_qc.bundle.dies import Die
from edge_qc.parts import DRIFT, GOOD, Disposition

SCHEMA_VERSION = 1
NAME_LIMIT = 100
MANIFEST, DIGEST, SIGNATURE = "manifest.json", "manifest.sha256", "manifest.sig"
MODEL, GOLDEN = "model.onnx", "golden.npz"
OUTPUTS = ("logits", "distances", "drift", "embedding_distance")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Model):
    """The view that the graph takes: uint8 [batch, 1, height, width]."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    batch: int = Field(gt=0)
    interpolation: Literal["area", "nearest"] = "area"
    mean: tuple[float, ...]
    std: tuple[Positive, ...]


class PaDiMSpec(_Model):
    """How the patch distances were made (Defard et al. 2020)."""

    layers: tuple[str, ...]
    channels: int = Field(gt=0)
    grid: tuple[int, int]
    fit: Literal["pooled", "per-class"]
    score: Literal["max", "mean"]


class ScoreTail(_Model):
    """How often held-out known parts score at least so much.

    scores: ascending; survival: the share of held-out scores at or above each, descending.
    Beyond the last knot the survival falls as exp(-(score - last) / scale), as the tail of a
    squared Mahalanobis distance of Gaussian features does. count: how many scores it rests on.
    """

    count: int = Field(gt=0)
    scores: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(min_length=2)
    survival: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(min_length=2)
    scale: Positive

    @model_validator(mode="after")
    def _monotone(self) -> ScoreTail:
        if len(self.scores) != len(self.survival):
            raise ValueError("scores and survival differ in length")
        if any(b <= a for a, b in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("scores do not ascend")
        if any(b >= a for a, b in zip(self.survival, self.survival[1:], strict=False)):
            raise ValueError("survival does not descend")
        return self


ANY_DIE = "*"


class DriftCalibration(_Model):
    """Held-out scores of both witnesses and of their combination, by die (``*``: any die).

    combine: ``padim`` or ``embedding`` (that witness alone), ``fisher`` (-ln p1 - ln p2) or ``max``
    (the larger of the two). alpha: the share of known parts called drift at the threshold. prior:
    the share of parts that are drift, and assumed_auroc: how well the p-value tells them from known
    ones, both as the decision at least expected cost assumes them.
    """

    alpha: Fraction
    prior: Fraction
    assumed_auroc: float = Field(ge=0.5, lt=1)
    combine: Literal["padim", "embedding", "fisher", "max"]
    padim: Mapping[str, ScoreTail]
    embedding: Mapping[str, ScoreTail]
    combined: Mapping[str, ScoreTail]

    @model_validator(mode="after")
    def _any_die(self) -> DriftCalibration:
        for name in ("padim", "embedding", "combined"):
            if ANY_DIE not in getattr(self, name):
                raise ValueError(f"{name} has no entry for any die ({ANY_DIE!r})")
        return self


class DecisionRule(_Model):
    """How readings become labels. policy: ``threshold`` is the report's rule, ``expected-cost``
    the decision at least expected cost. review_margin: REVIEW where the next label costs less
    than (1 + margin) times the cheapest. dispositions: by label."""

    policy: Literal["threshold", "expected-cost"]
    review_margin: float = Field(ge=0, default=0.0)
    dispositions: Mapping[str, Disposition]


class Tolerances(_Model):
    """How far an engine may be from the golden answers: logits and distances by the largest
    difference, drift relative to the reference."""

    logits: Positive
    drift: Positive
    embedding_distance: Positive


class FileEntry(_Model):
    sha256: Sha256
    size: int = Field(ge=0)


class Manifest(_Model):
    """All facts about a model. version is monotonic: a station refuses to go back by accident."""

    schema_version: int
    version: int = Field(gt=0)
    name: str = Field(min_length=1, max_length=NAME_LIMIT)
    created: str
    producer: str
    network: str
    classes: tuple[str, ...] = Field(min_length=2)
    dies: Mapping[str, Die] = Field(min_length=1)
    input: InputSpec
    precision: Literal["fp32", "fp16"]
    opset: int
    padim: PaDiMSpec
    temperature: Positive
    drift: DriftCalibration
    decision: DecisionRule
    costs: Mapping[str, Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]]
    tolerances: Tolerances
    files: Mapping[str, FileEntry]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes repeat a name: {list(self.classes)}")
        if GOOD not in self.classes or DRIFT in self.classes:
            raise ValueError(f"classes must hold {GOOD} and not {DRIFT}, got {list(self.classes)}")
        labels = {*self.classes, DRIFT}
        if set(self.costs) != labels or any(set(row) != labels for row in self.costs.values()):
            raise ValueError(f"costs must name {sorted(labels)} in rows and columns")
        if set(self.decision.dispositions) != labels:
            raise ValueError(f"dispositions must name {sorted(labels)}")
        for label, disposition in self.decision.dispositions.items():
            if disposition is Disposition.PASS and label != GOOD:
                raise ValueError(f"disposition PASS for {label!r}: only GOOD may pass")
        for name in (MODEL, GOLDEN):
            if name not in self.files:
                raise ValueError(f"files do not name {name}")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the graph's order, then DRIFT."""
        return (*self.classes, DRIFT)

    def cost_matrix(self) -> NDArray[np.float64]:
        """(C + 1, C + 1): cost[true, predicted] in the order of ``labels``."""
        return np.array([[self.costs[t][p] for p in self.labels] for t in self.labels], np.float64)
