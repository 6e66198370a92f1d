"""What a person should do next about a state or an event, in one sentence. Pure.

docs/operations.md says more of most.
"""

from __future__ import annotations

_STATES = {
    "STARTING": "Wait: it accepts its engine, usually within a minute.",
    "BUILDING": "Wait: it builds the engine's plan, which takes minutes once.",
    "READY": "Start the line: it waits for triggers or frames.",
    "DEGRADED": "It continues to judge: remove the cause, then it returns to RUNNING by itself.",
    "FAULT": "It judges nothing, its parts are rejected: run sudo edge-qc doctor there.",
    "STOPPED": "An operator stopped it: start it with systemctl start edge-qc.",
    "DEAD": "Parts without a verdict are not good. Check power and network, then journalctl -u "
    "edge-qc at the station.",
    "SILENT": "Check its network and whether it hangs: run sudo edge-qc doctor there.",
    "UNKNOWN": "Check the broker and this server's network. The stations continue to judge.",
}

_EVENTS = {
    "bundle-rolled-back": "Install a bundle that is accepted; until then the previous one judges.",
    "broker-away": "Check the broker. Stations keep their messages until it is back.",
    "camera-moved": "Check the mount and the fixture; after a wanted change, edge-qc relearn.",
    "focus-lost": "Clean the lens and set the focus; after a wanted change, edge-qc relearn.",
    "golden-part-failed": "Insert the golden part again; if it fails again, stop the line.",
    "good-parts-creep": "Compare good parts of today with older ones: the process may change.",
    "lamp-ageing": "Clean or replace the lamp; after a wanted change, edge-qc relearn.",
    "late-view": "Fetch the part if it passed: a view that came later may be bad.",
    "ledger-gap": "Its disk lost messages: check the disk with sudo edge-qc doctor.",
    "mqtt-3.1.1": "Use a broker that supports MQTT 5.",
    "output-away": "Check the controller and its network; its parts are rejected.",
    "output-fault": "Check controller and ejector, then edge-qc output acknowledge.",
    "output-late": "Parts were rejected for lateness: raise deadline_ms or lower the load.",
    "output-unacknowledged": "Check that the controller's program copies the results.",
    "output-unconfirmed": "Check the ejector, fetch the part, then edge-qc output acknowledge.",
    "picture-brighter": "Check lamp and daylight; after a wanted change, edge-qc relearn.",
    "picture-sharper": "After a wanted change of the lens, edge-qc relearn.",
    "trigger-lost": "Triggers came too fast: these parts have no verdict, inspect them by hand.",
    "triggers-refused": "Its disk is full or damaged: these parts have no verdict.",
}

DRIFTING = "Look at its newest DRIFT verdicts: is it the parts, the lamp or the camera?"
PASSES_NOTHING = "Look at why views did not pass: one camera, one die or every part?"
MISSING = "Look at the list of missing messages; edge-qc outbox replay sends them again."
OUTBOX = "Check that the recorder runs: the station keeps what it has not acknowledged."


def for_state(state: str) -> str:
    """What to do about a station in this state; empty if nothing."""
    return _STATES.get(state, "")


def for_event(event: str) -> str:
    """What to do about an event, or a change to a state; empty if nothing."""
    return _EVENTS.get(event) or ("" if event in ("READY", "UNKNOWN") else for_state(event))
