# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is edited, and whatever happens while it is: the kernel holds what the checks say."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.controller import ApplyFailed
from agent.dataplane import KernelRefused, Ruleset
from agent.health import PROBES, Answer, CheckFailed, Target, Verdict
from agent.model import Configuration, validate
from agent.tests.controller_world import World, running

BACKEND = {"a": {"address": "198.51.100.1"}}
PACE = {"interval": 0.2, "timeout": 0.1, "rise": 1, "fall": 1}


class Told:
    """A probe that finds what the test says."""

    type = "tcp"
    well = True

    def label(self, target: Target) -> str:
        return f"port {target.port}"

    async def probe(self, target: Target) -> Answer:
        if not self.well:
            raise CheckFailed("refused")
        return Answer(0.001)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Told:
    probe = Told()
    monkeypatch.setitem(PROBES, "tcp", probe)
    return probe


@pytest.fixture
async def world(probe: Told, tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as found:
        yield found


def document(*names: str, pace: dict[str, Any] | None = None, **farm: object) -> Configuration:
    """Farms of these names that ask the same of the same backend."""
    common = {"ports": [80], "checks": [{**PACE, **(pace or {})}], "backends": BACKEND, **farm}
    return validate({"farms": {name: {"addresses": [f"192.0.2.{10 + n}"], **common} for n, name in enumerate(names)}})


def shares(world: World) -> set[float]:
    """The shares that the kernel holds of the backend, in all farms."""
    assert world.kernel.holds is not None
    return {world.kernel.holds.share(farm, name) for farm, name in world.kernel.holds.marks().values()}


def dies(world: World) -> asyncio.Event:
    """What is set when the controller has been told that something is unhealthy."""
    event, follow = asyncio.Event(), world.controller._checker._on_change

    def on_change(target: Target, verdict: Verdict) -> None:
        follow(target, verdict)
        if verdict.health == "unhealthy":
            event.set()

    world.controller._checker._on_change = on_change
    return event


async def commit_and_die(world: World, probe: Told, config: Configuration, step: str, *, fails: bool = False) -> None:
    """A commit during which, when it has come to this step of the kernel's, the backend is found dead."""
    come, go_on = threading.Event(), threading.Event()
    check, apply = world.kernel.check, world.kernel.apply

    def wait() -> None:
        come.set()
        assert go_on.wait(10)

    def held_check(ruleset: Ruleset) -> None:
        # Nobody but a commit asks this, and until it ends nobody else applies.
        world.kernel.check, world.kernel.apply = check, held_apply
        if step == "check":
            wait()
        check(ruleset)

    def held_apply(ruleset: Ruleset) -> None:
        world.kernel.apply = apply
        if step == "apply":
            wait()
        if fails:
            raise KernelRefused("Cannot allocate memory")
        apply(ruleset)

    world.kernel.check = held_check
    commit = asyncio.create_task(world.controller.commit(config, author="admin"))
    assert await asyncio.to_thread(come.wait, 10)
    dead = dies(world)
    probe.well = False
    await dead.wait()
    go_on.set()
    await commit


@pytest.mark.parametrize(
    "pace", [{"interval": 0.3}, {"timeout": 0.2}, {"rise": 2}, {"fall": 2}], ids=lambda pace: next(iter(pace))
)
async def test_a_dead_backend_stays_out_when_the_pace_of_its_check_changes(
    world: World, probe: Told, pace: dict[str, Any]
) -> None:
    probe.well = False
    await world.controller.commit(document("web", slow_start=3600), author="admin")
    await world.host.until(lambda: shares(world) == {0})
    await world.controller.commit(document("web", pace=pace, slow_start=3600), author="admin")
    assert shares(world) == {0}
    assert (await world.controller.state()).farms["web"].backends["a"].role == "failed"
    probe.well = True
    await world.host.until(lambda: shares(world) == {1})
    ramp = (await world.controller.state()).farms["web"].backends["a"].ramp
    assert ramp is not None, "that it has failed is known, too"


@pytest.mark.parametrize("step", ["check", "apply"])
@pytest.mark.parametrize(
    "config",
    [
        document("web", ports=[81]),
        document("web", "more"),
        document("renamed"),
        document("web", pace={"interval": 0.3}),
        document("renamed", pace={"interval": 0.3}),
    ],
    ids=["another port", "one more farm", "another name", "another pace", "another name and pace"],
)
async def test_a_verdict_that_turns_during_a_commit_reaches_every_farm(
    world: World, probe: Told, config: Configuration, step: str
) -> None:
    await world.controller.commit(document("web"), author="admin")
    await commit_and_die(world, probe, config, step)
    await world.host.until(lambda: shares(world) == {0})


@pytest.mark.parametrize("step", ["check", "apply"])
@pytest.mark.parametrize("names", [["web", "more"], ["renamed"]], ids=", ".join)
async def test_a_verdict_that_turns_during_a_commit_that_fails_reaches_the_farms_from_before(
    world: World, probe: Told, names: list[str], step: str
) -> None:
    await world.controller.commit(document("web"), author="admin")
    with pytest.raises(ApplyFailed):
        await commit_and_die(world, probe, document(*names), step, fails=True)
    await world.host.until(lambda: shares(world) == {0})


async def test_a_backend_that_is_full_stays_so_when_a_commit_fails(world: World) -> None:
    backends = {"a": {"address": "198.51.100.1", "max_connections": 5}}
    await world.controller.commit(document("web", backends=backends), author="admin")
    world.kernel.crowd = {("web", "a"): 5}
    await world.host.until(lambda: shares(world) == {0})
    world.kernel.refuse = {"apply"}
    with pytest.raises(ApplyFailed):
        await world.controller.commit(document("web", "more"), author="admin")
    assert shares(world) == {0}
