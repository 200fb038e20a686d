# SPDX-License-Identifier: GPL-2.0-or-later
"""From libnftables' JSON back to elements, counters and numbers. Pure.

Read back by JSON only: the text form depends on files of the system (/etc/protocols), and listing buckets loses it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from agent.dataplane.assignment import Assignment, BackendKey, FarmNumbers
from agent.dataplane.pool import BY_NAME
from agent.dataplane.ruleset import Element, Elements

_PROTOCOLS = {6: "tcp", 17: "udp", "6": "tcp", "17": "udp"}
TARGETS = ("backends4", "backends6", "hosts4", "hosts6")
"""The maps that name a backend's address; their elements count its connections."""


@dataclass(frozen=True)
class Held:
    """One element as the kernel holds it, with its counter."""

    key: str
    element: Element
    packets: int
    bytes: int


def held(listing: dict[str, Any]) -> Iterator[Held]:
    """The elements of the one set in the answer to `list map` or `list set`."""
    for content in _sets(listing):
        for item in content.get("elem", []):
            is_map = isinstance(item, list)
            raw, value = (item[0], item[1]) if is_map else (item, None)
            details = raw["elem"] if isinstance(raw, dict) and "elem" in raw else {"val": raw}
            counter = details.get("counter") or {}
            element = (_word(value) if is_map else "", str(details.get("comment", "")))
            yield Held(_word(details["val"]), element, counter.get("packets", 0), counter.get("bytes", 0))


def comment(listing: dict[str, Any]) -> str:
    """The comment of the one set in the answer, "" without one."""
    return next((str(content.get("comment", "")) for content in _sets(listing)), "")


def assignment(elements: Elements) -> Assignment | None:
    """The numbers that these elements carry; None if they make no sense, such as those of another software."""
    try:
        marks = {comment: int(key) for key, (_, comment) in elements["pickers"].items() if comment}
        pickers = {comment: value.split()[1] for value, comment in elements["pickers"].values() if comment}
        backends: dict[str, dict[BackendKey, int]] = {farm: {} for farm in marks}
        for set_name in TARGETS:
            for key, (value, comment) in elements[set_name].items():
                farm, _, backend = comment.partition("/")
                if farm in backends and backend:
                    address, _, port = value.partition(" . ")
                    backends[farm][backend, address, int(port) if port else None] = int(key)
        farms = {farm: FarmNumbers(mark, BY_NAME.get(pickers[farm]), backends[farm]) for farm, mark in marks.items()}
        return Assignment(farms, int(elements["numbers"]["1"][0]), int(elements["numbers"]["2"][0]))
    except (KeyError, ValueError, IndexError):
        return None


def _sets(listing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in listing.get("nftables", []):
        for kind in ("map", "set"):
            if kind in item:
                yield item[kind]


def _word(value: Any) -> str:
    """A key or value in the notation of nft that `compile` uses."""
    if isinstance(value, dict):
        if "concat" in value:
            parts = list(value["concat"])
            if len(parts) == 3:  # address, protocol, port: the one place where a protocol stands
                parts[1] = _PROTOCOLS.get(parts[1], parts[1])
            return " . ".join(_word(part) for part in parts)
        for verdict in ("jump", "goto"):
            if verdict in value:
                return f"{verdict} {value[verdict]['target']}"
        return str(value)
    if isinstance(value, str):
        try:
            return str(ip_address(value))
        except ValueError:
            return value
    return str(value)
