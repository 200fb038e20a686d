# SPDX-License-Identifier: GPL-2.0-or-later
"""From documents to rulesets and their differences, without a kernel."""

import itertools
import json
import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nft_json import held

from agent.dataplane import compile_ruleset, readback, reweigh, script
from agent.dataplane.assignment import Side
from agent.dataplane.kernel import _refusal
from agent.dataplane.limits import Limits, Log, Resets, meters_named, meters_of
from agent.dataplane.persistence import OwnMap, own_maps
from agent.dataplane.pool import HashPicker, picker_of
from agent.dataplane.script import CHAIN_SETS, CHAINS, MAPS, METERS, delta, delta_from, text
from agent.dataplane.skeleton import ELEMENT_SETS
from agent.dataplane.tables import IngressChain
from agent.model import validate
from agent.model.types import LOG_PATTERN

WEB4 = Side("web", 4)
WEB = {
    "addresses": ["10.20.0.100", "10.20.0.101"],
    "protocols": ["tcp", "udp"],
    "ports": [80, 443],
    "backends": {"a": {"address": "10.30.0.11"}, "b": {"address": "10.30.0.12", "port": 8080}},
}
SIX = {"addresses": ["fd00::1"], "ports": [80], "forwarding": "snat", "backends": {"a": {"address": "fd00::11"}}}


NEAR = [("eth0", 2, ip_network("10.30.0.0/16")), ("eth1", 3, ip_network("fd00:30::/64"))]


def compiled(farms, weights=None, own=(), previous=None, roles=None, near=()):
    config = validate({"version": 1, "farms": farms})
    if weights is None:
        weights = {name: dict.fromkeys(farm.backends, 1) for name, farm in config.farms.items()}
    return compile_ruleset(config, weights, [ip_address(address) for address in own], previous, roles, near=near)


def merged(ruleset):
    """All elements of a ruleset by set, as the kernel would hold them; no key may stand in two pieces."""
    result = {}
    for _farm, elements in ruleset.pieces():
        for set_name, content in elements.items():
            held = result.setdefault(set_name, {})
            assert not held.keys() & content.keys()
            held.update(content)
    result[METERS] = {meter.name: ("", "") for meter in meters_of(ruleset.chains)}
    for set_name in CHAIN_SETS.values():
        mine = [chain for chain in ruleset.chains if isinstance(chain, IngressChain) == (set_name != CHAINS)]
        result[set_name] = {chain.name: ("", "") for chain in mine}
    result[MAPS] = {own.name: ("", "") for own in own_maps(ruleset.chains)}
    return {set_name: content for set_name, content in result.items() if content}


def executed(elements, commands):
    """What elements become by commands: the rules of nftables, in small."""
    result = {set_name: dict(content) for set_name, content in elements.items()}
    for command in commands:
        if command.structural:
            _chain(result, command.set_name, command.text)
            continue
        verb, _, _, _, set_name, body = command.text.split(maxsplit=5)
        content = result.setdefault(set_name, {})
        for word in body.strip("{} ").split(", "):
            left, _, value = word.partition(" : ")
            key, _, comment = left.partition(' comment "')
            if verb == "add":
                assert key not in content, f"{key} is in {set_name} already"
                content[key] = (value, comment.rstrip('"'))
            else:
                del content[key]
    return {set_name: content for set_name, content in result.items() if content}


