# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of the flowtable have in common: who is in it, and how connections come to be."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from kernel_net import Box, farm, until
from kernel_peers import Connection

from agent.dataplane.ruleset import Element

WEB = {"web": farm(1, 2, protocols=["tcp", "udp"])}
_STREAM = 2.2
"""Seconds after which connection tracking takes a UDP flow for a stream: two, and a jiffy or so."""


def needed(box: Box) -> Box:
    """The box, if its kernel can offload; else the test is skipped, which only a machine's own kernel may be for."""
    if not box.offered.links:
        pytest.skip(f"this kernel has no flowtable: {box.offered.reason}")
    return box


def entries(box: Box) -> list[str]:
    """Connection tracking's entries that are balanced, as the kernel writes them."""
    text = box.balancer.run(Path("/proc/thread-self/net/nf_conntrack").read_text)
    return [line for line in text.splitlines() if "mark=0" not in line]


def offloaded(box: Box) -> int:
    """How many connections are in the flowtable."""
    return sum("OFFLOAD]" in line for line in entries(box))


def flowtables(box: Box) -> dict[str, Element]:
    """The flowtables and their links."""
    return box.balancer.run(box.kernel._flowtables)


def alive(connection: Connection, times: int = 6) -> bool:
    """Whether lines come back; the connection may be offloaded then."""
    return all(connection.alive() for _ in range(times))


def ask(sock: socket.socket) -> str:
    """Who answers a datagram."""
    sock.send(b"?")
    return sock.recv(100).decode().split()[0]


def stream(box: Box, family: int = 4) -> socket.socket:
    """A UDP flow that is established, by packets both ways for long enough."""
    sock = box.datagram(family=family)
    since = time.monotonic()
    while time.monotonic() - since < _STREAM:
        ask(sock)
    until(lambda: bool(ask(sock)) and offloaded(box) == 1)
    return sock


def left_out(**settings: Any) -> dict[str, Any]:
    """The farm of WEB, kept from the flowtable."""
    return farm(1, 2, protocols=["tcp", "udp"], offload=False, **settings)
