# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that lead from one document to another, without a kernel."""

import re
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st
from rulesets import NEAR, WEB, compiled, executed, merged

from agent.dataplane import compile_ruleset, readback, reweigh, script
from agent.dataplane.assignment import Side
from agent.dataplane.script import CHAINS, MAPS, METERS, compact, delta, delta_from, fresh
from agent.dataplane.skeleton import ELEMENT_SETS
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


FARM = st.fixed_dictionaries(
    {
        "ports": st.sampled_from([[1], [2, 3], ["1-4"], [9, "5-8"], ["all"], [1, "3-4", "6-9"]]),
        "protocols": st.sampled_from([["tcp"], ["udp"], ["tcp", "udp", "sctp"]]),
        "forwarding": st.sampled_from(["dnat", "snat", "direct", "stateless", "tunnel"]),
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
    if forwarding not in ("direct", "stateless", "tunnel"):
        return
    settings |= {"persistence": "none", "sorry_servers": [], "limit_rate": None, "limit_connections": None}
    settings |= {"limit_resets": None, "strict_tcp": False, "log_prefix": None}
    for name in backends:
        if forwarding != "stateless":
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
        tunnelled = {
            str(backend.address)
            for farm in farms_now.values()
            if farm.forwarding == "tunnel"
            for backend in farm.backends.values()
        }
        assert ruleset.assignment.tunnels.keys() == tunnelled
        assert len(set(ruleset.assignment.tunnels.values())) == len(tunnelled)
        assert len(ruleset.marks()) == sum(len(farm.backends) + len(farm.sorry_servers) for farm in farms_now.values())


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
