# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known from the plan before saves time and changes nothing."""

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controller.host import Host
from agent.controller.plan import plan_for
from agent.dataplane import Offered
from agent.health import Verdict
from agent.model import Configuration, validate
from agent.scheduling import Times
from agent.system.links import LinkAddress, SystemLink

NAMES = st.sampled_from(["a", "b"])
BACKENDS = st.fixed_dictionaries(
    {},
    optional={
        "weight": st.just(2),
        "tier": st.just(2),
        "state": st.sampled_from(["drain", "disabled"]),
        "max_connections": st.just(10),
    },
)
FARMS = st.fixed_dictionaries(
    {"ports": st.just([80]), "backends": st.dictionaries(NAMES, BACKENDS, max_size=2)},
    optional={
        "enabled": st.booleans(),
        "scheduler": st.sampled_from(["weighted", "priority"]),
        "checks": st.just([{"type": "tcp"}]),
        "slow_start": st.just(100),
        "drain_timeout": st.just(1),
    },
)
STEPS = st.tuples(
    st.dictionaries(NAMES, FARMS, max_size=2),
    st.frozensets(st.tuples(NAMES, NAMES)),
    st.sampled_from(["healthy", "unhealthy", "unknown"]),
)


class Checker:
    """Says the same of everything that is asked."""

    def __init__(self, health):
        self.health = health

    def verdict(self, _target):
        return Verdict(self.health, "said so")


def document(farms):
    """A document of these farms, with addresses."""
    content = {}
    for place, (name, farm) in enumerate(farms.items(), start=1):
        backends = {key: {"address": f"10.0.{place}.{ord(key)}", **each} for key, each in farm["backends"].items()}
        content[name] = {**farm, "addresses": [f"10.0.0.{place}"], "backends": backends}
    return {"version": 1, "farms": content}


@given(st.lists(STEPS, min_size=2, max_size=4))
def test_a_plan_is_what_it_is_whatever_was_before(steps):
    config, times, ruleset = Configuration(), Times(), None
    for farms, full, health in steps:
        config, checker = validate(document(farms), config), Checker(health)
        plan = plan_for(config, checker, times, [], ruleset, offered=Offered(), full=full)
        afresh = plan_for(config, checker, times, [], None, offered=Offered(), full=full)
        decided = [
            {side: (part.weights, part.roles, part.farm) for side, part in each.ruleset.parts.items()}
            for each in (plan, afresh)
        ]
        assert decided[0] == decided[1]
        ruleset, times = plan.ruleset, plan.times


@pytest.mark.parametrize("first", [["10.0.0.1/24"], ["10.0.0.1/24", "10.1.0.9/24"]])
def test_where_farms_can_be_is_asked_again_when_links_change(monkeypatch, first):
    host = Host(None)

    def misplaced(networks, config):
        held = tuple(LinkAddress(ip_interface(each)) for each in networks)
        link = SystemLink(2, "eth0", None, up=True, carrier=True, physical=True, addresses=held)
        monkeypatch.setattr(host, "links", lambda: [link])
        return [fault.pointer for fault in host.misplaced(config)]

    config = validate({"version": 1, "farms": {"a": {"addresses": ["10.0.0.5"], "ports": [80]}}})
    more = validate({"version": 1, "farms": {**config.farms, "b": {"addresses": ["10.2.0.5"], "ports": [80]}}}, config)
    assert misplaced(first, config) == misplaced(first, config) == []
    assert misplaced(first, more) == misplaced(first, more) == ["/farms/b/addresses/0"]
    assert misplaced(["10.0.9.1/24"], config) == ["/farms/a/addresses/0"]
    assert misplaced(["10.0.0.5/24"], config) == []
    assert misplaced(["10.0.0.0/30"], config) == ["/farms/a/addresses/0"]
