# SPDX-License-Identifier: GPL-2.0-or-later
"""What farms that are forwarded at ingress can have, and what is refused by name."""

from ipaddress import ip_address, ip_network

import pytest

from agent.model import Invalid, taken, unreachable, validate

FARM = {
    "addresses": ["192.0.2.10"],
    "ports": [80],
    "forwarding": "direct",
    "backends": {"a": {"address": "192.0.2.21"}, "b": {"address": "192.0.2.22"}},
}


def faults(links=None, **settings):
    content = {"farms": {"web": FARM | settings}} | ({"links": links} if links else {})
    try:
        validate(content)
    except Invalid as invalid:
        return {fault.pointer: fault.message for fault in invalid.faults}
    return {}


def test_what_it_can_have():
    assert not faults()
    assert not faults(protocols=["tcp", "udp", "sctp"], ports=[80, "8000-8099"], scheduler="source-hash")
    assert not faults(backends={"a": {"address": "192.0.2.21", "port": 80}}, flow_timeout=60, flow_timeout_udp=60)
    assert not faults(sorry_servers=[{"address": "192.0.2.29"}], on_failure="cut", slow_start=60, drain_timeout=60)
    farm = validate({"farms": {"web": FARM}}).farms["web"]
    assert (farm.flow_timeout, farm.flow_timeout_udp) == (900, 120)


@pytest.mark.parametrize(
    ("settings", "place", "words"),
    [
        ({"protocols": ["all"], "ports": ["all"]}, "/protocols", "cannot be `all` with `direct`"),
        ({"persistence": "address"}, "/persistence", "use the scheduler source-hash"),
        ({"backends": {"a": {"address": "192.0.2.21", "port": 8080}}}, "/backends/a/port", "8080 is not the port"),
        ({"ports": [80, 81], "backends": {"a": {"address": "192.0.2.21", "port": 80}}}, "/backends/a/port", "leave it"),
        ({"sorry_servers": [{"address": "192.0.2.29", "port": 8080}]}, "/sorry_servers/0/port", "8080 is not the port"),
        (
            {"sorry_servers": [{"address": "192.0.2.21", "port": 80}]},
            "/sorry_servers/0/address",
            "is the server of a, too",
        ),
        (
            {"backends": {"a": {"address": "192.0.2.21"}, "b": {"address": "192.0.2.21", "port": 80}}},
            "/backends/b/address",
            "name each server once",
        ),
        ({"limit_rate": 5}, "/limit_rate", "nothing knows connections"),
        ({"rate_in": "1M"}, "/rate_in", "past where that is done"),
        ({"traffic_class": "bulk"}, "/traffic_class", "use `dnat`"),
        ({"limit_connections": 5}, "/limit_connections", "leave it out"),
        (
            {"backends": {"a": {"address": "192.0.2.21", "max_connections": 5}}},
            "/backends/a/max_connections",
            "nobody counts connections",
        ),
        ({"flow_timeout": 59}, "/flow_timeout", "60"),
        ({"flow_timeout_udp": 604_801}, "/flow_timeout_udp", "604800"),
    ],
)
def test_what_it_cannot_have_is_refused_by_name(settings, place, words):
    found = faults(**settings)
    assert list(found) == [f"/farms/web{place}"]
    assert words in found[f"/farms/web{place}"]


def test_the_same_is_fine_elsewhere():
    assert not faults(
        forwarding="dnat", backends={"a": {"address": "198.51.100.1", "port": 8080}}, persistence="address"
    )


def test_servers_must_be_on_a_link():
    links = {"eth0": {"addresses": ["192.0.2.1/24"]}}
    assert not faults(links)
    far = {"backends": {"a": {"address": "198.51.100.1"}}, "sorry_servers": [{"address": "198.51.100.2"}]}
    found = faults(links, **far)
    assert list(found) == ["/farms/web/backends/a/address", "/farms/web/sorry_servers/0/address"]
    assert "in no network of a link (192.0.2.0/24)" in found["/farms/web/backends/a/address"]
    assert not faults(links, **far, enabled=False)
    config = validate({"farms": {"web": FARM}})
    assert not list(unreachable(config, [ip_network("192.0.2.0/24")]))
    assert [fault.pointer for fault in unreachable(config, [ip_network("192.0.2.0/28")])] == [
        "/farms/web/backends/a/address",
        "/farms/web/backends/b/address",
    ]


def test_a_links_own_address_cannot_be_balanced_so():
    found = faults({"eth0": {"addresses": ["192.0.2.10/24"]}})
    assert list(found) == ["/farms/web/addresses/0"]
    assert "use another virtual address" in found["/farms/web/addresses/0"]
    config = validate({"farms": {"web": FARM}})
    assert [fault.pointer for fault in taken(config, [ip_address("192.0.2.10")])] == ["/farms/web/addresses/0"]
    assert not list(taken(config, [ip_address("192.0.2.11")]))
