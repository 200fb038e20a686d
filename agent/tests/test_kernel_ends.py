# SPDX-License-Identifier: GPL-2.0-or-later
"""How backends end and what their clients get, with connections that are open meanwhile."""

import json
import select
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from kernel_net import VIRTUAL, Box, backend_address, expected, farm, until
from kernel_peers import Connection

from agent.dataplane import Clients, compile_ruleset
from agent.model import validate
from agent.scheduling import roles, weights

pytestmark = pytest.mark.kernel

BOTH = {"protocols": ["tcp", "udp"]}


@pytest.fixture
def box():
    box = Box()
    for number in (1, 2, 3, 4):
        box.serve(number)
    yield box
    box.close()


def put(box: Box, *failed: str, steps: dict[str, int] | None = None, **farms: dict[str, Any]) -> None:
    """Put these farms in force as the agent does: some backends are unhealthy, some at a step of a slow start."""
    config = validate({"version": 1, "farms": farms})
    known = {
        name: roles(farm, dict.fromkeys(failed, "unhealthy")) for name, farm in config.farms.items() if farm.enabled
    }
    effective = {name: weights(config.farms[name], found, steps) for name, found in known.items()}
    ruleset = compile_ruleset(config, effective, (), box.ruleset or box._adopted, known)
    box.balancer.run(box.kernel.check, ruleset)
    box.balancer.run(box.kernel.apply, ruleset)
    box.ruleset = ruleset


def states(web: dict[str, Any], **changed: str) -> dict[str, Any]:
    """The farm with other states of some backends."""
    backends = {name: {**backend, "state": changed.get(name, "enabled")} for name, backend in web["backends"].items()}
    return {**web, "backends": backends}


def says(sock: socket.socket) -> str:
    """The backend that answers a datagram."""
    sock.send(b"?")
    return sock.recv(100).decode().split()[0]


def counted(box: Box, name: str) -> int:
    """The packets of a counter of the table."""
    listing = json.loads(box.nft(f"list counter inet sluice {name}"))
    return next(item["counter"]["packets"] for item in listing["nftables"] if "counter" in item)


def is_reset(connection: Connection) -> bool:
    """Whether the client is told at its next line that the connection is over."""
    try:
        return not connection.alive()
    except ConnectionResetError:
        return True


def pairs(box: Box, opened: ExitStack, number: int) -> dict[str, tuple[list[Connection], list[socket.socket]]]:
    """So many TCP connections and UDP flows, by the backend that they are with."""
    found: dict[str, tuple[list[Connection], list[socket.socket]]] = {}
    for _ in range(number):
        connection = opened.enter_context(box.connect())
        found.setdefault(connection.server, ([], []))[0].append(connection)
        sock = opened.enter_context(box.datagram())
        found.setdefault(says(sock), ([], []))[1].append(sock)
    return found


def test_a_disabled_backend_loses_all_it_has_at_once_and_is_enabled_as_new(box, opened):
    web = farm(1, 2, **BOTH)
    put(box, web=web)
    connections = [opened.enter_context(box.connect()) for _ in range(4)]
    socks = [opened.enter_context(box.datagram()) for _ in range(4)]
    flows = {sock: says(sock) for sock in socks}
    assert set(flows.values()) == {backend_address(1), backend_address(2)}
    put(box, web=states(web, b1="disabled"))
    assert ("web", "b1") not in box.active()
    assert box.active()["web", "b2"] == 4
    for connection in connections:
        assert is_reset(connection) == (connection.server == backend_address(1))
    assert {says(sock) for sock in socks} == {backend_address(2)}
    assert set(box.turn(4)) == {backend_address(2)}
    put(box, web=web)
    assert sorted(box.turn(4)) == [backend_address(1)] * 2 + [backend_address(2)] * 2
    assert box.elements() == expected(box.ruleset)


def test_the_last_backend_that_is_disabled_leaves_clients_that_are_refused(box, opened):
    put(box, web=farm(1, **BOTH))
    connection = opened.enter_context(box.connect())
    sock = opened.enter_context(box.datagram())
    assert says(sock) == backend_address(1)
    put(box, web=states(farm(1, **BOTH), b1="disabled"))
    assert is_reset(connection)
    with pytest.raises(ConnectionRefusedError):
        says(sock)
    assert box.refused()


def test_a_new_agent_finds_a_disabled_backend_cut_and_leaves_the_others(box, opened):
    web = farm(1, 2)
    put(box, web=states(web, b1="disabled"))
    connection = opened.enter_context(box.connect())
    box.adopt()
    put(box, web=states(web, b1="disabled"))
    assert connection.alive()


@pytest.mark.parametrize("on_failure", ["keep", "cut"])
def test_connections_of_a_failed_backend_are_kept_or_cut_and_flows_always_leave(box, opened, on_failure):
    web = farm(1, 2, on_failure=on_failure, **BOTH)
    put(box, web=web)
    with_backend = pairs(box, opened, 4)
    put(box, "b1", web=web)
    for server, (connections, socks) in with_backend.items():
        lost = server == backend_address(1) and on_failure == "cut"
        assert [is_reset(connection) for connection in connections] == [lost] * len(connections)
        assert [says(sock) for sock in socks] == [backend_address(2)] * len(socks)


def test_a_draining_backend_keeps_all_until_it_fails(box, opened):
    web = farm(1, 2, **BOTH)
    put(box, web=web)
    with_backend = pairs(box, opened, 4)
    connections, socks = with_backend[backend_address(1)]
    draining = states(web, b1="drain")
    put(box, web=draining)
    assert [says(sock) for sock in socks] == [backend_address(1)] * len(socks)
    put(box, "b1", web=draining)
    assert [says(sock) for sock in socks] == [backend_address(2)] * len(socks)
    assert all(connection.alive() for connection in connections)
    put(box, "b1", web={**draining, "on_failure": "cut"})
    assert all(is_reset(connection) for connection in connections)


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
    web = farm(*range(1, len(numbers) + 1), **BOTH, **settings)
    for backend, tier in zip(web["backends"].values(), numbers, strict=True):
        backend["tier"] = tier
    return web


def test_a_backup_tier_takes_over_and_gives_back_without_losing_anything(box, opened):
    web = tiered(1, 2, 2)
    put(box, web=web)
    first = opened.enter_context(box.datagram())
    assert says(first) == backend_address(1)
    assert set(box.turn(3)) == {backend_address(1)}
    put(box, "b1", web=web)
    assert says(first) in (backend_address(2), backend_address(3)), "the flow of the failed one moves"
    second = opened.enter_context(box.datagram())
    backup = says(second)
    connections = [opened.enter_context(box.connect()) for _ in range(2)]
    assert {connection.server for connection in connections} == {backend_address(2), backend_address(3)}
    put(box, web=web)
    assert set(box.turn(3)) == {backend_address(1)}
    assert all(connection.alive() for connection in connections)
    assert says(second) == backup, "who stands by has not failed and keeps its flows"
    put(box, backup.replace("10.30.0.1", "b"), web=web)
    assert says(second) == backend_address(1), "who fails while it stands by loses them"


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
    assert {connection.server, says(sock)} == {backend_address(3, family)}
    assert box.counters()["web", f"!{family}"].new == 2
    assert box.active()["web", f"!{family}"] == 2
    box.adopt()
    put(box, "b1", "b2", web=web)
    assert connection.alive()
    assert box.counters()["web", f"!{family}"].new == 2, "a new agent knows it again"
    put(box, "b2", web=web)
    assert says(sock) == backend_address(1, family), "flows go back"
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
