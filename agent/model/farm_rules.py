# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules that need no more than one farm: each is a function from the farm to the faults it finds."""

from collections.abc import Iterator

from agent.model.checks import PortCheck
from agent.model.farm import Farm
from agent.model.faults import Fault, pointer
from agent.model.types import Network, PortRange


def faults(name: str, farm: Farm) -> Iterator[Fault]:
    """Every fault of the farm `name` that shows without the rest of the document."""
    for rule in _RULES:
        yield from rule(name, farm)


def only_port(farm: Farm) -> int | None:
    """The port at which servers without one of their own are asked, where the farm has one only; else None."""
    return farm.ports[0].first if len(farm.ports) == 1 and farm.ports[0].single else None


def _families(name: str, farm: Farm) -> Iterator[Fault]:
    served = {backend.address.version for backend in farm.backends.values()}
    for index, address in enumerate(farm.addresses):
        if served and address.version not in served:
            yield Fault(
                pointer("farms", name, "addresses", index),
                f"{address} is IPv{address.version}, and no backend of the farm is; IPv4 and IPv6 are not "
                f"translated into each other: add an IPv{address.version} backend, or remove the address",
            )
    for backend_name, backend in farm.backends.items():
        if backend.address.version not in farm.families:
            yield Fault(
                pointer("farms", name, "backends", backend_name, "address"),
                f"{backend.address} is IPv{backend.address.version}, and no virtual address of the farm is; IPv4 "
                f"and IPv6 are not translated into each other: add an IPv{backend.address.version} virtual "
                "address, or use a backend of the farm's family",
            )


def _ports(name: str, farm: Farm) -> Iterator[Fault]:
    for index, ports in enumerate(farm.ports):
        other = next((other for other in farm.ports[:index] if ports.first in other or other.first in ports), None)
        if other and other != ports:  # the same twice is told by the field itself
            yield Fault(
                pointer("farms", name, "ports", index), f"{ports} and {other} have ports in common; write each once"
            )
    if "all" not in farm.protocols:
        return
    if len(farm.protocols) > 1:
        yield Fault(pointer("farms", name, "protocols"), "`all` holds the others; it stands alone")
    if farm.ports != [PortRange.all()]:
        yield Fault(
            pointer("farms", name, "ports"),
            'must be just "all" where the protocol is `all`; for single ports, name the protocols',
        )
    for backend_name, backend in farm.backends.items():
        if backend.port is not None:
            yield Fault(
                pointer("farms", name, "backends", backend_name, "port"),
                "is not possible where the protocol is `all`: not every protocol has ports; leave it out",
            )


def _hashing(name: str, farm: Farm) -> Iterator[Fault]:
    if farm.scheduler == "source-hash" and farm.hash_port and "all" in farm.protocols:
        yield Fault(
            pointer("farms", name, "hash_port"),
            "is not possible where the protocol is `all`: not every protocol has ports",
        )
    if farm.scheduler == "source-hash":
        for family in farm.families:
            count = sum(backend.address.version == family for backend in farm.backends.values())
            if count > farm.hash_backends:
                yield Fault(
                    pointer("farms", name, "hash_backends"),
                    f"leaves room for {farm.hash_backends} backends, and there are {count} of IPv{family}: allow more",
                )


def _persistence(name: str, farm: Farm) -> Iterator[Fault]:
    if farm.persistence == "address-port" and "all" in farm.protocols:
        yield Fault(
            pointer("farms", name, "persistence"),
            "cannot be `address-port` where the protocol is `all`: not every protocol has ports; use `address`",
        )
    yield from _static(name, farm)


def _static(name: str, farm: Farm) -> Iterator[Fault]:
    before: Network | None = None
    for network in sorted(farm.persistence_static, key=lambda each: (each.version, int(each[0]), -each.prefixlen)):
        where = pointer("farms", name, "persistence_static", str(network))
        backend = farm.backends.get(farm.persistence_static[network])
        if backend is None:
            yield Fault(where, f"names the backend {farm.persistence_static[network]}, which the farm has not")
        elif backend.address.version != network.version:
            yield Fault(where, f"is IPv{network.version}, and the backend is not; name one of its family")
        if before and before.version == network.version and int(before[-1]) >= int(network[0]):
            yield Fault(where, f"is a part of {before}, which stands there too; take one of them out")
        else:
            before = network


def _limits(name: str, farm: Farm) -> Iterator[Fault]:
    if not {"tcp", "all"} & set(farm.protocols):
        for field in ("limit_resets", "strict_tcp"):
            if getattr(farm, field):
                yield Fault(pointer("farms", name, field), "has no use: the farm does not serve TCP; leave it out")


def _sorry_servers(name: str, farm: Farm) -> Iterator[Fault]:
    only = only_port(farm)
    for index, server in enumerate(farm.sorry_servers):
        where = pointer("farms", name, "sorry_servers", index, "address")
        family = server.address.version
        if family not in farm.families:
            yield Fault(
                where,
                f"{server.address} is IPv{family}, and no virtual address of the farm is; "
                "use a server of the farm's family",
            )
        if family in [earlier.address.version for earlier in farm.sorry_servers[:index]]:
            yield Fault(where, f"{server.address} is a second IPv{family} sorry server; one for each family")
        if server.port is not None and "all" in farm.protocols:
            yield Fault(
                pointer("farms", name, "sorry_servers", index, "port"),
                "is not possible where the protocol is `all`: not every protocol has ports; leave it out",
            )
        for backend_name, backend in sorted(farm.backends.items() if not farm.keeps_ports else ()):
            if (backend.address, backend.port or only) == (server.address, server.port or only):
                yield Fault(where, f"is the same server and port as backend {backend_name}; use another server")


def _lists(name: str, farm: Farm) -> Iterator[Fault]:
    for index, each in enumerate(farm.deny):
        if each in farm.allow:
            yield Fault(
                pointer("farms", name, "deny", index),
                f"{each} is allowed, too; take it out of one: what is denied is denied",
            )


def _tiers(name: str, farm: Farm) -> Iterator[Fault]:
    if farm.scheduler == "priority" and farm.minimum_active > 1:
        yield Fault(
            pointer("farms", name, "minimum_active"),
            f"{farm.minimum_active} has no use with the scheduler priority, by which one backend takes all; "
            "use 1, or another scheduler",
        )
    if farm.scheduler == "source-hash" and farm.slow_start is not None:
        yield Fault(
            pointer("farms", name, "slow_start"),
            "is not possible with the scheduler source-hash: a backend's own clients come back to it with it; "
            "leave it out, or use another scheduler",
        )


def _checks(name: str, farm: Farm) -> Iterator[Fault]:
    for index, check in enumerate(farm.checks):
        for field, words in check.faults():
            yield Fault(pointer("farms", name, "checks", index, field), words)
        if not isinstance(check, PortCheck):
            continue
        if check.port is None and check.transport not in farm.protocols:
            protocol = check.transport.upper()
            yield Fault(
                pointer("farms", name, "checks", index, "port"),
                f"is needed: the farm does not serve {protocol}, so say which {protocol} port of the backend to try",
            )
        elif check.port is None and not farm.ports[0].single and any(b.port is None for b in farm.backends.values()):
            yield Fault(
                pointer("farms", name, "checks", index, "port"),
                f"is needed: the farm's first ports are {farm.ports[0]}, so say which port of the backend to try",
            )


_RULES = (
    _families,
    _ports,
    _hashing,
    _persistence,
    _limits,
    _sorry_servers,
    _lists,
    _tiers,
    _checks,
)