def _chain(result, kind, command):
    """A chain or set comes before it is referred to, and goes when nobody does."""
    content = result.setdefault(kind, {})
    words = command.split()
    if words[0] == "delete":
        leading = (
            ("in_pickers", "lives") if kind not in (CHAINS, METERS, MAPS) else ("pickers", "admitted", "resetters")
        )
        jumps = [value for name in leading for value, _ in result.get(name, {}).values()]
        assert f"jump {words[-1]}" not in jumps
        names = result.get(CHAINS, {})
        limits = [found for name in names for found in (Limits.named(name), Resets.named(name)) if found]
        used = [*meters_of(limits), *(end for each in limits for end in each.ends)]
        maps = {own.name for own in map(OwnMap.of_chain, names) if own}
        assert words[-1] not in {each.name for each in used} | maps
        del content[words[-1]]
    else:
        assert words[5] not in content
        here = {*result.get(METERS, {}), *result.get(CHAINS, {})}
        sets = {word[1:] for word in words if word.startswith(("@rate", "@count", "@reset4", "@reset6"))}
        ends = {after.rstrip(";") for word, after in itertools.pairwise(words) if word == "goto" and "away_" in after}
        assert sets | ends <= here
        maps = {word[1:] for word in words if re.fullmatch("@sticky.*_.*_.*", word) and "_port" not in word}
        assert maps <= result.get(MAPS, {}).keys()
        content[words[5]] = ("", "")


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


def test_a_backend_that_takes_nothing_has_no_bucket_but_keeps_its_element_and_counter():
    elements = compiled({"web": WEB}, {"web": {"a": 1, "b": 0}}).parts[WEB4].elements
    assert set(elements["buckets"].values()) == {("1", "")}
    assert elements["backends4"]


def test_a_farm_without_usable_backend_refuses():
    ruleset = compiled({"web": WEB}, {"web": {}})
    assert ruleset.parts[WEB4].elements["pickers"] == {"1": ("goto refuse", "web/4")}
    assert not ruleset.exact_turn("web")
    assert ruleset.share("web", "a") == 0
    assert ruleset.failed() == set(ruleset.marks())


def test_a_draining_backend_has_not_failed():
    backends = {**WEB["backends"], "a": {"address": "10.30.0.11", "state": "drain"}}
    ruleset = compiled({"web": {**WEB, "backends": backends}}, {"web": {"a": 0, "b": 0}})
    assert {ruleset.marks()[mark] for mark in ruleset.failed()} == {("web", "b")}


def test_who_is_cut_and_who_is_only_not_waited_for():
    states = {"a": "enabled", "b": "drain", "c": "disabled", "d": "enabled"}
    backends = {name: {"address": f"10.30.0.{n}", "state": state} for n, (name, state) in enumerate(states.items(), 1)}
    roles = {"web": {"a": "failed", "b": "failed", "c": "disabled", "d": "active"}}

    def names(ruleset, marks):
        return {ruleset.marks()[mark][1] for mark in marks}

    kept = compiled({"web": {**WEB, "backends": backends}}, {"web": {"d": 1}}, roles=roles)
    assert names(kept, kept.failed()) == {"a", "b", "c"}
    assert names(kept, kept.cut()) == {"c"}
    cutting = {**WEB, "backends": backends, "on_failure": "cut"}
    cut = compiled({"web": cutting}, {"web": {"d": 1}}, roles=roles, previous=kept)
    assert names(cut, cut.cut()) == {"a", "b", "c"}
    assert delta(kept, cut) == [], "the kernel holds the same"
    calm = compiled({"web": cutting}, {"web": {"d": 1}}, roles={"web": {**roles["web"], "b": "draining"}}, previous=cut)
    assert names(calm, calm.cut()) == {"a", "c"}, "a role that changes is seen though the weight is 0 as before"


def test_a_farm_without_usable_backend_drops_when_it_says_so():
    ruleset = compiled({"web": {**WEB, "when_down": "drop"}}, {"web": {}})
    assert ruleset.parts["web", 4].elements["pickers"] == {"1": ("goto discard", "web/4")}


def test_a_sorry_server_takes_what_nobody_takes_and_keeps_its_number():
    sorry = {**WEB, "sorry_servers": [{"address": "10.30.0.99", "port": 8080}], "when_down": "drop"}
    first = compiled({"web": sorry})
    mark = next(mark for mark, who in first.marks().items() if who == ("web", "!4"))
    elements = first.parts["web", 4].elements
    assert elements["backends4"][str(mark)] == ("10.30.0.99 . 8080", "web/!4")
    assert (str(mark), "") not in elements["buckets"].values()
    assert first.failed() == {mark}, "what it has goes to the backends"
    down = compiled({"web": sorry}, {"web": {}}, previous=first)
    assert set(down.parts["web", 4].elements["buckets"].values()) == {(str(mark), "")}
    assert down.share("web", "!4") == 1
    assert down.failed() == set(down.marks()) - {mark}
    assert first.parts["web", 4].numbers == down.parts["web", 4].numbers
    everything = {name: {} for name in ("backends4", "backends6", "hosts4", "hosts6")} | merged(down)
    assert readback.assignment(everything) == down.assignment


