# SPDX-License-Identifier: GPL-2.0-or-later
"""Source pools in the document: how they may be written, and what is said of those that cannot be."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dataplane.sources import SourcePool
from agent.model import Invalid, canonical, parse, validate
from agent.model.network_rules import unreachable

FARM = {
    "addresses": ["192.0.2.10"],
    "ports": [80],
    "forwarding": "snat",
    "backends": {"a": {"address": "198.51.100.1"}},
}
WHERE = "/farms/web/source_pool"


def config(pool, more=None, **settings):
    return validate({"version": 1, "farms": {"web": FARM | {"source_pool": pool} | settings}} | (more or {}))


def faults(pool, more=None, **settings):
    with pytest.raises(Invalid) as caught:
        config(pool, more, **settings)
    return {fault.pointer: fault.message for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("written", "kept", "number"),
    [
        ("198.51.100.7", "198.51.100.7", 1),
        ("198.51.100.7-198.51.100.9", "198.51.100.7-198.51.100.9", 3),
        ("198.51.100.8/30", "198.51.100.8-198.51.100.11", 4),
        ("198.51.100.7/32", "198.51.100.7", 1),
    ],
)
def test_a_pool_has_addresses_ranges_and_networks(written, kept, number):
    document = config([written])
    assert str(document.farms["web"].source_pool[0]) == kept
    assert len(document.pooled_addresses()) == number
    assert parse(canonical(document)) == document


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("nonsense", "is not an IP address"),
        ("10.0.0.1-", "is not an IP address"),
        ("10.0.0.1-10.0.0.3-10.0.0.5", "is not an IP address"),
        ("10.0.0.9-10.0.0.1", "is upside down; write the lower address first"),
        ("10.0.0.1-fd00::1", "is from one IP family to the other"),
        ("10.0.0.1/24", "has bits set behind its prefix length; the network is 10.0.0.0/24"),
        ("10.0.0.0/23", "has 512 addresses; a pool has 256 at most"),
        ("fd00::/64", "has 18446744073709551616 addresses; a pool has 256 at most"),
        ("126.255.255.250-127.0.0.3", "is a special address"),
        ("224.0.0.0/30", "is a special address"),
        ('10.0.0.1 }; flush ruleset; "', "is not an IP address"),
        (10, "is not an IP address"),
    ],
)
def test_what_is_no_range_is_told_with_its_place(written, words):
    found = faults(["198.51.100.7", written])
    assert list(found) == [f"{WHERE}/1"]
    assert words in found[f"{WHERE}/1"]


def test_an_address_stands_once_and_a_pool_has_a_size():
    assert "stand once" in faults(["198.51.100.7", "198.51.100.7"])[WHERE]
    both = faults(["198.51.100.7-198.51.100.9", "198.51.100.8/30"])
    assert both == {
        f"{WHERE}/1": "198.51.100.8-198.51.100.11 and 198.51.100.7-198.51.100.9 have addresses in common; write each "
        "once"
    }
    assert faults(["10.9.0.0/24", "10.9.1.1"]) == {WHERE: "has 257 addresses; a pool has 256 at most"}
    assert len(config(["10.9.0.0/24"]).pooled_addresses()) == 256


@pytest.mark.parametrize("forwarding", ["dnat", "stateless", "direct"])
def test_only_source_nat_has_one(forwarding):
    found = faults(["198.51.100.7"], forwarding=forwarding)
    assert f"is not possible with `{forwarding}`" in found[WHERE]


def test_a_pool_is_of_the_farms_families():
    assert "fd00::7 is IPv6, and no virtual address of the farm is" in faults(["fd00::7"])[f"{WHERE}/0"]


def test_who_is_somebody_else_cannot_be_in_a_pool():
    assert faults(["198.51.100.1-198.51.100.3"]) == {
        f"{WHERE}/0": "198.51.100.1 is a server of farm web; use addresses that are free"
    }
    link = {"addresses": ["198.51.100.2/24", "192.0.2.2/24"], "gateways": ["198.51.100.254"]}
    more = {"links": {"eth0": link}}
    assert "is the gateway of link eth0" in faults(["198.51.100.254"], more)[f"{WHERE}/0"]
    assert "the broadcast address of the network" in faults(["198.51.100.250-198.51.100.255"], more)[f"{WHERE}/0"]
    assert "203.0.113.1 is in no network of a link" in faults(["203.0.113.1"], more)[f"{WHERE}/0"]
    assert "198.51.101.0 is in no" in faults(["198.51.100.255-198.51.101.0"], more)[f"{WHERE}/0"]
    # The appliance's own are its own, and a virtual address is found by connection tracking.
    assert config(["198.51.100.2", "192.0.2.10"], more).pooled_addresses()
    # A farm that is not enabled has nothing, and its pool is judged when it is.
    assert not config(["203.0.113.1"], more, enabled=False).pooled_addresses()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"forwarding": "direct"}, "whose `direct` would take the answers"),
        ({"deny": ["bad"]}, "would drop the answers"),
    ],
)
def test_a_virtual_address_whose_packets_are_looked_at_earlier_cannot_be_in_a_pool(other, words):
    farms = {
        "web": FARM | {"source_pool": ["192.0.2.11"]},
        "other": {"addresses": ["192.0.2.11"], "ports": [81], **other},
    }
    with pytest.raises(Invalid) as caught:
        validate({"version": 1, "farms": farms, "network_lists": {"bad": {"networks": ["203.0.113.0/24"]}}})
    found = {fault.pointer: fault.message for fault in caught.value.faults}
    assert list(found) == [f"{WHERE}/0"]
    assert words in found[f"{WHERE}/0"]


def test_a_document_has_so_many_pools_and_addresses_in_them():
    farms = {f"f{n}": FARM | {"ports": [n + 1], "source_pool": [f"10.9.{n}.1"]} for n in range(65)}
    with pytest.raises(Invalid, match="65 different source pools; the appliance takes 64"):
        validate({"version": 1, "farms": farms})
    farms = {f"f{n}": FARM | {"ports": [n + 1], "source_pool": [f"10.9.{n}.0/24"]} for n in range(17)}
    with pytest.raises(Invalid, match="4352 addresses in source pools together; the appliance takes 4096"):
        validate({"version": 1, "farms": farms})


def test_a_lease_that_leads_elsewhere_is_told():
    found = [fault.pointer for fault in unreachable(config(["198.51.100.7"], addresses=["192.0.2.10"]), [])]
    assert found == ["/farms/web/addresses/0", f"{WHERE}/0"]


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 20)), min_size=1, max_size=8))
def test_the_chain_of_a_pool_has_each_address_once_and_a_name_of_its_own(spans):
    base = int(ip_address("10.9.0.0"))
    pool, end = [], 0
    for gap, size in spans:
        first = end + gap
        end = first + size
        pool.append(f"{ip_address(base + first)}-{ip_address(base + end - 1)}")
    farm = config(pool).farms["web"]
    made = SourcePool.of(farm, 4)
    assert made is not None
    assert len(set(made.addresses)) == len(made.addresses) == sum(size for _, size in spans)
    assert SourcePool.of(farm, 6) is None
    assert SourcePool.of(config(pool[::-1]).farms["web"], 4) == made, "in whatever order they stand"
    assert SourcePool(4, (*made.addresses, "10.200.0.1")).name != made.name
