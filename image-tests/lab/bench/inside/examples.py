# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents of docs/examples/ against the commands beside them: all must share out connections alike.

Sluice is a whole agent here, asked over its API; IPVS and iptables are Debian's, run by the example's own commands.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from lab.bench.inside.frames import parse
from lab.bench.inside.network import CLIENT, EVERYTHING, Network, ip

CHECKOUT = Path("/checkout")
FOLDER = CHECKOUT / "docs/examples"
VIRTUAL = "10.1.0.100"
Report = Callable[[Mapping[str, Any]], None]
TOKEN = "a-token-that-nobody-has-to-guess"


@dataclass(frozen=True)
class Example:
    """One use case: how clients ask, and what is to come of it."""

    name: str
    expected: tuple[int, int, int]
    """Connections of each server."""
    ports: tuple[int, ...] = (80,)
    clients: int = 1
    each: int = 60
    """Connections of each client, one after another, in rounds of all clients."""
    changed: tuple[int, int, int] | None = None
    """The same after the change of weights."""
    tolerance: int = 0
    """By how much a server may differ: where a change falls into a round, each begins the next where it likes."""


EXAMPLES = (
    Example("round-robin", (20, 20, 20)),
    Example("weight", (30, 20, 10)),
    Example("weight-multiport", (30, 20, 10), ports=(80, 443)),
    Example("weight-persistence", (90, 60, 30), clients=60, each=3),
    Example("dynamic-weights", (30, 20, 10), changed=(10, 20, 30), tolerance=2),
)


class Kind(Protocol):
    """A balancer that the examples are for."""

    def begin(self, name: str) -> Network:
        """A network in which example `name` is in force."""

    def change(self, name: str) -> None:
        """Its weights change."""


class Commands:
    """IPVS or iptables: a new network for each example; `iptables` is the program that the commands mean."""

    def __init__(self, kind: str, iptables: str) -> None:
        self._kind = kind
        self._programs = Path(f"/run/{kind}-{iptables}")
        self._programs.mkdir(exist_ok=True)
        program = self._programs / "iptables"
        if not program.exists():
            program.symlink_to(f"/usr/sbin/{iptables}")
        self._network: Network | None = None

    def begin(self, name: str) -> Network:
        """Run the commands of an example."""
        self._network = Network()
        self._network.sinks()
        with self._network.inside("balancer"):
            ip("address", "add", f"{VIRTUAL}/32", "dev", "front")
        self._run(name)
        return self._network

    def change(self, name: str) -> None:
        """Run those of its change."""
        self._run(f"{name}.changed")

    def _run(self, name: str) -> None:
        assert self._network
        script = FOLDER / f"{name}.{self._kind}.sh"
        path = f"{self._programs}:{os.environ['PATH']}"
        self._network.command("env", f"PATH={path}", "sh", "-e", str(script))


class Sluice:
    """An agent in a network of its own; it is told everything over its API."""

    def __init__(self) -> None:
        self._network = Network()
        self._network.sinks()
        self._folder = Path("/run/agent")
        for name in ("credentials", "data", "run"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "credentials/sluice.api-token").write_text(TOKEN)
        environment = {
            **os.environ, "SLUICE_DATA": str(self._folder / "data"), "SLUICE_RUN": str(self._folder / "run"),
            "SLUICE_NETWORKD": "", "SLUICE_SOCKET": str(self._folder / "socket"),
            "CREDENTIALS_DIRECTORY": str(self._folder / "credentials"),
        }  # fmt: skip
        # `ip netns exec` shows the agent the links of this namespace in /sys, too.
        subprocess.Popen(
            ["ip", "netns", "exec", self._network.names["balancer"], sys.executable, "-m", "agent", "serve"],
            env=environment, cwd=CHECKOUT,
        )  # fmt: skip
        from agent.client import AgentDown, Client, Problem  # noqa: PLC0415 - only now is it on the path

        self._client = Client(self._folder / "socket", token=TOKEN, timeout=120)
        deadline = time.monotonic() + 120
        while True:
            try:
                self._client.configuration()
                break
            except (AgentDown, Problem) as error:
                if time.monotonic() > deadline or (
                    isinstance(error, Problem) and error.status != HTTPStatus.SERVICE_UNAVAILABLE
                ):
                    raise
                time.sleep(0.1)  # nobody tells when the agent serves

    def begin(self, name: str) -> Network:
        """Put the document of an example in force."""
        self._client.commit(self._document(name))
        return self._network

    def change(self, name: str) -> None:
        """Put the farm with the other weights."""
        self._client.put_farm("web", self._document(f"{name}.changed")["farms"]["web"])

    @staticmethod
    def _document(name: str) -> Any:
        return json.loads((FOLDER / f"{name}.json").read_text())


class Unlike(Exception):
    """An example does not do what it says."""


def connect(network: Network, example: Example, first: int) -> list[tuple[str, str]]:
    """Begin connections from ports `first` and on: by turns the client's address and the server that got it."""
    client, backends = network.raw("client"), network.raw("backends", EVERYTHING)
    backends.settimeout(20)
    seen = []
    for number in range(example.each * example.clients):
        source = (f"10.1.0.{10 + number % example.clients}" if example.clients > 1 else CLIENT, first + number)
        target = (VIRTUAL, example.ports[number % len(example.ports)])
        client.send(network.syn(source, target))
        asked, server = parse(backends.recv(2000))
        if asked != source:
            raise Unlike(f"{example.name}: {source} asked, and {asked} arrived")
        if server[1] != target[1]:
            raise Unlike(f"{example.name}: port {target[1]} was asked for, and {server} got it")
        seen.append((source[0], server[0]))
    client.close()
    backends.close()
    return seen


def share(seen: Sequence[tuple[str, str]]) -> tuple[int, int, int]:
    """Connections of each of the three servers."""
    counted = Counter(server for _, server in seen)
    return counted["10.2.0.11"], counted["10.2.0.12"], counted["10.2.0.13"]


def hold(example: Example, kind: str, found: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 0) -> None:
    """Raise Unlike where servers did not get what they should."""
    if any(abs(one - other) > tolerance for one, other in zip(found, expected, strict=True)):
        raise Unlike(f"{example.name} by {kind}: servers got {found}, not {expected}")


def run(report: Report, arguments: list[str]) -> None:
    """Hold every example, or those that are named, against the three others; reports a row for each."""
    for module in ("nf_conntrack", "ip_vs"):
        subprocess.run(["modprobe", module], check=True)
    kinds: dict[str, Kind] = {
        "ipvs": Commands("ipvs", "iptables-nft"),
        "iptables-legacy": Commands("iptables", "iptables-legacy"),
        "iptables-nft": Commands("iptables", "iptables-nft"),
        "sluice": Sluice(),
    }
    for place, example in enumerate(EXAMPLES):
        if arguments and example.name not in arguments:
            continue
        for kind, balancer in kinds.items():
            first = 2000 + 1000 * place
            network = balancer.begin(example.name)
            seen = connect(network, example, first)
            hold(example, kind, share(seen), example.expected)
            if example.clients > 1 and len(set(seen)) != example.clients:
                raise Unlike(f"{example.name} by {kind}: a client was sent to more than one server")
            found = [share(seen)]
            if example.changed:
                balancer.change(example.name)
                found.append(share(connect(network, example, first + 500)))
                hold(example, kind, found[-1], example.changed, example.tolerance)
            report({"example": example.name, "by": kind, "servers": found})
