# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that lead from one document to another, without a kernel."""

import re
from ipaddress import ip_address, ip_network

import pytest
from any_documents import FAMILIES, OWN, any_documents, weights_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rulesets import NEAR, WEB, compiled, executed, merged

from agent.dataplane import Offered, compile_ruleset, readback, reweigh, script
from agent.dataplane.assignment import LAST_MARK, Side
from agent.dataplane.ingress import CHANGED
from agent.dataplane.layout import layout_of
from agent.dataplane.persistence import key_of, mark_of
from agent.dataplane.script import CHAINS, INGRESS_MAPS, MAPS, METERS, compact, delta, delta_from, fresh
from agent.dataplane.skeleton import ELEMENT_SETS
from agent.dataplane.tables import FARM as FARM_BIT
from agent.model import validate


def test_a_network_that_comes_to_a_link_or_goes_is_a_change_of_that_element_only():
    config, weights = validate({"version": 1, "farms": {"web": WEB}}), {"web": {"a": 1, "b": 1}}
    before = compile_ruleset(config, weights, near=[("lan0", 3, ip_network("10.30.0.0/24"))])
    after = compile_ruleset(config, weights, previous=before, near=[("lan0", 3, ip_network("10.31.0.0/24"))])
    assert [command.text for command in delta(before, after)] == [
        'delete element inet sluice near4 { "lan0" . 10.30.0.0/24 }',
        'add element inet sluice near4 { "lan0" . 10.31.0.0/24 }',
    ]
    assert executed(merged(before), delta(before, after)) == merged(after)


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


def test_farms_that_hash_alike_share_a_chain_that_comes_and_goes_with_them():
    hashing = {**WEB, "scheduler": "source-hash"}
    plain = compiled({"web": WEB})
    one = compiled({"web": WEB, "one": hashing | {"addresses": ["10.20.0.104"]}}, previous=plain)
    two = compiled(
        {"web": WEB, "one": hashing | {"addresses": ["10.20.0.104"]}, "two": hashing | {"addresses": ["10.20.0.105"]}},
        previous=one,
    )
    assert [picker.name for picker in one.chains] == ["hash4_2039_32"]
    assert delta(plain, one)[0].text.startswith("table inet sluice { chain hash4_2039_32 { ct mark set ")
    assert one.chains == two.chains
    assert CHAINS not in {command.set_name for command in delta(one, two)}
    assert delta(two, plain)[-1].text == "delete chain inet sluice hash4_2039_32"
    assert script(one).index("chain hash4_2039_32") < script(one).index("jump hash4_2039_32")


def test_chains_that_come_together_share_a_block_and_keep_their_lines():
    everything = {"limit_rate": 5, "log_prefix": "web", "persistence": "address", "persistence_size": 9, "dscp_in": 8}
    ahead = {"forwarding": "direct", "addresses": ["10.20.0.104"], "backends": {"a": {"address": "10.30.0.11"}}}
    commands = fresh(compiled({"web": WEB | everything, "ahead": WEB | ahead}))
    lines = compact(commands).splitlines()
    assert len(lines) == len(commands)
    blocks = "".join(line for line in lines if line.startswith(("table", "chain", "set", "map")))
    tables = re.split(r"(?=table )", blocks)[1:]
    assert len(tables) < 8 < sum(command.structural for command in commands)
    assert all(table.count("{") == table.count("}") for table in tables)
    for line, command in zip(lines, commands, strict=True):
        # What is not of the block itself is the same.
        what = command.text.removesuffix(" }").partition("sluice { ")[2] if command.blocked else command.text
        assert what in line
        assert command.blocked or line == command.text


def test_an_address_that_moves_to_another_farm_leaves_the_first_before():
    first = compiled({"a": {**WEB, "addresses": ["10.20.0.100"]}, "b": {**WEB, "addresses": ["10.20.0.101"]}})
    second = compiled(
        {"a": {**WEB, "addresses": ["10.20.0.101"]}, "b": {**WEB, "addresses": ["10.20.0.100"]}}, previous=first
    )
    assert executed(merged(first), delta(first, second)) == merged(second)


