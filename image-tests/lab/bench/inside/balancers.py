# SPDX-License-Identifier: GPL-2.0-or-later
"""Those that are measured: each sets up a balancer in a network, for a number of services with the ten backends.

A balancer is a row of BALANCERS.
"""

import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from lab.bench.inside.network import BACKENDS, PORT, Network, ip, nft, service


@dataclass(frozen=True)
class Balancer:
    """How a balancer is set up, and what it can be measured with."""

    name: str
    set_up: Callable[[Network, int], None]
    answered: bool = True
    """Whether answers come back through it."""
    routed: bool = False
    """Whether it only routes: clients address the backends."""
    packets: bool = True
    """Whether it handles packets: a proxy ends connections."""
    connections: bool = True
    """Whether whole connections of real sockets are measured."""


def routing(_network: Network, _services: int) -> None:
    """What every balancer does besides: nothing is looked up but the route."""


def conntrack(network: Network, _services: int) -> None:
    """Connections are tracked, nothing is translated."""
    with network.inside("balancer"):
        nft("table ip t { chain c { type filter hook forward priority 0; ct state new accept; }; }")


def virtual(network: Network) -> None:
    """The services' addresses are the balancer's own."""
    with network.inside("balancer"):
        ip("address", "add", "10.9.0.0/16", "dev", "lo")


FORWARDING: dict[str, dict[str, Any]] = {
    "sluice dnat": {},
    "sluice stateless": {"forwarding": "stateless"},
    "sluice direct": {"forwarding": "direct"},
}
"""Sluice's ways of forwarding: what a farm's settings are."""


def document(services: int, **settings: Any) -> dict[str, Any]:
    """A document of Sluice with farms of the ten backends."""
    backends = {f"b{number}": {"address": address} for number, address in enumerate(BACKENDS)}
    return {
        "version": 1,
        "farms": {
            f"farm{number}": {"addresses": [service(number)], "ports": [PORT], "backends": backends, **settings}
            for number in range(services)
        },
    }


def mixed(services: int) -> dict[str, Any]:
    """A document with farms of every way of forwarding by turns, all of which are in the middle, from `middle` on."""
    described = document(services)
    ways = list(FORWARDING.values())
    for number, farm in enumerate(described["farms"].values()):
        farm.update(ways[(number - middle(services)) % len(ways)])
        if farm.get("forwarding") == "stateless":
            # Whose answer a packet is must be told from its source alone.
            farm["backends"] = {name: each | {"port": 20_000 + number} for name, each in farm["backends"].items()}
    return described


def middle(services: int) -> int:
    """The number of the farm that is asked in a document of `mixed`, of the first way; the next is of the second."""
    return (services - len(FORWARDING)) // 2


def sluice(**settings: Any) -> Callable[[Network, int], None]:
    """Sluice itself, its farms with these settings."""

    def set_up(network: Network, services: int) -> None:
        load(network, document(services, **settings))

    return set_up


def load(network: Network, described: dict[str, Any]) -> None:
    """Compile a document and put it in the kernel, as the agent does."""
    from agent.dataplane import Kernel, compile_ruleset  # noqa: PLC0415 - only now is it on the path
    from agent.model import validate  # noqa: PLC0415 - as above

    virtual(network)
    config = validate(described)
    weights = {name: {b: v.weight for b, v in farm.backends.items()} for name, farm in config.farms.items()}
    with network.inside("balancer"):
        for name in ("nf_conntrack_acct", "nf_conntrack_events"):
            network.set(f"net/netfilter/{name}", 1)
        kernel = Kernel()
        offered = kernel.offer([(link, index) for link, index, _network in near()], hardware=False)
        if not offered.links:
            raise RuntimeError(f"nothing is offloaded: {offered.reason}")
        kernel.apply(compile_ruleset(config, weights, (), kernel.adopt(), near=near(), offered=offered))


def plain_dnat(network: Network, _services: int) -> None:
    """The least that nftables can do: one rule, round robin over a map; no accounting."""
    virtual(network)
    turns = ", ".join(f"{turn} : {backend}" for turn, backend in enumerate(BACKENDS))
    with network.inside("balancer"):
        nft(
            "table ip t { chain c { type nat hook prerouting priority dstnat; "
            f"ip daddr {service(0)} tcp dport {PORT} dnat to numgen inc mod {len(BACKENDS)} map {{ {turns} }}; }}; }}"
        )


