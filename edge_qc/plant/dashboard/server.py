"""Serves the dashboard over HTTP: static files, a stream of changes, single verdicts.

Everything except the login is read-only. Pages receive JSON and insert it as text, and may run only
their own scripts, so that a name cannot inject code. starlette and uvicorn come with the extra
``dashboard``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from edge_qc.errors import DataError, EdgeQCError, UsageError
from edge_qc.evidence import Store
from edge_qc.evidence.pictures import PICTURES
from edge_qc.plant.dashboard.feed import REFRESH_S, Feed
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.headline import Document
from edge_qc.plant.dashboard.login import COOKIE, SESSION_S, Login, is_loopback
from edge_qc.system.notify import notify

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from edge_qc.evidence import Exhibit

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_KEPT = "private, max-age=3600"
"""A picture never changes."""
_OPEN = ("/login", "/login.html", "/page.css", "/icon.svg")
_LOGIN_BYTES = 2_000
_WRONG_S = 1.0
_STREAMS = 200


def open_app(
    feed: Feed, login: Login | None, host: str = "127.0.0.1", evidence: Sequence[Path] = ()
) -> Starlette:
    """Create the application. Without a login it answers only requests that name this machine, so
    that no foreign page can read it through a local browser. evidence: shared evidence folders of
    stations; a verdict whose image is there is shown with its pictures."""
    from starlette.applications import Starlette
    from starlette.responses import RedirectResponse, Response, StreamingResponse
    from starlette.routing import Route

    streams = 0
    offers = json.dumps({"login": login is not None, "pictures": bool(evidence)})
    one_at_a_time = asyncio.Lock()

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        file = resources.files("edge_qc.plant.dashboard") / "page" / name
        media_type = _TYPES.get(name.rpartition(".")[2])
        if media_type is None or not file.is_file():
            return Response("not found", 404)
        return Response(file.read_bytes(), media_type=media_type)

    async def live(request: Request) -> Response:
        nonlocal streams
        try:
            chosen = Filter.of(request.query_params)
        except UsageError as error:
            return Response(str(error), 400, media_type="text/plain")
        if streams >= _STREAMS:
            return Response("too many pages are open", 503)

        async def changes() -> AsyncIterator[str]:
            nonlocal streams
            streams += 1
            try:
                sent: dict[str, str] = {}
                yield "retry: 1000\n\n"
                while True:
                    sections = dict(await asyncio.to_thread(feed.sections, chosen))
                    sections["server"] = offers
                    new = {name: text for name, text in sections.items() if sent.get(name) != text}
                    sent = sections
                    # Send it even if empty, to show that the server is alive.
                    body = ",".join(f'"{name}":{text}' for name, text in new.items())
                    yield f"data: {{{body}}}\n\n"
                    await asyncio.sleep(REFRESH_S)
            finally:
                streams -= 1

        return StreamingResponse(changes(), media_type="text/event-stream")

    async def verdict(request: Request) -> Response:
        query = request.query_params
        found = feed.verdict(query.get("station", ""), query.get("id", ""))
        if found is None:
            return Response("not among the latest verdicts", 404, media_type="text/plain")
        document = await asyncio.to_thread(with_pictures, found)
        return Response(json.dumps(document), media_type="application/json")

    def exhibit(verdict_id: str) -> Exhibit | None:
        for folder in evidence:
            try:
                if (kept := Store(folder).find(verdict_id)) is not None:
                    return kept
            except OSError as error:
                # The share is away; show the verdict without pictures.
                log.warning("evidence %s: %s", folder, error)
        return None

    def with_pictures(found: Document) -> Document:
        """The card, and which of its views the stations share images of."""
        for view in found["views"]:
            view["pictures"] = exhibit(view["id"]) is not None
        return {**found, "pictures": exhibit(found["verdict"]["verdict_id"]) is not None}

    def picture_of(name: str, verdict_id: str) -> bytes | None:
        kept = exhibit(verdict_id)
        try:
            return None if kept is None else PICTURES[name](kept)
        except DataError as error:
            log.warning("%s", error)
            return None

    async def picture(request: Request) -> Response:
        name = request.path_params["name"]
        data = None
        if name in PICTURES:
            asked = request.query_params.get("id", "")
            data = await asyncio.to_thread(picture_of, name, asked)
        if data is None:
            return Response("no such picture", 404, media_type="text/plain")
        return Response(data, media_type="image/png", headers={"Cache-Control": _KEPT})

    async def log_in(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LOGIN_BYTES:
                return Response("too long", 413)
        fields = parse_qs(body.decode("utf-8", "replace"))
        password = fields.get("password", [""])[0]
        async with one_at_a_time:
            right = login is not None and login.is_right(password)
            if not right:
                # One attempt a second in total.
                await asyncio.sleep(_WRONG_S)
        if not right or login is None:
            log.warning("a wrong password from %s", request.client and request.client.host)
            return RedirectResponse("/login.html#wrong", 303)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            login.session(),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def log_out(_request: Request) -> Response:
        answer = RedirectResponse("/login.html", 303)
        answer.delete_cookie(COOKIE)
        return answer

    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if login is None:
            asked = request.url.hostname or ""
            allowed = is_loopback(asked) or asked == host
            answer = await call_next(request) if allowed else Response("unknown host", 421)
        elif request.url.path in _OPEN or login.knows(request.cookies.get(COOKIE, "..")):
            answer = await call_next(request)
        elif request.url.path == "/":
            answer = RedirectResponse("/login.html", 303)
        else:
            answer = Response("log in first", 401, media_type="text/plain")
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware

    return Starlette(
        routes=[
            Route("/", page),
            Route("/live", live),
            Route("/verdict", verdict),
            Route("/picture/{name:str}", picture),
            Route("/login", log_in, methods=["POST"]),
            Route("/logout", log_out, methods=["POST"]),
            Route("/{name:str}", page),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
    )


def serve(
    feed: Feed,
    login: Login | None,
    host: str,
    port: int,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    evidence: Sequence[Path] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, see ``open_app``; send READY=1 to systemd once pages are
    answered. Raises EdgeQCError if the address cannot be used."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                notify("READY=1")

    config = uvicorn.Config(
        open_app(feed, login, host, evidence),
        host=host,
        port=port,
        ssl_certfile=cert_file,
        ssl_keyfile=key_file,
        log_level="critical",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=1,
        limit_concurrency=2 * _STREAMS,
    )
    try:
        Server(config).run()
    except (OSError, SystemExit) as error:
        raise EdgeQCError(
            f"--host {host} --port {port}: cannot listen there. Choose another --port"
        ) from error
