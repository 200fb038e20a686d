# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of each source: chains that turn packets away, and the sets that know the sources.

A farm's `limit` chain, for a connection's first packet:

    1 it is TCP and does not begin with a SYN, and the farm is strict: dropped, counted in `not_syn`
    2 the source opens connections faster than it may: turned away, counted in `over_rate`
    3 it has more of them open than it may:            turned away, counted in `over_connections`
    4 it is logged, if the farm says so
    5 the farm's persistence or picker goes on

Its `resets` chain, for each TCP reset, before connection tracking: beyond the limit dropped, counted in `over_resets`.

A chain serves every farm with the same setting; sources are told apart by farm. What is logged, and how, is no part of
that: the chains of farms that log ask a map for each kind of line, which leads to the chain that has the farm's words.
The bounds are written into the
elements of the sets when packets make them, so each setting has sets of its own: another bound is another set, and
begins to count anew. All that a chain says is in its name, so that it is known again after a restart.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

from agent.dataplane.pool import masked
from agent.model import Family, Farm, limits_of

METER_SIZE = 1 << 18
"""Sources that a set knows at a time: one beyond is not limited."""

Reason = Literal["rate", "connections", "strict", "resets"]

COUNTERS: dict[Reason, str] = {
    "rate": "over_rate",
    "connections": "over_connections",
    "strict": "not_syn",
    "resets": "over_resets",
}
"""The sets that count, by farm, what each limit turned away."""

PREFIXES = ("limit", "resets", "away", "log_")
"""What the names of chains of this file begin with."""

_LIMITS = re.compile(
    r"limit([46])_([0-9]{1,3})(?:_r([0-9]{1,7})_b([0-9]{1,7}))?(?:_c([0-9]{1,5}))?(_reject)?(_strict)?(_log)?"
)
_RESETS = re.compile(r"resets([46])_([0-9]{1,3})_([0-9]{1,7})(_log)?")


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


