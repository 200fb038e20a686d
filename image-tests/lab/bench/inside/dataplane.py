# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions per packet, per new flow and per connection, of every balancer, less what is not the balancer's."""

import gc
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.bench.inside.balancers import BALANCERS, CASES, FORWARDING, MIXED, Balancer, load, middle, mixed
from lab.bench.inside.counting import Instructions, Spinner
from lab.bench.inside.examples import EXAMPLES, FOLDER, VIRTUAL, Commands, Example
from lab.bench.inside.frames import Batch
from lab.bench.inside.network import BACKENDS, CLIENT, FLOWS, PORT, Network, Undelivered, service

ROUNDS = 10
TRIES = 3
"""Of packets, the least counts: a worker of the kernel that runs meanwhile is nobody's cost."""
NEW_FLOWS = 3000
WARM_UP = 500
CONNECTIONS = 200
WARM = 15
"""Packets of each flow before those that are measured: Sluice offloads a connection only after some."""
EXAMPLES_BY = {
    "sluice": ("", ""),
    "ipvs": ("ipvs", "iptables-nft"),
    "iptables-legacy": ("iptables", "iptables-legacy"),
    "iptables-nft": ("iptables", "iptables-nft"),
}
"""Who is measured with the use cases: whose commands, and which program `iptables` is."""
Report = Callable[[Mapping[str, Any]], None]


def run(report: Report, arguments: list[str]) -> None:
    """Measure the cases that are named ("sluice dnat", "sluice dnat*1000"), or all; report a row for each."""
    for module in ("nf_conntrack", "ip_vs", "ip_vs_rr"):
        subprocess.run(["modprobe", module], check=True)
    Path("/proc/sys/net/netfilter/nf_conntrack_buckets").write_text("262144")
    # What is imported only once is no part of a load.
    importlib.import_module("agent.dataplane")
    importlib.import_module("nftables")
    bench = Bench(report)
    for balancer, services in CASES:
        if not arguments or f"{balancer.name}*{services}".removesuffix("*1") in arguments:
            bench.measure(balancer, services)
    for example in EXAMPLES:
        if not arguments or example.name in arguments:
            bench.measure_example(example)
    for services in MIXED:
        if not arguments or f"sluice*{services}" in arguments:
            bench.measure_mixed(services)


