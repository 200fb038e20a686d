# SPDX-License-Identifier: GPL-2.0-or-later
"""How backends end and what their clients get, with connections that are open meanwhile."""

import select
import socket
from typing import Any

import pytest
from kernel_ends import counted, is_over, put, states, tiers
from kernel_flows import said
from kernel_net import VIRTUAL, Box, backend_address, expected, farm, until

from agent.dataplane import Clients

pytestmark = pytest.mark.kernel

BOTH = {"protocols": ["tcp", "udp"]}


@pytest.fixture
def box():
    box = Box()
    for number in (1, 2, 3, 4):
        box.serve(number)
    yield box
    box.close()


def test_a_disabled_backend_loses_all_it_has_at_once_and_is_enabled_as_new(box, opened):
    web = farm(1, 2, **BOTH)
    put(box, web=web)
    connections = [opened.enter_context(box.connect()) for _ in range(4)]
    socks = [opened.enter_context(box.datagram()) for _ in range(4)]
    flows = {sock: said(sock) for sock in socks}
    assert set(flows.values()) == {backend_address(1), backend_address(2)}
    put(box, web=states(web, b1="disabled"))
    assert ("web", "b1") not in box.active()
    assert box.active()["web", "b2"] == 4
    for connection in connections:
        assert is_over(connection) == (connection.server == backend_address(1))
    assert {said(sock) for sock in socks} == {backend_address(2)}
    assert set(box.turn(4)) == {backend_address(2)}
    put(box, web=web)
    assert sorted(box.turn(4)) == [backend_address(1)] * 2 + [backend_address(2)] * 2
    assert box.elements() == expected(box.ruleset)


def test_the_last_backend_that_is_disabled_leaves_clients_that_are_refused(box, opened):
    put(box, web=farm(1, **BOTH))
    connection = opened.enter_context(box.connect())
    sock = opened.enter_context(box.datagram())
    assert said(sock) == backend_address(1)
    put(box, web=states(farm(1, **BOTH), b1="disabled"))
    assert is_over(connection)
    with pytest.raises(ConnectionRefusedError):
        said(sock)
    assert box.refused()


def test_a_new_agent_finds_a_disabled_backend_cut_and_leaves_the_others(box, opened):
    web = farm(1, 2)
    put(box, web=states(web, b1="disabled"))
    connection = opened.enter_context(box.connect())
    box.adopt()
    put(box, web=states(web, b1="disabled"))
    assert connection.alive()


