# SPDX-License-Identifier: GPL-2.0-or-later
"""How backends end, with what is open meanwhile, by forwarding and IP family; every protocol that there is in each."""

import select
from contextlib import ExitStack

import pytest
from kernel_ends import TRACKED, Kind, counted, is_over, put, states, tiers
from kernel_far import has_tunnels
from kernel_net import until
from kernel_servers import need

pytestmark = pytest.mark.kernel


@pytest.fixture(
    scope="module", params=[(way, of) for way in (*TRACKED, "stateless", "direct", "tunnel") for of in (4, 6)], ids=str
)
def network(request):
    """One for all stories of a kind."""
    forwarding, family = request.param
    if forwarding not in TRACKED:
        need(family)
    if forwarding == "tunnel" and not has_tunnels():
        pytest.skip("this kernel has no tunnels; the image's has")
    kind = Kind(forwarding, family)
    yield kind
    kind.close()


@pytest.fixture
def kind(network):
    """Without farms."""
    put(network.box)
    return network


def of(kind, number):
    """All connections of a backend, as `Opened.over` tells them."""
    return {(protocol, kind.name(number)) for protocol in kind.connected}


def test_a_backend_that_starts_slowly_gets_its_part(kind):
    """The first story: a packet that another has left over could take a turn."""
    web = kind.farm(1, 2, slow_start=10)
    for step, turns, share in ((1, 11, 1), (5, 15, 5), (None, 4, 2)):
        put(kind.box, web=web, steps={"b1": step} if step else {})
        assert kind.turn(turns).count(kind.name(1)) == share


def test_a_failed_backend_keeps_connections_and_loses_flows(kind, opened):
    web = kind.farm(1, 2)
    put(kind.box, web=web)
    held = kind.open(opened)
    put(kind.box, "b1", web=web)
    assert held.moved() == dict.fromkeys(map(kind.name, (1, 2)), kind.name(2))
    assert held.over() == set()
    assert set(kind.turn(2)) == {kind.name(2)}
    put(kind.box, web=web)
    assert held.moved() == dict.fromkeys(map(kind.name, (1, 2)), kind.name(2)), "who has moved stays"
    assert set(kind.turn(4)) == {kind.name(1), kind.name(2)}


def test_a_failed_backend_loses_all_where_it_is_cut(kind, opened):
    web = kind.farm(1, 2, on_failure="cut")
    put(kind.box, web=web)
    held = kind.open(opened)
    put(kind.box, "b1", web=web)
    assert held.over() == of(kind, 1)
    assert held.moved() == dict.fromkeys(map(kind.name, (1, 2)), kind.name(2))


def test_a_disabled_backend_loses_all_and_comes_back_as_a_new_one(kind, opened):
    web = kind.farm(1, 2)
    put(kind.box, web=web)
    held = kind.open(opened)
    put(kind.box, web=states(web, b1="disabled"))
    assert held.over() == of(kind, 1)
    assert held.moved() == dict.fromkeys(map(kind.name, (1, 2)), kind.name(2))
    assert set(kind.turn(2)) == {kind.name(2)}
    put(kind.box, web=web)
    assert set(kind.turn(4)) == {kind.name(1), kind.name(2)}


def test_a_draining_backend_keeps_all_until_its_deadline(kind, opened):
    web = kind.farm(1, 2)
    put(kind.box, web=web)
    held = kind.open(opened)
    draining = states(web, b1="drain")
    put(kind.box, web=draining)
    assert held.over() == set()
    assert held.moved() == {name: name for name in map(kind.name, (1, 2))}
    assert set(kind.turn(2)) == {kind.name(2)}
    put(kind.box, web=draining, drained=("b1",))
    assert held.over() == of(kind, 1)
    assert held.moved() == dict.fromkeys(map(kind.name, (1, 2)), kind.name(2))


def test_a_draining_backend_that_fails_keeps_connections(kind, opened):
    web = kind.farm(1, 2)
    put(kind.box, web=web)
    held = kind.open(opened)
    put(kind.box, "b1", web=states(web, b1="drain"))
    assert held.over() == set()
    assert held.moved() == dict.fromkeys(map(kind.name, (1, 2)), kind.name(2))


