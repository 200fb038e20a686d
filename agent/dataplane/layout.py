# SPDX-License-Identifier: GPL-2.0-or-later
"""How the kernel stores keys and values of each set: the notation of nft to bytes and back. Pure.

A set that is new in the skeleton needs a row in SETS; a kind of key part that is new, a Part.
"""

import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from struct import Struct
from typing import Literal

_JUMP, _GOTO = -3, -4
_NAME_SIZE = 16  # IFNAMSIZ, with a zero at the end
_VERDICTS = {"jump": _JUMP, "goto": _GOTO}
VERDICT_WORDS = {code: word for word, code in _VERDICTS.items()}
"""The word of a verdict by its number in linux/netfilter/nf_tables.h."""


@dataclass(frozen=True)
class Part:
    """One part of a key or value: its size in bytes, and its two forms. `pack` raises ValueError or OSError."""

    size: int
    pack: Callable[[str], bytes]
    unpack: Callable[[bytes], str]


def _number(size: int, order: Literal["little", "big"]) -> Part:
    return Part(size, lambda word: int(word).to_bytes(size, order), lambda data: str(int.from_bytes(data, order)))


def _words(words: dict[str, int]) -> Part:
    """One byte that has names; a number without one stays a number."""
    packed = {word: bytes([number]) for word, number in words.items()}
    names = {data: word for word, data in packed.items()}
    return Part(1, lambda word: packed.get(word) or bytes([int(word)]), lambda data: names.get(data) or str(data[0]))


def _pack_name(word: str) -> bytes:
    name = word.strip('"').encode()
    if not 0 < len(name) < _NAME_SIZE:
        raise ValueError(f"{word} is no name of a link")
    return name.ljust(_NAME_SIZE, b"\0")


def _pack_class(word: str) -> bytes:
    major, minor = (int(number, 16) for number in word.split(":"))
    return (major << 16 | minor).to_bytes(4, sys.byteorder)


def _unpack_class(data: bytes) -> str:
    number = int.from_bytes(data, sys.byteorder)
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def _ipv6_word(data: bytes) -> str:
    word = socket.inet_ntop(socket.AF_INET6, data)
    return str(IPv6Address(data)) if "." in word else word


IPV4 = Part(4, lambda word: socket.inet_pton(socket.AF_INET, word), lambda data: socket.inet_ntop(socket.AF_INET, data))
IPV6 = Part(16, lambda word: socket.inet_pton(socket.AF_INET6, word), _ipv6_word)
PORT = _number(2, "big")
NUMBER = _number(4, sys.byteorder)
ORDERED = _number(4, "big")
"""A number in a set of ranges: rules turn it around before they look it up, since such sets compare byte by byte."""
LINK = Part(_NAME_SIZE, _pack_name, lambda data: f'"{data.rstrip(bytes(1)).decode()}"')
"""The name of a link, in quotes."""
PROTOCOL = _words({"tcp": 6, "udp": 17, "sctp": 132})
CLASS = Part(4, _pack_class, _unpack_class)
"""The handle of a class of traffic, such as 5150:10."""
DIRECTION = _words({"original": 0, "reply": 1})


@dataclass(frozen=True)
class Layout:
    """What a set has: the parts of its keys, and those of its values (none in a set that is no map)."""

    key: tuple[Part, ...]
    value: tuple[Part, ...] | Literal["verdict", "ceiling"] = ()
    """`ceiling`: what the packet meets is an expression of the element, and another one counts."""
    ranges: bool = False
    """Whether a part of a key may be a range (`80-90`): a set with `flags interval`."""

    @property
    def edges(self) -> bool:
        """Whether a range is two elements, its first key and, marked as an end, the first key behind it."""
        return self.ranges and len(self.key) == 1

    @cached_property
    def pack_key(self) -> Callable[[str], bytes]:
        """A key as bytes. Raises ValueError or OSError."""
        return _packer(self.key)

    @cached_property
    def pack_value(self) -> Callable[[str], bytes]:
        """A value that is no verdict as bytes. Raises ValueError or OSError."""
        return _packer(() if isinstance(self.value, str) else self.value)

    @cached_property
    def unpack_key(self) -> Callable[[bytes], str]:
        """The key of its bytes. Raises ValueError for what cannot be one."""
        return _unpacker(self.key)

    @cached_property
    def unpack_value(self) -> Callable[[bytes], str]:
        """The value of its bytes; raises as unpack_key."""
        return _unpacker(() if isinstance(self.value, str) else self.value)


