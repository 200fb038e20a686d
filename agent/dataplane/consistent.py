# SPDX-License-Identifier: GPL-2.0-or-later
"""Consistent hashing: which backend has which bucket, such that few clients move when backends come and go. Pure.

Every backend that is configured takes buckets in the order of a permutation of its own until none is left: Maglev's
table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4), whose
shares are even. With hundreds of backends too many of the last buckets change hands when one of them goes. The largest
table is a ring instead (Karger et al., "Consistent Hashing and Random Trees", STOC 1997): who goes gives away what was
its own, and shares differ by some percent.

Buckets of backends that take no connections now are lent: each asks other buckets, in an order that is fixed, until it
finds one whose owner is up. So a failure moves the clients of what failed and nobody else's, and its return brings back
just these.
"""

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b, shake_128

MOST_EVEN = 65_521
"""Buckets up to which shares are even: a table of more is a ring."""
POINTS = 1000
"""Of the heaviest backend on a ring; the others have their part of it."""

_SPREAD = 2654435761
"""Knuth's multiplier (The Art of Computer Programming, volume 3, section 6.4): neighbours come far apart."""


def fill(weights: Mapping[str, int], usable: Collection[str], size: int) -> list[str]:
    """The backend of each of `size` buckets, a prime number.

    `weights`: what is configured, by backend, each at least 1; it must not change when a backend fails. `usable`: those
    that take connections. The same arguments give the same buckets, on every appliance. Raises ValueError where nobody
    is usable, or there are fewer buckets than backends.
    """
    if not set(usable) & weights.keys():
        raise ValueError("nobody is usable")
    if size < len(weights):
        raise ValueError(f"{size} buckets cannot represent {len(weights)} backends")
    home = (_even if size <= MOST_EVEN else _ring)(tuple(sorted(weights.items())), size)
    if set(usable) >= weights.keys():
        return list(home)
    result = []
    for bucket, owner in enumerate(home):
        # Any step visits every bucket of a prime number; one step for all would follow the permutations' own.
        at, step = bucket, bucket * _SPREAD % (size - 1) + 1
        while owner not in usable:
            at = (at + step) % size
            owner = home[at]  # noqa: PLW2901 whose it is now
        result.append(owner)
    return result


@lru_cache(maxsize=64)
def _even(weights: tuple[tuple[str, int], ...], size: int) -> tuple[str, ...]:
    heaviest = max(weight for _, weight in weights)
    places = {name: _permutation(name, size) for name, _ in weights}
    table: list[str | None] = [None] * size
    left = size
    turn = 0
    while left:
        for name, weight in weights:
            # A backend takes part in so many turns of `heaviest` as its weight says.
            if (turn + 1) * weight // heaviest == turn * weight // heaviest:
                continue
            at, skip = places[name]
            while table[at] is not None:
                at = (at + skip) % size
            table[at] = name
            places[name] = ((at + skip) % size, skip)
            left -= 1
            if not left:
                break
        turn += 1
    return tuple(name for name in table if name is not None)


def _permutation(name: str, size: int) -> tuple[int, int]:
    """Where the backend begins, and how far apart the buckets are that it asks for."""
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big") % size, int.from_bytes(digest[8:], "big") % (size - 1) + 1


@lru_cache(maxsize=64)
def _ring(weights: tuple[tuple[str, int], ...], size: int) -> tuple[str, ...]:
    """Each bucket is a place on the ring of 64 bits, and belongs to the backend with the next point."""
    heaviest = max(weight for _, weight in weights)
    points = array("Q")
    for place, (name, weight) in enumerate(weights):
        points.frombytes(_points(name, place, max(1, POINTS * weight // heaviest)))
    ordered = sorted(points)
    return tuple(weights[place][0] for place in _owners(ordered, size))


def _points(name: str, place: int, number: int) -> bytes:
    """So many points of a backend; which one it is takes the lowest byte of each."""
    drawn = bytearray(shake_128(name.encode()).digest(8 * number))
    drawn[0::8] = bytes([place]) * number
    return bytes(drawn)


def _owners(ordered: Sequence[int], size: int) -> Iterator[int]:
    at = 0
    for bucket in range(size):
        while at < len(ordered) and ordered[at] < (bucket << 64) // size:
            at += 1
        yield ordered[at % len(ordered)] & 0xFF
