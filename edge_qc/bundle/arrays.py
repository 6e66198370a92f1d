"""Reads the arrays of a bundle or a run: an npz without pickle, or a clear refusal."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import BundleError

_FAULTS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    BadZipFile,
    struct.error,
    zlib.error,
)
"""What zipfile and NumPy raise of a file that is cut short or altered: its header may claim any
length, kind or way of packing."""


def read_arrays(file: Path, what: str, wanted: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Every array of the file by name, those of ``wanted`` among them.

    what: what the file should be, for people. Raises BundleError if it is not whole, or lacks one.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name]) for name in arrays.files}
    except _FAULTS as error:
        raise BundleError(
            f"{file}: is not {what}, or not whole: {error or type(error).__name__}. Copy it again "
            "from where it was made"
        ) from error
    lacking = [name for name in wanted if name not in found]
    if lacking:
        raise BundleError(
            f"{file}: is not {what}: it holds {', '.join(sorted(found)) or 'nothing'}, and lacks "
            f"{', '.join(lacking)}. Copy it again from where it was made"
        )
    return found
