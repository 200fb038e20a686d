# SPDX-License-Identifier: GPL-2.0-or-later
"""The TLS check: whether the backend completes a handshake, and with which certificate."""

import asyncio
import socket
import ssl
from contextlib import suppress
from time import perf_counter

from agent.health.probe import Answer, CheckFailed
from agent.health.sockets import socket_to
from agent.health.target import Target
from agent.health.trust import CLOSED, Contexts, is_alert, judged, misgiving
from agent.model import TlsCheck

_READ = 16_384
_MOST = 131_072
"""Bytes that are read in a handshake: OpenSSL takes certificates of 100 KiB together."""
_OPINION = 1.0
"""Seconds in which a server that says nothing more has taken what it was shown; most say something at once."""


class TlsProbe:
    """Shakes hands, and parts in good order, so that servers log no error."""

    type = "tls"

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def label(self, target: Target) -> str:
        """The port."""
        return f"TLS port {target.port}"

    async def probe(self, target: Target) -> Answer:
        """Shake hands once. Raises CheckFailed with the reason, or CheckNotMade."""
        check = target.check
        assert isinstance(check, TlsCheck)
        context = self._contexts.get(check)
        begun = perf_counter()
        with socket_to(target.address, socket.SOCK_STREAM) as sock:
            await asyncio.get_running_loop().sock_connect(sock, (str(target.address), target.port))
            talk = _Talk(sock, context, check.asked_name)
            start = perf_counter()
            try:
                await talk.shake_hands()
                latency = perf_counter() - start
                warning = judged(talk.tls.getpeercert(binary_form=True), check)
                await talk.part(min(_OPINION, 0.9 * check.timeout - (perf_counter() - begun)))
            except ssl.SSLError as error:
                raise misgiving(error, check) from None
            return Answer(latency, warning, warning=bool(warning))


class _Talk:
    """TLS over a socket. Not a transport of asyncio's, which would linger for half a minute with who does not part."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str | None) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    async def shake_hands(self) -> None:
        """Complete the handshake. Raises ssl.SSLError, OSError, CheckFailed."""
        taken = 0
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send()
            except ssl.SSLError:
                # The alert, so that the server's log has a reason, too.
                with suppress(OSError):
                    await self._send()
                raise
            else:
                return await self._send()
            more = await asyncio.get_running_loop().sock_recv(self._sock, _READ)
            if not more:
                raise CheckFailed(CLOSED)
            taken += len(more)
            if taken > _MOST:
                raise CheckFailed("the handshake does not end")
            self._incoming.write(more)
            # Where more is there already, reading it would not let others in between.
            await asyncio.sleep(0)

    async def part(self, patience: float) -> None:
        """Say that this was all, and hear whether the server says something against it. Raises ssl.SSLError.

        In TLS 1.3 (RFC 8446, 4.4.2.4) the handshake is over for the client before the server has seen its certificate.
        """
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        with suppress(OSError):
            await self._send()
            if self.tls.version() != "TLSv1.3":
                return
            async with asyncio.timeout(patience):
                self._incoming.write(await asyncio.get_running_loop().sock_recv(self._sock, _READ))
        try:
            self.tls.read(1)
        except ssl.SSLError as error:
            if is_alert(error):
                raise

    async def _send(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, self._outgoing.read())
