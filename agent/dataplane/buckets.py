# SPDX-License-Identifier: GPL-2.0-or-later
"""Buckets: how weights become a repeating sequence of backends. Pure arithmetic.

A farm has `size` numbered buckets, each names a backend, and connections go through them in turn. How many buckets a
backend has is its share; how they lie is how smooth the balancing is.
"""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from math import gcd

EXACT_LIMIT = 16
"""An exact size is taken up to this many times the cycle: beyond, it would only cost elements."""

COARSE_SIZES = (1024, 4096, 16384, 65536)
"""For weights whose cycle is no divisor of any size. The last serves 256 backends of weights 1 to 256."""

_FINE = 8
_FINE_UP_TO = 4096


def cycle(weights: Iterable[int]) -> int:
    """The shortest sequence that represents these weights exactly: their sum over their greatest common divisor."""
    positive = [weight for weight in weights if weight > 0]
    return sum(positive) // (gcd(*positive) or 1)


def exact_sizes(length: int, sizes: Iterable[int]) -> list[int]:
    """Those of `sizes` that represent a cycle of `length` exactly at a sensible cost, smallest first."""
    limit = max(64, EXACT_LIMIT * length)
    return sorted(size for size in sizes if length and size % length == 0 and size <= limit)


def coarse_size(weights: Iterable[int]) -> int:
    """The size for weights that no size represents exactly.

    Big enough that the smallest weight has 8 buckets, but not above 4096 for that; and always, for at most 256 weights
    of 1 to 256, big enough that it has one.
    """
    positive = [weight for weight in weights if weight > 0]
    least, total = min(positive), sum(positive)
    for size in COARSE_SIZES:
        if size * least >= _FINE * total or (size >= _FINE_UP_TO and size * least >= total):
            return size
    return COARSE_SIZES[-1]


def size_for(weights: Iterable[int], sizes: Iterable[int]) -> int:
    """How many buckets `weights` (not all 0) need: the smallest of `sizes` that is exact, else a coarse one."""
    positive = [weight for weight in weights if weight > 0]
    exact = exact_sizes(cycle(positive), sizes)
    return exact[0] if exact else coarse_size(positive)


def counts(weights: Mapping[str, int], size: int) -> dict[str, int]:
    """How many of `size` buckets each backend has: the largest-remainder method, ties by name.

    Where every ideal (size * weight / sum) is at least 1, each count is less than 1 from its ideal. Otherwise every
    positive weight still has a bucket, taken from the largest. Backends of weight 0 are left out.
    Raises ValueError for no positive weight, or fewer buckets than backends.
    """
    wanted = {name: weight for name, weight in sorted(weights.items()) if weight > 0}
    if not wanted or size < len(wanted):
        raise ValueError(f"{size} buckets cannot represent {len(wanted)} backends")
    total = sum(wanted.values())
    result = {name: size * weight // total for name, weight in wanted.items()}
    by_remainder = sorted(wanted, key=lambda name: (-(size * wanted[name] % total), name))
    for name in by_remainder[: size - sum(result.values())]:
        result[name] += 1
    for name in [name for name, count in result.items() if count == 0]:
        result[max(result, key=lambda other: (result[other], other))] -= 1
        result[name] = 1
    return result


def fill(weights: Mapping[str, int], size: int) -> list[str]:
    """The backend of each of `size` buckets, interleaved as smoothly as whole buckets allow.

    In the first k buckets, for every k, each backend's count is less than 1 from k times its share; so in any run of
    buckets, also one around the end, it is less than 2 from it. Equal weights give a plain rotation in the order of
    names. The same arguments give the same buckets. Raises ValueError as `counts` does.

    Method: the j-th bucket of a backend with c of n buckets must lie in [floor(j*n/c), ceil((j+1)*n/c)), and the
    earliest deadline goes first: that is always possible, because the windows' demand never exceeds the slots.
    """
    numbers = counts(weights, size)
    names = list(numbers)
    rank = {name: place for place, name in enumerate(names)}
    released: list[list[str]] = [[] for _ in range(size)]
    released[0] = names
    ready: list[tuple[int, int, str]] = []
    given = dict.fromkeys(names, 0)
    result: list[str] = []
    for slot in range(size):
        for name in released[slot]:
            heappush(ready, (-(-(given[name] + 1) * size // numbers[name]), rank[name], name))
        name = heappop(ready)[2]
        result.append(name)
        given[name] += 1
        if given[name] < numbers[name]:
            # A bucket's window never opens before the slot after the one that its forerunner took.
            released_at = max(slot + 1, given[name] * size // numbers[name])
            released[released_at].append(name)
    return result
