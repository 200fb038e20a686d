# SPDX-License-Identifier: GPL-2.0-or-later
"""When a backend has as many connections as it may have, and when it takes connections again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import validate
from agent.scheduling import full, roles, status, weights

WEB = ("web", "a")


def farm(most, **settings):
    backends = {
        name: {"address": f"198.51.100.{number}", "max_connections": limit, "tier": tier}
        for number, (name, (limit, tier)) in enumerate(most.items(), 1)
    }
    document = {"addresses": ["192.0.2.10"], "ports": [80], "backends": backends, **settings}
    return validate({"version": 1, "farms": {"web": document}}).farms["web"]


@pytest.mark.parametrize(("limit", "back"), [(1, 0), (2, 1), (9, 8), (10, 9), (19, 18), (20, 18), (1000, 900)])
def test_a_tenth_must_end_before_it_takes_connections_again(limit, back):
    limits = {WEB: limit}
    assert full.full_after(limits, {WEB: limit - 1}, ()) == frozenset()
    assert full.full_after(limits, {WEB: limit}, ()) == {WEB}
    assert full.full_after(limits, {WEB: back + 1}, {WEB}) == {WEB}
    assert full.full_after(limits, {WEB: back}, {WEB}) == frozenset()


@given(st.integers(1, 100), st.lists(st.integers(0, 120), max_size=30))
def test_it_is_full_at_its_limit_and_never_when_it_has_none(limit, counts):
    now = frozenset()
    for count in counts:
        now = full.full_after({WEB: limit}, {WEB: count}, now)
        assert bool(now) >= (count >= limit)
        assert not (now and count == 0)


def test_only_backends_with_a_limit_of_farms_that_are_enabled_are_counted():
    web = farm({"a": (5, 1), "b": (None, 1)})
    assert full.watched({"web": web}) == {WEB: 5}
    assert full.watched({"web": web.model_copy(update={"enabled": False})}) == {}
    assert full.full_after({}, {WEB: 9}, {WEB}) == frozenset()


def test_it_is_counted_more_often_where_one_may_soon_be_full_and_no_more_than_a_fifth_of_the_time():
    assert full.pause({WEB: 10}, {WEB: 4}, (), 0.001) == full.FAR
    assert full.pause({WEB: 10}, {WEB: 5}, (), 0.001) == full.NEAR
    assert full.pause({WEB: 10}, {}, {WEB}, 0.001) == full.NEAR
    assert full.pause({WEB: 10}, {}, (), 2) == 8


def test_others_take_over_also_those_of_the_next_tier_and_by_priority():
    web = farm({"a": (5, 1), "b": (5, 1), "c": (5, 2)})
    known = roles(web, {}, full=["a"])
    assert known == {"a": "full", "b": "active", "c": "standby"}
    assert weights(web, known) == {"a": 0, "b": 1, "c": 0}
    assert status(web, known) == "degraded"
    assert roles(web, {}, full=["a", "b"])["c"] == "active"
    assert status(web, roles(web, {}, full=["a", "b", "c"])) == "down"
    alone = farm({"a": (5, 1), "b": (5, 1)}, scheduler="priority")
    assert roles(alone, {}, full=["a"]) == {"a": "full", "b": "active"}


def test_what_else_keeps_a_backend_from_taking_connections_is_said_first():
    web = farm({"a": (5, 1), "b": (None, 1)})
    assert roles(web, {"a": "unhealthy"}, full=["a", "gone"])["a"] == "failed"
