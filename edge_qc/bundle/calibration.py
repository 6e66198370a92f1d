"""What a bundle's scores mean: how often labelled parts reach them, and what may pass.

``manifest`` holds all other facts about a model; what follows for a verdict is in
``edge_qc.inspection.decision``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_qc.parts import DRIFT, GOOD

if TYPE_CHECKING:
    from typing_extensions import Self

ANY_DIE = "*"
WEAK = 0.1
"""A bound above this share of a defect's parts is said to be none."""
GATE_WITNESSES = ("padim", "embedding", "classifier")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Facts(BaseModel):
    """Facts about a model: frozen, and nothing that is not named here."""

    # Built with the manifest, of which they all are parts, and not one by one at every start.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, without what the original had worked out of its own values."""
        copy = super().model_copy(update=update, deep=deep)
        for name in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[name]
        return copy


class ScoreTail(Facts):
    """How often labelled parts score at least so much.

    scores: ascending; survival: the share of those parts' scores at or above each, descending.
    Beyond the last knot the survival falls as exp(-(score - last) / scale), as the tail of a
    squared Mahalanobis distance of Gaussian features does. count: how many scores it rests on.
    """

    count: int = Field(gt=0)
    scores: tuple[Finite, ...] = Field(min_length=2)
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

    @cached_property
    def surprises(self) -> tuple[float, ...]:
        """-ln ``survival``, ascending: each verdict reads them."""
        return tuple(-math.log(share) for share in self.survival)


