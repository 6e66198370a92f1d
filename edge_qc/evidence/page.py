"""The labelling page: what it shows of the kept images, and how it takes labels.

``serving`` serves it; the page is ``page.html``, ``page.css`` and ``page.js``.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from edge_qc.errors import DataError
from edge_qc.evidence.class_keys import ClassKeys
from edge_qc.evidence.labels import UNUSABLE, Label, Labels, LabelStore
from edge_qc.evidence.likeness import Likeness
from edge_qc.evidence.pictures import PICTURES
from edge_qc.evidence.serving import Document
from edge_qc.evidence.store import Exhibit, Store
from edge_qc.parts import NOT_JUDGED

_MOST = 1000
"""Images that one request may label."""


class Desk:
    """What the page shows and accepts: images, those that look alike, and labels."""

    package = "edge_qc.evidence"

    def __init__(
        self,
        store: Store,
        who: str,
        more_labels: Sequence[str] = (),
        labels: LabelStore | None = None,
    ) -> None:
        """who: the name stored with each label. more_labels: classes that the station does not know
        yet. labels: where labels go; by default into a file beside the images."""
        self.store, self.who = store, who
        self._labels = labels or Labels(store.folder)
        self._keys = ClassKeys(store.folder)
        self._lock = threading.Lock()
        self._likeness, self._comparing = Likeness(), threading.Lock()
        self._keys.of(self._of_station())
        for name in more_labels:
            self._keys.check(name)
        self._keys.of(more_labels)

    @property
    def posts(self) -> Mapping[str, Callable[[Document], Document]]:
        """See ``serving.Site``."""
        return {"label": self.label, "undo": self.undo}

    def get(self, path: str) -> Document | bytes | None:
        """See ``serving.Site``."""
        if path == "exhibits":
            return self.listing()
        if path == "groups":
            return self.groups()
        verdict_id, _, what = path.partition("/")
        exhibit = self.store.find(verdict_id)
        if exhibit is None:
            return None
        if what == "verdict":
            return exhibit.verdict()
        if what == "neighbours":
            return self.neighbours(exhibit)
        return PICTURES[what](exhibit) if what in PICTURES else None

    def listing(self) -> Document:
        """All exhibits, those without a label first, the most doubtful of them first; the classes
        with their keys."""
        given = self._labels.latest()
        found = []
        for exhibit in self.store.exhibits():
            found.append(
                {
                    "said": exhibit.label,
                    "time": exhibit.time.isoformat(timespec="milliseconds"),
                    "doubt": round(exhibit.doubt, 3),
                    **_row(exhibit.verdict_id, given.get(exhibit.verdict_id)),
                }
            )
        found.sort(key=lambda row: (row["label"] is not None, -float(str(row["doubt"]))))
        with self._lock:
            keys = self._keys.of([*self._of_station(), *(label.label for label in given.values())])
        return {"who": self.who, "labels": _as_list(keys), "exhibits": found}

    def groups(self) -> Document:
        """Images without a label that look alike, as lists of ids, the most doubtful first."""
        given = self._labels.latest()
        open_ = [one for one in self.store.exhibits() if one.verdict_id not in given]
        open_.sort(key=lambda exhibit: -exhibit.doubt)
        with self._comparing:
            return {"groups": self._likeness.groups(open_)}

    def neighbours(self, exhibit: Exhibit) -> Document:
        """The labelled images of the same die that look most like this one."""
        given = self._labels.latest()
        known = [
            one
            for one in self.store.exhibits()
            if one.verdict_id in given and given[one.verdict_id].label != UNUSABLE
        ]
        with self._comparing:
            nearest = self._likeness.nearest(exhibit, known)
        found = [
            {"id": one.verdict_id, "label": given[one.verdict_id].label, "likeness": one.likeness}
            for one in nearest
        ]
        return {"neighbours": found}

    def _of_station(self) -> list[str]:
        """The classes that the station knows."""
        known: set[str] = set()
        for exhibit in self.store.exhibits():
            known.add(exhibit.label)
            # One judged exhibit names all classes of its bundle.
            with suppress(DataError):
                if shares := exhibit.verdict().get("probabilities"):
                    known |= set(shares)
                    break
        known |= {exhibit.label for exhibit in self.store.exhibits()}
        return sorted({unicodedata.normalize("NFC", name) for name in known} - {NOT_JUDGED})

    def label(self, request: Document) -> Document:
        """Store one label for the images ``ids``, with who gave it and, if it was said, why.

        Raises DataError, and stores nothing, for an image that is not there or an unknown label.
        """
        ids = request.get("ids")
        if not isinstance(ids, list) or not 1 <= len(ids) <= _MOST:
            raise DataError(f"wanted 1 to {_MOST} images")
        exhibits = [self._exhibit(one) for one in ids]
        label, who, why = (_text(request, name) for name in ("label", "who", "why"))
        with self._lock:
            self._keys.check(label)
        given = [
            self._labels.add(one.verdict_id, label, one.label, who or self.who, why)
            for one in exhibits
        ]
        with self._lock:
            keys = self._keys.of([given[0].label])
        rows = [_row(one.verdict_id, one) for one in given]
        return {"rows": rows, "labels": _as_list(keys)}

    def undo(self, request: Document) -> Document:
        """Take labels back. ``before``: for each image its id, and the label and the why that
        counted until then; a label of None if there was none. What was given stays in the history,
        and so does that it was taken back."""
        who, given = _text(request, "who") or self.who, request.get("before")
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise DataError("wanted the labels of before, as a list")
        rows = []
        for one in given:
            verdict_id, before = _text(one, "id"), None
            self._labels.withdraw(verdict_id, who)
            if one.get("label") is not None:
                exhibit = self.store.find(verdict_id)
                said = "" if exhibit is None else exhibit.label
                before = self._labels.add(
                    verdict_id, _text(one, "label"), said, who, _text(one, "why")
                )
            rows.append(_row(verdict_id, before))
        return {"rows": rows}

    def _exhibit(self, verdict_id: object) -> Exhibit:
        exhibit = self.store.find(str(verdict_id))
        if exhibit is None:
            raise DataError("this image is no longer kept; reload the page")
        return exhibit


def _row(verdict_id: str, given: Label | None) -> dict[str, Any]:
    return {
        "id": verdict_id,
        "label": given.label if given else None,
        "who": given.who if given else None,
        "why": given.note if given else "",
    }


def _text(request: Document, name: str) -> str:
    return str(request.get(name) or "")


def _as_list(keys: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "key": key} for label, key in keys.items()]
