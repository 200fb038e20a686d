# SPDX-License-Identifier: GPL-2.0-or-later
"""Every rule of the document, and input that means harm."""

import json
import resource

import pytest

from agent.model import MAX_BYTES, Configuration, Invalid, canonical, parse, validate
from agent.model.rules import (
    MAX_CLIENTS,
    MAX_HASH_BUCKETS,
    MAX_LIMITS,
    MAX_SERVICES,
    MAX_SIZED,
    MAX_WAYS,
)
from agent.model.text import MAX_FAULTS, TOO_MANY

FARM = {"addresses": ["192.0.2.10"], "ports": [80], "backends": {"a": {"address": "198.51.100.1"}}}
SIX = {"addresses": ["2001:db8::10"], "ports": [80]}


def document(**farms):
    return {"farms": {name.replace("_", "-"): FARM | farm for name, farm in farms.items()}}


def faults(content):
    with pytest.raises(Invalid) as caught:
        validate(content)
    return [(fault.pointer, fault.message) for fault in caught.value.faults]


def pointers(content):
    return [place for place, _ in faults(content)]


def test_an_empty_document_is_the_default():
    assert validate({}) == parse("{}") == Configuration()


def test_the_smallest_farm():
    farm = validate(document(web={})).farms["web"]
    assert (farm.protocols, farm.forwarding, farm.scheduler, farm.enabled) == (["tcp"], "dnat", "round-robin", True)
    assert (farm.backends["a"].weight, farm.backends["a"].state, farm.backends["a"].port) == (1, "enabled", None)
    assert farm.families == (4,)


def test_every_fault_is_told_at_its_place():
    content = {
        "version": 1,
        "colour": "blue",
        "system": {"hostname": "Not A Name"},
        "farms": {
            "web": {
                "addresses": ["192.0.2.300", "192.0.2.1"],
                "ports": [0, 70000, 80.5, "80", True],
                "protocols": ["icmp"],
                "backends": {"a": {"address": "198.51.100.1", "weight": 0, "state": "gone"}, "b": {}},
                "checks": [{"type": "icmp", "interval": 0}],
            },
            "-bad-": FARM,
        },
    }
    assert pointers(content) == sorted(
        [
            "/colour",
            "/farms/-bad-",
            "/farms/web/addresses/0",
            "/farms/web/backends/a/state",
            "/farms/web/backends/a/weight",
            "/farms/web/backends/b/address",
            "/farms/web/checks/0/interval",
            "/farms/web/checks/0/type",
            "/farms/web/ports/0",
            "/farms/web/ports/1",
            "/farms/web/ports/2",
            "/farms/web/ports/3",
            "/farms/web/ports/4",
            "/farms/web/protocols/0",
            "/system/hostname",
        ]
    )


@pytest.mark.parametrize("version", [0, 2, -1, "1", 1.5, 1.0, None, True, 10**4000])
def test_other_versions_are_refused(version):
    assert pointers({"version": version}) == ["/version"]


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 64, "a b", "ä", "a\n", "\n", "a\x00", "../a"])
def test_names_of_farms_and_backends(name):
    assert pointers({"farms": {name: FARM}}) == [f"/farms/{name.replace('/', '~1')}"]
    backends = {name: {"address": "198.51.100.1"}}
    assert len(faults(document(web={"backends": backends}))) == 1


@pytest.mark.parametrize("name", ["", "Eth0", "0eth", "eth 0", "e" * 16, "eth/0", "eth0\n", "../eth0", ".", ".."])
def test_names_of_links(name):
    ((_, message),) = faults({"links": {name: {}}})
    assert "kernel's name" in message


@pytest.mark.parametrize("name", ["", "A", "a..b", ".a", "a.", "a_b", "-a", "a-", "a" * 64, "a\n", ".".join("a" * 9)])
def test_host_names(name):
    assert pointers({"system": {"hostname": name}}) == ["/system/hostname"]


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


@pytest.mark.parametrize(("field", "value"), [("addresses", "192.0.2.9"), ("ports", 80), ("protocols", "tcp")])
def test_a_value_stands_once(field, value):
    assert pointers(document(web={field: [value, value]})) == [f"/farms/web/{field}"]


@pytest.mark.parametrize("field", ["addresses", "ports", "protocols"])
def test_what_a_farm_needs(field):
    assert pointers(document(web={field: []})) == [f"/farms/web/{field}"]


