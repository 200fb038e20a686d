# SPDX-License-Identifier: GPL-2.0-or-later
"""What farms that are forwarded at ingress can have, and what is refused by name."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import MAX_FORWARDED, Configuration, Invalid, conform, taken, unreachable, validate
from agent.model.ingress_rules import MAX_ANSWERS, answers

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
        ({"limit_resets": 5}, "/limit_resets", "leave it out"),
        ({"strict_tcp": True}, "/strict_tcp", "nothing knows connections"),
        ({"log_prefix": "web"}, "/log_prefix", "use `dnat`"),
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


def test_servers_at_ingress_are_bounded():
    each = FARM | {"protocols": ["tcp", "udp"]}
    backends = {f"b{number}": {"address": f"192.0.3.{number}"} for number in range(256)}
    farms = {
        f"farm{count}": each | {"addresses": [f"10.{count // 250}.{count % 250}.1"], "backends": backends}
        for count in range(MAX_FORWARDED // 512)
    }
    validate({"farms": farms})
    farms["more"] = FARM
    with pytest.raises(Invalid, match=f"have {MAX_FORWARDED + 2} backends") as caught:
        validate({"farms": farms})
    assert [fault.pointer for fault in caught.value.faults] == ["/farms"]
    farms["more"] = FARM | {"forwarding": "dnat"}
    validate({"farms": farms})


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


def stateless(*, others=None, **settings):
    content = {"farms": {"web": FARM | {"forwarding": "stateless"} | settings} | (others or {})}
    try:
        validate(content)
    except Invalid as invalid:
        return {fault.pointer: fault.message for fault in invalid.faults}
    return {}


def test_a_stateless_farm_may_have_other_ports_and_several():
    assert not stateless(backends={"a": {"address": "192.0.2.21", "port": 8080}})
    assert not stateless(ports=[80, 81], protocols=["tcp", "udp", "sctp"])
    both = {
        "addresses": ["192.0.2.10", "2001:db8::10"],
        "backends": FARM["backends"] | {"c": {"address": "2001:db8::1"}},
    }
    assert not stateless(**both)
    assert not stateless(
        backends={"a": {"address": "192.0.2.21", "port": 1}, "b": {"address": "192.0.2.21", "port": 2}}
    )


@pytest.mark.parametrize(
    ("settings", "place", "words"),
    [
        ({"addresses": ["192.0.2.10", "192.0.2.11"]}, "/addresses/1", "answers come from one"),
        ({"ports": [80, "8000-8099"]}, "/ports/1", "8000-8099 is a range"),
        ({"ports": [80, 81], "backends": {"a": {"address": "192.0.2.21", "port": 80}}}, "/backends/a/port", "several"),
        ({"protocols": ["all"], "ports": ["all"]}, "/protocols", "cannot be `all` with `stateless`"),
    ],
)
def test_what_leaves_open_where_answers_come_from_is_refused_by_name(settings, place, words):
    found = stateless(**settings)
    assert words in found[f"/farms/web{place}"]


@given(st.data())
def test_servers_that_are_asked_alike_are_found_as_by_comparing_each_with_each(data):
    few = st.integers(1, 4)
    places = st.builds(lambda host, port: (f"198.51.100.{host}", port), few, st.none() | few)
    farms = {}
    for number in range(data.draw(st.integers(1, 4))):
        forwarding = data.draw(st.sampled_from(["stateless", "dnat", "direct"]))
        servers = data.draw(st.lists(places, min_size=1, max_size=3, unique=True))
        ports = data.draw(st.lists(few, min_size=1, max_size=2, unique=True))
        if forwarding == "dnat":
            ports = data.draw(st.sampled_from([ports, ["2-3"], ["all"]]))
        farms[f"f{number}"] = {
            "addresses": [f"192.0.2.{number + 1}"],
            "ports": ports,
            "protocols": data.draw(st.sampled_from([["tcp"], ["udp"], ["tcp", "udp"]])),
            "forwarding": forwarding,
            "backends": {f"b{place}": {"address": each, "port": port} for place, (each, port) in enumerate(servers)},
        }
    config = conform(Configuration, {"farms": farms})
    told = {fault.pointer for fault in answers(config)}

    def asked(farm, server):
        ports = [server.port] if server.port else [port for port in range(1, 5) if any(port in e for e in farm.ports)]
        return {(server.address, protocol, port) for protocol in farm.protocols for port in ports}

    sides = [(name, farm, key, asked(farm, server)) for name, farm in config.farms.items()
             for key, server in farm.backends.items() if farm.forwarding != "direct"]  # fmt: skip
    expected = {
        f"/farms/{name}/backends/{key}/address"
        for place, (name, farm, key, one) in enumerate(sides)
        for before, (other, earlier, _key, another) in enumerate(sides)
        if name != other and one & another and earlier.forwarding == "stateless"
        if farm.forwarding == "dnat" or before < place
    }
    assert told == expected


def test_stateless_servers_are_asked_at_so_many_ports():
    farms = {
        f"f{number}": FARM
        | {"forwarding": "stateless", "addresses": [f"198.51.100.{number + 1}"], "ports": [*range(1, 65)]}
        | {"protocols": ["tcp", "udp"], "checks": [], "backends": {
            f"b{place}": {"address": f"192.0.{number}.{place + 1}"} for place in range(125)}}
        for number in range(MAX_ANSWERS // 16_000)
    }  # fmt: skip
    assert validate({"farms": farms})
    farms["f0"]["backends"]["more"] = {"address": "192.0.2.200"}
    with pytest.raises(Invalid) as caught:
        validate({"farms": farms})
    (fault,) = caught.value.faults
    assert fault.pointer == "/farms"
    assert "have 400128 combinations of server, protocol and port with `stateless`" in fault.message


@pytest.mark.parametrize("forwarding", ["stateless", "dnat", "snat"])
def test_a_server_whose_answers_could_be_another_farms_is_refused(forwarding):
    server = {"x": {"address": "192.0.2.21"}}
    other = FARM | {"addresses": ["192.0.2.11"], "forwarding": forwarding, "backends": server}
    found = stateless(others={"shop": other})
    assert list(found) == ["/farms/shop/backends/x/address"]
    assert "its answers would be taken for that farm's" in next(iter(found.values()))
    assert not stateless(others={"shop": other | {"enabled": False}})
    assert not stateless(others={"shop": other | {"ports": [81]}})
    assert not stateless(others={"shop": other | {"protocols": ["udp"], "checks": []}})
    assert not stateless(others={"shop": other | {"backends": {"x": {"address": "192.0.2.21", "port": 81}}}})
    if forwarding != "stateless":
        whole = {"ports": ["all"], "protocols": ["all"]}
        assert stateless(others={"shop": other | whole})
        assert stateless(others={"shop": other | {"ports": ["1-100"]}})
