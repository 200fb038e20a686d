# SPDX-License-Identifier: GPL-2.0-or-later
"""Persistence with real packets: who is remembered, for how long, and that a dead backend is forgotten at once.

With each way to forward: `snat` differs from `dnat` behind all of it.
"""

import json
from functools import partial

import pytest
from kernel_far import Far, far, has_tunnels
from kernel_namespaces import add_addresses, add_route
from kernel_net import CLIENT, Box, backend_address, expected, farm, until
from kernel_servers import Servers, need

from agent.dataplane import conntrack
from agent.dataplane.script import CHAINS
from agent.dataplane.tables import INGRESS, INGRESS_CHAINS, TABLE

pytestmark = pytest.mark.kernel

SOURCES = {4: [f"10.20.0.{number}" for number in range(150, 162)], 6: [f"fd00:20:0:{n:x}::1" for n in range(1, 13)]}
BOXES = {"dnat": Box, "stateless": Box, "direct": Servers, "tunnel": Far}


@pytest.fixture(params=[4, 6])
def family(request):
    """Both IP families, where nftables can have both."""
    need(request.param)
    return request.param


@pytest.fixture(params=BOXES)
def forwarding(request):
    """Each way that this kernel has."""
    if request.param == "tunnel" and not has_tunnels():
        pytest.skip("this kernel has no IPIP; the image's has")
    return request.param


@pytest.fixture
def box(forwarding):
    box = BOXES[forwarding]()
    for number in (1, 2, 3):
        for family in (4, 6):
            box.serve(number, family=family)
    box.client.run(add_addresses, "eth0", SOURCES[4] + SOURCES[6])
    box.balancer.run(add_route, "fd00:20::/48", CLIENT[6])
    yield box
    box.close()


@pytest.fixture
def sticky(forwarding):
    """What makes a farm with persistence."""
    made = far if forwarding == "tunnel" else partial(farm, forwarding=forwarding)
    return partial(made, persistence="address", protocols=["tcp", "udp"])


def asked(box, family=4):
    return {source: box.ask(family=family, source=source) for source in SOURCES[family]}


def at_ingress(box):
    return any(part.farm.at_ingress for part in box.ruleset.parts.values())


def remembered(box, name="sticky4"):
    listing = json.loads(box.nft(f"list map {INGRESS} in_{name}" if at_ingress(box) else f"list map {TABLE} {name}"))
    return next(item["map"] for item in listing["nftables"] if "map" in item).get("elem", [])


@pytest.mark.parametrize("scheduler", ["round-robin", "source-hash"])
def test_a_client_goes_where_it_went_before(family, box, sticky, scheduler):
    box.apply({"web": sticky(1, 2, family=family, scheduler=scheduler)})
    first = asked(box, family)
    assert set(first.values()) == {backend_address(number, family) for number in (1, 2)}
    assert asked(box, family) == first
    # TCP and UDP, and every port, are one service: a client has one backend.
    assert box.ask_udp(family=family) == box.ask(family=family) == box.ask_udp(family=family)
    # What is added changes nothing for those who are known, nor does another agent.
    box.adopt()
    box.apply({"web": sticky(1, 2, 3, family=family, scheduler=scheduler)})
    assert asked(box, family) == first


def test_failure_beats_stickiness_at_once_and_the_new_backend_is_remembered(family, box, sticky):
    web = sticky(1, 2, 3, family=family)
    box.apply({"web": web})
    first = asked(box, family)
    gone = backend_address(2, family)
    box.apply({"web": web}, {"web": {"b1": 1, "b3": 1}})
    second = asked(box, family)
    assert gone not in second.values()
    assert all(second[source] == before for source, before in first.items() if before != gone)
    # It is back: nobody is torn away from where it is now.
    box.apply({"web": web})
    assert asked(box, family) == second


def test_a_farm_whose_backends_are_all_gone_refuses_and_remembers_nobody_wrongly(box, sticky):
    web = sticky(1, 2)
    box.apply({"web": web})
    asked(box)
    box.apply({"web": web}, {"web": {}})
    assert box.refused()
    box.apply({"web": web}, {"web": {"b2": 1}})
    assert set(asked(box).values()) == {backend_address(2)}


def test_farms_remember_by_themselves(box, sticky):
    box.serve(3, 81)
    box.apply({"web": sticky(1), "other": sticky(3, ports=(81,))})
    assert (box.ask(80), box.ask(81), box.ask(80)) == (backend_address(1), backend_address(3), backend_address(1))


