# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose is what the kernel refuses: farm and field, or network list, of everything that comes on demand."""

import pytest
from rulesets import SIX, WEB

from agent.controller.plan import kernel_fault
from agent.dataplane import compile_ruleset
from agent.dataplane.blame import blamed
from agent.dataplane.offload import NOTHING_OFFERED, Offered
from agent.dataplane.refusal import refused
from agent.dataplane.script import OFFLOAD, delta
from agent.model import validate

PLAIN = {"addresses": ["10.20.0.90"], "ports": [80], "backends": {"a": {"address": "10.30.0.11"}}}
LISTS = {"bad": {"networks": ["192.0.2.0/24"]}, "good": {"networks": ["10.0.0.0/8"]}}


def told(web, wanted=lambda command: command.structural, offered=NOTHING_OFFERED):
    """The places of a document that are told for each of the commands, by their texts, that come with a farm."""
    farms = {"other": PLAIN, "web": WEB | web}
    before, after = (
        validate({"farms": each, "network_lists": LISTS}) for each in ({"other": PLAIN, "web": WEB}, farms)
    )
    weights = {name: dict.fromkeys(farm.backends, 1) for name, farm in after.farms.items()}
    old = compile_ruleset(before, weights)
    new = compile_ruleset(after, weights, previous=old, offered=offered)
    refusals = {
        command.text: blamed(refused("no memory", command), new) for command in delta(old, new) if wanted(command)
    }
    return {text: kernel_fault(refusal) for text, refusal in refusals.items()}


@pytest.mark.parametrize(
    ("web", "field"),
    [
        ({"scheduler": "source-hash"}, "scheduler"),
        ({"persistence": "address"}, "persistence"),
        ({"limit_rate": 5}, "limit_rate"),
        ({"limit_connections": 5}, "limit_connections"),
        ({"limit_resets": 5}, "limit_resets"),
        ({"strict_tcp": True}, "strict_tcp"),
        ({"log_prefix": "web"}, "log_prefix"),
        ({"rate_out": "1M"}, "rate_out"),
        ({"dscp_out": 46}, "dscp_out"),
        ({"traffic_class": "bulk"}, "traffic_class"),
        ({"forwarding": "snat", "source_pool": ["10.20.0.50"]}, "source_pool"),
        ({"forwarding": "direct", "backends": {"a": {"address": "10.30.0.11"}}}, "forwarding"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_comes_with_a_field_is_told_by_it(web, field):
    found = told(web)
    assert found
    other = {"/farms/web/flow_timeout"} if field == "forwarding" else set()
    assert {fault.pointer for fault in found.values()} == {f"/farms/web/{field}"} | other
    assert {fault.message for fault in found.values()} == {"the kernel refuses it: no memory"}


def test_chains_of_several_fields_are_each_told_by_theirs():
    both = {"limit_rate": 5, "limit_resets": 5, "limit_connections": 3, "log_prefix": "web", "persistence_size": 9}
    found = told(both | {"persistence": "address", "dscp_in": 8, "dscp_out": 46})
    fields = {text.split()[5]: fault.pointer.rpartition("/")[2] for text, fault in found.items() if "{" in text}
    assert (
        fields.items()
        >= {
            "limit4_32_r5_b20_c3_log": "limit_rate",
            "rate4_32_5_20": "limit_rate",
            "count4_32_3": "limit_connections",
            "reset4_32_5_5": "limit_resets",
            "resets": "limit_resets",
            "resets4_32_5_log": "limit_resets",
            "log_rate_10_web": "log_prefix",
            "away_rate": "log_prefix",
            "dscp_8": "dscp_in",
        }.items()
    )
    assert {field for name, field in fields.items() if name.startswith("sticky")} == {"persistence_size"}
    assert {field for name, field in fields.items() if name.startswith("persist")} == {"persistence"}


def test_what_persistence_brings_is_told_by_it_in_either_table():
    straight = {"forwarding": "direct", "backends": {"a": {"address": "10.30.0.11"}}, "persistence": "address"}
    for web, before in ((straight, "in_"), ({"persistence": "address"}, "")):
        # Another farm's chain of the same name is in the other table.
        found = told(web | {"persistence_size": 9})
        fields = {
            text.split()[5]: fault.pointer for text, fault in found.items() if "persist" in text or "sticky" in text
        }
        assert fields == {
            f"{before}sticky4_2_9": "/farms/web/persistence_size",
            "persist4_32_300_own2_9": "/farms/web/persistence",
        }


def test_a_network_list_is_told_by_its_name_with_its_set_and_its_elements():
    found = told({"deny": ["bad"]}, lambda command: command.farm is None)
    assert {text.split()[4 if text.startswith("table") else 2] for text in found}
    places = {fault.pointer for text, fault in found.items() if "net4_bad" in text and "sieve" not in text}
    assert places == {"/network_lists/bad/networks"}
    assert {fault.pointer for text, fault in found.items() if "chain sieve4" in text} == {"/farms/web/deny"}


def test_what_is_nobodys_is_told_in_words():
    found = told({}, lambda command: command.set_name == OFFLOAD, Offered(frozenset({("eth0", 2)})))
    assert {fault.pointer for fault in found.values()} == {""}
    assert {fault.message for fault in found.values()} == {
        "the kernel refuses it: the flowtable that farms with `offload` share: no memory"
    }
    found = told({"addresses": ["10.20.0.77"]}, lambda command: command.set_name == "virtual4")
    assert {fault.message for fault in found.values()} == {"the kernel refuses it: no memory (in virtual4)"}


def test_what_goes_is_nobodys():
    old = compile_ruleset(validate({"farms": {"web": WEB | {"limit_rate": 5}, "six": SIX}}), {})
    new = compile_ruleset(validate({"farms": {"web": WEB, "six": SIX}}), {}, previous=old)
    goes = [command for command in delta(old, new) if command.structural]
    assert goes
    assert {blamed(refused("busy", command), new).farm for command in goes} == {None}
