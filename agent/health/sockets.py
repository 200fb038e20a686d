# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets of checks: never blocking, closed at the end of the try, and their errors told as what they mean."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from agent.health.probe import CheckNotMade, failure
from agent.model.types import Address

_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR, which Python has no names for before 3.14: linux/in.h, linux/in6.h."""


@contextmanager
def socket_to(address: Address, kind: int, protocol: int = 0) -> Iterator[socket.socket]:
    """A socket of the address's family, not connected yet. Raises CheckFailed or CheckNotMade for its errors."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise CheckNotMade(f"no socket: {error.strerror}") from None
    with sock:
        try:
            yield sock
        except OSError as error:
            raise failure(error) from None


@contextmanager
def datagrams(address: Address, port: int, protocol: int = 0) -> Iterator[socket.socket]:
    """A socket that is connected for datagrams.

    The kernel hands it what comes from that address and port to its own random port and nothing else, and errors of
    ICMP and ICMPv6 that quote what it sent: all of them, not only that the port is closed.
    """
    with socket_to(address, socket.SOCK_DGRAM, protocol) as sock:
        sock.setsockopt(*_RECVERR[address.version], 1)
        sock.connect((str(address), port))
        yield sock
