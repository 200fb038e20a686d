# SPDX-License-Identifier: GPL-2.0-or-later
"""Which links lead to an address, and whether they are up."""

from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from agent.controller.host import Host
from agent.model import Link, validate
from agent.system.links import LinkAddress, SystemLink
from agent.system.ways import not_yet

WANTED = validate(
    {
        "links": {
            "ens2": {"dhcp": True},
            "ens3": {"addresses": ["192.0.2.1/24", "2001:db8::1/64"]},
            "ens4": {"addresses": ["203.0.113.1/24"], "gateways": ["203.0.113.254"]},
        }
    }
).links
LEASED = ["198.51.100.7/24", "fe80::1/64"]
FIXED = {"ens3": ["192.0.2.1/24", "2001:db8::1/64"], "ens4": ["203.0.113.1/24"]}


def link(name, *addresses, carrier=True):
    found = tuple(LinkAddress(ip_interface(text)) for text in addresses)
    return SystemLink(2, name, None, up=True, carrier=carrier, physical=True, addresses=found)


UP = {"ens2": link("ens2", *LEASED), **{name: link(name, *addresses) for name, addresses in FIXED.items()}}


def said(address, **changed):
    present = [each for each in (UP | changed).values() if each]
    return not_yet(ip_address(address), WANTED, present)


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::9", "203.0.113.9", "198.51.100.9", "10.0.0.1"])
def test_when_all_is_up_nothing_is_waited_for(address):
    assert said(address) is None


def test_an_address_in_a_network_of_a_link_waits_for_that_link_only():
    down = link("ens3", *FIXED["ens3"], carrier=False)
    assert said("192.0.2.9", ens3=down) == "link ens3 has no carrier yet"
    assert said("192.0.2.9", ens3=None) == "link ens3 is not there yet"
    assert said("192.0.2.9", ens3=link("ens3")) == "link ens3 has no address in the network of 192.0.2.9 yet"
    assert said("2001:db8::9", ens3=link("ens3", "192.0.2.1/24")) is not None
    assert said("192.0.2.9", ens2=None, ens4=None) is None
    assert said("203.0.113.9", ens3=down) is None


def test_a_far_address_waits_for_gateways_of_its_family_and_for_leases():
    assert said("10.0.0.1", ens4=link("ens4", carrier=False)) == "link ens4 has no carrier yet"
    assert said("10.0.0.1", ens4=link("ens4")) == "link ens4 has no IPv4 address yet"
    assert said("10.0.0.1", ens2=link("ens2", "fe80::1/64")) == "link ens2 has no IPv4 address yet"
    assert said("10.0.0.1", ens3=None) is None
    assert said("2001:db8:9::1") == "link ens2 has no IPv6 address yet", "an advertisement may come"
    assert said("2001:db8:9::1", ens2=link("ens2", "2001:db8:2::7/64"), ens4=None) is None


def test_where_no_link_leads_there_is_nothing_to_wait_for():
    assert not_yet(ip_address("10.0.0.1"), {}, []) is None
    assert not_yet(ip_address("10.0.0.1"), {"ens3": Link()}, []) is None


def test_before_links_are_configured_all_is_waited_for_unless_they_are_somebody_elses(tmp_path: Path):
    assert Host(tmp_path).not_yet(ip_address("192.0.2.9")) == "the links are not set up yet"
    assert Host(None).not_yet(ip_address("192.0.2.9")) is None
