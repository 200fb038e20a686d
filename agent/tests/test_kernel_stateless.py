# SPDX-License-Identifier: GPL-2.0-or-later
"""Farms with the forwarding `stateless`: addresses and ports are rewritten both ways, without connection tracking."""

import socket
import struct

import pytest
from kernel_flows import (
    ask,
    conntracked,
    go_on_with_a_new_agent,
    outlive_a_lapse_of_the_links_address,
    stay_while_weights_change,
)
from kernel_net import CLIENT, FRONT, VIRTUAL, Box, backend_address, expected, farm, names
from kernel_peers import PLENTY, Connection
from kernel_servers import need

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    box = Box()
    yield box
    box.close()


@pytest.fixture
def two(box):
    box.serve(1)
    box.serve(2)
    return box


def stateless(*backends, family=4, port=None, **settings):
    made = farm(*backends, family=family, **{"forwarding": "stateless", "protocols": ["tcp", "udp"]} | settings)
    for backend in made["backends"].values() if port else ():
        backend["port"] = port
    return made


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
@pytest.mark.parametrize("port", [None, 8080])
def test_round_robin_is_an_exact_turn_and_ports_are_right_both_ways(box, family, protocol, port):
    need(family, protocol)
    for number in (1, 2):
        box.serve(number, port or 80, family, sctp=protocol == "sctp")
    box.apply({"web": stateless(1, 2, family=family, protocols=[protocol], port=port)})
    assert box.elements() == expected(box.ruleset)
    answers = [ask(box, protocol, family=family) for _ in range(6)]
    assert answers == [(name, CLIENT[family]) for name in names(1, 2, family=family) * 3]
    counters = box.counters()
    assert [counters["web", name].new for name in ("b1", "b2")] == [3, 3]
    assert all(each.bytes_in > 0 and each.bytes_out > 0 and each.packets_out >= 3 for each in counters.values())
    assert box.active() == {("web", "b1"): 3, ("web", "b2"): 3}
    assert box.balancer.run(conntracked) == 0, "connection tracking knows nothing of it"


def test_several_ports_stay_as_they_are(box):
    for number in (1, 2):
        for port in (80, 81):
            box.serve(number, port)
    box.apply({"web": stateless(1, 2, ports=(80, 81))})
    assert [box.ask(80), box.ask(81), box.ask_udp(81)] == names(1, 2, 1)
    assert box.refused(82)


def test_no_packet_of_a_flow_goes_elsewhere_while_weights_change(two):
    stay_while_weights_change(two, stateless(1, 2, scheduler="weighted"))


def test_both_sides_hear_that_the_other_closes(two):
    two.apply({"web": stateless(1, 2)})
    with two.connect() as connection:
        connection._socket.shutdown(socket.SHUT_WR)
        assert connection._file.readline() == b"", "the server closes in return"
    two.apply({"web": stateless(3, port=9)})
    assert two.refused(), "a reset of a backend where nothing listens comes from the virtual address"


def test_bulk_arrives_whole_in_both_directions(two):
    """Large segments, as the kernel joins and splits them; a server's lines are at most 64 KiB."""
    two.apply({"web": stateless(1, 2)})
    line = bytes(range(32, 127)) * 600 + b"\n"
    with two.connect() as connection:
        for _ in range(20):
            connection._file.write(line)
            assert connection._file.readline() == line


def test_without_a_backend_clients_are_refused(two):
    web = stateless(1)
    two.apply({"web": web}, {"web": {}})
    assert two.refused()
    two.apply({"web": web})
    assert two.ask() == backend_address(1)
    two.apply({})
    assert two.elements() == expected(two.ruleset)
    assert two.refused()


def test_connections_outlive_a_lapse_of_the_links_address(two):
    outlive_a_lapse_of_the_links_address(two, stateless(1, 2, protocols=["tcp"]))


def test_a_new_agent_goes_on(two):
    go_on_with_a_new_agent(two, {"web": stateless(1, 2, port=80)})


def test_only_answers_of_backends_are_forwarded(two):
    def attempt(number, seconds):
        with two.backends.socket() as sock:
            sock.settimeout(seconds)
            sock.bind((backend_address(number), 0))
            sock.connect((CLIENT[4], 7000))

    def accepted():
        listener.settimeout(PLENTY)
        sock, (address, _) = listener.accept()
        sock.close()
        return address

    with two.client.socket() as listener:
        listener.bind((CLIENT[4], 7000))
        listener.listen()
        attempt(1, PLENTY)
        assert accepted() == backend_address(1), "while there are no rules the way is open"
        two.apply({"web": stateless(1)})
        for number in (1, 2):
            with pytest.raises(TimeoutError):
                attempt(number, 0.3)  # a SYN that is forwarded is answered within a millisecond
        with two.balancer.socket() as sock:
            sock.settimeout(PLENTY)
            sock.connect((CLIENT[4], 7000))
        assert accepted() == FRONT[4], "the listener goes on, and has heard of nobody before"


def test_nobody_speaks_as_a_backend_from_another_link(two):
    """Answers are rewritten and forwarded where they come from the backend's own link only."""
    two.apply({"web": stateless(1, protocols=["udp"])})
    with two.backends.socket(kind=socket.SOCK_DGRAM) as victim:
        victim.bind((backend_address(2), 514))
        two.client.run(_spoof, backend_address(1), 80, (backend_address(2), 514))
        assert two.ask_udp() == backend_address(1), "what was sent before it has come by, too"
        victim.setblocking(False)
        with pytest.raises(BlockingIOError):
            victim.recv(100)


def _spoof(source, port, target):
    """A datagram that claims to come from another."""
    packet = struct.pack("!HHHH", port, target[1], 8, 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 1, 0, 64, socket.IPPROTO_UDP, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(head + socket.inet_aton(source) + socket.inet_aton(target[0]) + packet, target)


def test_checks_and_farms_of_other_forwardings_go_on_beside_it(two):
    two.serve(1, 81)
    two.apply({"web": stateless(1, 2), "plain": farm(1, ports=(81,)), "other": farm(2, ports=(82,), protocols=["udp"])})
    assert two.ask(81) == backend_address(1)
    with Connection(two.balancer.socket(), backend_address(1), 80) as connection:
        assert connection.alive(), "the appliance's own check of a backend"
    assert two.ask() == backend_address(1)
    with two.balancer.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect((VIRTUAL[4], 80))
