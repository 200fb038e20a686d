# SPDX-License-Identifier: GPL-2.0-or-later
"""From a document and the effective weights to a Ruleset: pure, and a farm's change costs that farm only."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from agent.dataplane import buckets, consistent, forwarded, quality, screening, sources
from agent.dataplane.assignment import (
    Assignment,
    Side,
    SideNumbers,
    assign,
    backend_keys,
    sides,
    sorry_name,
    tunnel_indexes,
)
from agent.dataplane.ingress import answer, course, entrances, leaves, picking
from agent.dataplane.layout import network_word
from agent.dataplane.limits import COUNTERS, Limits, Resets, logs, policies
from agent.dataplane.offload import NOTHING_OFFERED, Offered, Offload
from agent.dataplane.persistence import Persistence, at_ingress
from agent.dataplane.pool import HashPicker, Picker
from agent.dataplane.ruleset import NOWHERE, Chain, Element, Elements, Part, Reach, Ruleset, Whole
from agent.dataplane.sources import SourcePool
from agent.dataplane.tables import FARM
from agent.model import Configuration, Family, Farm, PortRange
from agent.model.offload import kept_from_offload, may_offload
from agent.model.state import Role
from agent.model.types import Address

Network = IPv4Network | IPv6Network

_LINK_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,15}")
"""Names of links that stand for themselves in nft's notation; the kernel takes others, such as one with a star."""

WHEN_DOWN = {"reject": "goto refuse", "drop": "goto discard"}
"""What the pickers map says for a farm without a usable backend, by the farm's `when_down`."""

Roles = Mapping[str, Mapping[str, Role]]


def compile_ruleset(
    config: Configuration,
    weights: Mapping[str, Mapping[str, int]],
    own_addresses: Collection[Address] = (),
    previous: Ruleset | Assignment | None = None,
    roles: Roles | None = None,
    *,
    near: Iterable[tuple[str, int | None, Network]] = (),
    placed: Collection[Address] = (),
    offered: Offered = NOTHING_OFFERED,
) -> Ruleset:
    """What the kernel is to hold for `config`. Never fails for a valid document.

    `weights`: effective weight by farm and backend; 0, or not named, takes no new connections. A farm that is not
    enabled is left out. `own_addresses`: the links' own addresses; TCP 443 of these stays the GUI's whatever the
    document says. `previous`: the ruleset compiled last (its numbers are kept and its unchanged farms reused), or what
    Kernel.adopt returned after a restart. `roles`: why backends have their weights, by farm and backend; where it says
    nothing, an enabled backend that takes nothing has failed. `near`: name and index (None: not known) of each link
    with each network that is on it: a client there and a backend behind the same link would talk past the appliance, so
    the backend is shown the appliance's address. What farms at ingress send to backends leaves by these links, too.
    `placed`: addresses that links have from us; while one is there the GUI does not answer at it.
    `offered`: what established connections can be offloaded to.
    """
    farms = sides(config)
    near = [each for each in near if _LINK_NAME.fullmatch(each[0])]
    parts = previous.parts if isinstance(previous, Ruleset) else {}
    before = previous.assignment if isinstance(previous, Ruleset) else previous or Assignment()
    tunnels = tunnel_indexes(_tunnelled(farms), before.tunnels)
    reaches = {side: _reach(side, farm, near, own_addresses, tunnels) for side, farm in farms.items()}
    wanted: dict[Side, Mapping[str, int]] = {}
    known: dict[Side, Mapping[str, Role]] = {}
    unchanged: set[Side] = set()
    for side, farm in farms.items():
        part, given, told = parts.get(side), weights.get(side.farm, {}), (roles or {}).get(side.farm, {})
        if part and part.farm is farm and part.weights == given and part.roles == told:
            wanted[side], known[side] = given, told  # of 10 000 farms nearly all
        else:
            wanted[side] = usable(side, farm, given)
            known[side] = roles_of(side, farm, wanted[side], told)
        if part and part.reach == reaches[side] and _same(part, farm, wanted[side], known[side]):
            unchanged.add(side)
    assignment = replace(assign(farms, wanted, before, unchanged), tunnels=tunnels)
    result: dict[Side, Part] = {}
    for side, farm in farms.items():
        numbers = assignment.sides[side]
        reuse = side in unchanged and parts[side].numbers is numbers
        made = (side, farm, wanted[side], known[side], numbers)
        result[side] = parts[side] if reuse else compile_side(*made, reach=reaches[side])
    links = tuple(sorted({(index, name) for name, index, _ in near if index is not None}))
    held = {*config.held_addresses(), *placed}.difference(own_addresses)
    common = _common(held, own_addresses, config.farms, near, assignment)
    wholes = _wholes(farms, assignment, previous.wholes if isinstance(previous, Ruleset) else {})
    chains = chains_of(result, wholes, links)
    lists = screening.listed(chains, config.network_lists, previous.lists if isinstance(previous, Ruleset) else {})
    offload = _offload(offered, result, previous if isinstance(previous, Ruleset) else None)
    return Ruleset(result, common, assignment, chains, links, wholes, lists, offered, offload)


