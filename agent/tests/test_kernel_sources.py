# SPDX-License-Identifier: GPL-2.0-or-later
"""Source pools: whom backends see, that all of a pool is used, and what becomes of connections when it changes."""

import asyncio
import socket
from collections import Counter
from ipaddress import ip_address

import pytest
from kernel_namespaces import add_addresses
from kernel_net import BALANCER, CLIENT, FRONT, VIRTUAL, Box, expected, farm
from kernel_peers import PLENTY, Connection
from pyroute2 import IPRoute

from agent.controller.host import Host
from agent.dataplane import compile_ruleset, conntrack
from agent.model import validate
from agent.system.links import placed_addresses, read_links

pytestmark = pytest.mark.kernel

POOL = {
    4: ["10.30.0.200", "10.30.0.201", "10.30.0.230"],
    6: ["fd00:30::200", "fd00:30::201", "fd00:30::230"],
}
RANGES = {
    4: ["10.30.0.200-10.30.0.201", "10.30.0.230"],
    6: ["fd00:30::200/127", "fd00:30::230"],
}
LAST_LOW = 511
"""Connections from ports up to this one keep to such ports (nf_nat_core.c), so that few of them use up an address."""
SECOND = "10.20.0.11"
"""Another client."""

both_families = pytest.mark.parametrize("family", [4, 6])


class Answering(Box):
    """The network, whose balancer answers for its farms' addresses as the appliance does."""

    def apply(self, farms, *arguments, **settings):
        super().apply(farms, *arguments, **settings)
        self.settle(farms)

    def settle(self, farms):
        """Give the links the addresses that farms want, and take away what nobody needs."""
        config = validate({"version": 1, "farms": farms})
        troubles = self.balancer.run(lambda: asyncio.run(self._configure(config)))
        assert {each.code for each in troubles} == {"link-none"}, "a namespace has no Ethernet links"

    @staticmethod
    async def _configure(config):
        host = Host(None)
        try:
            return await host.configure(config)
        finally:
            host.close()

    def placed(self):
        """The addresses that links have for farms."""
        return {str(each) for each in self.balancer.run(lambda: placed_addresses(read_links()))}

    def seen(self, number, family=4, **settings):
        """Whom the backends see in so many connections, one after another."""
        peers = []
        for _ in range(number):
            with self.connect(family=family, **settings) as connection:
                peers.append(connection.peer)
        return peers


@pytest.fixture
def box():
    box = Answering()
    for number in (1, 2):
        for family in (4, 6):
            box.serve(number, family=family)
    box.client.run(add_addresses, "eth0", [SECOND])
    yield box
    box.close()


def web(family=4, pool=None, **settings):
    settings = {"protocols": ["tcp", "udp"], "forwarding": "snat"} | settings
    return {"web": farm(1, 2, family=family, source_pool=RANGES[family] if pool is None else pool, **settings)}


@both_families
def test_backends_see_each_address_of_the_pool_in_turn(box, family):
    box.apply(web(family))
    assert Counter(box.seen(9, family)) == dict.fromkeys(POOL[family], 3)
    asked = Counter()
    for _ in range(9):
        with box.datagram(family=family) as sock:
            sock.send(b"?")
            asked[sock.recv(100).decode().split()[1]] += 1
    assert asked == dict.fromkeys(POOL[family], 3)
    assert box.elements() == expected(box.ruleset)


def test_other_farms_and_the_other_family_see_what_they_saw(box):
    both = farm(1)
    six = farm(1, family=6)
    both = both | {
        "addresses": [VIRTUAL[4], VIRTUAL[6]],
        "backends": both["backends"] | {"six": six["backends"]["b1"]},
        "forwarding": "snat",
        "source_pool": POOL[6][:1],
    }
    box.serve(1, 81)
    box.serve(1, 82)
    box.apply({"web": both, "plain": farm(1, ports=(81,)), "masked": farm(1, ports=(82,), forwarding="snat")})
    assert box.seen(2, 6) == POOL[6][:1] * 2
    assert box.seen(2, 4) == [BALANCER[4]] * 2
    assert box.seen(1, port=81) == [CLIENT[4]]
    assert box.seen(1, port=82) == [BALANCER[4]]


def test_no_chain_is_there_for_farms_without_a_pool(box):
    box.apply(web(pool=[]))
    assert not [name for name in box.elements()["chains"] if name.startswith("pool")]
    assert box.elements()["pooled"] == {}


def forget_neighbours():
    """Let the namespace that this is called in ask anew who has an address."""
    with IPRoute() as netlink:
        for each in netlink.get_neighbours():
            netlink.neigh("del", dst=each.get_attr("NDA_DST"), ifindex=each["ifindex"], family=each["family"])


