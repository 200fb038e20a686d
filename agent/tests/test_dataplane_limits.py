# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of sources as chains: farms share them exactly where the model counts one setting."""

import json

from hypothesis import given
from hypothesis import strategies as st

from agent.dataplane.limits import Limits, Log, Resets, meters_of, policies
from agent.model import Farm, limits_of

FIELDS = {
    "limit_rate": (None, 10),
    "limit_burst": (20, 30),
    "limit_connections": (None, 5),
    "limit_prefix4": (24, 32),
    "limit_prefix6": (48, 64),
    "limit_action": ("drop", "reject"),
    "limit_resets": (None, 3),
    "strict_tcp": (False, True),
    "log_prefix": (None, "web"),
    "log_rate": (10, 20),
}
SETTINGS = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FIELDS.items()})


def farm(settings):
    return Farm.model_validate_json(json.dumps({"addresses": ["192.0.2.1", "2001:db8::1"], "ports": [80], **settings}))


@given(SETTINGS, st.sampled_from(list(FIELDS)), st.sampled_from([4, 6]))
def test_farms_have_the_same_chains_exactly_where_their_settings_are_one(settings, name, family):
    one, other = (farm(settings | {name: value}) for value in FIELDS[name])
    chains = [{each for each in policies(every, family) if not isinstance(each, Log)} for every in (one, other)]
    assert (chains[0] == chains[1]) == (limits_of(one, family) == limits_of(other, family))


@given(SETTINGS, st.sampled_from([4, 6]))
def test_the_model_counts_the_sets_and_a_farm_that_logs_has_a_chain_for_each_kind_of_line(settings, family):
    web = farm(settings)
    chains = policies(web, family)
    assert len(meters_of(chains)) == len(limits_of(web, family).bounds)
    asked = {word for each in chains for rule in each.rules for word in rule.split() if word.startswith("@log_")}
    assert asked == {f"@{each.map}" for each in chains if isinstance(each, Log)}
    assert all((each.rate, each.prefix) == (web.log_rate, "web") for each in chains if isinstance(each, Log))
    assert bool(asked) == (web.log_prefix is not None)


@given(SETTINGS, st.sampled_from([4, 6]))
def test_a_chain_is_known_by_its_name(settings, family):
    for kind in (Limits, Resets):
        made = kind.of(farm(settings), family)
        assert made is None or kind.named(made.name) == made
