# SPDX-License-Identifier: GPL-2.0-or-later
"""Which farms are offloaded, and how the kernel is told: pure."""

import pytest

from agent.controller.observe import offload_troubles, offloading
from agent.dataplane import Offered, compile_ruleset, readback, reweigh, script
from agent.dataplane.offload import Offload, changes, probe
from agent.dataplane.script import OFFLOAD, delta, delta_from, fresh
from agent.model import validate
from agent.model.offload import kept_from_offload, may_offload, offload_of

LINKS = frozenset({("eth0", 2), ("eth1", 3)})
BOTH = '{ hook ingress priority filter; devices = { "eth0", "eth1" }; counter; }'
SOFTWARE = Offered(LINKS, reason="not all of its network cards can do it")


def document(**farms):
    named = {
        name: {
            "addresses": ["192.0.2.10"],
            "ports": [port],
            "backends": {"a": {"address": "198.51.100.1"}, "b": {"address": "198.51.100.2"}},
            **settings,
        }
        for port, (name, settings) in enumerate(farms.items(), 80)
    }
    return validate({"version": 1, "farms": named})


def compiled(previous=None, offered=SOFTWARE, **farms):
    config = document(**farms)
    weights = {name: {"a": 1, "b": 1} for name in farms}
    return compile_ruleset(config, weights, previous=previous, offered=offered)


def told(commands):
    return [command.text for command in commands if command.set_name == OFFLOAD]


def rules(name):
    """The rules that lead to a flowtable of this name."""
    wanted = ["ct mark @slow return"] if name.endswith("_some") else []
    wanted.append("tcp flags & rst != 0 ct mark set ct mark or 0x1000000 return")
    wanted.append(f"ct packets > 16 ct mark set ct mark and 0xffffff flow add @{name}")
    return [f"add rule inet sluice established {rule}" for rule in wanted]


def test_the_flowtable_comes_with_the_first_farm_that_may_use_it_and_goes_with_the_last():
    none = compiled(slow={"offload": False})
    one = compiled(none, slow={"offload": False}, web={})
    assert none.offload is None
    assert told(fresh(none)) == []
    assert told(delta(none, one)) == [
        f"add flowtable inet sluice software_some {BOTH}",
        *rules("software_some"),
    ]
    assert told(delta(one, none)) == [
        "flush chain inet sluice established",
        "delete flowtable inet sluice software_some",
    ]


def test_the_script_has_the_flowtable_and_hardware_has_its_flag():
    text = script(compiled(web={}, offered=Offered(LINKS, hardware=True, reason="")))
    assert "flowtable inet sluice hardware " in text
    assert "flags offload; counter; }" in text
    assert "\n".join(rules("hardware")) in text.replace("; ", "\n")


def test_links_are_added_and_removed_one_by_one():
    before = compiled(web={})
    after = compiled(before, Offered(frozenset({("eth1", 3), ("eth2", 4)})), web={})
    assert told(delta(before, after)) == [
        'delete flowtable inet sluice software { hook ingress priority filter; devices = { "eth0" }; counter; }',
        'add flowtable inet sluice software { hook ingress priority filter; devices = { "eth2" }; counter; }',
    ]
    gone = {"software": frozenset({"eth1"})}
    assert told(delta(before, after, gone)) == [
        'add flowtable inet sluice software { hook ingress priority filter; devices = { "eth2" }; counter; }'
    ]


def test_a_link_that_comes_again_by_its_name_is_another():
    before = compiled(web={})
    after = compiled(before, Offered(frozenset({("eth0", 2), ("eth1", 9)})), web={})
    assert before.offload != after.offload
    assert len(told(delta(before, after, {"software": frozenset({"eth0"})}))) == 1


def test_a_farm_that_is_left_out_later_empties_the_flowtable_and_nothing_else_does():
    farms = {"web": {}, "other": {}, "slow": {"offload": False}}
    first = compiled(**farms)
    left_out = compiled(first, **{**farms, "web": {"offload": False}})
    assert told(delta(first, left_out)) == [
        "flush chain inet sluice established",
        "delete flowtable inet sluice software_some",
        f"add flowtable inet sluice software_some {BOTH}",
        *rules("software_some"),
    ]
    assert told(delta(left_out, compiled(left_out, **farms))) == []
    assert told(delta(first, compiled(first, **{**farms, "new": {"offload": False}}))) == []
    assert told(delta(first, reweigh(first, {"web": {"a": 1, "b": 0}}))) == []


def found(ruleset):
    """What an agent finds that starts while the kernel holds this."""
    elements = {OFFLOAD: {ruleset.offload.name: (",".join(sorted(ruleset.offload.devices)), "")}}
    for _, each in ruleset.pieces():
        for name, content in each.items():
            elements.setdefault(name, {}).update(content)
    return elements


