# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of farms that are forwarded at ingress, past connection tracking, and how they keep flows together."""

import json
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kernel_net import Box, until

from agent.dataplane import netlink

KINDS = {"tcp": socket.IPPROTO_TCP, "sctp": socket.IPPROTO_SCTP}


def ask(box: Box, protocol: str = "tcp", port: int = 80, family: int = 4) -> tuple[str, ...]:
    """One connection or datagram: (the backend that answered, whom it saw)."""
    if protocol == "udp":
        # Connected: an answer from another address or port would not be taken.
        with box.datagram(port, family) as sock:
            sock.send(b"?")
            return tuple(sock.recv(100).decode().split())
    with box.connect(port, family, protocol=KINDS[protocol]) as connection:
        assert connection.alive()
        return connection.server, connection.peer


def said(sock: socket.socket) -> str:
    """Which backend answers one more datagram of a flow."""
    sock.send(b"?")
    return sock.recv(100).decode().split()[0]


def conntracked() -> int:
    """How many connections this namespace's connection tracking knows."""
    return sum(1 for _ in netlink.dump(0x101, b""))


def stay_while_weights_change(box: Box, web: dict[str, Any]) -> None:
    """No packet of a flow goes elsewhere; the farm's scheduler is `weighted`."""
    box.apply({"web": web})
    draw, stop, changes = random.Random(7), threading.Event(), []

    def change() -> None:
        while not stop.is_set():
            box.apply({"web": web}, {"web": {name: draw.randint(1, 9) for name in ("b1", "b2")}})
            changes.append(1)

    with box.connect() as connection, box.datagram() as sock, ThreadPoolExecutor(1) as changing:
        mine = said(sock)
        done = changing.submit(change)
        try:
            while len(changes) < 300:
                assert connection.alive()
                assert said(sock) == mine
        finally:
            stop.set()
        done.result()
    assert box.counters()["web", "b1"].new + box.counters()["web", "b2"].new == 2


def outlive_a_lapse_of_the_links_address(box: Box, web: dict[str, Any]) -> None:
    """Connections wait while the backends' link has no network, as when a lease ends; then they go on."""
    box.apply({"web": web})
    known = box.near
    with box.connect() as first, box.connect() as second:
        box.near = [each for each in known if each[0] != "back"]
        box.apply({"web": web})
        before = _stranded(box)
        # Balanced anew it would be the other backend's: the next turn is the first one's.
        second.say()
        until(lambda: _stranded(box) > before)
        box.near = known
        box.apply({"web": web})
        assert second.heard()
        assert first.alive()


def _stranded(box: Box) -> int:
    listing = json.loads(box.nft("list counter netdev sluice stranded"))
    return next(int(each["counter"]["packets"]) for each in listing["nftables"] if "counter" in each)


def go_on_with_a_new_agent(box: Box, farms: dict[str, Any]) -> None:
    """Another agent changes nothing: marks, open flows and counters are as they were. Backend 1 of `web` has both."""
    box.apply(farms)
    with box.connect() as connection, box.datagram() as sock:
        first = said(sock)
        marks = box.ruleset.marks()
        box.adopt()
        assert box.balancer.run(box.kernel.difference, box.compiled(farms)) == ""
        box.apply(farms)
        assert box.ruleset.marks() == marks
        assert connection.alive()
        assert said(sock) == first
        assert box.counters()["web", "b1"].new == 1