def _rate(kind: str, family: Family, prefix: int, rate: int, burst: int) -> Meter:
    bound = f"limit rate over {rate}/second burst {burst} packets"
    # By the timeout all that a source may do at once is its again: nothing is lost with what is forgotten.
    return Meter(f"{kind}{family}_{prefix}_{rate}_{burst}", family, prefix, bound, burst // rate + 1)


Line = Reason | Literal["new"]
"""What a line of the log is about: a connection that is new, or a packet that was turned away."""
LINES: tuple[Line, ...] = ("new", *COUNTERS)


@dataclass(frozen=True)
class Log:
    """Lines of one kind and with one word in front, `rate` in a second at most, for any number of farms."""

    line: Line
    rate: int
    prefix: str

    declaration = ""

    @property
    def map(self) -> str:
        """The map that leads farms to such a chain."""
        return f"log_{self.line}"

    @property
    def name(self) -> str:
        """The name of its chain."""
        return f"{self.map}_{self.rate}_{self.prefix}"

    @property
    def rules(self) -> tuple[str, ...]:
        """The rule that logs a packet; no more than that."""
        what = "new" if self.line == "new" else f"turned away ({self.line})"
        words = f'log prefix "{self.prefix} {what}: " level info'
        return (f"limit rate {self.rate}/second burst {self.rate} packets {words}",)


@dataclass(frozen=True)
class Away:
    """The end of a packet of a farm that logs, when it is turned away."""

    reason: Reason
    reject: bool

    declaration = ""

    @property
    def name(self) -> str:
        """The name of its chain."""
        return f"away_{self.reason}{'_reject' if self.reject else ''}"

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        return f"meta mark vmap @log_{self.reason}", "goto turned_away" if self.reject else "drop"


@dataclass(frozen=True)
class Limits:
    """One way to limit sources, for any number of farms. `rate` in connections per second; None: no such limit."""

    family: Family
    prefix: int
    rate: int | None
    burst: int
    connections: int | None
    reject: bool
    strict: bool = False
    log: bool = False

    declaration = ""
    """No hook leads to its chain."""

    @classmethod
    def of(cls, farm: Farm, family: Family) -> Self | None:
        """What `farm` wants for its clients of a family."""
        if (wanted := limits_of(farm, family).connections) is None:
            return None
        return cls(family, *wanted)

    @classmethod
    def named(cls, chain: str) -> Self | None:
        """The setting whose chain has this name; None for any other name."""
        match = _LIMITS.fullmatch(chain)
        if not match:
            return None
        family, prefix, rate, burst, connections, reject, strict, log = match.groups()
        return cls(
            4 if family == "4" else 6,
            int(prefix),
            int(rate) if rate else None,
            int(burst or 0),
            int(connections) if connections else None,
            bool(reject),
            bool(strict),
            bool(log),
        )

    @property
    def name(self) -> str:
        """The name of its chain."""
        rate = f"_r{self.rate}_b{self.burst}" if self.rate else ""
        connections = f"_c{self.connections}" if self.connections else ""
        more = "".join(f"_{name}" for name in ("reject", "strict", "log") if getattr(self, name))
        return f"limit{self.family}_{self.prefix}{rate}{connections}{more}"

    @property
    def meters(self) -> tuple[Meter, ...]:
        """The sets that its chain uses; settings that share a bound share its set."""
        return tuple(meter for meter, _, _ in self._checks() if meter)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What it turns packets away for."""
        return tuple(reason for _, _, reason in self._checks())

    @property
    def ends(self) -> tuple[Away, ...]:
        """The chains that its chain leads to."""
        return tuple(map(self._away, self.reasons)) if self.log else ()

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        checks = [f"{check} meta mark @{COUNTERS[reason]} {self._end(reason)}" for _, check, reason in self._checks()]
        return (*checks, *(["meta mark vmap @log_new"] if self.log else []), "meta mark vmap @admitted")

    def _checks(self) -> Iterator[tuple[Meter | None, str, Reason]]:
        if self.strict:
            yield None, "tcp flags & (fin | syn | rst | ack) != syn", "strict"
        if self.rate:
            meter = _rate("rate", self.family, self.prefix, self.rate, self.burst)
            yield meter, meter.update, "rate"
        if self.connections:
            name = f"count{self.family}_{self.prefix}_{self.connections}"
            meter = Meter(name, self.family, self.prefix, f"ct count over {self.connections}", None)
            yield meter, meter.update, "connections"

    def _away(self, reason: Reason) -> Away:
        return Away(reason, self.reject and reason != "strict")

    def _end(self, reason: Reason) -> str:
        if self.log:
            return f"goto {self._away(reason).name}"
        return "goto turned_away" if self.reject and reason != "strict" else "drop"


@dataclass(frozen=True)
class Resets:
    """One limit of TCP resets per second of a source, for any number of farms."""

    family: Family
    prefix: int
    rate: int
    log: bool = False

    @classmethod
    def of(cls, farm: Farm, family: Family) -> Self | None:
        """What `farm` wants for its clients of a family."""
        if (wanted := limits_of(farm, family).resets) is None:
            return None
        return cls(family, *wanted)

    @classmethod
    def named(cls, chain: str) -> Self | None:
        """The setting whose chain has this name; None for any other name."""
        match = _RESETS.fullmatch(chain)
        if not match:
            return None
        return cls(4 if match[1] == "4" else 6, int(match[2]), int(match[3]), bool(match[4]))

    declaration = ""

    @property
    def name(self) -> str:
        """The name of its chain."""
        return f"resets{self.family}_{self.prefix}_{self.rate}{'_log' if self.log else ''}"

    @property
    def meters(self) -> tuple[Meter, ...]:
        """The set that its chain uses."""
        return (_rate("reset", self.family, self.prefix, self.rate, self.rate),)

    @property
    def ends(self) -> tuple[Away, ...]:
        """The chains that its chain leads to."""
        return (Away("resets", reject=False),) if self.log else ()

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        (meter,) = self.meters
        return (f"{meter.update} meta mark @over_resets {f'goto {self.ends[0].name}' if self.ends else 'drop'}",)


@dataclass(frozen=True)
class ResetGate:
    """The chain that leads resets to the limits of their farms; all packets pass it while there is such a limit.

    It is before connection tracking, which takes a reset's word that the connection has ended, whoever drops it later.
    """

    name = "resets"
    declaration = "type filter hook prerouting priority raw; policy accept"
    rules = (
        "meta l4proto != tcp accept",
        "tcp flags & rst == 0 accept",
        "meta mark set ip daddr . meta l4proto . th dport map @services4 meta mark vmap @resetters",
        "meta mark set ip6 daddr . meta l4proto . th dport map @services6 meta mark vmap @resetters",
        # At a link's own address a range may hold the ports of the appliance's connections, whose answers come there.
        "ip daddr @virtual4 meta mark set ip daddr . meta l4proto . th dport map @ranges4 meta mark vmap @resetters",
        "ip6 daddr @virtual6 meta mark set ip6 daddr . meta l4proto . th dport map @ranges6 meta mark vmap @resetters",
        "ip daddr @virtual4 meta mark set ip daddr map @whole4 meta mark vmap @resetters",
        "ip6 daddr @virtual6 meta mark set ip6 daddr map @whole6 meta mark vmap @resetters",
        "meta mark set 0",
    )


PolicyChain = Limits | Resets | ResetGate | Away | Log


def logs(farm: Farm, family: Family) -> Iterator[Log]:
    """The lines that `farm` wants about its clients of a family, by kind."""
    if farm.log_prefix:
        limits, resets = Limits.of(farm, family), Resets.of(farm, family)
        lines: tuple[Line, ...] = ("new", *(limits.reasons if limits else ()), *(("resets",) if resets else ()))
        yield from (Log(line, farm.log_rate, farm.log_prefix) for line in lines)


def policies(farm: Farm, family: Family) -> set[PolicyChain]:
    """Every chain that `farm` wants for its clients of a family."""
    found: set[PolicyChain] = {*logs(farm, family)}
    if limits := Limits.of(farm, family):
        found |= {limits, *limits.ends}
    if resets := Resets.of(farm, family):
        found |= {ResetGate(), resets, *resets.ends}
    return found


def meters_of(chains: Iterable[object]) -> frozenset[Meter]:
    """The sets that these chains use."""
    return frozenset(meter for chain in chains if isinstance(chain, Limits | Resets) for meter in chain.meters)


def meters_named(chains: Iterable[str]) -> frozenset[Meter]:
    """The sets that the chains with these names use."""
    names = list(chains)
    return meters_of([*map(Limits.named, names), *map(Resets.named, names)])