@st.composite
def steps(draw):
    """What a ruleset is made of: a document, the backends' weights and roles, networks of links, what is offered."""
    config = validate(draw(any_documents()))
    weights, roles = draw(weights_of(config))
    own = [ip_address(each) for family in FAMILIES for each in OWN[family]] if draw(st.booleans()) else []
    links = draw(st.sampled_from([(), (("eth0", 2),), (("eth0", 2), ("eth1", 3))]))
    offered = Offered(frozenset(links), hardware=bool(links) and draw(st.booleans()))
    return (config, weights, own), roles, {"near": NEAR[: draw(st.integers(0, len(NEAR)))], "offered": offered}


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps(), min_size=2, max_size=4))
def test_any_sequence_of_changes_leads_to_the_last_document(changes):
    previous, holds = None, {}
    for made_of, roles, world in changes:
        config = made_of[0]
        ruleset = compile_ruleset(*made_of, previous, roles, **world)
        # Those are told by the chains.
        found = {name: held for name, held in holds.items() if name not in (METERS, MAPS, INGRESS_MAPS)}
        assert executed(holds, delta_from(found, ruleset)) == merged(ruleset)
        assert executed({}, fresh(ruleset)) == merged(ruleset)
        if previous:
            assert executed(holds, delta(previous, ruleset)) == merged(ruleset)
        holds = merged(ruleset)
        assert merged(compile_ruleset(*made_of, ruleset.assignment, roles, **world)) == holds
        assert merged(reweigh(ruleset, made_of[1], roles)) == holds
        previous = ruleset
        kept = readback.assignment({name: holds.get(name, {}) for name in ELEMENT_SETS})
        assert kept.sides.keys() == ruleset.assignment.sides.keys()
        for side, numbers in ruleset.assignment.sides.items():
            assert (kept.sides[side].mark, kept.sides[side].backends) == (numbers.mark, numbers.backends)
        farms_now = [farm for farm in config.farms.values() if farm.enabled]
        tunnelled = {
            str(server.address)
            for farm in farms_now
            if farm.forwarding == "tunnel"
            for server in [*farm.backends.values(), *farm.sorry_servers]
        }
        assert ruleset.assignment.tunnels.keys() == tunnelled
        assert len(set(ruleset.assignment.tunnels.values())) == len(tunnelled)
        assert len(ruleset.marks()) == sum(len(farm.backends) + len(farm.sorry_servers) for farm in farms_now)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(steps(), st.data())
def test_other_weights_are_what_the_same_document_would_be_with_them(step, data):
    (config, weights, own), roles, world = step
    before = compile_ruleset(config, weights, own, None, roles, **world)
    weights, roles = data.draw(weights_of(config))
    after = reweigh(before, weights, roles)
    assert executed(merged(before), delta(before, after)) == merged(after)
    assert merged(compile_ruleset(config, weights, own, after.assignment, roles, **world)) == merged(after)


@given(st.integers(1, LAST_MARK), st.booleans())
def test_the_key_of_a_farm_among_clients_at_ingress_says_its_mark(mark, short):
    key = key_of(mark | FARM_BIT)
    assert layout_of("in_keys").unpack_value(layout_of("in_keys").pack_value(key)) == key
    # Another nftables may leave a zero out.
    assert mark_of(key.removesuffix(":0") + ":" if short and key.endswith(":0") else key, ingress=True) == mark


@pytest.mark.parametrize("forwarding", ["direct", "stateless", "tunnel"])
def test_the_same_is_at_ingress_for_farms_that_are_forwarded_there(forwarding):
    web = {**WEB, "addresses": ["10.20.0.100"], "ports": [80], "forwarding": forwarding, "persistence": "address"}
    web |= {"backends": {"a": {"address": "10.30.0.11"}, "b": {"address": "10.30.0.12"}}, "persistence_size": 500}
    web["persistence_static"] = {"198.51.100.0/24": "b"}
    plain = compiled({"web": {**web, "persistence": "none", "persistence_static": {}}}, near=NEAR)
    sticky = compiled({"web": web}, previous=plain, near=NEAR)
    come = [command for command in delta(plain, sticky) if command.structural]
    assert [command.text.split(" {")[1].strip() for command in come] == [
        "map in_sticky4_1_500",
        "chain persist4_32_300_static_own1_500",
    ]
    held, farm, changed = merged(sticky), str(1 | FARM_BIT), CHANGED if forwarding != "direct" else 0
    assert held["in_keys"] == {farm: ("400:1", "")}
    assert held["in_usable"] == {str(mark | changed): ("", "") for mark in (1, 2)}
    assert held["in_static4"] == {f"{farm} . 198.51.100.0/24": (str(2 | changed), "")}
    assert held["in_pickers"] == {farm: ("jump persist4_32_300_static_own1_500", "web/4")}
    assert held["in_choosers"] == {farm: ("jump turn_2_0", "")}
    assert "sticky" not in "".join(command.text for command in delta(sticky, reweigh(sticky, {"web": {"a": 1}})))
    gone = {command.set_name for command in delta(sticky, reweigh(sticky, {"web": {"a": 1}})) if command.farm == "web"}
    assert "in_usable" in gone, "in the transaction that takes the backend out"
    assert not {name for name in merged(plain) if "sticky" in name or name in ("in_keys", "in_usable", "in_choosers")}


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


def test_a_network_of_one_address_is_written_with_its_length():
    static = {"198.51.100.7": "a", "198.51.101.0/24": "b"}
    before = compiled({"web": {**WEB, "persistence": "address", "persistence_static": static}})
    assert [command.text for command in delta(before, compiled({})) if command.set_name == "static4"] == [
        "delete element inet sluice static4 { 1 . 198.51.100.7/32, 1 . 198.51.101.0/24 }"
    ]
