# SPDX-License-Identifier: GPL-2.0-or-later
"""Farms with the forwarding `direct`: packets go on as they came, and backends answer clients past the appliance."""

import contextlib
import json
import socket
from collections import Counter
from ipaddress import ip_network

import pytest
from kernel_flows import (
    ask,
    conntracked,
    go_on_with_a_new_agent,
    outlive_a_lapse_of_the_links_address,
    said,
    stay_while_weights_change,
)
from kernel_namespaces import Namespace, add_addresses
from kernel_net import BALANCER, CLIENT, VIRTUAL, backend_address, expected, farm, names, until
from kernel_packets import SYN, Raw
from kernel_peers import PLENTY, Connection
from kernel_servers import Servers, need, newer_nft, plug
from pyroute2 import IPRoute

from agent.dataplane import KernelRefused, script
from agent.dataplane.ingress import CLOSING, FRESH, OPENING
from agent.dataplane.tables import INGRESS

pytestmark = pytest.mark.kernel

NEIGHBOUR = {4: "10.30.0.50", 6: "fd00:30::50"}
"""A host on the backends' network."""


@pytest.fixture
def box():
    box = Servers()
    yield box
    box.close()


@pytest.fixture
def two(box):
    """With servers 1 and 2 for IPv4."""
    box.server(1)
    box.server(2)
    return box


def direct(*backends, family=4, **settings):
    return farm(*backends, family=family, **{"forwarding": "direct", "protocols": ["tcp", "udp"]} | settings)


def flows(box, name="flows4"):
    """The entries of a map of flows: seconds until each expires, by the client's port."""
    listing = json.loads(box.nft(f"list map {INGRESS} {name}"))
    entries = next(item["map"] for item in listing["nftables"] if "map" in item).get("elem", [])
    return {int(each["val"]["concat"][3]) >> 16: each["expires"] for each in (entry[0]["elem"] for entry in entries)}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_round_robin_is_an_exact_turn_and_backends_see_the_client(box, family, protocol):
    need(family, protocol)
    for number in (1, 2):
        box.server(number, family=family, sctp=protocol == "sctp")
    box.apply({"web": direct(1, 2, family=family, protocols=[protocol])})
    assert box.elements() == expected(box.ruleset)
    answers = [ask(box, protocol, family=family) for _ in range(6)]
    assert answers == [(name, CLIENT[family]) for name in names(1, 2, family=family) * 3]
    counters = box.counters()
    assert [counters["web", name].new for name in ("b1", "b2")] == [3, 3]
    assert all(each.packets_in >= 3 and each.bytes_in > 0 and each.bytes_out == 0 for each in counters.values())
    assert box.active() == {("web", "b1"): 3, ("web", "b2"): 3}
    assert box.balancer.run(conntracked) == 0, "connection tracking knows nothing of it"


