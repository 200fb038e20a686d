# SPDX-License-Identifier: GPL-2.0-or-later
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Farm, validate
from agent.model.farm import Scheduler as SchedulerName
from agent.scheduling import SCHEDULERS, roles, status, weights


def farm(backends, *, scheduler="round-robin", enabled=True, **settings) -> Farm:
    document = {
        "version": 1,
        "farms": {
            "web": {
                "addresses": ["192.0.2.10"],
                "ports": [80],
                "scheduler": scheduler,
                "enabled": enabled,
                "backends": {
                    f"b{index}": {
                        "address": f"198.51.100.{index + 1}",
                        "weight": weight,
                        "state": state,
                        "tier": tier[0] if tier else 1,
                    }
                    for index, (weight, state, *tier) in enumerate(backends)
                },
                **settings,
            }
        },
    }
    return validate(document).farms["web"]


BACKENDS = st.lists(st.tuples(st.integers(1, 256), st.sampled_from(["enabled", "drain", "disabled"])), max_size=8)
HEALTHS = st.lists(st.sampled_from(["healthy", "unhealthy", "unknown", None]), min_size=8, max_size=8)


def weighed(web, health=None):
    return weights(web, roles(web, health or {}))


def observed(values):
    return {f"b{index}": value for index, value in enumerate(values) if value is not None}


def test_every_scheduler_of_the_model_is_in_the_table():
    assert set(SCHEDULERS) == set(get_args(SchedulerName))


def test_round_robin_ignores_weights_and_weighted_follows_them():
    backends = [(3, "enabled"), (1, "enabled")]
    assert weighed(farm(backends)) == {"b0": 1, "b1": 1}
    assert weighed(farm(backends, scheduler="weighted")) == {"b0": 3, "b1": 1}


@given(BACKENDS, HEALTHS, st.sampled_from(sorted(SCHEDULERS.keys() - {"priority"})))
def test_exactly_the_enabled_and_not_unhealthy_take_connections(backends, healths, scheduler):
    health = observed(healths)
    result = weighed(farm(backends, scheduler=scheduler), health)
    assert list(result) == [f"b{index}" for index in range(len(backends))]
    for index, (_, state) in enumerate(backends):
        takes = state == "enabled" and health.get(f"b{index}") != "unhealthy"
        assert (result[f"b{index}"] > 0) == takes


@pytest.mark.parametrize(
    ("backends", "health", "expected"),
    [
        ([], {}, "down"),
        ([(1, "enabled"), (1, "enabled")], {}, "up"),
        ([(1, "enabled"), (1, "enabled")], {"b0": "healthy", "b1": "unhealthy"}, "degraded"),
        ([(1, "enabled"), (1, "enabled")], {"b0": "unhealthy", "b1": "unhealthy"}, "down"),
        ([(1, "enabled"), (1, "drain")], {"b1": "unhealthy"}, "up"),
        ([(1, "drain"), (1, "drain")], {}, "down"),
        ([(1, "enabled"), (1, "disabled")], {}, "up"),
        ([(1, "disabled"), (1, "enabled")], {"b1": "unhealthy"}, "down"),
    ],
)
def test_status(backends, health, expected):
    web = farm(backends)
    assert status(web, roles(web, health)) == expected


def test_a_farm_that_is_not_enabled_is_disabled_whatever_its_backends():
    web = farm([(1, "enabled")], enabled=False)
    assert status(web, roles(web, {})) == "disabled"
    assert roles(web, {}) == {"b0": "disabled"}
    assert weighed(web) == {"b0": 0}


@pytest.mark.parametrize(
    ("state", "health", "role"),
    [
        ("enabled", "healthy", "active"),
        ("enabled", "unknown", "active"),
        ("enabled", "unhealthy", "failed"),
        ("drain", "healthy", "draining"),
        ("drain", "unhealthy", "failed"),
        ("disabled", "unhealthy", "disabled"),
    ],
)
def test_the_role_says_why_a_backend_has_its_weight(state, health, role):
    assert roles(farm([(1, state)]), {"b0": health}) == {"b0": role}


@pytest.mark.parametrize("health", ["healthy", "unhealthy"])
def test_a_drain_that_came_to_its_deadline_is_over_whatever_the_health(health):
    assert roles(farm([(1, "drain")]), {"b0": health}, {"b0"}) == {"b0": "drained"}


ON = "enabled"


