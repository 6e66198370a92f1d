"""The manifest of a bundle: all facts about a model, as types.

How a bundle is verified and read lives in ``bundle``; what the calibration means for a verdict, in
``decision``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_qc.bundle.alignment import ALIGNMENT, Alignment
from edge_qc.bundle.calibration import (
    Calibrated,
    DriftCalibration,
    Facts,
    GateCalibration,
    Positive,
)
from edge_qc.bundle.dies import Die
from edge_qc.parts import DRIFT, GOOD, Disposition

SCHEMA_VERSION, ALIGNED_VERSION = 2, 3
"""What an export writes; the second where parts are found before views are cut, so that a station
that does not know how refuses the bundle. A station also reads 1: there no gate stands before
GOOD."""
READABLE = (1, SCHEMA_VERSION, ALIGNED_VERSION)
NAME_LIMIT = 100
MOST_VERSION = 2**31 - 1
"""What the plant's database holds. A time in seconds fits until 2038; a date and time written as
one number, such as 202611051230, does not."""
MANIFEST, DIGEST, SIGNATURE = "manifest.json", "manifest.sha256", "manifest.sig"
MODEL, GOLDEN, PARTS = "model.onnx", "golden.npz", "parts.npz"
OUTPUTS = ("logits", "distances", "drift", "embedding_distance", "good_distance")
"""What the graph answers; in bundles of schema 1 without the last."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class InputSpec(Facts):
    """The view that the graph takes: uint8 [batch, 1, height, width]."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    batch: int = Field(gt=0)
    interpolation: Literal["area", "nearest"] = "area"
    mean: tuple[float, ...]
    std: tuple[Positive, ...]


class PaDiMSpec(Facts):
    """How the patch distances were made (Defard et al. 2020).

    fit: of schema 2 on the parts that are GOOD alone; before it ``pooled`` or ``per-class`` over
    all. score: an image's, from its patches: the largest, the mean, or the mean of the ``largest``
    share of them.
    """

    layers: tuple[str, ...]
    channels: int = Field(gt=0)
    grid: tuple[int, int]
    fit: Literal["good", "pooled", "per-class"]
    score: Literal["max", "mean", "largest"]
    largest: float | None = Field(default=None, gt=0, le=1)


class DecisionRule(Facts):
    """How readings become labels. policy: ``threshold`` is the report's rule, ``expected-cost``
    the decision at least expected cost. review_margin: REVIEW where the next label costs less
    than (1 + margin) times the cheapest. dispositions: by label."""

    policy: Literal["threshold", "expected-cost"]
    review_margin: float = Field(ge=0, default=0.0)
    dispositions: Mapping[str, Disposition]


class Tolerances(Facts):
    """How far an engine may be from the golden answers: logits and distances by the largest
    difference, drift relative to the reference; ``embedding_distance`` also for the distance to
    GOOD."""

    logits: Positive
    drift: Positive
    embedding_distance: Positive


class FileEntry(Facts):
    sha256: Sha256
    size: int = Field(ge=0)


class Manifest(Facts):
    """All facts about a model. version is monotonic: a station refuses to go back by accident.
    calibrated: the calibrations since the export, the first one first; None without one."""

    schema_version: int
    version: int = Field(gt=0)
    name: str = Field(min_length=1, max_length=NAME_LIMIT)
    created: str
    producer: str
    network: str
    classes: tuple[str, ...] = Field(min_length=1)
    dies: Mapping[str, Die] = Field(min_length=1)
    alignment: Alignment | None = None
    input: InputSpec
    precision: Literal["fp32", "fp16"]
    opset: int
    padim: PaDiMSpec
    temperature: Positive
    gate: GateCalibration | None = None
    drift: DriftCalibration
    decision: DecisionRule
    costs: Mapping[str, Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]]
    tolerances: Tolerances
    files: Mapping[str, FileEntry]
    calibrated: Annotated[tuple[Calibrated, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.version > MOST_VERSION:
            raise ValueError(
                f"version {self.version}: wanted at most {MOST_VERSION}, the largest that a "
                "plant's database holds"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes repeat a name: {list(self.classes)}")
        if GOOD not in self.classes or DRIFT in self.classes:
            raise ValueError(f"classes must hold {GOOD} and not {DRIFT}, got {list(self.classes)}")
        labels = {*self.classes, DRIFT}
        if (self.gate is None) is (self.schema_version > 1):
            raise ValueError("schema versions 2 and 3 have a gate, version 1 has none")
        if (self.alignment is None) is (self.schema_version == ALIGNED_VERSION):
            raise ValueError("schema version 3 has an alignment, versions 1 and 2 have none")
        if self.alignment is not None and set(self.alignment.dies) != set(self.dies):
            raise ValueError(f"alignment: must name the dies {sorted(self.dies)}")
        if self.gate is None and len(self.classes) < 2:
            raise ValueError("without a gate there must be a defect beside GOOD")
        if self.gate is not None and set(self.gate.mix) != labels:
            raise ValueError(f"gate: mix must name {sorted(labels)}")
        if set(self.costs) != labels or any(set(row) != labels for row in self.costs.values()):
            raise ValueError(f"costs must name {sorted(labels)} in rows and columns")
        if set(self.decision.dispositions) != labels:
            raise ValueError(f"dispositions must name {sorted(labels)}")
        for label, disposition in self.decision.dispositions.items():
            if disposition is Disposition.PASS and label != GOOD:
                raise ValueError(f"disposition PASS for {label!r}: only GOOD may pass")
        for name in (MODEL, GOLDEN, *((ALIGNMENT,) if self.alignment is not None else ())):
            if name not in self.files:
                raise ValueError(f"files do not name {name}")
        return self

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes in the graph's order, then DRIFT."""
        return (*self.classes, DRIFT)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the graph answers, by name."""
        return OUTPUTS[:-1] if self.gate is None else OUTPUTS

    @cached_property
    def cost_rows(self) -> tuple[tuple[float, ...], ...]:
        """C + 1 rows of C + 1: cost[true][predicted] in the order of ``labels``."""
        return tuple(tuple(self.costs[t][p] for p in self.labels) for t in self.labels)
