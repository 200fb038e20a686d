# SPDX-License-Identifier: GPL-2.0-or-later
"""Our two tables: which sets are where, and the chains that come and go in them."""

from dataclasses import InitVar, dataclass, field

TABLE = "inet sluice"
"""Where connections are translated, guarded and counted, with connection tracking."""
INGRESS = "netdev sluice"
"""Where packets are forwarded as they come in, without connection tracking."""

INGRESS_SETS = (
    "in_numbers", "in_virtual4", "in_virtual6", "in_services4", "in_services6", "in_ranges4", "in_ranges6",
    "in_pickers", "in_choosers", "in_buckets", "in_shared", "answering4", "answering6",
    "in_keys", "in_static4", "in_static6", "in_usable",
    "hops4", "hops6", "exits", "waiting", "leaving", "lives", "begun",
    "targets4", "targets6", "ported4", "ported6", "target_ports", "ways",
    "replies4", "replies6", "origins4", "origins6", "origin_ports",
)  # fmt: skip
"""The sets of `table netdev sluice` that have elements of ours; those of `flows`, `fresh` and `in_sticky` are the
packets'."""
FLOWS = ("flows4", "flows6")
"""The maps of the flows that are forwarded at ingress: client, service -> backend."""

INGRESS_CHAINS = "in_chains"
"""The chains of `table netdev sluice`, where elements are told by set; all of them come and go."""

FARM = 0x4000000
"""The bit of a packet's mark that tells a farm's mark from a backend's, as long as no backend is chosen."""
ANSWER = 0x8000000
"""The bit of a packet's mark that tells a backend's answer, which is to be rewritten, from all else."""
ANSWER_MARK = f"meta mark and {ANSWER:#x} != 0"

_HOME = dict.fromkeys((*INGRESS_SETS, *FLOWS, "fresh4", "fresh6"), INGRESS)


@dataclass(frozen=True, order=True)
class IngressChain:
    """A chain of `table netdev sluice`. `hook`: what makes it a base chain.

    What its rules are follows from its name. They may lead to chains of a lower `rank`, which come before it.
    """

    rank: int = field(init=False)
    name: str
    rules: tuple[str, ...]
    hook: str = ""
    leads_to: InitVar[tuple["IngressChain", ...]] = ()

    def __post_init__(self, leads_to: tuple["IngressChain", ...]) -> None:
        object.__setattr__(self, "rank", 1 + max((each.rank for each in leads_to), default=-1))

    @property
    def body(self) -> str:
        """What stands between its braces, in one line."""
        return "; ".join((self.hook, *self.rules) if self.hook else self.rules)


def table_of(set_name: str) -> str:
    """The table, with its family, that has this set or map."""
    return INGRESS if set_name.startswith("in_") else _HOME.get(set_name, TABLE)
