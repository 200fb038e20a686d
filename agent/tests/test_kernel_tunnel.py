# SPDX-License-Identifier: GPL-2.0-or-later
"""Farms with the forwarding `tunnel`: packets go on as they came, within others, to backends behind a router."""

import errno
import socket
from collections import Counter

import pytest
from kernel_far import Far, address, far, has_tunnels, send_within, tunnels
from kernel_flows import ask, go_on_with_a_new_agent, stay_while_weights_change
from kernel_namespaces import add_addresses
from kernel_net import BALANCER, CLIENT, PLENTY, backend_address, expected, names, until
from kernel_servers import need
from pyroute2 import IPRoute

from agent.dataplane import KernelRefused, script
from agent.dataplane.assignment import FIRST_TUNNEL
from agent.system.links import read_links

pytestmark = pytest.mark.kernel

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _DO = 10, 23, 2
ALL = 0x3
"""ETH_P_ALL."""


@pytest.fixture
def box():
    if not has_tunnels():
        pytest.skip("this kernel has no IPIP; the image's has")
    box = Far()
    yield box
    box.close()


@pytest.fixture
def two(box):
    """With servers 1 and 2 for IPv4."""
    box.server(1)
    box.server(2)
    return box


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_round_robin_is_an_exact_turn_and_backends_see_the_client(box, family, protocol):
    need(family, protocol)
    for number in (1, 2):
        box.server(number, family=family, sctp=protocol == "sctp")
    box.apply({"web": far(1, 2, family=family, protocols=[protocol])})
    assert box.elements() == expected(box.ruleset)
    answers = [ask(box, protocol, family=family) for _ in range(6)]
    assert answers == [(name, CLIENT[family]) for name in names(1, 2, family=family) * 3]
    counters = box.counters()
    assert [counters["web", name].new for name in ("b1", "b2")] == [3, 3]
    assert all(each.packets_in >= 3 and each.bytes_in > 0 and each.bytes_out == 0 for each in counters.values())
    assert box.active() == {("web", "b1"): 3, ("web", "b2"): 3}


def test_both_families_and_ranges_of_ports_and_weights(box):
    for family in (4, 6):
        for number in (1, 2):
            box.server(number, 8099, family)
    both = far(1, 2, ports=("8000-8099",), scheduler="weighted")
    six = far(1, 2, family=6)
    both["addresses"] += six["addresses"]
    both["backends"] = {name: each | {"weight": 3 if name == "b1" else 1} for name, each in both["backends"].items()}
    both["backends"] |= {f"{name}-six": each for name, each in six["backends"].items()}
    box.apply({"web": both})
    assert Counter(ask(box, port=8099)[0] for _ in range(8)) == {backend_address(1): 6, backend_address(2): 2}
    assert [ask(box, "udp", 8099, 6)[0] for _ in range(2)] == names(1, 2, family=6)
    assert box.refused(7999)
    box.apply({"web": both | {"scheduler": "source-hash"}})
    assert len({ask(box, port=8099)[0] for _ in range(6)}) == 1


@pytest.mark.parametrize("family", [4, 6])
def test_full_packets_arrive_although_tunnels_make_them_larger(box, family):
    """IPv4's outer packets are fragmented; an IPv6 client is told how large its packets may be."""
    box.server(1, family=family)
    box.apply({"web": far(1, family=family)})
    level, option = {4: (socket.IPPROTO_IP, _IP_MTU_DISCOVER), 6: (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)}[family]
    full = 1500 - 8 - (20 if family == 4 else 40)
    with box.datagram(family=family) as sock:
        sock.setsockopt(level, option, _DO)
        sock.send(b"x" * full)
        if family == 6:
            until(lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE)
            with pytest.raises(OSError, match="Message too long"):
                sock.send(b"x" * (full - 39))
            sock.send(b"x" * (full - 40))
        assert sock.recv(100).decode().split() == [backend_address(1, family), CLIENT[family]]
    with box.connect(family=family) as connection:
        lines = (b"y" * 30_000 + b"\n") * 10
        connection._socket.sendall(lines)
        came = b""
        while len(came) < len(lines):
            came += connection._socket.recv(65536) or pytest.fail("the backend has closed")
        assert came == lines


def test_no_packet_of_a_flow_goes_elsewhere_while_weights_change(two):
    stay_while_weights_change(two, far(1, 2, scheduler="weighted"))


def test_devices_come_and_go_with_their_servers(two):
    two.apply({"web": far(1, 2), "more": far(2, ports=(81,))})
    first = {"sluice0": (FIRST_TUNNEL, address(1)), "sluice1": (FIRST_TUNNEL + 1, address(2))}
    assert two.balancer.run(tunnels) == first
    assert not {"sluice0", "tunl0"} & {link.name for link in two.balancer.run(read_links)}
    two.apply({"web": far(1, 3), "more": far(2, ports=(81,))})
    assert two.balancer.run(tunnels) == first | {"sluice2": (FIRST_TUNNEL + 2, address(3))}
    two.apply({"web": far(3)})
    assert two.balancer.run(tunnels) == {"sluice2": (FIRST_TUNNEL + 2, address(3))}
    two.apply({"web": far(1, 3, enabled=False), "six": far(1, family=6)})
    assert two.balancer.run(tunnels) == {"sluice0": (FIRST_TUNNEL, address(1, 6))}
    two.apply({})
    assert not two.balancer.run(tunnels)
    assert two.elements() == expected(two.ruleset)


