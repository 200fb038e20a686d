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

At ingress no connection has a mark: there the packet's mark is the farm, then the backend, and what remembers a client
needs both. So the packet's priority is the farm meanwhile, which no packet has yet that comes in.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from agent.dataplane.layout import network_word
from agent.dataplane.pool import masked
from agent.dataplane.tables import FARM, IngressChain
from agent.model import Family, Farm

STICKY_SIZE = 1 << 20
"""Clients that are remembered, by kind of key: a new one beyond is balanced, and not remembered."""

_ADDRESSES: dict[Family, str] = {4: "ip", 6: "ip6"}
_OWN = re.compile(r"persist([46])_[0-9]+_[0-9]+(_port)?(_static)?_own([0-9]+)_([0-9]+)")


class Named(Protocol):
    """A chain that is told by its name."""

    @property
    def name(self) -> str:
        """That name."""
        ...


@dataclass(frozen=True)
class OwnMap:
    """The map of one side of a farm, by the mark of that, which has a size of its own."""

    family: Family
    port: bool
    mark: int
    size: int
    ingress: bool = False

    @classmethod
    def of_chain(cls, name: str, *, ingress: bool = False) -> Self | None:
        """The map that the chain of this name, of either table, has to itself; None if it has none."""
        match = _OWN.fullmatch(name) if "_own" in name else None
        return match and cls(4 if match[1] == "4" else 6, bool(match[2]), int(match[4]), int(match[5]), ingress)

    @property
    def name(self) -> str:
        """The name of the map."""
        return f"{_shared(self.family, self.port, ingress=self.ingress)}_{self.mark}_{self.size}"

    @property
    def declaration(self) -> str:
        """What stands between its braces."""
        return _declaration(self.family, self.port, self.size, ingress=self.ingress)


@dataclass(frozen=True)
class Persistence:
    """One way to remember clients, for any number of farms, or for one. `timeout` in seconds.

    `size` is None for those that share a map; else `mark` is that of the one side of a farm. `ingress`: those of farms
    that are forwarded there.
    """

    family: Family
    prefix: int
    port: bool
    timeout: int
    static: bool
    size: int | None = None
    mark: int = 0
    ingress: bool = False

    @classmethod
    def of(cls, farm: Farm, family: Family, mark: int) -> Self | None:
        """What `farm`, whose side of the family has this mark, wants for its clients; None if it remembers nobody."""
        if farm.persistence == "none":
            return None
        prefix = farm.persistence_prefix4 if family == 4 else farm.persistence_prefix6
        static = any(network.version == family for network in farm.persistence_static)
        size = farm.persistence_size
        own = 0 if size is None else mark
        port = farm.persistence == "address-port"
        return cls(family, prefix, port, farm.persistence_timeout, static, size, own, farm.at_ingress)

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
        return None if self.size is None else OwnMap(self.family, self.port, self.mark, self.size, self.ingress)

    @property
    def set_name(self) -> str:
        """The map that has its clients."""
        own = self.own_map
        return own.name if own else _shared(self.family, self.port, ingress=self.ingress)

    def elements(
        self, farm: Farm, mark: str, picker: str, usable: Iterable[int], marks: Mapping[str, int]
    ) -> dict[str, Mapping[str, tuple[str, str]]]:
        """What its chain looks up for `farm`, whose picker has this name.

        `usable` and `marks` (by name) are those of backends; all marks are as packets or connections have them.
        """
        before = "in_" if self.ingress else ""
        elements: dict[str, Mapping[str, tuple[str, str]]] = {
            f"{before}usable": {str(each): ("", "") for each in usable},
            f"{before}choosers": {mark: (f"jump {picker}", "")},
        }
        if self.ingress:
            elements["in_keys"] = {mark: (key_of(int(mark)), "")}
        given = {
            f"{mark} . {network_word(network)}": (str(marks[backend]), "")
            for network, backend in farm.persistence_static.items()
            if network.version == self.family and backend in marks
        }
        return elements | ({f"{before}static{self.family}": given} if given else {})

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        address = f"{_ADDRESSES[self.family]} saddr"
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


def at_ingress(way: Persistence) -> IngressChain:
    """The chain of a way to remember clients where packets are forwarded as they come in."""
    address, table = _ADDRESSES[way.family], f"@{way.set_name}"
    client = f"meta priority . {'th sport . ' if way.port else ''}({masked(way.family, way.prefix)})"
    remember = f"{table} {{ {client} timeout {way.timeout}s : meta mark }}"
    chosen, forget = f"meta mark and {FARM:#x} == 0", "meta priority set 0"
    service = f"{address} daddr . meta l4proto . th dport"
    # The mark is the farm's again, by what the packet asked for.
    again = tuple(f"{chosen} meta mark set {service} map @in_{kind}{way.family}" for kind in ("services", "ranges"))
    given = (f"meta mark set meta mark . {address} saddr map @in_static{way.family} meta mark @in_usable return",)
    rules = (
        *(given + again if way.static else ()),
        "meta priority set meta mark map @in_keys",
        f"meta mark set {client} map {table} meta mark @in_usable update {remember} {forget} return",
        f"{chosen} delete {table} {{ {client} : meta mark }}",
        *again,
        "meta mark vmap @in_choosers",
        f"{chosen} add {remember}",
        forget,
    )
    return IngressChain(way.name, rules)


def key_of(mark: int) -> str:
    """What stands for the farm of this mark, as packets have it at ingress, among clients there: a priority."""
    return f"{mark >> 16:x}:{mark & 0xFFFF:x}"


def mark_of(key: str | int, *, ingress: bool) -> int:
    """The mark of the farm that a client's key begins with, as libnftables tells it."""
    if not ingress:
        return int(key)
    major, _, minor = str(key).partition(":")
    return (int(major or "0", 16) << 16 | int(minor or "0", 16)) & ~FARM


def shared_maps(size: int, *, ingress: bool) -> str:
    """The maps of all farms without a size of their own, in a table of nft; each for `size` clients."""
    return "".join(
        f"\tmap {_shared(family, port, ingress=ingress)} {{ {_declaration(family, port, size, ingress=ingress)}; "
        f'comment "farm, client{" with its port" if port else ""} -> backend"; }}\n'
        for port in (False, True)
        for family in _ADDRESSES
    )


def own_maps(chains: Iterable[Named]) -> frozenset[OwnMap]:
    """The maps that these chains have to themselves."""
    told = (OwnMap.of_chain(each.name, ingress=isinstance(each, IngressChain)) for each in chains)
    return frozenset(filter(None, told))


def _shared(family: Family, port: bool, *, ingress: bool) -> str:
    return f"{'in_' if ingress else ''}sticky{'_port' if port else ''}{family}"


def _declaration(family: Family, port: bool, size: int, *, ingress: bool) -> str:
    farm, backend = ("priority", "meta mark") if ingress else ("mark", "ct mark")
    key = f"meta {farm} . {'th sport . ' if port else ''}{_ADDRESSES[family]} saddr"
    return f"typeof {key} : {backend}; size {size}; flags dynamic,timeout"