def less(commands: str = "", **settings: int) -> Callable[[Network, int], None]:
    """Sluice with dnat by the rules, and then a part of it taken away: by commands of nft, or settings of conntrack."""

    def set_up(network: Network, services: int) -> None:
        load(network, document(services, offload=False))
        with network.inside("balancer"):
            for name, value in settings.items():
                network.set(f"net/netfilter/{name}", value)
            if commands:
                nft(commands)

    return set_up


def plain_forwarding(*, rewritten: bool) -> Callable[[Network, int], None]:
    """The least that nftables can do at ingress: each packet to the next backend, with nothing remembered."""

    def set_up(network: Network, _services: int) -> None:
        virtual(network)
        turns = ", ".join(f"{turn} : {backend}" for turn, backend in enumerate(BACKENDS))
        turn = f"numgen inc mod {len(BACKENDS)} map {{ {turns} }}"
        to = f"ip daddr set {turn} fwd ip to ip daddr" if rewritten else f"fwd ip to {turn}"
        with network.inside("balancer"):
            nft(
                'table netdev t { chain c { type filter hook ingress device "front" priority -100; '
                f'ip daddr {service(0)} tcp dport {PORT} {to} device "back"; }}; }}'
            )

    return set_up


MEMORY = r"add @flows4 \{[^}]*\} "
SEARCH = r"meta mark set [^{}]* map @(flows|fresh)4 .*"
COUNTER = r"meta mark @begun "


def without(forwarding: str, part: str) -> Callable[[Network, int], None]:
    """Sluice at ingress, and then taken away what a pattern finds in its rules. Packets no longer keep to a backend."""

    def set_up(network: Network, services: int) -> None:
        from agent.dataplane.ingress import course  # noqa: PLC0415 - only now is it on the path

        load(network, document(services, forwarding=forwarding))
        lines = []
        for chain in course(4, forwarding[0]):
            rules = [re.sub(part, "", rule) for rule in chain.rules]
            if rules != list(chain.rules):
                lines.append(f"flush chain netdev sluice {chain.name}")
                lines += [f"add rule netdev sluice {chain.name} {rule}" for rule in rules if rule]
        with network.inside("balancer"):
            nft("\n".join(lines))

    return set_up


def near() -> list[tuple[str, int, Any]]:
    """The links' networks, as the agent tells them to the data plane."""
    held = {"front": "10.1.0.0/24", "back": "10.2.0.0/24"}
    return [(link, socket.if_nametoindex(link), ip_network(each)) for link, each in held.items()]


def ipvs(way: str, *, tracked: bool = False) -> Callable[[Network, int], None]:
    """IPVS, round robin; `way` is ipvsadm's: -m for NAT, -g for direct routing."""

    def set_up(network: Network, services: int) -> None:
        virtual(network)
        with network.inside("balancer"):
            network.set("net/ipv4/vs/conntrack", int(tracked))
            if tracked:
                # What is asked for it: a filter beside IPVS that knows connections.
                nft("table ip t { chain c { type filter hook input priority 0; ct state new accept; }; }")
        lines = []
        for number in range(services):
            lines.append(f"-A -t {service(number)}:{PORT} -s rr")
            lines += [f"-a -t {service(number)}:{PORT} -r {each}:{PORT} {way}" for each in BACKENDS]
        network.command("ipvsadm", "--restore", given="\n".join(lines) + "\n")

    return set_up


def iptables(kind: str) -> Callable[[Network, int], None]:
    """DNAT by the statistic match, one chain for each service; `kind` is legacy or nft."""

    def set_up(network: Network, services: int) -> None:
        virtual(network)
        head, rules = ["*nat"], []
        for number in range(services):
            head.append(f":S{number} - [0:0]")
            rules.append(f"-A PREROUTING -d {service(number)}/32 -p tcp --dport {PORT} -j S{number}")
        for number in range(services):
            for turn, backend in enumerate(BACKENDS):
                every = len(BACKENDS) - turn
                match = f"-m statistic --mode nth --every {every} --packet 0 " if every > 1 else ""
                rules.append(f"-A S{number} -p tcp {match}-j DNAT --to-destination {backend}:{PORT}")
        network.command(f"iptables-{kind}-restore", given="\n".join([*head, *rules, "COMMIT", ""]))

    return set_up


