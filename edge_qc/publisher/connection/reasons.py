"""MQTT 5's reason codes in a broker's answers: what each asks of a person.

OASIS, MQTT Version 5.0, tables 3-1 (CONNACK), 3-4 (PUBACK), 3-8 (SUBACK), 3-10 (DISCONNECT). What
the station does about them is ``session``'s and ``mqtt``'s; none of them loses a message.
"""

from __future__ import annotations

from paho.mqtt.reasoncodes import ReasonCode

SUCCESSES = frozenset({0x00, 0x01, 0x02, 0x04, 0x10})
NO_SUBSCRIBERS = 0x10
"""A PUBACK's: the broker took the message, and nobody has subscribed to its topic."""

_ACCOUNT = "correct the user name, password or certificate given here, or the broker's accounts"
_RULES = "allow that topic to this station's account in the broker's access rules"
_LIMITS = "raise the broker's limits"
_WAIT = "the station tries again by itself"
_BUG = "this should not happen: report it with the broker's name and version"
_OTHER = "name that other broker in [mqtt] host"

ADVICE: dict[int, str] = {
    0x80: "see the broker's log",
    0x81: _BUG,
    0x82: _BUG,
    0x83: "see the broker's log",
    0x84: "the broker speaks another version of MQTT",
    0x85: "the broker wants another client id; site and name in [station] make it",
    0x86: _ACCOUNT,
    0x87: _ACCOUNT,
    0x88: _WAIT,
    0x89: _WAIT,
    0x8A: "the broker has banned this client; see its log",
    0x8B: _WAIT,
    0x8C: _ACCOUNT,
    0x8D: "the network held the station's signs of life up for longer than keepalive_s",
    0x8E: "another client uses the same id: two stations have the same site and name, or one runs "
    "twice",
    0x8F: _RULES,
    0x90: _RULES,
    0x91: _WAIT,
    0x92: _BUG,
    0x93: _BUG,
    0x94: _BUG,
    0x95: "raise the size of packets that the broker takes (mosquitto: max_packet_size)",
    0x96: _LIMITS,
    0x97: _LIMITS,
    0x98: "somebody ended the connection at the broker",
    0x99: _BUG,
    0x9A: "have the broker allow retained messages: …/state needs them",
    0x9B: "have the broker allow QoS 1",
    0x9C: _OTHER,
    0x9D: _OTHER,
    0x9E: _BUG,
    0x9F: _WAIT,
    0xA0: "have the broker allow longer connections",
    0xA1: _BUG,
    0xA2: _BUG,
}


def words(reason: ReasonCode, *, topic: bool = False) -> str:
    """A refusal in the broker's words, and what to do. topic: it was about one, not the account."""
    advice = _RULES if topic and reason.value == 0x87 else ADVICE.get(reason.value, _BUG)
    return f"{reason} (reason code {reason.value}): {advice}"
