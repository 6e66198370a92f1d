"""The door of the dashboard's server: who asks, logging in and out, and the headers of each answer.

``login`` knows accounts and sessions. A person is known by a session, or by the header of a reverse
proxy that has let them in; without either, only requests that name this machine are answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from edge_qc.plant.dashboard.login import (
    COOKIE,
    SESSION_S,
    Account,
    Login,
    Role,
    is_loopback,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

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
WANTED = "x-edge-qc"
"""A header that only the dashboard's own page can send, since it makes a browser ask first."""

_OPEN = ("/login", "/login.html", "/login.js", "/page.css", "/icon.svg", "/login/names")
_LOGIN_BYTES = 2_000
_WRONG_S = 1.0


@dataclass(frozen=True, slots=True)
class Proxy:
    """A reverse proxy that lets people in. header: in which it names them. addresses: from which it
    asks; the header of anybody else is ignored."""

    header: str
    addresses: Sequence[str]


class Door:
    """Knows who asks. login: None where only this machine's users come."""

    def __init__(self, login: Login | None, host: str, proxy: Proxy | None = None) -> None:
        self.login, self._host, self._proxy = login, host, proxy
        self._one_at_a_time = asyncio.Lock()

    def who(self, request: Request) -> Account | None:
        """The account of a request; None if it has none."""
        if self._proxy is not None and request.client is not None:
            name = request.headers.get(self._proxy.header, "")
            if name and request.client.host in self._proxy.addresses:
                login = self.login or Login({})
                return login.known(name[:64])
        if self.login is None:
            asked = request.url.hostname or ""
            return Account("", Role.LOOK) if is_loopback(asked) or asked == self._host else None
        return self.login.of_session(request.cookies.get(COOKIE, ".."))

    async def guard(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answer only whom we know."""
        from starlette.responses import RedirectResponse, Response

        account = self.who(request)
        request.state.account = account
        path = request.url.path
        opened = path == "/health" or (self.login is not None and path in _OPEN)
        if account is not None or opened:
            answer = await call_next(request)
        elif self.login is None:
            answer = Response("unknown host", 421)
        elif path in ("/", "/handover"):
            answer = RedirectResponse("/login.html", 303)
        else:
            answer = Response("log in first", 401, media_type="text/plain")
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    def refusal(self, request: Request, role: Role) -> Response | None:
        """What to answer to a change that this account may not make; None if it may."""
        from starlette.responses import Response

        account: Account | None = request.state.account
        if request.headers.get(WANTED) != "1":
            return Response("not from the dashboard's own page", 403)
        if account is None or not account.name or account.role < role:
            who = "nobody" if account is None or not account.name else account.name
            return Response(
                f"{who} may not do this: it needs an account with the role {role.name.lower()}",
                403,
                media_type="text/plain",
            )
        return None

    def routes(self) -> list[Route]:
        """Logging in and out."""
        from starlette.routing import Route

        return [
            Route("/login", self._log_in, methods=["POST"]),
            Route("/login/names", self._names),
            Route("/logout", self._log_out, methods=["POST"]),
        ]

    async def _names(self, _request: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(self.login is not None and self.login.names)

    async def _log_in(self, request: Request) -> Response:
        from starlette.responses import RedirectResponse, Response

        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LOGIN_BYTES:
                return Response("too long", 413)
        fields = parse_qs(body.decode("utf-8", "replace"))
        name, password = (fields.get(field, [""])[0] for field in ("name", "password"))
        async with self._one_at_a_time:
            account = None
            if self.login is not None:
                account = await asyncio.to_thread(self.login.check, name, password)
            if account is None:
                # One attempt a second in total.
                await asyncio.sleep(_WRONG_S)
        if account is None or self.login is None:
            log.warning("a wrong password from %s", request.client and request.client.host)
            return RedirectResponse("/login.html#wrong", 303)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            self.login.session(account),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _log_out(self, _request: Request) -> Response:
        from starlette.responses import RedirectResponse

        answer = RedirectResponse("/login.html", 303)
        answer.delete_cookie(COOKIE)
        return answer
