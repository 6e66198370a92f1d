"""A bundle released on a station: copied over ssh, built and accepted there, its report brought
back.

Nothing of ours listens on the station: the user's own ``ssh`` and its configuration decide who may.
All that runs there is ``edge-qc build``, which is what a person at the station would type.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge_qc.bundle.verification import Bundle, open_bundle
from edge_qc.errors import AcceptanceError, BundleError, DeviceError, EngineError, UsageError

_CONNECT_S = 10
_TARGET = re.compile(r"^[A-Za-z0-9_.@:%\[\]-]+$")


@dataclass(frozen=True, slots=True)
class RemoteRelease:
    """What came of it. report: the station's acceptance report; folder: where the bundle lies
    there; copied: False if it lay there already."""

    report: dict[str, Any]
    folder: str
    copied: bool


def require_station(
    target: str,
    *,
    command: str = "edge-qc",
    ssh: Sequence[str] = ("ssh",),
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Ask for edge-qc's version there, before anything is made for it. Arguments and errors as in
    ``release_on``."""
    _require_target(target)
    with _Connection(ssh, target) as station:
        _greet(station, target, command, say)


def release_on(
    bundle: Path,
    target: str,
    *,
    out: Path | None = None,
    engine: str = "tensorrt",
    folder: str = "edge-qc-bundles",
    plans: str | None = None,
    command: str = "edge-qc",
    ssh: Sequence[str] = ("ssh",),
    say: Callable[[str], None] = lambda line: None,
) -> RemoteRelease:
    """Copy the bundle to ``target``, build and accept it there, and bring the report back.

    target: what ``ssh`` takes, such as ``user@station``. out: keep the report in this file, a
    refusal too. folder: where bundles go, from the user's home. plans: the station's folder of
    plans (``edge-qc build --plans``). command: how ``edge-qc`` is called there. say: gets each line
    that the station says meanwhile, and what is being done.

    Raises UsageError for a target that ssh would take for an option, BundleError for the bundle,
    DeviceError where the station cannot be reached or has no edge-qc, EngineError where the build
    fails, AcceptanceError (with the table of what differed) where the station refuses the engine.
    """
    _require_target(target)
    checked = open_bundle(bundle)
    with _Connection(ssh, target) as station:
        _greet(station, target, command, say)
        place = f"{folder}/{checked.id[:16]}"
        arguments = [_quoted(place), "--engine", shlex.quote(engine), "--json"]
        if plans is not None:
            arguments += ["--plans", _quoted(plans)]
        build = f"{command} build {' '.join(arguments)}"
        copied = not station.holds(place, checked.id)
        while True:
            if copied:
                say(f"{target}: copying {_megabytes(checked)} MB")
                station.copy(checked, place)
            status, report, said = station.build(build, say)
            if copied or report is not None or status != BundleError.exit_status:
                break
            copied = True  # what lay there was damaged since it was copied
    if report is not None and out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if report is None or status not in (0, BundleError.exit_status):
        raise EngineError(f"{target}: the build failed there (exit status {status}):\n{said}")
    if not report.get("accepted"):
        raise AcceptanceError(f"{target}: {report.get('refusal', said)}")
    return RemoteRelease(report=report, folder=place, copied=copied)


def _require_target(target: str) -> None:
    if target.startswith("-") or not _TARGET.match(target):
        raise UsageError(f"target {target!r}: wanted what ssh takes, such as user@station")


def _greet(station: _Connection, target: str, command: str, say: Callable[[str], None]) -> None:
    version = station.ask(f"{command} --version", "is edge-qc installed there?")
    say(f"{target}: {version.strip()}")


class _Connection:
    """Commands on one host over one ssh connection, so that a password is asked for once."""

    def __init__(self, ssh: Sequence[str], target: str) -> None:
        self._target = target
        self._stack = contextlib.ExitStack()
        self._ssh = list(ssh)

    def __enter__(self) -> _Connection:
        sockets = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-qc-"))
        self._ssh += [
            f"-oConnectTimeout={_CONNECT_S}",
            "-oControlMaster=auto",
            f"-oControlPath={sockets}/%C",
            "-oControlPersist=60",
        ]
        self._stack.callback(self._hang_up)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, command: str, hint: str) -> str:
        """What a quick command prints. Raises DeviceError if it fails."""
        status, printed, said = self.run(command)
        if status:
            raise DeviceError(
                f"{self._target}: {command!r} failed there (exit status {status}): "
                f"{said.strip() or 'it said nothing'}. Can you log in with ssh, and {hint}"
            )
        return printed

    def holds(self, place: str, bundle_id: str) -> bool:
        """Whether this very bundle lies there; what lies there is verified by the build."""
        status, printed, _ = self.run(f"cat {_quoted(place)}/manifest.sha256")
        return status == 0 and printed.split()[:1] == [bundle_id]

    def copy(self, bundle: Bundle, place: str) -> None:
        """Every file of the bundle, complete or not at all. Raises DeviceError."""
        new = f"{place}.new"
        unpack = (
            f"rm -rf {_quoted(new)} && mkdir -p {_quoted(new)} && tar -xf - -C {_quoted(new)} && "
            f"rm -rf {_quoted(place)} && mv {_quoted(new)} {_quoted(place)}"
        )
        process = self._open(unpack, stdin=subprocess.PIPE)
        assert process.stdin is not None
        # A station that refuses closes the pipe; its own words are more use than ours.
        with contextlib.suppress(BrokenPipeError):
            with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
                for file in sorted(bundle.path.rglob("*")):
                    archive.add(file, str(file.relative_to(bundle.path)), recursive=False)
            process.stdin.close()
        process.stdin = None
        _, said = process.communicate()
        if process.returncode:
            raise DeviceError(
                f"{self._target}: the bundle could not be copied to {place}: "
                f"{said.decode(errors='replace').strip()}"
            )

    def build(
        self, command: str, say: Callable[[str], None]
    ) -> tuple[int, dict[str, Any] | None, str]:
        """Exit status, report if there is one, and what was said meanwhile."""
        status, printed, said = self.run(command, say)
        return status, _report(printed), said

    def run(self, command: str, say: Callable[[str], None] | None = None) -> tuple[int, str, str]:
        """Exit status, standard output and standard error; ``say`` hears the latter by line."""
        process = self._open(command, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[str] = []
        listener = threading.Thread(target=_listen, args=(process.stderr, said, say))
        listener.start()
        printed = process.stdout.read().decode(errors="replace")
        listener.join()
        return process.wait(), printed, "".join(said)

    def _open(self, command: str, stdin: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*self._ssh, "--", self._target, command],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise DeviceError(
                f"{self._ssh[0]} cannot be started: {error}. Install an ssh client"
            ) from error

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            subprocess.run(
                [*self._ssh, "-O", "exit", "--", self._target], capture_output=True, check=False
            )


def _listen(stream: IO[bytes], said: list[str], say: Callable[[str], None] | None) -> None:
    for raw in stream:
        line = raw.decode(errors="replace")
        said.append(line)
        if say is not None:
            say(line.rstrip("\n"))


def _quoted(text: str) -> str:
    """For the station's shell; a leading ``~/`` stays what it is."""
    return f"~/{shlex.quote(text[2:])}" if text.startswith("~/") else shlex.quote(text)


def _report(printed: str) -> dict[str, Any] | None:
    try:
        document = json.loads(printed)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _megabytes(bundle: Bundle) -> int:
    return sum(entry.size for entry in bundle.manifest.files.values()) >> 20
