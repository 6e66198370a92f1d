"""Which frames of a film or stream show damage: those whose own data were damaged, and those that
were predicted from one of them, up to the next whole key frame.

Frames go by the number of the packet that they were decoded from, in the order of decoding, which
is not the order of showing. ``decoding`` decides what counts as damage.
"""

from __future__ import annotations


class Damage:
    """One decoder's. Numbers grow from 0; a new decoder needs a new one."""

    def __init__(self) -> None:
        self._why: dict[int, str] = {}
        self._unseen: set[int] = set()
        self._key = -1
        self._held = 0

    def note(self, packet: int, why: str) -> None:
        """The packet, or what was sent before it, is damaged."""
        self._why.setdefault(packet, why)
        self._unseen.add(packet)

    def of(self, packet: int, key: bool) -> str:
        """Why the frame of this packet cannot be judged, "" if it can be. key: it refers to no
        other frame, so that what follows it is whole again."""
        self._unseen.discard(packet)
        own = self._why.get(packet, "")
        if key and not own:
            self._key = max(self._key, packet)
            self._why = {number: why for number, why in self._why.items() if number > self._key}
        if own:
            return f"damaged ({own})"
        # A frame that is shown before the key frame but decoded after it may still lean on what
        # lies before: the key frame has not come out yet, so the damage is still known here.
        before = [number for number in self._why if number < packet]
        if not before:
            return ""
        return f"predicted from a damaged one ({self._why[max(before)]}); wanted a key frame first"

    def lost(self, packet: int | None, sent: int) -> list[str]:
        """Why frames never came that should have come by this packet's; None: the film is over.
        sent: the last packet that the decoder has taken, which tells how long it holds frames."""
        if packet is not None:
            self._held = max(self._held, sent - packet)
        gone = sorted(n for n in self._unseen if packet is None or n + self._held < packet)
        self._unseen.difference_update(gone)
        return [self._why.get(number, "before a key frame") for number in gone]
