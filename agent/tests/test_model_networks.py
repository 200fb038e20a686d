# SPDX-License-Identifier: GPL-2.0-or-later
"""Links, their networks, and which addresses of farms fit them; and the bad input that an administrator may type."""

from ipaddress import ip_address

import pytest

from agent.model import Invalid, taken, unreachable, unusable, validate

FARM = {"addresses": ["192.0.2.10"], "ports": [80], "backends": {"a": {"address": "192.0.2.20"}}}
SIX = {"addresses": ["2001:db8::10"], "ports": [80], "backends": {"a": {"address": "2001:db8::20"}}}
STATIC = {"addresses": ["192.0.2.1/24", "2001:db8::1/64"]}
ROUTED = STATIC | {"gateways": ["192.0.2.254"]}
BACKEND = "/farms/web/backends/a/address"
SORRY = "/farms/web/sorry_servers/0/address"


def document(farm=FARM, *, links=None, **changed):
    return {"links": {"eth0": STATIC} if links is None else links, "farms": {"web": {**farm, **changed}}}


def faults(content):
    with pytest.raises(Invalid) as caught:
        validate(content)
    return {fault.pointer: fault.message for fault in caught.value.faults}


def backend(address, **settings):
    return {"backends": {"a": {"address": address, **settings}}}


def test_an_address_belongs_to_one_link_once():
    links = {"eth0": {"addresses": ["192.0.2.1/24", "192.0.2.1/25"]}, "eth1": {"addresses": ["192.0.2.1/24"]}}
    assert set(faults({"links": links})) == {"/links/eth0/addresses/1", "/links/eth1/addresses/0"}


def test_a_gateway_is_another_host_in_a_network_of_its_link():
    link = {"addresses": ["192.0.2.1/24", "2001:db8::1/64"], "gateways": ["192.0.2.254", "2001:db8::"]}
    validate({"links": {"eth0": link}})
    told = {
        "203.0.113.1": "is in no network of the link",
        "192.0.2.255": "broadcast address of the network 192.0.2.0/24",
        "192.0.2.0": "address of the network 192.0.2.0/24 itself",
        "192.0.2.1": "is the link's own address",
    }
    for gateway, words in told.items():
        assert words in faults({"links": {"eth0": link | {"gateways": [gateway]}}})["/links/eth0/gateways/0"]
    assert (
        "second IPv4"
        in faults({"links": {"eth0": link | {"gateways": ["192.0.2.2", "192.0.2.3"]}}})["/links/eth0/gateways/1"]
    )


def test_resets_to_ranges_of_ports_at_a_links_own_address_cannot_be_limited():
    wide = {"addresses": ["192.0.2.10", "192.0.2.1"], "ports": [80, "2000-2100"], "limit_resets": 5}
    found = faults(document(**wide))
    assert set(found) == {"/farms/web/limit_resets"}
    assert "for the ports 2000-2100 at 192.0.2.1, an address of a link" in found["/farms/web/limit_resets"]
    for fits in ({"ports": [80, 2000]}, {"addresses": ["192.0.2.10"]}, {"limit_resets": None}, {"enabled": False}):
        validate(document(**wide | fits))
    # By a lease, too.
    config = validate(document(**wide, links={"eth0": {"dhcp": True}}))
    assert [fault.pointer for fault in taken(config, [ip_address("192.0.2.1")])] == ["/farms/web/limit_resets"]
    assert not list(taken(config, [ip_address("192.0.2.2")]))


def test_a_virtual_address_lies_in_a_network_of_a_link():
    static = {"eth0": {"addresses": ["203.0.113.1/24"], "gateways": ["203.0.113.2"]}}
    assert set(faults(document(links=static))) == {"/farms/web/addresses/0"}
    validate(document(links=static, enabled=False))
    config = validate(document(links=static | {"eth1": {"dhcp": True}}))
    networks = [interface.network for interface in config.links["eth0"].addresses]
    assert [fault.pointer for fault in unreachable(config, networks)] == ["/farms/web/addresses/0"]
    assert [fault.pointer for fault in unreachable(config, [])] == ["/farms/web/addresses/0"]


def test_a_server_is_in_a_network_of_a_link_or_behind_a_gateway_of_its_family():
    far = backend("198.51.100.1")
    said = faults(document(**far))[BACKEND]
    assert said.startswith(
        "198.51.100.1 cannot be reached: it is in no network of a link (192.0.2.0/24, 2001:db8::/64)"
    )
    assert "no link has an IPv4 gateway" in said
    validate(document(**far, links={"eth0": ROUTED}))
    assert "IPv6 gateway" in faults(document(SIX, **backend("2001:db8:1::1"), links={"eth0": ROUTED}))[BACKEND]
    assert set(faults(document(sorry_servers=[{"address": "198.51.100.1"}]))) == {SORRY}
    asked = [{}, {"address": "198.51.100.1"}]
    assert set(faults(document(checks=asked))) == {"/farms/web/checks/1/address"}
    validate(document(checks=asked, links={"eth0": ROUTED}))
    validate(document(checks=asked, enabled=False))
    elsewhere = {"eth0": STATIC, "eth1": {"addresses": ["198.51.100.9/30"]}}
    validate(document(**backend("198.51.100.10"), links=elsewhere))
    assert set(faults(document(**backend("198.51.100.12"), links=elsewhere))) == {BACKEND}