def network_word(network: IPv4Network | IPv6Network) -> str:
    """As the kernel tells it: one address is not a network."""
    return str(network if network.prefixlen < network.max_prefixlen else network[0])


def ends(key: str) -> tuple[str, str]:
    """The first and the last key of a range of keys (`10.0.0.1 . tcp . 80-90`, `7 . 10.0.0.0/8`)."""
    pairs = [_ends(part) for part in key.split(" . ")]
    return " . ".join(low for low, _ in pairs), " . ".join(high for _, high in pairs)


def _ends(part: str) -> tuple[str, str]:
    if part.startswith('"'):
        return part, part
    if "/" in part:
        network = ip_network(part)
        return str(network[0]), str(network[-1])
    low, _, high = part.partition("-")
    return low, high or low


def behind(packed: bytes) -> bytes | None:
    """The packed key that follows one of an address; None behind the last."""
    number = int.from_bytes(packed, "big") + 1
    return None if number >> 8 * len(packed) else number.to_bytes(len(packed), "big")


def edged(edges: Iterable[tuple[bytes, bool]], unpack: Callable[[bytes], str]) -> Iterator[str]:
    """The ranges of a set whose edges are known: packed keys, each with whether it is an end. Raises ValueError."""
    first: bytes | None = None
    # At the same key the end of one range comes before the beginning of the next.
    for key, is_end in sorted(edges, key=lambda edge: (edge[0], not edge[1])):
        if is_end:
            if first is not None:
                last = (int.from_bytes(key, "big") - 1).to_bytes(len(key), "big")
                yield _span(unpack(first), unpack(last))
            first = None  # an end without a beginning is how nft says that nothing is before
        elif first is not None:
            raise ValueError("a range begins within another")
        else:
            first = key
    if first is not None:
        yield _span(unpack(first), unpack(b"\xff" * len(first)))


def span(first: str, last: str) -> str:
    """The range of keys from its ends; the opposite of `ends`."""
    return " . ".join(_span(*pair) for pair in zip(first.split(" . "), last.split(" . "), strict=True))


def _span(low: str, high: str) -> str:
    if low == high:
        return low
    if low.isdigit():
        return f"{low}-{high}"
    bits = 32 if "." in low else 128
    differ = (int(ip_address(low)) ^ int(ip_address(high))).bit_length()
    network = ip_network(f"{low}/{bits - differ}", strict=False)
    return str(network) if (str(network[0]), str(network[-1])) == (low, high) else f"{low}-{high}"


_CEILING = re.compile(r"limit rate over ([0-9]+) bytes/second burst ([0-9]+) bytes")


def ceiling(word: str) -> tuple[int, int]:
    """Bytes a second and burst in bytes of `limit rate over 1000 bytes/second burst 500 bytes`. Raises ValueError."""
    match = _CEILING.fullmatch(word)
    if not match:
        raise ValueError(f"{word} is no ceiling that is known here")
    return int(match[1]), int(match[2])


def verdict(word: str) -> tuple[int, str]:
    """Number and chain of a verdict such as `jump turn_2_0`. Raises ValueError."""
    kind, _, chain = word.partition(" ")
    if kind not in _VERDICTS or not chain:
        raise ValueError(f"{word} is no verdict that is known here")
    return _VERDICTS[kind], chain


