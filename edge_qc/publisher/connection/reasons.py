"""MQTT 5 reason codes in a broker's answers, and the remedy for each.

OASIS, MQTT Version 5.0, tables 3-1 (CONNACK), 3-4 (PUBACK), 3-8 (SUBACK), 3-10 (DISCONNECT).
``session`` and ``mqtt`` react to them; none of them loses a message.
"""

from __future__ import annotations

from paho.mqtt.reasoncodes import ReasonCode

SUCCESSES = frozenset({0x00, 0x01, 0x02, 0x04, 0x10})
NO_SUBSCRIBERS = 0x10
"""In a PUBACK: the broker accepted the message, but its topic has no subscriber."""

SESSION_TAKEN_OVER = 0x8E
"""A DISCONNECT's: another client has connected under the same id."""

_ACCOUNT = "correct the user name, password or certificate here, or the account at the broker"
_RULES = "allow that topic to this station's account in the broker's access rules"
_LIMITS = "raise the broker's limits"
_WAIT = "the station tries again by itself"
_BUG = "report this as a bug, with the broker's name and version"
_OTHER = "name that other broker in [mqtt] host"

ADVICE: dict[int, str] = {
    0x80: "read the broker's log",
    0x81: _BUG,
    0x82: _BUG,
    0x83: "read the broker's log",
    0x84: "the broker uses another version of MQTT",
    0x85: "the broker rejects this client id; change site or name in [station]",
    0x86: _ACCOUNT,
    0x87: _ACCOUNT,
    0x88: _WAIT,
    0x89: _WAIT,
    0x8A: "the broker has banned this client; read its log",
    0x8B: _WAIT,
    0x8C: _ACCOUNT,
    0x8D: "the network delayed the keep-alive packets for longer than keepalive_s",
    0x8E: "another client uses the same id: check for two stations with the same site and name, "
    "or one that runs twice",
    0x8F: _RULES,
    0x90: _RULES,
    0x91: _WAIT,
    0x92: _BUG,
    0x93: _BUG,
    0x94: _BUG,
    0x95: "raise the broker's packet size limit (mosquitto: max_packet_size)",
    0x96: _LIMITS,
    0x97: _LIMITS,
    0x98: "an administrator closed the connection at the broker",
    0x99: _BUG,
    0x9A: "allow retained messages at the broker: …/state needs them",
    0x9B: "allow QoS 1 at the broker",
    0x9C: _OTHER,
    0x9D: _OTHER,
    0x9E: _BUG,
    0x9F: _WAIT,
    0xA0: "allow longer connections at the broker",
    0xA1: _BUG,
    0xA2: _BUG,
}


def words(reason: ReasonCode, *, topic: bool = False) -> str:
    """A refusal in the broker's words, and the remedy. topic: it concerned one topic, not the
    account."""
    advice = _RULES if topic and reason.value == 0x87 else ADVICE.get(reason.value, _BUG)
    return f"{reason} (reason code {reason.value}): {advice}"
