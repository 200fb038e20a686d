# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to the backends that need real segments: answers that do not come back through the appliance."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from lab.appliance import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6, Appliance, demo_farm
from lab.laboratory import Laboratory
from lab.namespaces import BACKENDS, CLIENTS
from lab.tunnel_end import TunnelEnd
from lab.waiting import wait_until
from lab.web import WebServer

TRACKED = "print(sum('dport=8080' in line for line in open('/proc/net/nf_conntrack')))"
"""Says how many of the farm's connections are tracked."""


@pytest.fixture(scope="module")
def direct_servers(whole_lab: Laboratory) -> Iterator[Mapping[str, WebServer]]:
    """Servers that hold the virtual addresses, each with a leg of its own where the clients are."""
    addresses = (VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6)
    with ExitStack() as stack:
        servers = {}
        for name, number in (("dsr1", 21), ("dsr2", 22)):
            host = whole_lab.network.host(name, {BACKENDS: number, CLIENTS: number})
            host.hold(*addresses)
            servers[name] = stack.enter_context(WebServer(host, also=addresses))
        yield servers


def test_answers_of_a_direct_farm_go_past_the_appliance(
    lab: Laboratory, claimed: Appliance, direct_servers: Mapping[str, WebServer]
) -> None:
    answer_past_the_appliance("direct", lab, claimed, direct_servers)


def test_a_tunnel_farms_backends_get_packets_within_others(
    lab: Laboratory, claimed: Appliance, direct_servers: Mapping[str, WebServer]
) -> None:
    with ExitStack() as stack:
        ends = [stack.enter_context(TunnelEnd(server.host)) for server in direct_servers.values()]
        answer_past_the_appliance("tunnel", lab, claimed, direct_servers)
        assert all(end.taken[family] >= 7 for end in ends for family in (4, 6))


def answer_past_the_appliance(
    forwarding: str, lab: Laboratory, claimed: Appliance, servers: Mapping[str, WebServer]
) -> None:
    """Connections and datagrams of both IP families are shared out, and their answers do not come back."""
    backends = {name: {"address": server.address} for name, server in servers.items()}
    backends |= {f"{name}-six": {"address": server.address6} for name, server in servers.items()}
    farm = demo_farm({}, addresses=[VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6], protocols=["tcp", "udp"], forwarding=forwarding)
    claimed.put_farm("shop", farm | {"backends": backends})
    claimed.wait_healthy("shop", *backends)

    for address in (VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6):
        answers = lab.client.turns(10, address)
        assert answers == answers[:2] * 5
        assert sorted(answers[:2]) == sorted(servers)
        asked = [lab.client.ask(address) for _ in range(4)]
        assert asked == asked[:2] * 2
        assert sorted(asked[:2]) == sorted(servers)

    wait_until(lambda: claimed.farm_now("shop")["traffic"]["new"] == 28, "28 flows counted", 15)
    counted = [each["traffic"] for each in claimed.farm_now("shop")["backends"].values()]
    assert [(each["new"], each["bytes_in"] > 0, each["bytes_out"]) for each in counted] == [(7, True, 0)] * 4
    assert lab.client.address in {seen.client for seen in servers["dsr1"].seen}


def test_a_stateless_farm_rewrites_addresses_and_ports_both_ways(lab: Laboratory, claimed: Appliance) -> None:
    backends = {name: {"address": address, "port": 80} for name, address in lab.backends.items()}
    backends |= {f"{name}-six": {"address": lab.backend(name).address6, "port": 80} for name in lab.backends}
    farm = demo_farm(
        {},
        addresses=[VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6],
        ports=[8080],
        protocols=["tcp", "udp"],
        forwarding="stateless",
    )
    claimed.put_farm("shop", farm | {"backends": backends})
    claimed.wait_healthy("shop", *backends)

    for address in (VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6):
        answers = lab.client.turns(10, address, 8080)
        assert answers == answers[:2] * 5
        assert sorted(answers[:2]) == ["web1", "web2"]
        asked = [lab.client.ask(address, 8080) for _ in range(4)]
        assert sorted(asked[:2]) == sorted(asked[2:]) == ["web1", "web2"]

    assert lab.client.address in {seen.client for seen in lab.backend("web1").seen}
    wait_until(lambda: claimed.farm_now("shop")["traffic"]["new"] == 28, "28 flows counted", 15)
    counted = [each["traffic"] for each in claimed.farm_now("shop")["backends"].values()]
    assert all(each["new"] == 7 and each["bytes_in"] > 0 < each["bytes_out"] for each in counted)
    assert claimed.run("/usr/bin/python3", "-c", TRACKED) == "0\n"
