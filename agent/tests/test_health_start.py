# SPDX-License-Identifier: GPL-2.0-or-later
"""What the checker knows when it begins: from before a restart, and while links are not up yet."""

import asyncio
import json

import pytest
from health_probes import SOON, Answers, checking, target

from agent.health import Checker, CheckFailed


async def test_what_is_known_outlives_a_restart():
    answers = Answers()
    down, up = target(80), target(81, fall=3)
    async with checking([down, up], {"tcp": answers}) as (checker, changes):
        for _ in range(2):
            asked, answer = await answers.tries.get()
            answer.set_exception(CheckFailed("refused")) if asked == down else answer.set_result(0.001)
        await changes.get()
        await changes.get()
        kept = json.loads(json.dumps(checker.export()))
        known = {asked: checker.verdict(asked) for asked in (down, up)}
    async with checking([down, up], {"tcp": Answers()}, kept) as (checker, changes):
        assert {asked: checker.verdict(asked) for asked in (down, up)} == known
        assert changes.empty()


@pytest.mark.parametrize(
    "kept",
    [
        None,
        [],
        {"x": 1},
        {"KEY": {}},
        {"KEY": {"health": "dead", "run": 0, "reason": "", "since": None, "latency_ms": None}},
        {"KEY": {"health": "unhealthy", "run": -1, "reason": "", "since": None, "latency_ms": None}},
        {"KEY": {"health": "unhealthy", "run": 0, "reason": "", "since": "yesterday", "latency_ms": None}},
        {"KEY": {"health": "unhealthy", "run": 0, "reason": "", "since": None, "latency_ms": "fast"}},
        {"KEY": {"health": [], "run": 0, "reason": "", "since": None, "latency_ms": None}},
    ],
)
async def test_what_was_kept_badly_is_as_if_not_kept(kept):
    asked = target(80)
    if isinstance(kept, dict):
        kept = {key.replace("KEY", asked.key): value for key, value in kept.items()}
    async with checking([asked], {"tcp": Answers()}, kept) as (checker, _):
        assert checker.verdict(asked).health == "unknown"


async def test_before_its_link_is_up_a_target_that_nothing_is_known_of_is_waited_for():
    probe, changes, way = Answers(), asyncio.Queue(), ["link ens3 has no carrier yet"]
    checker = Checker(lambda *told: changes.put_nowait(told), probes={"tcp": probe}, not_yet=lambda _address: way[0])
    first, second = target(1, fall=2), target(2, fall=2)
    checker.update([first])
    async with asyncio.timeout(SOON):
        for _ in range(5):
            await probe.answer(CheckFailed("network is unreachable"))
        asked, answer = await probe.tries.get()
        words = "port 1: network is unreachable; not counted: link ens3 has no carrier yet"
        assert (checker.verdict(first).health, checker.verdict(first).reason) == ("unknown", words)
        # The way is asked for when a try begins: this one began too early.
        way[0] = None
        answer.set_exception(CheckFailed("no answer within 2 s"))
        await probe.answer(CheckFailed("connection refused"))
        await probe.answer(CheckFailed("connection refused"))
        assert (await changes.get())[1].health == "unhealthy", "now each counts"
        await probe.answer(0.001)
        assert (await changes.get())[1].health == "healthy"
        # Of one that something is known of, a failure is a failure: others may be reached by another link.
        way[0] = "link ens3 has no carrier yet"
        asked, answer = await probe.tries.get()
        answer.set_exception(CheckFailed("no route to host"))
        await probe.answer(CheckFailed("no route to host"))
        await probe.answer(CheckFailed("no route to host"))
        assert (await changes.get())[1].health == "unhealthy"
        # A success counts whatever is said of the links.
        checker.update([second])
        while (await probe.answer(0.001)) != second:
            pass
        assert (await changes.get())[1].health == "healthy"
    await checker.stop()
    assert asked == first


async def test_a_link_that_stays_down_is_waited_for_no_longer_than_that():
    probe, changes = Answers(), asyncio.Queue()
    checker = Checker(
        lambda *told: changes.put_nowait(told), probes={"tcp": probe}, not_yet=lambda _address: "no way", patience=0
    )
    checker.update([target(1, fall=2)])
    async with asyncio.timeout(SOON):
        await probe.answer(CheckFailed("no route to host"))
        await probe.answer(CheckFailed("no route to host"))
        assert (await changes.get())[1].reason == "port 1: no route to host"
    await checker.stop()