def _reach(
    side: Side,
    farm: Farm,
    near: Collection[tuple[str, int | None, Network]],
    own: Collection[Address],
    tunnels: Mapping[str, int],
) -> Reach:
    if not farm.at_ingress:
        if not screening.screened(farm):
            return NOWHERE
        return Reach(own=frozenset(each for each in farm.addresses if each.version == side.family and each in own))
    if farm.forwarding == "tunnel":
        return forwarded.tunnelled(farm, backend_keys(side, farm), tunnels, own)
    networks = [(index, network) for _, index, network in near if index is not None]
    return forwarded.reach_of(farm, backend_keys(side, farm), networks, own)


def _tunnelled(farms: Mapping[Side, Farm]) -> set[str]:
    """The addresses that tunnels lead to."""
    sided = ((side, farm) for side, farm in farms.items() if farm.forwarding == "tunnel")
    return {address for side, farm in sided for _name, address, _port in backend_keys(side, farm)}


def _wholes(farms: Mapping[Side, Farm], assignment: Assignment, before: Mapping[str, Whole]) -> Mapping[str, Whole]:
    """What farms have for both their sides together: one ceiling, say, however many families they have."""
    numbers: dict[str, list[SideNumbers]] = defaultdict(list)
    for side, farm in farms.items():
        if quality.graded(farm):
            numbers[side.farm].append(assignment.sides[side])
    found: dict[str, Whole] = {}
    for name, sided in numbers.items():
        farm = next(farms[Side(name, family)] for family in (4, 6) if Side(name, family) in farms)
        held = before.get(name)
        if held and held.numbers == tuple(sided) and held.farm == farm:
            found[name] = held
            continue
        marks = [mark for each in sided for mark in each.backends.values()]
        elements = quality.elements_of(name, farm, min(each.mark for each in sided), marks)
        found[name] = Whole(farm, tuple(sided), elements)
    return found


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
    side: Side,
    farm: Farm,
    weights: Mapping[str, int],
    roles: Mapping[str, Role],
    numbers: SideNumbers,
    *,
    reach: Reach = NOWHERE,
) -> Part:
    """The part of one side; `weights` are those of `usable`, `roles` those of `roles_of`."""
    marks = {key[0]: backend_mark for key, backend_mark in numbers.backends.items()}
    ends: set[Role] = {"disabled", "drained", *(("failed",) if farm.on_failure == "cut" else ())}
    failed = frozenset(marks[backend] for backend, role in roles.items() if role in ends or role == "failed")
    sorry = farm.sorry_server(side.family)
    if sorry and sorry_name(sorry) not in weights:
        # Its flows go to the backends that are there again.
        failed |= {marks[sorry_name(sorry)]}
    cut = frozenset(marks[backend] for backend, role in roles.items() if role in ends)
    sequence = _sequence(side, farm, weights, numbers.picker) if weights and numbers.picker else []
    elements = _services(side, farm, numbers.mark, reach, ingress=farm.at_ingress and bool(sequence))
    if screening.screened(farm):
        elements |= screening.elements_of(farm, side.family, str(numbers.mark), elements)
    if not (sequence and numbers.picker):
        # Nobody is left: what comes for such a farm is refused by the other table, also where it came by this one.
        elements["pickers"] = {str(numbers.mark): (WHEN_DOWN[farm.when_down], str(side))}
    elif farm.at_ingress:
        elements |= forwarded.balanced(side, farm, weights, numbers, numbers.picker, sequence=sequence)
    else:
        elements |= _balanced(side, farm, weights, numbers, sequence)
    if farm.at_ingress:
        gone = {backend: mark in cut for backend, mark in marks.items() if mark in failed}
        elements |= forwarded.hops(side, farm, numbers, reach, gone)
        elements |= forwarded.leaving(farm, side.family, [marks[who] for who in marks if who not in weights])
    else:
        elements |= _limited(side, farm, str(numbers.mark))
        elements |= _targets(side, farm, numbers)
    shares = {who: count / len(sequence) for who, count in Counter(sequence).items()}
    chains = _chains(side, farm, weights, numbers, reach)
    return Part(farm, weights, roles, numbers, elements, failed, cut, shares, reach, chains)