def test_each_family_has_its_own_sorry_server_and_one_may_answer_alone():
    both = {
        "addresses": ["10.20.0.100", "fd00::1"],
        "ports": [80],
        "backends": {"a": {"address": "10.30.0.11"}, "b": {"address": "fd00:30::11"}},
        "sorry_servers": [{"address": "fd00:30::99", "port": 8080}, {"address": "10.30.0.99"}],
    }
    up = compiled({"web": both})
    assert sorted(who for _, who in up.marks().values()) == ["!4", "!6", "a", "b"]
    half = compiled({"web": both}, {"web": {"a": 1}}, previous=up)
    shares = {name: half.share("web", name) for name in ("a", "b", "!4", "!6")}
    assert shares == {"a": 1, "b": 0, "!4": 0, "!6": 1}
    assert {half.marks()[mark][1] for mark in half.failed()} == {"!4", "b"}
    assert executed(merged(up), delta(up, half)) == merged(half)


def test_by_source_hash_too_a_tier_and_the_sorry_server_take_over():
    web = {**WEB, "scheduler": "source-hash", "sorry_servers": [{"address": "10.30.0.99"}]}
    standby = compiled({"web": web}, {"web": {"a": 1}}, roles={"web": {"a": "active", "b": "standby"}})
    assert standby.share("web", "a") == 1
    assert {standby.marks()[mark][1] for mark in standby.failed()} == {"!4"}, "who stands by has not failed"
    down = compiled({"web": web}, {"web": {}}, previous=standby)
    assert (down.share("web", "!4"), down.share("web", "a")) == (1, 0)
    assert executed(merged(standby), delta(standby, down)) == merged(down)


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


def test_a_network_that_comes_to_a_link_or_goes_is_a_change_of_that_element_only():
    config, weights = validate({"version": 1, "farms": {"web": WEB}}), {"web": {"a": 1, "b": 1}}
    before = compile_ruleset(config, weights, near=[("lan0", 3, ip_network("10.30.0.0/24"))])
    after = compile_ruleset(config, weights, previous=before, near=[("lan0", 3, ip_network("10.31.0.0/24"))])
    assert [command.text for command in delta(before, after)] == [
        'delete element inet sluice near4 { "lan0" . 10.30.0.0/24 }',
        'add element inet sluice near4 { "lan0" . 10.31.0.0/24 }',
    ]
    assert executed(merged(before), delta(before, after)) == merged(after)


def test_names_that_nft_could_mistake_are_data():
    farms = {
        name: {**WEB, "addresses": [f"10.20.1.{index}"]}
        for index, name in enumerate(("table", "drop", "0x1", "a" * 63), 1)
    }
    text_of = script(compiled(farms))
    assert 'comment "table/4"' in text_of
    assert f'comment "{"a" * 63}/4"' in text_of


def test_one_changed_farm_costs_only_itself():
    farms = {f"f{n}": {**WEB, "addresses": [f"10.20.1.{n}"]} for n in range(1, 50)}
    first = compiled(farms)
    weights = {name: {"a": 1, "b": 1} for name in farms}
    weights["f7"] = {"a": 3, "b": 1}
    second = compiled(farms, weights, previous=first)
    assert [side for side in second.parts if second.parts[side] is not first.parts[side]] == [Side("f7", 4)]
    assert {command.farm for command in delta(first, second)} == {"f7"}


