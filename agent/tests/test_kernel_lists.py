# SPDX-License-Identifier: GPL-2.0-or-later
"""Network lists in a real kernel: who is let in, who is dropped, what is counted, and what a change of a list costs."""

import random
import socket
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_namespaces import add_addresses, add_route
from kernel_net import BALANCER, CLIENT, FRONT, VIRTUAL, Box, backend_address, expected, farm, until
from kernel_packets import path_mtu, tell_too_big
from kernel_peers import PLENTY

from agent.dataplane.script import delta
from agent.model import NetworkList

pytestmark = pytest.mark.kernel

OTHER = {4: "10.20.0.66", 6: "fd00:20:0:9::66"}
NETWORK = {4: "10.20.0.64/26", 6: "fd00:20:0:9::/64"}
SHORT = 0.3
"""Seconds after which what is dropped has had no answer."""


@pytest.fixture
def box():
    box = Box()
    for number in (1, 2):
        for family in (4, 6):
            box.serve(number, family=family)
    box.client.run(add_addresses, "eth0", list(OTHER.values()))
    box.balancer.run(add_route, "fd00:20::/48", CLIENT[6])
    yield box
    box.close()


@pytest.fixture(params=[4, 6])
def family(request):
    return request.param


def lists(**named):
    return {name: {"networks": list(networks)} for name, networks in named.items()}


def dropped(box, name="web"):
    return box.balancer.run(box.kernel.dropped).get(name, {})


def passes(box, family, source=None, port=80):
    """Whether a datagram from an address reaches a backend: it does, or it is counted as dropped."""
    before, seen = dropped(box), packets_in(box)
    with box.client.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((source or CLIENT[family], 0))
        sock.sendto(b"?", (VIRTUAL[family], port))
        until(lambda: dropped(box) != before or packets_in(box) != seen)
    return dropped(box) == before


def unanswered(box, family, port=80, address=None):
    """Whether a TCP connection of the other client gets no answer."""
    with box.client.socket(socket.AF_INET if family == 4 else socket.AF_INET6) as sock:
        sock.settimeout(SHORT)
        sock.bind((OTHER[family], 0))
        try:
            sock.connect((address or VIRTUAL[family], port))
        except TimeoutError:
            return True
    return False


def packets_in(box):
    return sum(each.packets_in for each in box.counters().values())


def web(family=4, **settings):
    return farm(1, 2, family=family, protocols=["tcp", "udp"], **settings)


def test_clients_that_are_denied_are_dropped_and_counted_and_others_served(box, family):
    box.apply({"web": web(family, deny=["bad"])}, lists=lists(bad=[NETWORK[family], "192.0.2.0/24", "2001:db8::/32"]))
    assert passes(box, family)
    assert not passes(box, family, OTHER[family])
    assert dropped(box) == {"deny": 1}
    with box.connect(family=family) as connection:
        assert connection.alive()
    assert unanswered(box, family)
    assert dropped(box)["deny"] > 1


def test_only_clients_that_are_allowed_are_served(box, family):
    box.apply({"web": web(family, allow=["office", "home"])}, lists=lists(office=[NETWORK[family]], home=[]))
    assert passes(box, family, OTHER[family])
    assert not passes(box, family)
    assert dropped(box) == {"allow": 1}
    # An allowed client that is denied is denied.
    one = OTHER[family]
    box.apply({"web": web(family, allow=["office"], deny=["bad"])}, lists=lists(office=[NETWORK[family]], bad=[one]))
    assert not passes(box, family, OTHER[family])
    assert dropped(box) == {"allow": 1, "deny": 1}


def test_a_list_without_networks_of_a_family_allows_nobody_of_it(box):
    both = {"addresses": list(VIRTUAL.values())}
    backends = web(4)["backends"] | {"six": web(6)["backends"]["b1"]}
    box.apply({"web": web(allow=["office"]) | both | {"backends": backends}}, lists=lists(office=["10.20.0.0/24"]))
    assert passes(box, 4)
    assert not passes(box, 6)


