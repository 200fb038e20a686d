# SPDX-License-Identifier: GPL-2.0-or-later
"""Screening: whom farms with network lists let in. Every packet to such a farm is asked for, before it is tracked.

    chain screen       is the address one of a farm with lists? a packet to any other goes on after this one lookup
    chain screen4, 6   address . protocol . port -> the farm's mark, by maps like those of `dispatch`
    chain screen_own   the same for addresses of links, after tracking: answers to the appliance are for no farm
    chain sieve_...    the client's address in the lists that the farm denies and allows; one for each choice of lists
    set net4_NAME      the networks of a list, ranges of addresses; net6_NAME its IPv6 ones

Chains and sets of lists come with the first farm that wants them and go with the last.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from agent.dataplane.layout import network_word
from agent.dataplane.quality import Stage
from agent.model import MANAGEMENT_PORT, Family, Farm, NetworkList
from agent.model.types import Address

Element = tuple[str, str]

_NOTHING: Element = ("", "")
_ADDRESS = {4: "ip", 6: "ip6"}
_ERRORS = {
    4: "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    6: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
}
FIELDS = {"denied": "deny", "unlisted": "allow"}
"""The field of a farm for which each set counts what is dropped."""
SERVICES = ("services", "ranges", "whole")
"""The maps that lead to a farm, without their family; those of screening are called `screen_` and the same."""


def _ways(family: Family) -> Stage:
    return Stage(
        f"screen{family}",
        "",
        (
            *_served(family),
            # Routers in no list tell that packets are too large, say; connection tracking knows whether it is true.
            f"{_ERRORS[family]} accept",
            f"meta mark set {_ADDRESS[family]} daddr map @screen_whole{family} goto sift",
        ),
        1,
    )


def _own_ways(family: Family) -> Stage:
    return Stage(
        f"screen_own{family}",
        "",
        # The GUI's port on the appliance's own addresses is nobody else's; see `dispatch`.
        (f"tcp dport {MANAGEMENT_PORT} accept", "ct direction reply accept", *_served(family)),
        1,
    )


def _served(family: Family) -> tuple[str, ...]:
    service = f"meta mark set {_ADDRESS[family]} daddr . meta l4proto . th dport map"
    return tuple(f"{service} @screen_{kind}{family} goto sift" for kind in ("services", "ranges"))


SIFT = Stage("sift", "", ("meta mark vmap @sieves",))
SCREEN = Stage(
    "screen",
    "type filter hook prerouting priority raw; policy accept",
    ("ip daddr @screened4 goto screen4", "ip6 daddr @screened6 goto screen6"),
    2,
)
OWN_SCREEN = Stage(
    "screen_own",
    "type filter hook prerouting priority -190; policy accept",  # connection tracking is at -200
    ("ip daddr @screened_own4 goto screen_own4", "ip6 daddr @screened_own6 goto screen_own6"),
    2,
)
_ALWAYS = (SIFT, _ways(4), _ways(6), SCREEN)
"""What is there while any farm has lists."""
_OWN = (_own_ways(4), _own_ways(6), OWN_SCREEN)
"""And while one of them is at an address of a link."""
STAGES = (*_ALWAYS, *_OWN)


@dataclass(frozen=True)
class Sieve:
    """The chain of one choice of lists."""

    family: Family
    allow: tuple[str, ...]
    deny: tuple[str, ...]

    rank = 0
    declaration = ""

    @classmethod
    def of(cls, farm: Farm, family: Family) -> Self:
        """What a farm with lists wants for its clients of a family."""
        return cls(family, tuple(sorted(farm.allow)), tuple(sorted(farm.deny)))

    @property
    def name(self) -> str:
        """The name of its chain: lists may have longer names than a chain can."""
        return f"sieve{self.family}_{sha256(repr((self.allow, self.deny)).encode()).hexdigest()[:16]}"

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        saddr = f"{_ADDRESS[self.family]} saddr"
        return (
            *(f"{saddr} @{set_of(each, self.family)} meta mark @denied drop" for each in self.deny),
            *(f"{saddr} @{set_of(each, self.family)} accept" for each in self.allow),
            *(("meta mark @unlisted drop",) if self.allow else ()),
        )


@dataclass(frozen=True)
class NetworkSet:
    """The set of a list's networks of a family."""

    list_name: str
    family: Family

    rank = -1
    declaration = ""

    @property
    def name(self) -> str:
        """Its name."""
        return set_of(self.list_name, self.family)

    @property
    def rules(self) -> tuple[str, ...]:
        """What it is declared with."""
        return (f"type ipv{self.family}_addr", "flags interval")


@dataclass(frozen=True)
class Listed:
    """The elements of a list, and what they were made from."""

    made_from: NetworkList
    elements: Mapping[str, Mapping[str, Element]]


def set_of(list_name: str, family: Family) -> str:
    """The name of the set that has a list's networks of a family."""
    return f"net{family}_{list_name}"


def screened(farm: Farm) -> bool:
    """Whether `farm` asks who its clients are."""
    return bool(farm.allow or farm.deny)


def elements_of(
    farm: Farm, family: Family, mark: str, services: Mapping[str, Mapping[str, Element]]
) -> dict[str, dict[str, Element]]:
    """The elements of a side of a farm with lists; `services` are those that lead to it."""
    found = {f"screen_{name}": dict(content) for name, content in services.items()}
    found["sieves"] = {mark: (f"goto {Sieve.of(farm, family).name}", "")}
    if farm.deny:
        found["denied"] = {mark: _NOTHING}
    if farm.allow:
        found["unlisted"] = {mark: _NOTHING}
    return found


def addresses_of(farms: Iterable[Farm], own: Collection[Address]) -> Mapping[str, Mapping[str, Element]]:
    """The virtual addresses at which a packet is asked for. `farms` are those that are enabled; `own`: of links."""
    addresses = {address for farm in farms if screened(farm) for address in farm.addresses}
    return {
        f"{name}{family}": {str(each): _NOTHING for each in sorted(found, key=int) if each.version == family}
        for name, found in (("screened", addresses.difference(own)), ("screened_own", addresses.intersection(own)))
        for family in (4, 6)
    }


def chains_of(farm: Farm, family: Family, *, own: bool) -> set["Stage | Sieve | NetworkSet"]:
    """What a side of a farm with lists needs. `own`: it has an address of a link."""
    lists = (NetworkSet(name, family) for name in (*farm.allow, *farm.deny))
    return {*_ALWAYS, *(_OWN if own else ()), Sieve.of(farm, family), *lists}


def listed(
    chains: Iterable[object], lists: Mapping[str, NetworkList], before: Mapping[str, Listed]
) -> dict[str, Listed]:
    """The elements of the lists whose sets are among `chains`, by set; those that are as before are reused."""
    found: dict[str, Listed] = {}
    for each in chains:
        if isinstance(each, NetworkSet):
            content, held = lists[each.list_name], before.get(each.name)
            if held and (held.made_from is content or held.made_from == content):
                found[each.name] = held
            else:
                networks = [network for network in content.ranges if network.version == each.family]
                words = map(network_word, networks)
                found[each.name] = Listed(content, {each.name: dict.fromkeys(words, _NOTHING)})
    return found
