# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is on the backends' own segment, and the balancer itself, reach a farm like everybody else."""

import json
import socket

import pytest
from kernel_namespaces import Namespace, add_addresses, add_route
from kernel_net import BALANCER, CLIENT, FRONT, VIRTUAL, Box, backend_address, farm, names
from kernel_peers import PLENTY, Connection
from pyroute2 import IPRoute

pytestmark = pytest.mark.kernel

NEIGHBOUR = {4: "10.30.0.50", 6: "fd00:30::50"}
KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}

both_families = pytest.mark.parametrize("family", [4, 6])
both_forwardings = pytest.mark.parametrize("forwarding", ["dnat", "snat"])


class Segment(Box):
    """The network, with the backends on a switch that another host, `neighbour`, is connected to as well."""

    def __init__(self) -> None:
        super().__init__()
        self.neighbour = Namespace()
        self.backends.run(_switch, self.neighbour.descriptor)
        mine = [backend_address(number, family) for number in range(1, 5) for family in (4, 6)]
        gateways = list(BALANCER.values())
        self.backends.run(add_addresses, "switch", mine, gateways)
        self.neighbour.run(add_addresses, "eth0", list(NEIGHBOUR.values()), gateways)

    def close(self) -> None:
        super().close()
        self.neighbour.close()

    def tcp(self, place, family=4, source=None, address=None, port=80):
        """Connect from a namespace: (the backend that answered, whom it sees)."""
        sock = place.socket(KINDS[family])
        if source:
            sock.bind((source, 0))
        with Connection(sock, address or VIRTUAL[family], port) as connection:
            assert connection.alive()
            return connection.server, connection.peer

    def udp(self, place, family=4, source=None, port=80):
        """Send a datagram from a namespace: (the backend that answered, whom it sees)."""
        with place.socket(KINDS[family], socket.SOCK_DGRAM) as sock:
            sock.settimeout(PLENTY)
            # The kernel's choice may be the port of a socket that is closed but whose flow is still known.
            sock.bind((source or "", next(self._ports)))
            sock.connect((VIRTUAL[family], port))
            sock.send(b"?")
            server, peer = sock.recv(100).decode().split()
            return server, peer


