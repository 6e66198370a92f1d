"""The pictures of views that stations share: their evidence folders, mounted on this machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from edge_qc.errors import DataError
from edge_qc.evidence import Exhibit, Store
from edge_qc.evidence.pictures import PICTURES

log = logging.getLogger(__name__)


class Pictures:
    """Looks through the folders in turn; one that is away only costs its pictures."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._stores = [Store(folder) for folder in folders]

    def __bool__(self) -> bool:
        return bool(self._stores)

    def has(self, verdict_id: str) -> bool:
        """Whether the image of a verdict was kept."""
        return self._exhibit(verdict_id) is not None

    def picture(self, name: str, verdict_id: str) -> bytes | None:
        """A PNG, see ``evidence.pictures``; None if there is none."""
        kept = self._exhibit(verdict_id) if name in PICTURES else None
        try:
            return None if kept is None else PICTURES[name](kept)
        except DataError as error:
            log.warning("%s", error)
            return None

    def _exhibit(self, verdict_id: str) -> Exhibit | None:
        for store in self._stores:
            try:
                if (kept := store.find(verdict_id)) is not None:
                    return kept
            except OSError as error:
                # The share is away; show the verdict without pictures.
                log.warning("evidence %s: %s", store.folder, error)
        return None
