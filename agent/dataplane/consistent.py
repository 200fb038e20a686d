# SPDX-License-Identifier: GPL-2.0-or-later
"""Consistent hashing: which backend has which bucket, such that few clients move when backends come and go. Pure.

Every backend that is configured takes buckets in the order of a permutation of its own until none is left: Maglev's
table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4), whose
shares are even. Buckets of backends that take no connections now are lent: each asks other buckets, in an order that
is fixed, until it finds one whose owner is up. So a failure moves the clients of what failed and nobody else's, and
its return brings back just these.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import blake2b

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
    home = _home(tuple(sorted(weights.items())), size)
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
def _home(weights: tuple[tuple[str, int], ...], size: int) -> tuple[str, ...]:
    if size < len(weights):
        raise ValueError(f"{size} buckets cannot represent {len(weights)} backends")
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
