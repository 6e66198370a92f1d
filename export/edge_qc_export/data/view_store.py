"""The views of a data set, made once by ``edge_qc.inspection.view``, kept as one mapped array.

Each picture is decoded once, by the station's own ``read_image``; what is wrong with it joins the
faults of the tables, and all are raised together. Beside its pixels every view keeps a perceptual
hash, by which ``splitting`` finds near-duplicates, and the size of its picture.
Reading tables is ``dataset``'s work.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_qc.bundle.dies import Die
from edge_qc.camera.images import read_image
from edge_qc.errors import DataError, EdgeQCError
from edge_qc.inspection.alignment import Template
from edge_qc.inspection.view import Interpolation, view
from edge_qc_export.data.dataset import Sample
from edge_qc_export.data.mapped import make_mapped
from edge_qc_export.data.tables import Fault, raise_faults

HASH_SIDE = 16
"""The perceptual hash has 16 x 16 bits: at 8 x 8, different parts of one kind collide."""

_KEPT = "views", "hashes", "sizes", "placed"

Progress = Callable[[int], None]
_Names = tuple[Path, ...]
"""Where pixels, hashes, frame sizes and who was placed are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class ViewStore:
    """pixels: (n, H, W) uint8; hashes: (n, 256) bool; frame_sizes: (n, 2) int32, width and height
    of each picture; placed: (n,) bool, False where the part was looked for and may not be judged,
    and its view is cut as if it lay in its place. Rows are in the samples' order."""

    pixels: NDArray[np.uint8]
    hashes: NDArray[np.bool_]
    frame_sizes: NDArray[np.int32]
    placed: NDArray[np.bool_]

    def of_placed(self) -> ViewStore:
        """Those whose parts may be judged."""
        if self.placed.all():
            return self
        kept = self.placed
        return ViewStore(
            self.pixels[kept], self.hashes[kept], self.frame_sizes[kept], self.placed[kept]
        )


def make_views(
    root: Path,
    samples: Sequence[Sample],
    dies: Mapping[str, Die],
    size: tuple[int, int],
    interpolation: Interpolation = "area",
    *,
    templates: Mapping[str, Template] | None = None,
    folder: Path | None = None,
    faults: Sequence[Fault] = (),
    advance: Progress = lambda _: None,
) -> ViewStore:
    """The views of ``samples`` at ``size`` (rows, columns).

    templates: by die, what finds its part first. folder: where the array is kept, and found again
    while pictures, die table, size and templates are the same; None keeps it in memory. faults:
    those of the tables, raised together with those of the pictures as one DataError. advance:
    called with the number of views made since.
    """
    templates = templates or {}
    key = _key(samples, dies, size, interpolation, templates)
    names: _Names | None = None
    if folder is not None:
        names = tuple(folder / f"{what}-{key}.npy" for what in _KEPT)
    if names is not None and not faults and all(name.exists() for name in names):
        advance(len(samples))
        return ViewStore(np.load(names[0], mmap_mode="r"), *map(np.load, names[1:]))
    pixels, partial = _room(len(samples), size, names)
    hashes = np.zeros((len(samples), HASH_SIDE**2), np.bool_)
    sizes = np.zeros((len(samples), 2), np.int32)
    placed = np.ones(len(samples), np.bool_)

    def make(index: int) -> Fault | None:
        sample = samples[index]
        try:
            picture = read_image(sample.file)
        except DataError as error:
            return Fault(sample.table, sample.line, str(error))
        height, width = picture.shape[:2]
        cut = view(picture, dies[sample.die], size, interpolation, templates.get(sample.die))
        made = cut.pixels[0]
        placed[index] = cut.placement is None or not cut.placement.fault
        if not made.any() and picture.any():
            text = f"of {width}x{height} pixels lies wholly outside the box of {sample.die}"
            return Fault(
                sample.table, sample.line, f"{sample.filename} {text}; is this the set's die table?"
            )
        pixels[index] = made
        sizes[index] = width, height
        hashes[index] = imagehash.phash(Image.fromarray(made), hash_size=HASH_SIDE).hash.ravel()
        return None

    found = list(faults)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for fault in pool.map(make, range(len(samples))):
                advance(1)
                if fault is not None:
                    found.append(fault)
        raise_faults(root, sorted(found, key=lambda fault: (str(fault.file), fault.line)))
        if names is not None and partial is not None:
            pixels = _kept(pixels, (hashes, sizes, placed), partial, names)
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return ViewStore(pixels, hashes, sizes, placed)


def _kept(
    pixels: NDArray[np.uint8],
    others: tuple[NDArray[np.generic], ...],
    partial: Path,
    names: _Names,
) -> NDArray[np.uint8]:
    try:
        pixels.flush()  # type: ignore[attr-defined]
        for name, kept_beside in zip(names[1:], others, strict=True):
            np.save(name, kept_beside)
        os.replace(partial, names[0])
        kept: NDArray[np.uint8] = np.load(names[0], mmap_mode="r")
    except OSError as error:
        raise EdgeQCError(f"views: {names[0]} cannot be written ({error.strerror})") from error
    return kept


def _room(
    count: int, size: tuple[int, int], names: _Names | None
) -> tuple[NDArray[np.uint8], Path | None]:
    if names is None:
        return np.empty((count, *size), np.uint8), None
    partial = names[0].with_suffix(f".{os.getpid()}.partial")
    try:
        return make_mapped(partial, np.uint8, (count, *size)).view(np.uint8), partial
    except OSError as error:
        raise EdgeQCError(
            f"views: {partial} cannot be written ({error.strerror}); "
            f"{count * size[0] * size[1] / 2**20:.0f} MiB are wanted there. Make room, or name "
            "another folder with --cache"
        ) from error


def _key(
    samples: Sequence[Sample],
    dies: Mapping[str, Die],
    size: tuple[int, int],
    interpolation: Interpolation,
    templates: Mapping[str, Template],
) -> str:
    digest = hashlib.sha256()
    table = {name: die.model_dump() for name, die in sorted(dies.items())}
    sought = {name: template.key for name, template in sorted(templates.items())}
    digest.update(json.dumps([table, size, interpolation, sought]).encode())
    for sample in samples:
        try:
            status = sample.file.stat()
        except OSError:
            continue
        row = [sample.filename, sample.die, status.st_size, status.st_mtime_ns]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]
