# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules that need the whole document: each is a function from it to the faults it finds."""

from collections.abc import Collection, Iterator, Mapping

from agent.model import farm_rules, ingress_rules, network_rules, pool_rules
from agent.model.document import Configuration
from agent.model.farm import Family, Farm
from agent.model.faults import Fault, pointer
from agent.model.limits import FarmLimits, limits_of
from agent.model.types import Address, PortRange

MANAGEMENT_PORT = 443
"""The port of the GUI and API on the appliance's own addresses; no farm can take it."""

MAX_SERVICES = 100_000
"""Combinations of virtual address, protocol and port over all farms: ten times what is designed for."""

MAX_HASH_BUCKETS = 4_000_000
"""Buckets of all farms that hash: they take 280 MB of the kernel's memory."""

MAX_LISTED = 100_000
"""Networks of all lists together."""

_LISTED = 10
"""So many names are listed in a fault."""

MAX_WAYS = 256
"""Different settings of one kind in a document, such as of persistence: each is a chain in the kernel."""

MAX_LIMITS = 256
"""Different settings of limits of an IP family: each is up to two chains in the kernel."""

MAX_BOUNDS = 192
"""Different bounds of limits: each is a set of sources in the kernel, of 4 MB."""

MAX_LOGS = 1024
"""Different pairs of log_prefix and log_rate: each is up to five chains in the kernel."""

MAX_SIZED = 64
"""Farms with a size of persistence of their own: each is a chain and a map in the kernel, for each IP family."""

MAX_CLIENTS = 4_194_304
"""Clients that such farms remember together at most: they take 500 MB of the kernel's memory."""


def faults(config: Configuration, before: Configuration | None = None) -> Iterator[Fault]:
    """Every fault of a document whose fields are each well-formed.

    `before` is a document without faults: a farm that is the same object there has none of those of a farm alone.
    """
    known = before.farms if before else {}
    others = {name: farm for name, farm in config.farms.items() if known.get(name) is not farm}
    for rule in _RULES:
        yield from rule(config)
    virtual = config.virtual_addresses()
    came = before is None or virtual - before.virtual_addresses()
    yield from _backends(config.farms if came else others, virtual)
    # What they ask of a farm depends on the links, and on no other farm.
    alike = before is not None and before.links == config.links
    yield from network_rules.faults(config.model_copy(update={"farms": others}) if alike else config)
    yield from ingress_rules.size(config)
    yield from ingress_rules.answers(config)
    yield from pool_rules.faults(config)
    yield from ingress_rules.tunnels(config)
    for name, farm in others.items():
        yield from farm_rules.faults(name, farm)
        yield from ingress_rules.faults(name, farm)


def _services(farm: Farm) -> int:
    return len(farm.addresses) * len(farm.protocols) * len(farm.ports)


def _size(config: Configuration) -> Iterator[Fault]:
    total = sum(_services(farm) for farm in config.farms.values())
    if total > MAX_SERVICES:
        yield Fault(
            pointer("farms"),
            f"serve {total} combinations of address, protocol and port; the appliance takes {MAX_SERVICES}",
        )


def _hashing(config: Configuration) -> Iterator[Fault]:
    hashing = [farm for farm in config.farms.values() if farm.enabled and farm.scheduler == "source-hash"]
    total = sum(farm.hash_buckets * len(farm.families) for farm in hashing)
    if total > MAX_HASH_BUCKETS:
        yield Fault(
            pointer("farms"),
            f"need {total} buckets for `source-hash`; the appliance has {MAX_HASH_BUCKETS}: use another scheduler, "
            "or less hash_backends, for some of them",
        )


