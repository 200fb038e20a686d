# SPDX-License-Identifier: GPL-2.0-or-later
"""The TCP check: whether the backend takes a connection."""

import asyncio
import socket
import struct
from time import perf_counter

from agent.health.probe import Answer
from agent.health.sockets import socket_to
from agent.health.target import Target

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class TcpProbe:
    """Connects, and closes at once with a reset.

    A reset instead of an orderly close (docs/decisions/0030): the appliance keeps no TIME_WAIT socket and its conntrack
    no closing entry for each of up to thousands of tries a second. With quick acknowledgements off the handshake's
    last packet is the reset itself, so that the backend's program is never woken and logs nothing.
    """

    type = "tcp"

    def label(self, target: Target) -> str:
        """The port."""
        return f"TCP port {target.port}"

    async def probe(self, target: Target) -> Answer:
        """Connect once. Raises CheckFailed with the reason, or CheckNotMade."""
        with socket_to(target.address, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            start = perf_counter()
            await asyncio.get_running_loop().sock_connect(sock, (str(target.address), target.port))
            return Answer(perf_counter() - start)