def test_a_network_is_remembered_as_one_client(family, box, sticky):
    box.apply({"web": sticky(1, 2, 3, family=family, persistence_prefix4=24, persistence_prefix6=48)})
    assert len(set(asked(box, family).values())) == 1
    assert len(remembered(box, f"sticky{family}")) == 1


def test_a_port_is_remembered_beyond_its_flow(family, box, sticky):
    web = sticky(1, 2, 3, family=family, protocols=["udp"], persistence="address-port")
    box.apply({"web": web})
    with box.datagram(family=family) as one, box.datagram(family=family) as two:
        answers = []
        for sock in (one, two, one, two):
            sock.send(b"?")
            answers.append(sock.recv(100).decode().split()[0])
            # The flow ends, as it does when nothing is sent for a while.
            box.balancer.run(conntrack.forget, box.ruleset.marks())
            box.nft("; ".join(f"flush map {INGRESS} {name}{family}" for name in ("flows", "fresh")))
    assert answers[0] != answers[1]
    assert answers[:2] == answers[2:]


def test_static_entries_come_first_as_long_as_their_backend_is_up(family, box, sticky):
    network = {4: "10.20.0.152/29", 6: "fd00:20:0:2::/64"}[family]
    web = sticky(1, 2, 3, family=family, persistence_static={network: "b3"})
    box.apply({"web": web})
    mine = [source for source in SOURCES[family] if source in ("10.20.0.152", "10.20.0.159", "fd00:20:0:2::1")]
    assert {box.ask(family=family, source=source) for source in mine * 3} == {backend_address(3, family)}
    box.apply({"web": web}, {"web": {"b1": 1, "b2": 1}})
    assert backend_address(3, family) not in asked(box, family).values()
    box.apply({"web": web})
    assert {box.ask(family=family, source=source) for source in mine} == {backend_address(3, family)}


def test_a_static_entry_of_a_single_client_goes_with_the_farm(family, box, sticky):
    box.apply({"web": sticky(1, family=family, persistence_static={CLIENT[family]: "b1"})})
    assert box.ask(family=family) == backend_address(1, family)
    box.apply({})
    assert box.elements() == expected(box.ruleset)


def test_a_client_is_forgotten_after_the_timeout(box, sticky):
    box.apply({"web": sticky(1, 2, persistence_timeout=1)})
    box.ask()
    assert len(remembered(box)) == 1
    until(lambda: remembered(box) == [])


def test_each_connection_renews_the_entry(box, sticky):
    box.apply({"web": sticky(1, 2, persistence_timeout=600)})
    box.ask()
    (((entry, _),),) = (remembered(box),)
    until(lambda: remembered(box)[0][0]["elem"]["expires"] < entry["elem"]["timeout"])
    low = remembered(box)[0][0]["elem"]["expires"]
    box.ask()
    assert remembered(box)[0][0]["elem"]["expires"] >= low


def test_no_connection_is_lost_while_persistence_comes_and_goes(box, sticky):
    web, kept = sticky(1, 2, 3, persistence="none"), sticky(1, 2, 3)
    box.apply({"web": web})
    clients = box.load(8)
    for number in range(60):
        settings = [web, kept, kept | {"persistence_timeout": 60}, kept | {"scheduler": "source-hash"}][number % 4]
        box.apply({"web": settings}, {"web": dict.fromkeys(("b1", "b2", "b3")[number % 2 :], 1)})
    served, failures = clients.stop()
    assert failures == []
    assert served > 60


def test_beyond_its_size_a_farm_balances_and_does_not_remember(family, box, sticky):
    web = sticky(1, 2, 3, family=family, persistence_size=5)
    box.serve(1, 81, family)
    box.apply({"web": web, "other": sticky(1, family=family, ports=(81,))})
    first = asked(box, family)
    assert set(first.values()) == {backend_address(number, family) for number in (1, 2, 3)}
    known = clients_of(box)
    assert len(known) == 5 < len(SOURCES[family])
    box.ask(port=81, family=family, source=SOURCES[family][-1])
    assert len(clients_of(box, "other")) == 1, "the others' map has room"
    kept = {str(each.network.network_address) for each in known}
    for _ in range(2):
        again = asked(box, family)
        assert {source: again[source] for source in kept} == {source: first[source] for source in kept}
    strangers = [source for source in SOURCES[family] if source not in kept]
    assert len({box.ask(family=family, source=source) for source in strangers for _ in range(3)}) == 3
    # Who is forgotten makes room.
    assert box.balancer.run(box.clients.forget, known[:2]) == 2
    newcomer = strangers[0]
    where = box.ask(family=family, source=newcomer)
    assert {box.ask(family=family, source=newcomer) for _ in range(4)} == {where}
    assert len(clients_of(box)) == 4


