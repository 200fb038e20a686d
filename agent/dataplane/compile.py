# SPDX-License-Identifier: GPL-2.0-or-later
"""From a document and the effective weights to a Ruleset: pure, and a farm's change costs that farm only."""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address

from agent.dataplane import buckets
from agent.dataplane.assignment import Assignment, FarmNumbers, assign
from agent.dataplane.ruleset import Element, Elements, FarmPart, Ruleset
from agent.model import Configuration, Farm

REFUSE = "goto refuse"
"""What the pickers map says for a farm without a usable backend."""


def compile_ruleset(
    config: Configuration,
    weights: Mapping[str, Mapping[str, int]],
    own_addresses: Collection[IPv4Address | IPv6Address] = (),
    previous: Ruleset | Assignment | None = None,
) -> Ruleset:
    """What the kernel is to hold for `config`. Never fails for a valid document.

    `weights`: effective weight by farm and backend; 0, or not named, takes no new connections. A farm that is not
    enabled is left out. `own_addresses`: the links' own addresses; TCP 443 of these stays the GUI's whatever the
    document says. `previous`: the ruleset compiled last (its numbers are kept and its unchanged farms reused), or what
    Kernel.adopt returned after a restart.
    """
    farms = {name: farm for name, farm in config.farms.items() if farm.enabled}
    parts = previous.parts if isinstance(previous, Ruleset) else {}
    before = previous.assignment if isinstance(previous, Ruleset) else previous or Assignment()
    wanted = {name: _usable(farm, weights.get(name, {})) for name, farm in farms.items()}
    unchanged = {name for name, farm in farms.items() if name in parts and _same(parts[name], farm, wanted[name])}
    assignment = assign(farms, wanted, before, unchanged)
    result: dict[str, FarmPart] = {}
    for name, farm in farms.items():
        numbers = assignment.farms[name]
        reuse = name in unchanged and parts[name].numbers is numbers
        result[name] = parts[name] if reuse else _compile_farm(name, farm, wanted[name], numbers)
    return Ruleset(result, _common(config, own_addresses, assignment), assignment)


def _usable(farm: Farm, weights: Mapping[str, int]) -> dict[str, int]:
    return {name: weights[name] for name in sorted(farm.backends) if weights.get(name, 0) > 0}


def _same(part: FarmPart, farm: Farm, weights: Mapping[str, int]) -> bool:
    return part.weights == weights and (part.farm is farm or part.farm == farm)


def _compile_farm(name: str, farm: Farm, weights: Mapping[str, int], numbers: FarmNumbers) -> FarmPart:
    family = farm.family
    mark = str(numbers.mark)
    marks = {key[0]: backend_mark for key, backend_mark in numbers.backends.items()}
    elements: dict[str, dict[str, Element]] = {
        f"services{family}": {
            f"{address} . {protocol} . {port}": (mark, "")
            for address in farm.addresses
            for protocol in farm.protocols
            for port in farm.ports
        }
    }
    picker = numbers.picker
    shares: dict[str, float] = {}
    if weights and picker:
        sequence = buckets.fill(weights, picker.size)
        elements["pickers"] = {mark: (f"jump {picker.name}", name)}
        elements["buckets"] = {f"{mark} . {number}": (str(marks[who]), "") for number, who in enumerate(sequence)}
        shares = {who: count / picker.size for who, count in buckets.counts(weights, picker.size).items()}
    else:
        elements["pickers"] = {mark: (REFUSE, name)}
    for (backend, address, port), backend_mark in numbers.backends.items():
        value = address if port is None else f"{address} . {port}"
        targets = elements.setdefault(f"hosts{family}" if port is None else f"backends{family}", {})
        targets[str(backend_mark)] = (value, f"{name}/{backend}")
        traffic = elements.setdefault("traffic", {})
        traffic[f"{backend_mark} . original"] = traffic[f"{backend_mark} . reply"] = ("", "")
        if farm.forwarding == "snat":
            elements.setdefault("masqueraded", {})[str(backend_mark)] = ("", "")
    failed = frozenset(
        marks[backend]
        for backend, settings in farm.backends.items()
        if settings.state == "enabled" and backend not in weights
    )
    return FarmPart(farm, weights, numbers, elements, failed, shares)


def _common(
    config: Configuration, own_addresses: Collection[IPv4Address | IPv6Address], assignment: Assignment
) -> Elements:
    virtual = config.virtual_addresses() - set(own_addresses)
    nothing: Element = ("", "")
    return {
        "virtual4": {str(address): nothing for address in sorted(virtual, key=int) if address.version == 4},
        "virtual6": {str(address): nothing for address in sorted(virtual, key=int) if address.version == 6},
        "numbers": {"1": (str(assignment.next_farm), "next farm"), "2": (str(assignment.next_backend), "next backend")},
    }
