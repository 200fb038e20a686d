# SPDX-License-Identifier: GPL-2.0-or-later
"""Commits documents, and keeps the kernel, the links and the checks as the document in force says."""

import asyncio
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any, Self, TypeVar

from agent.access import Access
from agent.controller.host import UNDONE, Host
from agent.controller.observe import Held, Observer, all_health
from agent.controller.opening import UNUSABLE, first_configuration, last_good
from agent.controller.tracing import Tracing
from agent.dataplane import Assignment, Client, Clients, Kernel, KernelRefused, Ruleset, compile_ruleset, script
from agent.health import Checker, Target, Verdict, targets
from agent.model import Configuration, Fault, Invalid, digest, pointer
from agent.model.answers import ClientList, ClientNow, Preview
from agent.model.state import StateNow, SystemNow, Trouble
from agent.model.trace import Trace, TraceRequest
from agent.model.types import Network
from agent.scheduling import Times, roles, weights
from agent.snapshots import Conflict, Snapshot, Store, StoreError
from agent.storage import write_atomically
from agent.system import credentials, facts, networkd
from agent.system.credentials import Provisioning
from agent.system.links import near, own_addresses
from agent.system.tuning import KernelSettings

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

RETRY = 5.0
"""Seconds until what failed to converge is tried again."""


class ApplyFailed(Exception):
    """A document that passed every check could not be put in force; the one before it is in force again."""