@pytest.mark.parametrize(
    ("backends", "least", "unhealthy", "active", "said"),
    [
        ([(1, ON, 1), (1, ON, 1), (1, ON, 2)], 1, "", "b0 b1", "up"),
        ([(1, ON, 1), (1, ON, 1), (1, ON, 2)], 1, "b0", "b1", "degraded"),
        ([(1, ON, 1), (1, ON, 1), (1, ON, 2)], 1, "b2", "b0 b1", "degraded"),
        ([(1, ON, 1), (1, ON, 1), (1, ON, 2)], 1, "b0 b1", "b2", "degraded"),
        ([(1, ON, 1), (1, ON, 1), (1, ON, 2)], 2, "b0", "b1 b2", "degraded"),
        ([(1, ON, 1), (1, ON, 2), (1, ON, 3)], 2, "", "b0 b1", "up"),
        ([(1, ON, 1), (1, ON, 2), (1, ON, 3)], 9, "", "b0 b1 b2", "up"),
        ([(1, ON, 5), (1, ON, 7)], 1, "", "b0", "up"),
        ([(1, "drain", 1), (1, ON, 2)], 1, "", "b1", "degraded"),
        ([(1, "disabled", 1), (1, ON, 1), (1, ON, 2)], 1, "", "b1", "up"),
        ([(1, ON, 1), (1, ON, 2)], 1, "b0 b1", "", "down"),
    ],
)
def test_tiers_are_opened_until_enough_are_active(backends, least, unhealthy, active, said):
    web = farm(backends, minimum_active=least)
    known = roles(web, dict.fromkeys(unhealthy.split(), "unhealthy"))
    assert [name for name, role in known.items() if role == "active"] == active.split()
    assert {name for name, weight in weights(web, known).items() if weight} == set(active.split())
    assert {name for name, role in known.items() if role == "failed"} == set(unhealthy.split())
    assert status(web, known) == said


@pytest.mark.parametrize(
    ("unhealthy", "active", "said"),
    [("", "b1", "up"), ("b1", "b3", "degraded"), ("b1 b3", "b0", "degraded"), ("b1 b3 b0 b2", "", "down")],
)
def test_by_priority_the_first_by_tier_and_name_takes_all(unhealthy, active, said):
    web = farm([(9, ON, 2), (1, ON, 1), (1, ON, 3), (9, ON, 1)], scheduler="priority")
    known = roles(web, dict.fromkeys(unhealthy.split(), "unhealthy"))
    assert {name: weight for name, weight in weights(web, known).items() if weight} == dict.fromkeys(active.split(), 1)
    assert status(web, known) == said


def test_each_family_of_a_farm_has_its_own_tiers():
    content = {
        "addresses": ["192.0.2.10", "2001:db8::10"],
        "ports": [80],
        "backends": {
            "four": {"address": "198.51.100.1"},
            "four-b": {"address": "198.51.100.2", "tier": 2},
            "six": {"address": "2001:db8:1::1", "tier": 2},
            "six-b": {"address": "2001:db8:1::2", "tier": 3},
        },
    }
    for scheduler in ("round-robin", "priority"):
        web = validate({"version": 1, "farms": {"web": content | {"scheduler": scheduler}}}).farms["web"]
        calm, fallen = roles(web, {}), roles(web, {"six": "unhealthy"})
        assert {name for name, role in calm.items() if role == "active"} == {"four", "six"}
        assert {name for name, role in fallen.items() if role == "active"} == {"four", "six-b"}
        assert (status(web, calm), status(web, fallen)) == ("up", "degraded")


TIERED = st.lists(
    st.tuples(st.integers(1, 256), st.sampled_from(["enabled", "drain", "disabled"]), st.integers(1, 8)), max_size=8
)


@given(TIERED, HEALTHS, st.sampled_from(sorted(SCHEDULERS)), st.integers(1, 9))
def test_nobody_stands_by_while_nobody_is_active_and_better_tiers_come_first(backends, healths, scheduler, least):
    web = farm(backends, scheduler=scheduler, minimum_active=1 if scheduler == "priority" else least)
    known = roles(web, observed(healths))
    tiers = {role: [web.backends[name].tier for name in known if known[name] == role] for role in known.values()}
    if "standby" in tiers:
        assert len(tiers["active"]) >= web.minimum_active
        assert max(tiers["active"]) <= min(tiers["standby"])
    assert (status(web, known) == "down") == ("active" not in tiers)
