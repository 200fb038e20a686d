# SPDX-License-Identifier: GPL-2.0-or-later
"""What farms with the forwarding `tunnel` can have, and what is refused by name."""

from ipaddress import ip_address, ip_network

import pytest

from agent.model import Invalid, taken, unreachable, validate
from agent.model.ingress_rules import MAX_TUNNELS

FARM = {
    "addresses": ["192.0.2.10", "2001:db8::10"],
    "protocols": ["tcp", "udp", "sctp"],
    "ports": [80, "8000-8099"],
    "forwarding": "tunnel",
    "backends": {"a": {"address": "198.51.100.1"}, "b": {"address": "2001:db8:1::1"}},
}
LINKS = {"eth0": {"addresses": ["192.0.2.1/24", "2001:db8::1/64"], "gateways": ["192.0.2.254", "2001:db8::fe"]}}


def faults(*, links=LINKS, others=None, **settings):
    try:
        validate({"links": links, "farms": {"web": FARM | settings} | (others or {})})
    except Invalid as invalid:
        return {fault.pointer: fault.message for fault in invalid.faults}
    return {}


def test_servers_may_be_behind_routers():
    assert not faults()
    assert not faults(sorry_servers=[{"address": "198.51.100.9"}], scheduler="source-hash", on_failure="cut")
    found = faults(links={"eth0": {"addresses": ["192.0.2.1/24", "2001:db8::1/64"]}})
    assert list(found) == ["/farms/web/backends/a/address", "/farms/web/backends/b/address"]
    assert "cannot be reached" in found["/farms/web/backends/a/address"]
    networks = [ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")]
    assert not list(unreachable(validate({"farms": {"web": FARM}}), networks))
    assert "or use `tunnel` or `dnat`" in faults(forwarding="direct")["/farms/web/backends/a/address"]


@pytest.mark.parametrize(
    ("settings", "place", "words"),
    [
        ({"protocols": ["all"], "ports": ["all"]}, "/protocols", "cannot be `all` with `tunnel`"),
        ({"limit_rate": 5}, "/limit_rate", "not possible with `tunnel`, where nothing knows connections"),
        ({"log_prefix": "web"}, "/log_prefix", "not possible with `tunnel`"),
        ({"dscp_in": 10}, "/dscp_in", "not possible with `tunnel`"),
        ({"sorry_servers": [{"address": "198.51.100.9", "port": 81}]}, "/sorry_servers/0/port", "81 is not the port"),
        ({"sorry_servers": [{"address": "192.0.2.1"}]}, "/sorry_servers/0/address", "leads to another host"),
        ({"addresses": ["192.0.2.1", "2001:db8::10"]}, "/addresses/0", "with `tunnel` cannot be balanced"),
    ],
)
def test_what_it_cannot_have_is_refused_by_name(settings, place, words):
    found = faults(**settings)
    assert list(found) == [f"/farms/web{place}"]
    assert words in found[f"/farms/web{place}"]


def test_backends_have_the_port_that_clients_ask_for():
    other = {"a": {"address": "198.51.100.1", "port": 8080}}
    settings = {"addresses": ["192.0.2.10"], "ports": [80], "backends": other}
    assert "8080 is not the port that clients ask for, and `tunnel`" in faults(**settings)["/farms/web/backends/a/port"]
    assert not faults(**settings | {"ports": [8080]})


def test_leased_addresses_are_no_servers_either():
    config = validate({"farms": {"web": FARM}})
    found = [fault.pointer for fault in taken(config, [ip_address("198.51.100.1")])]
    assert found == ["/farms/web/backends/a/address"]


def test_there_are_so_many_tunnels():
    def farm(number):
        hosts = range(number * 256, number * 256 + 256)
        backends = {f"b{host}": {"address": f"10.{host >> 8}.{host & 255}.1"} for host in hosts}
        addresses, whole = [f"192.0.2.{20 + number}"], {"protocols": ["tcp"], "ports": [80]}
        return FARM | whole | {"addresses": addresses, "backends": backends}

    full = {f"farm{number}": farm(number) for number in range(MAX_TUNNELS // 256)}
    same = {"twice": full["farm0"] | {"addresses": ["192.0.2.99"]}}
    assert not faults(enabled=False, others=full | same), "what one server costs does not depend on its farms"
    found = faults(others=full)
    assert list(found) == ["/farms"]
    assert found["/farms"].startswith(f"have {MAX_TUNNELS + 2} servers with `tunnel`")
