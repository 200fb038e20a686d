# SPDX-License-Identifier: GPL-2.0-or-later
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Farm, validate
from agent.model.document import Scheduler as SchedulerName
from agent.scheduling import SCHEDULERS, status, weights


def farm(backends, *, scheduler="round-robin", enabled=True) -> Farm:
    document = {
        "version": 1,
        "farms": {
            "web": {
                "addresses": ["192.0.2.10"],
                "ports": [80],
                "scheduler": scheduler,
                "enabled": enabled,
                "backends": {
                    f"b{index}": {"address": f"198.51.100.{index + 1}", "weight": weight, "state": state}
                    for index, (weight, state) in enumerate(backends)
                },
            }
        },
    }
    return validate(document).farms["web"]


BACKENDS = st.lists(st.tuples(st.integers(1, 256), st.sampled_from(["enabled", "drain"])), max_size=8)
HEALTHS = st.lists(st.sampled_from(["healthy", "unhealthy", "unknown", None]), min_size=8, max_size=8)


def observed(values):
    return {f"b{index}": value for index, value in enumerate(values) if value is not None}


def test_every_scheduler_of_the_model_is_in_the_table():
    assert set(SCHEDULERS) == set(get_args(SchedulerName))


def test_round_robin_ignores_weights_and_weighted_follows_them():
    backends = [(3, "enabled"), (1, "enabled")]
    assert weights(farm(backends), {}) == {"b0": 1, "b1": 1}
    assert weights(farm(backends, scheduler="weighted"), {}) == {"b0": 3, "b1": 1}


@given(BACKENDS, HEALTHS, st.sampled_from(sorted(SCHEDULERS)))
def test_exactly_the_enabled_and_not_unhealthy_take_connections(backends, healths, scheduler):
    health = observed(healths)
    result = weights(farm(backends, scheduler=scheduler), health)
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
    ],
)
def test_status(backends, health, expected):
    web = farm(backends)
    assert status(web, weights(web, health)) == expected


def test_a_farm_that_is_not_enabled_is_disabled_whatever_its_backends():
    web = farm([(1, "enabled")], enabled=False)
    assert status(web, weights(web, {})) == "disabled"