def test_a_new_agent_goes_on_with_devices_turns_and_flows(two):
    two.apply({"gone": far(3, ports=(81,)), "web": far(1, 2)})
    two.apply({"web": far(1, 2)})
    made = two.balancer.run(tunnels)
    assert min(index for index, _ in made.values()) == FIRST_TUNNEL
    go_on_with_a_new_agent(two, {"web": far(1, 2)})
    assert two.balancer.run(tunnels) == made


def test_left_over_devices_go_and_those_of_others_stay(two):
    two.apply({"web": far(2, 1)})
    two.nft("delete table inet sluice; delete table netdev sluice")
    two.balancer.run(make, "sluice7", "192.0.2.7")
    two.balancer.run(make, "mine", "192.0.2.8", FIRST_TUNNEL + 8)
    two.balancer.run(make, "sluice9", "192.0.2.9", FIRST_TUNNEL + 9)
    two.adopt()
    two.apply({"web": far(2)})
    left = two.balancer.run(tunnels)
    assert left.keys() == {"sluice0", "sluice7", "mine"}
    assert left["sluice0"] == (FIRST_TUNNEL, address(2))
    assert ask(two)[0] == backend_address(2)


def make(name, remote, index=0):
    with IPRoute() as netlink:
        netlink.link("add", ifname=name, kind="ipip", ipip_remote=remote, index=index)


def test_what_somebody_else_changed_is_mended(two):
    two.apply({"web": far(1, 2)})
    made = two.balancer.run(tunnels)
    two.balancer.run(change, "del", made["sluice0"][0])
    two.balancer.run(change, "set", made["sluice1"][0], state="down")
    two.apply({"web": far(1, 2)})
    assert two.balancer.run(tunnels) == made
    assert [ask(two)[0] for _ in range(2)] == names(1, 2)
    # Somebody else has a tunnel to the same place: told by farm.
    two.balancer.run(make, "mine", address(3))
    with pytest.raises(KernelRefused, match=r"farm web: no tunnel to 10\.50\.3\.2 can be made: ") as refused:
        two.apply({"web": far(1, 3)})
    assert (refused.value.farm, refused.value.field) == ("web", "backends")
    assert [ask(two)[0] for _ in range(2)] == names(1, 2)
    two.apply({"web": far(1, 2)})
    assert two.balancer.run(tunnels).keys() == {"sluice0", "sluice1", "mine"}


def change(verb, index, **settings):
    with IPRoute() as netlink:
        netlink.link(verb, index=index, **settings)


def test_ipv6_tunnels_follow_the_address_that_packets_come_from(box):
    box.server(1, family=6)
    box.apply({"web": far(1, family=6)})
    assert ask(box, "udp", family=6)[0] == backend_address(1, 6)
    box.balancer.run(another)
    box.apply({"web": far(1, family=6)})
    assert ask(box, "udp", family=6)[0] == backend_address(1, 6)


def another():
    """Have another IPv6 address on the link to the router."""
    add_addresses("back", ["fd00:30::99"])
    with IPRoute() as netlink:
        netlink.addr("del", index=netlink.link_lookup(ifname="back")[0], address=BALANCER[6], prefixlen=64)
        netlink.route("replace", dst="fd00:50::/32", gateway="fd00:30::254", family=socket.AF_INET6)


def test_nobody_comes_in_by_a_tunnel(two):
    """Who has a backend's address could be anybody within a tunnel."""
    two.apply({"web": far(1, 2)})
    with two.balancer.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.bind((BALANCER[4], 5555))
        sock.settimeout(PLENTY)
        two.machines[1].run(send_within, "10.20.0.77", BALANCER[4], 5555, BALANCER[4])
        with two.machines[1].socket(kind=socket.SOCK_DGRAM) as plain:
            plain.sendto(b"plain", (BALANCER[4], 5555))
        assert sock.recvfrom(100)[0] == b"plain"
        two.nft("flush chain inet sluice untunnelled")
        two.machines[1].run(send_within, "10.20.0.77", BALANCER[4], 5555, BALANCER[4])
        assert sock.recvfrom(100) == (b"within", ("10.20.0.77", 40000)), "it is the chain that keeps it out"


def test_the_script_makes_what_the_agent_makes(two):
    two.apply({"web": far(1, 2)})
    made = two.elements()
    told = script(two.ruleset)
    assert f"# Beside it, the tunnel sluice1 (link {FIRST_TUNNEL + 1}) to {address(2)}\n" in told
    two.nft(told)
    assert two.elements() == made
    assert {ask(two)[0] for _ in range(2)} == set(names(1, 2))


def test_packets_arrive_as_the_client_sent_them(two):
    """But for their hops, and leave to be fragmented."""
    two.apply({"web": far(1)})
    with two.client.run(watch, "eth0") as before, two.machines[1].run(watch, "tunl0") as after:
        ask(two, "udp")
        sent, came = (first(each, socket.IPPROTO_UDP) for each in (before, after))
    assert sent[6] & 0x40, "the client forbids fragments"
    assert came[6] == sent[6] & ~0x40
    assert came[8] == sent[8] - 1
    assert (came[:6], came[7], came[9], came[12:]) == (sent[:6], sent[7], sent[9], sent[12:])


def watch(link):
    """A socket that hears every IPv4 packet of a link of this namespace."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL))
    sock.bind((link, ALL))
    sock.settimeout(PLENTY)
    return sock


def first(sock, protocol):
    """The first packet of a protocol that it heard."""
    while True:
        packet = sock.recv(2000)
        if packet[0] >> 4 == 4 and packet[9] == protocol:
            return packet
