# SPDX-License-Identifier: GPL-2.0-or-later
"""From what the kernel holds back to numbers. Pure."""

import re
from collections.abc import Sequence
from typing import Any

from agent.dataplane.assignment import Assignment, BackendKey, Side, SideNumbers
from agent.dataplane.forwarded import backend_of
from agent.dataplane.ingress import UNWELCOME
from agent.dataplane.limits import PREFIXES
from agent.dataplane.pool import HashPicker, Picker, picker_of
from agent.dataplane.ruleset import Element, Elements
from agent.dataplane.sources import MASQUERADE
from agent.dataplane.tables import FARM, INGRESS
from agent.model import Family

_WORDS = ("hash", "persist", "dscp", "grade", "quality", "pool", "screen", "sift", "sieve")
_COMES = re.compile("|".join((*_WORDS, MASQUERADE.name, UNWELCOME.name, *PREFIXES)))
"""The names of chains of `table inet sluice` that come and go; in the other table all do."""
_FAMILIES: dict[str, Family] = {"4": 4, "6": 6}
TARGETS: dict[str, Family] = {"backends4": 4, "backends6": 6, "hosts4": 4, "hosts6": 6}
"""The maps, with their IP family, that name a backend's address; their elements count its connections."""
HOPS: dict[str, Family] = {"hops4": 4, "hops6": 6}
"""The same of backends that packets are forwarded to at ingress; their elements count packets."""

_WAY = ("pickers", "admitted", "choosers")
"""The maps that lead a new connection on, in this order; each farm's last verdict is its picker."""
_IN_WAY = ("in_pickers", "in_choosers")
"""The same at ingress."""


def comment(listing: dict[str, Any]) -> str:
    """The comment of the one map in libnftables' answer to `list map`, "" without one."""
    maps = (item["map"] for item in listing.get("nftables", []) if "map" in item)
    return next((str(content.get("comment", "")) for content in maps), "")


def chains(listing: dict[str, Any] | None, table: str) -> dict[str, Element]:
    """The chains of `table` that come and go in the answer to `list chains`, as elements of a set."""
    family, name = table.split()
    found = (item.get("chain", {}) for item in (listing or {}).get("nftables", []))
    names = {each["name"] for each in found if (each.get("family"), each.get("table")) == (family, name)}
    return {each: ("", "") for each in sorted(names) if table == INGRESS or _COMES.match(each)}


def flowtables(listing: dict[str, Any] | None) -> dict[str, Element]:
    """The flowtables in the answer to `list flowtables`, as elements of a set: names, and devices with commas."""
    found = [item["flowtable"] for item in (listing or {}).get("nftables", []) if "flowtable" in item]
    devices = {each["name"]: each.get("dev", []) for each in found if each.get("table") == "sluice"}
    # Of one device nft tells the name, of several a list.
    return {name: (each if isinstance(each, str) else ",".join(sorted(each)), "") for name, each in devices.items()}


def keys(set_name: str, held: Elements) -> list[str] | None:
    """The keys that a large set has if it fits the sets that were read before it; None: that cannot be told."""
    before, at, kind = set_name.rpartition("in_")
    if kind in ("buckets", "shared") and not before:
        verdicts = {mark: verdict for way in (_IN_WAY if at else _WAY) for mark, (verdict, _) in held[way].items()}
        pickers = {mark: _picker(verdict) for mark, verdict in verdicts.items()}
        sizes = {mark: picker.size for mark, picker in pickers.items() if picker and picker.buckets == kind}
        return [f"{mark} . {number}" for mark, size in sizes.items() for number in range(size)]
    return None


def assignment(elements: Elements) -> Assignment | None:
    """The numbers that these elements carry; None if they make no sense, such as those of another software."""
    try:
        pickers = {
            _side(comment): (int(key) & ~FARM, _last_verdict(elements, way, key, value))
            for way in (_WAY, _IN_WAY)
            for key, (value, comment) in elements.get(way[0], {}).items()
        }
        backends: dict[Side, dict[BackendKey, int]] = {side: {} for side in pickers}
        for set_name, family in (TARGETS | HOPS).items():
            for key, (value, comment) in elements.get(set_name, {}).items():
                farm, _, backend = comment.partition("/")
                address, _, port = value.partition(" . ")
                mark = backend_of(int(key))
                port = port or elements.get("target_ports", {}).get(key, ("",))[0]
                backends[Side(farm, family)][backend, address, int(port) if port else None] = mark
        sides = {
            side: SideNumbers(mark, picker_of(verdict.split()[1]), backends[side])
            for side, (mark, verdict) in pickers.items()
        }
        return Assignment(sides, int(elements["numbers"]["1"][0]), int(elements["numbers"]["2"][0]))
    except (KeyError, ValueError, IndexError):
        return None


def _last_verdict(elements: Elements, way: Sequence[str], mark: str, first: str) -> str:
    return next((elements[name][mark][0] for name in way[:0:-1] if mark in elements.get(name, {})), first)


def _side(comment: str) -> Side:
    farm, _, family = comment.rpartition("/")
    if not farm or family not in _FAMILIES:
        raise ValueError(comment)
    return Side(farm, _FAMILIES[family])


def _picker(verdict: str) -> Picker | HashPicker | None:
    kind, _, chain = verdict.partition(" ")
    return picker_of(chain) if kind == "jump" else None
