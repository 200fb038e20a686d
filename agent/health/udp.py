# SPDX-License-Identifier: GPL-2.0-or-later
"""The UDP check: whether the backend answers a datagram, or at least does not refuse it."""

import asyncio
from time import perf_counter

from agent.health.probe import Answer, CheckFailed
from agent.health.sockets import datagrams
from agent.health.target import Target
from agent.model import UdpCheck
from agent.model.checks.pattern import compiled_bytes

LARGEST = 65_535
"""Bytes of the largest datagram that there is."""


class UdpProbe:
    """Sends a datagram; the first that comes back decides, or an ICMP error."""

    type = "udp"

    def label(self, target: Target) -> str:
        """The port."""
        return f"UDP port {target.port}"

    async def probe(self, target: Target) -> Answer:
        """Ask once. Raises CheckFailed with the reason, or CheckNotMade."""
        check = target.check
        assert isinstance(check, UdpCheck)
        assert target.port is not None
        loop = asyncio.get_running_loop()
        with datagrams(target.address, target.port) as sock:
            start = perf_counter()
            # Not sock_sendall, which sends nothing where there is nothing to send.
            sock.send(check.payload)
            answer = await loop.sock_recv(sock, LARGEST)
        if check.expect is not None and not compiled_bytes(check.expect).search(answer):
            raise CheckFailed("the answer is not as it should be")
        return Answer(perf_counter() - start)
