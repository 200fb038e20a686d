# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fields of a farm say together: families, protocols, persistence, limits, sorry servers and checks."""

import pytest
from documents import FARM, document, faults, pointers

from agent.model import CHECKS, canonical, parse, validate
from agent.model.rules import MAX_BOUNDS, MAX_CLIENTS, MAX_HASH_BUCKETS, MAX_LIMITS, MAX_LOGS, MAX_SIZED, MAX_WAYS

KINDS = ", ".join(f"'{kind}'" for kind in CHECKS)


def many(number, different):
    """A document of so many farms; `different` says of a number what the farm of that number has."""
    farms = [FARM | {"addresses": [f"10.1.{each // 250}.{each % 250 + 1}"]} | different(each) for each in range(number)]
    return {"farms": {f"f{each}": farm for each, farm in enumerate(farms)}}


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
    # Also while it is switched off: what is wrong in it does not wait for the day that it is switched on.
    ((_, words),) = faults(document(web={"persistence_static": {"203.0.113.0/24": "gone"}}))
    assert "gone, which the farm has not" in words
    whole = {"protocols": ["all"], "ports": ["all"], "persistence": "address-port"}
    assert pointers(document(web=whole)) == ["/farms/web/persistence"]
    assert pointers(document(web=sticky | {"persistence_timeout": 0})) == ["/farms/web/persistence_timeout"]


def test_there_are_so_many_ways_to_remember():
    config = many(MAX_WAYS + 1, lambda each: {"persistence": "address", "persistence_timeout": each + 1})
    assert pointers(config) == ["/farms"]
    config["farms"]["f1"] |= {"persistence_timeout": 1}
    assert validate(config)


HASHED = {"scheduler": "source-hash"}
AHEAD = {"forwarding": "direct", "checks": []}


