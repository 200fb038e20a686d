# SPDX-License-Identifier: GPL-2.0-or-later
"""Connection tracking, read and trimmed over raw ctnetlink.

Message layout: linux/netfilter/nfnetlink_conntrack.h; numbers of the kernel are in network order.
"""

import errno
from collections.abc import Collection, Mapping
from contextlib import closing
from functools import partial
from struct import Struct

from agent.dataplane import aborts, netlink
from agent.dataplane.aborts import Association
from agent.dataplane.netlink import ATTRIBUTE, BODY, HEADER, NESTED, TYPE
from agent.dataplane.offload import ENDED
from agent.model.types import Address

_CT_GET, _CT_DELETE = 0x101, 0x102  # subsystem 1 (ctnetlink), messages 1 and 2

_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _MARK, _ID, _ZONE, _MARK_MASK = 1, 2, 3, 4, 8, 12, 18, 21
_COUNTERS_ORIG, _COUNTERS_REPLY = 9, 10
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUM, _SOURCE_PORT, _PORT = 1, 2, 3
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
"""The addresses of a tuple, of IPv4 and IPv6."""
_PROTOINFO_SCTP, _SCTP_REPLY_TAG = 3, 3

_TCP_TIME_WAIT, _TCP_CLOSE = 7, 8
_SEEN_REPLY = 2
"""The bit of an entry's status that says that somebody has answered."""
_TCP, _SCTP = 6, 132

_NUMBER = Struct("!I")
_COUNTED = Struct("!4xQ4xQ")
"""Packets and bytes, an attribute each; on x86 none is padded."""
_NONE = (0, 0)


_BACKEND = ENDED - 1
"""The bits of a backend's mark."""
_FEW = 8
"""So many marks at most are asked for one by one: each time the kernel goes through the whole table."""


def active_by_mark(marks: Collection[int]) -> dict[int, int]:
    """How many connections (UDP: flows) of these marks are open now, as in `open_by_mark`.

    100 000 flows take about a third of a second; those that a few marks leave out, hardly anything. Raises OSError.
    """
    if len(marks) > _FEW:
        return {mark: sums[0] for mark, sums in open_by_mark().items() if sums[0]}
    found: dict[int, int] = {}
    for mark in marks:
        # Some of another mark may be in the answer: one that was changed since the kernel filtered.
        found[mark] = netlink.steadily(partial(_open_by_mark, _only(mark, _BACKEND | ENDED))).get(mark, [0])[0]
    return found


