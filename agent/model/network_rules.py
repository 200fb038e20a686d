# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules about links and their networks, and where in them virtual addresses and servers can be."""

from collections.abc import Collection, Iterable, Iterator

from agent.model import ingress_rules, pool_rules
from agent.model.document import Configuration
from agent.model.farm import Farm
from agent.model.faults import Fault, pointer
from agent.model.types import Address, Network

_LISTED = 5
"""So many networks are listed in a fault; a document may have 4096."""


def faults(config: Configuration) -> Iterator[Fault]:
    """Every fault of the links, and of the addresses that do not fit them."""
    yield from _links(config)
    networks = [interface.network for link in config.links.values() for interface in link.addresses]
    yield from unusable(config, networks)
    yield from taken(config, (each.ip for link in config.links.values() for each in link.addresses))
    # With DHCP anywhere the networks are known at run time only; the controller asks `unreachable` then. What a lease
    # leads to beyond them (gateways, routes) can change with every lease: then no server is refused.
    if config.links and not any(link.dhcp for link in config.links.values()):
        yield from unreachable(config, networks)
        yield from _unreached(config, networks)


def taken(config: Configuration, own: Iterable[Address]) -> Iterator[Fault]:
    """A fault for what a farm cannot do at the addresses of links, `own`: answers to the appliance come there, too."""
    held = set(own)
    yield from ingress_rules.taken(config, held)
    for name, farm in config.farms.items():
        place = next((address for address in farm.addresses if address in held), None)
        ports = next((ports for ports in farm.ports if not ports.single), None)
        if farm.enabled and farm.limit_resets and place and ports:
            yield Fault(
                pointer("farms", name, "limit_resets"),
                f"is not possible for the ports {ports} at {place}, an address of a link: resets that answer the "
                "appliance's own connections come there; name single ports, or use another virtual address",
            )


def unreachable(config: Configuration, networks: Iterable[Network]) -> Iterator[Fault]:
    """A fault for each virtual address that lies in none of `networks`, those of the appliance's links.

    And for each source pool that does not lie in them, and each server that must be there, as its farm's forwarding
    needs.
    """
    known = list(networks)
    words = _words(known)
    for name, farm in config.farms.items():
        if not farm.enabled:
            continue
        for index, address in enumerate(farm.addresses):
            if not any(address in network for network in known):
                yield Fault(
                    pointer("farms", name, "addresses", index),
                    f"{address} is in no network of a link ({words}); "
                    "use an address of one of them, or give a link an address in its network",
                )

    def on_link(address: Address) -> bool:
        return any(address in each for each in known)

    yield from ingress_rules.off_link(config, on_link, words)
    yield from pool_rules.outside(config, on_link, words)


def unusable(config: Configuration, networks: Iterable[Network]) -> Iterator[Fault]:
    """A fault for each virtual address, source and server that no host of `networks`, those of the links, can have."""
    special = {address: words for network in networks for address, words in _special(network)}
    # A link may have such an IPv6 address; then it is the appliance's.
    own = {interface.ip for link in config.links.values() for interface in link.addresses}
    if not special:
        return
    yield from pool_rules.special(config, {address: why for address, why in special.items() if address not in own})
    for name, farm in config.farms.items():
        if not farm.enabled:
            continue
        for index, address in enumerate(farm.addresses):
            if address in special and address not in own:
                yield Fault(pointer("farms", name, "addresses", index), _no_host(address, special[address]))
        for backend_name, backend in farm.backends.items():
            if backend.address in special:
                where = pointer("farms", name, "backends", backend_name, "address")
                yield Fault(where, _no_host(backend.address, special[backend.address]))
        for index, server in enumerate(farm.sorry_servers):
            if server.address in special:
                where = pointer("farms", name, "sorry_servers", index, "address")
                yield Fault(where, _no_host(server.address, special[server.address]))


def _special(network: Network) -> Iterator[tuple[Address, str]]:
    """The addresses of a network that are no host's, and what they are. RFC 4291, 2.6.1; RFC 3021; RFC 6164."""
    if network.num_addresses <= 2:
        return
    if network.version == 4:
        yield network[0], f"the address of the network {network} itself"
        yield network[-1], f"the broadcast address of the network {network}"
    else:
        yield network[0], f"the address of all routers of the network {network} (subnet-router anycast)"


def _no_host(address: Address, words: str) -> str:
    return f"{address} is {words}; no host can have it: use another address"


def _asked(farm: Farm) -> Iterator[tuple[Address, str, str | int]]:
    """The addresses that must be reached, and where in the farm they stand."""
    for index, check in enumerate(farm.checks):
        if check.address is not None:
            yield check.address, "checks", index
    if farm.needs_neighbours:  # `unreachable` asks more of its servers
        return
    for name, backend in farm.backends.items():
        if backend.state != "disabled":
            yield backend.address, "backends", name
    for index, server in enumerate(farm.sorry_servers):
        yield server.address, "sorry_servers", index


def _unreached(config: Configuration, networks: Collection[Network]) -> Iterator[Fault]:
    """A fault for each server that is neither in a network of a link nor behind a gateway."""
    behind = {gateway.version for link in config.links.values() for gateway in link.gateways}
    # As numbers: this is asked of each of 100 000 backends.
    spans = [(network.version, int(network[0]), int(network[-1])) for network in networks]
    words = _words(networks)

    def reached(address: Address) -> bool:
        if address.version in behind:
            return True
        number = int(address)
        return any(address.version == version and first <= number <= last for version, first, last in spans)

    def fault(address: Address, *path: str | int) -> Fault:
        return Fault(
            pointer("farms", *path, "address"),
            f"{address} cannot be reached: it is in no network of a link ({words}), and no link has an "
            f"IPv{address.version} gateway; use another address, or give a link a gateway or an address in its network",
        )

    for name, farm in config.farms.items():
        for address, *path in _asked(farm) if farm.enabled else ():
            if not reached(address):
                yield fault(address, name, *path)


def _words(networks: Collection[Network]) -> str:
    listed = ", ".join(str(network) for network in list(networks)[:_LISTED]) or "none"
    return listed + (f" and {len(networks) - _LISTED} more" if len(networks) > _LISTED else "")


def _links(config: Configuration) -> Iterator[Fault]:
    owner: dict[Address, str] = {}
    for name, link in sorted(config.links.items()):
        for index, interface in enumerate(link.addresses):
            other = owner.setdefault(interface.ip, name)
            if other != name or interface.ip in [earlier.ip for earlier in link.addresses[:index]]:
                yield Fault(
                    pointer("links", name, "addresses", index),
                    f"{interface.ip} is already an address of link {other}; each address may stand once",
                )
        for index, gateway in enumerate(link.gateways):
            where = pointer("links", name, "gateways", index)
            networks = [interface.network for interface in link.addresses]
            if not any(gateway in network for network in networks):
                yield Fault(
                    where, f"{gateway} is in no network of the link; give the link an address in the gateway's network"
                )
            if gateway.version in [earlier.version for earlier in link.gateways[:index]]:
                yield Fault(where, f"is a second IPv{gateway.version} gateway of the link; one for each family")
            special = {address: words for network in networks for address, words in _special(network)}
            if gateway.version == 4 and gateway in special:
                yield Fault(where, _no_host(gateway, special[gateway]))
            if gateway in [interface.ip for interface in link.addresses]:
                yield Fault(where, f"{gateway} is the link's own address; use that of a router")
