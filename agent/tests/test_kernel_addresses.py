# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual addresses in a real kernel, and what a neighbour on the wire sees of them."""

import asyncio
import ctypes
import functools
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD

from agent.system.addresses import VirtualAddresses, plan
from agent.system.announce import frames
from agent.system.links import Watch, networks, read_links

pytestmark = pytest.mark.kernel

SOON = 30
OURS, PEER = "lan0", "peer0"
VIP4, VIP6 = ip_address("192.0.2.50"), ip_address("2001:db8::50")


@pytest.fixture
def namespace():
    """Runs a test's coroutine in a network namespace of its own, with two ends of a cable in it: `lan0` and `peer0`."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter():
        if libc.unshare(0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "unshare: needs root")
        # A link that is being born in this namespace must not announce itself or look for doubles meanwhile.
        Path("/proc/sys/net/ipv6/conf/default/dad_transmits").write_text("0")
        with IPRoute() as netlink:
            netlink.link("add", ifname=OURS, kind="veth", peer={"ifname": PEER})
            for name in ("lo", PEER, OURS):
                netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
            index = netlink.link_lookup(ifname=OURS)[0]
            netlink.addr("add", index=index, address="192.0.2.1", prefixlen=24)
            netlink.addr("add", index=index, address="2001:db8::1", prefixlen=64, flags=IFA_F_NODAD)

    # The namespace is the thread's: the event loop runs in it, and so do the threads that it starts.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(enter).result()
        yield lambda story: thread.submit(asyncio.run, limited(story)).result()


async def limited(story):
    async with asyncio.timeout(SOON):
        await story()


def in_namespace(story):
    @functools.wraps(story)
    def test(namespace):
        namespace(story)

    del test.__wrapped__
    return test


def link(name=OURS):
    return next(each for each in read_links() if each.name == name)


def ours():
    return {found.interface.ip for found in link().addresses if found.ours}


def everything():
    return {str(found.interface) for found in link().addresses if not found.interface.is_link_local}


OWN = {"192.0.2.1/24", "2001:db8::1/64"}


class Wire:
    """What arrives at the other end of the cable."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
        self._socket.bind((PEER, 0))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._socket.close()

    async def sees(self, expected):
        """Wait until every one of the expected frames was seen; all that came in the meantime."""
        missing, came = list(expected), []
        while missing:
            frame = await asyncio.get_running_loop().sock_recv(self._socket, 2000)
            came.append(frame)
            if frame in missing:
                missing.remove(frame)
        return came

    def forget(self):
        """Leave out what has arrived by now."""
        while True:
            try:
                self._socket.recv(2000)
            except BlockingIOError:
                return


def announcements(*addresses):
    mac = bytes.fromhex(link().mac.replace(":", ""))
    return [frame for address in addresses for frame in frames(address, mac)]


@in_namespace
async def test_links_are_read_as_they_are():
    found = link()
    assert (found.up, found.carrier, found.physical) == (True, True, False)
    assert {str(network) for network in networks(read_links())} == {"192.0.2.0/24", "2001:db8::/64"}
    assert "lo" not in {each.name for each in read_links()}


@in_namespace
async def test_addresses_come_are_announced_and_go():
    virtual = VirtualAddresses(follow_ups=())
    with Wire() as wire:
        assert await virtual.reconcile([VIP4, VIP6], read_links()) == []
        await wire.sees(announcements(VIP4, VIP6))
        assert ours() == {VIP4, VIP6}
        assert everything() == {*OWN, "192.0.2.50/32", "2001:db8::50/128"}
        # Usable at once, IPv6 too.
        for family, address in ((socket.AF_INET, VIP4), (socket.AF_INET6, VIP6)):
            with socket.socket(family) as sock:
                sock.bind((str(address), 0))
        assert await virtual.reconcile([VIP6], read_links()) == []
        assert everything() == {*OWN, "2001:db8::50/128"}
        assert await virtual.reconcile([], read_links()) == []
        assert everything() == OWN


