# SPDX-License-Identifier: GPL-2.0-or-later
"""The ICMP check: whether the backend answers an echo request."""

import asyncio
import secrets
import socket
import struct
from time import perf_counter

from agent.health.probe import Answer, CheckFailed
from agent.health.sockets import datagrams
from agent.health.target import Target

_HEADER = struct.Struct("!BBHHH")
_REQUEST = {4: (8, 0), 6: (128, 0)}
_REPLY = {4: (0, 0), 6: (129, 0)}
_TOKEN = 16
_LARGEST = 2048

_FOREIGN = 32
"""So many answers that are not ours are read in a try: who sends more would keep the agent busy."""


class IcmpProbe:
    """Sends an echo request by a ping socket, and takes the answer to it and no other.

    A ping socket needs no capability, and the kernel hands it what bears its own identifier only, so that a flood of
    answers to nobody's question is not read (docs/decisions/0120). Source, sequence number and 16 random bytes of the
    answer are checked here.
    """

    type = "icmp"

    def label(self, target: Target) -> str:  # noqa: ARG002  nothing about a target differs: there is no port
        """The protocol."""
        return "ICMP echo"

    async def probe(self, target: Target) -> Answer:
        """Ask once. Raises CheckFailed with the reason, or CheckNotMade."""
        protocol = socket.IPPROTO_ICMP if target.address.version == 4 else socket.IPPROTO_ICMPV6
        with datagrams(target.address, 0, protocol) as sock:
            return await _ask(sock, target)


async def _ask(sock: socket.socket, target: Target) -> Answer:
    loop = asyncio.get_running_loop()
    sequence, token = secrets.randbelow(0x10000), secrets.token_bytes(_TOKEN)
    start = perf_counter()
    # The kernel fills in checksum and identifier.
    await loop.sock_sendall(sock, _HEADER.pack(*_REQUEST[target.address.version], 0, 0, sequence) + token)
    for _ in range(_FOREIGN):
        data, source = await loop.sock_recvfrom(sock, _LARGEST)
        if source[0] == str(target.address) and _is_reply(data, target.address.version, sequence, token):
            return Answer(perf_counter() - start)
    raise CheckFailed("only answers to what was not asked")


def _is_reply(data: bytes, version: int, sequence: int, token: bytes) -> bool:
    """Whether these bytes are the reply to this request."""
    if len(data) != _HEADER.size + len(token):
        return False
    kind, code, _, _, number = _HEADER.unpack_from(data)
    return (kind, code) == _REPLY[version] and number == sequence and secrets.compare_digest(data[8:], token)