def test_who_is_left_out_since_the_last_agent_leaves_the_flowtable():
    farms = {"web": {}, "slow": {"offload": False}}
    first = compiled(**farms)
    assert told(delta_from(found(first), compiled(first, **farms))) == []
    assert told(delta_from(found(first), compiled(first, **farms, new={"offload": False}))) == []
    again = {**farms, "web": {"offload": False}, "other": {}}
    assert told(delta_from(found(first), compiled(first, **again)))[:2] == [
        "flush chain inet sluice established",
        "delete flowtable inet sluice software_some",
    ]


def test_what_is_found_is_adopted_and_what_is_strange_is_replaced():
    ruleset = compiled(web={})
    elements = found(ruleset)
    assert delta_from(elements, ruleset) == []
    for held in ({"hardware": ("eth0", "")}, {"mine": ("", "")}, {"software": ("eth0", ""), "software_some": ("", "")}):
        lines = told(delta_from(elements | {OFFLOAD: held}, ruleset))
        assert lines[0] == "flush chain inet sluice established"
        assert lines[1:-3] == [f"delete flowtable inet sluice {name}" for name in sorted(held)]
        assert lines[-2:] == rules("software")


def test_flowtables_are_read_with_any_number_of_links():
    tables = [
        {"metainfo": {}},
        {"flowtable": {"family": "inet", "name": "software", "table": "sluice", "dev": ["b", "a"]}},
        {"flowtable": {"family": "inet", "name": "one", "table": "sluice", "dev": "a"}},
        {"flowtable": {"family": "inet", "name": "none", "table": "sluice"}},
        {"flowtable": {"family": "inet", "name": "foreign", "table": "other", "dev": "a"}},
    ]
    assert readback.flowtables({"nftables": tables}) == {"software": ("a,b", ""), "one": ("a", ""), "none": ("", "")}
    assert readback.flowtables(None) == {}


def test_a_link_whose_name_nft_cannot_take_is_left_out():
    assert compiled(web={}, offered=Offered(frozenset({("a*", 2)}))).offload is None


def test_a_probe_names_no_table_of_ours():
    lines = probe(SOFTWARE).splitlines()
    assert all(" inet sluice_probe" in line for line in lines)
    assert list(changes("inet sluice", {}, None, again=False)) == []
    assert Offload(LINKS, hardware=False, some=True).name == "software_some"


@pytest.mark.parametrize(
    ("settings", "kind", "reasons"),
    [
        ({}, "software", []),
        ({"forwarding": "snat", "protocols": ["tcp", "udp"]}, "software", []),
        ({"offload": False}, "none", ["it is switched off for this farm"]),
        ({"protocols": ["sctp"]}, "none", ["SCTP cannot be offloaded"]),
        ({"protocols": ["tcp", "sctp"]}, "software", ["SCTP cannot be offloaded"]),
        (
            {"protocols": ["all"], "ports": ["all"]},
            "software",
            ["only TCP and UDP can be offloaded, of all the protocols"],
        ),
        ({"enabled": False}, "none", ["the farm is not enabled"]),
    ],
)
def test_a_farm_says_how_its_connections_pass_and_why(settings, kind, reasons):
    farm = document(web=settings).farms["web"]
    assert offload_of(farm, "software", "no card") == (kind, reasons)
    assert may_offload(farm) == (kind == "software" or not farm.enabled)


def test_what_the_machine_cannot_do_is_said_with_the_farm():
    farm = document(web={}).farms["web"]
    assert offload_of(farm, "none", "no link") == ("none", ["no link"])


def test_settings_that_need_every_packet_keep_a_farm_from_it_and_are_named():
    fields = {"rate_in": 1_000_000, "dscp_out": 46, "traffic_class": "bulk"}
    farm = document(web=fields).farms["web"]
    assert set(farm.packet_features()) == set(fields)
    reasons = kept_from_offload(farm)
    assert len(reasons) == len(fields)
    assert all(reason.endswith(" needs every packet") for reason in reasons)
    (reason,) = kept_from_offload(document(web={"forwarding": "direct"}).farms["web"])
    assert reason.startswith("with direct, ")


def test_a_farm_that_gets_such_a_setting_takes_its_connections_with_it():
    before = compiled(web={}, other={})
    after = compiled(before, web={"rate_in": 1_000_000}, other={})
    assert after.offload.some
    assert told(delta(before, after))[:2] == [
        "flush chain inet sluice established",
        "delete flowtable inet sluice software",
    ]


def test_only_a_kernel_that_refuses_is_a_trouble_and_only_where_it_is_wanted():
    refused = Offered(reason="the kernel refuses it: No such file or directory")
    (trouble,) = offload_troubles(compiled(web={}, offered=refused))
    assert trouble.code == "offload-refused"
    assert "No such file or directory" in trouble.message
    assert list(offload_troubles(compiled(web={"offload": False}, offered=refused))) == []
    assert list(offload_troubles(compiled(web={}, offered=Offered()))) == []
    assert list(offload_troubles(None)) == []
    assert offloading(None)[0] == "none"
    assert offloading(compiled(web={}, offered=Offered())) == ("none", "the appliance has no Ethernet link")
    assert offloading(compiled(web={})) == ("software", SOFTWARE.reason)
