# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP check: whether the backend answers a request as it should."""

from time import perf_counter

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)
from yarl import URL

from agent.health.probe import Answer, CheckFailed, CheckNotMade, failure
from agent.health.target import Target
from agent.model import HttpCheck
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
        return f"HTTP port {target.port}"

    async def probe(self, target: Target) -> Answer:
        """Ask once. Raises CheckFailed with the reason, or CheckNotMade."""
        check = target.check
        assert isinstance(check, HttpCheck)
        start = perf_counter()
        try:
            async with ClientSession(
                connector=TCPConnector(force_close=True), cookie_jar=DummyCookieJar(), auto_decompress=False
            ) as session:
                status = await _ask(session, target, check)
        except ClientConnectorError as error:
            raise failure(error.os_error) from None
        except OSError as error:
            raise failure(error) from None
        except (ClientError, ValueError) as error:
            raise _not_well(error) from None
        return Answer(perf_counter() - start, f"status {status}")


async def _ask(session: ClientSession, target: Target, check: HttpCheck) -> int:
    """Ask, and go where the backend redirects to if that is wanted; the status."""
    address = f"[{target.address}]" if target.address.version == 6 else str(target.address)
    site = check.host or f"{address}:{target.port}"
    headers = {"Host": site, **_ALWAYS, **check.headers}
    path = check.path
    for _ in range(_MOST_REDIRECTS + 1):
        # Encoded: what the document says is asked for, to the letter.
        url = URL(f"http://{address}:{target.port}{path}", encoded=True)
        async with session.request(check.method, url, headers=headers, allow_redirects=False) as response:
            if check.redirects == "answer" or response.status not in _REDIRECTS:
                return await _judge(response, check)
            path = _next(URL(f"http://{site}{path}", encoded=True), response)
    raise CheckFailed(f"more than {_MOST_REDIRECTS} redirects")


async def _judge(response: ClientResponse, check: HttpCheck) -> int:
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


def _not_well(error: ClientError | ValueError) -> CheckFailed | CheckNotMade:
    if isinstance(error, ServerDisconnectedError):
        return CheckFailed("the connection was closed without an answer")
    if isinstance(error, ClientPayloadError):
        return CheckFailed("the answer broke off")
    # Not the library's own words: they hold what the backend sent.
    return CheckFailed("the answer is not HTTP")
