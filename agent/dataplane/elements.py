# SPDX-License-Identifier: GPL-2.0-or-later
"""Elements of nftables' sets over raw netlink: read with their counters, added and deleted in one transaction.

Message layout: linux/netfilter/nf_tables.h. Why not by libnftables: docs/decisions/0019-raw-elements.md.
"""

import errno
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import islice
from struct import Struct
from struct import error as struct_error
from typing import TypeVar

from agent.dataplane import expressions, netlink
from agent.dataplane.layout import (
    SETS,
    VERDICT_WORDS,
    Layout,
    behind,
    edged,
    ends,
    layout_of,
    span,
    verdict,
)
from agent.dataplane.netlink import ATTRIBUTE, BODY, NESTED, TYPE, attribute
from agent.dataplane.ruleset import Element
from agent.dataplane.script import Command
from agent.dataplane.tables import INGRESS, TABLE, table_of

_SUBSYSTEM = 10
_FAMILIES = {TABLE: 1, INGRESS: 5}  # NFPROTO_INET, NFPROTO_NETDEV
_NEW, _GET, _DELETE = (_SUBSYSTEM << 8 | number for number in (12, 13, 14))
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_TABLE, _SET, _ELEMENTS = 1, 2, 3  # of a message
_ITEM = 1  # of a list
_KEY, _DATA, _EDGE, _USERDATA, _KEY_END, _EXPRESSIONS = 1, 2, 3, 6, 10, 11  # of an element
_IS_END = 1  # NFT_SET_ELEM_INTERVAL_END
_VALUE, _VERDICT = 1, 2  # of a key or data
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_COUNTER_NAME = attribute(1, b"counter\0")
_COMMENT = 0  # of userdata, which has a byte each for type and length

_SIGNED = Struct("!i")
_NUMBER = Struct("=I")
_SHORT = Struct("!I")
_TABLE_NAME = b"sluice\0"
_ROOM = 60_000
"""Bytes of elements in a message: the attribute around them has 16 bits for its length."""

FEW = 20_000
"""A dump of n elements costs the kernel n²: for every 32 KiB it counts from the start to where it was. Where the keys
are known, more than these are asked for by key, which costs 6 µs each."""
MOST_FLOWS = 65_536
"""Flows that are counted, for the same reason; it takes 0.2 s."""
_AT_ONCE = 64
_LONGEST_COMMENT = 128


_T = TypeVar("_T")
_Take = Callable[[memoryview, int, int, str], _T]
"""Makes something of the element whose attributes lie between two places of a buffer; its key, "" if not known yet."""


def read(set_name: str, keys: Sequence[str] | None = None) -> dict[str, Element]:
    """The elements of a set; none where there is no such set. `keys`: all that are of interest, if they are known.

    Raises OSError, and ValueError for what is not as this software has it.
    """
    layout = layout_of(set_name)
    if layout.edges:
        return dict.fromkeys(edged(_read(set_name, None, _edge_of(layout)), layout.unpack_key), ("", ""))
    return dict(_read(set_name, keys, _element_of(layout)))


def counters(set_name: str, keys: Sequence[str]) -> list[tuple[bytes, int, int]]:
    """Key (in the kernel's form), packets and bytes of these elements of a set that are there, and maybe of others.

    Raises as `read`.
    """
    return _read(set_name, keys, _counter_of(SETS[set_name]))


def flows(set_name: str) -> dict[int, int]:
    """How many entries a map of flows has by value, a mark: of the first MOST_FLOWS, in no order.

    Raises OSError.
    """
    return netlink.steadily(lambda: _flows(set_name))


def _flows(set_name: str) -> dict[int, int]:
    found: dict[int, int] = {}
    with closing(_dumped(set_name, _mark)) as marks:
        for mark in islice(marks, MOST_FLOWS):
            found[mark] = found.get(mark, 0) + 1
    return found


def _mark(data: memoryview, at: int, end: int, _key: str) -> int:
    while at < end:
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if kind & TYPE == _DATA:
            mark: int = _NUMBER.unpack_from(data, at + 8)[0]
            return mark
        at += (length + 3) & ~3
    return 0


