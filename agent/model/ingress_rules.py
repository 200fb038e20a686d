# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules for farms whose packets are forwarded at ingress: what such a farm cannot do is refused by name."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import product

from agent.model.backend import Backend, SorryServer
from agent.model.document import Configuration
from agent.model.farm import Farm
from agent.model.faults import Fault, pointer
from agent.model.types import Address

MAX_FORWARDED = 131_072
"""Backends of all farms at ingress, twice where a farm serves UDP and others: their sets in the kernel do not grow."""
MAX_TUNNELS = 1024
"""Servers that packets are tunnelled to: each is a network device, of 48 kB of the kernel's memory."""

MAX_ANSWERS = 400_000
"""Combinations of server, protocol and port of all `stateless` farms: each is an element, and takes 160 bytes here."""


def faults(name: str, farm: Farm) -> Iterator[Fault]:
    """Every fault of the farm `name` that comes from its forwarding."""
    if farm.at_ingress:
        for rule in _RULES:
            yield from rule(name, farm)


def size(config: Configuration) -> Iterator[Fault]:
    """A fault if there are more backends at ingress than the kernel's sets hold, or more answers than memory."""
    farms = [farm for farm in config.farms.values() if farm.enabled and farm.at_ingress]
    total = sum((len(farm.backends) + len(farm.sorry_servers)) * len(_kinds(farm)) for farm in farms)
    if total > MAX_FORWARDED:
        yield Fault(
            pointer("farms"),
            f"have {total} backends with `stateless`, `direct` or `tunnel`, those of UDP beside other protocols "
            f"counted twice; the appliance takes {MAX_FORWARDED}: use `dnat` for some of them",
        )
    total = sum(_answering(farm) for farm in farms if farm.forwarding == "stateless")
    if total > MAX_ANSWERS:
        yield Fault(
            pointer("farms"),
            f"have {total} combinations of server, protocol and port with `stateless`; the appliance takes "
            f"{MAX_ANSWERS}: use fewer ports, or another forwarding for some of them",
        )


def _kinds(farm: Farm) -> set[bool]:
    return {protocol == "udp" for protocol in farm.protocols}


def _answering(farm: Farm) -> int:
    return len(farm.protocols) * len(farm.ports) * (len(farm.backends) + len(farm.sorry_servers))


def off_link(config: Configuration, on_link: Callable[[Address], bool], words: str) -> Iterator[Fault]:
    """A fault for each server that is to be on a link and is not. `words` name the networks that are."""
    for name, farm in config.farms.items():
        if farm.enabled and farm.needs_neighbours:
            for where, server in _servers(name, farm):
                if not on_link(server.address):
                    yield Fault(
                        f"{where}/address",
                        f"{server.address} is in no network of a link ({words}), as with `{farm.forwarding}` it must "
                        "be; use a server beside the appliance, give a link an address in its network, or use `tunnel` "
                        "or `dnat`",
                    )


def taken(config: Configuration, own: Collection[Address]) -> Iterator[Fault]:
    """A fault for each virtual address that is a link's own: backends hold it, too, or answer from it.

    And for each server to which packets would be sent in a tunnel that ends where it begins.
    """
    for name, farm in config.farms.items():
        if farm.enabled and farm.at_ingress:
            for index, address in enumerate(farm.addresses):
                if address in own:
                    yield Fault(
                        pointer("farms", name, "addresses", index),
                        f"{address} is an address of a link, which with `{farm.forwarding}` cannot be balanced; use "
                        "another virtual address",
                    )
        if farm.enabled and farm.forwarding == "tunnel":
            for where, server in _servers(name, farm):
                if server.address in own:
                    yield Fault(
                        f"{where}/address",
                        f"{server.address} is an address of a link: a tunnel leads to another host; use that one's",
                    )


def tunnels(config: Configuration) -> Iterator[Fault]:
    """A fault if packets would be sent in too many tunnels."""
    farms = (farm for farm in config.farms.values() if farm.enabled and farm.forwarding == "tunnel")
    servers = {server.address for farm in farms for _, server in _servers("", farm)}
    if len(servers) > MAX_TUNNELS:
        yield Fault(
            pointer("farms"),
            f"have {len(servers)} servers with `tunnel`; the appliance takes {MAX_TUNNELS}: use `direct` or `dnat` for "
            "some of them",
        )


def _servers(name: str, farm: Farm) -> Iterator[tuple[str, Backend | SorryServer]]:
    for backend_name, backend in sorted(farm.backends.items()):
        yield pointer("farms", name, "backends", backend_name), backend
    for index, server in enumerate(farm.sorry_servers):
        yield pointer("farms", name, "sorry_servers", index), server


def _whole(name: str, farm: Farm) -> Iterator[Fault]:
    if "all" in farm.protocols:
        yield Fault(
            pointer("farms", name, "protocols"),
            f"cannot be `all` with `{farm.forwarding}`, which tells connections apart by their ports; name protocols, "
            "or use `dnat`",
        )


