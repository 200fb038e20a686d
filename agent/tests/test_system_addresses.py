# SPDX-License-Identifier: GPL-2.0-or-later
"""Where virtual addresses belong, and the frames that announce them; all pure."""

import struct
from ipaddress import ip_address, ip_interface

from hypothesis import given
from hypothesis import strategies as st

from agent.system.addresses import Placement, plan
from agent.system.announce import frames
from agent.system.links import LinkAddress, SystemLink, near, networks, own_addresses

MAC = bytes.fromhex("52540012abcd")


def link(index, *own, ours=(), name=None):
    addresses = [LinkAddress(ip_interface(text)) for text in own]
    addresses += [LinkAddress(ip_interface(text), ours=True) for text in ours]
    return SystemLink(index, name or f"eth{index}", "52:54:00:12:ab:cd", True, True, True, tuple(addresses))


def at(index, text):
    return Placement(f"eth{index}", index, ip_address(text))


def wanted(*texts):
    return [ip_address(text) for text in texts]


def test_an_address_goes_to_the_link_whose_network_holds_it():
    links = [link(1, "192.0.2.1/24"), link(2, "198.51.100.1/24", "2001:db8::1/64")]
    result = plan(wanted("198.51.100.9", "2001:db8::9", "192.0.2.9"), links)
    assert result.add == (at(1, "192.0.2.9"), at(2, "198.51.100.9"), at(2, "2001:db8::9"))
    assert (result.remove, result.keep, result.homeless) == ((), (), ())


def test_the_longest_network_wins_and_among_equals_the_lowest_link():
    assert plan(wanted("192.0.2.9"), [link(1, "192.0.0.1/16"), link(2, "192.0.2.1/24")]).add == (at(2, "192.0.2.9"),)
    assert plan(wanted("192.0.2.9"), [link(2, "192.0.2.2/24"), link(1, "192.0.2.1/24")]).add == (at(1, "192.0.2.9"),)


def test_among_equals_an_address_stays_where_it_is():
    links = [link(1, "192.0.2.1/24"), link(2, "192.0.2.2/24", ours=["192.0.2.9/32"])]
    assert plan(wanted("192.0.2.9"), links).keep == (at(2, "192.0.2.9"),)


def test_a_links_own_address_needs_nothing_and_is_never_removed():
    links = [link(1, "192.0.2.1/24", "192.0.2.77/32")]
    for wish in ([], wanted("192.0.2.1", "192.0.2.77")):
        result = plan(wish, links)
        assert (result.add, result.remove, result.keep, result.homeless) == ((), (), (), ())


def test_an_address_of_no_network_is_homeless_but_stays_when_its_network_went():
    assert plan(wanted("203.0.113.9"), [link(1, "192.0.2.1/24")]).homeless == (ip_address("203.0.113.9"),)
    result = plan(wanted("192.0.2.9"), [link(1, ours=["192.0.2.9/32"])])
    assert (result.keep, result.remove, result.homeless) == ((at(1, "192.0.2.9"),), (), ())


def test_an_address_that_moves_is_added_there_and_removed_here():
    links = [link(1, ours=["192.0.2.9/32"]), link(2, "192.0.2.2/24")]
    result = plan(wanted("192.0.2.9"), links)
    assert (result.add, result.remove) == ((at(2, "192.0.2.9"),), (at(1, "192.0.2.9"),))


def test_virtual_and_link_local_addresses_make_no_network():
    links = [link(1, "fe80::1/64", "169.254.3.4/16", "192.0.2.1/24", "203.0.113.1/32", ours=["198.51.100.1/32"])]
    assert [str(network) for network in networks(links)] == ["192.0.2.0/24"]
    assert [(name, index, str(network)) for name, index, network in near(links)] == [("eth1", 1, "192.0.2.0/24")]
    assert ip_address("198.51.100.1") not in own_addresses(links)
    assert ip_address("203.0.113.1") in own_addresses(links)


HOSTS = st.integers(2, 9).map(lambda host: f"192.0.2.{host}") | st.integers(2, 9).map(lambda host: f"2001:db8::{host}")


def width(text):
    return f"{text}/{ip_address(text).max_prefixlen}"


@st.composite
def systems(draw):
    owns = ["192.0.2.1/24", "192.0.2.1/28", "2001:db8::1/64", "192.0.2.3/32"]
    return [
        link(index, *draw(st.sets(st.sampled_from(owns))), ours=[width(text) for text in draw(st.sets(HOSTS))])
        for index in (1, 2, 3)
    ]


def applied(result, links):
    """The links after the plan was carried out."""
    after = []
    for each in links:
        gone = {placement.address for placement in result.remove if placement.index == each.index}
        kept = [found for found in each.addresses if not (found.ours and found.interface.ip in gone)]
        new = [
            LinkAddress(ip_interface(placement.address), ours=True)
            for placement in result.add
            if placement.index == each.index
        ]
        after.append(SystemLink(each.index, each.name, each.mac, True, True, True, (*kept, *new)))
    return after


@given(systems(), st.lists(HOSTS))
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(links, texts):
    wish = wanted(*texts)
    result = plan(wish, links)
    again = plan(wish, applied(result, links))
    assert (again.add, again.remove, again.homeless) == ((), (), result.homeless)


@given(systems(), st.lists(HOSTS))
def test_every_wanted_address_is_in_one_place_and_nothing_of_others_is_touched(links, texts):
    wish = wanted(*texts)
    result = plan(wish, links)
    own = own_addresses(links)
    placed = [placement.address for placement in (*result.add, *result.keep)]
    assert sorted([*placed, *result.homeless], key=str) == sorted(set(wish) - own, key=str)
    ours = {(each.index, found.interface.ip) for each in links for found in each.addresses if found.ours}
    assert {(placement.index, placement.address) for placement in (*result.remove, *result.keep)} == ours


@given(st.ip_addresses(v=4))
def test_gratuitous_arp_in_both_forms(address):
    request, reply = frames(address, MAC)
    for frame, operation, target in ((request, 1, bytes(6)), (reply, 2, MAC)):
        assert frame[:12] == b"\xff" * 6 + MAC
        assert struct.unpack("!HHHBBH", frame[12:22]) == (0x0806, 1, 0x0800, 6, 4, operation)
        assert frame[22:] == MAC + address.packed + target + address.packed


@given(st.ip_addresses(v=6))
def test_unsolicited_neighbour_advertisement(address):
    (frame,) = frames(address, MAC)
    assert frame[:14] == bytes.fromhex("333300000001") + MAC + b"\x86\xdd"
    assert struct.unpack("!IHBB", frame[14:22]) == (0x60000000, 32, 58, 255)
    assert frame[22:38] == address.packed
    assert ip_address(frame[38:54]) == ip_address("ff02::1")
    message = frame[54:]
    assert message[:2] == b"\x88\x00"
    assert message[4:] == b"\xa0\x00\x00\x00" + address.packed + b"\x02\x01" + MAC
    # Over a packet with its checksum in it the sum of all 16-bit words is all ones.
    words = struct.unpack("!36H", frame[22:54] + struct.pack("!II", len(message), 58) + message)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