def test_an_open_connection_of_a_client_that_becomes_denied_is_dropped_and_goes_on_when_it_is_allowed_again(
    box, family
):
    box.apply({"web": web(family, deny=["bad"])}, lists=lists(bad=[]))
    with box.connect(family=family) as connection:
        assert connection.alive()
        box.apply({"web": web(family, deny=["bad"])}, lists=lists(bad=[CLIENT[family]]))
        connection._file.write(b"still there?\n")
        until(lambda: dropped(box)["deny"] > 1)
        box.apply({"web": web(family, deny=["bad"])}, lists=lists(bad=[]))
        assert connection._file.readline() == b"still there?\n"


def test_at_an_address_of_a_link_clients_are_asked_for_and_answers_to_the_appliance_are_not(box, family):
    box.serve(2, 2000, family)
    own = [FRONT[family], BALANCER[family]]
    named = lists(office=[NETWORK[family]], bad=[])
    wide = farm(2, family=family, ports=("1024-65535",), allow=["office"]) | {"addresses": own}
    farms = {"web": farm(1, family=family, forwarding="snat"), "wide": wide}
    box.apply(farms, own=own, lists=named)
    # A health check's connection, and one of another farm's client, come back to ports that the farm has.
    with box.balancer.socket(socket.AF_INET if family == 4 else socket.AF_INET6) as check:
        check.settimeout(PLENTY)
        check.connect((backend_address(1, family), 80))
        assert check.recv(100)
    assert box.ask(family=family) == backend_address(1, family)
    assert dropped(box, "wide") == {"allow": 0}
    with box.connect(2000, family, FRONT[family], source=OTHER[family]) as connection:
        assert connection.alive()
        box.apply(farms | {"wide": wide | {"deny": ["bad"]}}, own=own, lists=named | lists(bad=[OTHER[family]]))
        connection._file.write(b"still there?\n")
        until(lambda: dropped(box, "wide").get("deny", 0) > 1)
        box.apply(farms | {"wide": wide | {"allow": ["bad"]}}, own=own, lists=named)
        assert dropped(box, "wide")["allow"] == 0
        assert unanswered(box, family, 2000, FRONT[family])
        assert dropped(box, "wide")["allow"] > 0
        box.apply(farms, own=own, lists=named)
        assert connection._file.readline() == b"still there?\n"
    # All of it goes on with a new agent, and goes without a trace.
    box.adopt()
    box.apply(farms, own=own, lists=named)
    assert box.elements() == expected(box.ruleset)
    box.apply({"web": farms["web"]}, own=own)
    assert box.elements() == expected(box.ruleset)
    assert "screen" not in box.nft("list chains inet")


def test_routers_in_no_list_may_say_that_packets_are_too_large(box, family):
    whole = {"ports": ["all"], "protocols": ["all"]}
    box.apply({"web": farm(1, family=family, allow=["us"]) | whole}, lists=lists(us=[CLIENT[family]]))
    with box.datagram(family=family) as sock:
        sock.send(b"?")
        assert sock.recv(100)
        router, mtu = OTHER[family], 1300
        box.client.run(tell_too_big, router, (VIRTUAL[family], 80), sock.getsockname()[:2], mtu)
        until(lambda: box.backends.run(path_mtu, CLIENT[family]) == mtu)
    assert not passes(box, family, OTHER[family])
    assert dropped(box) == {"allow": 1}


def test_farms_share_lists_and_others_are_not_asked(box):
    box.serve(1, 81)
    box.serve(2, 82)
    farms = {
        "web": web(deny=["bad"]),
        "api": farm(1, ports=(81,), deny=["bad"]),
        "free": farm(2, ports=(82,)),
    }
    box.apply(farms, lists=lists(bad=[OTHER[4]]))
    assert box.ask(82, source=OTHER[4])
    assert box.ask(81)
    for port, name in ((80, "web"), (81, "api")):
        assert unanswered(box, 4, port)
        assert dropped(box, name)["deny"] >= 1
    assert dropped(box, "free") == {}


