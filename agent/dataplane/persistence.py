# SPDX-License-Identifier: GPL-2.0-or-later
"""Persistence: chains that send a client to the backend it had before.

    1 the client's network is in `static` and its backend takes connections: that one
    2 the client is in `sticky` and its backend takes connections: that one, and the entry lives on
    3 its backend does not: the entry is forgotten
    4 the farm's own picker chooses
    5 what it chose is remembered

Whether a backend takes connections is asked of the set `usable`, which changes in the transaction that takes a backend
out: a client of a dead backend is never sent there again, however long its entry would have lived.

`sticky` is one map for all farms. A farm that has a size of its own has a map of its own, too, which comes and goes
with its chain, and is told by that chain's name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from agent.dataplane.pool import masked
from agent.model import Family, Farm

_OWN = re.compile(r"persist([46])_[0-9]+_[0-9]+(_port)?(_static)?_own([0-9]+)_([0-9]+)")


@dataclass(frozen=True)
class OwnMap:
    """The map of one side of a farm, by the mark of that, which has a size of its own."""

    family: Family
    port: bool
    mark: int
    size: int

    @classmethod
    def of_chain(cls, name: str) -> Self | None:
        """The map that the chain of this name has to itself; None if it has none."""
        match = _OWN.fullmatch(name)
        return cls(4 if match[1] == "4" else 6, bool(match[2]), int(match[4]), int(match[5])) if match else None

    @property
    def name(self) -> str:
        """The name of the map."""
        return f"sticky{'_port' if self.port else ''}{self.family}_{self.mark}_{self.size}"

    @property
    def declaration(self) -> str:
        """What stands between its braces."""
        address = "ip saddr" if self.family == 4 else "ip6 saddr"
        key = f"meta mark . {'th sport . ' if self.port else ''}{address}"
        return f"typeof {key} : ct mark; size {self.size}; flags dynamic,timeout"


@dataclass(frozen=True)
class Persistence:
    """One way to remember clients, for any number of farms, or for one. `timeout` in seconds.

    `size` is None for those that share a map; else `mark` is that of the one side of a farm.
    """

    family: Family
    prefix: int
    port: bool
    timeout: int
    static: bool
    size: int | None = None
    mark: int = 0

    @classmethod
    def of(cls, farm: Farm, family: Family, mark: int) -> Self | None:
        """What `farm`, whose side of the family has this mark, wants for its clients; None if it remembers nobody."""
        if farm.persistence == "none":
            return None
        prefix = farm.persistence_prefix4 if family == 4 else farm.persistence_prefix6
        static = any(network.version == family for network in farm.persistence_static)
        size = farm.persistence_size
        own = 0 if size is None else mark
        return cls(family, prefix, farm.persistence == "address-port", farm.persistence_timeout, static, size, own)

    @property
    def name(self) -> str:
        """The name of its chain."""
        more = f"{'_port' if self.port else ''}{'_static' if self.static else ''}"
        more += f"_own{self.mark}_{self.size}" if self.size is not None else ""
        return f"persist{self.family}_{self.prefix}_{self.timeout}{more}"

    declaration = ""
    """No hook leads to its chain."""
    rank = 0

    @property
    def own_map(self) -> OwnMap | None:
        """The map that it has to itself."""
        return None if self.size is None else OwnMap(self.family, self.port, self.mark, self.size)

    @property
    def set_name(self) -> str:
        """The map that has its clients."""
        if own := self.own_map:
            return own.name
        return f"sticky{'_port' if self.port else ''}{self.family}"

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        address = "ip saddr" if self.family == 4 else "ip6 saddr"
        # In the middle nft takes an operation in parentheses only.
        client = f"meta mark . {'th sport . ' if self.port else ''}({masked(self.family, self.prefix)})"
        table = f"@{self.set_name}"
        remember = f"{table} {{ {client} timeout {self.timeout}s : ct mark }}"
        given = (f"ct mark set meta mark . {address} map @static{self.family} ct mark @usable return",)
        return (
            *(given if self.static else ()),
            f"ct mark set {client} map {table} ct mark @usable update {remember} return",
            f"ct mark != 0 delete {table} {{ {client} : ct mark }} ct mark set 0",
            "meta mark vmap @choosers",
            f"ct mark != 0 add {remember}",
        )


def own_maps(chains: Iterable[object]) -> frozenset[OwnMap]:
    """The maps that these chains have to themselves."""
    return frozenset(each.own_map for each in chains if isinstance(each, Persistence) and each.own_map)