def test_each_family_of_a_farm_has_backends_of_its_own():
    both = {"addresses": ["192.0.2.10", "2001:db8::1"]}
    six = {"b": {"address": "2001:db8::2"}}
    assert validate(document(web={**both, "backends": FARM["backends"] | six})).farms["web"].families == (4, 6)
    assert pointers(document(web={**both, "backends": six})) == ["/farms/web/addresses/0"]
    assert pointers(document(web={"backends": FARM["backends"] | six})) == ["/farms/web/backends/b/address"]
    assert "not translated into each other" in faults(document(web={"backends": six}))[0][1]
    assert validate(document(web={**both, "backends": {}})), "a farm without backends is no fault yet"


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


def test_a_farm_of_all_protocols():
    whole = {"protocols": ["all"], "ports": ["all"]}
    assert validate(document(web=whole))
    assert pointers(document(web={"protocols": ["all"]})) == ["/farms/web/ports"]
    assert pointers(document(web={**whole, "protocols": ["tcp", "all"]})) == ["/farms/web/protocols"]
    ported = {"a": {"address": "198.51.100.1", "port": 80}}
    assert pointers(document(web={**whole, "backends": ported})) == ["/farms/web/backends/a/port"]
    assert pointers(document(a=whole, b={"ports": [25]})) == ["/farms/b/addresses/0"]
    assert pointers(document(web={**whole, "checks": [{}]})) == ["/farms/web/checks/0/port"]
    links = {"links": {"eth0": {"addresses": ["192.0.2.10/24"], "gateways": ["192.0.2.254"]}}}
    assert pointers(document(web=whole) | links) == ["/farms/web/addresses/0"]


def test_a_check_of_a_farm_of_ranges_needs_a_port():
    ranged = {"ports": ["8000-8099"], "checks": [{}]}
    assert pointers(document(web=ranged)) == ["/farms/web/checks/0/port"]
    assert validate(document(web={**ranged, "checks": [{"port": 8000}]}))
    assert validate(document(web={**ranged, "backends": {"a": {"address": "198.51.100.1", "port": 80}}}))


def test_persistence_and_its_static_entries():
    sticky = {"persistence": "address"}
    static = {"203.0.113.7": "a", "203.0.113.0/29": "a", "198.51.100.0/24": "a"}
    ok = document(web=sticky | {"persistence_static": {"203.0.113.7": "a", "198.51.100.0/24": "a"}})
    assert parse(canonical(validate(ok))) == validate(ok)
    assert pointers(document(web=sticky | {"persistence_static": static})) == [
        "/farms/web/persistence_static/203.0.113.7~132"
    ]
    wrong = {"203.0.113.7/24": "a", "nowhere": "a"}
    told = dict(faults(document(web=sticky | {"persistence_static": wrong})))
    assert "203.0.113.0/24" in told["/farms/web/persistence_static/203.0.113.7~124"]
    assert "is not a network" in told["/farms/web/persistence_static/nowhere"]
    unknown = {"203.0.113.0/24": "gone", "2001:db8::/32": "a"}
    assert pointers(document(web=sticky | {"persistence_static": unknown})) == [
        "/farms/web/persistence_static/2001:db8::~132",
        "/farms/web/persistence_static/203.0.113.0~124",
    ]
    whole = {"protocols": ["all"], "ports": ["all"], "persistence": "address-port"}
    assert pointers(document(web=whole)) == ["/farms/web/persistence"]
    assert pointers(document(web=sticky | {"persistence_timeout": 0})) == ["/farms/web/persistence_timeout"]


def test_there_are_so_many_ways_to_remember():
    farms = {
        f"f{number}": FARM
        | {"addresses": [f"192.0.2.{number + 1}"], "persistence": "address"}
        | {"persistence_timeout": number + 1}
        for number in range(MAX_WAYS + 1)
    }
    assert pointers({"farms": farms}) == ["/farms"]
    farms["f1"] |= {"persistence_timeout": 1}
    assert validate({"farms": farms})