def _switch(other):
    """A switch between the backends' link and a new one to the namespace `other`; it takes the backends' addresses."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="switch", kind="bridge")
        netlink.link("add", ifname="port", kind="veth", peer={"ifname": "eth0", "net_ns_fd": other})
        switch, port, back = (netlink.link_lookup(ifname=name)[0] for name in ("switch", "port", "eth0"))
        netlink.flush_addr(index=back)
        netlink.link("set", index=back, state="down")  # its routes go, too
        for index in (port, back):
            netlink.link("set", index=index, master=switch, state="up")


@pytest.fixture
def box():
    box = Segment()
    for number in (1, 2):
        for family in (4, 6):
            box.serve(number, family=family)
    yield box
    box.close()


def web(family=4, **settings):
    return {"web": farm(1, 2, family=family, protocols=["tcp", "udp"], **settings)}


@both_families
@both_forwardings
def test_a_backend_reaches_its_own_farm_also_when_it_is_its_own_turn(box, family, forwarding):
    box.apply(web(family, forwarding=forwarding))
    first = backend_address(1, family)
    for ask in (box.tcp, box.udp):
        answers = [ask(box.backends, family, first) for _ in range(4)]
        assert answers == [(name, BALANCER[family]) for name in names(1, 2, 1, 2, family=family)]


@both_families
@both_forwardings
def test_another_host_of_the_backends_segment_reaches_the_farm(box, family, forwarding):
    box.apply(web(family, forwarding=forwarding))
    for ask in (box.tcp, box.udp):
        answers = [ask(box.neighbour, family) for _ in range(4)]
        assert answers == [(name, BALANCER[family]) for name in names(1, 2, 1, 2, family=family)]


@both_families
@both_forwardings
def test_the_balancer_itself_reaches_the_farm_by_the_address_of_its_link(box, family, forwarding):
    box.apply(web(family, forwarding=forwarding))
    for ask in (box.tcp, box.udp):
        answers = [ask(box.balancer, family) for _ in range(4)]
        assert answers == [(name, BALANCER[family]) for name in names(1, 2, 1, 2, family=family)]
        # From another address of its own, too.
        assert ask(box.balancer, family, FRONT[family]) == (backend_address(1, family), BALANCER[family])
        assert ask(box.balancer, family, BALANCER[family]) == (backend_address(2, family), BALANCER[family])


@both_families
def test_a_client_from_elsewhere_is_still_seen_with_its_own_address(box, family):
    box.apply(web(family))
    for ask in (box.tcp, box.udp):
        assert ask(box.client, family) == (backend_address(1, family), CLIENT[family])
        assert ask(box.neighbour, family) == (backend_address(2, family), BALANCER[family])


@both_families
def test_a_client_behind_a_router_of_the_same_link_is_still_seen_with_its_own_address(box, family):
    """One arm: requests come in and leave by one link, but the client is in another network than the backends."""
    far = {4: "10.99.0.5", 6: "fd00:99::5"}[family]
    virtual = {4: "10.30.0.100", 6: "fd00:30::100"}[family]
    box.balancer.run(add_addresses, "back", [virtual])
    box.neighbour.run(add_addresses, "lo", [far])
    box.balancer.run(add_route, {4: "10.99.0.0/24", 6: "fd00:99::/64"}[family], NEIGHBOUR[family])
    box.apply({"web": farm(1, family=family) | {"addresses": [virtual]}})
    assert box.tcp(box.neighbour, family, far, virtual) == (backend_address(1, family), far)
    # A host of the backends' network is not.
    assert box.tcp(box.neighbour, family, NEIGHBOUR[family], virtual)[1] != NEIGHBOUR[family]


@both_families
def test_what_nobody_serves_is_refused_to_the_balancer_as_well(box, family):
    box.apply(web(family) | {"down": farm(1, family=family, ports=(82,))}, {"web": {"b1": 1}, "down": {}})
    for port in (81, 82):
        with pytest.raises(ConnectionRefusedError):
            box.tcp(box.balancer, family, port=port)
    assert box.tcp(box.balancer, family)[0] == backend_address(1, family)


@both_families
def test_the_balancers_own_checks_are_not_balanced(box, family):
    box.apply(web(family))
    for _ in range(3):
        backend = backend_address(2, family)
        assert box.tcp(box.balancer, family, address=backend) == (backend, BALANCER[family])
    assert {counters.new for counters in box.counters().values()} == {0}
    assert box.active() == {}


def test_the_balancers_own_traffic_is_counted(box):
    box.apply(web())
    with box.balancer.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(PLENTY)
        sock.connect((VIRTUAL[4], 80))
        for _ in range(3):
            sock.send(b"12345")
            answer = sock.recv(100)
    first = box.counters()["web", "b1"]
    assert (first.new, first.packets_in, first.packets_out) == (1, 3, 3)
    assert first.bytes_in == 3 * (20 + 8 + 5)
    assert first.bytes_out == 3 * (20 + 8 + len(answer))


def test_only_first_packets_meet_the_chains_that_translate(box):
    box.apply(web())
    for chain in ("dispatch", "own", "source"):
        box.nft(f'insert rule inet sluice {chain} ip daddr {{ {VIRTUAL[4]}, 10.30.0.0/24 }} counter comment "passed"')
    with Connection(box.neighbour.socket(), VIRTUAL[4], 80) as connection:
        for _ in range(100):
            assert connection.alive()
    assert {chain: _passed(box, chain) for chain in ("dispatch", "own", "source")} == {
        "dispatch": 1,
        "own": 0,
        "source": 1,
    }


def _passed(box, chain):
    listing = json.loads(box.nft(f"list chain inet sluice {chain}"))["nftables"]
    return next(
        expression["counter"]["packets"]
        for rule in (item["rule"] for item in listing if "rule" in item)
        if rule.get("comment") == "passed"
        for expression in rule["expr"]
        if "counter" in expression
    )


def test_without_the_segments_networks_the_connection_would_break(box):
    """What the rule is for: the backend would answer its neighbour directly, and from an unknown address."""
    box.apply(web())
    box.nft("flush set inet sluice near4")
    with box.neighbour.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(PLENTY)
        sock.bind(("", next(box._ports)))
        sock.sendto(b"?", (VIRTUAL[4], 80))
        answer, peer = sock.recvfrom(100)
    assert (peer[0], answer.decode().split()[1]) == (backend_address(1), NEIGHBOUR[4])