def test_equal_documents_need_no_command():
    assert delta(compiled({"web": WEB}), compiled({"web": WEB})) == []
    assert delta_from(merged(compiled({"web": WEB})), compiled({"web": WEB})) == []


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
    assert readback.assignment(_complete(held)) == ruleset.assignment
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
    assert readback.assignment(_complete(held)) == ruleset.assignment
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


LOGS = st.none() | st.builds(Log, st.integers(1, 1000), st.from_regex(LOG_PATTERN, fullmatch=True))


@settings(deadline=None)
@given(
    st.builds(
        Limits,
        st.sampled_from([4, 6]),
        st.integers(1, 32),
        st.integers(1, 100_000),
        st.integers(1, 100_000),
        st.none() | st.integers(1, 65535),
        st.booleans(),
        st.booleans(),
        LOGS,
    )
    | st.builds(Resets, st.sampled_from([4, 6]), st.integers(1, 32), st.integers(1, 100_000), LOGS)
)
def test_limits_are_known_again_by_the_name_of_their_chain(limits):
    assert type(limits).named(limits.name) == limits
    assert meters_named([limits.name]) == set(limits.meters)
    assert type(limits).named(limits.name + " x") is None
    assert len(limits.name) < 128, "as long as the kernel lets it be"


def test_farms_that_hash_alike_share_a_chain_that_comes_and_goes_with_them():
    hashing = {**WEB, "scheduler": "source-hash"}
    plain = compiled({"web": WEB})
    one = compiled({"web": WEB, "one": hashing | {"addresses": ["10.20.0.104"]}}, previous=plain)
    two = compiled(
        {"web": WEB, "one": hashing | {"addresses": ["10.20.0.104"]}, "two": hashing | {"addresses": ["10.20.0.105"]}},
        previous=one,
    )
    assert [picker.name for picker in one.chains] == ["hash4_509_32"]
    assert delta(plain, one)[0].text.startswith("table inet sluice { chain hash4_509_32 { ct mark set ")
    assert one.chains == two.chains
    assert CHAINS not in {command.set_name for command in delta(one, two)}
    assert delta(two, plain)[-1].text == "delete chain inet sluice hash4_509_32"
    assert script(one).index("chain hash4_509_32") < script(one).index("jump hash4_509_32")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("prefix", [1, 24, 32])
@pytest.mark.parametrize("port", [False, True])
def test_a_chain_is_known_again_by_its_name(family, prefix, port):
    picker = HashPicker(family, 2039, prefix, port)
    assert picker_of(picker.name) == picker
    assert picker_of(picker.name + "0x") is None


def test_an_address_that_moves_to_another_farm_leaves_the_first_before():
    first = compiled({"a": {**WEB, "addresses": ["10.20.0.100"]}, "b": {**WEB, "addresses": ["10.20.0.101"]}})
    second = compiled(
        {"a": {**WEB, "addresses": ["10.20.0.101"]}, "b": {**WEB, "addresses": ["10.20.0.100"]}}, previous=first
    )
    assert executed(merged(first), delta(first, second)) == merged(second)


FARM = st.fixed_dictionaries(
    {
        "ports": st.sampled_from([[1], [2, 3], ["1-4"], [9, "5-8"], ["all"], [1, "3-4", "6-9"]]),
        "protocols": st.sampled_from([["tcp"], ["udp"], ["tcp", "udp", "sctp"]]),
        "forwarding": st.sampled_from(["dnat", "snat", "direct", "stateless"]),
        "scheduler": st.sampled_from(["round-robin", "weighted", "source-hash"]),
        "hash_prefix4": st.sampled_from([24, 32]),
        "persistence": st.sampled_from(["none", "none", "address", "address-port"]),
        "persistence_timeout": st.sampled_from([60, 300]),
        "limit_rate": st.sampled_from([None, None, 10, 20]),
        "limit_connections": st.sampled_from([None, None, 10, 20]),
        "limit_action": st.sampled_from(["drop", "reject"]),
        "persistence_size": st.sampled_from([None, None, 1000, 2000]),
        "limit_resets": st.sampled_from([None, None, 10]),
        "strict_tcp": st.booleans(),
        "log_prefix": st.sampled_from([None, None, "a", "b"]),
        "static": st.booleans(),
        "enabled": st.booleans(),
        "sorry_servers": st.sampled_from([[], [{"address": "10.30.0.9"}], [{"address": "10.30.0.9", "port": 8080}]]),
        "backends": st.dictionaries(
            st.sampled_from(["b1", "b2", "b3"]),
            st.fixed_dictionaries({"port": st.sampled_from([None, 8080])}),
            max_size=3,
        ),
    }
) | st.just({"ports": ["all"], "protocols": ["all"], "backends": {"b1": {}, "b2": {}}})
DOCUMENTS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "b", "c"]), FARM),
        st.permutations([1, 2, 3]),
        st.dictionaries(st.sampled_from(["b1", "b2", "b3"]), st.integers(0, 5)),
    ),
    min_size=2,
    max_size=5,
)