def hashed(number):
    """One of 256 settings of source-hash: family, prefix, port, and another number of buckets."""
    if number >= 128:
        six = {"addresses": [f"2001:db8::{number:x}"], "backends": {"a": {"address": "2001:db8:1::1"}}}
        return six | {"hash_prefix6": 1 + number % 64, "hash_port": number >= 192}
    return {"hash_prefix4": 1 + number % 32, "hash_port": number % 64 > 31, "hash_backends": 1 + number // 64 * 9}


@pytest.mark.parametrize(
    ("different", "words"),
    [
        (lambda number: AHEAD | {"flow_timeout": 100 + number}, "of flow_timeout and"),
        (lambda number: AHEAD | {"flow_timeout_udp": 100 + number, "protocols": ["udp"]}, "and flow_timeout_udp"),
        (lambda number: HASHED | hashed(number), "of source-hash"),
        (lambda number: {"deny": [f"l{number % 16}"], "allow": [f"m{number // 16}"]}, "of allow and deny"),
    ],
    ids=["timeouts", "timeouts of UDP", "hashes", "lists"],
)
def test_there_are_so_many_different_chains(different, words):
    def config(count, more):
        lists = {f"{letter}{number}": {} for letter in "lm" for number in range(17)}
        config = many(count, different)
        return {"network_lists": lists, "farms": config["farms"] | {"more": more}}

    again = FARM | {"addresses": ["192.0.2.200"]} | different(0)
    assert validate(config(MAX_WAYS, again))
    six = {"addresses": ["2001:db8::10"], "backends": {"a": {"address": "2001:db8::1"}}}
    another = again | {"flow_timeout": 999, "flow_timeout_udp": 999, "allow": []} | six
    ((place, told),) = faults(config(MAX_WAYS, another))
    assert place == "/farms"
    assert f"have {MAX_WAYS + 1} different settings of" in told
    assert words in told
    # What a farm does not use makes no difference.
    assert validate(config(MAX_WAYS, FARM | {"addresses": ["192.0.2.200"], "flow_timeout": 999, "hash_port": True}))


def test_limits_are_whole_numbers_within_bounds():
    limits = {"limit_rate": 100_000, "limit_burst": 1, "limit_connections": 65_535, "limit_action": "reject"}
    assert validate(document(web=limits))
    wrong = {"limit_rate": 0, "limit_burst": 0, "limit_connections": 65_536, "limit_prefix4": 0, "limit_prefix6": 129}
    wrong |= {"limit_resets": 0, "log_rate": 1001, "log_prefix": 'web "'}
    assert pointers(document(web=wrong)) == sorted(f"/farms/web/{name}" for name in wrong)
    udp = {"protocols": ["udp"], "limit_resets": 1, "strict_tcp": True}
    assert pointers(document(web=udp)) == ["/farms/web/limit_resets", "/farms/web/strict_tcp"]


def test_there_are_so_many_settings_of_limits():
    def settings(each):
        return {"limit_rate": 1 + each % 16, "limit_connections": 1 + each // 16, "limit_burst": 5}

    config = many(MAX_LIMITS, settings)
    assert validate(config)
    config["farms"]["f1"] |= {"strict_tcp": True}
    assert validate(config)
    config["farms"]["more"] = FARM | settings(1)
    ((place, words),) = faults(config)
    assert place == "/farms"
    assert "257 different settings of limits for IPv4" in words
    assert validate(many(MAX_LIMITS + 1, lambda each: {"limit_rate": 1}))
    # A burst says nothing where there is no rate.
    assert validate(many(MAX_LIMITS + 1, lambda each: {"limit_connections": 7, "limit_burst": each + 1}))
    assert validate(many(128, lambda each: {"limit_connections": 7, "limit_prefix6": each + 1}))
    # Nor a prefix or an action where no source is counted, nor what concerns the other IP family.
    actions = ("drop", "reject")
    assert validate(
        many(
            MAX_LIMITS + 1,
            lambda each: {"strict_tcp": True, "limit_prefix4": 32 - each % 32, "limit_action": actions[each % 2]},
        )
    )


def test_there_are_so_many_bounds_of_limits():
    config = many(MAX_BOUNDS + 1, lambda each: {"limit_rate": each + 1, "limit_burst": 5})
    ((place, words),) = faults(config)
    assert place == "/farms"
    assert "193 different bounds of limits" in words
    config["farms"]["f1"] |= {"limit_rate": 1}
    assert validate(config)
    # Each kind is one of its own.
    config["farms"]["f2"] |= {"limit_rate": 1, "limit_resets": 3}
    assert validate(config)
    config["farms"]["f3"] |= {"limit_connections": 3}
    assert pointers(config) == ["/farms"]


def test_how_much_is_logged_in_which_words_is_no_setting_of_limits():
    config = many(MAX_LOGS + 1, lambda each: {"log_prefix": f"farm{each}", "limit_rate": 5})
    ((place, words),) = faults(config)
    assert place == "/farms"
    assert "1025 different pairs of log_prefix and log_rate" in words
    config["farms"]["f1"] |= {"log_prefix": "farm0"}
    assert validate(config)
    config["farms"]["f1"] |= {"log_rate": 7}
    assert pointers(config) == ["/farms"]


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
    backends = {f"b{number}": {"address": f"198.51.100.{number + 1}"} for number in range(51)}
    crowded = hashing | {"backends": backends}
    assert pointers(document(web=crowded | {"hash_backends": 50})) == ["/farms/web/hash_backends"]
    assert validate(document(web=crowded | {"hash_backends": 51}))
    many = {
        f"f{number}": FARM | hashing | {"addresses": [f"192.0.2.{number + 1}"], "hash_backends": 50}
        for number in range(MAX_HASH_BUCKETS // 65521 + 1)
    }
    assert pointers({"farms": many}) == ["/farms"]
    many.pop("f0")
    assert validate({"farms": many})


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


@pytest.mark.parametrize(
    ("check", "where", "words"),
    [
        (
            {"retry_interval": 6},
            "retry_interval",
            "6 s is longer than the interval of 5 s; make it shorter, or leave it out",
        ),
        ({"retry_interval": 0.05}, "retry_interval", "must be at least 0.1, not 0.05"),
        (
            {"retry_interval": 1},
            "timeout",
            "2 s is longer than the retry interval of 1 s; make it at most the retry interval",
        ),
        (
            {"retry_interval": 1, "timeout": 9},
            "timeout",
            "9 s is longer than the interval of 5 s; make it at most the interval",
        ),
        (
            {"address": "localhost"},
            "address",
            '"localhost" is not an IP address; write it like 192.0.2.10 or 2001:db8::10',
        ),
        (
            {"address": "192.0.2.10"},
            "address",
            "192.0.2.10 is a virtual address of the appliance, and checks are not balanced; use a server's own",
        ),
        ({"invert": 1}, "invert", "must be true or false"),
    ],
)
def test_settings_of_checks_that_cannot_be_are_told_by_name(check, where, words):
    assert faults(document(web={"checks": [check]})) == [(f"/farms/web/checks/0/{where}", words)]


def test_a_check_of_a_farm_without_tcp_needs_a_port():
    assert pointers(document(web={"protocols": ["udp"], "checks": [{}]})) == ["/farms/web/checks/0/port"]
    validate(document(web={"protocols": ["udp"], "checks": [{"port": 53}]}))


def test_a_check_by_a_protocol_without_ports_has_none_and_needs_none():
    (fault,) = faults(document(web={"checks": [{"type": "icmp", "port": 80}]}))
    assert fault == ("/farms/web/checks/0/port", "is not possible: ICMP echo has no ports; leave it out")
    validate(document(web={"protocols": ["udp"], "checks": [{"type": "icmp"}]}))


@pytest.mark.parametrize(
    ("check", "where", "words"),
    [
        ({"type": "nagios"}, "/type", f'"nagios" is not possible here; use {KINDS}'),
        ({"type": None}, "/type", f'"None" is not possible here; use {KINDS}'),
        ({"type": []}, "/type", f'"[]" is not possible here; use {KINDS}'),
        ({"colour": 1}, "/colour", "is not a setting of a check of the type `tcp`; leave it out, or correct its name"),
        (["tcp"], "", "must be an object"),
        (None, "", "must be an object"),
    ],
)
def test_a_check_that_is_none_is_told_by_what_is_wrong_with_it(check, where, words):
    assert faults(document(web={"checks": [{}, check]})) == [(f"/farms/web/checks/1{where}", words)]
