"""What reaches the first learning layer: computed for every batch, or once and memory-mapped.

Two sources of the same tensors. ``PlainSource`` runs the frozen trunk on each batch's views;
``CachedSource`` ran it once over all views and reads the rows from a file. On a CPU the tensors are
equal, and training cannot tell them apart. On a GPU ``PlainSource`` runs within the training's
autocast, in half the width, and ``CachedSource`` keeps what float32 gave: figures differ in their
last digits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_qc.errors import EdgeQCError
from edge_qc_export.data.mapped import make_mapped
from edge_qc_export.learn.network import Network, normalised
from edge_qc_export.learn.processes import Processes

States = tuple[Tensor, ...]
Change = Callable[[NDArray[np.uint8], NDArray[np.intp]], NDArray[np.uint8]]


class Source(Protocol):
    """Gives what ``Network.learning`` takes, for views by their row."""

    def states(self, rows: NDArray[np.intp], change: Change | None = None) -> States: ...


class PlainSource:
    """The frozen trunk on every batch. change: alters views (augmentation) before it."""

    def __init__(
        self,
        network: Network,
        pixels: NDArray[np.uint8],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
    ) -> None:
        self._network, self._pixels, self._device = network, pixels, device
        self._mean, self._std = mean, std

    def states(self, rows: NDArray[np.intp], change: Change | None = None) -> States:
        pixels = np.asarray(self._pixels[rows])
        if change is not None:
            pixels = change(pixels, rows)
        x = normalised(torch.from_numpy(pixels).to(self._device), self._mean, self._std)
        if self._device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        return self._network.frozen(x)


class CachedSource:
    """The frozen trunk once over all views, kept in ``folder`` as float32; ``close`` deletes it.

    folder: of this training alone, the same in each of its processes. Raises EdgeQCError where it
    has no room; nothing is left there then, nor when the filling is interrupted.
    """

    def __init__(
        self,
        plain: PlainSource,
        count: int,
        folder: Path,
        batch: int,
        processes: Processes,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._device, self._folder = processes.device, folder
        self._files: list[Path] = []
        try:
            self._fill(plain, count, batch, processes, advance)
        except BaseException:
            # Ctrl-C while it fills, too: gigabytes lie there.
            self.close()
            raise

    def _fill(
        self,
        plain: PlainSource,
        count: int,
        batch: int,
        processes: Processes,
        advance: Callable[[int], None],
    ) -> None:
        folder = self._folder
        shapes = [tensor.shape[1:] for tensor in plain.states(np.arange(1))]
        self._files = [folder / f"trunk-{index}.npy" for index in range(len(shapes))]
        wanted = sum(int(np.prod(shape)) for shape in shapes) * count * 4
        if processes.first:
            self._make_room(folder, shapes, count, wanted)
        processes.wait()
        arrays = [np.load(file, mmap_mode="r+") for file in self._files]
        starts = range(0, count, batch)
        for start in starts[processes.rank :: processes.count]:
            rows = np.arange(start, min(start + batch, count))
            for array, tensor in zip(arrays, plain.states(rows), strict=True):
                array[rows] = tensor.float().cpu().numpy()
            advance(len(rows) * processes.count)
        for array in arrays:
            array.flush()
        processes.wait()
        self._arrays = [np.load(file, mmap_mode="r") for file in self._files]

    def _make_room(self, folder: Path, shapes: list[torch.Size], count: int, wanted: int) -> None:
        try:
            for file, shape in zip(self._files, shapes, strict=True):
                make_mapped(file, np.float32, (count, *shape))
        except OSError as error:
            raise EdgeQCError(
                f"the frozen trunk's activations want {wanted / 2**30:.1f} GiB in {folder}: "
                f"{error.strerror}. Make room, name another folder with --cache, or train with "
                "--no-cache"
            ) from error

    def states(self, rows: NDArray[np.intp], change: Change | None = None) -> States:
        assert change is None, "augmentation changes what the trunk sees"
        return tuple(torch.from_numpy(array[rows]).to(self._device) for array in self._arrays)

    def close(self) -> None:
        """Delete the file."""
        for file in self._files:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()
