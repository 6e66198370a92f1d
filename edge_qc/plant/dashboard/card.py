"""What the card of a verdict says in words: why, the three likeliest labels, the costs. Pure."""

from __future__ import annotations

from typing import Any

from edge_qc.parts import DRIFT, GOOD, NOT_JUDGED, Disposition
from edge_qc.publisher import VerdictMessage

Document = dict[str, Any]

_LABELS = 3
_WORDS = 300


def card(message: VerdictMessage) -> Document:
    """``sentence``; ``labels``, the likeliest with their ``share`` from 0 to 1; ``cost``, empty if
    nothing was judged."""
    likeliest = sorted(message.probabilities.items(), key=lambda pair: -pair[1])[:_LABELS]
    return {
        "sentence": _sentence(message),
        "labels": [{"label": label, "share": share} for label, share in likeliest],
        "cost": _cost(message),
    }


def _sentence(message: VerdictMessage) -> str:
    what = message.die or "This view"
    if message.label == NOT_JUDGED:
        detail = f": {message.detail[:_WORDS]}" if message.detail else ""
        return (
            f"{what} was not judged ({message.reason.value}){detail}. A part without a verdict is "
            "not good."
        )
    sure = message.probabilities.get(message.label)
    share = "" if sure is None else f" ({_percent(sure)})"
    if message.disposition is Disposition.PASS:
        door = ", and the gate to GOOD is open" if message.gate is not None else ""
        return f"{what} passed: it looks {GOOD}{share}{door}."
    does = "was rejected" if message.disposition is Disposition.REJECT else "needs a person"
    if message.label == DRIFT:
        p = "" if message.drift is None else f" (p = {message.drift.p_value:.2g})"
        return f"{what} {does}: it is unlike everything that the model learned{p}."
    if message.label == GOOD:
        return f"{what} {does}: it looks {GOOD}{share}, but another label costs nearly as little."
    shares = message.probabilities
    if GOOD not in shares or shares[GOOD] < max(shares.values()):
        return f"{what} {does}: it looks like {message.label}{share}."
    gate = message.gate
    but = f"{message.label} costs less"
    if gate is not None and gate.score >= gate.threshold:
        but = (
            f"the gate to GOOD is closed (score {gate.score:.3g}, open below {gate.threshold:.3g}),"
            f" so it is called {message.label}"
        )
    return f"{what} {does}: its likeliest class is {GOOD} ({_percent(shares[GOOD])}), but {but}."


def _cost(message: VerdictMessage) -> str:
    costs = message.expected_cost
    if message.label not in costs:
        return ""
    told = f"Called {message.label}, it costs {_amount(costs[message.label])} on average"
    others = {label: cost for label, cost in costs.items() if label != message.label}
    if not others:
        return f"{told}."
    next_best = GOOD if GOOD in others else min(others, key=lambda label: others[label])
    return (
        f"{told}; called {next_best}, it would cost {_amount(others[next_best])} (by the bundle's "
        "cost matrix)."
    )


def _amount(cost: float) -> str:
    return f"{cost:,.0f}" if abs(cost) >= 100 else f"{cost:.3g}"


def _percent(share: float) -> str:
    # Never rounded up to certainty.
    return f"{int(share * 1000) / 10:g} %"
