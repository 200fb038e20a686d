# SPDX-License-Identifier: GPL-2.0-or-later
"""Persistence: chains that send a client to the backend it had before.

    1 the client's network is in `static` and its backend takes connections: that one
    2 the client is in `sticky` and its backend takes connections: that one, and the entry lives on
    3 its backend does not: the entry is forgotten
    4 the farm's own picker chooses
    5 what it chose is remembered

Whether a backend takes connections is asked of the set `usable`, which changes in the transaction that takes a backend
out: a client of a dead backend is never sent there again, however long its entry would have lived.
"""

from dataclasses import dataclass
from typing import Self

from agent.dataplane.pool import masked
from agent.model import Family, Farm


@dataclass(frozen=True)
class Persistence:
    """One way to remember clients, for any number of farms. `timeout` in seconds."""

    family: Family
    prefix: int
    port: bool
    timeout: int
    static: bool

    @classmethod
    def of(cls, farm: Farm, family: Family) -> Self | None:
        """What `farm` wants for its clients of a family; None if it remembers nobody."""
        if farm.persistence == "none":
            return None
        prefix = farm.persistence_prefix4 if family == 4 else farm.persistence_prefix6
        static = any(network.version == family for network in farm.persistence_static)
        return cls(family, prefix, farm.persistence == "address-port", farm.persistence_timeout, static)

    @property
    def name(self) -> str:
        """The name of its chain."""
        more = f"{'_port' if self.port else ''}{'_static' if self.static else ''}"
        return f"persist{self.family}_{self.prefix}_{self.timeout}{more}"

    declaration = ""
    """No hook leads to its chain."""

    @property
    def set_name(self) -> str:
        """The map that has its clients."""
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
