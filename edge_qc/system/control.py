"""The control socket: commands on this machine talk to the running station through its state
folder.

It uses datagrams, because the unit may not listen for connections. Messages are JSON: one request,
then any number of answers, the last marked ``final``. Only the station's user and root can open the
folder, and no port is open. Handlers carry out the commands; none can make a verdict.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_qc.errors import EdgeQCError

log = logging.getLogger(__name__)

_SERVER = "control"
_CLIENT = re.compile(r"client-[0-9a-f]{32}")
_LARGEST = 64 * 1024
_ALIVE_S = 1.0
_SILENCE_S = 20.0
"""How long a command waits for the station's sign of life, which comes every second."""

Handler = Callable[["Conversation"], dict[str, Any]]


class Conversation:
    """One request and its answers. gone: the client has left."""

    def __init__(self, request: dict[str, Any], send: Callable[[dict[str, Any]], bool]) -> None:
        self.request = request
        self.gone = False
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._send = send

    def tell(self, **fields: Any) -> None:
        """Send one answer that is not the last."""
        if not self._send(fields):
            self.gone = True

    def listen(self, timeout_s: float) -> dict[str, Any] | None:
        """The client's next message; None if none comes in time, or the client has left."""
        until_s = time.monotonic() + timeout_s
        while not self.gone and time.monotonic() < until_s:
            with contextlib.suppress(queue.Empty):
                return self.heard.get(timeout=_ALIVE_S / 2)
        return None


class Control:
    """The station's end. A command without a handler gets an error as its answer."""

    def __init__(self, state_dir: Path) -> None:
        """Raises EdgeQCError if the socket cannot be created."""
        self._handlers: dict[str, Handler] = {}
        self._active: dict[str, Conversation] = {}
        self._closing = False
        folder = state_dir / "run"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for left in (folder / _SERVER, *folder.glob("client-*")):
                left.unlink(missing_ok=True)
            self._socket = _bound(self._folder, _SERVER)
        except OSError as error:
            raise EdgeQCError(
                f"{folder}: cannot create the station's socket: {error}. Check that this user owns "
                "the folder"
            ) from error
        self._socket.settimeout(_ALIVE_S)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def on(self, command: str, handler: Handler) -> None:
        """Call ``handler`` on its own thread with each conversation that ``command`` begins; its
        return value is the last answer."""
        self._handlers[command] = handler

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.sendto(b"", _address(self._folder, _SERVER))
        self._thread.join()
        for conversation in list(self._active.values()):
            conversation.gone = True
        with contextlib.suppress(OSError):
            os.unlink(_SERVER, dir_fd=self._folder)
        self._socket.close()
        os.close(self._folder)

    def _run(self) -> None:
        told_s = time.monotonic()
        while not self._closing:
            try:
                datagram = self._socket.recv(_LARGEST)
                if not self._closing:
                    self._take(datagram)
            except TimeoutError:
                pass
            except (OSError, ValueError, RecursionError) as error:
                log.warning("ignored an unreadable request on the station's socket: %s", error)
            if time.monotonic() - told_s >= _ALIVE_S:
                told_s = time.monotonic()
                for conversation in list(self._active.values()):
                    if not conversation.gone:
                        conversation.tell(alive=True)

    def _take(self, datagram: bytes) -> None:
        message = json.loads(datagram)
        if not isinstance(message, dict) or not _CLIENT.fullmatch(str(message.get("client"))):
            raise ValueError("it does not name its client")
        client = message["client"]
        if (conversation := self._active.get(client)) is not None:
            conversation.heard.put(message)
            return
        conversation = Conversation(message, lambda fields: self._send(client, fields))
        self._active[client] = conversation
        threading.Thread(
            target=self._serve, args=(client, conversation), name="command", daemon=True
        ).start()

    def _serve(self, client: str, conversation: Conversation) -> None:
        command = str(conversation.request.get("command"))
        try:
            handler = self._handlers.get(command)
            if handler is None:
                raise EdgeQCError(
                    f"the station cannot take {command!r} now: it is still starting, or runs "
                    "another version of edge-qc. Try again in a moment"
                )
            answer = handler(conversation)
        except EdgeQCError as error:
            answer = {"error": str(error), "exit_status": error.exit_status}
        except Exception as error:
            log.exception("command %s failed", command)
            answer = {"error": f"{command} failed at the station: {error!r}", "exit_status": 1}
        finally:
            self._active.pop(client, None)
        self._send(client, answer | {"final": True})

    def _send(self, client: str, fields: dict[str, Any]) -> bool:
        """Whether the datagram arrived. A client that died, or stopped reading, counts as gone."""
        try:
            self._socket.sendto(
                json.dumps(fields, default=str).encode(), _address(self._folder, client)
            )
        except OSError:
            return False
        return True


