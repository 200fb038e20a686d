# SPDX-License-Identifier: GPL-2.0-or-later
"""The queues of links with a bandwidth: real classes of HTB, and real packets of farms in them."""

import asyncio
import errno
import threading
import time

import pytest
from kernel_net import Box, farm, until
from pyroute2 import IPRoute, NetlinkError

from agent.model import Link
from agent.system import queues
from agent.system.links import read_links

pytestmark = pytest.mark.kernel

MEGABIT = 1_000_000
INTERACTIVE, NORMAL, BULK = 0x51500010, 0x51500020, 0x51500030


@pytest.fixture
def box():
    box = Box()
    for family in (4, 6):
        box.serve(1, family=family)
    yield box
    box.close()


def bring(box, **bandwidths):
    links = {name: Link(bandwidth=bandwidth) for name, bandwidth in bandwidths.items()}
    return box.balancer.run(lambda: asyncio.run(queues.reconcile(links, read_links())))


def classes(box, link):
    """Rate, ceiling and rank of each class, and how many packets it has sent."""

    def look():
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname=link)[0]
            return {
                each["handle"]: (
                    *(
                        each.get_attr("TCA_OPTIONS").get_attr("TCA_HTB_PARMS")[name]
                        for name in ("rate", "ceil", "prio")
                    ),
                    each.get_attr("TCA_STATS2").get_attr("TCA_STATS_BASIC")["packets"],
                )
                for each in netlink.get_classes(index)
                if each.get_attr("TCA_KIND") == "htb"
            }

    return box.balancer.run(look)


def sent(box, handle):
    """Bytes that a class of the link to the backends has sent."""

    def look():
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname="back")[0]
            found = next(each for each in netlink.get_classes(index) if each["handle"] == handle)
            return found.get_attr("TCA_STATS2").get_attr("TCA_STATS_BASIC")["bytes"]

    return box.balancer.run(look)


def qdiscs(box, link):
    def look():
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname=link)[0]
            return {(each["handle"], each["parent"], each.get_attr("TCA_KIND")) for each in netlink.get_qdiscs(index)}

    return box.balancer.run(look)


def settings(box, link):
    return {handle: told[:3] for handle, told in classes(box, link).items()}


def test_a_link_gets_its_classes_and_loses_them_again(box):
    before = qdiscs(box, "back")
    assert bring(box, front=80 * MEGABIT) == []
    assert settings(box, "front") == {
        0x51500001: (10_000_000, 10_000_000, 0),
        INTERACTIVE: (3_000_000, 10_000_000, 0),
        NORMAL: (5_000_000, 10_000_000, 1),
        BULK: (1_000_000, 9_000_000, 2),
    }
    assert qdiscs(box, "back") == before
    assert bring(box, front=160 * MEGABIT, back=16 * MEGABIT) == []
    assert settings(box, "front")[BULK] == (2_000_000, 18_000_000, 2)
    assert settings(box, "back")[NORMAL] == (1_000_000, 2_000_000, 1)
    assert bring(box) == []
    assert classes(box, "front") == classes(box, "back") == {}


def test_what_is_right_is_left_alone(box):
    box.apply({"web": farm(1)})
    bring(box, front=80 * MEGABIT, back=80 * MEGABIT)
    box.ask()
    before = classes(box, "front")
    assert before[NORMAL][3] > 0
    assert bring(box, front=80 * MEGABIT, back=80 * MEGABIT) == []
    # A class that somebody changed is set right, and no class has lost what it counted.
    box.balancer.run(meddle)
    assert bring(box, front=80 * MEGABIT, back=80 * MEGABIT) == []
    after = classes(box, "front")
    assert {handle: told[:3] for handle, told in after.items()} == {handle: told[:3] for handle, told in before.items()}
    assert all(after[handle][3] >= told[3] for handle, told in before.items())


def meddle():
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname="front")[0]
        netlink.tc("change-class", "htb", index, NORMAL, parent=0x51500001, rate=1_000_000, ceil=1_000_000, prio=5)


def test_foreign_queues_of_links_without_a_bandwidth_stay(box):
    def foreign():
        with IPRoute() as netlink:
            netlink.tc("add", "htb", netlink.link_lookup(ifname="back")[0], 0x10000, default=0)

    box.balancer.run(foreign)
    before = qdiscs(box, "back")
    assert bring(box, front=80 * MEGABIT) == []
    assert bring(box) == []
    assert qdiscs(box, "back") == before


def test_a_link_that_is_not_there_is_no_trouble_here(box):
    assert bring(box, front=80 * MEGABIT, elsewhere=80 * MEGABIT) == []


def test_fair_queues_are_in_the_classes(box):
    box.balancer.run(need_fair_queues)
    for megabits in (80, 90):
        bring(box, front=megabits * MEGABIT)
        fair = {parent for _, parent, kind in qdiscs(box, "front") if kind == "fq_codel"}
        assert fair == {INTERACTIVE, NORMAL, BULK}


def need_fair_queues():
    with IPRoute() as netlink:
        try:
            netlink.tc("add", "fq_codel", netlink.link_lookup(ifname="back")[0], 0x10000)
        except NetlinkError as error:
            if error.code != errno.ENOENT:
                raise
            pytest.skip("this kernel has no fq_codel; the image's has it built in")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("traffic_class", "handle"), [("interactive", INTERACTIVE), ("normal", NORMAL), ("bulk", BULK)]
)
def test_packets_of_a_farm_wait_in_its_class_on_both_links(box, family, traffic_class, handle):
    bring(box, front=800 * MEGABIT, back=800 * MEGABIT)
    box.apply({"web": farm(1, family=family, protocols=["tcp", "udp"], traffic_class=traffic_class)})
    box.ask_udp(family=family)  # neighbours are found by packets of no farm
    before = {link: classes(box, link)[handle][3] for link in ("front", "back")}
    with box.datagram(family=family) as sock:
        for _ in range(50):
            sock.send(b"?")
            assert sock.recv(100)
    for link in ("front", "back"):
        assert classes(box, link)[handle][3] >= before[link] + 50
    with box.connect(family=family) as connection:
        assert connection.alive()


def test_the_bandwidth_holds_and_bulk_gets_its_share_and_no_more_while_others_want_it(box):
    box.serve(1, 81)
    bring(box, back=MEGABIT)
    box.apply({
        "slow": farm(1, protocols=["udp"], traffic_class="bulk"),
        "fast": farm(1, protocols=["udp"], ports=(81,), traffic_class="interactive"),
    })  # fmt: skip
    done = threading.Event()
    with box.datagram(80) as slow, box.datagram(81) as fast:

        def blast():
            while not done.is_set():
                for sock in (slow, fast):
                    sock.send(bytes(1000))

        thread = box.client.spawn(blast)
        try:
            begun = time.monotonic()
            until(lambda: sent(box, BULK) + sent(box, INTERACTIVE) > 400_000)
            seconds = time.monotonic() - begun
            shares = sent(box, BULK), sent(box, INTERACTIVE)
        finally:
            done.set()
            thread.join()
    assert seconds > 400_000 / 125_000 * 0.9
    assert 0.08 < shares[0] / sum(shares) < 0.2