@in_namespace
async def test_a_second_instance_knows_what_the_first_added_and_touches_nothing_else():
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=OURS)[0]
        netlink.addr("add", index=index, address="192.0.2.77", prefixlen=32)
    await VirtualAddresses(follow_ups=()).reconcile([VIP4, VIP6], read_links())
    second = VirtualAddresses(follow_ups=())
    todo = plan([VIP4, VIP6], read_links())
    assert (todo.add, todo.remove) == ((), ())
    assert {placement.address for placement in todo.keep} == {VIP4, VIP6}
    await second.reconcile([], read_links())
    assert everything() == {*OWN, "192.0.2.77/32"}


@in_namespace
async def test_the_kernel_never_sends_from_a_virtual_ipv6_address():
    await VirtualAddresses(follow_ups=()).reconcile([VIP6], read_links())
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        # 51 shares more bits with the virtual address than with the link's own.
        sock.connect(("2001:db8::51", 9))
        assert sock.getsockname()[0] == "2001:db8::1"


@in_namespace
async def test_an_address_is_announced_again_after_the_follow_ups():
    virtual = VirtualAddresses(follow_ups=(0.05, 0.1))
    with Wire() as wire:
        await virtual.reconcile([VIP4], read_links())
        for _ in range(3):
            await wire.sees(announcements(VIP4))


@in_namespace
async def test_an_address_that_went_is_not_announced_any_more():
    virtual = VirtualAddresses(follow_ups=(2.0,))
    with Wire() as wire:
        await virtual.reconcile([VIP4, VIP6], read_links())
        await virtual.reconcile([VIP6], read_links())
        wire.forget()
        # The follow-up of both, with what is left of them.
        came = await wire.sees(announcements(VIP6))
        assert not set(came) & set(announcements(VIP4))


@in_namespace
async def test_addresses_are_announced_again_when_the_cable_is_back():
    virtual = VirtualAddresses(follow_ups=())
    await virtual.reconcile([VIP4], read_links())

    def switch(state):
        with IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname=PEER)[0], state=state)

    changed = asyncio.Event()
    watch = Watch(changed.set)
    watch.start()
    try:
        switch("down")
        while link().carrier:
            changed.clear()
            await changed.wait()
        await virtual.reconcile([VIP4], read_links())
        switch("up")
        with Wire() as wire:
            while not link().carrier:
                changed.clear()
                await changed.wait()
            await virtual.reconcile([VIP4], read_links())
            await wire.sees(announcements(VIP4))
    finally:
        watch.close()


@in_namespace
async def test_an_address_that_somebody_takes_away_is_told_and_put_back():
    virtual = VirtualAddresses(follow_ups=())
    await virtual.reconcile([VIP4], read_links())
    changed = asyncio.Event()
    watch = Watch(changed.set)
    watch.start()
    try:
        with IPRoute() as netlink:
            netlink.addr("del", index=link().index, address=str(VIP4), prefixlen=32)
        await changed.wait()
        assert ours() == set()
        await virtual.reconcile([VIP4], read_links())
        assert ours() == {VIP4}
    finally:
        watch.close()


@in_namespace
async def test_a_burst_of_changes_is_told_once_and_none_is_lost():
    calls = []
    told = asyncio.Event()

    def changed():
        calls.append(1)
        told.set()

    watch = Watch(changed)
    watch.start()
    try:
        with IPRoute() as netlink:
            for number in range(200):
                netlink.addr("add", index=link_index(netlink), address=f"192.0.2.{number + 20}", prefixlen=32)
        await told.wait()
        assert len(calls) == 1
        assert len(everything()) == 202
    finally:
        watch.close()


def link_index(netlink):
    return netlink.link_lookup(ifname=OURS)[0]


@in_namespace
async def test_addresses_of_no_network_and_of_a_link_that_vanishes_are_told():
    virtual = VirtualAddresses(follow_ups=())
    (trouble,) = await virtual.reconcile([ip_address("203.0.113.9")], read_links())
    assert trouble.code == "address-homeless"
    assert "203.0.113.9" in trouble.message
    before = read_links()
    with IPRoute() as netlink:
        netlink.link("del", index=link_index(netlink))
    (trouble,) = await virtual.reconcile([VIP4], before)
    assert trouble.code == "address-failed"
    assert "192.0.2.50 cannot be added to lan0" in trouble.message
