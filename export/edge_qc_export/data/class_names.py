"""What a class may be called, and which spellings are one class.

Which class a text means is said where costs are read, which station and plant do too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_qc.parts import DRIFT, GOOD, NOT_JUDGED, Disposition

RESERVED = (NOT_JUDGED, *(disposition.value for disposition in Disposition), "INCOMPLETE")
"""Words that a verdict or a part says of itself; no class has one of them for a name."""


def is_reserved(label: str) -> bool:
    """Whether a verdict uses the word itself, in any case and with any sign between its words."""
    return _word(label) in {_word(name) for name in RESERVED}


def _word(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def spelling_faults(spellings: Mapping[str, Iterable[str]]) -> list[str]:
    """What is wrong with the names of classes, by the spellings that each label has."""
    faults = []
    for label, written in spellings.items():
        different = sorted(set(written))
        if len(different) > 1 and label != DRIFT:
            shown = " and ".join(
                ascii(name) if not name.isascii() else repr(name) for name in different
            )
            faults.append(
                f"the class {label!r} is written in {len(different)} ways, {shown}; write one"
            )
        if is_reserved(label):
            faults.append(
                f"the class {label!r} has a name that verdicts use themselves "
                f"({', '.join(RESERVED)}); name it otherwise"
            )
    return faults


def spelling_notes(spellings: Mapping[str, Iterable[str]]) -> list[str]:
    """What to say of names that were taken for GOOD."""
    others = sorted(name for name in spellings.get(GOOD, ()) if name != GOOD)
    return [f"the class {name!r} is taken as {GOOD}" for name in others]