def exceeded(set_name: str) -> dict[str, int]:
    """How many packets each ceiling of a set of ceilings has dropped. Raises as `read`."""
    unpack_key = SETS[set_name].unpack_key

    def take(data: memoryview, at: int, end: int, _key: str) -> tuple[str, int]:
        parts = dict(netlink.attributes(data[at:end]))
        return unpack_key(dict(netlink.attributes(parts[_KEY]))[_VALUE].tobytes()), expressions.packets(
            parts[_EXPRESSIONS]
        )

    return dict(_read(set_name, None, take))


def _read(set_name: str, keys: Sequence[str] | None, take: _Take[_T]) -> list[_T]:
    try:
        if keys is None or len(keys) <= FEW or layout_of(set_name).ranges:
            return netlink.steadily(lambda: list(_dumped(set_name, take)))
        return netlink.steadily(lambda: list(_asked(set_name, keys, take)))
    except FileNotFoundError:
        return []


def _dumped(set_name: str, take: _Take[_T]) -> Generator[_T, None, None]:
    head, generation = _head(set_name), None
    first = BODY + len(head) + 4
    for data, start, end in netlink.dump(_GET, head, family=_family(set_name)):
        # The kernel does not mark a dump of elements as interrupted (seen with 6.18), but each message has the last 16
        # bits of the ruleset's generation.
        told = data[start + BODY - 2 : start + BODY].tobytes()
        if told != (generation or told):
            raise netlink.Interrupted(errno.EINTR, "nftables changed while it was read")
        generation = told
        at = start + first
        while at < end:
            length, _kind = ATTRIBUTE.unpack_from(data, at)
            yield take(data, at + 4, at + length, "")
            at += (length + 3) & ~3


def _asked(set_name: str, keys: Sequence[str], take: _Take[_T]) -> Iterator[_T]:
    """The elements of these keys; one that is not there is left out."""
    head, pack, buffer, done = _head(set_name), SETS[set_name].pack_key, netlink.new_buffer(), 0
    first = BODY + len(head) + 8
    with closing(netlink.open_socket()) as sock:
        while done < len(keys):
            chunk = keys[done : done + _AT_ONCE]
            items = [_data(_KEY, pack(key)) for key in chunk]
            request = head + attribute(_ELEMENTS | NESTED, b"".join([_item_head(len(item)) + item for item in items]))
            sock.send(netlink.message(_GET, netlink.REQUEST | netlink.ACK, 1, request, family=_family(set_name)))
            answered = 0
            try:
                for data, start, end in netlink.answers(sock, buffer):
                    yield take(data, start + first, end, chunk[answered])  # they come in the order of the request
                    answered += 1
            except FileNotFoundError:
                done += answered + 1  # the kernel stops at the first that is not there
            else:
                done += len(chunk)


def _element_of(layout: Layout) -> _Take[tuple[str, Element]]:
    """What takes key, value and comment of an element."""
    unpack, unpack_key, unpack_value = ATTRIBUTE.unpack_from, layout.unpack_key, layout.unpack_value
    judges = layout.value == "verdict"

    limits = layout.value == "ceiling"

    def take(data: memoryview, at: int, end: int, key: str) -> tuple[str, Element]:
        value = comment = ""
        known = bool(key)
        while at < end:
            length, kind = unpack(data, at)
            kind &= TYPE
            if kind == _KEY:
                if not known:
                    key = unpack_key(data[at + 8 : at + 4 + unpack(data, at + 4)[0]].tobytes())
            elif kind == _KEY_END and not known:
                key = span(key, unpack_key(data[at + 8 : at + 4 + unpack(data, at + 4)[0]].tobytes()))
            elif kind == _DATA:
                if judges:
                    value = _verdict(data[at + 4 : at + length].tobytes())
                else:
                    value = unpack_value(data[at + 8 : at + 4 + unpack(data, at + 4)[0]].tobytes())
            elif kind == _EXPRESSIONS and limits:
                value = expressions.ceiling_of(data[at + 4 : at + length])
            elif kind == _USERDATA:
                comment = _comment(data[at + 4 : at + length])
            at += (length + 3) & ~3
        return key, (value, comment)

    return take