def _balanced(
    side: Side, farm: Farm, weights: Mapping[str, int], numbers: SideNumbers, sequence: Iterable[str]
) -> dict[str, Mapping[str, Element]]:
    """What leads from the farm to its backends, where connections have marks."""
    elements: dict[str, Mapping[str, Element]] = {}
    mark, picker = str(numbers.mark), numbers.picker
    marks = {key[0]: backend_mark for key, backend_mark in numbers.backends.items()}
    if picker is None:
        return elements
    chain = f"jump {picker.name}"
    if persistence := Persistence.of(farm, side.family, numbers.mark):
        elements |= persistence.elements(farm, mark, picker.name, [marks[name] for name in weights], marks)
        chain = f"jump {persistence.name}"
    if limits := Limits.of(farm, side.family):
        elements["admitted"] = {mark: (chain, "")}
        chain = f"jump {limits.name}"
    elements["pickers"] = {mark: (chain, str(side))}
    elements[picker.buckets] = {f"{mark} . {number}": (str(marks[who]), "") for number, who in enumerate(sequence)}
    return elements


def _limited(side: Side, farm: Farm, mark: str) -> dict[str, Mapping[str, Element]]:
    """What counts by limit, and leads resets and what is logged to theirs; also while nobody serves."""
    limits = Limits.of(farm, side.family)
    elements: dict[str, Mapping[str, Element]] = {
        COUNTERS[reason]: {mark: ("", "")} for reason in (limits.reasons if limits else ())
    }
    if resets := Resets.of(farm, side.family):
        elements |= {"over_resets": {mark: ("", "")}, "resetters": {mark: (f"jump {resets.name}", "")}}
    for log in logs(farm, side.family):
        elements[log.map] = {mark: (f"jump {log.name}", "")}
    return elements


def _targets(side: Side, farm: Farm, numbers: SideNumbers) -> dict[str, Mapping[str, Element]]:
    """What connections are translated to, and counted by."""
    elements: dict[str, dict[str, Element]] = {}
    pool = SourcePool.of(farm, side.family)
    for (backend, address, port), backend_mark in numbers.backends.items():
        value = address if port is None else f"{address} . {port}"
        targets = elements.setdefault(f"hosts{side.family}" if port is None else f"backends{side.family}", {})
        targets[str(backend_mark)] = (value, f"{side.farm}/{backend}")
        if kept_from_offload(farm):
            elements.setdefault("slow", {})[str(backend_mark)] = ("", "")
        if pool:
            elements.setdefault("pooled", {})[str(backend_mark)] = (f"goto {pool.name}", "")
        elif farm.forwarding == "snat":
            elements.setdefault("masqueraded", {})[str(backend_mark)] = ("", "")
    return {**elements}


def _sequence(side: Side, farm: Farm, weights: Mapping[str, int], picker: Picker | HashPicker) -> list[str]:
    if isinstance(picker, Picker):
        return buckets.fill(weights, picker.size)
    configured = {
        name: backend.weight for name, backend in farm.backends.items() if backend.address.version == side.family
    }
    if weights.keys().isdisjoint(configured):
        return list(weights) * picker.size  # the sorry server
    return consistent.fill(configured, weights.keys(), picker.size)


def _services(side: Side, farm: Farm, mark: int, reach: Reach, *, ingress: bool) -> dict[str, Mapping[str, Element]]:
    """What leads to the farm: single ports in a hash, ranges in an interval map, whole addresses in a map of theirs."""
    elements: dict[str, dict[str, Element]] = {}
    before, value = ("in_", str(mark | FARM)) if ingress else ("", str(mark))
    for address in farm.addresses:
        if address.version != side.family or (farm.at_ingress and address in reach.own):
            continue
        if "all" in farm.protocols:
            elements.setdefault(f"whole{side.family}", {})[str(address)] = (value, "")
            continue
        for protocol in farm.protocols:
            for ports in farm.ports:
                name = f"{before}{'services' if ports.single else 'ranges'}{side.family}"
                elements.setdefault(name, {})[f"{address} . {protocol} . {_span(ports)}"] = (value, "")
    return {**elements}


