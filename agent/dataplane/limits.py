# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of each source: chains that turn new connections away, and the sets that know the sources.

    1 the source opens connections faster than it may: turned away, counted in `over_rate`
    2 it has more of them open than it may:            turned away, counted in `over_connections`
    3 the farm's persistence or picker goes on

A chain serves every farm with the same setting; sources are told apart by farm. The bounds are written into the
elements of the sets when packets make them, so each setting has sets of its own: another bound is another set, and
begins to count anew.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from agent.dataplane.pool import masked
from agent.model import Family, Farm

METER_SIZE = 1 << 18
"""Sources that a set knows at a time: one beyond is not limited."""

COUNTERS = {"rate": "over_rate", "connections": "over_connections"}
"""The sets that count, by farm, what each limit turned away."""

_NAME = re.compile(r"limit([46])_([0-9]{1,3})(?:_r([0-9]{1,7})_b([0-9]{1,7}))?(?:_c([0-9]{1,5}))?(_reject)?")


@dataclass(frozen=True, order=True)
class Meter:
    """A set of sources with the bound that its elements are made with. `bound` is in the notation of nft."""

    name: str
    family: Family
    prefix: int
    bound: str
    timeout: int | None
    """Seconds after which a source is forgotten; None: when it has no connection left."""

    @property
    def declaration(self) -> str:
        """What is between the braces of its set."""
        key = "ip saddr" if self.family == 4 else "ip6 saddr"
        flags = f"dynamic,timeout; timeout {self.timeout}s" if self.timeout else "dynamic"
        return f"typeof meta mark . {key}; size {METER_SIZE}; flags {flags}"

    @property
    def update(self) -> str:
        """The statement that counts the packet for its source; what follows it happens beyond the bound."""
        verb = "update" if self.timeout else "add"
        return f"{verb} @{self.name} {{ meta mark . ({masked(self.family, self.prefix)}) {self.bound} }}"


@dataclass(frozen=True)
class Limits:
    """One way to limit sources, for any number of farms. `rate` in connections per second; None: no such limit."""

    family: Family
    prefix: int
    rate: int | None
    burst: int
    connections: int | None
    reject: bool

    declaration = ""
    """No hook leads to its chain."""

    @classmethod
    def of(cls, farm: Farm, family: Family) -> Self | None:
        """What `farm` wants for its clients of a family; None if it limits nobody."""
        if not farm.limited:
            return None
        prefix = farm.limit_prefix4 if family == 4 else farm.limit_prefix6
        burst = farm.limit_burst if farm.limit_rate else 0
        return cls(family, prefix, farm.limit_rate, burst, farm.limit_connections, farm.limit_action == "reject")

    @classmethod
    def named(cls, chain: str) -> Self | None:
        """The setting whose chain has this name; None for any other name."""
        match = _NAME.fullmatch(chain)
        if not match:
            return None
        family, prefix, rate, burst, connections, reject = match.groups()
        return cls(
            4 if family == "4" else 6,
            int(prefix),
            int(rate) if rate else None,
            int(burst or 0),
            int(connections) if connections else None,
            bool(reject),
        )

    @property
    def name(self) -> str:
        """The name of its chain; all of the setting is in it."""
        rate = f"_r{self.rate}_b{self.burst}" if self.rate else ""
        connections = f"_c{self.connections}" if self.connections else ""
        return f"limit{self.family}_{self.prefix}{rate}{connections}{'_reject' if self.reject else ''}"

    @property
    def meters(self) -> tuple[Meter, ...]:
        """The sets that its chain uses; settings that share a bound share its set."""
        found = []
        if self.rate:
            name = f"rate{self.family}_{self.prefix}_{self.rate}_{self.burst}"
            bound = f"limit rate over {self.rate}/second burst {self.burst} packets"
            # By then all that it may do at once is its again: nothing is lost with what is forgotten.
            found.append(Meter(name, self.family, self.prefix, bound, self.burst // self.rate + 1))
        if self.connections:
            name = f"count{self.family}_{self.prefix}_{self.connections}"
            found.append(Meter(name, self.family, self.prefix, f"ct count over {self.connections}", None))
        return tuple(found)

    @property
    def counters(self) -> tuple[str, ...]:
        """The sets that count what it turns away, in the order of `meters`."""
        return tuple(name for name in COUNTERS.values() if {"over_rate": self.rate}.get(name, self.connections))

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        end = "goto turned_away" if self.reject else "drop"
        checks = zip(self.meters, self.counters, strict=True)
        return (
            *(f"{meter.update} meta mark @{counter} {end}" for meter, counter in checks),
            "meta mark vmap @admitted",
        )


def meters_of(chains: Iterable[object]) -> frozenset[Meter]:
    """The sets that these chains use."""
    return frozenset(meter for chain in chains if isinstance(chain, Limits) for meter in chain.meters)
