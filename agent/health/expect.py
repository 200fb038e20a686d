# SPDX-License-Identifier: GPL-2.0-or-later
"""The check that sends and expects: whether the backend says on a TCP connection what it should."""

import asyncio
import socket
from time import perf_counter

from agent.health.probe import Answer, CheckFailed
from agent.health.sockets import socket_to
from agent.health.target import Target
from agent.model import ExpectCheck
from agent.model.checks.pattern import compiled_bytes

MOST = 4096
"""Bytes that are read for a pattern. It is searched for after each packet: the product bounds what a backend that sends
byte by byte can cost."""


class ExpectProbe:
    """Connects, waits for a banner if there is one, sends, and reads until what is expected has come."""

    type = "expect"

    def label(self, target: Target) -> str:
        """The port."""
        return f"TCP port {target.port}"

    async def probe(self, target: Target) -> Answer:
        """Ask once. Raises CheckFailed with the reason, or CheckNotMade."""
        check = target.check
        assert isinstance(check, ExpectCheck)
        loop = asyncio.get_running_loop()
        with socket_to(target.address, socket.SOCK_STREAM) as sock:
            start = perf_counter()
            await loop.sock_connect(sock, (str(target.address), target.port))
            if check.banner is not None:
                await _found(sock, check.banner, "banner")
            await loop.sock_sendall(sock, check.payload)
            await _found(sock, check.expect, "answer")
            return Answer(perf_counter() - start, "as expected")


async def _found(sock: socket.socket, pattern: str, what: str) -> None:
    """Read until the pattern is found. Raises CheckFailed when it cannot be any more."""
    loop, wanted, come = asyncio.get_running_loop(), compiled_bytes(pattern), b""
    while len(come) < MOST and (more := await loop.sock_recv(sock, MOST - len(come))):
        come += more
        if wanted.search(come):
            return
    if not come:
        raise CheckFailed(f"the connection was closed, and no {what} came")
    raise CheckFailed(f"the {what} is not as it should be")
