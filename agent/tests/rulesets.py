# SPDX-License-Identifier: GPL-2.0-or-later
"""Rulesets of documents for tests without a kernel, and what nftables makes of commands, in small."""

import itertools
import re
from ipaddress import ip_address, ip_network

from agent.dataplane import compile_ruleset
from agent.dataplane.assignment import Side
from agent.dataplane.limits import LINES, Limits, Resets, meters_of
from agent.dataplane.persistence import OwnMap, own_maps
from agent.dataplane.script import CHAIN_SETS, CHAINS, MAPS, METERS
from agent.dataplane.tables import IngressChain
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
    """All elements of a ruleset by set, as the kernel would hold them; no key may stand in two pieces."""
    result = {}
    for _farm, elements in ruleset.pieces():
        for set_name, content in elements.items():
            held = result.setdefault(set_name, {})
            assert not held.keys() & content.keys()
            held.update(content)
    result[METERS] = {meter.name: ("", "") for meter in meters_of(ruleset.chains)}
    for set_name in CHAIN_SETS.values():
        mine = [chain for chain in ruleset.chains if isinstance(chain, IngressChain) == (set_name != CHAINS)]
        result[set_name] = {chain.name: ("", "") for chain in mine}
    result[MAPS] = {own.name: ("", "") for own in own_maps(ruleset.chains)}
    return {set_name: content for set_name, content in result.items() if content}


def executed(elements, commands):
    """What elements become by commands: the rules of nftables, in small."""
    result = {set_name: dict(content) for set_name, content in elements.items()}
    for command in commands:
        if command.structural:
            _chain(result, command.set_name, command.text)
            continue
        verb, _, _, _, set_name, body = command.text.split(maxsplit=5)
        content = result.setdefault(set_name, {})
        for word in body.strip("{} ").split(", "):
            left, _, value = word.partition(" : ")
            key, _, comment = left.partition(' comment "')
            if verb == "add":
                assert key not in content, f"{key} is in {set_name} already"
                content[key] = (value, comment.rstrip('"'))
            else:
                del content[key]
    return {set_name: content for set_name, content in result.items() if content}


def _chain(result, kind, command):
    """A chain or set comes before it is referred to, and goes when nobody does."""
    content = result.setdefault(kind, {})
    words = command.split()
    if words[0] == "delete":
        leading = (
            ("in_pickers", "lives")
            if kind not in (CHAINS, METERS, MAPS)
            else ("pickers", "admitted", "resetters", *(f"log_{line}" for line in LINES))
        )
        jumps = [value for name in leading for value, _ in result.get(name, {}).values()]
        assert f"jump {words[-1]}" not in jumps
        names = result.get(CHAINS, {})
        limits = [found for name in names for found in (Limits.named(name), Resets.named(name)) if found]
        used = [*meters_of(limits), *(end for each in limits for end in each.ends)]
        maps = {own.name for own in map(OwnMap.of_chain, names) if own}
        assert words[-1] not in {each.name for each in used} | maps
        del content[words[-1]]
    else:
        assert words[5] not in content
        here = {*result.get(METERS, {}), *result.get(CHAINS, {})}
        sets = {word[1:] for word in words if word.startswith(("@rate", "@count", "@reset4", "@reset6"))}
        ends = {after.rstrip(";") for word, after in itertools.pairwise(words) if word == "goto" and "away_" in after}
        assert sets | ends <= here
        maps = {word[1:] for word in words if re.fullmatch("@sticky.*_.*_.*", word) and "_port" not in word}
        assert maps <= result.get(MAPS, {}).keys()
        content[words[5]] = ("", "")


def complete(held):
    """With the sets that are read back although they are empty."""
    return {name: {} for name in ("backends4", "backends6", "hosts4", "hosts6")} | held