def _edge_of(layout: Layout) -> _Take[tuple[bytes, bool]]:
    """What takes the key of an edge, and whether it is an end."""
    size = layout.key[0].size

    def take(data: memoryview, at: int, end: int, _key: str) -> tuple[bytes, bool]:
        parts = dict(netlink.attributes(data[at:end]))
        key = dict(netlink.attributes(parts.get(_KEY, memoryview(b"")))).get(_VALUE, memoryview(b""))
        if len(key) != size:
            raise ValueError("an element that is no address")
        return bytes(key), bool(int.from_bytes(parts.get(_EDGE, b""), "big") & _IS_END)

    return take


def _counter_of(layout: Layout) -> _Take[tuple[bytes, int, int]]:
    """What takes key, packets and bytes of an element.

    The kernel puts key, value and counter first and in this order, and all of them are of one size in a set.
    """
    key = sum(part.size + -part.size % 4 for part in layout.key)
    value = 0 if isinstance(layout.value, str) else sum(part.size + -part.size % 4 for part in layout.value)
    shape = Struct(f"!8x{key}s{8 + value if value else 0}x4x12s8xQ4xQ")

    def take(data: memoryview, at: int, end: int, _key: str) -> tuple[bytes, int, int]:
        if at + shape.size <= end:
            found, name, octets, packets = shape.unpack_from(data, at)
            if name == _COUNTER_NAME:
                return found, packets, octets
        raise ValueError("an element without a counter where there should be one")

    return take


def _comment(userdata: memoryview) -> str:
    at = 0
    while at < len(userdata):
        kind, size = userdata[at], userdata[at + 1]
        if kind == _COMMENT:
            return str(userdata[at + 2 : at + 1 + size], "utf-8")  # without the zero at its end
        at += 2 + size
    return ""


@lru_cache(maxsize=1024)
def _verdict(value: bytes) -> str:
    """The verdict that an element's data holds, in the notation of nft."""
    content = dict(netlink.attributes(memoryview(value)))
    parts = dict(netlink.attributes(content.get(_VERDICT, memoryview(b""))))
    word = VERDICT_WORDS.get(_SIGNED.unpack(parts[_VERDICT_CODE])[0]) if _VERDICT_CODE in parts else None
    if word is None or _VERDICT_CHAIN not in parts:
        raise ValueError("a verdict that is none of ours")
    chain = bytes(parts[_VERDICT_CHAIN]).rstrip(b"\0").decode()
    return f"{word} {chain}"


class Batch:
    """Commands as one transaction for the kernel."""

    def __init__(self, commands: Iterable[Command]) -> None:
        """Write them down. Raises Unwritable for one that cannot be said to the kernel."""
        self._owners: list[Command] = []
        """The command of each message; the first message's sequence number is 1."""
        self._bytes = bytearray(_limit(_BATCH_BEGIN, 0))
        for command in commands:
            self._add(command)

    def run(self, transactions: netlink.Transactions, *, dry: bool) -> tuple[Command | None, str] | None:
        """Have the kernel do it as a whole or not at all. None: done; else its reason, and which command it is about.

        `dry`: the kernel tries all of it and undoes it, as it does with every batch that has no end. Raises OSError.
        """
        if not self._owners:
            return None
        if not dry:
            self._bytes += _limit(_BATCH_END, len(self._owners) + 1)
        refusal = transactions.run(self._bytes)
        if refusal is None:
            return None
        code, sequence = refusal
        known = 1 <= sequence <= len(self._owners)
        return self._owners[sequence - 1] if known else None, os.strerror(code)

    def _add(self, command: Command) -> None:
        try:
            kind, flags = (_NEW, netlink.CREATE) if command.verb == "add" else (_DELETE, 0)
            write = _writer(layout_of(command.set_name), whole=command.verb == "add")
            items = bytearray()
            for key, element in command.elements.items():
                items += write(key, element)
                if len(items) > _ROOM:
                    self._message(kind, flags, command, items)
                    items = bytearray()
            if items:
                self._message(kind, flags, command, items)
        except (ValueError, OSError, KeyError, OverflowError, struct_error) as error:
            raise Unwritable(command, str(error)) from None

    def _message(self, kind: int, flags: int, command: Command, items: bytearray) -> None:
        self._owners.append(command)
        content = _head(command.set_name) + attribute(_ELEMENTS | NESTED, bytes(items))
        family = _family(command.set_name)
        self._bytes += netlink.message(kind, netlink.REQUEST | flags, len(self._owners), content, family=family)


