"""The review page's keys: one fixed letter for each class, in an order that only grows.

Kept in a file beside the images, so that a class that comes later, or another person's next
session, moves no key.
"""

from __future__ import annotations

import json
import logging
import string
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from edge_qc.errors import DataError
from edge_qc.evidence.labels import UNUSABLE
from edge_qc.parts import DRIFT, GOOD, NOT_JUDGED
from edge_qc.system.whole_file import write_whole

KEYS_FILE = "review-keys.json"
UNDO = "z"

_FIXED = {GOOD: "g", DRIFT: "d", UNUSABLE: "u"}
_NO_CLASSES = (NOT_JUDGED, "INCOMPLETE")
_TAKEN = {*_FIXED.values(), UNDO, "j", "k"}
"""``j`` and ``k`` move on and back."""
_ALL = string.ascii_lowercase + string.digits

log = logging.getLogger(__name__)


class ClassKeys:
    """The classes of the images below ``folder``, each with its key; empty once all are taken."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / KEYS_FILE
        self._known: dict[str, str] = dict(_FIXED)
        self._refresh()

    def of(self, names: Iterable[str]) -> Mapping[str, str]:
        """All classes with their keys. New names are added at the end; one that is nearly a known
        name is left out."""
        self._refresh()
        composed = (unicodedata.normalize("NFC", name.strip()) for name in names)
        new = [name for name in composed if self.nearly(name) is None and plain(name)]
        # Of two new names that are nearly equal, the first.
        for name in dict.fromkeys(new):
            if self.nearly(name) is None:
                self._known[name] = self._free(name)
        if new:
            self._write()
        return dict(self._known)

    def nearly(self, name: str) -> str | None:
        """The known class that differs from a name by case, accents, spaces or hyphens at most."""
        wanted = plain(name)
        return next((known for known in self._known if plain(known) == wanted), None)

    def check(self, name: str) -> None:
        """Raises DataError for a name that is no class, or nearly a known one."""
        self._refresh()
        if plain(name) in {plain(word) for word in _NO_CLASSES}:
            raise DataError(f"{name!r} is what a station says of itself, and no class of a part")
        known = self.nearly(name)
        if known is not None and known != unicodedata.normalize("NFC", name.strip()):
            key = f" (key {self._known[known]})" if self._known[known] else ""
            raise DataError(f"{name!r} is nearly {known!r}, which exists: choose that{key}")

    def _free(self, name: str) -> str:
        taken = _TAKEN | set(self._known.values())
        wanted = [letter for letter in plain(name) if letter in _ALL]
        return next((letter for letter in (*wanted, *_ALL) if letter not in taken), "")

    def _refresh(self) -> None:
        """Take in what another session has added meanwhile: it would get the same key."""
        before, written = self._known, self._read()
        before = {name: key for name, key in before.items() if name not in written}
        self._known = dict(_FIXED)
        for name, key in {**written, **before}.items():
            if name not in self._known:
                taken = _TAKEN | set(self._known.values())
                self._known[name] = self._free(name) if key in taken else key

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: key for name, key in found.items() if isinstance(key, str) and len(key) < 2}

    def _write(self) -> None:
        own = {name: key for name, key in self._known.items() if name not in _FIXED}
        try:
            write_whole(self._file, json.dumps(own, ensure_ascii=False, indent=1).encode())
        except OSError as error:
            # On a share that is only read the keys hold for this session.
            log.warning("the review page's keys are not kept: %s", error)


def plain(name: str) -> str:
    """What nearly equal names share: letters and digits alone, without accents, in lower case."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in letters if letter.isalnum())