class DriftCalibration(Facts):
    """Scores of known parts by both witnesses and by their combination, by die (``*``: any die).

    combine: ``padim`` or ``embedding`` (that witness alone), ``fisher`` (-ln p1 - ln p2) or ``max``
    (the larger of the two). alpha: the share of known parts called drift at the threshold. prior:
    the share of parts that are drift; assumed_auroc: how well the p-value tells them from known
    ones, measured by leaving each defect out in turn, or assumed if there is none to leave out.
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


class Passed(Facts):
    """How many labelled bad parts of a kind the gate lets pass, and what that bounds.

    images: scored by a model that had not learned from them; passed: how many of them pass; at
    most: the share that passes, at the bound's confidence. left_out: the share that would pass had
    the model learned nothing of this defect; None where that was not measured.
    """

    images: Count
    passed: Count
    at_most: Share
    left_out: Share | None = None

    @property
    def weak(self) -> bool:
        """Whether so few images bound nothing worth the name."""
        return self.at_most > WEAK


class GateBound(Facts):
    """What the gate's threshold rests on, and what it bounds.

    max_escape, confidence: what was asked for. bad: all labelled bad parts that the bound counts,
    and by_class each defect. needed: how many more bad parts, of which none may pass, the wish
    takes; 0 if it is met. seen: further bad parts that the network's trunk had learned from, so
    that they set the threshold and are not counted; seen_passed: how many of them pass. good:
    labelled GOOD parts, without those that the trunk had learned from if there are others;
    good_passed: the share of them that passes gate and costs. added: those of ``bad`` that
    calibrations brought; None if there was none.
    """

    max_escape: Fraction
    confidence: Fraction
    bad: Passed
    by_class: Mapping[str, Passed]
    needed: Count
    seen: Count = 0
    seen_passed: Count = 0
    good: int = Field(gt=0)
    good_passed: Share
    added: Passed | None = None

    @property
    def met(self) -> bool:
        """Whether escapes are bounded as was asked for."""
        return self.bad.images > 0 and self.bad.at_most <= self.max_escape


class Evidence(Facts):
    """ln (density of a known defect's score / density of GOOD's) = offset + slope * score."""

    slope: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    offset: Finite


class GateCalibration(Facts):
    """How unlike GOOD a part may be and pass.

    witnesses: scores of labelled GOOD parts by ``padim`` (the image's score of patch distances to
    GOOD), ``embedding`` (distance to GOOD) and ``classifier`` (the largest of a defect's logit
    minus GOOD's), by die. A part's score is the sum of their -ln p (Fisher's), each times its
    weight. threshold: by die; a part's score must stay below it. mix: the line's shares, by label,
    as the decision takes them; learned: the labelled images' shares by class. evidence: None where
    there was no defect to learn from. bound: what the threshold bounds; None for GOOD alone, which
    bounds no escapes.
    """

    witnesses: Mapping[str, Mapping[str, ScoreTail]]
    weights: Mapping[str, Positive]
    threshold: Mapping[str, Finite]
    mix: Mapping[str, Share]
    learned: Mapping[str, Share]
    evidence: Evidence | None = None
    bound: GateBound | None = None

    @model_validator(mode="after")
    def _consistent(self) -> GateCalibration:
        named = set(self.witnesses)
        if not {"padim", "embedding"} <= named <= set(GATE_WITNESSES):
            raise ValueError(f"witnesses: wanted {', '.join(GATE_WITNESSES)}, or the first two")
        if set(self.weights) != named:
            raise ValueError(f"weights must name {sorted(named)}")
        lacking = [name for name, tails in self.witnesses.items() if ANY_DIE not in tails]
        if lacking or ANY_DIE not in self.threshold:
            what = [*lacking, "threshold"][0]
            raise ValueError(f"{what} has no entry for any die ({ANY_DIE!r})")
        if GOOD not in self.mix or DRIFT not in self.mix or not 0 < self.mix[GOOD] < 1:
            raise ValueError(f"mix must name {GOOD} and {DRIFT}, with {GOOD} between 0 and 1")
        if "classifier" in self.witnesses and any(share <= 0 for share in self.learned.values()):
            raise ValueError("learned: every class that is told apart has a share above 0")
        if abs(sum(self.mix.values()) - 1) > 1e-6:
            raise ValueError(f"mix adds up to {sum(self.mix.values()):g}, wanted 1")
        return self


class Calibrated(Facts):
    """One calibration: the same network, with thresholds that more labelled parts set.

    id, version: of the bundle that it began with. time: RFC 3339, UTC. source: the station or
    folder that the parts came from; sessions: their days, lots or shifts, none if they are not
    known. good, bad: how many parts were added. passed_before, passed_after: the share of the added
    GOOD parts that passes, by the rule before and by this one; None without such a part.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    version: int = Field(gt=0)
    time: str
    source: str = Field(min_length=1)
    sessions: tuple[str, ...]
    good: Count
    bad: Count
    passed_before: Share | None = None
    passed_after: Share | None = None

    @property
    def sentence(self) -> str:
        """For whoever decides whether to install the bundle."""
        when = f", {self.sessions[0]}" if self.sessions else ""
        if len(self.sessions) > 1:
            when += f" to {self.sessions[-1]}"
        said = (
            f"from version {self.version} ({self.id[:12]}) on {self.time} with {self.good} {GOOD} "
            f"and {self.bad} bad parts of {self.source}{when}"
        )
        if self.passed_before is not None and self.passed_after is not None:
            said += (
                f": of these {GOOD} parts {self.passed_before:.1%} passed before, "
                f"{self.passed_after:.1%} pass now"
            )
        return said


def sentences(bound: GateBound | None) -> list[str]:
    """What a gate bounds, in the words of whoever decides whether to install it."""
    if bound is None:
        return [
            "escapes are not bounded: no defect was there to set a threshold by, so the gate stops "
            "a share of GOOD parts and nobody knows which share of bad ones"
        ]
    bad = bound.bad
    said = [
        f"escapes at most {bad.at_most:.2%} of bad parts, {bound.confidence:.0%} sure: "
        f"{bad.passed} of {bad.images} labelled bad parts pass"
        if bad.images
        else "escapes are not bounded: the network's trunk learned from every bad part"
    ]
    if bound.added is not None:
        said.append(
            f"{bound.added.images} of these bad parts came with a calibration, from a station: "
            f"{bound.added.passed} of them pass"
        )
    if not bound.met:
        said.append(
            f"not the {bound.max_escape:.2%} that was wished: {bound.needed} more bad images "
            "wanted, of which none passes"
        )
    if bound.seen:
        said.append(
            f"{bound.seen_passed} of {bound.seen} further bad parts pass, from which the network's "
            "trunk had learned: they set the threshold and prove nothing"
        )
    said.append(
        f"{bound.good_passed:.1%} of labelled GOOD parts pass ({bound.good} images); "
        "the line's may differ from them"
    )
    few = [f"{name} ({kind.images})" for name, kind in bound.by_class.items() if kind.weak]
    if few:
        said.append(f"too few images for a bound worth the name: {', '.join(few)}")
    unseen = {name: kind.left_out for name, kind in bound.by_class.items()}
    measured = {name: share for name, share in unseen.items() if share is not None}
    if measured:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in measured.items())
        said.append(f"had a defect never been seen, so many of its parts would pass: {shares}")
    return said
