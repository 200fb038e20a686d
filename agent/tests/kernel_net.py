# SPDX-License-Identifier: GPL-2.0-or-later
"""Client, balancer and backends in network namespaces of their own, with real sockets. Needs root.

    client 10.20.0.10, fd00:20::10   --   10.20.0.1  balancer  10.30.0.1   --   10.30.0.11-14, fd00:30::11-14  backends
                                          fd00:20::1           fd00:30::1

What a namespace is stands in kernel_namespaces.py, and who talks in them in kernel_peers.py.
"""

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

from kernel_namespaces import Namespace, add_addresses, add_cable, set_sysctl
from kernel_peers import PLENTY, Connection, Load, Server
from nft_json import Held, held
from nftables import Nftables

from agent.dataplane import Assignment, Clients, Counters, Kernel, Ruleset, compile_ruleset, network_sets, readback
from agent.dataplane.layout import layout_of
from agent.dataplane.script import CHAIN_SETS, CHAINS, OFFLOAD
from agent.dataplane.skeleton import ELEMENT_SETS
from agent.dataplane.tables import INGRESS, IngressChain, table_of
from agent.model import validate

CLIENT = {4: "10.20.0.10", 6: "fd00:20::10"}
BALANCER = {4: "10.30.0.1", 6: "fd00:30::1"}
FRONT = {4: "10.20.0.1", 6: "fd00:20::1"}
VIRTUAL = {4: "10.20.0.100", 6: "fd00:20::100"}
NETWORKS = {"front": ("10.20.0.0/24", "fd00:20::/64"), "back": ("10.30.0.0/24", "fd00:30::/64")}
"""On each of the balancer's links."""


def until(met: Callable[[], bool]) -> None:
    """Wait for what the kernel does in its own time, such as the last packet of a close."""
    deadline = time.monotonic() + PLENTY
    while not met():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.001)  # the kernel tells no event for it


def backend_address(number: int, family: int = 4) -> str:
    """The address of backend 1 to 4."""
    return {4: f"10.30.0.{10 + number}", 6: f"fd00:30::{10 + number}"}[family]


def names(*numbers: int, family: int = 4) -> list[str]:
    """What these backends call themselves: their addresses."""
    return [backend_address(number, family) for number in numbers]


