# SPDX-License-Identifier: GPL-2.0-or-later
"""The elements of farms that are forwarded at ingress. Pure."""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import product

from agent.dataplane.assignment import LAST_MARK, BackendKey, Side, SideNumbers
from agent.dataplane.ingress import CHANGED, DATAGRAMS, UNWELCOME, life
from agent.dataplane.persistence import Persistence
from agent.dataplane.pool import HashPicker, Picker
from agent.dataplane.quality import Stage
from agent.dataplane.ruleset import Element, Elements, Reach
from agent.dataplane.tables import ANSWER, FARM, IngressChain
from agent.model import Backend, Family, Farm, SorryServer
from agent.model.types import Address

Networks = Iterable[tuple[int, IPv4Network | IPv6Network]]
"""Index of a link, and a network on it."""


def reach_of(farm: Farm, keys: Iterable[BackendKey], near: Networks, own: Collection[Address]) -> Reach:
    """How these backends of a side are reached: by the smallest network that a link has and they are in."""
    networks = sorted(near, key=lambda each: (-each[1].prefixlen, each[0]))
    exits: dict[str, int] = {}
    for name, word, _port in keys:
        address = ip_address(word)
        place = next((index for index, network in networks if address in network), None)
        if place is not None:
            exits[name] = place
    return Reach(exits, frozenset(address for address in farm.addresses if address in own))


def tunnelled(farm: Farm, keys: Iterable[BackendKey], tunnels: Mapping[str, int], own: Collection[Address]) -> Reach:
    """How these backends of a side are reached where each has a tunnel: `tunnels` has the device by address."""
    exits = {name: tunnels[address] for name, address, _port in keys}
    return Reach(exits, frozenset(address for address in farm.addresses if address in own))


def marks_of(farm: Farm, family: Family, mark: int) -> list[int]:
    """The marks that a backend's flows have in packets: UDP's are told from the others, since they end otherwise."""
    mark |= _way(farm, family)
    kinds = [
        kind for kind, has in ((0, {"tcp", "sctp"} & {*farm.protocols}), (DATAGRAMS, "udp" in farm.protocols)) if has
    ]
    return [mark | kind for kind in kinds]


def kind_of(farm: Farm, family: Family) -> str:
    """Which of `ingress.KINDS` the farm alone would be."""
    if farm.forwarding == "stateless":
        return "s"
    return "t" if farm.forwarding == "tunnel" and family == 4 else "d"


def _way(farm: Farm, family: Family) -> int:
    """The bit of its backends' marks by which their packets are changed."""
    return 0 if kind_of(farm, family) == "d" else CHANGED


def backend_of(mark: int) -> int:
    """The backend's own mark of the mark that its packets have."""
    return mark & LAST_MARK


def chains_of(farm: Farm, family: Family) -> list[IngressChain | Stage]:
    """The chains that say how long flows of a side are known, and the one that has tunnels lead one way."""
    lives = [life(family, _timeout(farm, mark)) for mark in marks_of(farm, family, 0)]
    return [*lives, UNWELCOME] if farm.forwarding == "tunnel" else [*lives]


def balanced(
    side: Side,
    farm: Farm,
    usable: Iterable[str],
    numbers: SideNumbers,
    picker: Picker | HashPicker,
    *,
    sequence: Iterable[str],
) -> Elements:
    """What leads from the farm to its backends: those `usable`, and by bucket those in `sequence`."""
    key, way = str(numbers.mark | FARM), _way(farm, side.family)
    marks = {name: mark | way for (name, *_), mark in numbers.backends.items()}
    elements: dict[str, Mapping[str, Element]] = {
        f"in_{picker.buckets}": {f"{key} . {number}": (str(marks[who]), "") for number, who in enumerate(sequence)}
    }
    first = picker.name
    if persistence := Persistence.of(farm, side.family, numbers.mark):
        elements |= persistence.elements(farm, key, picker.name, [marks[name] for name in usable], marks)
        first = persistence.name
    return elements | {"in_pickers": {key: (f"jump {first}", str(side))}}


def addresses_of(farms: Iterable[Farm]) -> dict[str, dict[str, Element]]:
    """The addresses by which packets of farms at ingress are told from all others. `farms`: those that are enabled."""
    found: dict[str, dict[str, Element]] = {}
    for farm in farms:
        if farm.at_ingress:
            for address in farm.addresses:
                found.setdefault(f"in_virtual{address.version}", {})[str(address)] = ("", "")
        if farm.forwarding == "stateless":
            servers: list[Backend | SorryServer] = [*farm.backends.values(), *farm.sorry_servers]
            for address in (server.address for server in servers):
                found.setdefault(f"answering{address.version}", {})[str(address)] = ("", "")
    return found


def hops(
    side: Side, farm: Farm, numbers: SideNumbers, reach: Reach, gone: Mapping[str, bool]
) -> dict[str, dict[str, Element]]:
    """Where packets of the side's flows go.

    `gone`: the backends that take no packets at all (True), or no UDP (False), whatever flows they have.
    """
    elements: dict[str, dict[str, Element]] = {}
    family = side.family
    for (backend, address, port), number in numbers.backends.items():
        for mark in marks_of(farm, family, number):
            key = str(mark)
            elements.setdefault(f"hops{family}", {})[key] = (address, f"{side.farm}/{backend}")
            elements.setdefault("begun", {})[key] = ("", "")
            elements.setdefault("lives", {})[key] = (f"jump {life(family, _timeout(farm, mark)).name}", "")
            stays = backend not in gone or (not gone[backend] and not mark & DATAGRAMS)
            if farm.forwarding == "stateless" and port is not None:
                elements.setdefault("target_ports", {})[key] = (str(port), "")
            if stays and backend not in reach.exits:
                elements.setdefault("waiting", {})[key] = ("", "")
            elif stays:
                link = (str(reach.exits[backend]), "")
                elements.setdefault("ways" if mark & CHANGED else "exits", {})[key] = link
                if farm.forwarding == "stateless":
                    kind = "targets" if port is None else "ported"
                    elements.setdefault(f"{kind}{family}", {})[key] = (address, "")
        if farm.forwarding == "stateless" and backend in reach.exits:
            answers = str(number | ANSWER)
            virtual = next(each for each in farm.addresses if each.version == family)
            elements.setdefault(f"origins{family}", {})[answers] = (str(virtual), "")
            if port is not None:
                elements.setdefault("origin_ports", {})[answers] = (str(farm.ports[0].first), "")
            replies = elements.setdefault(f"replies{family}", {})
            for protocol, asked in product(farm.protocols, farm.ports):
                replies[f"{reach.exits[backend]} . {address} . {protocol} . {port or asked.first}"] = (answers, "")
    return elements


def leaving(farm: Farm, family: Family, marks: Iterable[int]) -> dict[str, dict[str, Element]]:
    """What has clients of these backends, which take no connections, begin anew elsewhere when they ask for one."""
    keys = (str(kind) for mark in marks for kind in marks_of(farm, family, mark) if not kind & DATAGRAMS)
    found = dict.fromkeys(keys, ("", ""))
    return {"leaving": found} if found else {}


def _timeout(farm: Farm, mark: int) -> int:
    return farm.flow_timeout_udp if mark & DATAGRAMS else farm.flow_timeout