def _persistence(config: Configuration) -> Iterator[Fault]:
    ways = {
        (farm.persistence, farm.persistence_timeout, farm.persistence_prefix4, farm.persistence_prefix6)
        for farm in config.farms.values()
        if farm.persistence != "none" and farm.persistence_size is None
    }
    if len(ways) > MAX_WAYS:
        yield Fault(
            pointer("farms"),
            f"have {len(ways)} different settings of persistence (kind, timeout, prefixes); "
            f"the appliance takes {MAX_WAYS}",
        )
    sized = [farm for farm in config.farms.values() if farm.persistence != "none" and farm.persistence_size is not None]
    if len(sized) > MAX_SIZED:
        yield Fault(
            pointer("farms"),
            f"have a persistence_size in {len(sized)} places; the appliance takes {MAX_SIZED}: leave it out where the "
            "farm may share",
        )
    total = sum((farm.persistence_size or 0) * len(farm.families) for farm in sized)
    if total > MAX_CLIENTS:
        yield Fault(
            pointer("farms"),
            f"are to remember {total} clients by the persistence_size of each; the appliance takes {MAX_CLIENTS}: use "
            "less for some of them",
        )


def _ways(config: Configuration) -> Iterator[Fault]:
    farms = config.farms.values()
    found: Mapping[str, Collection[object]] = {
        "flow_timeout and flow_timeout_udp": {seconds for farm in farms for seconds in _lives(farm)},
        "source-hash (port, prefixes, hash_backends)": {
            (family, farm.hash_prefix4 if family == 4 else farm.hash_prefix6, farm.hash_port, farm.hash_buckets)
            for farm in farms
            if farm.scheduler == "source-hash"
            for family in farm.families
        },
        "allow and deny": {(frozenset(farm.allow), frozenset(farm.deny)) for farm in farms if farm.allow or farm.deny},
    }
    for words, ways in found.items():
        if len(ways) > MAX_WAYS:
            yield Fault(
                pointer("farms"),
                f"have {len(ways)} different settings of {words}; the appliance takes {MAX_WAYS}: let some farms have "
                "the same",
            )


def _lives(farm: Farm) -> Iterator[int]:
    """The timeouts that a farm at ingress has for its flows."""
    if farm.at_ingress and "udp" in farm.protocols:
        yield farm.flow_timeout_udp
    if farm.at_ingress and {"tcp", "sctp"} & {*farm.protocols}:
        yield farm.flow_timeout


def _limits(config: Configuration) -> Iterator[Fault]:
    found = _settings(config)
    for family, settings in found.items():
        if len(settings) > MAX_LIMITS:
            yield Fault(
                pointer("farms"),
                f"have {len(settings)} different settings of limits for IPv{family} (bounds, prefix, action, strict, "
                f"whether anything is logged); the appliance takes {MAX_LIMITS}: let some farms have the same",
            )
    bounds = {(family, bound) for family, settings in found.items() for each in settings for bound in each.bounds}
    if len(bounds) > MAX_BOUNDS:
        yield Fault(
            pointer("farms"),
            f"have {len(bounds)} different bounds of limits (each limit_rate with its burst, limit_connections and "
            f"limit_resets, for each prefix and IP family); the appliance takes {MAX_BOUNDS}: let some farms have the "
            "same",
        )
    logs = {(farm.log_prefix, farm.log_rate) for farm in config.farms.values() if farm.log_prefix is not None}
    if len(logs) > MAX_LOGS:
        yield Fault(
            pointer("farms"),
            f"have {len(logs)} different pairs of log_prefix and log_rate; the appliance takes {MAX_LOGS}: let some "
            "farms have the same",
        )


def _settings(config: Configuration) -> dict[Family, set[FarmLimits]]:
    found: dict[Family, set[FarmLimits]] = {}
    for farm in config.farms.values():
        for family in farm.families:
            limits = limits_of(farm, family)
            if any(limits):
                found.setdefault(family, set()).add(limits)
    return found


def _lists(config: Configuration) -> Iterator[Fault]:
    names = ", ".join(sorted(config.network_lists)[:_LISTED]) or "none"
    for name, farm in config.farms.items():
        for field, wanted in (("allow", farm.allow), ("deny", farm.deny)):
            for index, each in enumerate(wanted):
                if each not in config.network_lists:
                    yield Fault(
                        pointer("farms", name, field, index),
                        f"there is no network list {each} (there are: {names}); take it out, or make the list first",
                    )
    total = sum(len(each.networks) for each in config.network_lists.values())
    if total > MAX_LISTED:
        yield Fault(
            pointer("network_lists"), f"have {total} networks together; the appliance takes {MAX_LISTED}: use fewer"
        )


