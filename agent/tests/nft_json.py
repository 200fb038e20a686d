# SPDX-License-Identifier: GPL-2.0-or-later
"""What libnftables' JSON says of a set, in the notation of `compile`: what the agent's own reader is held against.

By JSON only: the text form depends on files of the system (/etc/protocols), and listing buckets loses it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from agent.dataplane.ruleset import Element

_UNITS = {"bytes": 1, "kbytes": 1 << 10, "mbytes": 1 << 20}
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp", "6": "tcp", "17": "udp", "132": "sctp"}


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
            if content.get("name") in ("exits", "ways"):
                value = (links or {}).get(value, value)
            element = (_word(value) if is_map else _ceiling(details.get("limit")), str(details.get("comment", "")))
            key = _key(details["val"], content, links or {})
            yield Held(key, element, counter.get("packets", 0), counter.get("bytes", 0))


def _ceiling(limit: Mapping[str, Any] | None) -> str:
    """The limit of an element in the notation of `compile`; "" without one."""
    if not limit:
        return ""
    rate, burst = (limit[name] * _UNITS[limit[f"{name}_unit"]] for name in ("rate", "burst"))
    return f"limit rate {'over ' if limit['inv'] else ''}{rate} bytes/{limit['per']} burst {burst} bytes"


def _sets(listing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in listing.get("nftables", []):
        for kind in ("map", "set"):
            if kind in item:
                yield item[kind]


def _key(value: Any, content: dict[str, Any], links: Mapping[str, int]) -> str:
    if content.get("name") == "arms":
        return " . ".join(str(links.get(part, part)) for part in value["concat"])
    if str(content.get("name")).startswith("replies"):
        link, *rest = value["concat"]
        return f"{links.get(link, link)} . {_word({'concat': rest})}"
    if str(content.get("name")).startswith("near"):
        link, network = value["concat"]
        return f'"{link}" . {_word(network)}'
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
        if len(parts) == 3:  # address, protocol, port: the one place where a protocol stands
            parts[1] = _PROTOCOLS.get(parts[1], parts[1])
        return " . ".join(_word(part) for part in parts)
    if kind == "range":
        return "-".join(map(str, content))
    if kind == "prefix":
        return str(ip_network((content["addr"], content["len"])))
    return f"{kind} {content['target']}" if kind in ("jump", "goto") else str({kind: content})
