# SPDX-License-Identifier: GPL-2.0-or-later
"""What a farm of a document is in the ruleset, without a kernel."""

from ipaddress import ip_network

from rulesets import SIX, WEB, WEB4, compiled, complete, merged

from agent.dataplane import compile_ruleset, readback, script
from agent.dataplane.assignment import Side
from agent.dataplane.limits import meters_of
from agent.dataplane.script import METERS, delta
from agent.model import validate


def test_elements_of_a_farm():
    elements = compiled({"web": WEB}).parts[WEB4].elements
    assert elements["services4"].keys() == {
        f"10.20.0.{host} . {protocol} . {port}"
        for host in (100, 101)
        for protocol in ("tcp", "udp")
        for port in (80, 443)
    }
    assert elements["pickers"] == {"1": ("jump turn_2_0", "web/4")}
    assert elements["buckets"] == {"1 . 0": ("1", ""), "1 . 1": ("2", "")}
    assert elements["hosts4"] == {"1": ("10.30.0.11", "web/a")}
    assert elements["backends4"] == {"2": ("10.30.0.12 . 8080", "web/b")}
    assert "masqueraded" not in elements
    assert compiled({"six": SIX}).parts[Side("six", 6)].elements["masqueraded"] == {"1": ("", "")}


def test_a_farm_that_is_not_enabled_is_not_there():
    ruleset = compiled({"web": {**WEB, "enabled": False}})
    assert not ruleset.parts
    assert ruleset.common["virtual4"] == {}


def test_addresses_of_links_are_not_protected_as_virtual_ones():
    assert set(compiled({"web": WEB}, own=["10.20.0.101"]).common["virtual4"]) == {"10.20.0.100"}
    assert set(compiled({"six": SIX}).common["virtual6"]) == {"fd00::1"}


def test_networks_on_links_are_elements_that_do_not_overlap():
    near = [
        ("lan0", 3, ip_network("10.30.0.0/24")),
        ("lan0", 3, ip_network("10.30.0.0/16")),
        ("lan0", 3, ip_network("fd00:30::/64")),
        ("wan0", 2, ip_network("10.30.0.0/24")),
        ("star*", 9, ip_network("10.40.0.0/24")),
    ]
    config = validate({"version": 1, "farms": {"web": WEB}})
    common = compile_ruleset(config, {"web": {"a": 1}}, near=near).common
    assert set(common["near4"]) == {'"lan0" . 10.30.0.0/16', '"wan0" . 10.30.0.0/24'}
    assert set(common["near6"]) == {'"lan0" . fd00:30::/64'}
    assert set(common["arms"]) == {"2 . 2", "3 . 3"}


def test_names_that_nft_could_mistake_are_data():
    farms = {
        name: {**WEB, "addresses": [f"10.20.1.{index}"]}
        for index, name in enumerate(("table", "drop", "0x1", "a" * 63), 1)
    }
    text_of = script(compiled(farms))
    assert 'comment "table/4"' in text_of
    assert f'comment "{"a" * 63}/4"' in text_of


def test_single_ports_ranges_and_whole_addresses_are_in_maps_of_their_own():
    farms = {
        "mixed": {**WEB, "addresses": ["10.20.0.100"], "ports": [80, "8000-8099"], "protocols": ["tcp", "sctp"]},
        "ports": {**WEB, "addresses": ["10.20.0.103"], "ports": ["all"], "protocols": ["tcp"]},
        "whole": {"addresses": ["10.20.0.102"], "protocols": ["all"], "ports": ["all"]},
    }
    held = merged(compiled(farms))
    mark = {comment: key for key, (_, comment) in held["pickers"].items()}
    assert held["services4"] == {
        "10.20.0.100 . tcp . 80": (mark["mixed/4"], ""),
        "10.20.0.100 . sctp . 80": (mark["mixed/4"], ""),
    }
    assert held["ranges4"] == {
        "10.20.0.100 . tcp . 8000-8099": (mark["mixed/4"], ""),
        "10.20.0.100 . sctp . 8000-8099": (mark["mixed/4"], ""),
        "10.20.0.103 . tcp . 1-65535": (mark["ports/4"], ""),
    }
    assert held["whole4"] == {"10.20.0.102": (mark["whole/4"], "")}