def _packer(parts: tuple[Part, ...]) -> Callable[[str], bytes]:
    if len(parts) == 1:
        return parts[0].pack  # alone, it is not padded
    if all(part is NUMBER for part in parts):
        numbers = Struct(f"={len(parts)}I")
        return lambda key: numbers.pack(*map(int, key.split(" . ")))
    packs = [(part.pack, b"\0" * (-part.size % 4)) for part in parts]

    def pack(key: str) -> bytes:
        words = key.split(" . ")
        if len(words) != len(packs):
            raise ValueError(f"{key} has not {len(packs)} parts")
        return b"".join([one(word) + padding for (one, padding), word in zip(packs, words, strict=True)])

    return pack


def _unpacker(parts: tuple[Part, ...]) -> Callable[[bytes], str]:
    unpacks, at = [], 0
    for part in parts:
        unpacks.append((part.unpack, at, at + part.size))
        at += part.size + (-part.size % 4)
    size = at if len(parts) > 1 else sum(part.size for part in parts)

    def unpack(data: bytes) -> str:
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes where {size} are expected")
        return " . ".join([one(data[start:end]) for one, start, end in unpacks])

    return unpack


SETS = {
    "numbers": Layout((NUMBER,), (NUMBER,)),
    "virtual4": Layout((IPV4,)),
    "virtual6": Layout((IPV6,)),
    "services4": Layout((IPV4, PROTOCOL, PORT), (NUMBER,)),
    "services6": Layout((IPV6, PROTOCOL, PORT), (NUMBER,)),
    "ranges4": Layout((IPV4, PROTOCOL, PORT), (NUMBER,), ranges=True),
    "ranges6": Layout((IPV6, PROTOCOL, PORT), (NUMBER,), ranges=True),
    "whole4": Layout((IPV4,), (NUMBER,)),
    "whole6": Layout((IPV6,), (NUMBER,)),
    "pickers": Layout((NUMBER,), "verdict"),
    "admitted": Layout((NUMBER,), "verdict"),
    "choosers": Layout((NUMBER,), "verdict"),
    "buckets": Layout((NUMBER, NUMBER), (NUMBER,)),
    "shared": Layout((NUMBER, NUMBER), (NUMBER,)),
    "static4": Layout((ORDERED, IPV4), (NUMBER,), ranges=True),
    "static6": Layout((ORDERED, IPV6), (NUMBER,), ranges=True),
    "usable": Layout((NUMBER,)),
    "over_rate": Layout((NUMBER,)),
    "over_connections": Layout((NUMBER,)),
    "over_resets": Layout((NUMBER,)),
    "not_syn": Layout((NUMBER,)),
    "resetters": Layout((NUMBER,), "verdict"),
    **{f"log_{line}": Layout((NUMBER,), "verdict") for line in ("new", "rate", "connections", "strict", "resets")},
    "backends4": Layout((NUMBER,), (IPV4, PORT)),
    "backends6": Layout((NUMBER,), (IPV6, PORT)),
    "hosts4": Layout((NUMBER,), (IPV4,)),
    "hosts6": Layout((NUMBER,), (IPV6,)),
    "masqueraded": Layout((NUMBER,)),
    "pooled": Layout((NUMBER,), "verdict"),
    "slow": Layout((NUMBER,)),
    "arms": Layout((NUMBER, NUMBER)),
    "near4": Layout((LINK, IPV4), ranges=True),
    "near6": Layout((LINK, IPV6), ranges=True),
    "in_numbers": Layout((NUMBER,), (NUMBER,)),
    "in_virtual4": Layout((IPV4,)),
    "in_virtual6": Layout((IPV6,)),
    "answering4": Layout((IPV4,)),
    "answering6": Layout((IPV6,)),
    "in_services4": Layout((IPV4, PROTOCOL, PORT), (NUMBER,)),
    "in_services6": Layout((IPV6, PROTOCOL, PORT), (NUMBER,)),
    "in_ranges4": Layout((IPV4, PROTOCOL, PORT), (NUMBER,), ranges=True),
    "in_ranges6": Layout((IPV6, PROTOCOL, PORT), (NUMBER,), ranges=True),
    "in_pickers": Layout((NUMBER,), "verdict"),
    "in_choosers": Layout((NUMBER,), "verdict"),
    "in_buckets": Layout((NUMBER, NUMBER), (NUMBER,)),
    "in_shared": Layout((NUMBER, NUMBER), (NUMBER,)),
    "in_keys": Layout((NUMBER,), (CLASS,)),
    "in_static4": Layout((ORDERED, IPV4), (NUMBER,), ranges=True),
    "in_static6": Layout((ORDERED, IPV6), (NUMBER,), ranges=True),
    "in_usable": Layout((NUMBER,)),
    "hops4": Layout((NUMBER,), (IPV4,)),
    "hops6": Layout((NUMBER,), (IPV6,)),
    "waiting": Layout((NUMBER,)),
    "leaving": Layout((NUMBER,)),
    "exits": Layout((NUMBER,), (NUMBER,)),
    "lives": Layout((NUMBER,), "verdict"),
    "begun": Layout((NUMBER,)),
    "graded": Layout((NUMBER,), (NUMBER,)),
    "ceilings": Layout((NUMBER, DIRECTION), "ceiling"),
    "classes": Layout((NUMBER,), (CLASS,)),
    "markings": Layout((NUMBER, DIRECTION), "verdict"),
    "targets4": Layout((NUMBER,), (IPV4,)),
    "targets6": Layout((NUMBER,), (IPV6,)),
    "ported4": Layout((NUMBER,), (IPV4,)),
    "ported6": Layout((NUMBER,), (IPV6,)),
    "target_ports": Layout((NUMBER,), (PORT,)),
    "ways": Layout((NUMBER,), (NUMBER,)),
    "replies4": Layout((NUMBER, IPV4, PROTOCOL, PORT), (NUMBER,)),
    "replies6": Layout((NUMBER, IPV6, PROTOCOL, PORT), (NUMBER,)),
    "origins4": Layout((NUMBER,), (IPV4,)),
    "origins6": Layout((NUMBER,), (IPV6,)),
    "origin_ports": Layout((NUMBER,), (PORT,)),
    "screened4": Layout((IPV4,)),
    "screened6": Layout((IPV6,)),
    "screened_own4": Layout((IPV4,)),
    "screened_own6": Layout((IPV6,)),
    "screen_services4": Layout((IPV4, PROTOCOL, PORT), (NUMBER,)),
    "screen_services6": Layout((IPV6, PROTOCOL, PORT), (NUMBER,)),
    "screen_ranges4": Layout((IPV4, PROTOCOL, PORT), (NUMBER,), ranges=True),
    "screen_ranges6": Layout((IPV6, PROTOCOL, PORT), (NUMBER,), ranges=True),
    "screen_whole4": Layout((IPV4,), (NUMBER,)),
    "screen_whole6": Layout((IPV6,), (NUMBER,)),
    "sieves": Layout((NUMBER,), "verdict"),
    "denied": Layout((NUMBER,)),
    "unlisted": Layout((NUMBER,)),
}
"""Every permanent set that has elements of ours."""

_NETWORKS = {"net4_": Layout((IPV4,), ranges=True), "net6_": Layout((IPV6,), ranges=True)}
"""Those of network lists, by how their names begin."""


def is_network_set(name: str) -> bool:
    """Whether a set, or what a chain could be called, is that of a network list."""
    return name[:5] in _NETWORKS


def layout_of(set_name: str) -> Layout:
    """The layout of a set. Raises KeyError for one that is not known."""
    return SETS.get(set_name) or _NETWORKS[set_name[:5]]
