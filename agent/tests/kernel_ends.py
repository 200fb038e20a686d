# SPDX-License-Identifier: GPL-2.0-or-later
"""How stories about the ends of backends are told, whatever the forwarding, the IP family and the protocol."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from kernel_far import Far
from kernel_far import address as far_address
from kernel_flows import KINDS, said
from kernel_namespaces import Namespace
from kernel_net import VIRTUAL, Box, backend_address, farm, names
from kernel_peers import Connection
from kernel_servers import Servers

from agent.dataplane import compile_ruleset
from agent.model import validate
from agent.scheduling import roles, weights

TRACKED = ("dnat", "snat")
"""The forwardings whose connections are known to connection tracking."""


def put(
    box: Box, *failed: str, steps: dict[str, int] | None = None, drained: tuple[str, ...] = (), **farms: dict[str, Any]
) -> None:
    """Put these farms in force as the agent does.

    Some backends are unhealthy, some at a step of a slow start, and the drain of some has come to its deadline.
    """
    config = validate({"version": 1, "farms": farms})
    known = {
        name: roles(farm, dict.fromkeys(failed, "unhealthy"), drained)
        for name, farm in config.farms.items()
        if farm.enabled
    }
    effective = {name: weights(config.farms[name], found, steps) for name, found in known.items()}
    ruleset = compile_ruleset(config, effective, (), box.ruleset or box._adopted, known, near=box.near)
    box.balancer.run(box.kernel.check, ruleset)
    box.balancer.run(box.kernel.apply, ruleset)
    box.ruleset = ruleset


def states(web: dict[str, Any], **changed: str) -> dict[str, Any]:
    """The farm with other states of some backends."""
    backends = {name: {**backend, "state": changed.get(name, "enabled")} for name, backend in web["backends"].items()}
    return {**web, "backends": backends}


def tiers(web: dict[str, Any], *numbers: int) -> dict[str, Any]:
    """The farm with its backends in these tiers."""
    backends = {
        name: {**web["backends"][name], "tier": tier} for name, tier in zip(web["backends"], numbers, strict=True)
    }
    return {**web, "backends": backends}


def counted(box: Box, name: str) -> int:
    """The packets of a counter of the table."""
    listing = json.loads(box.nft(f"list counter inet sluice {name}"))
    return next(int(item["counter"]["packets"]) for item in listing["nftables"] if "counter" in item)


def is_over(connection: Connection) -> bool:
    """Whether the client is told, at its next line at the latest, that the connection is over."""
    try:
        return not connection.alive()
    except ConnectionError:
        return True


@cache
def has_sctp() -> bool:
    """Whether this kernel has it, as the image's has."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


class Kind:
    """A forwarding and an IP family, on a network where backends 1 to 3 are at work."""

    def __init__(self, forwarding: str, family: int) -> None:
        self.forwarding, self.family = forwarding, family
        self.connected = ["tcp", "sctp"] if has_sctp() else ["tcp"]
        self.box: Box
        self._machines: dict[int, Namespace]
        if forwarding in ("direct", "tunnel"):
            beside = Servers() if forwarding == "direct" else Far()
            self.box, serve, self._machines = beside, beside.server, beside.machines
        else:
            self.box = Box()
            serve, self._machines = self.box.serve, {}
        for number in (1, 2, 3):
            serve(number, family=family, sctp=has_sctp())

    def address(self, number: int) -> str:
        """The address of backend 1 to 3."""
        return (far_address if self.forwarding == "tunnel" else backend_address)(number, self.family)

    def farm(self, *backends: int, **settings: Any) -> dict[str, Any]:
        """A farm of the document with these backends and every protocol that there is."""
        web = farm(*backends, family=self.family, forwarding=self.forwarding, protocols=[*self.connected, "udp"])
        for number in backends:
            web["backends"][f"b{number}"]["address"] = self.address(number)
        return web | settings

    def name(self, number: int) -> str:
        """What a backend calls itself."""
        return names(number, family=self.family)[0]

    def connect(self, protocol: str = "tcp", port: int = 0) -> Connection:
        """Open a connection, from a port of the client's or any."""
        return self.box.connect(family=self.family, protocol=KINDS[protocol], source_port=port)

    def turn(self, number: int) -> list[str]:
        """The backends of so many TCP connections, one after the other."""
        return self.box.turn(number, family=self.family)

    def open(self, opened: ExitStack) -> "Opened":
        """One connection and one flow of each protocol with each of the two backends that take turns."""
        return Opened(self, opened)

    @contextmanager
    def attempt(self, protocol: str = "tcp") -> Iterator[list[str]]:
        """A client that is connecting meanwhile; when it is through, the list has its backend."""
        answers: list[str] = []

        def connect() -> None:
            with self.connect(protocol) as connection:
                answers.append(connection.server)

        client = threading.Thread(target=connect)
        client.start()
        try:
            yield answers
        finally:
            client.join()

    def silence(self, opened: ExitStack, number: int) -> None:
        """Let a backend take nothing, until the end of the test."""
        namespace = self._machines.get(number, self.box.backends)
        to = self.name(number) if namespace is self.box.backends else VIRTUAL[self.family]
        family = "ip" if self.family == 4 else "ip6"
        hook = "type filter hook input priority 0; policy accept;"
        rule = f"{family} daddr {to} meta l4proto {{ tcp, sctp }} drop"
        namespace.run(self.box.command, f"table inet dead {{ chain c {{ {hook} {rule}; }}; }}")
        opened.callback(namespace.run, self.box.command, "delete table inet dead")

    def close(self) -> None:
        self.box.close()


class Opened:
    """What a client has open."""

    def __init__(self, kind: Kind, opened: ExitStack) -> None:
        self.connections: dict[tuple[str, str], Connection] = {}
        self.flows: dict[str, socket.socket] = {}
        # Twice as many as are needed: what a story has left over, such as a server's retransmission that is answered
        # with an ABORT, may take a turn where packets are not tracked.
        for protocol in kind.connected:
            for _ in range(4):
                connection = opened.enter_context(kind.connect(protocol))
                self.connections[protocol, connection.server] = connection
        for _ in range(4):
            sock = opened.enter_context(kind.box.datagram(family=kind.family))
            self.flows[said(sock)] = sock
        assert len(self.connections) == 2 * len(kind.connected), "each has one of each"
        assert len(self.flows) == 2

    def over(self) -> set[tuple[str, str]]:
        """The connections that are over: protocol, backend."""
        return {who for who, connection in self.connections.items() if is_over(connection)}

    def moved(self) -> dict[str, str]:
        """By the backend that each flow had, the one that answers it now."""
        return {before: said(sock) for before, sock in self.flows.items()}