@both_families
def test_open_connections_keep_their_source_while_the_pool_changes_and_goes(box, family):
    box.apply(web(family))
    with box.connect(family=family) as first:
        assert first.peer in POOL[family]
        assert box.placed() == set(POOL[family])
        left = [address for address in POOL[family] if address != first.peer]
        box.apply(web(family, pool=left[:1]))
        with box.connect(family=family) as second:
            assert second.peer == left[0]
            box.apply(web(family, pool=[]))
            assert box.seen(2, family) == [BALANCER[family]] * 2
            assert box.elements() == expected(box.ruleset)
            # What they see is still answered for, and what nobody sees is not.
            assert box.placed() == {first.peer, second.peer}
            box.backends.run(forget_neighbours)
            assert first.alive()
            assert second.alive()
    box.balancer.run(conntrack.forget, (), cut=box.ruleset.marks().keys())
    box.settle(web(family, pool=[]))
    assert box.placed() == set()


def test_it_is_asked_again_whether_an_address_is_still_needed(box, monkeypatch):
    monkeypatch.setattr("agent.controller.host.LINGER", 0.01)
    box.apply(web())

    async def asked_again():
        host, again = Host(None), asyncio.Event()
        host.watch(again.set)
        # Nothing changes here, of which the kernel would tell.
        await host.configure(validate({"version": 1}))
        try:
            await asyncio.wait_for(again.wait(), PLENTY)
        finally:
            host.close()

    with box.connect() as connection:
        box.apply(web(pool=[]))
        box.balancer.run(lambda: asyncio.run(asked_again()))
        assert box.placed() == {connection.peer}


def test_the_gui_does_not_answer_where_an_address_only_lingers():
    there = [ip_address(POOL[4][0])]
    ruleset = compile_ruleset(validate({"version": 1}), {}, placed=there)
    assert [*ruleset.common["virtual4"]] == [POOL[4][0]]
    assert not compile_ruleset(validate({"version": 1}), {}, there, placed=there).common["virtual4"]


def test_a_new_agent_goes_on_with_the_pool(box):
    box.apply(web())
    with box.connect() as connection:
        first = connection.peer
        box.adopt()
        ruleset = box.compiled(web())
        assert box.balancer.run(box.kernel._commands, ruleset) == []
        box.apply(web())
        # The turn goes on, too.
        assert [first, *box.seen(2)] == POOL[4]
        assert connection.alive()
        box.adopt()
        box.apply(web(pool=[]))
        assert box.elements() == expected(box.ruleset)
        assert box.seen(1) == [BALANCER[4]]


def test_a_backend_that_comes_is_elements_only(box):
    box.apply({"web": farm(1, forwarding="snat", source_pool=RANGES[4])})
    ruleset = box.compiled({"web": farm(1, 2, forwarding="snat", source_pool=RANGES[4])})
    commands = box.balancer.run(box.kernel._commands, ruleset)
    assert "pooled" in {command.set_name for command in commands}
    assert not any(command.structural for command in commands)


def low(box, source, port, tries=1):
    """Whom the backend sees in a datagram of one client, from a port of its own choice."""
    with box.client.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(PLENTY)
        sock.bind((source, port))
        sock.connect((VIRTUAL[4], 80))
        for _ in range(tries):
            sock.send(b"?")
        return sock.recv(100).decode().split()[1]


def test_who_finds_no_free_port_gets_the_next_address_at_the_next_try(box):
    settings = {"protocols": ["udp"], "forwarding": "snat"}
    box.apply({"web": farm(1, source_pool=POOL[4][:1], **settings)})
    # Flows that are known: they need no socket any more.
    assert {low(box, CLIENT[4], port) for port in range(1, LAST_LOW + 1)} == {POOL[4][0]}
    box.apply({"web": farm(1, source_pool=POOL[4][:2], **settings)})
    # The first try draws the address that is full, and is lost.
    assert [low(box, SECOND, port, tries=2) for port in (7, 8, 9)] == [POOL[4][1]] * 3
    assert low(box, CLIENT[4], LAST_LOW) == POOL[4][0], "a flow that is known stays as it is"


def test_a_virtual_address_can_be_the_pool(box):
    box.apply(web(pool=[VIRTUAL[4]]))
    assert box.seen(4) == [VIRTUAL[4]] * 4
    assert box.ask_udp()
    # And an address of a link, too.
    box.apply(web(pool=[FRONT[4]]), own=[FRONT[4], BALANCER[4]])
    assert box.seen(2) == [FRONT[4]] * 2


def test_the_appliance_itself_uses_the_pool_and_nobody_serves_there(box):
    box.apply(web(pool=POOL[4][:1]))
    with Connection(box.balancer.socket(), VIRTUAL[4], 80) as connection:
        assert connection.peer == POOL[4][0]
    assert box.refused(443, address=POOL[4][0])
