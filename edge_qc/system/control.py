"""How commands on this machine speak to the running station: a local socket in its state folder.

Datagrams, since the unit forbids its service to listen for connections; JSON, one request and then
as many answers as there is to tell, the last marked ``final``. The folder is open to the station's
user and root alone, and no port is. What a command does is its handler's; none can make a verdict.
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
"""The station says every second that it is still at it; a command waits so long to hear that."""

Handler = Callable[["Conversation"], dict[str, Any]]


class Conversation:
    """One request and what is said about it. gone: the one who asked has left."""

    def __init__(self, request: dict[str, Any], send: Callable[[dict[str, Any]], bool]) -> None:
        self.request = request
        self.gone = False
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._send = send

    def tell(self, **fields: Any) -> None:
        """One answer that is not the last."""
        if not self._send(fields):
            self.gone = True

    def listen(self, timeout_s: float) -> dict[str, Any] | None:
        """What the one who asked says next; None where nothing comes, or nobody is there."""
        until_s = time.monotonic() + timeout_s
        while not self.gone and time.monotonic() < until_s:
            with contextlib.suppress(queue.Empty):
                return self.heard.get(timeout=_ALIVE_S / 2)
        return None


class Control:
    """The station's end. Commands that have no handler yet are answered so."""

    def __init__(self, state_dir: Path) -> None:
        """Raises EdgeQCError where the socket cannot be made."""
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
                f"{folder}: the station's socket cannot be made there: {error}. See that the "
                "folder is this user's"
            ) from error
        self._socket.settimeout(_ALIVE_S)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def on(self, command: str, handler: Handler) -> None:
        """Has ``handler`` called, on a thread of its own, with each conversation that ``command``
        begins; what it returns is the last answer."""
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
                log.warning("a request on the station's socket is not understood: %s", error)
            if time.monotonic() - told_s >= _ALIVE_S:
                told_s = time.monotonic()
                for conversation in list(self._active.values()):
                    conversation.tell(alive=True)

    def _take(self, datagram: bytes) -> None:
        message = json.loads(datagram)
        if not isinstance(message, dict) or not _CLIENT.fullmatch(str(message.get("client"))):
            raise ValueError("it names no client")
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
                    f"the station does not take {command!r} now: it is starting, or is another "
                    "version of edge-qc; try again"
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
        """Whether it arrived: a client that died, or reads nothing any more, is gone."""
        try:
            self._socket.sendto(
                json.dumps(fields, default=str).encode(), _address(self._folder, client)
            )
        except OSError:
            return False
        return True


class Client:
    """A command's end of one conversation. Use ``connect``."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder, self._name = folder, name
        self._socket = _bound(folder, name)
        # Root asks, the station's user answers.
        os.chmod(_address(folder, name), 0o666)
        self._socket.settimeout(_SILENCE_S)

    def send(self, **fields: Any) -> None:
        """Raises EdgeQCError where the station is gone."""
        try:
            self._socket.sendto(
                json.dumps(fields | {"client": self._name}).encode(),
                _address(self._folder, _SERVER),
            )
        except OSError as error:
            raise EdgeQCError(f"the station does not answer: {error}") from error

    def answers(self) -> Iterator[dict[str, Any]]:
        """What the station tells, to the last. Raises EdgeQCError where that is an error, or the
        station falls silent."""
        while True:
            try:
                answer = json.loads(self._socket.recv(_LARGEST))
            except TimeoutError:
                raise EdgeQCError(
                    f"the station said nothing for {_SILENCE_S:.0f} s: it has stopped"
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
        with contextlib.suppress(OSError):
            os.unlink(self._name, dir_fd=self._folder)
        self._socket.close()
        os.close(self._folder)


def connect(state_dir: Path, **request: Any) -> Client | None:
    """A conversation that ``request`` begins; None where no station runs. Raises EdgeQCError where
    this user may not speak to it."""
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
    """A socket's address has room for 107 bytes, a state folder's path may be longer."""
    return f"/proc/self/fd/{folder}/{name}"
