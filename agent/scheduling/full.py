# SPDX-License-Identifier: GPL-2.0-or-later
"""Which backends have as many connections as they may have, and when to count again. Pure.

A backend is full from `max_connections` open connections on, until a tenth of them, and at least one, has ended: so it
does not go in and out with each connection.
"""

from collections.abc import Collection, Iterator, Mapping

from agent.model import Farm

Key = tuple[str, str]
"""Farm and backend."""

NEAR, FAR = 0.1, 0.5
"""Seconds from one count to the next: near is where a backend has half of what it may have, or is full."""

_DUTY = 4
"""After a count that takes long, so many times as long passes: no more than a fifth of the time is spent on it."""


def watched(farms: Mapping[str, Farm]) -> dict[Key, int]:
    """The backends whose connections are to be counted, with how many each may have."""
    return {
        (farm_name, name): backend.max_connections
        for farm_name, farm in farms.items()
        if farm.enabled
        for name, backend in farm.backends.items()
        if backend.max_connections is not None
    }


def full_after(limits: Mapping[Key, int], active: Mapping[Key, int], before: Collection[Key]) -> frozenset[Key]:
    """Those that are full with these open connections; `before` were until now."""
    return frozenset(_full(limits, active, before))


def _full(limits: Mapping[Key, int], active: Mapping[Key, int], before: Collection[Key]) -> Iterator[Key]:
    for key, limit in limits.items():
        if active.get(key, 0) > (limit - max(1, limit // 10) if key in before else limit - 1):
            yield key


def pause(limits: Mapping[Key, int], active: Mapping[Key, int], full: Collection[Key], took: float) -> float:
    """Seconds until the next count, after one that took `took` seconds."""
    near = bool(full) or any(2 * active.get(key, 0) >= limit for key, limit in limits.items())
    return max(NEAR if near else FAR, _DUTY * took)
