# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole agent for tests: real API, controller, stores and compiler; only kernel and host are fake."""

import asyncio
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from agent.access import Access
from agent.api.app import Listener, create_app
from agent.api.listening import listening_socket
from agent.client import Client
from agent.controller import Controller
from agent.dataplane import CannotTrace, Counters, KernelRefused, Offered, Ruleset
from agent.dataplane.counting import Counting
from agent.dataplane.script import delta, fresh, text
from agent.snapshots import Store
from agent.system.credentials import Provisioning
from agent.system.links import LinkAddress, SystemLink
from agent.tests.edges import ClientsEdge
from agent.tests.trace_records import Recorded

PASSWORD = "a long enough password"
TOKEN = "provisioned-token-".ljust(512, "0")  # as long as one may be

FARM = {
    "addresses": ["192.0.2.10"],
    "ports": [80],
    "backends": {"web1": {"address": "192.0.2.21"}, "web2": {"address": "192.0.2.22"}},
}


class FakeKernel:
    """Takes every ruleset, but those with a farm whose name is in `refuses`."""

    def __init__(self) -> None:
        self.applied: list[Ruleset] = []
        self.counting = Counting()
        self.refuses: set[str] = set()
        self.tells: str | None = None
        """The story that a trace tells, one of trace_recorded.json."""
        self.tracers: list[Recorded] = []
        self.gate = threading.Event()
        self.gate.set()

    def adopt(self) -> None:
        self.gate.wait()

    def check(self, ruleset: Ruleset) -> None:
        for farm in self.refuses & {side.farm for side in ruleset.parts}:
            raise KernelRefused("it does not like this", farm, "addresses")

    def difference(self, ruleset: Ruleset) -> str:
        before = self.applied[-1] if self.applied else None
        return text(delta(before, ruleset) if before else fresh(ruleset))

    def apply(self, ruleset: Ruleset) -> None:
        self.applied.append(ruleset)

    def tracer(self, client: object, service: object, burst: int) -> Recorded:
        if "trace" in self.refuses:
            raise CannotTrace("the kernel cannot trace: Operation not permitted")
        self.tracers.append(Recorded(self.tells))
        return self.tracers[-1]

    def counters(self) -> dict[tuple[str, str], Counters]:
        return {
            key: Counters(active=2, new=7, bytes_in=1500, bytes_out=30000) for key in self.applied[-1].marks().values()
        }

    def dropped(self) -> dict[str, dict[str, int]]:
        farms = {side.farm: part.farm for side, part in self.applied[-1].parts.items()}
        return {name: {"rate_in": 5} for name, farm in farms.items() if farm.rate_in is not None}

    def offer(self, links: Collection[tuple[str, int]], hardware: bool) -> Offered:
        return Offered(frozenset(links), hardware, "")

    def export(self) -> dict[str, object]:
        return {}

    def close(self) -> None:
        pass

    def open_connections(self, who: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        return dict.fromkeys(who, 2)

    def turned_away(self) -> dict[str, dict[str, int]]:
        return {side.farm: {"rate": 5} for side, part in self.applied[-1].parts.items() if part.farm.limited}


class FakeHost:
    """A machine with one link, 192.0.2.1/24."""

    def __init__(self) -> None:
        self.addresses = ["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"]
        self.watching = False

    def links(self) -> list[SystemLink]:
        return [link("eth0", self.addresses)]

    def not_yet(self, address: Any) -> None:
        return None

    def offered(self, kernel: FakeKernel, links: list[SystemLink]) -> Offered:
        return kernel.offer([(each.name, each.index) for each in links], hardware=False)

    def misplaced(self, config: Any) -> list[Any]:
        return []

    async def configure(self, config: Any) -> list[Any]:
        return []

    def watch(self, changed: Any) -> None:
        self.watching = True

    def close(self) -> None:
        self.watching = False


def link(name: str, addresses: list[str]) -> SystemLink:
    """A physical link with a carrier."""
    found = tuple(LinkAddress(ip_interface(text)) for text in addresses)
    return SystemLink(2, name, "02:00:00:00:00:01", up=True, carrier=True, physical=True, addresses=found)


class World:
    """A running agent on its socket; the test talks to it from another thread."""

    def __init__(self, directory: Path, *, wait: bool) -> None:
        self.socket = directory / "agent.sock"
        self.kernel = FakeKernel()
        self.clients = ClientsEdge()
        self.host = FakeHost()
        self.controller: Controller
        self._directory = directory
        self._wait = wait
        self._serving = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="agent")
        self._failure: BaseException | None = None

    def client(self, token: str | None = TOKEN, source: str | None = "198.51.100.7") -> Client:
        """A client of this agent; with the provisioned API token where none is given."""
        return Client(self.socket, token=token, source=source, timeout=20)

    def admin(self) -> Client:
        """A client with a session of the administrator, who claims the appliance for it."""
        session = self.client(token=None).claim(self.controller.access.claim_code or "", PASSWORD)
        return self.client(token=session.token)

    def stored(self, query: str) -> list[Any]:
        """What the database of secrets answers."""
        return self.controller.access._vault.rows(query)

    def start(self) -> None:
        self._thread.start()
        assert self._serving.wait(20)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self.kernel.gate.set()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.controller = Controller(
            store=Store.open(self._directory, software="1.2.3"),
            access=Access.open(self._directory),
            kernel=self.kernel,
            clients=self.clients,
            host=self.host,
            run_directory=self._directory,
            provisioning=Provisioning(api_token=TOKEN),
        )
        started = asyncio.Event()
        listener = Listener(create_app(self.controller, ready=started.is_set), listening_socket(self.socket))
        try:
            await listener.open()
            if not self._wait:
                self._serving.set()
            await self.controller.start()
            started.set()
            self._serving.set()
            await self._stop.wait()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._serving.set()
            await listener.close()
            await self.controller.stop()
            self.controller.store.close()
            self.controller.access.close()


@contextmanager
def running(directory: Path, *, starts: bool = True) -> Iterator[World]:
    """An agent that serves until the block ends. With `starts` false it hangs in its start."""
    world = World(directory, wait=starts)
    if not starts:
        world.kernel.gate.clear()
    world.start()
    try:
        yield world
    finally:
        world.stop()
