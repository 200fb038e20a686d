# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTPS check: the HTTP check over TLS."""

import asyncio
import socket
import ssl
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import BaseConnector, ClientError
from aiohttp.client_proto import ResponseHandler

from agent.health.http import HttpProbe
from agent.health.probe import Answer, CheckFailed, CheckNotMade
from agent.health.sockets import socket_to
from agent.health.target import Target
from agent.health.trust import CLOSED, Contexts, judged, misgiving
from agent.model import HttpsCheck

_BUFFER = 16_384
"""Bytes that the kernel keeps of what was not read yet (it doubles them), and so what asyncio reads in one turn.

With the 256 KiB of its own, a few servers that flood would be 100 ms of work in each turn.
"""


class _Connector(BaseConnector):
    """Connects to the target, and judges the certificate of each connection before anything is asked.

    Connections are cut when they are done with: an orderly end would wait half a minute for a server that has none.
    """

    def __init__(self, context: ssl.SSLContext, target: Target, check: HttpsCheck) -> None:
        super().__init__(force_close=True)
        self._context = context
        self._target = target
        self._check = check
        self.warning = ""

    async def _create_connection(self, *_arguments: Any, **_more: Any) -> ResponseHandler:
        loop = asyncio.get_running_loop()
        with socket_to(self._target.address, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            await loop.sock_connect(sock, (str(self._target.address), self._target.port))
            connected = sock.dup()
        transport, protocol = await loop.create_connection(
            partial(ResponseHandler, loop),
            sock=connected,
            ssl=self._context,
            server_hostname=self._check.asked_name or "",
            # The checker has the clock.
            ssl_handshake_timeout=self._check.timeout + 1,
        )
        try:
            self.warning = judged(transport.get_extra_info("ssl_object").getpeercert(True), self._check)
        except CheckFailed:
            transport.abort()
            raise
        return protocol

    def _release(self, key: Any, protocol: ResponseHandler, **more: Any) -> None:
        if protocol.transport is not None:
            protocol.transport.abort()
        super()._release(key, protocol, **more)


class HttpsProbe(HttpProbe):
    """As the HTTP check, on a connection whose certificate is as it should be."""

    type = "https"

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    async def probe(self, target: Target) -> Answer:
        """Ask once. Raises CheckFailed with the reason, or CheckNotMade."""
        check = target.check
        assert isinstance(check, HttpsCheck)
        connector = _Connector(self._contexts.get(check), target, check)
        answer = await self.ask(target, check, connector)
        words = ", ".join(filter(None, (answer.words, connector.warning)))
        return replace(answer, words=words, warning=bool(connector.warning))

    def not_well(self, error: ClientError | OSError | ValueError, target: Target) -> CheckFailed | CheckNotMade:
        """What an error means; those of TLS first, which look like others."""
        assert isinstance(target.check, HttpsCheck)
        # The library wraps it into an error that has lost the reason.
        found = error.__cause__ or error
        if isinstance(found, ssl.SSLError):
            return misgiving(found, target.check)
        if isinstance(found, ConnectionResetError) and found.errno is None:
            return CheckFailed(CLOSED)
        return super().not_well(error, target)
