# SPDX-License-Identifier: GPL-2.0-or-later
"""The edge of a trace: the table that asks for it, and the socket that its messages come to."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from struct import Struct
from typing import Any

from agent.dataplane import trace
from agent.dataplane.tables import TABLE
from agent.dataplane.trace import TRACE_TABLE, Event, Handles
from agent.model.trace import Origin, Service

_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _NFTRACE = 12, 270, 1, 9
_GET_RULES = 0xA07
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
_HEADER = Struct("=IHHII")
_GENERIC = Struct("!BBH")
_CODE = Struct("=i")
_INET = 1
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE = 1, 2, 3
_BODY = _HEADER.size + _GENERIC.size
_BUFFER = 1 << 16
_ROOM = 1 << 21
"""Bytes of messages that may wait to be read."""


class CannotTrace(Exception):
    """The kernel (or libnftables) does not let packets be traced; the text says why."""


class Tracer:
    """Follows packets from `client` to `service`, and the answers, from its making until `close`.

    Making and closing use `nft`, a context of libnftables: do both where it is used, too. Neither waits. `read` does
    not wait either: the socket, `fileno`, becomes readable when there is something.
    """

    def __init__(self, nft: Any, client: Origin, service: Service, burst: int) -> None:
        """Begin to trace at most `burst` packets at once, either way. Raises CannotTrace."""
        self._nft = nft
        try:
            self.handles: Handles = _handles()
            self._socket = _open()
        except OSError as error:
            raise CannotTrace(f"the kernel cannot trace: {error}") from None
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTRACE)
            code, _output, words = nft.cmd(trace.commands(client, service, burst))
        except OSError as error:
            code, words = 1, str(error)
        if code != 0:
            self._socket.close()
            raise CannotTrace(f"the kernel cannot trace: {words.strip().partition(chr(10))[0] or code}")

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def read(self) -> list[Event]:
        """What has been told since the last time; of too much at once a part is lost. Raises OSError."""
        found: list[Event] = []
        while True:
            try:
                found += trace.events(self._socket.recv(_BUFFER))
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        """Stop tracing, and remove the table."""
        self._nft.cmd(f"delete table {TRACE_TABLE}")
        self._socket.close()


def link_name(number: int | None) -> str | None:
    """The name of a link of this network namespace; None where there is none."""
    try:
        return socket.if_indextoname(number) if number else None
    except OSError:
        return None


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    sock.bind((0, 0))
    return sock


def _handles() -> dict[str, list[int]]:
    """The handles of all rules of our table, by chain, in their order. Raises OSError."""
    found: dict[str, list[int]] = {}
    name = TABLE.split()[1].encode() + b"\0"
    attribute = Struct("=HH").pack(4 + len(name), _RULE_TABLE) + name + b"\0" * (-len(name) % 4)
    body = _GENERIC.pack(_INET, 0, 0) + attribute
    with closing(_open()) as sock:
        sock.send(_HEADER.pack(_HEADER.size + len(body), _GET_RULES, _REQUEST | _DUMP, 1, 0) + body)
        for data in _messages(sock):
            told = dict(trace.attributes(data))
            if trace.word(told[_RULE_TABLE]) == TABLE.split()[1]:
                found.setdefault(trace.word(told[_RULE_CHAIN]), []).append(int.from_bytes(told[_RULE_HANDLE], "big"))
    return found


def _messages(sock: socket.socket) -> Iterator[memoryview]:
    """The attributes of each rule that a dump tells."""
    while True:
        data = memoryview(sock.recv(_BUFFER))
        at = 0
        while at < len(data):
            length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                code = -_CODE.unpack_from(data, at + _HEADER.size)[0]
                raise OSError(code, f"rules cannot be read: {os.strerror(code)}")
            if kind == trace.RULE:
                yield data[at + _BODY : at + length]
            at += (length + 3) & ~3
