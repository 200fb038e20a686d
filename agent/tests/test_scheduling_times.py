# SPDX-License-Identifier: GPL-2.0-or-later
"""Since when backends drain, by a clock of the test's own."""

import json

import pytest

from agent.model import validate
from agent.scheduling import STEPS, Times, roles, weights


def after(times, config, now, **health):
    """What holds from now on; backends are healthy unless it is said otherwise."""
    found = {name: health.get(name, "healthy") for name in config.farms["web"].backends}
    return times.after(config.farms, {"web": found} if config.farms["web"].enabled else {}, now)


def document(timeout=60, enabled=True, slow=None, **states):
    backends = {
        name: {"address": f"198.51.100.{number}", "state": state}
        for number, (name, state) in enumerate(states.items(), 1)
    }
    web = {
        "addresses": ["192.0.2.10"],
        "ports": [80],
        "backends": backends,
        "drain_timeout": timeout,
        "slow_start": slow,
    }
    return validate({"version": 1, "farms": {"web": {**web, "enabled": enabled}}})


def left(times, config, now, name="a"):
    return times.drain_left("web", config.farms["web"], name, now)


def drained(times, config, now):
    return times.drained("web", config.farms["web"], now)


def test_a_drain_goes_on_until_its_deadline():
    config = document(a="drain", b="enabled")
    times = after(Times(), config, 1000)
    assert after(times, config, 1030) == times, "it began when it began"
    assert (left(times, config, 1030), left(times, config, 1030, "b")) == (30, None)
    assert times.wait(config, 1030) == 30
    assert drained(times, config, 1059.9) == set()
    assert drained(times, config, 1060) == {"a"}
    assert times.wait(config, 1060) is None, "nothing is due any more"


def test_the_next_thing_is_what_is_waited_for():
    first = after(Times(), document(a="drain", b="enabled"), 0)
    both = after(first, document(a="drain", b="drain"), 20)
    config = document(a="drain", b="drain")
    assert [both.wait(config, now) for now in (20, 59, 60, 80)] == [40, 1, 20, None]
    assert drained(both, config, 60) == {"a"}


def test_what_changes_in_some_farms_leaves_the_others():
    web = document(slow=10, a="enabled", b="drain", c="enabled").farms["web"]
    farms = {"web": web, "other": web}
    health = {name: {"a": "unhealthy", "c": "unhealthy"} for name in farms}
    fallen = Times().after(farms, health, 0)
    back = {"a": "healthy", "c": "unhealthy"}
    some = fallen.after_some({"web": web}, {"web": back}, 5)
    assert some == fallen.after(farms, {**health, "web": back}, 5)
    assert {server[:2] for server in some.returned} == {("web", "a")}
    assert {server[:2] for server in some.failed} == {("web", "c"), ("other", "a"), ("other", "c")}
    over = some.after_some({"web": document().farms["web"]}, {}, 6)
    assert {server[0] for server in (*over.draining, *over.returned, *over.failed)} == {"other"}


def test_without_a_deadline_nothing_is_due_but_one_that_is_set_later_counts_from_the_begin():
    config = document(timeout=None, a="drain")
    times = after(Times(), config, 1000)
    assert (left(times, config, 9999), drained(times, config, 9999), times.wait(config, 9999)) == (None, set(), None)
    assert left(times, document(a="drain"), 1020) == 40


@pytest.mark.parametrize(
    "between",
    [document(a="enabled"), document(a="disabled"), document(a="drain", enabled=False), document(b="drain")],
)
def test_a_drain_that_was_ended_begins_anew(between):
    config = document(a="drain")
    times = after(after(after(Times(), config, 1000), between, 1010), config, 1050)
    assert left(times, config, 1050) == 60


def test_a_backend_that_moves_is_another_server():
    config, moved = document(b="enabled", a="drain"), document(a="drain")
    assert config.farms["web"].backends["a"].address != moved.farms["web"].backends["a"].address
    assert left(after(after(Times(), config, 1000), moved, 1030), moved, 1030) == 60


def test_it_survives_the_agent():
    config = document(a="drain")
    times = after(Times(), config, 1000)
    again = Times.restored(json.loads(json.dumps(times.export())))
    assert again == times
    assert left(after(again, config, 1040), config, 1040) == 20


def test_what_began_by_the_clock_of_an_earlier_start_of_the_machine_began_now():
    config = document(a="drain")
    assert left(after(after(Times(), config, 1000), config, 5), config, 5) == 60


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        1,
        {"draining": 1, "failed": {}},
        {"draining": [1, [], ["web", "a", 1, None, 2], ["web", "a", "x", None, "y"]]},
    ],
)
def test_what_is_no_record_is_left_out(content):
    assert Times.restored(content) == Times()


def test_a_backend_that_was_unhealthy_comes_back_in_ten_steps():
    config = document(slow=100, a="enabled", b="enabled")
    web = config.farms["web"]
    times = after(after(Times(), config, 0, a="unhealthy"), config, 1000)
    told = {}
    now = 1000.0
    while (wait := times.wait(config, now)) is not None:
        told[now] = weights(web, roles(web, {}), times.steps("web", web, now))
        now += wait
        assert after(times, config, now) == times
    assert list(told) == [1000 + 10 * step for step in range(STEPS - 1)]
    assert list(told.values()) == [{"a": step, "b": STEPS} for step in range(1, STEPS)]
    assert now == 1090
    assert weights(web, roles(web, {}), times.steps("web", web, now)) == {"a": 1, "b": 1}
    assert after(times, config, 1100) == Times()


def test_steps_are_of_the_weight():
    web = validate({"version": 1, "farms": {"web": {
        "addresses": ["192.0.2.10"], "ports": [80], "scheduler": "weighted",
        "backends": {"a": {"address": "10.0.0.1", "weight": 7}, "b": {"address": "10.0.0.2", "weight": 256}},
    }}}).farms["web"]  # fmt: skip
    assert weights(web, roles(web, {}), {"a": 3}) == {"a": 21, "b": 2560}


def test_who_does_not_start_slowly():
    config = document(slow=100, a="enabled")
    nobody = {}
    assert after(Times(), config, 0).steps("web", config.farms["web"], 0) == nobody, "at the agent's start"
    failed = after(Times(), config, 0, a="unhealthy")
    for between in (document(a="enabled"), document(slow=100, a="disabled"), document(slow=100, a="drain")):
        assert after(after(failed, between, 1), config, 2).steps("web", config.farms["web"], 2) == nobody
    unsure = after(failed, config, 1, a="unknown")
    assert unsure.steps("web", config.farms["web"], 1) == nobody, "nothing says that it is back"
    assert failed.wait(config, 1) is None


def test_who_fails_again_begins_anew():
    config = document(slow=100, a="enabled")
    web = config.farms["web"]
    back = after(after(Times(), config, 0, a="unhealthy"), config, 10)
    assert back.steps("web", web, 60) == {"a": 6}
    again = after(after(back, config, 60, a="unhealthy"), config, 70)
    assert again.steps("web", web, 70) == {"a": 1}


def test_a_slow_start_survives_the_agent_and_so_does_what_will_start_slowly():
    config = document(slow=100, a="enabled", b="enabled")
    times = after(after(Times(), config, 0, a="unhealthy"), config, 10, b="unhealthy")
    again = Times.restored(json.loads(json.dumps(times.export())))
    assert again == times
    assert after(again, config, 50).steps("web", config.farms["web"], 50) == {"a": 5, "b": 1}