def _fit(settings, backends, host):
    """Leave out what the farm's forwarding cannot do."""
    forwarding = settings.get("forwarding")
    if forwarding not in ("direct", "stateless"):
        return
    settings |= {"persistence": "none", "sorry_servers": [], "limit_rate": None, "limit_connections": None}
    settings |= {"limit_resets": None, "strict_tcp": False, "log_prefix": None}
    for name in backends:
        if forwarding == "direct":
            backends[name] = backends[name] | {"port": None}
        elif name != "six":
            # Its answers must not be those of another farm's backends.
            backends[name] = backends[name] | {"address": f"10.30.{host}.{name[1]}"}
    if forwarding == "stateless":
        settings["ports"] = [host]


@settings(deadline=None)
@given(DOCUMENTS)
def test_any_sequence_of_changes_leads_to_the_last_document(documents):
    previous, holds = None, {}
    for farms, hosts, weights in documents:
        content = {}
        for name, host in zip("abc", hosts, strict=True):
            if name in farms:
                backends = {b: {**v, "address": f"10.30.0.{b[1]}"} for b, v in farms[name]["backends"].items()}
                addresses = [f"10.20.0.{host}"]
                settings = {key: value for key, value in farms[name].items() if key != "static"}
                if farms[name].get("static") and backends:
                    settings["persistence_static"] = {"198.51.100.0/24": min(backends), "198.51.101.7": max(backends)}
                if not {"tcp", "all"} & set(settings["protocols"]):
                    settings |= {"strict_tcp": False, "limit_resets": None}
                if host == 3 and backends:
                    backends["six"] = {"address": "fd00:30::1"}
                    addresses.append("fd00:20::3")
                _fit(settings, backends, host)
                content[name] = {**settings, "addresses": addresses, "backends": backends}
        ruleset = compiled(content, dict.fromkeys(content, weights), previous=previous, near=NEAR[: 1 + len(farms) % 2])
        found = {name: held for name, held in holds.items() if name not in (METERS, MAPS)}  # told by the chains
        assert executed(holds, delta_from(found, ruleset)) == merged(ruleset)
        if previous:
            assert executed(holds, delta(previous, ruleset)) == merged(ruleset)
        previous, holds = ruleset, merged(ruleset)
        kept = readback.assignment({name: holds.get(name, {}) for name in ELEMENT_SETS})
        assert kept.sides.keys() == ruleset.assignment.sides.keys()
        for side, numbers in ruleset.assignment.sides.items():
            assert (kept.sides[side].mark, kept.sides[side].backends) == (numbers.mark, numbers.backends)
        farms_now = {side.farm: part.farm for side, part in ruleset.parts.items()}
        assert len(ruleset.marks()) == sum(len(farm.backends) + len(farm.sorry_servers) for farm in farms_now.values())


