# SPDX-License-Identifier: GPL-2.0-or-later
"""When the next try begins, and what an inverted check makes of tries."""

import asyncio
from ipaddress import ip_address
from itertools import takewhile

import pytest
from health_probes import Answers, checking, target
from hypothesis import given
from hypothesis import strategies as st

from agent.health import Answer, CheckFailed, CheckNotMade, Target
from agent.health.checker import _Checked, _Known
from agent.model import TcpCheck

THRESHOLD = st.integers(1, 6)
RESULTS = st.lists(st.booleans(), max_size=60)
PACE = {"interval": 10.0, "timeout": 1.0}


def checked(rise, fall, retry, *, invert=False):
    check = TcpCheck(**PACE, rise=rise, fall=fall, retry_interval=retry, invert=invert)
    return _Checked(Target(ip_address("198.51.100.1"), 80, check), _Known())


def story(what, results):
    """The health and the interval after each result."""
    seen = []
    for ok in results:
        what.take("it", Answer(0.001) if ok else "refused")
        seen.append((what.machine.health, what.interval))
    return seen


@given(THRESHOLD, THRESHOLD, RESULTS)
def test_tries_come_quicker_exactly_while_the_last_one_speaks_against_the_verdict(rise, fall, results):
    for ok, (health, interval) in zip(results, story(checked(rise, fall, 2.0), results), strict=True):
        against = health != ("healthy" if ok else "unhealthy")
        assert interval == (2.0 if against else 10.0)


@given(THRESHOLD, THRESHOLD, RESULTS)
def test_a_retry_interval_changes_no_verdict(rise, fall, results):
    quick, slow = story(checked(rise, fall, 2.0), results), story(checked(rise, fall, None), results)
    assert [health for health, _ in quick] == [health for health, _ in slow]
    assert {interval for _, interval in slow} <= {10.0}


@given(THRESHOLD, THRESHOLD, RESULTS)
def test_a_death_is_known_after_retries_alone(rise, fall, results):
    what = checked(rise, fall, 2.0)
    story(what, [*results, *[True] * rise])
    assert what.machine.health == "healthy"
    dying = story(what, [False] * fall)
    assert dying[-1] == ("unhealthy", 10.0)
    assert sum(interval for _, interval in takewhile(lambda each: each[0] == "healthy", dying)) == (fall - 1) * 2.0


@given(THRESHOLD, THRESHOLD, RESULTS)
def test_an_inverted_check_says_the_same_of_the_opposite_results(rise, fall, results):
    opposite = [not ok for ok in results]
    assert story(checked(rise, fall, 2.0, invert=True), opposite) == story(checked(rise, fall, 2.0), results)


async def test_the_next_try_comes_after_the_retry_interval():
    answers = Answers()
    asked = target(80, interval=0.5, retry_interval=0.02, fall=3)
    async with checking([asked], {"tcp": answers}) as (_, changes):
        await answers.answer(0.001)
        await changes.get()
        await answers.answer(CheckFailed("refused"))
        start = asyncio.get_running_loop().time()
        await answers.answer(CheckFailed("refused"))
        await answers.answer(CheckFailed("refused"))
        assert asyncio.get_running_loop().time() - start < 0.4
        assert (await changes.get())[1].health == "unhealthy"


async def test_an_inverted_check_in_words():
    answers = Answers()
    asked = target(80, invert=True)
    async with checking([asked], {"tcp": answers}) as (_, changes):
        await answers.answer(CheckFailed("connection refused"))
        _, verdict = await changes.get()
        assert (verdict.health, verdict.reason) == ("healthy", "port 80: connection refused, as it should be")
        assert verdict.latency_ms is None
        await answers.answer(0.001)
        _, verdict = await changes.get()
        assert (verdict.health, verdict.reason) == ("unhealthy", "port 80 answers, and should not")


@pytest.mark.parametrize("error", [CheckNotMade("no memory"), RuntimeError("a fault of the probe")])
async def test_a_try_that_could_not_be_made_is_no_success_of_an_inverted_check(error):
    answers = Answers()
    asked = target(80, invert=True)
    async with checking([asked], {"tcp": answers}) as (checker, changes):
        await answers.answer(error)
        await answers.tries.get()
        assert checker.verdict(asked).health == "unknown"
        assert checker.hindrance() is not None
        assert changes.empty()
