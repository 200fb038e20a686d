# SPDX-License-Identifier: GPL-2.0-or-later
"""The flowtable and the links: they come and go, are VLANs, bridges and bonds, have small MTUs and new neighbours."""

import errno
import socket

import pytest
from kernel_namespaces import add_addresses, add_route
from kernel_net import CLIENT, backend_address, expected, farm, serving, until
from kernel_offload import WEB, alive, flowtables, needed, offloaded, stream
from kernel_peers import Server
from pyroute2 import IPRoute

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    with serving(1, 2, families=(4, 6)) as box:
        yield box


@pytest.fixture
def fast(box):
    return needed(box)


def link(box, verb):
    def change():
        with IPRoute() as netlink:
            netlink.link(verb, ifname="third", **({"kind": "dummy"} if verb == "add" else {}))
            return netlink.link_lookup(ifname="third")

    return box.balancer.run(change)


def test_links_come_and_go(fast):
    both = fast.offered
    fast.apply(WEB)
    assert flowtables(fast) == {"software": ("back,front", "")}
    with fast.connect() as connection:
        for _ in range(2):
            (index,) = link(fast, "add")
            fast.offered = fast.balancer.run(fast.kernel.offer, [*both.links, ("third", index)], False)
            fast.apply(WEB)
            assert flowtables(fast) == {"software": ("back,front,third", "")}
            link(fast, "del")
            assert flowtables(fast) == {"software": ("back,front", "")}, "the kernel has taken it out"
            assert alive(connection)
        fast.offered = fast.balancer.run(fast.kernel.offer, both.links, False)
        fast.apply(WEB)
        assert flowtables(fast) == {"software": ("back,front", "")}
        (index,) = link(fast, "add")
        fast.offered = fast.balancer.run(fast.kernel.offer, [*both.links, ("third", index)], False)
        fast.apply(WEB)
        fast.offered = fast.balancer.run(fast.kernel.offer, both.links, False)
        fast.apply(WEB)
        assert flowtables(fast) == {"software": ("back,front", "")}, "taken out while it is there"
        assert alive(connection)
        assert offloaded(fast) == 1
        assert fast.elements() == expected(fast.ruleset)


def test_a_flowtable_that_somebody_took_away_is_put_back(fast):
    fast.apply(WEB)
    fast.nft("flush chain inet sluice established; delete flowtable inet sluice software")
    (index,) = link(fast, "add")
    fast.offered = fast.balancer.run(fast.kernel.offer, [*fast.offered.links, ("third", index)], False)
    fast.apply(WEB)
    assert flowtables(fast) == {"software": ("back,front,third", "")}
    with fast.connect() as connection:
        assert alive(connection)
        assert offloaded(fast) == 1


def test_what_is_too_large_for_a_link_is_told_to_the_sender(fast):
    def small():
        with IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname="back")[0], mtu=1300)

    fast.balancer.run(small)
    fast.apply({"web": farm(1, protocols=["udp"])})
    with stream(fast) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO: never in fragments
        sock.send(b"x" * 1400)
        until(lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE)
        with pytest.raises(OSError, match="too long"):
            sock.send(b"x" * 1400)
        seen = fast.servers[backend_address(1)].seen[CLIENT[4]]
        sock.send(b"x" * 1200)
        until(lambda: fast.servers[backend_address(1)].seen[CLIENT[4]] > seen)


def test_large_amounts_pass_both_ways(fast):
    fast.apply(WEB)
    with fast.connect() as connection:
        line = b"x" * 60_000 + b"\n"
        for _ in range(5):
            connection._file.write(line)
            got = b""
            while not got.endswith(b"\n"):
                got += connection._file.read(65536)
            assert got == line
        assert offloaded(fast) == 1
    assert fast.counters()["web", "b1"].bytes_out > 5 * 60_000