def nftlb(network: Network, services: int) -> None:
    """Debian's nftlb in its dnat mode."""
    virtual(network)
    farms = [
        {
            "name": f"f{number}", "family": "ipv4", "virtual-addr": service(number), "virtual-ports": str(PORT),
            "mode": "dnat", "protocol": "tcp", "scheduler": "rr", "state": "up",
            "backends": [
                {"name": f"b{each}", "ip-addr": address, "port": str(PORT), "weight": "1", "priority": "1",
                 "state": "up"}
                for each, address in enumerate(BACKENDS)
            ],
        }
        for number in range(services)
    ]  # fmt: skip
    file = Path("/tmp/nftlb.json")
    file.write_text(json.dumps({"farms": farms}))
    network.command("nftlb", "-e", "-c", str(file))


def haproxy(network: Network, services: int) -> None:
    """HAProxy in TCP mode, one thread."""
    virtual(network)
    lines = ["global", " nbthread 1", " maxconn 1000", "defaults", " mode tcp", " timeout connect 5s",
             " timeout client 30s", " timeout server 30s"]  # fmt: skip
    for number in range(services):
        lines += [f"listen s{number}", f" bind {service(number)}:{PORT}", " balance roundrobin"]
        lines += [f" server b{each} {address}:{PORT}" for each, address in enumerate(BACKENDS)]
    file = Path("/tmp/haproxy.cfg")
    file.write_text("\n".join(lines) + "\n")
    network.command("haproxy", "-D", "-f", str(file))


BALANCERS = (
    Balancer("routing", routing, routed=True),
    Balancer("conntrack", conntrack, routed=True),
    Balancer("sluice dnat", sluice(**FORWARDING["sluice dnat"])),
    Balancer("sluice dnat, offload off", sluice(offload=False)),
    Balancer("sluice stateless", sluice(**FORWARDING["sluice stateless"])),
    Balancer("sluice direct", sluice(**FORWARDING["sluice direct"]), answered=False, connections=False),
    Balancer("sluice tunnel", sluice(forwarding="tunnel"), answered=False, connections=False),
    Balancer("ipvs nat", ipvs("-m")),
    Balancer("ipvs nat conntrack", ipvs("-m", tracked=True)),
    Balancer("ipvs dr", ipvs("-g"), answered=False, connections=False),
    Balancer("ipvs dr conntrack", ipvs("-g", tracked=True), answered=False, connections=False),
    Balancer("iptables-legacy", iptables("legacy")),
    Balancer("iptables-nft", iptables("nft")),
    Balancer("nftlb dnat", nftlb),
    Balancer("haproxy", haproxy, packets=False),
    Balancer("plain dnat", plain_dnat, connections=False),
    Balancer("less accounting", less(nf_conntrack_acct=0), connections=False),
    Balancer("less source", less("flush chain inet sluice source"), connections=False),
    Balancer(
        "less forward", less("flush chain inet sluice forward; add rule inet sluice forward accept"), connections=False
    ),
    Balancer("plain stateless", plain_forwarding(rewritten=True), answered=False, connections=False),
    Balancer("stateless less memory", without("stateless", MEMORY), connections=False),
    Balancer("stateless less search", without("stateless", SEARCH), connections=False),
    Balancer("stateless less counter", without("stateless", COUNTER), connections=False),
    Balancer("plain direct", plain_forwarding(rewritten=False), answered=False, connections=False),
    Balancer("direct less memory", without("direct", MEMORY), answered=False, connections=False),
    Balancer("direct less search", without("direct", SEARCH), answered=False, connections=False),
    Balancer("direct less counter", without("direct", COUNTER), answered=False, connections=False),
)
"""A line each. The names are those of the results."""

MANY = {
    "ipvs nat": (1000, 10_000),
    "iptables-legacy": (100, 1000),
    "iptables-nft": (100, 1000),
    "nftlb dnat": (100,),
}
"""Who is measured with more services than one, too; the service in the middle is asked."""

CASES = [(each, 1) for each in BALANCERS] + [(each, number) for each in BALANCERS for number in MANY.get(each.name, ())]
"""What is measured: balancers, and how many services they have."""

MIXED = (len(FORWARDING), 10_000)
"""Numbers of farms that Sluice is measured with, its ways of forwarding by turns in one document: few and many."""
