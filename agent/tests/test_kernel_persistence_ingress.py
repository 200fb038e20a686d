# SPDX-License-Identifier: GPL-2.0-or-later
"""What is different about persistence at ingress: the farm is in a packet's priority meanwhile; flows come first."""

import json

import pytest
from kernel_flows import said
from kernel_net import backend_address, expected, farm, names
from kernel_servers import Servers

from agent.dataplane.tables import INGRESS

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    box = Servers()
    for number in (1, 2):
        box.server(number)
    yield box
    box.close()


def sticky(*backends, **settings):
    return farm(*backends, **{"forwarding": "direct", "protocols": ["tcp", "udp"], "persistence": "address"} | settings)


def clients_of(box, name="web"):
    return box.balancer.run(box.clients.remembered, box.ruleset, name)


def counted(box, name):
    listing = json.loads(box.nft(f"list counter netdev probe {name}"))
    return next(item["counter"]["packets"] for item in listing["nftables"] if "counter" in item)


def test_no_packet_leaves_with_the_priority_that_it_had_meanwhile(box):
    box.nft(
        "table netdev probe { counter left { }; counter odd { }; chain out { type filter hook egress device back "
        "priority 0; ip daddr 10.20.0.100 counter name left; ip daddr 10.20.0.100 meta priority != 0 counter name odd; "
        "}; }"
    )
    web = sticky(1, 2, persistence_static={"10.20.0.8/29": "b1"})
    for settings in (sticky(1, 2), web, sticky(1, 2, persistence_size=1)):
        box.apply({"web": settings})
        box.ask(), box.ask()
        # A client that is remembered, one who is not, and one whose backend is gone.
        box.apply({"web": settings}, {"web": {"b2": 1}})
        assert box.ask() == box.ask_udp() == backend_address(2)
    assert counted(box, "left") >= 30
    assert counted(box, "odd") == 0


@pytest.mark.parametrize("ports", [(80,), ("80-90",)])
def test_a_flow_of_a_dead_backend_goes_where_its_client_is_now(box, ports):
    web = sticky(1, 2, ports=ports)
    box.apply({"web": web})
    with box.datagram() as one, box.datagram() as two:
        first = said(one)
        assert said(two) == first, "one client, one backend"
        (other,) = {*names(1, 2)} - {first}
        alive = {backend_address(1): "b1", backend_address(2): "b2"}[other]
        box.apply({"web": web}, {"web": {alive: 1}})
        assert said(one) == said(two) == other
        (client,) = clients_of(box)
        assert client.backend == alive
        # It is back: the flow and the client stay.
        box.apply({"web": web})
        assert said(one) == box.ask() == other


def test_a_client_of_the_sorry_server_returns_with_the_backends(box):
    box.server(3)
    web = sticky(1, sorry_servers=[{"address": backend_address(3)}])
    box.apply({"web": web}, {"web": {}})
    assert box.ask() == box.ask_udp() == backend_address(3)
    assert [client.backend for client in clients_of(box)] == ["sorry server"]
    box.apply({"web": web})
    assert box.ask() == box.ask_udp() == backend_address(1)
    assert [client.backend for client in clients_of(box)] == ["b1"]


def test_another_forwarding_forgets_and_nothing_is_left_of_persistence(box):
    web = sticky(1, 2, persistence_size=100, persistence_static={"10.20.0.8/29": "b1"})
    box.apply({"web": web, "plain": farm(1, ports=(81,), forwarding="direct")})
    assert {box.ask() for _ in range(3)} == {backend_address(1)}
    box.apply({"web": web | {"forwarding": "dnat"}})
    assert box.elements() == expected(box.ruleset)
    box.apply({"web": web})
    assert clients_of(box) == []
    box.apply({"web": sticky(1, 2, persistence="none")})
    assert {box.ask() for _ in range(2)} == {*names(1, 2)}
    assert box.elements() == expected(box.ruleset)
    maps = [item["map"]["name"] for item in json.loads(box.nft("list maps netdev"))["nftables"] if "map" in item]
    assert not [name for name in maps if name.startswith("in_sticky4_")]


def test_a_client_belongs_to_the_farm_with_all_bits_of_its_mark(box):
    """A farm's number among clients has the form of a class of traffic, two halves of 16 bits."""
    box.apply({f"f{port}": sticky(1, 2, ports=(port,)) for port in (80, 81)})
    held = box.ruleset.assignment.sides
    assert {numbers.mark for numbers in held.values()} == {1, 2}
    box.server(2, 81)
    box.nft(f"add element {INGRESS} in_sticky4 {{ 401:2 . 10.20.0.10 timeout 60s : 1 }}")
    assert clients_of(box, "f81") == [], "0x10002 is somebody else's"
    box.apply({"f81": sticky(2, ports=(81,))})
    assert box.ask(81) == backend_address(2)
    (client,) = clients_of(box, "f81")
    assert client.backend == "b2"
    assert box.balancer.run(box.clients.forget, [client]) == 1
    assert len(json.loads(box.nft(f"list map {INGRESS} in_sticky4"))["nftables"][1]["map"]["elem"]) == 1
