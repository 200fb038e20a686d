# SPDX-License-Identifier: GPL-2.0-or-later
"""The controller's edges for tests without a kernel: they keep what they are given, and fail when told to."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from ipaddress import ip_interface
from pathlib import Path

from agent.access import Access
from agent.controller import Controller
from agent.controller.host import Host
from agent.dataplane import Assignment, Client, Clients, Counters, Kernel, KernelRefused, Offered, Ruleset
from agent.model import Configuration
from agent.model.state import Trouble
from agent.snapshots import Store
from agent.system.credentials import Provisioning
from agent.system.links import LinkAddress, SystemLink, ethernet

LINK = SystemLink(
    index=2,
    name="eth0",
    mac="02:00:00:00:00:01",
    up=True,
    carrier=True,
    physical=True,
    addresses=(LinkAddress(ip_interface("192.0.2.1/24")), LinkAddress(ip_interface("2001:db8::1/64"))),
)


class KernelEdge(Kernel):
    """Holds a ruleset. `refuse`: the steps that are refused; "apply" once, "check" until it is taken out."""

    def __init__(self, refuse: Collection[str] = ()) -> None:
        super().__init__()
        self.refuse = set(refuse)
        self.earlier: Assignment | None = None
        self.holds: Ruleset | None = None
        self.tell: Callable[[], None] = lambda: None
        """Called after every change, in the thread that made it."""
        self.crowd: dict[tuple[str, str], int] = {}
        """Open connections of those that may have so many only."""

    def adopt(self) -> Assignment | None:
        return self.earlier

    def check(self, ruleset: Ruleset) -> None:
        if "check" in self.refuse:
            raise KernelRefused(
                "Numerical result out of range", next((side.farm for side in ruleset.parts), None), "addresses"
            )

    def apply(self, ruleset: Ruleset) -> None:
        if "apply" in self.refuse:
            self.refuse.discard("apply")
            raise KernelRefused("Cannot allocate memory")
        self.holds = ruleset
        self.tell()

    def offer(self, links: Collection[tuple[str, int]], hardware: bool) -> Offered:
        return Offered(frozenset(links), hardware, "")

    def dropped(self) -> dict[str, dict[str, int]]:
        farms = {side.farm: part.farm for side, part in self.holds.parts.items()} if self.holds else {}
        return {name: {"rate_in": 5} for name, farm in farms.items() if farm.rate_in is not None}

    def counters(self) -> dict[tuple[str, str], Counters]:
        return {who: Counters(active=3, new=7, bytes_in=700, bytes_out=7000) for who in self._names()}

    def open_connections(self, who: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        return {each: self.crowd.get(each, 0) for each in who}

    def turned_away(self) -> dict[str, dict[str, int]]:
        found = self.holds.parts.items() if self.holds else ()
        return {side.farm: {"rate": 5} for side, part in found if part.farm.limited}

    def _names(self) -> list[tuple[str, str]]:
        return list(self.holds.marks().values()) if self.holds else []


class HostEdge(Host):
    """A machine with one link, whose addresses nobody changes."""

    def __init__(self) -> None:
        super().__init__(None)
        self.configured: list[Configuration] = []
        self.moved = asyncio.Event()
        self.fails = False
        self.troubles: list[Trouble] = []

    def offered(self, kernel: Kernel, links: Sequence[SystemLink]) -> Offered:
        return kernel.offer(ethernet(links), hardware=False)

    def links(self) -> list[SystemLink]:
        return [LINK]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds; asked after each change of the kernel or the host."""
        async with asyncio.timeout(10):
            while not holds():
                self.moved.clear()
                await self.moved.wait()

    async def configure(self, config: Configuration) -> list[Trouble]:
        if self.fails:
            self.fails = False
            raise OSError("netlink is gone")
        self.configured.append(config)
        self.moved.set()
        return self.troubles

    def told(self, loop: asyncio.AbstractEventLoop) -> None:
        """Something else changed; from any thread."""
        loop.call_soon_threadsafe(self.moved.set)

    def watch(self, changed: object) -> None:
        pass


class ClientsEdge(Clients):
    """Remembers the clients in `known`, of every farm."""

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Client] = []

    def remembered(self, ruleset: Ruleset, farm: str) -> list[Client]:
        return list(self.known)

    def forget(self, clients: Sequence[Client]) -> int:
        self.known = [client for client in self.known if client not in clients]
        return len(clients)


def controller(
    data: Path,
    *,
    kernel: KernelEdge | None = None,
    host: HostEdge | None = None,
    provisioning: Provisioning | None = None,
) -> Controller:
    """A controller with real stores in `data`."""
    kernel, host = kernel or KernelEdge(), host or HostEdge()
    kernel.tell = partial(host.told, asyncio.get_running_loop())
    return Controller(
        store=Store.open(data, software="test"),
        access=Access.open(data),
        kernel=kernel,
        clients=ClientsEdge(),
        host=host,
        run_directory=data,
        provisioning=provisioning or Provisioning(),
    )