def test_a_size_of_its_own_comes_grows_and_goes(box, sticky):
    def names():
        table, chains = (INGRESS, INGRESS_CHAINS) if at_ingress(box) else (TABLE, CHAINS)
        found = json.loads(box.nft(f"list maps {table.split()[0]}"))["nftables"]
        maps = [each["map"]["name"].removeprefix("in_") for each in found if "map" in each]
        return [name for name in (*maps, *box.elements()[chains]) if "_own" in name or name.startswith("sticky4_")]

    web = sticky(1, 2, 3, persistence_size=100)
    box.apply({"web": web})
    first = asked(box)
    box.apply({"web": web | {"persistence_timeout": 60}})
    assert asked(box) == first, "another timeout forgets nobody"
    box.apply({"web": web | {"persistence_timeout": 60}}, {"web": {}})
    assert box.refused()
    assert len(clients_of(box)) == len(first), "nor does a time without backends"
    box.adopt()
    box.apply({"web": web | {"persistence_timeout": 60}})
    assert asked(box) == first, "nor does another agent"
    assert names() == ["sticky4_1_100", "persist4_32_60_own1_100"]
    assert box.elements() == expected(box.ruleset)
    box.apply({"web": web | {"persistence_size": 200}})
    assert clients_of(box) == [], "another size does"
    assert names() == ["sticky4_1_200", "persist4_32_300_own1_200"]
    box.adopt()
    box.apply({"web": sticky(1, 2)})
    assert names() == []
    assert box.elements() == expected(box.ruleset)


def test_no_connection_is_lost_while_a_size_changes(box, sticky):
    box.apply({"web": sticky(1, 2, 3)})
    clients = box.load(8)
    for number in range(60):
        box.apply({"web": sticky(1, 2, 3, persistence_size=[None, 2, 100][number % 3])})
    served, failures = clients.stop()
    assert failures == []
    assert served > 60


def clients_of(box, name="web"):
    return box.balancer.run(box.clients.remembered, box.ruleset, name)


def test_clients_are_listed_and_forgotten(family, box, sticky):
    bits = {4: 32, 6: 128}[family]
    web = sticky(1, 2, 3, family=family)
    box.serve(3, 81, family)
    box.apply({"web": web, "other": sticky(3, family=family, ports=(81,))})
    box.ask(81, family)
    first = asked(box, family)
    listed = clients_of(box)
    assert [str(each.network) for each in listed] == [f"{source}/{bits}" for source in SOURCES[family]]
    names = {f"b{number}": backend_address(number, family) for number in (1, 2, 3)}
    assert [names[each.backend] for each in listed] == [first[source] for source in SOURCES[family]]
    assert all(0 < each.expires <= 300 and each.port is None for each in listed)
    gone = [each for each in listed if each.backend == "b1"]
    assert box.balancer.run(box.clients.forget, gone) == len(gone) == 4
    assert [each.key for each in clients_of(box)] == [each.key for each in listed if each.backend != "b1"]
    # Who is gone already is no reason to keep the others.
    assert box.balancer.run(box.clients.forget, listed) == 8
    assert clients_of(box) == []
    assert len(clients_of(box, "other")) == 1


def test_clients_are_listed_with_their_network_or_port(box, sticky):
    box.apply({"web": sticky(1, 2, persistence_prefix4=24)})
    box.ask()
    assert [str(each.network) for each in clients_of(box)] == ["10.20.0.0/24"]
    box.apply({"web": sticky(1, 2, persistence="address-port")})
    with box.connect() as connection:
        (client,) = clients_of(box)
        assert (str(client.network), client.port) == (f"{CLIENT[4]}/32", connection.port)
    assert box.balancer.run(box.clients.forget, [client]) == 1
    assert clients_of(box) == []
    box.apply({"web": sticky(1, 2, persistence="none")})
    assert clients_of(box) == []
    assert clients_of(box, "nobody") == []