def test_limits_are_whole_numbers_within_bounds_and_there_are_so_many_settings():
    limits = {"limit_rate": 100_000, "limit_burst": 1, "limit_connections": 65_535, "limit_action": "reject"}
    assert validate(document(web=limits))
    wrong = {"limit_rate": 0, "limit_burst": 0, "limit_connections": 65_536, "limit_prefix4": 0, "limit_prefix6": 129}
    wrong |= {"limit_resets": 0, "log_rate": 1001, "log_prefix": 'web "'}
    assert pointers(document(web=wrong)) == sorted(f"/farms/web/{name}" for name in wrong)
    farms = {
        f"f{number}": FARM | {"addresses": [f"192.0.2.{number + 1}"], "limit_rate": number + 1, "limit_burst": 5}
        for number in range(MAX_LIMITS + 1)
    }
    ((place, words),) = faults({"farms": farms})
    assert place == "/farms"
    assert "33 different settings of limits" in words
    farms["f1"] |= {"limit_rate": 1}
    assert validate({"farms": farms})
    assert validate({"farms": {name: farm | {"limit_rate": 1, "log_prefix": "x"} for name, farm in farms.items()}})
    assert pointers({"farms": {name: farm | {"limit_rate": 1, "log_prefix": name} for name, farm in farms.items()}})
    udp = {"protocols": ["udp"], "limit_resets": 1, "strict_tcp": True}
    assert pointers(document(web=udp)) == ["/farms/web/limit_resets", "/farms/web/strict_tcp"]
    # A burst says nothing where there is no rate.
    free = {"limit_rate": None, "limit_connections": 7}
    assert validate({"farms": {name: farm | free | {"limit_burst": int(name[1:]) + 1} for name, farm in farms.items()}})