@pytest.mark.parametrize("family", [4, 6])
def test_ranges_of_ports_and_both_families_of_a_farm(box, family):
    need(family)
    for number in (1, 2):
        for port in (8000, 8099):
            box.server(number, port, family)
    both = direct(1, 2, family=family, ports=("8000-8099", 9000))
    if newer_nft():
        other = direct(1, family=10 - family)
        both["addresses"] += other["addresses"]
        both["backends"]["other"] = other["backends"]["b1"]
    box.apply({"web": both})
    answers = [ask(box, port=8000, family=family), ask(box, port=8099, family=family), ask(box, "udp", 8099, family)]
    assert [server for server, _ in answers] == names(1, 2, 1, family=family)
    assert box.refused(7999, family)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_host_beside_the_backends_is_a_client_like_any_other(box, family, protocol):
    need(family)
    for number in (1, 2):
        box.server(number, family=family)
    with contextlib.closing(Namespace()) as neighbour:
        box.backends.run(plug, "beside", neighbour.descriptor, "eth0")
        # Its way to the virtual address is the balancer, by the link that leads to the backends.
        neighbour.run(add_addresses, "eth0", list(NEIGHBOUR.values()), list(BALANCER.values()))
        box.apply({"web": direct(1, 2, family=family)})
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        answers = []
        for number in range(4):
            if protocol == "tcp":
                with Connection(neighbour.socket(kind), VIRTUAL[family], 80) as connection:
                    assert connection.alive()
                    answers.append((connection.server, connection.peer))
            else:
                with neighbour.socket(kind, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(PLENTY)
                    sock.bind((NEIGHBOUR[family], 41000 + number))  # each a flow of its own
                    sock.connect((VIRTUAL[family], 80))
                    sock.send(b"?")
                    answers.append(tuple(sock.recv(100).decode().split()))
        assert answers == [(each, NEIGHBOUR[family]) for each in names(1, 2, 1, 2, family=family)]
        # And all the while for everybody else.
        assert ask(box, protocol, family=family) == (backend_address(1, family), CLIENT[family])


def test_an_early_nftables_refuses_ipv6_by_name(box):
    if newer_nft():
        box.apply({"web": direct(1, family=6)})
        return
    with pytest.raises(KernelRefused, match=r"cannot forward IPv6 at ingress") as refusal:
        box.apply({"web": direct(1, family=6)})
    assert (refusal.value.farm, refusal.value.field) == ("web", "forwarding")
    box.apply({"web": direct(1)})


def test_weights_source_hash_and_priority_work_as_elsewhere(two):
    weighted = direct(1, 2, scheduler="weighted")
    weighted["backends"]["b1"]["weight"] = 3
    two.apply({"web": weighted})
    assert Counter(ask(two)[0] for _ in range(8)) == {backend_address(1): 6, backend_address(2): 2}
    two.apply({"web": direct(1, 2, scheduler="source-hash")})
    assert len({ask(two)[0] for _ in range(6)}) == 1
    two.apply({"web": direct(1, 2)}, {"web": {"b2": 1}})
    assert {ask(two)[0] for _ in range(3)} == {backend_address(2)}


def test_no_packet_of_a_flow_goes_elsewhere_while_weights_change(two):
    stay_while_weights_change(two, direct(1, 2, scheduler="weighted"))


def test_a_first_segment_that_is_sent_again_goes_where_it_went(box):
    box.apply({"web": direct(1, 2)})
    raw = box.client.run(Raw, CLIENT[4], VIRTUAL[4])
    for port in (40001, 40001, 40002):
        raw.send(port, SYN)
    until(lambda: sum(each.packets_in for each in box.counters().values()) == 3)
    raw.close()
    counted = [box.counters()["web", name] for name in ("b1", "b2")]
    assert [(each.new, each.packets_in) for each in counted] == [(1, 2), (1, 1)]


def test_flows_go_on_while_other_ways_of_forwarding_come_and_go(two):
    web = direct(1, 2)
    beside = {"forwarding": "stateless", "protocols": ["tcp"]}
    two.apply({"web": web})
    with two.connect() as connection, two.datagram() as sock:
        assert (connection.server, said(sock)) == tuple(names(1, 2))
        for more, kind in (({"beside": farm(1, ports=(81,), **beside)}, "ds"), ({}, "d")):
            two.apply({"web": web, **more})
            assert f"arrive4{kind}" in two.elements()["in_chains"]
            assert two.elements() == expected(two.ruleset)
            assert connection.alive()
            assert said(sock) == backend_address(2)


def test_a_removed_farm_serves_nobody(two):
    two.apply({"web": direct(1, 2)})
    two.apply({"web": direct(2, ports=(81,))})
    assert two.refused()
    two.apply({})
    assert two.elements() == expected(two.ruleset), "nothing is left, no base chain either"
    assert two.refused(81)


def test_entries_live_as_the_farm_says(two):
    two.apply({"web": direct(1, 2, flow_timeout=600, flow_timeout_udp=300)})
    with two.datagram() as sock:
        said(sock)
        port = sock.getsockname()[1]
        assert flows(two)[port] <= OPENING
        assert port not in flows(two, "fresh4")
        said(sock)
        assert 300 < flows(two)[port] <= 300 + FRESH
        assert flows(two, "fresh4")[port] <= FRESH
    with two.connect() as connection:
        assert 600 < flows(two)[connection.port] <= 600 + FRESH
        port = connection.port
    until(lambda: flows(two)[port] <= CLOSING)


def test_a_reset_ends_the_entry(two):
    two.apply({"web": direct(1, 2)})
    connection = two.connect()
    assert connection.port in flows(two)
    connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    until(lambda: connection.port not in flows(two) and connection.port not in flows(two, "fresh4"))


def test_a_new_agent_goes_on_with_turns_counters_and_flows(two):
    go_on_with_a_new_agent(two, {"web": direct(1, 2), "hash": direct(1, 2, ports=(81,), scheduler="source-hash")})
    assert [ask(two)[0] for _ in range(2)] == names(1, 2)


@pytest.mark.parametrize(
    "change",
    [
        "delete table netdev sluice",
        "flush map netdev sluice exits",
        "flush chain netdev sluice link4d_{front}_front; delete chain netdev sluice link4d_{front}_front",
    ],
)
def test_what_somebody_else_changed_is_mended(two, change):
    two.apply({"web": direct(1, 2)})
    two.nft(change.format(front=two.near[0][1]))
    two.apply({"web": direct(1)})
    two.apply({"web": direct(2)})
    two.adopt()
    two.apply({"web": direct(1, 2)})
    assert two.elements() == expected(two.ruleset)
    assert {ask(two)[0] for _ in range(2)} == set(names(1, 2))


def test_the_script_makes_what_the_agent_makes(two):
    two.apply({"web": direct(1, 2), "plain": farm(1, ports=(81,))})
    made = two.elements()
    two.nft(script(two.ruleset))
    assert two.elements() == made
    assert {ask(two)[0] for _ in range(2)} == set(names(1, 2))


def test_links_come_and_go(two):
    """A backend on a new link gets packets as soon as the link's network is known."""
    web = direct(1, 2)
    without = [each for each in two.near if each[0] != "back"]
    known, two.near = two.near, without
    two.apply({"web": web})
    with two.datagram() as sock:
        sock.settimeout(0.2)
        sock.send(b"?")
        with pytest.raises(TimeoutError):
            sock.recv(100)
    assert '"packets": 0' not in two.nft("list counter netdev sluice stranded")
    two.near = known
    two.apply({"web": web})
    assert {ask(two)[0] for _ in range(2)} == set(names(1, 2))
    # The kernel takes a link's chain away with the link.
    two.balancer.run(_link, "add")
    index = two.balancer.run(socket.if_nametoindex, "more")
    two.near = [*known, ("more", index, ip_network("10.40.0.0/24"))]
    two.apply({"web": web})
    assert f"link4d_{index}_more" in two.elements()["in_chains"]
    # Its chain cannot follow a link to another name: the old one goes, a new one comes.
    two.balancer.run(_rename, "more", "other")
    two.near = [*known, ("other", index, ip_network("10.40.0.0/24"))]
    two.apply({"web": web})
    two.adopt()
    two.apply({"web": web})
    assert two.elements() == expected(two.ruleset)
    two.balancer.run(_link, "del")
    two.near = known
    two.apply({"web": web})
    assert two.elements() == expected(two.ruleset)


def _link(command):
    with IPRoute() as netlink:
        if command == "add":
            netlink.link("add", ifname="more", kind="bridge")
        else:
            netlink.link("del", ifname="other")


def _rename(old, new):
    with IPRoute() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname=old)[0], ifname=new)


def test_connections_outlive_a_lapse_of_the_links_address(two):
    outlive_a_lapse_of_the_links_address(two, direct(1, 2, protocols=["tcp"]))


def test_the_appliance_itself_is_refused(two):
    two.apply({"web": direct(1, 2)})
    with two.balancer.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect((VIRTUAL[4], 80))
