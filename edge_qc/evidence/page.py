"""The labelling page: a server on this machine's loopback, for one person.

It answers only under an address that contains a secret, and only to a browser that names this
machine, so that no other open page can read or label anything. It uses the standard library only;
the page is ``page.html``, ``page.css`` and ``page.js``.
"""

from __future__ import annotations

import json
import secrets
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import unquote

from edge_qc.errors import DataError, EdgeQCError
from edge_qc.evidence.class_keys import ClassKeys
from edge_qc.evidence.labels import Labels, LabelStore
from edge_qc.evidence.pictures import PICTURES
from edge_qc.evidence.store import Store
from edge_qc.parts import NOT_JUDGED

_LARGEST = 4096
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


class Desk:
    """What the page shows and accepts: images and labels."""

    def __init__(
        self,
        store: Store,
        who: str,
        more_labels: Sequence[str] = (),
        labels: LabelStore | None = None,
    ) -> None:
        """who: the name stored with each label. more_labels: classes that the station does not know
        yet. labels: where labels go; by default into a file beside the images."""
        self.store, self.who = store, who
        self._labels = labels or Labels(store.folder)
        self._keys = ClassKeys(store.folder)
        self._lock = threading.Lock()
        self._keys.of(self._of_station())
        for name in more_labels:
            self._keys.check(name)
        self._keys.of(more_labels)

    def listing(self) -> dict[str, Any]:
        """All exhibits, those without a label first, the most doubtful of them first; the classes
        with their keys."""
        given = self._labels.latest()
        found = []
        for exhibit in self.store.exhibits():
            mine = given.get(exhibit.verdict_id)
            found.append(
                {
                    "id": exhibit.verdict_id,
                    "said": exhibit.label,
                    "time": exhibit.time.isoformat(timespec="milliseconds"),
                    "doubt": round(exhibit.doubt, 3),
                    "label": mine.label if mine else None,
                    "who": mine.who if mine else None,
                }
            )
        found.sort(key=lambda row: (row["label"] is not None, -float(str(row["doubt"]))))
        with self._lock:
            keys = self._keys.of([*self._of_station(), *(label.label for label in given.values())])
        return {"who": self.who, "labels": _as_list(keys), "exhibits": found}

    def _of_station(self) -> list[str]:
        """The classes that the station knows."""
        known: set[str] = set()
        for exhibit in self.store.exhibits():
            known.add(exhibit.label)
            # One judged exhibit names all classes of its bundle.
            if shares := exhibit.verdict().get("probabilities"):
                known |= set(shares)
                break
        known |= {exhibit.label for exhibit in self.store.exhibits()}
        return sorted({unicodedata.normalize("NFC", name) for name in known} - {NOT_JUDGED})

    def label(self, request: dict[str, Any]) -> dict[str, Any]:
        """Store a label. Raises DataError for an image that is not there, or an unknown label."""
        exhibit = self.store.find(str(request.get("id", "")))
        if exhibit is None:
            raise DataError("this image is no longer kept; reload the page")
        label, who = str(request.get("label", "")), str(request.get("who", "") or self.who)
        with self._lock:
            self._keys.check(label)
        given = self._labels.add(exhibit.verdict_id, label, exhibit.label, who)
        with self._lock:
            keys = self._keys.of([given.label])
        return {"label": given.label, "who": given.who, "labels": _as_list(keys)}

    def undo(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a label back; ``before`` is the one that counted until then, or None. What was given
        stays in the history."""
        verdict_id, before = str(request.get("id", "")), request.get("before")
        if before is not None:
            return self.label({**request, "label": before})
        self._labels.withdraw(verdict_id, str(request.get("who", "") or self.who))
        return {"label": None, "who": None}


class ReviewServer(ThreadingHTTPServer):
    """Serves a desk on 127.0.0.1. port: 0 for any that is free."""

    daemon_threads = True

    def __init__(self, desk: Desk, port: int = 0) -> None:
        self.desk = desk
        self.secret = secrets.token_urlsafe(16)
        super().__init__(("127.0.0.1", port), _Answer)

    @property
    def url(self) -> str:
        """The address to open in a browser of this machine."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.secret}/"


class _Answer(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        try:
            self._get(path)
        except EdgeQCError as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})

    def do_POST(self) -> None:
        path = self._path()
        if path is None:
            return
        length = self.headers.get("Content-Length", "")
        if path not in ("label", "undo") or not length.isdigit() or int(length) > _LARGEST:
            self.close_connection = True
            self._say(HTTPStatus.BAD_REQUEST, {"error": "no such request"})
            return
        try:
            request = json.loads(self.rfile.read(int(length)))
            if not isinstance(request, dict):
                raise DataError("wanted an object")
            desk = self.server.desk
            answer = desk.label(request) if path == "label" else desk.undo(request)
            self._say(HTTPStatus.OK, answer)
        except (ValueError, EdgeQCError) as error:
            self._say(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _path(self) -> str | None:
        """What is asked for behind the secret; None, and answered, for who does not know it."""
        port = self.server.server_address[1]
        host = self.headers.get("Host", "")
        first, _, rest = self.path.lstrip("/").partition("/")
        known = secrets.compare_digest(first.encode(), self.server.secret.encode())
        if not known or host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.close_connection = True
            self._say(HTTPStatus.NOT_FOUND, {"error": "nothing here"})
            return None
        return unquote(rest.partition("?")[0])

    def _get(self, path: str) -> None:
        name, _, picture = path.partition("/")
        if path == "":
            self._send(HTTPStatus.OK, "text/html", _asset("page.html"))
        elif path in ("page.css", "page.js"):
            self._send(HTTPStatus.OK, _KINDS[path.rpartition(".")[2]], _asset(path))
        elif path == "exhibits":
            self._say(HTTPStatus.OK, self.server.desk.listing())
        elif (exhibit := self.server.desk.store.find(name)) is None:
            self._say(
                HTTPStatus.NOT_FOUND, {"error": "this image is no longer kept; reload the page"}
            )
        elif picture == "verdict":
            self._say(HTTPStatus.OK, exhibit.verdict())
        elif picture in PICTURES and (data := PICTURES[picture](exhibit)) is not None:
            self._send(HTTPStatus.OK, "image/png", data)
        else:
            self._say(HTTPStatus.NOT_FOUND, {"error": "there is no such picture of it"})

    def _say(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self.send_response(status)
        charset = "" if kind == "image/png" else "; charset=utf-8"
        self.send_header("Content-Type", f"{kind}{charset}")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the terminal is the person's."""


def _as_list(keys: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "key": key} for label, key in keys.items()]


def _asset(name: str) -> bytes:
    return resources.files("edge_qc.evidence").joinpath(name).read_bytes()
