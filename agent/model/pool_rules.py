# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules for source pools: the addresses that backends see instead of the clients'."""

from collections.abc import Callable, Iterator, Mapping

from agent.model.backend import Backend, SorryServer
from agent.model.document import Configuration
from agent.model.farm import Farm
from agent.model.faults import Fault, pointer
from agent.model.types import MAX_POOL, Address, AddressRange

MAX_POOLS = 64
"""Different source pools in a document: each is a chain in the kernel, for each IP family."""

MAX_POOLED = 4096
"""Addresses of all source pools together, each counted once."""


def faults(config: Configuration) -> Iterator[Fault]:
    """Every fault of source pools that shows without knowing the networks of links."""
    pooled = {name: farm for name, farm in config.farms.items() if farm.source_pool}
    if not pooled:
        return
    for name, farm in pooled.items():
        yield from _farm(name, farm)
    yield from _size(pooled)
    enabled = {name: farm for name, farm in pooled.items() if farm.enabled}
    yield from _told(enabled, _taken(config))


def outside(config: Configuration, on_link: Callable[[Address], bool], words: str) -> Iterator[Fault]:
    """A fault for each range that has an address on no link. `words` name the networks that are."""
    for where, each in _ranges(config.farms):
        lost = next((address for address in (each.first, each.last, *each) if not on_link(address)), None)
        if lost:
            yield Fault(
                where,
                f"{lost} is in no network of a link ({words}), so the appliance cannot answer for it; use addresses of "
                "one of them, or give a link an address in their network",
            )


def special(config: Configuration, known: Mapping[Address, str]) -> Iterator[Fault]:
    """A fault for each range with one of the addresses that no host can have, and why."""
    for where, each in _ranges(config.farms):
        found = next((address for address in known if address in each), None)
        if found:
            yield Fault(where, f"{found} is {known[found]}; no host can have it: leave it out")


def _ranges(farms: Mapping[str, Farm]) -> Iterator[tuple[str, AddressRange]]:
    """The ranges of farms that are enabled, and where each stands."""
    for name, farm in farms.items():
        for index, each in enumerate(farm.source_pool if farm.enabled else ()):
            yield pointer("farms", name, "source_pool", index), each


def _farm(name: str, farm: Farm) -> Iterator[Fault]:
    if farm.forwarding != "snat":
        yield Fault(
            pointer("farms", name, "source_pool"),
            f"is not possible with `{farm.forwarding}`, where backends see the clients' addresses; leave it out, or "
            "use `snat`",
        )
        return
    for index, each in enumerate(farm.source_pool):
        where = pointer("farms", name, "source_pool", index)
        if each.version not in farm.families:
            yield Fault(
                where,
                f"{each} is IPv{each.version}, and no virtual address of the farm is; IPv4 and IPv6 are not translated "
                "into each other: leave it out",
            )
        other = next((other for other in farm.source_pool[:index] if other.overlaps(each)), None)
        if other and other != each:  # the same twice is told by the field itself
            yield Fault(where, f"{each} and {other} have addresses in common; write each once")
    total = sum(map(len, farm.source_pool))
    if total > MAX_POOL:
        yield Fault(pointer("farms", name, "source_pool"), f"has {total} addresses; a pool has {MAX_POOL} at most")


def _size(farms: Mapping[str, Farm]) -> Iterator[Fault]:
    pools = {tuple(sorted(farm.source_pool, key=str)) for farm in farms.values()}
    if len(pools) > MAX_POOLS:
        yield Fault(
            pointer("farms"),
            f"have {len(pools)} different source pools; the appliance takes {MAX_POOLS}: let some farms share one",
        )
    total = len({address for pool in pools for each in pool for address in each})
    if total > MAX_POOLED:
        yield Fault(
            pointer("farms"), f"have {total} addresses in source pools together; the appliance takes {MAX_POOLED}"
        )


def _taken(config: Configuration) -> dict[Address, str]:
    """Addresses that cannot be in a pool, and what they are.

    What is sent to a virtual address reaches connection tracking, which knows the answers of a pool's connections,
    unless something looks at packets before: farms at ingress, and network lists.
    """
    found: dict[Address, str] = {}
    for name, link in config.links.items():
        found |= dict.fromkeys(link.gateways, f"the gateway of link {name}")
    for name, farm in config.farms.items():
        if not farm.enabled:
            continue
        servers: list[Backend | SorryServer] = [*farm.backends.values(), *farm.sorry_servers]
        found |= {server.address: f"a server of farm {name}" for server in servers}
        if farm.at_ingress:
            words = f"a virtual address of farm {name}, whose `{farm.forwarding}` would take the answers"
            found |= dict.fromkeys(farm.addresses, words)
        elif farm.allow or farm.deny:
            words = f"a virtual address of farm {name}, whose network lists would drop the answers"
            found |= dict.fromkeys(farm.addresses, words)
    return found


def _told(farms: Mapping[str, Farm], taken: Mapping[Address, str]) -> Iterator[Fault]:
    for where, each in _ranges(farms):
        found = next((address for address in each if address in taken), None)
        if found:
            yield Fault(where, f"{found} is {taken[found]}; use addresses that are free")
