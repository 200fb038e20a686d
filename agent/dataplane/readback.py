# SPDX-License-Identifier: GPL-2.0-or-later
"""From libnftables' JSON back to elements, counters and numbers. Pure.

Read back by JSON only: the text form depends on files of the system (/etc/protocols), and listing buckets loses it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from agent.dataplane.assignment import Assignment, BackendKey, Side, SideNumbers
from agent.dataplane.pool import picker_of
from agent.dataplane.ruleset import Element, Elements
from agent.model import Family

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp", "6": "tcp", "17": "udp", "132": "sctp"}
_FAMILIES: dict[str, Family] = {"4": 4, "6": 6}
TARGETS: dict[str, Family] = {"backends4": 4, "backends6": 6, "hosts4": 4, "hosts6": 6}
"""The maps, with their IP family, that name a backend's address; their elements count its connections."""


@dataclass(frozen=True)
class Held:
    """One element as the kernel holds it, with its counter."""

    key: str
    element: Element
    packets: int
    bytes: int


def held(listing: dict[str, Any], links: Mapping[str, int] | None = None) -> Iterator[Held]:
    """The elements of the one set in the answer to `list map` or `list set`.

    `links`: the index of each link by name; libnftables writes names where a set holds indexes.
    """
    for content in _sets(listing):
        for item in content.get("elem", []):
            is_map = isinstance(item, list)
            raw, value = (item[0], item[1]) if is_map else (item, None)
            details = raw["elem"] if isinstance(raw, dict) and "elem" in raw else {"val": raw}
            counter = details.get("counter") or {}
            element = (_word(value) if is_map else "", str(details.get("comment", "")))
            yield Held(
                _key(details["val"], content, links or {}), element, counter.get("packets", 0), counter.get("bytes", 0)
            )


def comment(listing: dict[str, Any]) -> str:
    """The comment of the one set in the answer, "" without one."""
    return next((str(content.get("comment", "")) for content in _sets(listing)), "")


def chains(listing: dict[str, Any] | None) -> dict[str, Element]:
    """The chains that come and go in the answer to `list chains`, as elements of a set."""
    found = (item.get("chain", {}) for item in (listing or {}).get("nftables", []))
    names = {chain["name"] for chain in found if chain.get("table") == "sluice"}
    return {name: ("", "") for name in sorted(names) if name.startswith(("hash", "persist"))}


def assignment(elements: Elements) -> Assignment | None:
    """The numbers that these elements carry; None if they make no sense, such as those of another software."""
    try:
        pickers = {
            _side(comment): (int(key), elements.get("choosers", {}).get(key, (value, ""))[0])
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


def _side(comment: str) -> Side:
    farm, _, family = comment.rpartition("/")
    if not farm or family not in _FAMILIES:
        raise ValueError(comment)
    return Side(farm, _FAMILIES[family])


def _sets(listing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in listing.get("nftables", []):
        for kind in ("map", "set"):
            if kind in item:
                yield item[kind]


def _key(value: Any, content: dict[str, Any], links: Mapping[str, int]) -> str:
    if content.get("name") == "arms":
        return " . ".join(str(links.get(part, part)) for part in value["concat"])
    return _word(value)


def _word(value: Any) -> str:
    """A key or value in the notation of nft that `compile` uses."""
    if isinstance(value, dict):
        return _composed(*next(iter(value.items())))
    if isinstance(value, str):
        try:
            return str(ip_address(value))
        except ValueError:
            return value
    return str(value)


def _composed(kind: str, content: Any) -> str:
    if kind == "concat":
        parts = list(content)
        if isinstance(parts[0], str) and isinstance(parts[1], dict):  # link, network: the one place where a name stands
            parts[0] = f'"{parts[0]}"'
        if len(parts) == 3:  # address, protocol, port: the one place where a protocol stands
            parts[1] = _PROTOCOLS.get(parts[1], parts[1])
        return " . ".join(_word(part) for part in parts)
    if kind == "range":
        return "-".join(map(str, content))
    if kind == "prefix":
        return str(ip_network((content["addr"], content["len"])))
    return f"{kind} {content['target']}" if kind in ("jump", "goto") else str({kind: content})