WEIGHTS = st.dictionaries(st.sampled_from(["b1", "b2", "b3"]), st.integers(0, 7))


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "gone"]), WEIGHTS, max_size=3), min_size=1, max_size=6))
def test_other_weights_make_what_a_compilation_makes(changes):
    backends = {name: {"address": f"10.30.0.{name[1]}"} for name in ("b1", "b2", "b3")}
    farms = {name: {**WEB, "addresses": [f"10.20.1.{n}"], "backends": backends} for n, name in enumerate("abc", 1)}
    farms["b"]["forwarding"] = "direct"
    farms["c"] |= {"forwarding": "stateless", "backends": {b: {"address": f"10.30.9.{b[1]}"} for b in backends}}
    weights = {name: dict.fromkeys(backends, 1) for name in farms}
    ruleset = compiled(farms, weights, near=NEAR)
    for change in changes:
        weights |= {name: each for name, each in change.items() if name in farms}
        before, ruleset = ruleset, reweigh(ruleset, change)
        whole = compiled(farms, weights, previous=before, near=NEAR)
        assert executed(merged(before), delta(before, ruleset)) == merged(ruleset)
        assert {command.farm for command in delta(before, ruleset) if not command.structural} <= change.keys()
        assert ruleset.turns() == compiled(farms, weights, previous=ruleset, near=NEAR).turns()
        assert ruleset.marks() == whole.marks()
        assert ruleset.failed() == whole.failed()
        assert ruleset.cut() == whole.cut()
        for name in farms:
            assert ruleset.parts[Side(name, 4)].weights == whole.parts[Side(name, 4)].weights
            assert ruleset.parts[Side(name, 4)].elements.keys() == whole.parts[Side(name, 4)].elements.keys()
            assert ruleset.parts[Side(name, 4)].shares == whole.parts[Side(name, 4)].shares
            assert ruleset.exact_turn(name) == whole.exact_turn(name)
    assert reweigh(ruleset, weights) is ruleset


def test_other_roles_alone_make_what_a_compilation_makes():
    backends = {**WEB["backends"], "c": {"address": "10.30.0.13", "state": "drain"}}
    farms = {name: {**WEB, "addresses": [f"10.20.1.{n}"], "backends": backends} for n, name in enumerate("xy", 1)}
    weights = {name: {"a": 1, "b": 0, "c": 0} for name in farms}
    roles = {name: {"a": "active", "b": "standby", "c": "draining"} for name in farms}
    ruleset = compiled(farms, weights, roles=roles)
    assert reweigh(ruleset, weights, roles) is ruleset
    assert not ruleset.failed()
    roles |= {"x": {"a": "active", "b": "failed", "c": "drained"}}
    other = reweigh(ruleset, {"x": weights["x"]}, {"x": roles["x"]})
    assert other.parts == compiled(farms, weights, previous=ruleset, roles=roles).parts
    assert {other.marks()[mark] for mark in other.failed()} == {("x", "b"), ("x", "c")}
    assert {other.marks()[mark] for mark in other.cut()} == {("x", "c")}
    assert delta(ruleset, other) == [], "the kernel holds the same"


def test_without_any_weight_the_sorry_server_takes_over_and_gives_back():
    farms = {"web": {**WEB, "sorry_servers": [{"address": "10.30.0.99"}]}}
    up = compiled(farms)
    down = reweigh(up, {"web": {"a": 0, "b": 0}})
    assert down.parts == compiled(farms, {"web": {}}, previous=up).parts
    assert down.share("web", "!4") == 1
    again = reweigh(down, {"web": {"a": 1, "b": 1}})
    assert merged(again) == merged(up)
    assert again.failed() == up.failed()


