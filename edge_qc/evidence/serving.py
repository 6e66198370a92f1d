"""Serves a page to one person on this machine, with the standard library only.

It listens on the loopback and answers only under an address that contains a secret, and only to a
browser that names this machine, so that no other open page can read or change anything. A ``Site``
decides what it shows and accepts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Protocol
from urllib.parse import unquote

from edge_qc.errors import DataError, EdgeQCError

_LARGEST = 64 * 1024
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

Document = dict[str, Any]


class Site(Protocol):
    """What a page shows and accepts. Safe from any thread."""

    package: str
    """Where its files lie: ``page.html``, ``page.css``, ``page.js``."""

    def get(self, path: str) -> Document | bytes | None:
        """The document or the PNG at this path; None if there is none. Raises EdgeQCError."""

    @property
    def posts(self) -> Mapping[str, Callable[[Document], Document]]:
        """What the page may send, by path. Each raises EdgeQCError for what it does not accept."""


class LocalServer(ThreadingHTTPServer):
    """Serves a site on 127.0.0.1. port: 0 for any that is free."""

    daemon_threads = True

    def __init__(self, site: Site, port: int = 0) -> None:
        self.site = site
        self.secret = secrets.token_urlsafe(16)
        super().__init__(("127.0.0.1", port), _Answer)

    @property
    def url(self) -> str:
        """The address to open in a browser of this machine."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.secret}/"


class _Answer(BaseHTTPRequestHandler):
    server: LocalServer
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True
    """Headers and body are two writes: the second would wait 40 ms for the first's ACK."""

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        name = path or "page.html"
        if name in ("page.html", "page.css", "page.js"):
            data = resources.files(self.server.site.package).joinpath(name).read_bytes()
            self._send(HTTPStatus.OK, _KINDS[name.rpartition(".")[2]], data)
            return
        try:
            found = self.server.site.get(path)
        except EdgeQCError as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})
            return
        if found is None:
            self._say(HTTPStatus.NOT_FOUND, {"error": "this is not kept any more; reload the page"})
        elif isinstance(found, bytes):
            self._send(HTTPStatus.OK, "image/png", found)
        else:
            self._say(HTTPStatus.OK, found)

    def do_POST(self) -> None:
        path = self._path()
        if path is None:
            return
        length = self.headers.get("Content-Length", "")
        does = self.server.site.posts.get(path)
        if does is None or not length.isdigit() or int(length) > _LARGEST:
            self.close_connection = True
            self._say(HTTPStatus.BAD_REQUEST, {"error": "no such request"})
            return
        try:
            request = json.loads(self.rfile.read(int(length)))
            if not isinstance(request, dict):
                raise DataError("wanted an object")
            self._say(HTTPStatus.OK, does(request))
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

    def _say(self, status: HTTPStatus, document: Document) -> None:
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