class Client:
    """The command's end of one conversation. Use ``connect``."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder, self._name = folder, name
        self._socket = _bound(folder, name)
        # Root may ask, and the station's user answers.
        os.chmod(_address(folder, name), 0o666)
        self._socket.settimeout(_ALIVE_S)
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="answers", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """Take in what the station says while the command is busy, or asks a person: the station
        takes a command that stops reading for one that died."""
        while not self._closing:
            try:
                self._answers.put(self._socket.recv(_LARGEST))
            except TimeoutError:
                continue
            except OSError:
                return

    def send(self, **fields: Any) -> None:
        """Raises EdgeQCError if the station is gone."""
        try:
            self._socket.sendto(
                json.dumps(fields | {"client": self._name}).encode(),
                _address(self._folder, _SERVER),
            )
        except OSError as error:
            raise EdgeQCError(f"the station does not answer: {error}") from error

    def answers(self) -> Iterator[dict[str, Any]]:
        """The station's answers, up to the last. Raises EdgeQCError if that is an error, or the
        station goes silent."""
        while True:
            try:
                answer = json.loads(self._answers.get(timeout=_SILENCE_S))
            except queue.Empty:
                raise EdgeQCError(
                    f"no answer from the station for {_SILENCE_S:.0f} s. It has probably stopped: "
                    "see journalctl -u edge-qc"
                ) from None
            if "error" in answer:
                error = EdgeQCError(answer["error"])
                error.exit_status = int(answer["exit_status"])
                raise error
            if answer != {"alive": True}:
                yield answer
            if answer.get("final"):
                return

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        # Wakes the reader; where a station that starts has cleared the folder, its timeout does.
        with contextlib.suppress(OSError):
            self._socket.sendto(b"", _address(self._folder, self._name))
        self._thread.join()
        with contextlib.suppress(OSError):
            os.unlink(self._name, dir_fd=self._folder)
        self._socket.close()
        os.close(self._folder)


def connect(state_dir: Path, **request: Any) -> Client | None:
    """Begin a conversation with ``request``; None if no station runs. Raises EdgeQCError if this
    user may not talk to it."""
    try:
        folder = os.open(state_dir / "run", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EdgeQCError(
            f"{state_dir / 'run'}: {error}. Run this as the station's user: sudo -u edge-qc …"
        ) from error
    try:
        client = Client(folder, f"client-{uuid.uuid4().hex}")
    except OSError as error:
        os.close(folder)
        raise EdgeQCError(
            f"{state_dir / 'run'}: {error}. Run this as the station's user: sudo -u edge-qc …"
        ) from error
    try:
        client.send(**request)
    except EdgeQCError:
        client.__exit__(None, None, None)
        return None
    return client


def _bound(folder: int, name: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        bound.bind(_address(folder, name))
    except OSError:
        bound.close()
        raise
    return bound


def _address(folder: int, name: str) -> str:
    """A socket's address holds 107 bytes, and the path of a state folder may be longer."""
    return f"/proc/self/fd/{folder}/{name}"
