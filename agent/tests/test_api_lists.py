# SPDX-License-Identifier: GPL-2.0-or-later
"""Network lists over the API, and in the document: what may stand there, and what is told of what may not."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.client import Problem
from agent.model import Codec, Invalid, NetworkList, canonical, difference, validate
from agent.tests.api_world import FARM, running

LIST = {"description": "Ours", "networks": ["192.0.2.0/24", "2001:db8::/32"]}


def faults(content):
    with pytest.raises(Invalid) as caught:
        validate({"version": 1, **content})
    return {fault.pointer: fault.message for fault in caught.value.faults}


def test_lists_have_endpoints_like_farms(tmp_path: Path):
    with running(tmp_path) as world:
        client = world.client()
        assert client.network_lists().lists == {}
        first = client.put_network_list("ours", LIST)
        client.put_farm("web", FARM | {"allow": ["ours"]})
        told = client.network_lists().lists["ours"]
        assert (told.description, told.networks, told.allowed_by, told.denied_by) == ("Ours", 2, ["web"], [])
        assert client.network_list("ours").content == NetworkList(
            description="Ours", networks=[ip_network(each) for each in LIST["networks"]]
        )
        with pytest.raises(Problem) as used:
            client.delete_network_list("ours")
        assert used.value.status == 422
        assert [fault.pointer for fault in used.value.errors] == ["/farms/web/allow/0"]
        with pytest.raises(Problem) as late:
            client.put_network_list("ours", LIST, parent=first.number)
        assert late.value.status == 412
        client.put_farm("web", FARM)
        client.delete_network_list("ours")
        for ask in (lambda: client.network_list("ours"), lambda: client.delete_network_list("ours")):
            with pytest.raises(Problem, match="no network list") as missing:
                ask()
            assert missing.value.status == 404


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("192.0.2.1/24", '"192.0.2.1/24" has bits set behind its prefix length; the network is 192.0.2.0/24'),
        ("2001:db8::1/32", '"2001:db8::1/32" has bits set behind its prefix length; the network is 2001:db8::/32'),
        ("192.0.2.0/33", "is not a network"),
        ('10.0.0.0/8 }; flush ruleset; "', "is not a network"),
        (7, "is not a network"),
    ],
)
def test_what_is_no_network_is_told_with_its_place(network, words):
    found = faults({"network_lists": {"bad": {"networks": ["192.0.2.0/24", network]}}})
    assert list(found) == ["/network_lists/bad/networks/1"]
    assert words in found["/network_lists/bad/networks/1"]


def test_lists_have_a_size():
    many = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_001)]
    assert faults({"network_lists": {"bad": {"networks": many}}}) == {
        "/network_lists/bad/networks": "has too many; at most 10000"
    }
    validate({"version": 1, "network_lists": {"bad": {"networks": many[:-1]}}})
    found = faults({"network_lists": {f"bad{number}": {"networks": many[:-1]} for number in range(11)}})
    assert "110000 networks together" in found["/network_lists"]


def test_farms_name_lists_that_are_there_and_each_once():
    lists = {"network_lists": {"a": LIST, "b": LIST}}
    assert (
        "there is no network list c (there are: a, b)"
        in faults(lists | {"farms": {"web": FARM | {"deny": ["a", "c"]}}})["/farms/web/deny/1"]
    )
    assert faults(lists | {"farms": {"web": FARM | {"deny": ["a", "a"]}}}).keys() == {"/farms/web/deny"}
    assert (
        "is allowed, too"
        in faults(lists | {"farms": {"web": FARM | {"allow": ["b"], "deny": ["a", "b"]}}})["/farms/web/deny/1"]
    )
    assert faults({"network_lists": {"Bad": LIST}}).keys() == {"/network_lists/Bad"}
    assert faults({"network_lists": {"a": LIST | {"description": "a\nb"}}}).keys() == {"/network_lists/a/description"}


def test_a_difference_tells_the_networks_that_came_and_went():
    before = validate({"version": 1, "network_lists": {"a": LIST}})
    after = validate({"version": 1, "network_lists": {"a": {"networks": ["2001:db8::/32", "10.0.0.0/8"]}}})
    assert [(each.kind, each.before, each.after) for each in difference(before, after)] == [
        ("changed", "Ours", ""),
        ("removed", "192.0.2.0/24", None),
        ("added", None, "10.0.0.0/8"),
    ]


def test_a_list_that_is_sent_again_is_the_same_object():
    codec = Codec()
    text = canonical(validate({"version": 1, "network_lists": {"a": LIST}, "farms": {}}))
    first, second = codec.parse(text), codec.parse(text)
    assert first.network_lists["a"] is second.network_lists["a"]
    assert codec.canonical(second) == text


@given(st.lists(st.ip_addresses().flatmap(
    lambda address: st.integers(0, address.max_prefixlen).map(lambda bits: ip_network((address, bits), strict=False))
), max_size=20))  # fmt: skip
def test_ranges_hold_the_same_addresses_and_do_not_overlap(networks):
    ranges = NetworkList(networks=networks).ranges
    assert set(ranges) <= set(networks)
    for network in networks:
        assert any(each.version == network.version and network.subnet_of(each) for each in ranges)
    for index, one in enumerate(ranges):
        assert not any(one.version == other.version and one.overlaps(other) for other in ranges[:index])
