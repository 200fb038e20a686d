# SPDX-License-Identifier: GPL-2.0-or-later
"""The application: routes, what every request goes through, and the server that answers what is no HTTP."""

import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from agent.access import WrongCredentials
from agent.api.call import Call, check_query
from agent.api.problems import Refusal
from agent.api.refusals import CHALLENGE, refusal
from agent.api.route import PREFIX, Route
from agent.api.table import ROUTES

if TYPE_CHECKING:
    from agent.controller import Controller

log = logging.getLogger(__name__)

BACKLOG = 128
"""Connections that may wait to be accepted."""

KEEP_SECONDS = 75
"""How long an unused connection is kept; longer than nginx keeps its own (60 s)."""

SHUTDOWN_SECONDS = 5
"""How long requests may go on when the agent is told to stop."""


def create_app(controller: "Controller", *, ready: Callable[[], bool] = lambda: True) -> web.Application:
    """The API of `controller`. While `ready` says no, every endpoint answers 503."""
    app = web.Application(middlewares=[_answer_errors], client_max_size=0)
    for route in ROUTES:
        endpoint = _endpoint(route, controller, ready)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            app.router.add_route(method, PREFIX + route.path, endpoint, expect_handler=_expect)
    return app


class Listener:
    """Serves an application on a listening socket, until it is closed."""

    def __init__(self, app: web.Application, listening: socket.socket) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_SECONDS)
        self._listening = listening
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to accept connections."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        manager = self._runner.server
        assert manager is not None  # setup has made it

        settings: dict[str, Any] = {
            "auto_decompress": False,
            "access_log": None,
            "keepalive_timeout": KEEP_SECONDS,
        }

        def protocol() -> _Protocol:
            # aiohttp has no setting for the class of a connection, so the sites of its runner are not used.
            return _Protocol(manager, loop=loop, **settings)

        # From 3.13 on asyncio would remove the socket's file at the end, which is systemd's and outlives the agent.
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(protocol, sock=self._listening, backlog=BACKLOG, **keep)

    async def close(self) -> None:
        """Accept no more, answer what has been asked, and end."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()


def _endpoint(
    route: Route, controller: "Controller", ready: Callable[[], bool]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        if not ready():
            raise Refusal(503, "The appliance is starting; try again in a moment.", headers={"Retry-After": "2"})
        author = token = ""
        if not route.is_open:
            token = _bearer(request)
            try:
                author = (await asyncio.to_thread(controller.access.authenticate, token)).author
            except WrongCredentials:
                raise Refusal(
                    401,
                    "The token is not valid, or the session has ended; log in.",
                    headers={"WWW-Authenticate": CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'},
                ) from None
        # Not request.url: the host in it is the caller's word, and may be none at all.
        query = check_query(route, request.rel_url)
        if route.body is None and request.body_exists and request.content_length != 0:
            raise Refusal(400, "This endpoint takes no body.", headers={"Connection": "close"})
        return await route.handler(Call(request, route, controller, query, author, token))

    return endpoint


def _bearer(request: web.Request) -> str:
    given = request.headers.getall("Authorization", [])
    if not given:
        raise Refusal(401, "This needs a token: Authorization: Bearer TOKEN.", headers=CHALLENGE)
    scheme, _, token = given[0].partition(" ")
    token = token.strip()
    if len(given) != 1 or scheme.lower() != "bearer" or not token or not token.isascii():
        raise Refusal(401, "The header must be: Authorization: Bearer TOKEN.", headers=CHALLENGE)
    return token


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001  the one place that must miss none
        return refusal(error).answer()


async def _expect(request: web.Request) -> web.StreamResponse | None:
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what was written is no part of the answer, which may still be an error
        return None
    return refusal(web.HTTPExpectationFailed()).answer()


class _Protocol(RequestHandler):
    """A connection that answers with a problem document also what is no HTTP request."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what never reached the application. `message` is for a text that we do not show."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError("An answer had begun when the error came.")
        if status >= 500 and isinstance(exc, Exception):
            answer = refusal(exc).answer()
        else:
            log.info("A request that is not HTTP: %s", type(exc).__name__)
            answer = Refusal(status, "This is not an HTTP request that can be read.").answer()
        answer.force_close()
        return answer