def _overlaps(config: Configuration) -> Iterator[Fault]:
    if any(_size(config)):
        return  # comparing them all would take the appliance's memory
    told: set[tuple[str, str]] = set()
    for (address, protocol), services in _served(config).items():
        services.sort()
        reaching, owner, place = services[0]
        for ports, name, index in services[1:]:
            later, where, earlier = max((name, index, owner), (owner, place, name))
            if ports.first <= reaching.last and name != owner and (later, earlier) not in told:
                told.add((later, earlier))
                yield Fault(
                    pointer("farms", later, "addresses", where),
                    f"{address} {protocol} port {ports.first} is already served by farm {earlier}; "
                    "use another address or port",
                )
            if ports.last > reaching.last:
                reaching, owner, place = ports, name, index


def _served(config: Configuration) -> dict[tuple[Address, str], list[tuple[PortRange, str, int]]]:
    """The ports that are served by address and protocol, with the farm and the place of the address in it."""
    result: dict[tuple[Address, str], list[tuple[PortRange, str, int]]] = {}
    for name, farm in config.farms.items():
        if farm.enabled:
            protocols = ("tcp", "udp", "sctp") if "all" in farm.protocols else farm.protocols
            for index, address in enumerate(farm.addresses):
                for protocol in protocols:
                    result.setdefault((address, protocol), []).extend((ports, name, index) for ports in farm.ports)
    return result


def _backends(farms: Mapping[str, Farm], virtual: Collection[Address]) -> Iterator[Fault]:
    for name, farm in farms.items():
        seen: dict[tuple[Address, int | None], str] = {}
        only = farm_rules.only_port(farm)
        for backend_name, backend in sorted(farm.backends.items()):
            other = seen.setdefault((backend.address, backend.port or only), backend_name)
            if other == backend_name and backend.address not in virtual:
                continue  # the path of each of 100 000 backends is half the time of all rules
            where = pointer("farms", name, "backends", backend_name, "address")
            if other != backend_name and not farm.keeps_ports:  # such farms are told in words of their own
                yield Fault(where, f"is the same server and port as backend {other}; remove one, or change its port")
            if backend.address in virtual:
                yield Fault(where, f"{backend.address} is a virtual address of the appliance; use the server's own")
        for index, check in enumerate(farm.checks):
            if check.address in virtual:
                yield Fault(
                    pointer("farms", name, "checks", index, "address"),
                    f"{check.address} is a virtual address of the appliance, and checks are not balanced; use a "
                    "server's own",
                )
        for index, server in enumerate(farm.sorry_servers):
            if server.address in virtual:
                yield Fault(
                    pointer("farms", name, "sorry_servers", index, "address"),
                    f"{server.address} is a virtual address of the appliance; use the server's own",
                )


def _management(config: Configuration) -> Iterator[Fault]:
    own = {interface.ip: name for name, link in config.links.items() for interface in link.addresses}
    for name, farm in config.farms.items() if own else ():
        if not farm.enabled:
            continue
        for index, address in enumerate(farm.addresses):
            where = pointer("farms", name, "addresses", index)
            if address in own and "all" in farm.protocols:
                yield Fault(
                    where,
                    f"{address}, the address of link {own[address]}, cannot be balanced for all protocols: the "
                    "appliance itself is asked there; use another virtual address, or name protocols and ports",
                )
            elif address in own and "tcp" in farm.protocols and any(MANAGEMENT_PORT in ports for ports in farm.ports):
                yield Fault(
                    where,
                    f"TCP port {MANAGEMENT_PORT} of {address}, the address of link {own[address]}, belongs to the GUI; "
                    "use another virtual address or port",
                )


_RULES = (
    _size,
    _hashing,
    _persistence,
    _ways,
    _limits,
    _lists,
    _overlaps,
    _management,
)