def _limits(name: str, farm: Farm) -> Iterator[Fault]:
    for field in ("limit_rate", "limit_connections", "limit_resets", "strict_tcp", "log_prefix"):
        if getattr(farm, field):
            yield Fault(
                pointer("farms", name, field),
                f"is not possible with `{farm.forwarding}`, where nothing knows connections; leave it out, or use "
                "`dnat`",
            )
    for backend_name, backend in sorted(farm.backends.items()):
        if backend.max_connections is not None:
            yield Fault(
                pointer("farms", name, "backends", backend_name, "max_connections"),
                f"is not possible with `{farm.forwarding}`, where nobody counts connections; leave it out, or use "
                "`dnat`",
            )


def _quality(name: str, farm: Farm) -> Iterator[Fault]:
    for field in farm.packet_features():
        yield Fault(
            pointer("farms", name, field),
            f"is not possible with `{farm.forwarding}`, whose packets go past where that is done; leave it out, or use "
            "`dnat`",
        )


def _ports(name: str, farm: Farm) -> Iterator[Fault]:
    if not farm.keeps_ports:
        return
    for where, server in _servers(name, farm):
        if server.port is not None and [(ports.first, ports.last) for ports in farm.ports] != [(server.port,) * 2]:
            yield Fault(
                f"{where}/port",
                f"{server.port} is not the port that clients ask for, and `{farm.forwarding}` leaves packets as they "
                "are; leave it out, or use `dnat`",
            )


def _twice(name: str, farm: Farm) -> Iterator[Fault]:
    if not farm.keeps_ports:
        return
    seen: dict[Address, str] = {}
    for where, server in _servers(name, farm):
        other = seen.setdefault(server.address, where)
        if other != where:
            yield Fault(
                f"{where}/address",
                f"{server.address} is the server of {other.rpartition('/')[2]}, too, and the port makes no difference "
                f"with `{farm.forwarding}`; name each server once",
            )


def _rewritten(name: str, farm: Farm) -> Iterator[Fault]:
    """What would leave it open which address and port an answer is to come from."""
    if farm.forwarding != "stateless":
        return
    for index, address in enumerate(farm.addresses):
        if address.version in [earlier.version for earlier in farm.addresses[:index]]:
            yield Fault(
                pointer("farms", name, "addresses", index),
                "is a second one of its IP family, and with `stateless` answers come from one; make it a farm with "
                "backends or ports of its own, or use `dnat`",
            )
    for index, ports in enumerate(farm.ports):
        if not ports.single:
            yield Fault(
                pointer("farms", name, "ports", index),
                f"{ports} is a range, which is not possible with `stateless`; name single ports, or use `dnat`",
            )
    for where, server in _servers(name, farm):
        if server.port is not None and len(farm.ports) > 1:
            yield Fault(
                f"{where}/port",
                "is not possible with `stateless` and several ports: answers would not tell which was asked for; leave "
                "it out, make a farm of each port, or use `dnat`",
            )


def answers(config: Configuration) -> Iterator[Fault]:
    """A fault for each server of a `stateless` farm whose answers may be those of another farm's server, too."""
    enabled = {name: farm for name, farm in config.farms.items() if farm.enabled}
    stateless = {name: farm for name, farm in enabled.items() if farm.forwarding == "stateless"}
    known: dict[tuple[Address, str], dict[int, str]] = {}
    for name, farm in stateless.items():
        for where, server in _servers(name, farm):
            asked = [known.setdefault((server.address, protocol), {}) for protocol in farm.protocols]
            ports = [server.port or each.first for each in farm.ports]
            found = {held.setdefault(port, name) for held, port in product(asked, ports)} - {name}
            if found:
                yield _ambiguous(where, server, min(found))
    ordered = {key: sorted(held) for key, held in known.items()}
    others = {name: farm for name, farm in enabled.items() if known and not farm.at_ingress}
    for name, farm in others.items():
        protocols = ("tcp", "udp", "sctp") if "all" in farm.protocols else farm.protocols
        for where, server in _servers(name, farm):
            for key in ((server.address, protocol) for protocol in protocols):
                port = _first_asked(farm, server, known[key], ordered[key]) if key in known else None
                if port is not None:
                    yield _ambiguous(where, server, known[key][port])
                    break


def _first_asked(
    farm: Farm, server: Backend | SorryServer, held: Collection[int], ordered: Sequence[int]
) -> int | None:
    """One of the ports of `held`, which are the same as `ordered`, at which `farm` asks `server`."""
    if server.port is not None:
        return server.port if server.port in held else None
    for ports in farm.ports:
        place = bisect_left(ordered, ports.first)
        if place < len(ordered) and ordered[place] in ports:
            return ordered[place]
    return None


def _ambiguous(where: str, server: Backend | SorryServer, other: str) -> Fault:
    return Fault(
        f"{where}/address",
        f"{server.address} is asked at the same port for farm {other}, which is `stateless`: its answers would be "
        "taken for that farm's; use another port or address, or another forwarding there",
    )


_RULES = (_whole, _limits, _quality, _ports, _twice, _rewritten)