def wired(box, kind):
    """A third link of the balancer, or what of `kind` is made with it, to a backend: its name and index, and theirs.

    The flowtable knows links, and nothing that is made of them.
    """

    def here():
        with IPRoute() as netlink:
            netlink.link(
                "add", ifname="third", kind="veth", peer={"ifname": "eth1", "net_ns_fd": box.backends.descriptor}
            )
            (index,) = netlink.link_lookup(ifname="third")
            if kind == "vlan":
                netlink.link("add", ifname="made", kind="vlan", link=index, vlan_id=5)
            elif kind == "bridge":
                netlink.link("add", ifname="made", kind="bridge")
            else:
                netlink.link("add", ifname="made", kind="bond", bond_mode=1)
            (made,) = netlink.link_lookup(ifname="made")
            if kind != "vlan":
                netlink.link("set", index=index, master=made)
            netlink.link("set", index=index, state="up")
            return index

    def there():
        with IPRoute() as netlink:
            (index,) = netlink.link_lookup(ifname="eth1")
            netlink.link("set", index=index, state="up")
            if kind == "vlan":
                netlink.link("add", ifname="made", kind="vlan", link=index, vlan_id=5)
            else:
                netlink.link("set", index=index, ifname="made")

    index = box.balancer.run(here)
    box.backends.run(there)
    box.balancer.run(add_addresses, "made", ["10.40.0.1"])
    box.backends.run(add_addresses, "made", ["10.40.0.11"])
    box.backends.run(add_route, "10.20.0.0/24", "10.40.0.1")
    # As `ethernet` of agent/system/links.py has it: a link that is a part of something is no longer one.
    return [("third", index)] if kind == "vlan" else []


@pytest.mark.parametrize("kind", ["vlan", "bridge", "bond"])
def test_what_leaves_by_a_vlan_a_bridge_or_a_bond_arrives_and_is_counted(fast, kind):
    more = wired(fast, kind)
    links = [*((name, index) for name, index in fast.offered.links if name == "front"), *more]
    fast.offered = fast.balancer.run(fast.kernel.offer, links, False)
    assert fast.offered.links
    server = Server(fast.backends, "10.40.0.11", 80)
    try:
        web = farm(1) | {"backends": {"b1": {"address": "10.40.0.11"}}}
        fast.apply({"web": web})
        with fast.connect() as connection:
            assert alive(connection, 10)
            assert offloaded(fast) == 1
            before = fast.counters()["web", "b1"]
            assert alive(connection, 10)
            after = fast.counters()["web", "b1"]
            assert after.packets_in - before.packets_in >= 10
            assert after.packets_out - before.packets_out >= 10
            web["backends"]["b1"]["state"] = "disabled"
            fast.apply({"web": web}, {})
            with pytest.raises(ConnectionResetError):
                connection.alive()
    finally:
        server.close()


def test_a_backend_that_gets_another_mac_keeps_its_connections(fast):
    fast.apply(WEB)

    def another():
        with IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname="eth0")[0], address="02:00:00:00:07:07")

    def ask_again():
        with IPRoute() as netlink:
            (index,) = netlink.link_lookup(ifname="back")
            netlink.neigh("del", dst=connection.server, ifindex=index)

    with fast.connect() as connection:
        assert alive(connection)
        assert offloaded(fast) == 1
        fast.backends.run(another)
        fast.balancer.run(ask_again)
        assert alive(connection, 10)
        assert offloaded(fast) == 1


def test_a_link_that_was_down_goes_on_where_it_was(fast):
    def switch(state):
        with IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname="back")[0], state=state)

    fast.apply(WEB)
    with fast.connect() as connection:
        assert alive(connection)
        fast.balancer.run(switch, "down")
        fast.balancer.run(switch, "up")
        assert alive(connection, 10)
        assert offloaded(fast) == 1
        assert flowtables(fast) == {"software": ("back,front", "")}


def test_what_is_sent_another_way_goes_there_at_once(fast):
    more = wired(fast, "vlan")
    fast.offered = fast.balancer.run(fast.kernel.offer, [*fast.offered.links, *more], False)
    fast.apply({"web": farm(1)})
    arrived = "inet seen { chain in { type filter hook input priority 0; iifname made tcp dport 80 counter; }; }"
    fast.backends.run(fast.command, f"add table {arrived}")
    with fast.connect() as connection:
        assert alive(connection)
        assert offloaded(fast) == 1
        # The backend's address is behind another link from now on.
        fast.balancer.run(add_route, f"{backend_address(1)}/32", "10.40.0.11")
        assert alive(connection, 10)
        assert '"packets": 0' not in fast.backends.run(fast.command, "list table inet seen")
