# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of sources as chains: farms share them exactly where the model counts one setting."""

import json

from hypothesis import given
from hypothesis import strategies as st

from agent.dataplane.limits import Limits, Resets, policies
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
    assert (policies(one, family) == policies(other, family)) == (limits_of(one, family) == limits_of(other, family))


@given(SETTINGS, st.sampled_from([4, 6]))
def test_a_chain_is_known_by_its_name(settings, family):
    for kind in (Limits, Resets):
        made = kind.of(farm(settings), family)
        assert made is None or kind.named(made.name) == made
