# SPDX-License-Identifier: GPL-2.0-or-later
"""Ceilings, DSCP and classes of traffic: real packets of farms that ask for them, and of others beside them."""

import socket
import time
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_net import Box, backend_address, expected, farm, until
from kernel_peers import PLENTY

from agent.dataplane.quality import QUALITY

pytestmark = pytest.mark.kernel

SIZE = 1000
HEADERS = {4: 28, 6: 48}
RATE = 800_000
"""Bit/s; 100 000 bytes a second."""
AT_ONCE = RATE // 8 + 65_536
"""Bytes that a ceiling of RATE lets pass before it begins to drop."""


@pytest.fixture
def box():
    box = Box()
    for number in (1, 2):
        for family in (4, 6):
            box.serve(number, family=family)
    yield box
    box.close()


@pytest.fixture(params=[4, 6])
def family(request):
    return request.param


def sniffer(namespace, stack):
    """What comes in at `eth0` of a namespace."""
    sock = namespace.run(socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    namespace.run(sock.bind, ("eth0", 3))
    sock.settimeout(PLENTY)
    return stack.enter_context(sock)


def dscp(sock, mine):
    """The DSCP of the next packet that `mine` knows."""
    while True:
        packet = sock.recv(2000)
        if mine(packet):
            return packet[1] >> 2 if packet[0] >> 4 == 4 else (int.from_bytes(packet[:2], "big") >> 6) & 63


def from_port(port, family):
    at = {4: 20, 6: 40}[family]
    return lambda packet: packet[0] >> 4 == family and int.from_bytes(packet[at : at + 2], "big") == port


def packets_in(box, name):
    """What passed: connection tracking counts what a ceiling drops, too."""
    arrived = sum(each.packets_in for (farm_name, _), each in box.counters().items() if farm_name == name)
    return arrived - dropped(box, name).get("rate_in", 0)


def packets_out(box, name):
    arrived = sum(each.packets_out for (farm_name, _), each in box.counters().items() if farm_name == name)
    return arrived - dropped(box, name).get("rate_out", 0)


def dropped(box, name="web"):
    return box.balancer.run(box.kernel.dropped).get(name, {})


def flood(box, sock, octets, family, name="web", size=SIZE):
    """Send datagrams of so many bytes with headers to a farm: how many. No queue on the way grows beyond a batch."""
    before = packets_in(box, name) + dropped(box, name).get("rate_in", 0)
    number = octets // (size + HEADERS[family])
    for sent in range(1, number + 1):
        sock.send(bytes(size))
        if sent in (1, number) or sent % 100 == 0:
            due = before + sent
            until(lambda due=due: packets_in(box, name) + dropped(box, name).get("rate_in", 0) == due)
    return number


def test_a_ceiling_drops_what_is_above_it_and_counts_it(box, family):
    web = farm(1, 2, family=family, protocols=["tcp", "udp"], rate_in=RATE)
    box.apply({"web": web})
    size = SIZE + HEADERS[family]
    begun = time.monotonic()
    with box.datagram(family=family) as sock:
        sent = flood(box, sock, 2 * AT_ONCE, family)
        # While the socket is open: behind it, the client's ICMP to answers that come late would be counted, too.
        passed = packets_in(box, "web")
        assert dropped(box) == {"rate_in": sent - passed}
    seconds = time.monotonic() - begun
    assert AT_ONCE // size <= passed <= (AT_ONCE + seconds * RATE / 8) / size + 2


def test_a_ceiling_is_one_for_all_backends_and_both_families(box):
    backends = farm(1, 2)["backends"] | {"b3": {"address": backend_address(1, 6)}}
    web = farm(1, 2, protocols=["udp"], rate_in=RATE) | {"addresses": ["10.20.0.100", "fd00:20::100"]}
    box.apply({"web": web | {"backends": backends}})
    begun = time.monotonic()
    with ExitStack() as stack:
        for family in (4, 6, 4):
            flood(box, stack.enter_context(box.datagram(family=family)), AT_ONCE * 2 // 5, family)
    passed = packets_in(box, "web")
    assert len([each for each in box.counters().values() if each.packets_in]) == 3
    assert passed * (SIZE + HEADERS[6]) >= AT_ONCE - 2 * SIZE
    assert passed * (SIZE + HEADERS[4]) <= AT_ONCE + (time.monotonic() - begun) * RATE / 8 + 2 * SIZE


def test_a_ceiling_on_answers_and_farms_beside_it(box, family):
    box.serve(1, 81, family)
    settings = {"family": family, "protocols": ["tcp", "udp"]}
    box.apply({"web": farm(1, rate_out=64_000, **settings), "free": farm(1, ports=(81,), **settings)})
    for name, port in (("web", 80), ("free", 81)):
        with box.datagram(port, family) as sock:
            for sent in range(100, 3100, 100):
                for _ in range(100):
                    sock.send(b"?")
                until(lambda due=sent, name=name: packets_out(box, name) + dropped(box, name).get("rate_out", 0) == due)
    assert set(dropped(box)) == {"rate_out"}
    assert dropped(box)["rate_out"] > 100
    assert dropped(box, "free") == {}
    with box.connect(80, family) as connection:
        assert connection.alive()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_packets_are_marked_in_each_direction(box, family, protocol):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    web = farm(1, family=family, protocols=["tcp", "udp"], dscp_in="af41", dscp_out=46)
    box.apply({"web": web, "plain": farm(1, family=family, ports=(81,), protocols=["tcp", "udp"])})
    box.serve(1, 81, family)
    for port, marks in ((80, [34, 46]), (81, [0, 0])):
        with ExitStack() as stack:
            at_backend, at_client = sniffer(box.backends, stack), sniffer(box.client, stack)
            if kind == socket.SOCK_STREAM:
                connection = stack.enter_context(box.connect(port, family))
                assert connection.alive()
                source = connection.port
            else:
                sock = stack.enter_context(box.datagram(port, family))
                source = sock.getsockname()[1]
                sock.send(b"?")
                assert sock.recv(100)
            found = [dscp(at_backend, from_port(source, family)), dscp(at_client, from_port(port, family))]
            assert found == marks


def test_it_comes_and_goes_with_those_who_want_it(box):
    box.serve(2, 81)
    graded = farm(1, rate_in="20M", rate_out="1G", dscp_in=10, dscp_out=10, traffic_class="bulk")
    steps = [
        {"web": farm(1)},
        {"web": graded},
        {"web": graded, "other": farm(2, ports=(81,), traffic_class="interactive")},
        {"web": graded | {"rate_in": "30M", "dscp_out": "ef"}, "other": farm(2, ports=(81,))},
        {"other": farm(2, ports=(81,), dscp_in=1)},
        {"other": farm(2, ports=(81,))},
    ]
    for farms in steps:
        box.apply(farms)
        assert box.elements() == expected(box.ruleset)
        assert (QUALITY in box.ruleset.chains) == any(each.packet_features() for each in parts(box))
        assert box.refused(80) == ("web" not in farms)
        box.adopt()
        box.ruleset = box.compiled(farms)
        assert box.balancer.run(box.kernel.difference, box.ruleset) == ""
        box.balancer.run(box.kernel.apply, box.ruleset)


def parts(box):
    return [part.farm for part in box.ruleset.parts.values()]


def test_the_counter_of_what_is_dropped_goes_on_with_another_agent(box):
    web = farm(1, protocols=["udp"], rate_in=64_000)
    box.apply({"web": web})
    with box.datagram() as sock:
        flood(box, sock, AT_ONCE, 4)
    before = box.balancer.run(box.kernel.dropped)
    assert before["web"]["rate_in"] > 0
    box.adopt()
    box.apply({"web": web})
    assert box.balancer.run(box.kernel.dropped) == before
    box.apply({"web": farm(1)})
    assert box.balancer.run(box.kernel.dropped) == {}


def test_no_connection_is_lost_while_it_comes_and_goes(box):
    choices = [{}, {"rate_out": "1G"}, {"dscp_in": 46}, {"dscp_in": 46, "traffic_class": "bulk", "rate_in": "1G"}]
    box.apply({"web": farm(1, 2)})
    clients = box.load(8)
    for number in range(60):
        box.apply({"web": farm(1, 2, **choices[number % 4])})
    served, failures = clients.stop()
    assert failures == []
    assert served > 60


@settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(st.sampled_from([{}, {"rate_in": "1M"}, {"rate_in": "2M", "dscp_in": 3}, {"dscp_out": 3},
    {"traffic_class": "bulk"}, None]), min_size=3, max_size=3), min_size=1, max_size=5))  # fmt: skip
def test_any_sequence_of_changes_leaves_what_the_last_document_says(box, sequence):
    for step in sequence:
        box.apply({
            f"farm-{number}": farm(1, ports=(80 + number,), **wanted)
            for number, wanted in enumerate(step) if wanted is not None
        })  # fmt: skip
        assert box.elements() == expected(box.ruleset)
