# SPDX-License-Identifier: GPL-2.0-or-later
"""The DNS check: whether the backend answers a question as it should."""

import asyncio
import secrets
import socket
from itertools import islice
from time import perf_counter

from agent.health.dns_message import Broken, Response, query, response
from agent.health.probe import Answer, CheckFailed
from agent.health.sockets import datagrams, socket_to
from agent.health.target import Target
from agent.model import DnsCheck
from agent.model.checks.pattern import compiled

MOST_RECORDS = 64
"""Records that are looked at."""
_LARGEST = 65_535
_FOREIGN = 32
"""So many answers that are not ours are read in a try: who sends more would keep the agent busy."""


class DnsProbe:
    """Asks by UDP, and again by TCP where the answer has no room in a datagram.

    Only the asked address and port can answer (the kernel sees to that), with the random identifier and the question.
    """

    type = "dns"

    def label(self, target: Target) -> str:
        """The port."""
        return f"DNS port {target.port}"

    async def probe(self, target: Target) -> Answer:
        """Ask once. Raises CheckFailed with the reason, or CheckNotMade."""
        check = target.check
        assert isinstance(check, DnsCheck)
        asked = query(secrets.randbelow(0x10000), check.name, check.record)
        start = perf_counter()
        found = await _by_udp(target, asked)
        if found.truncated:
            found = await _by_tcp(target, asked)
        words = _judge(found, check)
        return Answer(perf_counter() - start, words)


def _judge(found: Response, check: DnsCheck) -> str:
    """What is to be said of an answer that is well. Raises CheckFailed for another."""
    if found.rcode != check.rcode:
        raise CheckFailed(found.rcode)
    if check.rcode != "NOERROR":
        return found.rcode
    try:
        records = list(islice(found.records(), MOST_RECORDS))
    except Broken:
        raise CheckFailed("the answer is broken") from None
    if not records:
        raise CheckFailed(f"{found.rcode}, and no {check.record} record")
    if check.expect is not None and not any(map(compiled(check.expect).search, records)):
        raise CheckFailed(f"no {check.record} record is as it should be")
    return found.rcode


async def _by_udp(target: Target, asked: bytes) -> Response:
    loop = asyncio.get_running_loop()
    assert target.port is not None
    with datagrams(target.address, target.port) as sock:
        await loop.sock_sendall(sock, asked)
        for _ in range(_FOREIGN):
            if (found := response(await loop.sock_recv(sock, _LARGEST), asked)) is not None:
                return found
    raise CheckFailed("only answers to what was not asked")


async def _by_tcp(target: Target, asked: bytes) -> Response:
    """Ask by TCP: RFC 1035, 4.2.2."""
    loop = asyncio.get_running_loop()
    with socket_to(target.address, socket.SOCK_STREAM) as sock:
        await loop.sock_connect(sock, (str(target.address), target.port))
        await loop.sock_sendall(sock, len(asked).to_bytes(2) + asked)
        found = response(await _exactly(sock, int.from_bytes(await _exactly(sock, 2))), asked)
    if found is None:
        raise CheckFailed("by TCP only an answer to what was not asked")
    return found


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop, come = asyncio.get_running_loop(), bytearray()
    while len(come) < size:
        more = await loop.sock_recv(sock, size - len(come))
        if not more:
            raise CheckFailed("the connection by TCP was closed without an answer")
        come += more
    return bytes(come)
