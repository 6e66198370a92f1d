"""What a user may not do, in tests that root runs too."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def without_root(call: Callable[[], str]) -> str:
    """What ``call`` says to a user who may not open everything; root becomes nobody for it."""
    said = call()  # imports what it needs, which nobody may not be able to read
    if os.geteuid() != 0:
        return said
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writing, call().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's are not. What a test closes in it is
    opened again at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for closed in [folder, *folder.rglob("*")]:
            if closed.is_dir():
                closed.chmod(0o755)