def _span(ports: PortRange) -> str:
    return str(ports.first) if ports.single else f"{ports.first}-{ports.last}"


def chains_of(
    parts: Mapping[Side, Part], wholes: Mapping[str, Whole], links: Iterable[tuple[int, str]] = ()
) -> frozenset[Chain]:
    """The chains that these want and that are not of the skeleton. `links`: index and name of each."""
    kinds: dict[Family, str] = {}
    rewritten = {side.family for side, part in parts.items() if part.farm.forwarding == "stateless"}
    for side, part in parts.items():
        if part.farm.at_ingress:
            kind = {*kinds.get(side.family, ""), forwarded.kind_of(part.farm, side.family)}
            kinds[side.family] = "".join(sorted(kind))
    ways = [course(*way) for way in kinds.items()]
    gates = [*(entrances(links, kinds) if kinds else ()), *(leaves(links, rewritten) if rewritten else ())]
    wanted = (part.chains for part in parts.values())
    return frozenset(gates).union(quality.chains_of(whole.farm for whole in wholes.values()), *ways, *wanted)


def _chains(side: Side, farm: Farm, weights: Mapping[str, int], numbers: SideNumbers, reach: Reach) -> frozenset[Chain]:
    """The chains that one side wants."""
    found: set[Chain] = {*sources.chains_of(farm, side.family)}
    picker = numbers.picker if weights else None
    if farm.at_ingress:
        found.update(forwarded.chains_of(farm, side.family))
        found |= {picking(picker)} if picker else set()
        found |= {answer(side.family)} if farm.forwarding == "stateless" else set()
    else:
        found |= {picker} if isinstance(picker, HashPicker) else set()
        # Also while nobody serves: a source's open connections are known to the sets that go with the chain.
        found |= policies(farm, side.family)
    persistence = Persistence.of(farm, side.family, numbers.mark)
    # Clients in a map of the farm's own outlive a time without backends, as those in the shared ones do.
    if persistence and (weights or persistence.size is not None):
        found.add(at_ingress(persistence) if farm.at_ingress else persistence)
    if screening.screened(farm):
        found |= screening.chains_of(farm, side.family, own=bool(reach.own))
    return frozenset(found)


def _offload(offered: Offered, parts: Mapping[Side, Part], previous: Ruleset | None) -> Offload | None:
    links = frozenset((name, index) for name, index in offered.links if _LINK_NAME.fullmatch(name))
    if not links or not any(may_offload(part.farm) for part in parts.values()):
        return None
    some = any("slow" in part.elements for part in parts.values())
    turn = previous.offload.round if previous and previous.offload else 0
    before = previous.parts if previous else {}
    if some and any("slow" in part.elements and _was_fast(before.get(side)) for side, part in parts.items()):
        turn += 1
    return Offload(links, offered.hardware, some, turn)


def _was_fast(part: Part | None) -> bool:
    return part is not None and "slow" not in part.elements


def _common(
    virtual: Collection[Address],
    own: Collection[Address],
    farms: Mapping[str, Farm],
    near: Iterable[tuple[str, int | None, Network]],
    assignment: Assignment,
) -> Elements:
    enabled = [farm for farm in farms.values() if farm.enabled]
    nothing: Element = ("", "")
    beside = list(near)
    # By index, because the first packet of every connection is looked up there; names cost twice as much.
    arms = sorted({f'"{name}"' if index is None else str(index) for name, index, _ in beside})
    return {
        "virtual4": {str(address): nothing for address in sorted(virtual, key=int) if address.version == 4},
        "virtual6": {str(address): nothing for address in sorted(virtual, key=int) if address.version == 6},
        "arms": {f"{arm} . {arm}": nothing for arm in arms},
        "near4": {
            f'"{name}" . {network_word(network)}': nothing for name, network in _apart(beside) if network.version == 4
        },
        "near6": {
            f'"{name}" . {network_word(network)}': nothing for name, network in _apart(beside) if network.version == 6
        },
        **screening.addresses_of(enabled, own),
        **forwarded.addresses_of(enabled),
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
