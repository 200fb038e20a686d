# SPDX-License-Identifier: GPL-2.0-or-later
"""An agent on the balancer of `kernel_net`: its own loop and timers, a real kernel, real packets."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from edges import LINK, HostEdge, controller
from kernel_net import FRONT, Box

from agent.controller import Controller
from agent.dataplane import Kernel, Ruleset
from agent.model import validate
from agent.system.links import LinkAddress, SystemLink


class Front(HostEdge):
    """The balancer's link to the clients."""

    def links(self) -> list[SystemLink]:
        return [replace(LINK, addresses=(LinkAddress(ip_interface(f"{FRONT[4]}/24")),))]


class Told(Kernel):
    """A kernel whose changes wake those who wait with `HostEdge.until`."""

    def __init__(self, host: HostEdge) -> None:
        super().__init__()
        self._host, self._loop = host, asyncio.get_running_loop()

    def apply(self, ruleset: Ruleset) -> None:
        super().apply(ruleset)
        self._host.told(self._loop)


class Agent:
    """An agent on the balancer. `run` starts it, lets a story happen in its loop, and ends it."""

    def __init__(self, box: Box, directory: Path) -> None:
        self._box, self._directory = box, directory

    def run(self, story: Callable[[Controller, HostEdge], Coroutine[Any, Any, None]]) -> None:
        self._box.balancer.run(asyncio.run, self._main(story))

    async def _main(self, story: Callable[[Controller, HostEdge], Coroutine[Any, Any, None]]) -> None:
        host = Front()
        agent = controller(self._directory, kernel=Told(host), host=host)
        await agent.start()
        try:
            await story(agent, host)
        finally:
            await agent.stop()
            agent.store.close()
            agent.access.close()


async def put(agent: Controller, web: dict[str, Any]) -> None:
    """Put a farm of that name in force."""
    await agent.commit(validate({"version": 1, "farms": {"web": web}}), author="admin")
