# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses and ports, and who may have which beside others."""

import pytest
from documents import SIX, document, faults, pointers

from agent.model import validate


@pytest.mark.parametrize(
    "address",
    [
        "", "1", "192.0.2", "192.0.2.256", "192.0.2.010", " 192.0.2.1", "192.0.2.1\n", "192.0.2.1/24", "0.0.0.0",
        "127.0.0.1", "224.0.0.1", "169.254.0.1", "255.255.255.255", "240.0.0.1", "0.1.2.3", "::", "::1", "ff02::1",
        "fe80::1", "fe80::1%eth0", "2001:db8::1%1", "::ffff:192.0.2.1", "2001:db8::g", "localhost", 3221225985, None,
        ["192.0.2.1"], "\ud800", "1" * 100_000,
    ],
)  # fmt: skip
def test_addresses(address):
    assert pointers(document(web={"addresses": [address]}))[0] == "/farms/web/addresses/0"
    assert "/farms/web/backends/a/address" in pointers(document(web={"backends": {"a": {"address": address}}}))


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "192.0.2.1/33",
        "192.0.2.1/",
        "192.0.2.0/24",
        "192.0.2.255/24",
        "127.0.0.1/8",
        "fe80::1/64",
        "::/0",
        1,
    ],
)
def test_addresses_of_links(address):
    assert pointers({"links": {"eth0": {"addresses": [address]}}}) == ["/links/eth0/addresses/0"]


@pytest.mark.parametrize(
    "address", ["192.0.2.1/24", "192.0.2.0/31", "192.0.2.255/32", "2001:db8::1/64", "2001:db8::/127"]
)
def test_good_addresses_of_links(address):
    link = validate({"links": {"eth0": {"addresses": [address]}}}).links["eth0"]
    assert [str(known) for known in link.addresses] == [address]


def test_one_address_written_in_two_ways_is_one_address():
    six = SIX | {"addresses": ["2001:db8::10", "2001:DB8:0:0::10"]}
    assert pointers({"farms": {"web": six}}) == ["/farms/web/addresses"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [(80, 80), ("8000-8099", "8000-8099"), ("80-80", 80), ("1-65535", "all"), ("all", "all"), ("0080-0090", "80-90")],
)
def test_ports_are_single_ones_ranges_or_all(written, kept):
    assert validate(document(web={"ports": [written]})).model_dump(mode="json")["farms"]["web"]["ports"] == [kept]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "1 to 65535"), (70000, "1 to 65535"), ("0-10", "1 to 65535"), ("1-70000", "1 to 65535"), (-1, "1 to 65535"),
        ("90-80", "upside down"), ("80", "is not a port"), ("http", "is not a port"), ("80-", "is not a port"),
        ("80,90", "is not a port"), (80.0, "is not a port"), (True, "is not a port"), (None, "is not a port"),
        ("80-90\n", "is not a port"), ("\u0661-9", "is not a port"), (["80"], "is not a port"),
    ],
)  # fmt: skip
def test_ports_that_are_none(value, words):
    ((place, said),) = faults(document(web={"ports": [value]}))
    assert place == "/farms/web/ports/0"
    assert words in said


def test_ports_of_a_farm_do_not_overlap():
    assert pointers(document(web={"ports": [80, "70-90"]})) == ["/farms/web/ports/1"]
    assert pointers(document(web={"ports": ["all", "70-90", 5]})) == ["/farms/web/ports/1", "/farms/web/ports/2"]
    assert validate(document(web={"ports": ["70-79", 80, "81-90"]}))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [([80], ["70-90"]), (["70-90"], [80]), (["70-80"], ["80-90"]), (["all"], [9]), ([1, "70-90"], [60, "75-76"])],
)
def test_ranges_of_two_farms_do_not_overlap(mine, theirs):
    ((place, said),) = faults(document(a={"ports": mine}, b={"ports": theirs}))
    assert place == "/farms/b/addresses/0"
    assert "already served by farm a" in said


def test_ranges_beside_each_other_are_no_overlap():
    assert validate(document(a={"ports": ["70-79", "81-90"]}, b={"ports": [80, "91-100"]}))
    assert validate(document(a={"ports": ["all"]}, b={"ports": ["all"], "protocols": ["udp", "sctp"]}))


def test_no_range_takes_the_port_of_the_gui():
    links = {"links": {"eth0": {"addresses": ["192.0.2.10/24"], "gateways": ["192.0.2.254"]}}}
    assert pointers(document(web={"ports": ["400-500"]}) | links) == ["/farms/web/addresses/0"]


def test_two_farms_cannot_serve_the_same():
    assert pointers(document(a={}, b={})) == ["/farms/b/addresses/0"]
    assert "farm a" in faults(document(a={}, b={}))[0][1]


@pytest.mark.parametrize(
    "other", [{"ports": [81]}, {"protocols": ["udp"]}, {"enabled": False}, {"addresses": ["192.0.2.11"]}]
)
def test_two_farms_that_differ_in_one_thing_can(other):
    validate(document(a={}, b=other))


def test_two_backends_cannot_be_the_same_server():
    same = {"a": {"address": "198.51.100.1"}, "b": {"address": "198.51.100.1"}}
    assert pointers(document(web={"backends": same})) == ["/farms/web/backends/b/address"]
    same["b"]["port"] = 8080
    validate(document(web={"backends": same}))


@pytest.mark.parametrize("forwarding", ["dnat", "snat", "stateless"])
def test_a_server_without_a_port_is_asked_at_the_farms_only_one(forwarding):
    same = {"a": {"address": "198.51.100.1"}, "b": {"address": "198.51.100.1", "port": 80}}
    web = {"forwarding": forwarding}
    ((place, words),) = faults(document(web=web | {"backends": same}))
    assert place == "/farms/web/backends/b/address"
    assert "is the same server and port as backend a" in words
    sorry = web | {"sorry_servers": [{"address": "198.51.100.1", "port": 80}]}
    assert pointers(document(web=sorry)) == ["/farms/web/sorry_servers/0/address"]
    sorry = web | {"backends": {"b": same["b"]}, "sorry_servers": [{"address": "198.51.100.1"}]}
    assert pointers(document(web=sorry)) == ["/farms/web/sorry_servers/0/address"]


@pytest.mark.parametrize("ports", [[80, 81], ["80-81"]])
def test_where_there_are_several_ports_they_are_two(ports):
    backends = {"a": {"address": "198.51.100.1"}, "b": {"address": "198.51.100.1", "port": 80}}
    validate(document(web={"ports": ports, "backends": backends}))


def test_a_backend_is_no_virtual_address():
    backend = {"backends": {"a": {"address": "192.0.2.11"}}}
    other = {"addresses": ["192.0.2.11"]}
    assert pointers(document(a=backend, b=other)) == ["/farms/a/backends/a/address"]
    validate(document(a=backend, b=other | {"enabled": False}))


def test_no_farm_takes_the_port_of_the_gui():
    links = {"eth0": {"addresses": ["192.0.2.10/24"], "gateways": ["192.0.2.254"]}}
    assert pointers(document(web={"ports": [80, 443]}) | {"links": links}) == ["/farms/web/addresses/0"]
    for farm in ({"ports": [443], "protocols": ["udp"]}, {"ports": [443], "enabled": False}, {"ports": [444]}):
        validate(document(web=farm) | {"links": links})