class Network:
    """The three namespaces and what runs in them."""

    def __init__(self) -> None:
        self.client, self.balancer, self.backends = Namespace(), Namespace(), Namespace()
        self._ports = itertools.count(20000)
        for side, other in (("front", self.client), ("back", self.backends)):
            self.balancer.run(add_cable, side, other.descriptor)
        self.balancer.run(set_sysctl, "net/ipv4/ip_forward", "1")
        self.balancer.run(set_sysctl, "net/ipv6/conf/all/forwarding", "1")
        self.balancer.run(add_addresses, "front", [FRONT[4], FRONT[6], VIRTUAL[4], VIRTUAL[6]])
        self.balancer.run(add_addresses, "back", [BALANCER[4], BALANCER[6]])
        self.client.run(add_addresses, "eth0", list(CLIENT.values()), [FRONT[4], FRONT[6]])
        mine = [backend_address(number, family) for number in range(1, 5) for family in (4, 6)]
        self.backends.run(add_addresses, "eth0", mine, [BALANCER[4], BALANCER[6]])
        self.servers: dict[str, Server] = {}
        self._servers: list[Server] = []
        self._loads: list[Load] = []

    def serve(self, number: int, port: int = 80, family: int = 4, *, sctp: bool = False) -> Server:
        """Start backend `number`: TCP and UDP on its port, and SCTP if wanted."""
        server = Server(self.backends, backend_address(number, family), port, sctp=sctp)
        self._servers.append(server)
        if port == 80:
            self.servers[server.address] = server
        return server

    def close(self) -> None:
        for load in self._loads:
            load.kill()
        for server in self._servers:
            server.close()
        for namespace in (self.client, self.balancer, self.backends):
            namespace.close()

    def connect(
        self,
        port: int = 80,
        family: int = 4,
        address: str | None = None,
        protocol: int = socket.IPPROTO_TCP,
        source: str | None = None,
        source_port: int = 0,
    ) -> Connection:
        """Open a TCP connection (or an SCTP association) to the virtual address or another, from `source`."""
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        sock = self.client.run(socket.socket, kind, socket.SOCK_STREAM, protocol)
        if source or source_port:
            sock.bind((source or "", source_port))
        return Connection(sock, address or VIRTUAL[family], port)

    def ask(self, port: int = 80, family: int = 4, address: str | None = None, source: str | None = None) -> str:
        """Open and close a connection: the backend that answered."""
        with self.connect(port, family, address, source=source) as connection:
            return connection.server

    def turn(self, number: int, port: int = 80, family: int = 4) -> list[str]:
        """The backends of `number` connections one after another."""
        return [self.ask(port, family) for _ in range(number)]

    def refused(self, port: int = 80, family: int = 4, address: str | None = None) -> bool:
        """Whether a TCP connection is refused at once; False if it is accepted."""
        try:
            self.ask(port, family, address)
        except ConnectionRefusedError:
            return True
        return False

    def load(self, clients: int, port: int = 80) -> Load:
        """Let clients open and close connections without a pause, until `Load.stop`."""
        load = self.client.run(Load, VIRTUAL[4], port, clients)
        self._loads.append(load)
        return load

    def datagram(self, port: int = 80, family: int = 4) -> socket.socket:
        """A UDP socket that is connected to the virtual address, from a port that none had before it."""
        sock = self.client.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        sock.settimeout(PLENTY)
        # The kernel's choice may be the port of a socket that is closed but whose flow is still known.
        sock.bind(("", next(self._ports)))
        sock.connect((VIRTUAL[family], port))
        return sock

    def ask_udp(self, port: int = 80, family: int = 4) -> str:
        """Send one datagram from a new port: the backend that answered."""
        with self.datagram(port, family) as sock:
            sock.send(b"?")
            return sock.recv(100).decode().split()[0]