class Unwritable(ValueError):
    """An element that the kernel cannot be told, such as one whose address is none."""

    def __init__(self, command: Command, reason: str) -> None:
        self.command = command
        super().__init__(reason)


def _limit(kind: int, sequence: int) -> bytes:
    return netlink.message(kind, netlink.REQUEST, sequence, b"", resource=_SUBSYSTEM)


def _family(set_name: str) -> int:
    return _FAMILIES[table_of(set_name)]


def _head(set_name: str) -> bytes:
    return attribute(_TABLE, _TABLE_NAME) + attribute(_SET, set_name.encode() + b"\0")


def _writer(layout: Layout, *, whole: bool) -> Callable[[str, Element], bytes]:
    """What writes elements of a set; without `whole` their keys only, as a deletion names them."""
    pack, pack_value = layout.pack_key, layout.pack_value
    judges, limits, ranges = layout.value == "verdict", layout.value == "ceiling", layout.ranges

    def write_edges(key: str, _element: Element) -> bytes:
        first, last = map(pack, ends(key))
        words = _data(_KEY, first)
        after = behind(last)
        end = _data(_KEY, after) + attribute(_EDGE, _SHORT.pack(_IS_END)) if after else b""
        return _item_head(len(words)) + words + (_item_head(len(end)) + end if end else b"")

    if layout.edges:
        return write_edges

    def write(key: str, element: Element) -> bytes:
        if ranges:
            first, last = ends(key)
            words = _data(_KEY, pack(first)) + _data(_KEY_END, pack(last))
        else:
            words = _data(_KEY, pack(key))
        if whole:
            value, comment = element
            if value and limits:
                words += attribute(_EXPRESSIONS | NESTED, expressions.ceiling(value))
            elif value:
                words += _verdict_data(value) if judges else _data(_DATA, pack_value(value))
            if comment:
                words += _userdata(comment)
        return _item_head(len(words)) + words

    return write


@lru_cache(maxsize=1024)
def _item_head(size: int) -> bytes:
    return ATTRIBUTE.pack(4 + size, _ITEM | NESTED)


@lru_cache(maxsize=64)
def _data_head(kind: int, size: int) -> tuple[bytes, bytes]:
    inner = ATTRIBUTE.pack(4 + size, _VALUE)
    padding = b"\0" * (-size % 4)
    return ATTRIBUTE.pack(8 + size + len(padding), kind | NESTED) + inner, padding


def _data(kind: int, value: bytes) -> bytes:
    head, padding = _data_head(kind, len(value))
    return head + value + padding


@lru_cache(maxsize=1024)
def _verdict_data(word: str) -> bytes:
    code, chain = verdict(word)
    parts = attribute(_VERDICT_CODE, _SIGNED.pack(code)) + attribute(_VERDICT_CHAIN, chain.encode() + b"\0")
    return attribute(_DATA | NESTED, attribute(_VERDICT | NESTED, parts))


def _userdata(comment: str) -> bytes:
    text = comment.encode() + b"\0"
    if len(text) > _LONGEST_COMMENT + 1:
        raise ValueError(f"the comment {comment} is longer than {_LONGEST_COMMENT} bytes")
    return attribute(_USERDATA, bytes((_COMMENT, len(text))) + text)