@pytest.mark.parametrize("links", [{}, {"eth0": {"dhcp": True}}, {"eth0": STATIC, "eth1": {"dhcp": True}}])
def test_where_a_lease_may_bring_routes_no_server_is_refused(links):
    validate(document(**backend("198.51.100.1"), sorry_servers=[{"address": "203.0.113.1"}], links=links))


def test_a_server_that_nobody_is_sent_to_may_be_out_of_reach():
    validate(document(**backend("198.51.100.1"), enabled=False))
    validate(document(**backend("198.51.100.1", state="disabled")))
    assert set(faults(document(**backend("198.51.100.1", state="drain")))) == {BACKEND}


@pytest.mark.parametrize(
    ("address", "words"),
    [("192.0.2.0", "the address of the network 192.0.2.0/24 itself"), ("192.0.2.255", "the broadcast address of")],
)
@pytest.mark.parametrize("link", [STATIC, ROUTED, STATIC | {"dhcp": True}])
def test_no_host_has_a_networks_own_or_broadcast_address(address, words, link):
    links = {"eth0": link}
    for place, changed in {
        "/farms/web/addresses/0": {"addresses": [address]},
        BACKEND: backend(address, state="disabled"),
        SORRY: {"sorry_servers": [{"address": address}]},
    }.items():
        said = faults(document(links=links, **changed))
        assert set(said) == {place}
        assert words in said[place]
        validate(document(links=links, enabled=False, **changed))


def test_the_first_address_of_an_ipv6_network_is_that_of_its_routers():
    assert "subnet-router anycast" in faults(document(SIX, **backend("2001:db8::")))[BACKEND]
    assert set(faults(document(SIX, addresses=["2001:db8::"]))) == {"/farms/web/addresses/0"}
    validate(document(SIX, addresses=["2001:db8::"], links={"eth0": {"addresses": ["2001:db8::/64"]}}))
    last = "2001:db8::ffff:ffff:ffff:ffff"
    validate(document(SIX, addresses=[last]))


def test_networks_of_two_hosts_have_no_special_addresses():
    links = {"eth0": {"addresses": ["192.0.2.10/31", "192.0.2.21/32", "192.0.2.20/31"]}}
    validate(document(addresses=["192.0.2.11"], links=links))


def test_networks_of_leases_have_special_addresses_too():
    config = validate(document(links={"eth0": {"dhcp": True}}, addresses=["192.0.2.127"]))
    lease = validate({"links": {"eth0": {"addresses": ["192.0.2.1/25"]}}}).links["eth0"].addresses[0].network
    assert [fault.pointer for fault in unusable(config, [lease])] == ["/farms/web/addresses/0"]
    assert not list(unusable(config, []))


def test_faults_of_very_many_networks_and_servers_are_short():
    links = {f"eth{number}": {"addresses": [f"10.{number}.{each}.1/24" for each in range(64)]} for number in range(64)}
    farms = {
        f"f{number}": {
            "addresses": [f"192.168.{number // 250}.{number % 250 + 1}"],
            "ports": [80],
            "backends": {f"b{each}": {"address": f"172.16.{number % 250}.{each + 1}"} for each in range(10)},
        }
        for number in range(500)
    }
    said = faults({"links": links, "farms": farms})
    assert len(said) <= 100
    assert all(len(words) < 400 and "and 4091 more" in words for words in said.values())


@pytest.mark.parametrize(
    ("changed", "place", "words"),
    [
        ({"ports": ["90-80"]}, "ports/0", "upside down"),
        ({"ports": [0]}, "ports/0", "1 to 65535"),
        (backend("192.0.2.20", port=0), "backends/a/port", "at least 1"),
        (backend("192.0.2.20", port=70000), "backends/a/port", "at most 65535"),
        ({"ports": list(range(1, 65536))}, "ports", 'a range such as "8000-8099" counts as one'),
        ({"ports": [70000]}, "ports/0", "1 to 65535"),
        (backend("2001:db8::20"), "backends/a/address", "not translated into each other"),
        ({"backends": {"a": {"address": "192.0.2.20"}, "b": {"address": "192.0.2.20"}}}, "backends/b/address", "same"),
        ({"backends": {'a" drop': {"address": "192.0.2.20"}}}, 'backends/a" drop', "is not a valid name"),
        ({"backends": {"a\n}": {"address": "192.0.2.20"}}}, "backends/a\n}", "is not a valid name"),
        ({"backends": {"a;flush ruleset": {"address": "192.0.2.20"}}}, "backends/a;flush ruleset", "is not a valid"),
    ],
)
def test_what_may_be_typed_wrong_is_told_in_the_documents_terms(changed, place, words):
    assert words in faults(document(**changed))[f"/farms/web/{place}"]
