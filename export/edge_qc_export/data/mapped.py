"""Large arrays kept in files and mapped into memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray


def make_mapped(file: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """A new writable array in a ``.npy`` file, its folder made, its blocks claimed: without that a
    full disk would end the process with SIGBUS at some later assignment. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, array.offset + array.nbytes)
    except OSError:
        file.unlink(missing_ok=True)
        raise
    return array