class Controller:
    """Everything the agent does, for one event loop. `store` and `access` may be asked directly, too."""

    def __init__(
        self,
        *,
        store: Store,
        access: Access,
        kernel: Kernel,
        clients: Clients,
        host: Host,
        run_directory: Path,
        provisioning: Provisioning,
        settings: KernelSettings | None = None,
    ) -> None:
        """Take the edges; nothing happens before `start`. `run_directory` keeps what must survive the agent only."""
        self.store = store
        self.access = access
        self._kernel = kernel
        self._host = host
        self._health_file = run_directory / "health.json"
        self._times_file = run_directory / "times.json"
        self._provisioning = provisioning
        self._settings = settings or KernelSettings()
        self._checker = Checker(self._health_changed)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._due: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._config = Configuration()
        self._in_force: Snapshot | None = None
        self._adopted: Assignment | None = None
        self._ruleset: Ruleset | None = None
        self._times = self._times_kept = Times()
        self._opening: list[Trouble] = []
        self._converging: list[Trouble] = []
        self._observer = Observer(kernel, host, self._checker)
        self._clients = clients
        self._tracing = Tracing(kernel, self._run)

    @classmethod
    def from_environment(cls) -> Self:
        """The controller of this machine.

        SLUICE_DATA (default /data/agent) keeps what lasts, SLUICE_RUN (/run/sluice) what survives the agent only.
        SLUICE_NETWORKD is where systemd-networkd reads; empty or unset: links and host name are not the agent's to
        configure. Credentials come from systemd. Raises StoreBusy when another agent runs here.
        """
        data = Path(os.environ.get("SLUICE_DATA", "/data/agent"))
        return cls(
            store=Store.open(data, software=facts.version()),
            access=Access.open(data),
            kernel=Kernel(),
            clients=Clients(),
            host=Host(networkd.directory()),
            run_directory=Path(os.environ.get("SLUICE_RUN", "/run/sluice")),
            provisioning=credentials.read(),
            settings=KernelSettings.from_environment(),
        )

    @property
    def config(self) -> Configuration:
        """The document that the appliance runs by."""
        return self._config

    @property
    def in_force(self) -> Snapshot | None:
        """The snapshot in force; None when the store can keep none. It and `config` change together."""
        return self._in_force

    async def start(self) -> None:
        """Undo an interrupted commit, take the document in force, adopt what the kernel holds, and begin to check.

        Does not fail for what an administrator can mend: that is in `troubles`.
        """
        recovery = self.store.recover()
        if recovery.abandoned is not None:
            _log.warning("snapshot %s was not confirmed before the agent ended; it is abandoned", recovery.abandoned)
        await asyncio.to_thread(
            self.access.provision, password=self._provisioning.admin_password, api_token=self._provisioning.api_token
        )
        self._opening = list(self._provisioning.troubles)
        self._config, self._in_force = self._open_configuration(recovery.in_force)
        self._checker.restore(_read_json(self._health_file))
        self._times = Times.restored(_read_json(self._times_file))
        self._checker.update(targets(self._config))
        self._adopted = await self._run(self._adopt)
        async with self._lock:
            await self._converge()
        self._host.watch(self._wake.set)
        self._keeper = asyncio.create_task(self._keep(), name="keep")

    async def stop(self) -> None:
        """Stop checking and watching. What the kernel holds stays: traffic flows on."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            await self._keep_health()
        for timer in (self._again, self._due):
            if timer is not None:
                timer.cancel()
        self._host.close()
        await self._checker.stop()
        self._worker.shutdown()

    async def commit(
        self, config: Configuration, *, author: str, comment: str = "", parent: int | None = None
    ) -> Snapshot:
        """Make a snapshot of `config` and put it in force.

        `parent` is the number that the edit started from; None takes whatever is in force. A document equal to the one
        in force makes no snapshot: the present one is returned. Raises Conflict, Invalid (also for what the kernel
        refuses, and then nothing has changed), StoreError, ApplyFailed.
        """
        async with self._lock:
            current = self._in_force
            if parent is not None and (current is None or current.number != parent):
                raise Conflict(current.number if current else None)
            if current is not None and await self._run(digest, config) == current.digest:
                return current
            await self._run(self._verify, config)
            snapshot = await self._run(
                lambda: self.store.prepare(config, author=author, comment=comment, parent=parent)
            )
            known, times = self._checker.export(), self._times
            try:
                await self._put(config)
                confirmed = await self._run(self.store.confirm, snapshot.number)
            except Exception as error:
                # Whatever it is, the document from before must be in force again.
                _log.exception("snapshot %s could not be put in force", snapshot.number)
                self._checker.restore(known)
                self._times = times
                await self._converge()
                await self._run(self.store.abandon, snapshot.number)
                if isinstance(error, StoreError):
                    raise
                raise ApplyFailed(f"{error}; the configuration from before is in force again") from error
            self._config, self._in_force = config, confirmed
            self._opening = [trouble for trouble in self._opening if trouble.code != UNUSABLE]
            await self._keep_health()
            _log.info("snapshot %s by %s is in force", confirmed.number, confirmed.author)
            return confirmed

    async def rollback(self, number: int, *, author: str, comment: str = "", parent: int | None = None) -> Snapshot:
        """Commit the document of snapshot `number` anew. Raises NotFound, StoreDamaged and what `commit` does."""
        config = await self._run(lambda: self.store.get(number).configuration())
        return await self.commit(
            config, author=author, comment=comment or f"Rollback to snapshot {number}", parent=parent
        )

    async def preview(self, config: Configuration) -> Preview:
        """What the kernel would hold for `config`. Raises Invalid, also for what the kernel refuses."""

        def look() -> Preview:
            ruleset = self._verify(config)
            return Preview(script=script(ruleset), difference=self._kernel.difference(ruleset))

        async with self._lock:
            return await self._run(look)

    async def trace(self, request: TraceRequest) -> Trace:
        """Follow packets for some seconds; nothing else waits for it. Raises TraceRunning and CannotTrace."""
        return await self._tracing.follow(request, lambda: self._ruleset)

    async def state(self) -> StateNow:
        """Farms and backends as they are now; counters are at most a second old."""
        counted = await self._run(self._observer.count)
        held = Held(self._config, self._number(), self._ruleset, self._times)
        return await asyncio.to_thread(
            lambda: self._observer.state(held, self.troubles(), counted),
        )

    async def system(self) -> SystemNow:
        """The appliance as it is now."""
        number = self._number()
        return await asyncio.to_thread(
            lambda: self._observer.system(
                number, claimed=self.access.claimed, troubles=self.troubles(), settings=self._settings.now()
            )
        )

    async def clients(
        self, farm: str, network: Network | None = None, backend: str | None = None, limit: int | None = None
    ) -> ClientList:
        """The clients that `farm` remembers: all, those in `network`, those of `backend`; at most `limit`.

        Raises OSError when the kernel does not tell.
        """
        found = await asyncio.to_thread(self._remembered, farm, network, backend)
        listed = [
            ClientNow(client=_client(each), port=each.port, backend=each.backend, expires_s=each.expires)
            for each in found[:limit]
        ]
        return ClientList(clients=listed, total=len(found))

    async def forget_clients(self, farm: str, network: Network | None = None, backend: str | None = None) -> int:
        """Forget those clients; how many there were. Their open connections stay. Raises OSError."""
        found = await asyncio.to_thread(self._remembered, farm, network, backend)
        return await asyncio.to_thread(self._clients.forget, found)

    def _remembered(self, farm: str, network: Network | None, backend: str | None) -> list[Client]:
        ruleset = self._ruleset
        found = self._clients.remembered(ruleset, farm) if ruleset else []
        return [
            each
            for each in found
            if backend in (None, each.backend)
            and (network is None or (each.network.version == network.version and each.network.overlaps(network)))
        ]

    def troubles(self) -> list[Trouble]:
        """What is wrong with the appliance and needs a person. Waits for the stores; call it in a thread."""
        found = [*self.store.troubles(), *self.access.troubles(), *self._opening, *self._converging]
        found += self._settings.troubles()
        hindrance = self._checker.hindrance()
        if hindrance:
            found.append(Trouble(code="checks-hindered", message=hindrance))
        return found

    def _number(self) -> int | None:
        return self._in_force.number if self._in_force else None

    def _open_configuration(self, snapshot: Snapshot | None) -> tuple[Configuration, Snapshot | None]:
        if snapshot is not None:
            config, found = last_good(self.store, snapshot)
            self._opening += found
            return config, snapshot
        config, comment, found = first_configuration(self._provisioning)
        self._opening += found
        try:
            number = self.store.prepare(config, author="system", comment=comment).number
            try:
                return config, self.store.confirm(number)
            except StoreError:
                self.store.abandon(number)
                raise
        except StoreError as error:
            _log.error("the first snapshot could not be kept: %s", error)
        return config, None

    def _verify(self, config: Configuration) -> Ruleset:
        """Whether the links' networks and the kernel would take `config`; changes nothing. Raises Invalid."""
        found = list(self._host.misplaced(config))
        if found:
            raise Invalid(found)
        ruleset, _ = self._compile(config)
        try:
            self._kernel.check(ruleset)
        except KernelRefused as refused:
            raise Invalid([_kernel_fault(refused)]) from refused
        return ruleset

    def _compile(self, config: Configuration) -> tuple[Ruleset, Times]:
        """What the kernel is to hold for `config` now, and since when what is."""
        now, health = monotonic(), all_health(config, self._checker)
        times = self._times.after(config, health, now)
        farms = {name: config.farms[name] for name in health}
        known = {name: roles(farm, health[name], times.drained(name, farm, now)) for name, farm in farms.items()}
        effective = {name: weights(farm, known[name], times.steps(name, farm, now)) for name, farm in farms.items()}
        links = self._host.links()
        previous = self._ruleset or self._adopted
        return compile_ruleset(
            config, effective, own_addresses(links), previous=previous, roles=known, near=near(links)
        ), times

    def _adopt(self) -> Assignment | None:
        try:
            return self._kernel.adopt()
        except (KernelRefused, OSError) as error:
            _log.warning("what the kernel holds cannot be adopted: %s", error)
            return None

    async def _put(self, config: Configuration) -> None:
        """Make the kernel, the links and the checks as `config` says; what cannot be is told. Raises KernelRefused."""
        self._converging = []
        self._checker.update(targets(config))
        self._ruleset = await self._run(self._load, config)
        self._wake_in(self._times.wait(config, monotonic()))
        self._converging = await self._host.configure(config)
        if any(trouble.code in UNDONE for trouble in self._converging):
            self._try_again()

    def _load(self, config: Configuration) -> Ruleset:
        ruleset, times = self._compile(config)
        self._kernel.apply(ruleset)
        self._times = times
        if times != self._times_kept:
            self._keep_json(self._times_file, times.export())
            self._times_kept = times
        return ruleset

    async def _converge(self) -> None:
        """Make the world as the document in force says; what fails is a trouble, and is tried again."""
        try:
            await self._put(self._config)
        except (KernelRefused, OSError) as error:
            _log.error("the kernel does not take the configuration: %s", error)
            message = f"The kernel does not take the configuration: {error}. Roll back, or report this."
            self._converging.append(Trouble(code="kernel-refused", message=message))
            self._try_again()
        except Exception as error:  # noqa: BLE001 as said in the next line
            # A fault of ours must not end the one task that keeps traffic going to healthy backends.
            _log.exception("converging failed")
            message = f"An internal error keeps the appliance from following its configuration: {error!r}. Report it."
            self._converging.append(Trouble(code="internal", message=message))
            self._try_again()

    def _wake_in(self, seconds: float | None) -> None:
        """Converge again when something is due by then; None: nothing is."""
        if self._due is not None:
            self._due.cancel()
        self._due = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._wake.set)

    def _try_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(RETRY, self._wake.set)

    async def _keep(self) -> None:
        """Converge whenever something changed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._lock:
                await self._converge()
            await self._keep_health()

    def _health_changed(self, target: Target, verdict: Verdict) -> None:
        _log.info(
            "%s %s port %s is %s: %s", target.check.type, target.address, target.port, verdict.health, verdict.reason
        )
        self._wake.set()

    async def _keep_health(self) -> None:
        await self._run(self._keep_json, self._health_file, self._checker.export())

    def _keep_json(self, path: Path, content: Any) -> None:
        try:
            write_atomically(path, json.dumps(content).encode())
        except StoreError as error:
            _log.warning("what is known of backends could not be kept: %s", error)

    async def _run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, lambda: function(*arguments))


def _client(client: Client) -> str:
    network = client.network
    return str(network if network.num_addresses > 1 else network.network_address)


def _kernel_fault(refused: KernelRefused) -> Fault:
    where = pointer("farms", refused.farm, *([refused.field] if refused.field else [])) if refused.farm else ""
    return Fault(where, f"the kernel refuses it: {refused.message}")


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
