# SPDX-License-Identifier: GPL-2.0-or-later
"""Farms with the forwarding `stateless`: addresses and ports are rewritten both ways, without connection tracking."""

import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from kernel_net import CLIENT, VIRTUAL, Box, Connection, backend_address, expected, farm
from kernel_servers import need

from agent.dataplane import netlink

pytestmark = pytest.mark.kernel

KINDS = {"tcp": socket.IPPROTO_TCP, "sctp": socket.IPPROTO_SCTP}


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


def names(*numbers, family=4):
    return [backend_address(number, family) for number in numbers]


def stateless(*backends, family=4, port=None, **settings):
    made = farm(*backends, family=family, **{"forwarding": "stateless", "protocols": ["tcp", "udp"]} | settings)
    for backend in made["backends"].values() if port else ():
        backend["port"] = port
    return made


def said(sock):
    sock.send(b"?")
    return sock.recv(100).decode().split()[0]


def conntracked():
    return sum(1 for _ in netlink.dump(0x101, b""))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
@pytest.mark.parametrize("port", [None, 8080])
def test_round_robin_is_an_exact_turn_and_ports_are_right_both_ways(box, family, protocol, port):
    need(family, protocol)
    for number in (1, 2):
        box.serve(number, port or 80, family, sctp=protocol == "sctp")
    box.apply({"web": stateless(1, 2, family=family, protocols=[protocol], port=port)})
    assert box.elements() == expected(box.ruleset)
    answers = []
    for _ in range(6):
        if protocol == "udp":
            # Connected: an answer from another address or port would not be taken.
            with box.datagram(family=family) as sock:
                sock.send(b"?")
                answers.append(tuple(sock.recv(100).decode().split()))
        else:
            with box.connect(80, family, protocol=KINDS[protocol]) as connection:
                assert connection.alive()
                answers.append((connection.server, connection.peer))
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
    web = stateless(1, 2, scheduler="weighted")
    two.apply({"web": web})
    draw, stop, changes = random.Random(7), threading.Event(), []

    def change() -> None:
        while not stop.is_set():
            two.apply({"web": web}, {"web": {name: draw.randint(1, 9) for name in ("b1", "b2")}})
            changes.append(1)

    with two.connect() as connection, two.datagram() as sock, ThreadPoolExecutor(1) as changing:
        mine = said(sock)
        done = changing.submit(change)
        try:
            while len(changes) < 300:
                assert connection.alive()
                assert said(sock) == mine
        finally:
            stop.set()
        done.result()
    assert two.counters()["web", "b1"].new + two.counters()["web", "b2"].new == 2


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


def test_udp_of_a_failed_backend_moves_and_tcp_stays_unless_it_is_cut(two):
    web = stateless(1, 2)
    two.apply({"web": web})
    with two.connect() as connection, two.connect() as _, two.datagram() as sock:
        assert connection.server == said(sock) == backend_address(1)
        two.apply({"web": web}, {"web": {"b2": 1}})
        assert said(sock) == backend_address(2)
        assert connection.alive()
        two.apply({"web": web | {"on_failure": "cut"}}, {"web": {"b2": 1}})
        with pytest.raises(ConnectionError):
            connection.alive()


def test_without_a_backend_clients_are_refused(two):
    web = stateless(1)
    two.apply({"web": web}, {"web": {}})
    assert two.refused()
    two.apply({"web": web})
    assert two.ask() == backend_address(1)
    two.apply({})
    assert two.elements() == expected(two.ruleset)
    assert two.refused()


def test_a_new_agent_goes_on(two):
    web = {"web": stateless(1, 2, port=80)}
    two.apply(web)
    with two.connect() as connection, two.datagram() as sock:
        first = said(sock)
        marks = two.ruleset.marks()
        two.adopt()
        assert two.balancer.run(two.kernel.difference, two.compiled(web)) == ""
        two.apply(web)
        assert two.ruleset.marks() == marks
        assert connection.alive()
        assert said(sock) == first


def test_only_answers_of_backends_are_forwarded(two):
    two.apply({"web": stateless(1)})
    listener = two.client.socket()
    listener.bind((CLIENT[4], 7000))
    listener.listen()
    with two.backends.socket() as sock:
        sock.settimeout(0.3)
        sock.bind((backend_address(2), 0))
        with pytest.raises(TimeoutError):
            sock.connect((CLIENT[4], 7000))
    listener.close()


def test_checks_and_farms_of_other_forwardings_go_on_beside_it(two):
    two.serve(1, 81)
    two.apply({"web": stateless(1, 2), "plain": farm(1, ports=(81,)), "other": farm(2, ports=(82,), protocols=["udp"])})
    assert two.ask(81) == backend_address(1)
    with Connection(two.balancer.socket(), backend_address(1), 80) as connection:
        assert connection.alive(), "the appliance's own check of a backend"
    assert two.ask() == backend_address(1)
    with two.balancer.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect((VIRTUAL[4], 80))