@pytest.mark.parametrize("on_failure", ["keep", "cut"])
def test_a_backend_that_is_removed_loses_flows_and_what_cannot_be_kept(kind, opened, on_failure):
    put(kind.box, web=kind.farm(1, 2, on_failure=on_failure))
    held = kind.open(opened)
    put(kind.box, web=kind.farm(2, on_failure=on_failure))
    kept = kind.forwarding in TRACKED and on_failure == "keep"
    assert held.over() == (set() if kept else of(kind, 1))
    assert held.moved() == dict.fromkeys(map(kind.name, (1, 2)), kind.name(2))


def test_a_backup_tier_takes_over_and_gives_back(kind, opened):
    web = tiers(kind.farm(1, 2, 3), 1, 2, 2)
    put(kind.box, web=web)
    assert set(kind.turn(2)) == {kind.name(1)}
    put(kind.box, "b1", web=web)
    held = kind.open(opened)
    put(kind.box, web=web)
    assert set(kind.turn(2)) == {kind.name(1)}
    assert held.over() == set()
    assert held.moved() == {name: name for name in map(kind.name, (2, 3))}, "who stands by keeps what it has"
    put(kind.box, "b2", web=web)
    assert held.over() == set()
    assert held.moved() == {kind.name(2): kind.name(1), kind.name(3): kind.name(3)}


def test_the_sorry_server_takes_over_and_gives_flows_back(kind, opened):
    web = kind.farm(1, sorry_servers=[{"address": kind.address(3)}])
    put(kind.box, "b1", web=web)
    connections = [opened.enter_context(kind.connect(protocol)) for protocol in kind.connected]
    assert {connection.server for connection in connections} == {kind.name(3)}
    assert kind.box.ask_udp(family=kind.family) == kind.name(3)
    put(kind.box, web=web)
    assert all(connection.alive() for connection in connections)
    assert kind.box.ask_udp(family=kind.family) == kind.name(1)
    assert set(kind.turn(2)) == {kind.name(1)}


@pytest.mark.parametrize("when_down", ["reject", "drop"])
def test_the_last_backend_leaves_clients_that_are_refused_or_dropped(kind, opened, when_down):
    web = kind.farm(1, when_down=when_down)
    put(kind.box, web=web)
    connection = opened.enter_context(kind.connect())
    sock = opened.enter_context(kind.box.datagram(family=kind.family))
    put(kind.box, web=states(web, b1="disabled"))
    before = counted(kind.box, "discarded")
    sock.send(b"?")
    if when_down == "reject":
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)
        assert kind.box.refused(family=kind.family)
        with pytest.raises(ConnectionError):
            connection.alive()
    else:
        connection.say()
        until(lambda: counted(kind.box, "discarded") >= before + 2)
        assert not select.select([connection._socket, sock], [], [], 0)[0], "neither is told"


def test_clients_that_wait_for_a_dead_backend_reach_another_at_their_next_try(kind, opened):
    """TCP tries again after a second, SCTP after three."""
    web = kind.farm(1, 2)
    kind.silence(opened, 1)
    put(kind.box, "b2", web=web)
    with ExitStack() as waiting:
        answers = [waiting.enter_context(kind.attempt(protocol)) for protocol in kind.connected]
        until(lambda: kind.box.active().get(("web", "b1"), 0) >= len(kind.connected))
        put(kind.box, "b1", web=web)
    assert answers == [[kind.name(2)]] * len(kind.connected)


def test_an_association_that_is_cut_begins_anew_at_once_from_the_same_port(kind, opened):
    need(kind.family, "sctp")
    web = kind.farm(1, 2, on_failure="cut")
    put(kind.box, web=web)
    first = opened.enter_context(kind.connect("sctp", port=40000))
    assert first.alive()
    put(kind.box, "b1" if first.server == kind.name(1) else "b2", web=web)
    if kind.forwarding in TRACKED:
        with pytest.raises(ConnectionResetError):
            first.heard()  # the client that only waits is told, too
    assert is_over(first)
    first.close()
    again = opened.enter_context(kind.connect("sctp", port=40000))
    assert again.server != first.server
    assert again.alive()