def test_so_many_farms_have_a_size_of_persistence_of_their_own():
    def farms(count, **settings):
        each = FARM | {"persistence": "address", "persistence_size": 1000} | settings
        return {f"f{number}": each | {"addresses": [f"192.0.2.{number + 1}"]} for number in range(count)}

    assert validate({"farms": farms(MAX_SIZED)})
    ((place, said),) = faults({"farms": farms(MAX_SIZED + 1)})
    assert (place, str(MAX_SIZED) in said, "persistence_size" in said) == ("/farms", True, True)
    assert validate({"farms": farms(MAX_SIZED + 1, persistence="none")}), "nobody is remembered"
    assert validate({"farms": farms(4, persistence_size=MAX_CLIENTS // 4)})
    ((place, said),) = faults({"farms": farms(5, persistence_size=MAX_CLIENTS // 4)})
    assert (place, str(MAX_CLIENTS) in said, "persistence_size" in said) == ("/farms", True, True)
    for size in (0, -1, MAX_CLIENTS // 4 + 1, "1000", 1.5):
        assert pointers(document(web={"persistence_size": size})) == ["/farms/web/persistence_size"]
    ways = {name: farm | {"persistence_timeout": number + 1} for number, (name, farm) in enumerate(farms(64).items())}
    remembers = {"persistence": "address"}
    shared = {f"s{n}": FARM | remembers | {"addresses": [f"198.51.100.{n}"]} for n in range(11, 20)}
    assert validate({"farms": ways | shared}), "those with a size of their own are no ways of others"


def test_what_is_hashed_has_ports_and_fits():
    hashing = {"scheduler": "source-hash"}
    whole = {"protocols": ["all"], "ports": ["all"], "hash_port": True}
    assert pointers(document(web=hashing | whole)) == ["/farms/web/hash_port"]
    assert validate(document(web=whole)), "it hashes nothing"
    assert pointers(document(web=hashing | {"hash_prefix4": 0, "hash_prefix6": 129})) == [
        "/farms/web/hash_prefix4",
        "/farms/web/hash_prefix6",
    ]
    backends = {f"b{number}": {"address": f"198.51.100.{number + 1}"} for number in range(21)}
    many = {
        f"f{number}": FARM | hashing | {"addresses": [f"192.0.2.{number + 1}"], "backends": backends}
        for number in range(MAX_HASH_BUCKETS // 65521 + 1)
    }
    assert pointers({"farms": many}) == ["/farms"]
    many.pop("f0")
    assert validate({"farms": many})


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


def test_a_backend_is_no_virtual_address():
    backend = {"backends": {"a": {"address": "192.0.2.11"}}}
    other = {"addresses": ["192.0.2.11"]}
    assert pointers(document(a=backend, b=other)) == ["/farms/a/backends/a/address"]
    validate(document(a=backend, b=other | {"enabled": False}))


def test_a_sorry_server_is_a_server_of_its_own_of_the_farms_family():
    place = "/farms/web/sorry_servers/0/address"
    for address in ("2001:db8::1", "192.0.2.10", "198.51.100.1", "127.0.0.1", "", 7):
        assert pointers(document(web={"sorry_servers": [{"address": address}]})) == [place]
    assert pointers(document(web={"sorry_servers": [{"address": "198.51.100.9", "port": 0}]})) == [
        "/farms/web/sorry_servers/0/port"
    ]
    validate(document(web={"sorry_servers": [{"address": "198.51.100.1", "port": 8080}]}))


def test_each_family_of_a_farm_has_one_sorry_server():
    both = {"addresses": ["192.0.2.10", "2001:db8::1"], "backends": {}}
    four, six = {"address": "198.51.100.9"}, {"address": "2001:db8::9", "port": 8080}
    farm = validate(document(web={**both, "sorry_servers": [six, four]})).farms["web"]
    assert [str(farm.sorry_server(family).address) for family in farm.families] == ["198.51.100.9", "2001:db8::9"]
    assert validate(document(web={**both, "sorry_servers": [six]})).farms["web"].sorry_server(4) is None
    second = document(web={**both, "sorry_servers": [four, {"address": "198.51.100.8"}]})
    assert faults(second) == [
        ("/farms/web/sorry_servers/1/address", "198.51.100.8 is a second IPv4 sorry server; one for each family")
    ]
    assert pointers(document(web={**both, "sorry_servers": [four, six, four]})) == ["/farms/web/sorry_servers"]
    whole = {"protocols": ["all"], "ports": ["all"], "sorry_servers": [four, six]}
    assert pointers(document(web={**both, **whole})) == ["/farms/web/sorry_servers/1/port"]


def test_by_priority_one_backend_is_active():
    assert pointers(document(web={"scheduler": "priority", "minimum_active": 2})) == ["/farms/web/minimum_active"]
    validate(document(web={"scheduler": "priority"}))
    validate(document(web={"minimum_active": 256}))


def test_nobody_starts_slowly_by_source_hash():
    assert pointers(document(web={"scheduler": "source-hash", "slow_start": 9})) == ["/farms/web/slow_start"]
    validate(document(web={"scheduler": "source-hash", "drain_timeout": 9}))


def test_a_check_ends_before_the_next_begins():
    check = {"interval": 1, "timeout": 1.5}
    assert pointers(document(web={"checks": [check]})) == ["/farms/web/checks/0/timeout"]
    validate(document(web={"checks": [{"interval": 2, "timeout": 2}]}))


def test_a_check_of_a_farm_without_tcp_needs_a_port():
    assert pointers(document(web={"protocols": ["udp"], "checks": [{}]})) == ["/farms/web/checks/0/port"]
    validate(document(web={"protocols": ["udp"], "checks": [{"port": 53}]}))


def test_a_check_tries_its_own_port_or_the_backends_or_the_farms():
    farm = validate(
        document(
            web={
                "ports": [80, 81],
                "checks": [{}, {"port": 1}],
                "backends": {"a": {"address": "198.51.100.1"}, "b": {"address": "198.51.100.2", "port": 8080}},
            }
        )
    ).farms["web"]
    found = [farm.target_port(backend, check) for backend in farm.backends.values() for check in farm.checks]
    assert found == [80, 1, 8080, 1]


def test_no_farm_takes_the_port_of_the_gui():
    links = {"eth0": {"addresses": ["192.0.2.10/24"], "gateways": ["192.0.2.254"]}}
    assert pointers(document(web={"ports": [80, 443]}) | {"links": links}) == ["/farms/web/addresses/0"]
    for farm in ({"ports": [443], "protocols": ["udp"]}, {"ports": [443], "enabled": False}, {"ports": [444]}):
        validate(document(web=farm) | {"links": links})


def test_documents_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Configuration().version = 1


# Input that means harm


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"{}{}", "is not JSON"),
        (b'{"version":1,}', "is not JSON"),
        (b"\xff\xfe{}", "is not UTF-8 text (byte 0)"),
        (b'{"system":{"hostname":"\xe4"}}', "is not UTF-8 text (byte 23)"),
        ('{"version":1}'.encode("utf-16"), "is not UTF-8"),
        (b"\x00", "is not JSON"),
        (b'{"version":NaN}', "NaN is not a JSON number"),
        (b'{"version":-Infinity}', "-Infinity is not a JSON number"),
        (b'{"version":1,"version":1}', '"version" stands twice'),
        (b'{"farms":{"a":1,"b":2,"a":1}}', '"a" stands twice'),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"version":' + b"9" * 5000 + b"}", "not a JSON document"),
        (b" " * (MAX_BYTES + 1), "is larger than"),
    ],
)
def test_text_that_is_no_document(text, words):
    with pytest.raises(Invalid) as caught:
        parse(text)
    (fault,) = caught.value.faults
    assert fault.pointer == ""
    assert words in fault.message


def test_text_may_begin_with_a_byte_order_mark():
    assert parse(b'\xef\xbb\xbf{"version":1}') == Configuration()


@pytest.mark.parametrize("content", [None, 1, 1.5, True, "text", [], [[]]])
def test_a_document_is_an_object(content):
    assert faults(content) == [("", "must be an object")]


@pytest.mark.parametrize("depth", [100, 500, 900, 940, 960, 970, 980, 985, 990, 995, 1000])
@pytest.mark.parametrize("signs", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    "place", ['{"version":%s}', '{"farms":{"a":%s}}', '{"farms":{"a":{"ports":[%s]}}}', '{"b":%s}']
)
def test_nesting_of_any_depth_is_a_fault(depth, signs, place):
    with pytest.raises(Invalid):
        parse(place % (signs[0] * depth + "1" + signs[1] * depth))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e-999", "9" * 400, "9" * 4000, "-0", "0.5", "1e0"])
def test_odd_numbers_are_faults(number):
    with pytest.raises(Invalid) as caught:
        parse('{"farms":{"a":{"addresses":["192.0.2.1"],"ports":[N],"checks":[{"rise":N}]}}}'.replace("N", number))
    assert [fault.pointer for fault in caught.value.faults] == ["/farms/a/checks/0/rise", "/farms/a/ports/0"]
    if number != "0.5" and number != "1e0":
        with pytest.raises(Invalid) as caught:
            parse(
                '{"farms":{"a":{"addresses":["192.0.2.1"],"ports":[1],"checks":[{"interval":N}]}}}'.replace("N", number)
            )
        assert "/farms/a/checks/0/interval" in [fault.pointer for fault in caught.value.faults]


def test_surrogates_cannot_break_what_is_told():
    for text in ('{"\\ud800":1}', '{"farms":{"\\ud800":1}}', '{"system":{"hostname":"\\ud800"}}'):
        with pytest.raises(Invalid) as caught:
            parse(text)
        for fault in caught.value.faults:
            fault.message.encode()
            fault.pointer.encode()


def test_the_list_of_faults_is_bounded():
    assert len(faults({f"x{count}": 1 for count in range(1000)})) == MAX_FAULTS


def test_a_flood_of_faults_takes_little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    links = json.dumps({"links": {f"{count:x}": 1 for count in range(300_000)}})
    with pytest.raises(Invalid) as caught:
        parse(links)
    assert "too many to list" in caught.value.faults[0].message
    assert len(caught.value.faults) == 1
    assert len(links) // 2 > TOO_MANY
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_many_names_with_one_twice_are_found_quickly():
    names = ",".join(f'"{count:x}":1' for count in range(200_000))
    with pytest.raises(Invalid, match="stands twice"):
        parse('{"farms":{' + names + ',"0":1}}')


def test_the_services_of_all_farms_are_bounded():
    each = {"ports": list(range(1, 65)), "protocols": ["tcp", "udp"]}
    content = {
        "farms": {
            f"farm-{count}": each | {"addresses": [f"10.{count // 256}.{count % 256}.{host}" for host in range(1, 65)]}
            for count in range(13)
        }
    }
    assert 12 * 64 * 64 * 2 <= MAX_SERVICES < 13 * 64 * 64 * 2
    assert pointers(content) == ["/farms"]
    content["farms"].pop("farm-12")
    validate(content)


def test_ten_thousand_farms_are_a_document():
    farms = {
        f"farm-{count}": {"addresses": [f"10.{count // 250}.{count % 250}.1"], "ports": [80]} for count in range(10_000)
    }
    assert len(validate({"farms": farms}).farms) == 10_000
    farms["one-more"] = {"addresses": ["10.200.1.1"], "ports": [80]}
    assert pointers({"farms": farms}) == ["/farms"]
