# SPDX-License-Identifier: GPL-2.0-or-later
"""A running controller and its edges, with a farm `web` to commit."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.controller import Controller
from agent.dataplane.assignment import Side
from agent.model import Configuration, validate
from agent.snapshots import Snapshot
from agent.system.credentials import Provisioning
from agent.tests.edges import HostEdge, KernelEdge, controller

WEB = Side("web", 4)


def document(address: str = "192.0.2.10", **farm: object) -> Configuration:
    """A document of the farm `web`, with these fields."""
    backends = {"a": {"address": "198.51.100.1"}, "b": {"address": "198.51.100.2"}}
    return validate({"farms": {"web": {"addresses": [address], "ports": [80], "backends": backends, **farm}}})


class World:
    """A running controller and its edges."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.kernel, self.host = KernelEdge(), HostEdge()
        self.controller: Controller

    @property
    def in_force(self) -> Snapshot:
        """The snapshot in force, which there is."""
        assert self.controller.in_force is not None
        return self.controller.in_force

    async def start(self, provisioning: Provisioning | None = None) -> Controller:
        self.controller = controller(self.data, kernel=self.kernel, host=self.host, provisioning=provisioning)
        await self.controller.start()
        return self.controller

    async def stop(self) -> None:
        await self.controller.stop()
        self.controller.store.close()
        self.controller.access.close()


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[World]:
    """A world that is started, and stopped at the end."""
    world = World(data)
    await world.start()
    yield world
    await world.stop()


def serves(world: World) -> set[str]:
    """The farms that the kernel holds."""
    assert world.kernel.holds is not None
    return {farm for farm, _ in world.kernel.holds.marks().values()}


def own_address() -> str:
    """This host's own address: the model takes no loopback backends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        return str(sock.getsockname()[0])
