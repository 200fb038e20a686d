# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink to netfilter in plain struct: a tenth to a fortieth of the time that the libraries take for large tables.

Message layout: linux/netlink.h and linux/netfilter/nfnetlink.h; numbers in attributes are in network order.
"""

import errno
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from struct import Struct
from typing import TypeVar

T = TypeVar("T")

REQUEST, ACK, DUMP, CREATE = 0x1, 0x4, 0x300, 0x400
NESTED = 0x8000
TYPE = 0x3FFF
"""The bits of an attribute's type that are no flags."""
HEADER = Struct("=IHHII")
"""Length, type, flags, sequence, port."""
ATTRIBUTE = Struct("=HH")
"""Length and type; a value follows, and up to 3 bytes that the length does not count."""
BODY = HEADER.size + 4
"""Where the attributes of a message begin: after the header and family, version, resource."""

_NETLINK_NETFILTER = 12
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_SOL_NETLINK, _NO_ENOBUFS = 270, 5
_SO_SNDBUFFORCE = 32
_CODE = Struct("=i")
_SEQUENCE = Struct("=I")
_GENERIC = Struct("!BBH")
_TRIES = 10


class Interrupted(OSError):
    """What a dump told is not whole: something changed meanwhile, or messages were lost. Read it again."""


def steadily(read: Callable[[], T]) -> T:
    """What `read` returns when no change comes between. Raises OSError; Interrupted after ten attempts."""
    for _ in range(_TRIES - 1):
        with suppress(Interrupted):
            return read()
    return read()


def open_socket() -> socket.socket:
    """A socket to netfilter of the caller's network namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    sock.bind((0, 0))
    return sock


def message(kind: int, flags: int, sequence: int, attributes: bytes, *, family: int = 0, resource: int = 0) -> bytes:
    """One message as the kernel takes it."""
    size = BODY + len(attributes)
    return HEADER.pack(size, kind, flags, sequence, 0) + _GENERIC.pack(family, 0, resource) + attributes


def dump(kind: int, attributes: bytes, *, family: int = 0) -> Iterator[tuple[memoryview, int, int]]:
    """Every message that answers a dump, as (buffer, start, end); good until the next is asked for.

    Raises Interrupted (see `steadily`) and other OSErrors.
    """
    with closing(open_socket()) as sock:
        sock.send(message(kind, REQUEST | DUMP, 1, attributes, family=family))
        yield from answers(sock, new_buffer())


def new_buffer(size: int = 1 << 16) -> memoryview:
    """Room for answers; the kernel's datagrams are of 32 KiB at most."""
    return memoryview(bytearray(size))


def answers(sock: socket.socket, buffer: memoryview) -> Iterator[tuple[memoryview, int, int]]:
    """The messages that come as an answer, up to the one that says that it is complete. Raises as `dump` does."""
    while True:
        size = _receive(sock, buffer)
        at = 0
        while at < size:
            length, kind, flags, _sequence, _port = HEADER.unpack_from(buffer, at)
            if flags & _DUMP_INTERRUPTED and kind != _ERROR:
                raise Interrupted(errno.EINTR, "netfilter changed while it was read")
            if length < HEADER.size or at + length > size:
                raise Interrupted(errno.EBADMSG, "netfilter's answer breaks off")
            if kind in (_ERROR, _DONE):
                code = -_CODE.unpack_from(buffer, at + HEADER.size)[0] if length > HEADER.size else 0
                if code == errno.EINTR:
                    raise Interrupted(errno.EINTR, "netfilter changed while it was read")
                if code:
                    raise OSError(code, f"netfilter cannot be read: {os.strerror(code)}")
                return
            yield buffer, at, at + length
            at += (length + 3) & ~3


def _receive(sock: socket.socket, buffer: memoryview) -> int:
    try:
        # With this flag the size is the real one, also where the buffer was too small.
        size = sock.recv_into(buffer, 0, socket.MSG_TRUNC)
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            raise Interrupted(errno.ENOBUFS, "netfilter's answer was lost in part") from None
        raise
    if size > len(buffer):
        raise Interrupted(errno.EMSGSIZE, "netfilter's answer is larger than expected")
    return size


class Transactions:
    """Hands batches to the kernel, in the network namespace of the first one's thread; one at a time.

    It keeps one socket: a socket's close waits until the kernel has cleaned up after all deletions, 8 to 25 ms.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def run(self, batch: bytes | bytearray) -> tuple[int, int] | None:
        """None if the kernel takes the batch, else the error's number and the sequence number it is about.

        Raises OSError where the kernel cannot be asked.
        """
        if self._socket is None:
            self._socket = open_socket()
            self._socket.setblocking(False)
            # Of very many errors the first ones are enough.
            self._socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
            weakref.finalize(self, self._socket.close)
        # A batch is one datagram. The first needs CAP_NET_ADMIN on the machine, the second has a limit (wmem_max).
        for option in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):
            with suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, max(len(batch), 1 << 16))
                break
        self._socket.send(batch)
        # The kernel has worked through all of it by now: its answers, if any, are waiting.
        refusal = None
        with suppress(BlockingIOError):
            while True:
                answer = self._socket.recv(1 << 16)
                code = -_CODE.unpack_from(answer, HEADER.size)[0]
                if code and refusal is None:
                    refusal = code, _SEQUENCE.unpack_from(answer, HEADER.size + 4 + 8)[0]
        return refusal


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and value of each attribute."""
    at = 0
    while at < len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        yield kind & TYPE, data[at + 4 : at + length]
        at += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute, padded."""
    return ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