def test_each_family_of_a_farm_has_a_turn_of_its_own():
    both = {
        "addresses": ["10.20.0.100", "fd00::1"],
        "ports": [80],
        "backends": {"a": {"address": "10.30.0.1"}, "b": {"address": "10.30.0.2"}, "c": {"address": "fd00:30::1"}},
    }
    ruleset = compiled({"both": both})
    assert [str(side) for side in ruleset.parts] == ["both/4", "both/6"]
    assert {name: ruleset.share("both", name) for name in "abc"} == {"a": 0.5, "b": 0.5, "c": 1.0}
    assert ruleset.exact_turn("both")
    held = merged(ruleset)
    assert held["services4"]["10.20.0.100 . tcp . 80"] != held["services6"]["fd00::1 . tcp . 80"]
    assert set(ruleset.marks().values()) == {("both", "a"), ("both", "b"), ("both", "c")}


def test_a_farm_that_remembers_has_a_chain_for_it_before_its_picker():
    sticky = {**WEB, "persistence": "address", "persistence_prefix4": 24, "persistence_timeout": 60}
    ruleset = compiled({"web": sticky | {"persistence_static": {"198.51.100.0/24": "b"}}})
    held = merged(ruleset)
    assert held["pickers"] == {"1": ("jump persist4_24_60_static", "web/4")}
    assert held["choosers"] == {"1": ("jump turn_2_0", "")}
    assert held["usable"] == {"1": ("", ""), "2": ("", "")}
    assert held["static4"] == {"1 . 198.51.100.0/24": ("2", "")}
    assert readback.assignment(complete(held)) == ruleset.assignment
    down = merged(compiled({"web": sticky}, {"web": {"a": 1}}))
    assert set(down["usable"]) == {"1"}
    nobody = compiled({"web": sticky}, {"web": {}})
    assert "usable" not in merged(nobody)
    assert not nobody.chains


def test_a_farm_with_limits_has_a_chain_for_them_before_everything_else():
    limits = {"limit_rate": 10, "limit_burst": 25, "limit_connections": 5, "limit_prefix4": 24}
    ruleset = compiled({"web": {**WEB, **limits, "persistence": "address"}})
    held = merged(ruleset)
    assert held["pickers"] == {"1": ("jump limit4_24_r10_b25_c5", "web/4")}
    assert held["admitted"] == {"1": ("jump persist4_32_300", "")}
    assert held["choosers"] == {"1": ("jump turn_2_0", "")}
    assert held["over_rate"] == held["over_connections"] == {"1": ("", "")}
    assert readback.assignment(complete(held)) == ruleset.assignment
    rate, count = sorted(meters_of(ruleset.chains), reverse=True)
    assert (rate.name, rate.timeout) == ("rate4_24_10_25", 3)
    assert count.name == "count4_24_5"
    # Its sources are known further while nobody serves, and by the same set as long as the bound is the same.
    nobody = compiled({"web": {**WEB, **limits, "persistence": "address"}}, {"web": {}}, previous=ruleset)
    assert merged(nobody)["pickers"] == {"1": ("goto refuse", "web/4")}
    assert [chain.name for chain in nobody.chains] == ["limit4_24_r10_b25_c5"]
    other = compiled({"web": {**WEB, **limits, "limit_rate": 20}}, previous=ruleset)
    assert [command.text.split()[:5] for command in delta(ruleset, other) if command.set_name == METERS] == [
        ["table", "inet", "sluice", "{", "set"],
        ["delete", "set", "inet", "sluice", "rate4_24_10_25"],
    ]
    free = compiled({"web": WEB}, previous=ruleset)
    assert not {"admitted", "over_rate", "over_connections"} & merged(free).keys()
    assert not free.chains
