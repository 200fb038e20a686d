# SPDX-License-Identifier: GPL-2.0-or-later
"""Rulesets of documents for tests without a kernel, and what nftables makes of commands, in small."""

import re
from ipaddress import ip_address, ip_network

from agent.dataplane import compile_ruleset
from agent.dataplane.assignment import Side
from agent.dataplane.limits import meters_of
from agent.dataplane.persistence import own_maps
from agent.dataplane.ruleset import body_of
from agent.dataplane.script import CHAIN_SETS, CHAINS, INGRESS_MAPS, MAPS, METERS, OFFLOAD
from agent.dataplane.skeleton import SKELETON
from agent.dataplane.tables import INGRESS_CHAINS, TABLE, IngressChain, table_of
from agent.model import validate

WEB4 = Side("web", 4)
WEB = {
    "addresses": ["10.20.0.100", "10.20.0.101"],
    "protocols": ["tcp", "udp"],
    "ports": [80, 443],
    "backends": {"a": {"address": "10.30.0.11"}, "b": {"address": "10.30.0.12", "port": 8080}},
}
SIX = {"addresses": ["fd00::1"], "ports": [80], "forwarding": "snat", "backends": {"a": {"address": "fd00::11"}}}
NEAR = [("eth0", 2, ip_network("10.30.0.0/16")), ("eth1", 3, ip_network("fd00:30::/64"))]


def compiled(farms, weights=None, own=(), previous=None, roles=None, near=()):
    """The ruleset of these farms; by default each backend has the weight 1."""
    config = validate({"version": 1, "farms": farms})
    if weights is None:
        weights = {name: dict.fromkeys(farm.backends, 1) for name, farm in config.farms.items()}
    return compile_ruleset(config, weights, [ip_address(address) for address in own], previous, roles, near=near)


def merged(ruleset):
    """All elements of a ruleset by set, as the kernel would hold them; no key may stand in two pieces.

    Beside them what comes and goes: chains, sets and maps with what is between their braces, and the flowtable.
    """
    result = {}
    for _farm, elements in ruleset.pieces():
        for set_name, content in elements.items():
            held = result.setdefault(set_name, {})
            assert not held.keys() & content.keys()
            held.update(content)
    result[METERS] = {meter.name: (meter.declaration, "") for meter in meters_of(ruleset.chains)}
    for set_name in CHAIN_SETS.values():
        mine = [chain for chain in ruleset.chains if isinstance(chain, IngressChain) == (set_name != CHAINS)]
        result[set_name] = {chain.name: (body_of(chain), "") for chain in mine}
    for set_name in (MAPS, INGRESS_MAPS):
        mine = [own for own in own_maps(ruleset.chains) if own.ingress == (set_name == INGRESS_MAPS)]
        result[set_name] = {own.name: (own.declaration, "") for own in mine}
    offload = ruleset.offload
    result[OFFLOAD] = {offload.name: (",".join(sorted(offload.devices)), "")} if offload else {}
    return {set_name: content for set_name, content in result.items() if content}


def executed(elements, commands):
    """What elements become by commands: the rules of nftables, in small."""
    result = {set_name: dict(content) for set_name, content in elements.items()}
    for command in commands:
        content = result.setdefault(command.set_name, {})
        if command.set_name == OFFLOAD:
            for line in command.elements:
                _flowtable(content, line)
        elif command.structural:
            for name, (body, _) in command.elements.items():
                _structure(result, command, name, body)
        elif command.verb == "add":
            assert not content.keys() & command.elements.keys(), "is there already"
            content.update(command.elements)
        else:
            for key, element in command.elements.items():
                assert content.pop(key) == element
    return {set_name: content for set_name, content in result.items() if content}


def _structure(result, command, name, body):
    """A chain or set comes before it is referred to, and goes when nobody does."""
    content = result[command.set_name]
    kinds = (METERS, MAPS, CHAINS) if table_of(command.set_name) == TABLE else (INGRESS_CHAINS, INGRESS_MAPS)
    here = {each for kind in kinds for each in result.get(kind, {})}
    if command.verb == "delete":
        beside = [each for set_name, each in result.items() if table_of(set_name) == table_of(command.set_name)]
        values = [value for each in beside for value, _ in each.values()]
        del content[name]
        assert name not in set().union(*map(_named, values)) - _named(body)
        result.pop(name, None)  # the networks of a list
    else:
        assert name not in here
        assert _named(body) <= here | _PERMANENT
        content[name] = (body, "")


_PERMANENT = set(re.findall(r"^\s*(?:chain|set|map|counter) (\S+)", SKELETON, re.MULTILINE))


def _named(text):
    """The chains and sets that a rule or verdict names."""
    return set(re.findall(r"(?:jump |goto |@)(\w[\w.-]*)", text)) - {"th", "nh"}


def _flowtable(content, line):
    verb, kind, _, _, name, *more = line.split()
    if kind != "flowtable":
        return
    devices = set(re.findall('"([^"]+)"', " ".join(more)))
    held = set(content[name][0].split(",")) if name in content else set()
    if verb == "delete" and not more:
        del content[name]
    else:
        assert devices - held == devices if verb == "add" else devices <= held
        content[name] = (",".join(sorted(held | devices if verb == "add" else held - devices)), "")


def complete(held):
    """With the sets that are read back although they are empty."""
    return {name: {} for name in ("backends4", "backends6", "hosts4", "hosts6")} | held
