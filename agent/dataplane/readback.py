# SPDX-License-Identifier: GPL-2.0-or-later
"""From what the kernel holds back to numbers. Pure."""

from typing import Any

from agent.dataplane.assignment import Assignment, BackendKey, Side, SideNumbers
from agent.dataplane.pool import HashPicker, Picker, picker_of
from agent.dataplane.ruleset import Element, Elements
from agent.model import Family

_FAMILIES: dict[str, Family] = {"4": 4, "6": 6}
TARGETS: dict[str, Family] = {"backends4": 4, "backends6": 6, "hosts4": 4, "hosts6": 6}
"""The maps, with their IP family, that name a backend's address; their elements count its connections."""

_WAY = ("pickers", "admitted", "choosers")
"""The maps that lead a new connection on, in this order; each farm's last verdict is its picker."""


def comment(listing: dict[str, Any]) -> str:
    """The comment of the one map in libnftables' answer to `list map`, "" without one."""
    maps = (item["map"] for item in listing.get("nftables", []) if "map" in item)
    return next((str(content.get("comment", "")) for content in maps), "")


def chains(listing: dict[str, Any] | None) -> dict[str, Element]:
    """The chains that come and go in the answer to `list chains`, as elements of a set."""
    found = (item.get("chain", {}) for item in (listing or {}).get("nftables", []))
    names = {chain["name"] for chain in found if chain.get("table") == "sluice"}
    return {name: ("", "") for name in sorted(names) if name.startswith(("hash", "persist", "limit"))}


def keys(set_name: str, held: Elements) -> list[str] | None:
    """The keys that a large set has if it fits the sets that were read before it; None: that cannot be told."""
    if set_name == "traffic":
        marks = [mark for target in TARGETS for mark in held[target]]
        return [f"{mark} . {direction}" for mark in marks for direction in ("original", "reply")]
    if set_name in ("buckets", "shared"):
        verdicts = {mark: verdict for way in _WAY for mark, (verdict, _) in held[way].items()}
        pickers = {mark: _picker(verdict) for mark, verdict in verdicts.items()}
        sizes = {mark: picker.size for mark, picker in pickers.items() if picker and picker.buckets == set_name}
        return [f"{mark} . {number}" for mark, size in sizes.items() for number in range(size)]
    return None


def assignment(elements: Elements) -> Assignment | None:
    """The numbers that these elements carry; None if they make no sense, such as those of another software."""
    try:
        pickers = {
            _side(comment): (int(key), _last_verdict(elements, key, value))
            for key, (value, comment) in elements["pickers"].items()
        }
        backends: dict[Side, dict[BackendKey, int]] = {side: {} for side in pickers}
        for set_name, family in TARGETS.items():
            for key, (value, comment) in elements[set_name].items():
                farm, _, backend = comment.partition("/")
                address, _, port = value.partition(" . ")
                backends[Side(farm, family)][backend, address, int(port) if port else None] = int(key)
        sides = {
            side: SideNumbers(mark, picker_of(verdict.split()[1]), backends[side])
            for side, (mark, verdict) in pickers.items()
        }
        return Assignment(sides, int(elements["numbers"]["1"][0]), int(elements["numbers"]["2"][0]))
    except (KeyError, ValueError, IndexError):
        return None


def _last_verdict(elements: Elements, mark: str, first: str) -> str:
    return next((elements[name][mark][0] for name in _WAY[:0:-1] if mark in elements.get(name, {})), first)


def _side(comment: str) -> Side:
    farm, _, family = comment.rpartition("/")
    if not farm or family not in _FAMILIES:
        raise ValueError(comment)
    return Side(farm, _FAMILIES[family])


def _picker(verdict: str) -> Picker | HashPicker | None:
    kind, _, chain = verdict.partition(" ")
    return picker_of(chain) if kind == "jump" else None
