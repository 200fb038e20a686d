# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP check: whether the backend answers a request as it should."""

from time import perf_counter

from aiohttp import (
    BaseConnector,
    ClientConnectorError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)
from yarl import URL

from agent.health.probe import Answer, CheckFailed, CheckNotMade, failure
from agent.health.target import Target
from agent.model import HttpCheck
from agent.model.checks.http import HttpRequest
from agent.model.checks.pattern import compiled

MOST_BODY = 65_536
"""Bytes of a body that are read: a backend that never ends costs no more."""
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_ALWAYS = {"User-Agent": "Sluice-check", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}


class HttpProbe:
    """Asks once by a connection of its own.

    Names are not looked up, proxies not used, cookies not kept, and nothing but the backend's address and port is asked
    ever, wherever it redirects to: what a backend answers cannot have the appliance ask others.
    """

    type = "http"

    def label(self, target: Target) -> str:
        """The port."""
        return f"{self.type.upper()} port {target.port}"

    async def probe(self, target: Target) -> Answer:
        """Ask once. Raises CheckFailed with the reason, or CheckNotMade."""
        check = target.check
        assert isinstance(check, HttpCheck)
        return await self.ask(target, check, TCPConnector(force_close=True))

    async def ask(self, target: Target, check: HttpRequest, connector: BaseConnector) -> Answer:
        """Ask once, by connections of this connector. Raises CheckFailed with the reason, or CheckNotMade."""
        start = perf_counter()
        try:
            async with ClientSession(
                # The checker has the clock; the client's own would end a try sooner, and in other words.
                timeout=ClientTimeout(),
                connector=connector,
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
            ) as session:
                status = await self._follow(session, target, check)
        except (ClientError, OSError, ValueError) as error:
            raise self.not_well(error, target) from None
        return Answer(perf_counter() - start, f"status {status}")

    def not_well(self, error: ClientError | OSError | ValueError, target: Target) -> CheckFailed | CheckNotMade:  # noqa: ARG002  other protocols have words of their own
        """What an error means."""
        if isinstance(error, ClientConnectorError):
            return failure(error.os_error)
        if isinstance(error, ServerDisconnectedError):
            return CheckFailed("the connection was closed without an answer")
        if isinstance(error, OSError):
            return failure(error)
        if isinstance(error, ClientPayloadError):
            return CheckFailed("the answer broke off")
        # Not the library's own words: they hold what the backend sent.
        return CheckFailed("the answer is not HTTP")

    async def _follow(self, session: ClientSession, target: Target, check: HttpRequest) -> int:
        """Ask, and go where the backend redirects to if that is wanted; the status."""
        address = f"[{target.address}]" if target.address.version == 6 else str(target.address)
        site = check.host or f"{address}:{target.port}"
        headers = {"Host": site, **_ALWAYS, **check.headers}
        path = check.path
        for _ in range(_MOST_REDIRECTS + 1):
            # Encoded: what the document says is asked for, to the letter.
            url = URL(f"{self.type}://{address}:{target.port}{path}", encoded=True)
            async with session.request(check.method, url, headers=headers, allow_redirects=False) as response:
                if check.redirects == "answer" or response.status not in _REDIRECTS:
                    return await _judge(response, check)
                path = _next(URL(f"{self.type}://{site}{path}", encoded=True), response)
        raise CheckFailed(f"more than {_MOST_REDIRECTS} redirects")


async def _judge(response: ClientResponse, check: HttpRequest) -> int:
    if not check.is_well(response.status):
        raise CheckFailed(f"status {response.status}")
    if check.body is not None and not compiled(check.body).search(await _body(response)):
        raise CheckFailed(f"status {response.status}, and the body is not as it should be")
    return response.status


async def _body(response: ClientResponse) -> bytes:
    found = b""
    while len(found) < MOST_BODY and (more := await response.content.read(MOST_BODY - len(found))):
        found += more
    return found


def _next(here: URL, response: ClientResponse) -> str:
    """The path that a redirect leads to."""
    there = here.join(URL(response.headers.get("Location", ""), encoded=True))
    if (there.scheme, there.host) != (here.scheme, here.host):
        raise CheckFailed(f"status {response.status}, to another place")
    return there.raw_path_qs