def answered(addresses: Collection[Address]) -> set[Address]:
    """Which of these addresses get the answers of a connection that is known, closing ones included. Raises OSError."""
    wanted, head = {address.packed: address for address in addresses}, ATTRIBUTE.unpack_from

    def look() -> set[Address]:
        found: set[Address] = set()
        for data, start, _end in netlink.dump(_CT_GET, b""):
            # The tuple of the request comes first, then that of the answer, and in it first of all both addresses.
            at = start + BODY + ((head(data, start + BODY)[0] + 3) & ~3)
            (_, kind), (size, inner) = head(data, at), head(data, at + 4)
            if (kind & TYPE, inner & TYPE) == (_TUPLE_REPLY, _TUPLE_IP):
                # Each behind a head of its own: the second one is the destination.
                to = wanted.get(bytes(data[at + 10 + size // 2 : at + 4 + size]))
                if to is not None:
                    found.add(to)
        return found

    return netlink.steadily(look)


def _only(mark: int, mask: int) -> bytes:
    """The attributes that ask for the connections whose mark, as far as the mask goes, is this one."""
    return netlink.attribute(_MARK, _NUMBER.pack(mark)) + netlink.attribute(_MARK_MASK, _NUMBER.pack(mask))


def open_by_mark() -> dict[int, list[int]]:
    """What is open now, by connection mark: [connections, packets and bytes in, packets and bytes out].

    TCP connections in TIME_WAIT or CLOSE, and those that were reset, are over: their bytes are told, as long as they
    are there, but they are not counted as connections. Mark 0 is left out. 100 000 flows take about a third of a
    second. Raises OSError.
    """
    return netlink.steadily(partial(_open_by_mark, b""))


def _open_by_mark(chosen: bytes) -> dict[int, list[int]]:  # noqa: C901 - one loop, for its speed
    found: dict[int, list[int]] = {}
    attribute, counted, number, get = ATTRIBUTE.unpack_from, _COUNTED.unpack_from, _NUMBER.unpack_from, found.get
    for data, start, end in netlink.dump(_CT_GET, chosen):
        mark, at, packets_in, bytes_in, packets_out, bytes_out, here = 0, start + BODY, 0, 0, 0, 0, 1
        while at < end:
            length, kind = attribute(data, at)
            kind &= TYPE
            if kind == _MARK:
                mark = number(data, at + 4)[0]
                if mark == 0:
                    break
                if mark & ENDED:
                    here = 0
                mark &= _BACKEND
            elif kind == _PROTOINFO:
                # For TCP it holds an attribute of kind 1, and that first of all the state: one byte. What is offloaded
                # has none: it is open.
                if length > 12 and data[at + 6] == 1 and data[at + 12] in (_TCP_TIME_WAIT, _TCP_CLOSE):
                    here = 0
            elif kind == _COUNTERS_ORIG:
                packets_in, bytes_in = counted(data, at + 4)
            elif kind == _COUNTERS_REPLY:
                packets_out, bytes_out = counted(data, at + 4)
                break  # in a dump the mark and the state come before
            at += (length + 3) & ~3
        if mark:
            sums = get(mark)
            if sums is None:
                sums = found[mark] = [0] * 5
            sums[0] += here
            sums[1] += packets_in
            sums[2] += bytes_in
            sums[3] += packets_out
            sums[4] += bytes_out
    return found


def passed(data: memoryview, start: int, end: int) -> tuple[int, tuple[int, int, int, int]]:
    """The mark of the entry that an event tells of, and the packets and bytes in and out that it passed.

    Where the kernel does not count (nf_conntrack_acct), all are 0.
    """
    attribute = ATTRIBUTE.unpack_from
    mark, into, out, at = 0, _NONE, _NONE, start + BODY
    while at < end:
        length, kind = attribute(data, at)
        kind &= TYPE
        if kind == _MARK:
            mark = _NUMBER.unpack_from(data, at + 4)[0] & _BACKEND
        elif kind == _COUNTERS_ORIG:
            into = _COUNTED.unpack_from(data, at + 4)
        elif kind == _COUNTERS_REPLY:
            out = _COUNTED.unpack_from(data, at + 4)
        at += (length + 3) & ~3
    return mark, (*into, *out)


def forget(marks: Collection[int], *, cut: Collection[int] = ()) -> int:
    """Remove what has no connection to lose, if its mark is one of `marks`; its next packet is balanced anew.

    That is every flow of a protocol other than TCP and SCTP; what nobody has answered yet (the client's next try goes
    elsewhere); and what was reset. Of the marks in `cut` every connection of every protocol is removed, and the clients
    of SCTP associations are told. Returns how many were removed. Needs CAP_NET_ADMIN, CAP_NET_RAW. Raises OSError.
    """
    all_marks = frozenset(marks) | frozenset(cut)
    if not all_marks:
        return 0
    chosen = b""
    if len(all_marks) == 1:
        (mark,) = all_marks
        chosen = _only(mark, _BACKEND)
    whole = frozenset(cut)

    def read() -> list[tuple[bytes, Association | None]]:
        entries = (data[start:end] for data, start, end in netlink.dump(_CT_GET, chosen))
        return [goes for entry in entries if (goes := _going(entry, all_marks, whole))]

    going = netlink.steadily(read)
    removed = _delete([request for request, _ in going])
    aborts.tell([association for _, association in going if association])
    return removed


def _going(entry: memoryview, marks: frozenset[int], cut: frozenset[int]) -> tuple[bytes, Association | None] | None:
    """The body of the request that deletes this entry, if it has one of `marks` and is of a kind that is to go.

    Beside it what its client is to be told of.
    """
    found = dict(netlink.attributes(entry[BODY:]))
    mark = _number(found, _MARK)
    if mark & _BACKEND not in marks:
        return None
    ends = dict(netlink.attributes(found[_TUPLE_ORIG]))
    ports = dict(netlink.attributes(ends[_TUPLE_PROTO]))
    protocol = ports[_PROTO_NUM][0]
    connected = protocol in (_TCP, _SCTP) and _number(found, _STATUS) & _SEEN_REPLY and not mark & ENDED
    if connected and mark & _BACKEND not in cut:
        return None
    named = ((_TUPLE_ORIG, NESTED), (_ID, 0), (_ZONE, 0))
    attributes = [netlink.attribute(kind | flag, bytes(found[kind])) for kind, flag in named if kind in found]
    association = _association(ends, ports, found[_PROTOINFO]) if connected and protocol == _SCTP else None
    return bytes(entry[HEADER.size : BODY]) + b"".join(attributes), association


def _association(ends: Mapping[int, memoryview], ports: Mapping[int, memoryview], state: memoryview) -> Association:
    addresses = dict(netlink.attributes(ends[_TUPLE_IP]))
    client, service = (
        bytes(next(addresses[kind] for kind in kinds if kind in addresses)) for kinds in (_SOURCES, _DESTINATIONS)
    )
    tags = dict(netlink.attributes(dict(netlink.attributes(state))[_PROTOINFO_SCTP]))
    return Association(
        service, _number(ports, _PORT), client, _number(ports, _SOURCE_PORT), _number(tags, _SCTP_REPLY_TAG)
    )


def _number(found: Mapping[int, memoryview], kind: int) -> int:
    """A number of an entry; 0 where it has none of the kind."""
    return int.from_bytes(found.get(kind, b""))


def _delete(requests: list[bytes]) -> int:
    removed, buffer = 0, netlink.new_buffer()
    with closing(netlink.open_socket()) as sock:
        for number, request in enumerate(requests, 1):
            size = HEADER.size + len(request)
            sock.send(HEADER.pack(size, _CT_DELETE, netlink.REQUEST | netlink.ACK, number, 0) + request)
            try:
                for _ in netlink.answers(sock, buffer):
                    pass
                removed += 1
            except OSError as error:
                if error.errno != errno.ENOENT:  # it ended by itself meanwhile
                    raise OSError(error.errno, f"conntrack entry cannot be removed: {error.strerror}") from None
    return removed
