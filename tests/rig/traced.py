"""Commands in an empty home, and what strace saw of them, of libraries' own threads too."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TRACE = ("-f", "-qq", "--seccomp-bpf", "-s", "256", "-e", "signal=none")
_CALLS = "trace=connect,sendto,sendmmsg,openat,open,creat"


def _strace() -> tuple[str, ...]:
    """How it is called; empty where it cannot work."""
    found = shutil.which("strace")
    if found is None:
        return ()
    command = (found, *_TRACE, "-e", _CALLS)
    probe = subprocess.run([*command, "-o", os.devnull, "true"], capture_output=True, check=False)
    return command if probe.returncode == 0 else ()


@dataclass(frozen=True)
class Home:
    """Of commands that find no cache, no configuration and no compiled module of their user's."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Home:
        for name in ("home", "tmp", "traces"):
            (folder / name).mkdir(parents=True)
        return cls(folder)

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        """Of a command in this home."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XDG_", "ORT_", "MPL", "TORCH", "EDGE_QC"))
        }
        home, temporary = str(self.folder / "home"), str(self.temporary)
        return inherited | {"HOME": home, "TMPDIR": temporary, "PYTHONDONTWRITEBYTECODE": "1"}

    def traced(self, command: Sequence[object]) -> list[str]:
        """The command with strace before it, where that works."""
        strace = _strace()
        traces = self.folder / "traces"
        log = traces / str(len(list(traces.iterdir())))
        log.touch()
        return [*strace, *(("-o", str(log)) if strace else ()), *map(str, command)]

    @property
    def left(self) -> list[Path]:
        """What the commands left in their home."""
        return sorted((self.folder / "home").rglob("*"))

    @property
    def calls(self) -> list[str] | None:
        """What strace saw; None where it cannot work."""
        if not _strace():
            return None
        traces = (self.folder / "traces").iterdir()
        return [line for file in traces for line in file.read_text().splitlines()]
