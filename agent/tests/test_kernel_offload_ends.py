# SPDX-License-Identifier: GPL-2.0-or-later
"""How connections leave the flowtable: they end, rest, are cut; the document, the agent or the flowtable changes."""

import socket
import struct
import threading

import pytest
from kernel_namespaces import set_sysctl
from kernel_net import CLIENT, VIRTUAL, backend_address, expected, farm, serving, until
from kernel_offload import WEB, alive, ask, entries, flowtables, left_out, needed, offloaded, stream
from kernel_peers import PLENTY, Connection

from agent.dataplane import KernelRefused

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    with serving(1, 2, families=(4, 6)) as box:
        yield box


@pytest.fixture
def fast(box):
    return needed(box)


def test_an_idle_connection_leaves_the_flowtable_and_comes_back(fast):
    fast.balancer.run(set_sysctl, "net/netfilter/nf_flowtable_tcp_timeout", "1")
    fast.apply(WEB)
    with fast.connect() as connection:
        assert alive(connection)
        assert offloaded(fast) == 1
        until(lambda: offloaded(fast) == 0)
        (entry,) = entries(fast)
        assert int(entry.split()[4]) > 1000, "it is still known for long"
        assert alive(connection)
        assert offloaded(fast) == 1


def test_a_udp_flow_that_rests_leaves_the_flowtable_and_stays_with_its_backend(fast):
    fast.balancer.run(set_sysctl, "net/netfilter/nf_flowtable_udp_timeout", "1")
    fast.apply(WEB)
    with stream(fast) as sock:
        first = ask(sock)
        until(lambda: offloaded(fast) == 0)
        (entry,) = entries(fast)
        assert 60 < int(entry.split()[4]) <= 120, "the timeout of a flow that went both ways"
        assert {ask(sock) for _ in range(4)} == {first}
        assert offloaded(fast) == 1


def test_datagrams_in_fragments_go_the_long_way_and_all_others_the_short_one(fast):
    fast.apply(WEB)
    with stream(fast) as sock:
        first = ask(sock)
        for _ in range(3):
            sock.send(b"x" * 4000)
            assert sock.recv(100).decode().split()[0] == first
            assert ask(sock) == first
        assert offloaded(fast) == 1
        total = sum(each.bytes_in for each in fast.counters().values())
        assert total > 3 * 4000


def test_one_end_may_close_long_before_the_other(fast):
    fast.apply(WEB)
    with fast.connect() as connection:
        assert alive(connection)
        assert offloaded(fast) == 1
        line = b"x" * 50_000 + b"\n"
        for _ in range(100):
            connection._file.write(line)
        connection._socket.shutdown(socket.SHUT_WR)
        got = 0
        while read := connection._file.read(1 << 20):
            got += len(read)
        assert got == 100 * len(line)
    until(lambda: fast.active() == {})
    assert offloaded(fast) == 0
    assert fast.counters()["web", "b1"].bytes_out > got


def port_31000(box):
    """A connection from a port that may have been used before."""
    sock = box.client.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((CLIENT[4], 31000))
    return Connection(sock, VIRTUAL[4], 80)


def reset(connection):
    connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_reset_ends_it_and_the_port_may_be_used_again(fast):
    fast.apply({"web": farm(1)})
    passed = 0
    for _ in range(3):
        connection = port_31000(fast)
        assert alive(connection)
        assert offloaded(fast) == 1
        assert fast.active() == {("web", "b1"): 1}
        reset(connection)
        until(lambda: fast.active() == {} and offloaded(fast) == 0)
        total = fast.counters()["web", "b1"].bytes_out
        assert total >= passed + 3 * len("still there?\n")
        passed = total


def test_a_failed_backend_takes_along_what_was_reset(fast):
    fast.apply(WEB)
    connection = port_31000(fast)
    held = {backend_address(number): f"b{number}" for number in (1, 2)}[connection.server]
    assert alive(connection)
    reset(connection)
    until(lambda: fast.active() == {})
    fast.apply(WEB, {"web": {name: int(name != held) for name in ("b1", "b2")}})
    with port_31000(fast) as again:
        assert again.server != connection.server


