# SPDX-License-Identifier: GPL-2.0-or-later
"""Commits documents, and keeps the kernel, the links and the checks as the document in force says."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from agent.access import Access
from agent.controller import kept, remembered
from agent.controller.counted import Counted
from agent.controller.crowding import Crowding
from agent.controller.host import UNDONE, Host
from agent.controller.observe import Held, Observer, offload_troubles
from agent.controller.opening import UNUSABLE, open_configuration, provision
from agent.controller.plan import Plan, adopted, kernel_fault, plan_after, plan_for, size_fault
from agent.controller.secrecy import Secrecy
from agent.controller.tracing import Tracing
from agent.dataplane import Assignment, Clients, Kernel, KernelRefused, Ruleset, script
from agent.health import Checker, Target, Verdict, askers, probes, targets
from agent.model import Codec, Configuration, Invalid
from agent.model.answers import ClientList, Preview
from agent.model.state import StateNow, SystemNow, Trouble
from agent.model.trace import Trace, TraceRequest
from agent.model.types import Network
from agent.scheduling import Times
from agent.snapshots import Conflict, Snapshot, Store, StoreError
from agent.system import credentials, facts, networkd
from agent.system.credentials import Provisioning
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
        self._checker = Checker(self._health_changed, probes=probes(access.named), not_yet=host.not_yet)
        self.codec = Codec()
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
        self._askers: dict[Target, list[str]] = {}
        # What the next wake is for: these farms, those that ask these subjects, or everything.
        self._crowded: set[str] = set()
        self._turned: set[str] = set()
        self._all = False
        self._opening: list[Trouble] = []
        self._converging: list[Trouble] = []
        self._counted = Counted(kernel, run_directory / "traffic.json")
        self._observer = Observer(host, self._checker)
        self._clients = clients
        self._crowding = Crowding(lambda who: self._run(kernel.open_connections, who), self._crowding_changed)
        self._tracing = Tracing(kernel, self._run)
        self.secrets = Secrecy(access.named, self._lock, lambda: self._config)

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
        await asyncio.to_thread(provision, self.access, self._provisioning)
        self._opening = list(self._provisioning.troubles)
        self._config, self._in_force, found = open_configuration(self.store, recovery.in_force, self._provisioning)
        self._opening += found
        self._checker.restore(kept.read(self._health_file))
        self._times = Times.restored(kept.read(self._times_file))
        self._checker.update(targets(self._config))
        self._adopted = await self._run(adopted, self._kernel)
        self._counted.start(self._run)
        await self._crowding.begin(self._config.farms)
        # First, so that what changes once the links were read is not missed.
        self._host.watch(self._wake_for_all)
        async with self._lock:
            await self._converge()
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
        await self._crowding.stop()
        await self._checker.stop()
        await self._counted.stop(self._run)
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
            document = await self._run(self.codec.canonical, config)
            if current is not None and document == current.document:
                return current
            if oversize := size_fault(len(document)):
                raise Invalid([oversize])
            plan = await self._run(self._verify, config)
            snapshot = await self._run(
                lambda: self.store.prepare(config, author=author, comment=comment, parent=parent, document=document)
            )
            known, times, full = self._checker.export(), self._times, self._crowding.full
            try:
                await self._put(config, plan)
                confirmed = await self._run(self.store.confirm, snapshot.number)
            except Exception as error:
                # Whatever it is, the document from before must be in force again.
                _log.exception("snapshot %s could not be put in force", snapshot.number)
                self._checker.restore(known)
                self._times, self._crowding.full = times, full
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
        config = await self._run(lambda: self.store.get(number).configuration(self._config))
        return await self.commit(
            config, author=author, comment=comment or f"Rollback to snapshot {number}", parent=parent
        )

    async def preview(self, config: Configuration) -> Preview:
        """What the kernel would hold for `config`. Raises Invalid, also for what the kernel refuses."""

        def look() -> Preview:
            ruleset = self._verify(config).ruleset
            return Preview(script=script(ruleset), difference=self._kernel.difference(ruleset))

        async with self._lock:
            return await self._run(look)

    async def trace(self, request: TraceRequest) -> Trace:
        """Follow packets for some seconds; nothing else waits for it. Raises TraceRunning and CannotTrace."""
        return await self._tracing.follow(request, lambda: self._ruleset)

    async def state(self) -> StateNow:
        """Farms and backends as they are now; counters are at most a second old."""
        counted = await self._run(self._counted.count)
        held = self._held()
        return await asyncio.to_thread(lambda: self._observer.state(held, self.troubles(), counted))

    async def system(self) -> SystemNow:
        """The appliance as it is now."""
        held = self._held()
        return await asyncio.to_thread(
            lambda: self._observer.system(
                held, claimed=self.access.claimed, troubles=self.troubles(), settings=self._settings.now()
            )
        )

    async def clients(
        self, farm: str, network: Network | None = None, backend: str | None = None, limit: int | None = None
    ) -> ClientList:
        """The clients that `farm` remembers: all, those in `network`, those of `backend`; at most `limit`.

        Raises OSError when the kernel does not tell.
        """
        known = await asyncio.to_thread(remembered.find, self._clients, self._ruleset, farm)
        return await asyncio.to_thread(remembered.answer, known, self._config.farms.get(farm), network, backend, limit)

    async def forget_clients(self, farm: str, network: Network | None = None, backend: str | None = None) -> int:
        """Forget those clients; how many there were. Their open connections stay. Raises OSError."""
        found = await asyncio.to_thread(remembered.find, self._clients, self._ruleset, farm, network, backend)
        return await asyncio.to_thread(self._clients.forget, found)

    def troubles(self) -> list[Trouble]:
        """What is wrong with the appliance and needs a person. Waits for the stores; call it in a thread."""
        found = [*self.store.troubles(), *self.access.troubles(), *self._opening, *self._converging]
        found += [*self.secrets.troubles(), *self._settings.troubles(), *self._counted.troubles()]
        return [*found, *offload_troubles(self._ruleset), *self._checker.troubles()]

    def _held(self) -> Held:
        number = self._in_force.number if self._in_force else None
        return Held(self._config, number, self._ruleset, self._times, self._crowding.full)

    def _verify(self, config: Configuration) -> Plan:
        """Whether the links' networks and the kernel would take `config`; changes nothing. Raises Invalid."""
        found = [*self._host.misplaced(config), *self.secrets.faults(config)]
        if found:
            raise Invalid(found)
        plan = self._plan(config)
        try:
            self._kernel.check(plan.ruleset)
        except KernelRefused as refused:
            raise Invalid([kernel_fault(refused)]) from refused
        return plan

    def _plan(self, config: Configuration) -> Plan:
        """What the kernel is to hold for `config` now, and since when what is."""
        links = self._host.links()
        offered = self._host.offered(self._kernel, links)
        before, full = self._ruleset or self._adopted, self._crowding.full
        return plan_for(config, self._checker, self._times, links, before, offered=offered, full=full)

    async def _put(self, config: Configuration, plan: Plan | None = None) -> None:
        """Make the kernel, the links and the checks as `config` says; what cannot be is told. Raises KernelRefused.

        `plan` is what was just made for `config`; what has changed since then wakes the keeper.
        """
        self._converging = []
        self._askers = askers(config)
        self._checker.update(set(self._askers))
        self._crowding.watch(config.farms)
        if plan is None:
            plan = await self._run(self._plan, config)
        await self._load(plan)
        self._wake_in(plan.due(config))
        self._converging = await self._host.configure(config)
        if any(trouble.code in UNDONE for trouble in self._converging):
            self._try_again()

    async def _load(self, plan: Plan) -> None:
        await self._run(self._kernel.apply, plan.ruleset)
        self._ruleset, self._times = plan.ruleset, plan.times
        if plan.times != self._times_kept:
            await self._run(kept.write, self._times_file, plan.times.export())
            self._times_kept = plan.times

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
        self._due = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._wake_for_all)

    def _try_again(self) -> None:
        self._all = True
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(RETRY, self._wake_for_all)

    async def _keep(self) -> None:
        """Converge whenever something changed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._lock:
                everything, self._all = self._all, False
                if everything or not await self._follow():
                    await self._converge()
            await self._keep_health()

    async def _follow(self) -> bool:
        """Follow what changed about backends, at the cost of their farms only; False where that is not enough."""
        # Only now, and by subject: a verdict may have turned while a document with other farms or paces was committed.
        turned = (farms for target, farms in self._askers.items() if target.subject in self._turned)
        names = self._crowded.union(*turned) & self._config.farms.keys()
        self._crowded.clear()
        self._turned.clear()
        if self._ruleset is None:
            return False
        try:
            farms = {name: self._config.farms[name] for name in names}
            plan = await self._run(plan_after, self._ruleset, farms, self._checker, self._times, self._crowding.full)
            await self._load(plan)
        except Exception as error:  # noqa: BLE001 as in _converge, which tries again, and tells
            _log.warning("backends cannot be followed farm by farm: %r", error)
            return False
        due = plan.due(self._config)
        # A timer that is due already must not be lost: by now its moment is past, and `due` does not know it any more.
        if due is not None and (self._due is None or asyncio.get_running_loop().time() + due < self._due.when()):
            self._wake_in(due)
        return True

    def _wake_for_all(self) -> None:
        self._all = True
        self._wake.set()

    def _health_changed(self, target: Target, verdict: Verdict) -> None:
        _log.info(
            "%s %s port %s is %s: %s", target.check.type, target.address, target.port, verdict.health, verdict.reason
        )
        self._turned.add(target.subject)
        self._wake.set()

    def _crowding_changed(self, farms: Iterable[str]) -> None:
        self._crowded.update(farms)
        self._wake.set()

    async def _keep_health(self) -> None:
        await self._run(kept.write, self._health_file, self._checker.export())

    async def _run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, lambda: function(*arguments))