def test_a_farm_with_a_size_of_its_own_has_a_map_of_its_own():
    sticky = {**WEB, "persistence": "address", "persistence_size": 500}
    shared = {**WEB, "addresses": ["10.20.1.1"], "persistence": "address"}
    first = compiled({"web": sticky, "shared": shared})
    assert sorted(chain.name for chain in first.chains) == ["persist4_32_300", "persist4_32_300_own2_500"]
    assert "map sticky4_2_500 { typeof meta mark . ip saddr : ct mark; size 500; flags dynamic,timeout; }" in script(
        first
    )
    slower = compiled({"web": sticky | {"persistence_timeout": 60}, "shared": shared}, previous=first)
    names = {key for command in delta(first, slower) if command.structural for key in command.elements}
    assert names == {"persist4_32_300_own2_500", "persist4_32_60_own2_500"}, "the map and who is in it stay"
    larger = compiled({"web": sticky | {"persistence_size": 600}, "shared": shared}, previous=first)
    words = [command.text.split(" {")[0] for command in delta(first, larger) if command.structural]
    assert words == ["table inet sluice"] * 2 + [
        "delete chain inet sluice persist4_32_300_own2_500",
        "delete map inet sluice sticky4_2_500",
    ]
    down = compiled({"web": sticky, "shared": shared}, {"web": {}, "shared": {}}, previous=first)
    assert [chain.name for chain in down.chains] == ["persist4_32_300_own2_500"], "its clients outlive its backends"
    assert reweigh(first, {"web": {}}).chains == first.chains


def test_other_weights_find_no_turn_that_a_farm_has_already():
    farms = {f"f{n}": {**WEB, "addresses": [f"10.20.1.{n}"]} for n in range(1, 13)}
    ruleset = compiled(farms)
    for name in farms:
        ruleset = reweigh(ruleset, {name: {"a": 1023, "b": 1}})
    pickers = [part.numbers.picker for part in ruleset.parts.values()]
    assert [picker.kind for picker in pickers] == ["turn"] * 10 + ["random"] * 2
    assert len(set(pickers)) == 11


def test_what_the_kernel_holds_is_understood_again():
    listing = {
        "nftables": [
            {"metainfo": {"json_schema_version": 1}},
            {"map": {"name": "backends4", "comment": "x", "elem": [
                [{"elem": {"val": 2, "comment": "web/b", "counter": {"packets": 3, "bytes": 180}}},
                 {"concat": ["10.30.0.12", 8080]}]]}},
        ]
    }  # fmt: skip
    (found,) = held(json.loads(json.dumps(listing)))
    assert (found.key, found.element, found.packets) == ("2", ("10.30.0.12 . 8080", "web/b"), 3)
    assert readback.comment(listing) == "x"


@pytest.mark.parametrize("protocol", ["tcp", 6, "6"])
def test_protocols_are_understood_as_name_and_number(protocol):
    item = [{"concat": ["fd00::1", protocol, 80]}, 7]
    (found,) = held({"nftables": [{"map": {"elem": [item]}}]})
    assert found.key == "fd00::1 . tcp . 80"


def test_numbers_are_read_back_from_the_elements():
    ruleset = compiled({"web": WEB, "six": SIX})
    assert readback.assignment(merged(ruleset) | {"hosts6": {}, "backends6": {}}) is not None
    assert readback.assignment(_complete(merged(ruleset))) == ruleset.assignment


def _complete(held):
    return {name: {} for name in ("backends4", "backends6", "hosts4", "hosts6")} | held


@pytest.mark.parametrize(
    "elements",
    [{}, {"pickers": {"x": ("jump turn_2_0", "web/4")}}, {"pickers": {"1": ("", "web/4")}}],
)
def test_elements_of_another_software_are_not_adopted(elements):
    assert readback.assignment(elements) is None


def test_a_refusal_names_the_farm_and_field_of_the_line_that_nft_points_at():
    commands = delta(compiled({}), compiled({"web": WEB}))
    line = next(n for n, command in enumerate(commands, 1) if command.set_name == "backends4")
    refusal = _refusal(
        f"/proc/self/fd/4:{line}:38-42: Error: Could not process rule: File exists\nadd ...\n", commands, 0
    )
    assert (refusal.farm, refusal.field, refusal.message) == ("web", "backends", "Could not process rule: File exists")
    other = _refusal("netlink: Error: cache initialization failed: Operation not permitted\n", commands, 0)
    assert other.farm is None
    assert "not permitted" in other.message
    assert text(commands).splitlines()[line - 1] == commands[line - 1].text