class Capture:
    """Every packet that reaches the client from an address."""

    def __init__(self, box: Box, address: str) -> None:
        self._socket = box.client.run(socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        self._address = socket.inet_aton(address)

    def packets(self) -> int:
        number = 0
        while select.select([self._socket], [], [], 0)[0]:
            packet = self._socket.recv(2048)
            number += packet[12:16] == self._address
        return number

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_farm_that_drops_answers_nothing_at_all(box, opened, kind):
    put(box, web=farm(1, when_down="drop", **BOTH))
    assert box.ask() == backend_address(1)
    put(box, "b1", web=farm(1, when_down="drop", **BOTH))
    capture = Capture(box, VIRTUAL[4])
    opened.callback(capture.close)
    before = counted(box, "discarded")
    sock = opened.enter_context(box.client.socket(kind=kind))
    sock.setblocking(False)
    sock.connect_ex((VIRTUAL[4], 80))
    if kind == socket.SOCK_DGRAM:
        sock.send(b"?")
        sock.send(b"?")
    # Of TCP the first try and the second, a second later: what would have been answered has been by then.
    until(lambda: counted(box, "discarded") == before + 2)
    assert capture.packets() == 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    put(box, "b1", web=farm(1, **BOTH))
    assert box.refused()
    assert capture.packets() > 0
    put(box, web=farm(1, when_down="drop", **BOTH))
    assert box.ask() == backend_address(1)


def tiered(*numbers: int, **settings: Any) -> dict[str, Any]:
    """A farm of b1, b2, ... in these tiers."""
    return tiers(farm(*range(1, len(numbers) + 1), **BOTH, **settings), *numbers)


def test_tiers_are_opened_until_enough_take_connections(box):
    web = tiered(1, 1, 2, 3, minimum_active=2)
    put(box, web=web)
    assert set(box.turn(4)) == {backend_address(1), backend_address(2)}
    put(box, "b1", web=web)
    assert set(box.turn(4)) == {backend_address(2), backend_address(3)}
    put(box, "b1", "b3", web=web)
    assert set(box.turn(4)) == {backend_address(2), backend_address(4)}


def test_by_priority_one_takes_all_and_hands_over(box):
    web = farm(1, 2, 3, scheduler="priority")
    put(box, web=web)
    assert set(box.turn(3)) == {backend_address(1)}
    put(box, "b1", web=web)
    assert set(box.turn(3)) == {backend_address(2)}
    put(box, web=web)
    assert set(box.turn(3)) == {backend_address(1)}
    assert box.elements() == expected(box.ruleset)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
def test_the_sorry_server_answers_while_nobody_else_does(box, opened, family, forwarding):
    box.serve(3, port=8080, family=family)
    if family == 6:
        for number in (1, 2):
            box.serve(number, family=6)
    sorry = {"address": backend_address(3, family), "port": 8080}
    web = farm(1, 2, family=family, forwarding=forwarding, sorry_servers=[sorry], when_down="drop", **BOTH)
    put(box, web=web)
    assert set(box.turn(4, family=family)) == {backend_address(1, family), backend_address(2, family)}
    assert box.counters()["web", f"!{family}"].new == 0
    put(box, "b1", "b2", web=web)
    connection = opened.enter_context(box.connect(family=family))
    sock = opened.enter_context(box.datagram(family=family))
    assert {connection.server, said(sock)} == {backend_address(3, family)}
    assert box.counters()["web", f"!{family}"].new == 2
    assert box.active()["web", f"!{family}"] == 2
    box.adopt()
    put(box, "b1", "b2", web=web)
    assert connection.alive()
    assert box.counters()["web", f"!{family}"].new == 2, "a new agent knows it again"
    put(box, "b2", web=web)
    assert said(sock) == backend_address(1, family), "flows go back"
    assert set(box.turn(4, family=family)) == {backend_address(1, family)}
    assert connection.alive(), "TCP connections end by themselves"
    assert box.elements() == expected(box.ruleset)


def test_a_farm_of_both_families_has_a_sorry_server_for_each(box):
    for number, family in ((1, 6), (3, 6)):
        box.serve(number, family=family)
    web = farm(1)
    web["addresses"] = list(VIRTUAL.values())
    web["backends"]["six"] = {"address": backend_address(1, 6)}
    web["sorry_servers"] = [{"address": backend_address(3, family)} for family in (6, 4)]

    def who():
        return box.ask(family=4), box.ask(family=6)

    put(box, web=web)
    assert who() == (backend_address(1, 4), backend_address(1, 6))
    put(box, "six", web=web)
    assert who() == (backend_address(1, 4), backend_address(3, 6))
    put(box, "six", "b1", web=web)
    assert who() == (backend_address(3, 4), backend_address(3, 6))
    box.adopt()
    put(box, "b1", web=web)
    assert who() == (backend_address(3, 4), backend_address(1, 6))
    counters = box.counters()
    assert (counters["web", "!4"].new, counters["web", "!6"].new) == (2, 2), "a new agent knows them again"
    assert box.elements() == expected(box.ruleset)


def test_a_backend_that_starts_slowly_gets_little_and_no_connection_is_lost(box):
    web = farm(1, 2, slow_start=10)
    put(box, "b1", web=web)
    clients = box.load(4)
    for step in (*range(1, 10), None):
        put(box, web=web, steps={"b1": step} if step else {})
    served, failures = clients.stop()
    assert failures == []
    assert served > 0
    put(box, web=web, steps={"b1": 1})
    assert box.turn(11).count(backend_address(1)) == 1
    put(box, web=web, steps={"b1": 5})
    assert box.turn(15).count(backend_address(1)) == 5
    put(box, web=web)
    assert box.turn(4).count(backend_address(1)) == 2


@pytest.mark.parametrize("scheduler", ["round-robin", "source-hash"])
def test_a_client_that_is_remembered_follows_tiers_and_the_sorry_server(box, scheduler):
    sorry = {"address": backend_address(4)}
    web = tiered(1, 2, persistence="address", sorry_servers=[sorry], scheduler=scheduler)
    put(box, web=web)
    assert set(box.turn(2)) == {backend_address(1)}
    put(box, "b1", web=web)
    assert set(box.turn(2)) == {backend_address(2)}
    put(box, "b1", "b2", web=web)
    assert set(box.turn(2)) == {backend_address(4)}
    (client,) = box.balancer.run(Clients().remembered, box.ruleset, "web")
    assert client.backend == "sorry server"
    put(box, web=web)
    assert set(box.turn(2)) == {backend_address(1)}
    assert box.elements() == expected(box.ruleset)


def test_a_backend_that_was_removed_while_no_agent_ran_is_cut_if_the_farm_says_so(box, opened):
    """What the kernel holds does not say whether; the farm that is there now does."""
    put(box, web=farm(1, 2, on_failure="cut"), other=farm(1, 2, ports=(81,)))
    box.serve(1, 81)
    box.serve(2, 81)
    connections = [opened.enter_context(box.connect(port)) for port in (80, 80, 81, 81)]
    box.adopt()
    put(box, web=farm(2, on_failure="cut"), other=farm(2, ports=(81,)))
    assert [is_over(connection) for connection in connections] == [True, False, False, False]
