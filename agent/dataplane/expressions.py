# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions of elements as the kernel stores them: a limit of bytes a second, and a counter behind it. Pure.

A packet below the limit ends there: the element does not match. One above it is counted, and matches. Attributes:
linux/netfilter/nf_tables.h.
"""

from functools import lru_cache
from struct import Struct

from agent.dataplane import layout, netlink
from agent.dataplane.netlink import NESTED, attribute

_ITEM, _NAME, _DATA = 1, 1, 2
_RATE, _UNIT, _BURST, _TYPE, _FLAGS = 1, 2, 3, 4, 5
_COUNTED_PACKETS = 2
_BYTES, _OVER, _SECOND = 1, 1, 1
_WIDE, _SHORT = Struct("!Q"), Struct("!I")


@lru_cache(maxsize=1024)
def ceiling(word: str) -> bytes:
    """The list of expressions of a ceiling in the notation of nft. Raises ValueError."""
    rate, burst = layout.ceiling(word)
    limit = b"".join(
        (
            attribute(_RATE, _WIDE.pack(rate)),
            attribute(_UNIT, _WIDE.pack(_SECOND)),
            attribute(_BURST, _SHORT.pack(burst)),
            attribute(_TYPE, _SHORT.pack(_BYTES)),
            attribute(_FLAGS, _SHORT.pack(_OVER)),
        )
    )
    return _expression(b"limit\0", limit) + _expression(b"counter\0", b"")


def ceiling_of(content: memoryview) -> str:
    """The ceiling in a list of expressions, in the notation of nft. Raises ValueError for anything else."""
    found = _parts(content).get(b"limit\0")
    if found is None or any(name not in found for name in (_RATE, _UNIT, _BURST, _TYPE, _FLAGS)):
        raise ValueError("an element without the ceiling that it should have")
    kind = tuple(int.from_bytes(found[name], "big") for name in (_UNIT, _TYPE, _FLAGS))
    if kind != (_SECOND, _BYTES, _OVER):
        raise ValueError("a ceiling that is none of ours")
    return (
        f"limit rate over {int.from_bytes(found[_RATE], 'big')} bytes/second "
        f"burst {int.from_bytes(found[_BURST], 'big')} bytes"
    )


def packets(content: memoryview) -> int:
    """The packets that the counter in a list of expressions has counted. Raises ValueError where there is none."""
    found = _parts(content).get(b"counter\0", {})
    if _COUNTED_PACKETS not in found:
        raise ValueError("an element without a counter where there should be one")
    return int.from_bytes(found[_COUNTED_PACKETS], "big")


def _expression(name: bytes, content: bytes) -> bytes:
    return attribute(_ITEM | NESTED, attribute(_NAME, name) + attribute(_DATA | NESTED, content))


def _parts(content: memoryview) -> dict[bytes, dict[int, memoryview]]:
    """The attributes of each expression of a list, by its name."""
    found = {}
    for _, expression in netlink.attributes(content):
        parts = dict(netlink.attributes(expression))
        found[bytes(parts.get(_NAME, b""))] = dict(netlink.attributes(parts.get(_DATA, memoryview(b""))))
    return found