def test_a_short_connection_never_gets_there(fast):
    fast.apply(WEB)
    for _ in range(4):
        with fast.connect() as connection:
            assert connection.alive()
            assert offloaded(fast) == 0


def test_who_was_cut_may_come_again_from_the_same_port_and_is_balanced_anew(fast):
    fast.apply(WEB)

    web = farm(1, 2, protocols=["tcp", "udp"])
    with port_31000(fast) as connection:
        held = {backend_address(number): f"b{number}" for number in (1, 2)}[connection.server]
        assert alive(connection)
        assert offloaded(fast) == 1
        web["backends"][held]["state"] = "disabled"
        other = ({"b1", "b2"} - {held}).pop()
        fast.apply({"web": web}, {"web": {other: 1}})
        with pytest.raises(ConnectionResetError):
            connection.alive()
    with port_31000(fast) as again:
        assert again.server != connection.server
        assert alive(again, 10)
        assert offloaded(fast) == 1


def test_no_line_is_lost_while_the_flowtable_is_replaced_again_and_again(fast):
    fast.serve(1, 81)
    ways = [
        WEB,
        {**WEB, "other": farm(1, ports=(81,), offload=False)},
        {"web": left_out()},
        {"web": left_out(), "other": farm(1, ports=(81,))},
    ]
    fast.apply(WEB)
    stop, failed, lines = threading.Event(), [], [0] * 6
    connections = [fast.connect() for _ in lines]

    def talk(number):
        try:
            while not stop.is_set():
                assert connections[number].alive()
                lines[number] += 1
        except (OSError, AssertionError) as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(len(lines))]
    for thread in threads:
        thread.start()
    for turn in range(40):
        fast.apply(ways[turn % len(ways)])
    fast.apply(WEB)
    stop.set()
    for thread in threads:
        thread.join(2 * PLENTY)
    assert failed == []
    assert min(lines) > 40
    assert all(alive(each) for each in connections)
    assert offloaded(fast) == len(lines)
    before = fast.counters()
    for each in connections:
        each.close()
    until(lambda: fast.active() == {})
    assert all(after.bytes_in >= before[who].bytes_in > 0 for who, after in fast.counters().items())


def test_a_farm_that_leaves_takes_no_connection_with_it(fast):
    fast.serve(1, 81)
    other = {"other": farm(1, ports=(81,))}
    fast.apply(WEB | other)
    with fast.connect() as connection:
        assert alive(connection)
        fast.apply(other)
        assert alive(connection)
        assert offloaded(fast) == 1, "as long as there is a flowtable"
        fast.apply({})
        assert flowtables(fast) == {}
        assert alive(connection)
        assert offloaded(fast) == 0


def test_an_agent_that_starts_with_another_document_takes_out_who_is_left_out_now(fast):
    fast.serve(1, 81)
    fast.serve(1, 82)
    some = {"out": farm(1, ports=(82,), offload=False), "other": farm(1, ports=(81,))}
    fast.apply(WEB | some)
    with fast.connect() as connection, fast.connect(81) as other:
        assert alive(connection)
        assert alive(other)
        assert offloaded(fast) == 2
        fast.adopt()
        fast.apply({"web": left_out()} | some)
        assert alive(connection)
        assert alive(other)
        until(lambda: alive(connection) and alive(other) and offloaded(fast) == 1)
        (entry,) = [line for line in entries(fast) if "OFFLOAD]" in line]
        assert "dport=81 " in entry


@pytest.mark.parametrize(
    "change", [WEB | {"more": farm(2, ports=(83,))}, {"web": left_out(), "more": farm(2, ports=(83,))}]
)
def test_a_change_that_the_kernel_refuses_leaves_the_flowtable_as_it_was(fast, change):
    fast.apply(WEB)
    held, offered = fast.elements(), fast.offered
    with fast.connect() as connection:
        assert alive(connection)
        # A link that went away just now.
        fast.offered = type(offered)(offered.links | {("nowhere", 99)}, False, "")
        with pytest.raises(KernelRefused):
            fast.apply(change)
        assert fast.elements() == held
        assert alive(connection)
        assert offloaded(fast) == 1
        fast.offered = offered
        fast.apply(change)
        assert fast.elements() == expected(fast.ruleset)
        assert alive(connection)
