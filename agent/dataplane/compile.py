# SPDX-License-Identifier: GPL-2.0-or-later
"""From a document and the effective weights to a Ruleset: pure, and a farm's change costs that farm only."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses

from agent.dataplane import buckets, consistent
from agent.dataplane.assignment import (
    Assignment,
    Side,
    SideNumbers,
    assign,
    backend_keys,
    sides,
    sorry_name,
)
from agent.dataplane.limits import Limits
from agent.dataplane.persistence import Persistence
from agent.dataplane.pool import HashPicker, Picker
from agent.dataplane.ruleset import Chain, Element, Elements, Part, Ruleset
from agent.model import Configuration, Farm, PortRange
from agent.model.state import Role

Network = IPv4Network | IPv6Network

_LINK_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,15}")
"""Names of links that stand for themselves in nft's notation; the kernel takes others, such as one with a star."""

WHEN_DOWN = {"reject": "goto refuse", "drop": "goto discard"}
"""What the pickers map says for a farm without a usable backend, by the farm's `when_down`."""

Roles = Mapping[str, Mapping[str, Role]]


def compile_ruleset(
    config: Configuration,
    weights: Mapping[str, Mapping[str, int]],
    own_addresses: Collection[IPv4Address | IPv6Address] = (),
    previous: Ruleset | Assignment | None = None,
    roles: Roles | None = None,
    *,
    near: Iterable[tuple[str, int | None, Network]] = (),
) -> Ruleset:
    """What the kernel is to hold for `config`. Never fails for a valid document.

    `weights`: effective weight by farm and backend; 0, or not named, takes no new connections. A farm that is not
    enabled is left out. `own_addresses`: the links' own addresses; TCP 443 of these stays the GUI's whatever the
    document says. `previous`: the ruleset compiled last (its numbers are kept and its unchanged farms reused), or what
    Kernel.adopt returned after a restart. `roles`: why backends have their weights, by farm and backend; where it says
    nothing, an enabled backend that takes nothing has failed. `near`: name and index (None: not known) of each link
    with each network that is on it: a client there and a backend behind the same link would talk past the appliance, so
    the backend is shown the appliance's address.
    """
    farms = sides(config)
    parts = previous.parts if isinstance(previous, Ruleset) else {}
    before = previous.assignment if isinstance(previous, Ruleset) else previous or Assignment()
    wanted = {side: usable(side, farm, weights.get(side.farm, {})) for side, farm in farms.items()}
    known = {side: roles_of(side, farm, wanted[side], (roles or {}).get(side.farm, {})) for side, farm in farms.items()}
    unchanged = {
        side for side, farm in farms.items() if side in parts and _same(parts[side], farm, wanted[side], known[side])
    }
    assignment = assign(farms, wanted, before, unchanged)
    result: dict[Side, Part] = {}
    for side, farm in farms.items():
        numbers = assignment.sides[side]
        reuse = side in unchanged and parts[side].numbers is numbers
        result[side] = parts[side] if reuse else compile_side(side, farm, wanted[side], known[side], numbers)
    return Ruleset(result, _common(config, own_addresses, near, assignment), assignment, chains_of(result))


def usable(side: Side, farm: Farm, weights: Mapping[str, int]) -> dict[str, int]:
    """The positive weights of the backends of one side of `farm`, in the order of names; if none, its sorry server."""
    found = {name: weights[name] for name, *_ in backend_keys(side, farm) if weights.get(name, 0) > 0}
    sorry = farm.sorry_server(side.family)
    return {sorry_name(sorry): 1} if sorry and not found else found


def roles_of(side: Side, farm: Farm, weights: Mapping[str, int], given: Mapping[str, Role]) -> Mapping[str, Role]:
    """What each backend of one side of `farm` does, as `given`; where that says nothing, told from `weights`."""
    out: dict[str, Role] = {"enabled": "failed", "drain": "draining", "disabled": "disabled"}
    return {
        name: given.get(name) or ("active" if name in weights else out[backend.state])
        for name, backend in farm.backends.items()
        if backend.address.version == side.family
    }


def _same(part: Part, farm: Farm, weights: Mapping[str, int], roles: Mapping[str, Role]) -> bool:
    return part.weights == weights and part.roles == roles and (part.farm is farm or part.farm == farm)


def compile_side(
    side: Side, farm: Farm, weights: Mapping[str, int], roles: Mapping[str, Role], numbers: SideNumbers
) -> Part:
    """The part of one side; `weights` are those of `usable`, `roles` those of `roles_of`."""
    mark = str(numbers.mark)
    marks = {key[0]: backend_mark for key, backend_mark in numbers.backends.items()}
    elements = _services(side, farm, mark)
    picker = numbers.picker
    shares: dict[str, float] = {}
    limits = Limits.of(farm, side.family)
    elements |= {name: {mark: ("", "")} for name in (limits.counters if limits else ())}
    if weights and picker:
        sequence = _sequence(side, farm, weights, picker)
        chain = f"jump {picker.name}"
        if persistence := Persistence.of(farm, side.family):
            elements |= _persistent(side, farm, mark, {name: marks[name] for name in weights}, marks)
            elements["choosers"] = {mark: (chain, "")}
            chain = f"jump {persistence.name}"
        if limits:
            elements["admitted"] = {mark: (chain, "")}
            chain = f"jump {limits.name}"
        elements["pickers"] = {mark: (chain, str(side))}
        elements[picker.buckets] = {f"{mark} . {number}": (str(marks[who]), "") for number, who in enumerate(sequence)}
        shares = {who: count / picker.size for who, count in Counter(sequence).items()}
    else:
        elements["pickers"] = {mark: (WHEN_DOWN[farm.when_down], str(side))}
    for (backend, address, port), backend_mark in numbers.backends.items():
        value = address if port is None else f"{address} . {port}"
        targets = elements.setdefault(f"hosts{side.family}" if port is None else f"backends{side.family}", {})
        targets[str(backend_mark)] = (value, f"{side.farm}/{backend}")
        traffic = elements.setdefault("traffic", {})
        traffic[f"{backend_mark} . original"] = traffic[f"{backend_mark} . reply"] = ("", "")
        if farm.forwarding == "snat":
            elements.setdefault("masqueraded", {})[str(backend_mark)] = ("", "")
    ends: set[Role] = {"disabled", "drained", *(("failed",) if farm.on_failure == "cut" else ())}
    failed = frozenset(marks[backend] for backend, role in roles.items() if role in ends or role == "failed")
    sorry = farm.sorry_server(side.family)
    if sorry and sorry_name(sorry) not in weights:
        # Its flows go to the backends that are there again.
        failed |= {marks[sorry_name(sorry)]}
    cut = frozenset(marks[backend] for backend, role in roles.items() if role in ends)
    return Part(farm, weights, roles, numbers, elements, failed, cut, shares)