class Box(Network):
    """The network with Sluice's data plane on the balancer."""

    def __init__(self) -> None:
        super().__init__()
        self.balancer.run(self._count_connections)
        self.kernel, self.clients = Kernel(), Clients()
        self.ruleset: Ruleset | None = None
        indexes = {link: self.balancer.run(socket.if_nametoindex, link) for link in NETWORKS}
        self.offered = self.balancer.run(self.kernel.offer, indexes.items(), False)
        self.near = [(link, indexes[link], ip_network(each)) for link, held in NETWORKS.items() for each in held]

    def close(self) -> None:
        self.kernel.close()
        super().close()

    def adopt(self) -> None:
        """A new agent: a new Kernel object that goes on with what it finds."""
        kept = self.balancer.run(self.kernel.export)
        self.kernel.close()
        self.kernel = Kernel()
        self.kernel.counting.restore(kept)
        self.ruleset = None
        self._adopted = self.balancer.run(self.kernel.adopt)

    _adopted: Assignment | None = None

    def compiled(
        self,
        farms: dict[str, Any],
        weights: dict[str, dict[str, int]] | None = None,
        own: Any = (),
        lists: dict[str, Any] | None = None,
    ) -> Ruleset:
        """The ruleset for these farms after the present one; by default every backend has its weight."""
        config = validate({"version": 1, "farms": farms, "network_lists": lists or {}})
        if weights is None:
            weights = {name: {b: v.weight for b, v in farm.backends.items()} for name, farm in config.farms.items()}
        own_addresses = [ip_address(address) for address in own]
        return compile_ruleset(
            config, weights, own_addresses, self.ruleset or self._adopted, near=self.near, offered=self.offered
        )

    def apply(
        self,
        farms: dict[str, Any],
        weights: dict[str, dict[str, int]] | None = None,
        own: Any = (),
        lists: dict[str, Any] | None = None,
    ) -> None:
        """Check and apply."""
        ruleset = self.compiled(farms, weights, own, lists)
        self.balancer.run(self.kernel.check, ruleset)
        self.balancer.run(self.kernel.apply, ruleset)
        self.ruleset = ruleset

    def counters(self) -> dict[tuple[str, str], Counters]:
        return self.balancer.run(self.kernel.counters)

    def active(self) -> dict[tuple[str, str], int]:
        return {who: counted.active for who, counted in self.counters().items() if counted.active}

    @classmethod
    def _count_connections(cls) -> None:
        # The settings are there when connection tracking is.
        cls.command("add table inet t; add chain inet t c; add rule inet t c ct status dnat; delete table inet t")
        for name in ("acct", "events"):
            set_sysctl(f"net/netfilter/nf_conntrack_{name}", "1")

    @staticmethod
    def command(text: str) -> str:
        """Run commands of nft in the namespace that this is called in; the answer as JSON text."""
        context = Nftables()
        context.set_json_output(True)
        code, output, error = context.cmd(text)
        assert code == 0, error
        return str(output)

    def nft(self, text: str) -> str:
        """Run commands of nft on the balancer, past the agent; the answer as JSON text."""
        return self.balancer.run(self.command, text)

    def listed(self, set_name: str) -> list[Held]:
        """The elements of a set as libnftables reads them."""
        kind = "map" if layout_of(set_name).value not in ((), "ceiling") else "set"
        links = {name: index for index, name in self.balancer.run(socket.if_nameindex)}
        return list(held(json.loads(self.nft(f"list {kind} {table_of(set_name)} {set_name}")), links))

    def elements(self) -> dict[str, dict[str, Any]]:
        """What the table holds, without counters."""
        answer = {set_name: {each.key: each.element for each in self.listed(set_name)} for set_name in ELEMENT_SETS}
        for table, set_name in CHAIN_SETS.items():
            answer[set_name] = readback.chains(json.loads(self.nft(f"list chains {table.split()[0]}")), table)
        # The agent's own reader finds the sets; libnftables reads them.
        for set_name in self.balancer.run(network_sets.names):
            answer[set_name] = {each.key: each.element for each in self.listed(set_name)}
            answer[CHAINS][set_name] = ("", "")
        answer[OFFLOAD] = readback.flowtables(json.loads(self.nft("list flowtables inet")))
        return answer


@contextmanager
def serving(*numbers: int, families: tuple[int, ...] = (4,)) -> Iterator[Box]:
    """A box with these backends at work; closed at the end."""
    box = Box()
    for number in numbers:
        for family in families:
            box.serve(number, family=family)
    yield box
    box.close()


def farm(*backends: int, family: int = 4, ports: tuple[int | str, ...] = (80,), **settings: Any) -> dict[str, Any]:
    """A farm of the document: on the virtual address, backends b1 to b4 by number."""
    named = {f"b{number}": {"address": backend_address(number, family)} for number in backends}
    return {"addresses": [VIRTUAL[family]], "ports": list(ports), "backends": named, **settings}


def expected(ruleset: Ruleset) -> dict[str, dict[str, Any]]:
    """What `Box.elements` is to answer when the kernel holds this ruleset."""
    result: dict[str, dict[str, Any]] = {set_name: {} for set_name in ELEMENT_SETS}
    for _farm, piece in ruleset.pieces():
        for set_name, content in piece.items():
            result.setdefault(set_name, {}).update(content)
    for table, set_name in CHAIN_SETS.items():
        mine = [chain for chain in ruleset.chains if isinstance(chain, IngressChain) == (table == INGRESS)]
        result[set_name] = {chain.name: ("", "") for chain in mine}
    offload = ruleset.offload
    result[OFFLOAD] = {offload.name: (",".join(sorted(offload.devices)), "")} if offload else {}
    return result
