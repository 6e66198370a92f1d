"""Serves the dashboard over HTTP: static files, a stream of changes, single verdicts, labels.

Everything except logging in and labels is read-only. Pages receive JSON and insert it as text, and
may run only their own scripts, so that a name cannot inject code. ``access`` knows who asks.
starlette and uvicorn come with the extra ``dashboard``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING

from edge_qc.errors import EdgeQCError, UsageError
from edge_qc.plant.dashboard.access import Door, Proxy
from edge_qc.plant.dashboard.feed import REFRESH_S, Feed
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.login import Account, Login, Role
from edge_qc.plant.dashboard.shared_pictures import Pictures
from edge_qc.system.notify import notify

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_KEPT = "private, max-age=3600"
"""A picture never changes."""
_STREAMS = 200
_LABEL_BYTES = 8_000


def open_app(
    feed: Feed,
    login: Login | None,
    host: str = "127.0.0.1",
    evidence: Sequence[Path] = (),
    proxy: Proxy | None = None,
) -> Starlette:
    """Create the application. Without a login it answers only requests that name this machine, so
    that no foreign page can read it through a local browser. evidence: shared evidence folders of
    stations; a verdict whose image is there is shown with its pictures. proxy: one that has let
    people in."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    streams = 0
    door, pictures = Door(login, host, proxy), Pictures(evidence)

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name == "handover":
            name = "handover.html"
        file = resources.files("edge_qc.plant.dashboard") / "page" / name
        media_type = _TYPES.get(name.rpartition(".")[2])
        if media_type is None or not file.is_file():
            return Response("not found", 404)
        return Response(file.read_bytes(), media_type=media_type)

    def offers(account: Account) -> str:
        may = account.role if account.name and feed.records is not None else Role.LOOK
        return json.dumps(
            {
                "login": login is not None and proxy is None,
                "who": account.name,
                "role": may.name.lower(),
                "pictures": bool(pictures),
                "records": feed.records is not None,
            }
        )

    async def live(request: Request) -> Response:
        nonlocal streams
        try:
            chosen = Filter.of(request.query_params)
            if chosen.period is not None and feed.records is None:
                raise UsageError(
                    f"window: {chosen.period!r} needs records: edge-qc dashboard --database"
                )
        except UsageError as error:
            return Response(str(error), 400, media_type="text/plain")
        if streams >= _STREAMS:
            return Response("too many pages are open", 503)
        server = offers(request.state.account)

        async def changes() -> AsyncIterator[str]:
            nonlocal streams
            streams += 1
            try:
                sent: dict[str, str] = {}
                yield "retry: 1000\n\n"
                while True:
                    sections = dict(await asyncio.to_thread(feed.sections, chosen))
                    sections["server"] = server
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
        asked = query.get("station", ""), query.get("id", "")
        found = await asyncio.to_thread(feed.verdict, *asked)
        if found is None:
            return Response("not among the latest verdicts", 404, media_type="text/plain")

        def has_pictures() -> None:
            assert found is not None
            for view in found["views"]:
                view["pictures"] = pictures.has(view["id"])
            found["pictures"] = pictures.has(found["verdict"]["verdict_id"])

        await asyncio.to_thread(has_pictures)
        return JSONResponse(found)

    async def picture(request: Request) -> Response:
        name, asked = request.path_params["name"], request.query_params.get("id", "")
        data = await asyncio.to_thread(pictures.picture, name, asked)
        if data is None:
            return Response("no such picture", 404, media_type="text/plain")
        return Response(data, media_type="image/png", headers={"Cache-Control": _KEPT})

    async def label(request: Request) -> Response:
        refused = door.refusal(request, Role.LABEL)
        if refused is not None:
            return refused
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LABEL_BYTES:
                return Response("too long", 413)
        try:
            asked = json.loads(body)
            given = await asyncio.to_thread(feed.label, request.state.account, asked)
        except (ValueError, TypeError, AttributeError):
            return Response("wanted an object with id and label", 400, media_type="text/plain")
        except EdgeQCError as error:
            return Response(str(error), 400, media_type="text/plain")
        return JSONResponse(given)

    async def handover(request: Request) -> Response:
        if feed.records is None:
            return Response(
                "a handover needs records: edge-qc dashboard --database",
                404,
                media_type="text/plain",
            )
        try:
            last = request.query_params.get("shift") == "last"
            return JSONResponse(await asyncio.to_thread(feed.handover, last))
        except EdgeQCError as error:
            return Response(str(error), 503, media_type="text/plain")

    async def health(_request: Request) -> Response:
        told = await asyncio.to_thread(feed.health)
        return JSONResponse(told, 200 if told["ok"] else 503)

    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware

    return Starlette(
        routes=[
            Route("/", page),
            Route("/live", live),
            Route("/verdict", verdict),
            Route("/label", label, methods=["POST"]),
            Route("/handover.json", handover),
            Route("/health", health),
            Route("/picture/{name:str}", picture),
            *door.routes(),
            Route("/{name:str}", page),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=door.guard)],
    )


def serve(
    feed: Feed,
    login: Login | None,
    host: str,
    port: int,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    evidence: Sequence[Path] = (),
    proxy: Proxy | None = None,
    *,
    listens: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT, see ``open_app``; call ``listens`` and send READY=1 to systemd
    once pages are answered. Raises EdgeQCError if the address cannot be used."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                listens()
                notify("READY=1")

    config = uvicorn.Config(
        open_app(feed, login, host, evidence, proxy),
        host=host,
        port=port,
        ssl_certfile=cert_file,
        ssl_keyfile=key_file,
        log_level="critical",
        access_log=False,
        server_header=False,
        # Who asks is who connects: a header can be written by anybody.
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=1,
        limit_concurrency=2 * _STREAMS,
    )
    try:
        Server(config).run()
    except (OSError, SystemExit) as error:
        # uvicorn logs the system's error and exits.
        cause = error.__context__ if isinstance(error, SystemExit) else error
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        raise EdgeQCError(
            f"--host {host} --port {port}: cannot listen there: {why}. Choose another --port, or "
            "a --host of this machine"
        ) from error
