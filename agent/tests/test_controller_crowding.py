# SPDX-License-Identifier: GPL-2.0-or-later
"""Backends that may have so many connections: who is counted, and what becomes of it. The kernel is a fake."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

from agent.controller.crowding import Crowding
from agent.dataplane import Ruleset
from agent.model import Configuration, validate
from agent.scheduling.full import Key
from agent.tests.edges import HostEdge, KernelEdge, controller

A = ("web", "a")


def document(most: int | None = 5, **more: object) -> Configuration:
    backends = {"a": {"address": "198.51.100.1", "max_connections": most}, "b": {"address": "198.51.100.2"}}
    return validate({"farms": {"web": {"addresses": ["192.0.2.10"], "ports": [80], "backends": backends, **more}}})


class Edge(KernelEdge):
    """A kernel whose changes wake those who wait with `HostEdge.until`."""

    def __init__(self, host: HostEdge) -> None:
        super().__init__()
        self._host, self._loop = host, asyncio.get_running_loop()

    def apply(self, ruleset: Ruleset) -> None:
        super().apply(ruleset)
        self._host.told(self._loop)

    def share(self) -> float:
        assert self.holds is not None
        return self.holds.share(*A)


async def test_a_backend_is_full_and_then_not_across_commits(tmp_path: Path) -> None:
    host = HostEdge()
    kernel = Edge(host)
    agent = controller(tmp_path, kernel=kernel, host=host)
    await agent.start()
    await agent.commit(document(), author="admin")
    assert kernel.share() == 0.5
    kernel.crowd = {A: 5}
    await host.until(lambda: kernel.share() == 0)
    state = (await agent.state()).farms["web"]
    assert (state.status, state.backends["a"].role, state.backends["a"].max_connections) == ("degraded", "full", 5)
    await agent.commit(document(ports=[81]), author="admin")
    assert kernel.share() == 0, "another commit changes nothing about it"
    kernel.crowd = {A: 4}
    await host.until(lambda: kernel.share() == 0.5)
    kernel.crowd = {A: 7}
    await host.until(lambda: kernel.share() == 0)
    await agent.commit(document(None), author="admin")
    assert kernel.share() == 0.5
    await agent.commit(document(), author="admin")
    await agent.stop()
    agent.store.close()
    agent.access.close()
    # The next agent counts before it decides anything.
    kernel.holds = None
    again = controller(tmp_path, kernel=kernel, host=host)
    await again.start()
    assert kernel.share() == 0
    await again.stop()
    again.store.close()
    again.access.close()


async def test_while_it_cannot_be_counted_everything_stays(caplog) -> None:
    answers: list[Mapping[Key, int] | None] = [{A: 5}, None, {A: 5}]

    async def count(who: Collection[Key]) -> Mapping[Key, int]:
        assert set(who) == {A}
        answer = answers.pop(0)
        if answer is None:
            raise OSError("netlink is gone")
        return answer

    told: list[set[str]] = []
    crowding = Crowding(count, told.append)
    await crowding.begin(document().farms)
    await crowding.begin(document().farms)
    assert crowding.full == {A}
    assert told == [{"web"}]
    assert "cannot be counted: netlink is gone" in caplog.text
    await crowding.stop()
    assert answers == [{A: 5}]


async def test_nobody_counts_where_nothing_is_limited() -> None:
    async def count(who: Collection[Key]) -> Mapping[Key, int]:
        raise AssertionError("counted")

    crowding = Crowding(count, lambda _: None)
    await crowding.begin(document(None).farms)
    assert await crowding.look() == 0
    await crowding.stop()
