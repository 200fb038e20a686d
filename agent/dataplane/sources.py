# SPDX-License-Identifier: GPL-2.0-or-later
"""The addresses that backends of farms with `snat` see: the appliance's own, or those of a source pool. Pure.

    chain masquerading   backends that see the appliance's, by `masqueraded`
    chain pools          backend -> its farm's pool, by `pooled`; before chain `source`, which then is not asked
    chain pool4_HASH     the next of the pool's addresses; one for each pool that is in use, told by a hash of it

Each connection gets the next address, whoever the client is: so all ports of all of them can be used to one backend,
and a client whose connection found no free port tries the next address when it tries again. Of a range that a rule
names the kernel would take one by a hash of both ends: one client had one address.

The chains come with the first farm that wants them and go with the last.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from agent.dataplane.quality import Stage
from agent.model import Family, Farm

PREFIX = "pool"
"""How the names of these chains begin."""

MASQUERADE = Stage(
    "masquerading",
    "type nat hook postrouting priority srcnat - 1; policy accept",
    ("ct status dnat ct mark @masqueraded masquerade",),
)
"""Where a new connection that leaves gets the appliance's address."""

POOLS = Stage(
    "pools",
    "type nat hook postrouting priority srcnat - 1; policy accept",
    ("ct status dnat ct mark vmap @pooled",),
)
"""Where a new connection that leaves is asked whether it has a pool."""


@dataclass(frozen=True)
class SourcePool:
    """The chain of one pool, for any number of farms."""

    family: Family
    addresses: tuple[str, ...]

    rank = 0
    declaration = ""

    @classmethod
    def of(cls, farm: Farm, family: Family) -> Self | None:
        """What a farm has for its connections of a family; None: the appliance's address."""
        addresses = farm.sources(family)
        return cls(family, tuple(map(str, addresses))) if addresses else None

    @property
    def name(self) -> str:
        """The name of its chain."""
        return f"{PREFIX}{self.family}_{sha256(repr(self.rules).encode()).hexdigest()[:16]}"

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        kind = "ip" if self.family == 4 else "ip6"
        if len(self.addresses) == 1:
            return (f"snat {kind} to {self.addresses[0]}",)
        pairs = ", ".join(f"{number} : {address}" for number, address in enumerate(self.addresses))
        return (f"snat {kind} to numgen inc mod {len(self.addresses)} map {{ {pairs} }}",)


def chains_of(farm: Farm, family: Family) -> set[Stage | SourcePool]:
    """The chains that give a farm's connections of a family another source."""
    if pool := SourcePool.of(farm, family):
        return {POOLS, pool}
    return {MASQUERADE} if farm.forwarding == "snat" else set()