def _sequence(side: Side, farm: Farm, weights: Mapping[str, int], picker: Picker | HashPicker) -> list[str]:
    if isinstance(picker, Picker):
        return buckets.fill(weights, picker.size)
    configured = {
        name: backend.weight for name, backend in farm.backends.items() if backend.address.version == side.family
    }
    if weights.keys().isdisjoint(configured):
        return list(weights) * picker.size  # the sorry server
    return consistent.fill(configured, weights.keys(), picker.size)


def _persistent(
    side: Side, farm: Farm, mark: str, usable: Mapping[str, int], marks: Mapping[str, int]
) -> dict[str, dict[str, Element]]:
    given = {
        f"{mark} . {_network(network)}": (str(marks[backend]), "")
        for network, backend in farm.persistence_static.items()
        if network.version == side.family and backend in marks
    }
    elements: dict[str, dict[str, Element]] = {"usable": {str(each): ("", "") for each in usable.values()}}
    return elements | ({f"static{side.family}": given} if given else {})


def _network(network: Network) -> str:
    """As the kernel tells it: one address is not a network."""
    return str(network if network.prefixlen < network.max_prefixlen else network[0])


def _services(side: Side, farm: Farm, mark: str) -> dict[str, dict[str, Element]]:
    """What leads to the farm: single ports in a hash, ranges in an interval map, whole addresses in a map of theirs."""
    elements: dict[str, dict[str, Element]] = {}
    for address in farm.addresses:
        if address.version != side.family:
            continue
        if "all" in farm.protocols:
            elements.setdefault(f"whole{side.family}", {})[str(address)] = (mark, "")
            continue
        for protocol in farm.protocols:
            for ports in farm.ports:
                name = f"services{side.family}" if ports.single else f"ranges{side.family}"
                elements.setdefault(name, {})[f"{address} . {protocol} . {_span(ports)}"] = (mark, "")
    return elements


def _span(ports: PortRange) -> str:
    return str(ports.first) if ports.single else f"{ports.first}-{ports.last}"


def chains_of(parts: Mapping[Side, Part]) -> frozenset[Chain]:
    """The chains that these parts want and that are not of the skeleton."""
    found: set[Chain] = set()
    for side, part in parts.items():
        if part.weights:
            if isinstance(part.numbers.picker, HashPicker):
                found.add(part.numbers.picker)
            if part.farm.persistence != "none":
                found.update(filter(None, [Persistence.of(part.farm, side.family)]))
        # Also while nobody serves: a source's open connections are known to the sets that go with the chain.
        if part.farm.limited:
            found.update(filter(None, [Limits.of(part.farm, side.family)]))
    return frozenset(found)


def _common(
    config: Configuration,
    own_addresses: Collection[IPv4Address | IPv6Address],
    near: Iterable[tuple[str, int | None, Network]],
    assignment: Assignment,
) -> Elements:
    virtual = config.virtual_addresses() - set(own_addresses)
    nothing: Element = ("", "")
    beside = [each for each in near if _LINK_NAME.fullmatch(each[0])]
    # By index, because the first packet of every connection is looked up there; names cost twice as much.
    arms = sorted({f'"{name}"' if index is None else str(index) for name, index, _ in beside})
    return {
        "virtual4": {str(address): nothing for address in sorted(virtual, key=int) if address.version == 4},
        "virtual6": {str(address): nothing for address in sorted(virtual, key=int) if address.version == 6},
        "arms": {f"{arm} . {arm}": nothing for arm in arms},
        "near4": {
            f'"{name}" . {_network(network)}': nothing for name, network in _apart(beside) if network.version == 4
        },
        "near6": {
            f'"{name}" . {_network(network)}': nothing for name, network in _apart(beside) if network.version == 6
        },
        "numbers": {"1": (str(assignment.next_farm), "next farm"), "2": (str(assignment.next_backend), "next backend")},
    }


def _apart(near: Iterable[tuple[str, int | None, Network]]) -> Iterator[tuple[str, Network]]:
    """By link and then by address; where one network holds another, the larger: elements must not overlap."""
    found: dict[str, set[Network]] = defaultdict(set)
    for name, _, network in near:
        found[name].add(network)
    for name, networks in sorted(found.items()):
        yield from ((name, each) for each in collapse_addresses(n for n in networks if isinstance(n, IPv4Network)))
        yield from ((name, each) for each in collapse_addresses(n for n in networks if isinstance(n, IPv6Network)))
