# SPDX-License-Identifier: GPL-2.0-or-later
"""What a farm's limits come to for its clients of an IP family: what has no effect is left out, so equals are equal."""

from typing import NamedTuple

from agent.model.farm import Family, Farm


class ConnectionLimits(NamedTuple):
    """What is asked of each new connection."""

    prefix: int
    """Bits of an address by which sources are told apart; 0 where none is counted."""
    rate: int | None
    """New connections of a source in a second."""
    burst: int
    """So many of them at once; 0 without `rate`."""
    connections: int | None
    """Open ones of a source."""
    reject: bool
    strict: bool
    log: bool
    """Whether anything is logged; in which words, and how much, is no part of the setting."""


class ResetLimits(NamedTuple):
    """What is asked of each TCP reset."""

    prefix: int
    rate: int
    """Resets of a source in a second."""
    log: bool


class FarmLimits(NamedTuple):
    """Both; None where nothing is asked."""

    connections: ConnectionLimits | None
    resets: ResetLimits | None

    @property
    def bounds(self) -> set[tuple[object, ...]]:
        """What sources are counted by; each is a set of sources in the kernel."""
        found: set[tuple[object, ...]] = set()
        if (limits := self.connections) and limits.rate:
            found.add(("rate", limits.prefix, limits.rate, limits.burst))
        if limits and limits.connections:
            found.add(("connections", limits.prefix, limits.connections))
        if self.resets:
            found.add(("resets", self.resets.prefix, self.resets.rate))
        return found


_NONE = FarmLimits(None, None)


def limits_of(farm: Farm, family: Family) -> FarmLimits:
    """The limits of `farm` for its clients of a family."""
    if not (farm.checked or farm.limited):
        return _NONE  # most farms: there may be 10 000 of them
    prefix = farm.limit_prefix4 if family == 4 else farm.limit_prefix6
    log = farm.log_prefix is not None
    counted = bool(farm.limit_rate or farm.limit_connections)
    connections = ConnectionLimits(
        prefix if counted else 0,
        farm.limit_rate,
        farm.limit_burst if farm.limit_rate else 0,
        farm.limit_connections,
        counted and farm.limit_action == "reject",
        farm.strict_tcp,
        log,
    )
    resets = ResetLimits(prefix, farm.limit_resets, log) if farm.limit_resets else None
    return FarmLimits(connections if farm.checked else None, resets)