@pytest.mark.parametrize(
    "ports", [{"ports": ["80-90"]}, {"ports": ["all"], "protocols": ["all"]}], ids=["ranges", "all protocols"]
)
def test_farms_of_ranges_and_of_all_protocols_have_lists_too(box, family, ports):
    box.apply({"web": web(family, deny=["bad"]) | ports}, lists=lists(bad=[NETWORK[family]]))
    assert passes(box, family)
    assert not passes(box, family, OTHER[family])


def test_one_network_more_in_a_list_of_ten_thousand_is_one_element(box):
    networks = [
        f"{first}.{second}.{third}.0/24" for first in (100, 101) for second in range(50) for third in range(100)
    ]
    random.Random(1).shuffle(networks)
    farms = {"web": web(deny=["bad"])}
    box.apply(farms, lists=lists(bad=networks[:-1]))
    before = box.ruleset
    box.apply(farms, lists=lists(bad=networks))
    (command,) = delta(before, box.ruleset)
    assert (command.verb, command.set_name, list(command.elements)) == ("add", "net4_bad", [networks[-1]])
    assert len(box.elements()["net4_bad"]) == 10_000
    box.adopt()
    box.ruleset = box.compiled(farms, lists=lists(bad=networks))
    assert box.balancer.run(box.kernel.difference, box.ruleset) == ""


def test_lists_come_and_go_with_those_who_want_them(box):
    both = lists(bad=["10.1.0.0/16", "10.2.0.0/16"], good=["10.20.0.0/16", "fd00:20::/32"])
    steps = [
        ({"web": web()}, both),
        ({"web": web(deny=["bad"])}, both),
        ({"web": web(deny=["bad"], allow=["good"]), "six": web(6, allow=["good"])}, both),
        ({"web": web(allow=["good"]), "six": web(6, deny=["bad"])}, both),
        ({"web": web(allow=["good"], enabled=False), "six": web(6)}, both),
        ({"web": web()}, {}),
    ]
    for farms, named in steps:
        box.apply(farms, lists=named)
        assert box.elements() == expected(box.ruleset)
        assert box.refused() == (not farms["web"].get("enabled", True))
        box.adopt()
        box.ruleset = box.compiled(farms, lists=named)
        assert box.balancer.run(box.kernel.difference, box.ruleset) == ""
        box.balancer.run(box.kernel.apply, box.ruleset)


def test_no_connection_is_lost_while_lists_come_and_go(box):
    named = lists(bad=["192.0.2.0/24"], worse=["198.51.100.0/24"], good=["10.20.0.0/24"])
    box.apply({"web": web()}, lists=named)
    clients = box.load(8)
    choices = [{}, {"deny": ["bad"]}, {"deny": ["bad", "worse"]}, {"allow": ["good"], "deny": ["worse"]}]
    for number in range(60):
        more = [] if number % 2 else ["203.0.113.0/24"]
        changed = named | lists(bad=["192.0.2.0/24", *more])
        box.apply({"web": web(**choices[number % 4])}, lists=changed)
    served, failures = clients.stop()
    assert failures == []
    assert served > 60


def networks(family):
    """Networks that touch, hold and repeat each other."""
    bits = {4: 32, 6: 128}[family]
    base = int(ip_address({4: "255.255.255.0", 6: "ffff::ff00"}[family]))
    size = st.integers(0, 8)
    near = st.builds(
        lambda host, small: str(ip_network((base | host >> small << small, bits - small))), st.integers(0, 255), size
    )
    return near | st.sampled_from(["0.0.0.0/0", "::/0", "0.0.0.0/32", "::/1", "255.255.255.255/32", "128.0.0.0/1"])


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(networks(4) | networks(6), max_size=12), min_size=1, max_size=6))
def test_any_sequence_of_lists_leaves_what_the_last_one_says(box, sequence):
    for content in sequence:
        box.apply({"web": web(deny=["bad"]), "six": web(6, deny=["bad"])}, lists=lists(bad=content))
        assert box.elements() == expected(box.ruleset)
        ranges = NetworkList(networks=[ip_network(each) for each in content]).ranges
        told = {ip_network(each) for name in ("net4_bad", "net6_bad") for each in box.elements()[name]}
        assert told == set(ranges)