class Bench:
    """The counter and what it showed without a balancer."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._count = Instructions()
        self._spinner = Spinner(self._count)
        network = Network(straight=True)
        network.sinks()
        targets = [(BACKENDS[0], PORT)] * FLOWS
        self._packet, _ = self._packets(network, network.establish(targets, 1000) * ROUNDS)
        self._flow = self._new_flows(network, targets)
        network.no_sinks()
        self._connection = self._connections(network, BACKENDS[0])
        report(
            {"name": "without a balancer", "packet": self._packet, "flow": self._flow, "connection": self._connection}
        )

    def measure(self, balancer: Balancer, services: int = 1) -> None:
        """Report what one balancer adds."""
        network = Network()
        address = service(services // 2)
        network.sinks(address)
        with self._spinner.spent() as loading:
            balancer.set_up(network, services)
        row: dict[str, Any] = {"name": balancer.name, "services": services, "load": loading[0]}
        if balancer.packets:
            row |= self._frames(network, balancer, address)
        if balancer.connections and services == 1:
            network.no_sinks()
            row["connection"] = (
                self._connections(network, BACKENDS[0] if balancer.routed else address) - self._connection
            )
        self._report(row)

    def measure_mixed(self, services: int) -> None:
        """Report what Sluice adds with so many farms, of all ways of forwarding by turns; a row for each way."""
        network = Network()
        addresses = {name: service(middle(services) + place) for place, name in enumerate(FORWARDING)}
        network.sinks(*addresses.values())
        with self._spinner.spent() as loading:
            load(network, mixed(services))
        for balancer in BALANCERS:
            if balancer.name in FORWARDING:
                row = {"name": f"{balancer.name} (mixed)", "services": services, "load": loading[0]}
                self._report(row | self._frames(network, balancer, addresses[balancer.name]))

    def measure_example(self, example: Example) -> None:
        """Report what a new flow costs in a use case, by each that has it."""
        for kind, (family, program) in EXAMPLES_BY.items():
            if program:
                commands = Commands(family, program)
                network = commands.begin(example.name)
                if example.changed:
                    commands.change(example.name)
            else:
                network = Network()
                network.sinks()
                name = f"{example.name}.changed" if example.changed else example.name
                load(network, json.loads((FOLDER / f"{name}.json").read_text()))
            flows = self._new_flows(network, [(VIRTUAL, port) for port in example.ports], example.clients)
            self._report({"name": f"{example.name}: {kind}", "services": 1, "flow": flows - self._flow})

    def _frames(self, network: Network, balancer: Balancer, address: str) -> dict[str, float]:
        """Figures of established packets and new flows."""
        addresses = BACKENDS if balancer.routed else (address,)
        targets = [(addresses[each % len(addresses)], PORT) for each in range(FLOWS)]
        frames = network.establish(targets, 1000, answered=balancer.answered)
        cost, spread = self._packets(network, frames * ROUNDS)
        if spread < len(BACKENDS):
            raise Undelivered(f"{balancer.name} sends to {spread} backends of {len(BACKENDS)}")
        return {"packet": cost - self._packet, "flow": self._new_flows(network, targets) - self._flow}

    def _packets(self, network: Network, frames: list[bytes]) -> tuple[float, int]:
        """Instructions for each frame, and how many backends got some."""
        sock, batch = network.raw("client"), Batch(frames)
        network.deliver(Batch(frames[:FLOWS] * WARM), sock)
        tries = [self._sent(network, batch, sock) for _ in range(TRIES)]
        return min(cost for cost, _ in tries), len(tries[0][1])

    def _sent(self, network: Network, batch: Batch, sock: Any) -> tuple[float, dict[str, int]]:
        before = network.arrived()
        # Python looks through all that a document left in memory when it likes to; a few packets would pay for it.
        gc.disable()
        begin = self._count.now()
        batch.send(sock)
        cost = self._count.now() - begin
        gc.enable()
        delivered = network.arrived() - before
        if delivered.total() != batch.number:
            raise Undelivered(f"{delivered.total()} of {batch.number} frames arrived")
        return cost / batch.number, delivered

    def _new_flows(self, network: Network, targets: list[tuple[str, int]], clients: int = 1) -> float:
        """Instructions for each first segment, from so many client addresses in turn; after a warm-up."""
        sock = network.raw("client")
        sources = [CLIENT] if clients == 1 else [f"10.1.0.{10 + each}" for each in range(clients)]
        frames = [
            network.syn((sources[number % clients], 10000 + number), targets[number % len(targets)])
            for number in range(WARM_UP + NEW_FLOWS)
        ]
        network.deliver(Batch(frames[:WARM_UP]), sock)
        return self._sent(network, Batch(frames[WARM_UP:]), sock)[0]

    def _connections(self, network: Network, address: str) -> float:
        """Instructions for a whole short connection: opened, a request and an answer, closed."""
        script = [sys.executable, str(Path(__file__).with_name("sockets.py"))]
        with network.inside("backends"):
            server = subprocess.Popen([*script, "serve", str(PORT)], stdout=subprocess.PIPE)
            assert server.stdout
            server.stdout.readline()
        with network.inside("client"):
            client = subprocess.Popen(
                [*script, "connect", address, str(PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert client.stdin
        assert client.stdout

        def ask(number: int) -> None:
            assert client.stdin
            assert client.stdout
            client.stdin.write(b"%d\n" % number)
            client.stdin.flush()
            if client.stdout.readline() != b"done\n":
                raise Undelivered(f"connections to {address} failed")

        ask(20)
        with self._spinner.spent() as spent:
            ask(CONNECTIONS)
        client.stdin.close()
        client.wait()
        server.kill()
        server.wait()
        return spent[0] / CONNECTIONS
