# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel (6.18) told of real packets, in the network of kernel_net.py: see test_kernel_trace.py for the stories.

`trace_recorded.json` has for each story the datagrams of netlink, and the rules whose handles are in them.
"""

import json
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.dataplane import Gathered, Known, Ruleset, compile_ruleset
from agent.dataplane.trace import Event, Handles, Rules, events
from agent.model import validate

_RECORDED = json.loads(Path(__file__).with_name("trace_recorded.json").read_text())
_LINKS = {2: "front", 3: "back"}
NETWORKS = {4: ("10.20.0.100", "10.30.0.1"), 6: ("fd00:20::100", "fd00:30::1")}


def link(number: int | None) -> str | None:
    """The names of the links on which it was recorded."""
    return _LINKS.get(number or 0)


def datagrams(story: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in _RECORDED[story]["datagrams"]]


def rules(story: str) -> Rules:
    return {(chain, handle): text for chain, handle, text in _RECORDED[story]["rules"]}


def gathered(told: Iterable[bytes], limit: int = 20) -> list[list[Event]]:
    found = Gathered(limit)
    for datagram in told:
        found.add(events(datagram))
    return found.packets


def farm(family: int = 4, **settings: Any) -> dict[str, Any]:
    """The farm of the recordings."""
    address, network = NETWORKS[family]
    backends = {f"b{number}": {"address": f"{network}{number}"} for number in (1, 2)}
    return {"addresses": [address], "ports": [80], "protocols": ["tcp", "udp"], "backends": backends, **settings}


def ruleset(weight: int = 1, **settings: Any) -> Ruleset:
    """The ruleset with that farm, `web`."""
    config = validate({"version": 1, "farms": {"web": farm(**settings)}})
    return compile_ruleset(config, {"web": {"b1": weight, "b2": weight}})


def known(held: Ruleset | None, given: Rules | str) -> Known:
    """What is known with these rules, or with those of a story: they are of an earlier skeleton, perhaps."""
    return replace(Known.of(held, {}, link), rules=rules(given) if isinstance(given, str) else given)


class Recorded:
    """A tracer that tells what was recorded, and nothing where there is no story."""

    def __init__(self, story: str | None) -> None:
        self._here, self._there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._here.setblocking(False)
        for datagram in datagrams(story) if story else ():
            self._there.send(datagram)
        self.handles: Handles = {}
        self.closed = False

    def fileno(self) -> int:
        return self._here.fileno()

    def read(self) -> list[Event]:
        found: list[Event] = []
        try:
            while True:
                found += events(self._here.recv(1 << 16))
        except BlockingIOError:
            return found

    def close(self) -> None:
        self.closed = True
        self._here.close()
        self._there.close()
