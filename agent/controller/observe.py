# SPDX-License-Identifier: GPL-2.0-or-later
"""From the document, the checks and the kernel's counters to the answers of the API."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from agent.controller.counted import Told
from agent.controller.host import Host
from agent.dataplane import Counters, Ruleset, sorry_name
from agent.health import DISABLED, Checker, Verdict, combine, target_of
from agent.model import Backend, Configuration, Farm, SorryServer
from agent.model.offload import may_offload, offload_of
from agent.model.state import (
    BackendNow,
    FarmNow,
    Health,
    KernelSetting,
    LinkNow,
    OffloadKind,
    Role,
    SorryServerNow,
    StateNow,
    SystemNow,
    Traffic,
    Trouble,
    TurnedAway,
)
from agent.model.unused import without_effect
from agent.scheduling import STEPS, Times, roles, status, weights
from agent.system import facts, hostname

Key = tuple[str, str]
Full = frozenset[Key]
"""The backends with as many connections as they may have."""


def verdict_on(farm: Farm, backend: Backend, checker: Checker) -> Verdict:
    """What the checks of `farm` say of `backend`."""
    if backend.state == "disabled":
        return DISABLED
    return combine([checker.verdict(target_of(farm, backend, check)) for check in farm.checks])


def verdicts_on(farm: Farm, checker: Checker) -> dict[str, Verdict]:
    """What the checks of `farm` say of each backend."""
    return {name: verdict_on(farm, backend, checker) for name, backend in farm.backends.items()}


def health_of(verdicts: Mapping[str, Verdict]) -> dict[str, Health]:
    """The health that these verdicts say."""
    return {backend: verdict.health for backend, verdict in verdicts.items()}


def all_health(farms: Mapping[str, Farm], checker: Checker) -> dict[str, dict[str, Health]]:
    """The health of each backend of each of `farms` that is enabled and has checks; that of all others is unknown."""
    asking = ((name, farm) for name, farm in farms.items() if farm.enabled and farm.checks)
    return {name: health_of(verdicts_on(farm, checker)) for name, farm in asking}


def full_of(farm: str, full: Full) -> list[str]:
    """The backends of a farm that are full."""
    return [name for each, name in full if each == farm]


@dataclass(frozen=True)
class Held:
    """What the agent goes by: the document, its snapshot's number, what the kernel holds, and since when what is."""

    config: Configuration
    snapshot: int | None
    ruleset: Ruleset | None
    times: Times
    full: Full = frozenset()


def offloading(ruleset: Ruleset | None) -> tuple[OffloadKind, str]:
    """How packets of established connections pass where the farm does not forbid it, and why not better."""
    return ruleset.offloading() if ruleset else ("none", "the kernel holds no rules of the appliance")


def offload_troubles(ruleset: Ruleset | None) -> Iterator[Trouble]:
    """What keeps the kernel from what it should be able to."""
    if ruleset and ruleset.offered.refused and any(may_offload(part.farm) for part in ruleset.parts.values()):
        reason = ruleset.offered.reason
        message = f"Established connections cannot be offloaded: {reason}. They are served, with twice the work."
        yield Trouble(code="offload-refused", message=message)


class Observer:
    """Makes the answers from what is known."""

    def __init__(self, host: Host, checker: Checker) -> None:
        self._host = host
        self._checker = checker

    def state(self, held: Held, troubles: list[Trouble], counted: Told) -> StateNow:
        """Every farm and backend as it is now."""
        return StateNow(
            time=datetime.now(UTC),
            snapshot=held.snapshot,
            farms={name: self._farm(name, farm, held, counted) for name, farm in held.config.farms.items()},
            troubles=troubles,
        )

    def _farm(self, name: str, farm: Farm, held: Held, counted: Told) -> FarmNow:
        verdicts = verdicts_on(farm, self._checker)
        ruleset, now = held.ruleset, monotonic()
        known = roles(farm, health_of(verdicts), held.times.drained(name, farm, now), full_of(name, held.full))
        steps = held.times.steps(name, farm, now)
        effective = weights(farm, known)
        traffics = {backend: _traffic((name, backend), counted) for backend in farm.backends}
        sorry = [_sorry_now(name, server, ruleset, counted) for server in farm.sorry_servers]
        everyone = [*traffics.values(), *(server.traffic for server in sorry)]
        backends = {
            key: _backend_now(
                backend,
                verdicts[key],
                known[key],
                weight=effective[key],
                share=ruleset.share(name, key) if ruleset else 0,
                ramp=steps[key] / STEPS if key in steps and known[key] == "active" else None,
                drain_left=held.times.drain_left(name, farm, key, now),
                traffic=traffics[key],
            )
            for key, backend in farm.backends.items()
        }
        kind, reasons = offload_of(farm, *offloading(ruleset))
        return FarmNow(
            status=status(farm, known),
            addresses=[str(address) for address in farm.addresses],
            protocols=list(farm.protocols),
            ports=[ports.written for ports in farm.ports],
            scheduler=farm.scheduler,
            forwarding=farm.forwarding,
            when_down=farm.when_down,
            offload=kind,
            offload_reasons=reasons,
            without_effect=without_effect(farm, held.config.links.values()),
            exact_turn=bool(ruleset and ruleset.exact_turn(name)),
            traffic=Traffic(
                active=sum(each.active for each in everyone),
                new=sum(each.new for each in everyone),
                bytes_in=sum(each.bytes_in for each in everyone),
                bytes_out=sum(each.bytes_out for each in everyone),
            ),
            turned_away=TurnedAway(**counted.turned_away.get(name, {})) if farm.limited else None,
            dropped=dict(counted.dropped.get(name, {})),
            backends=backends,
            sorry_servers=sorry,
        )

    def system(self, held: Held, *, claimed: bool, troubles: list[Trouble], settings: list[KernelSetting]) -> SystemNow:
        """The appliance as it is now; blocks for milliseconds."""
        offload, reason = offloading(held.ruleset)
        memory, space, conntrack = facts.memory(), facts.data_partition(), facts.conntrack()
        return SystemNow(
            product=facts.PRODUCT,
            version=facts.version(),
            hostname=hostname.get(),
            time=datetime.now(UTC),
            uptime_s=facts.uptime(),
            claimed=claimed,
            snapshot=held.snapshot,
            links=[
                LinkNow(
                    name=link.name,
                    mac=link.mac,
                    up=link.carrier,
                    addresses=[str(address.interface) for address in link.addresses],
                )
                for link in self._host.links()
            ],
            memory_total=memory.total,
            memory_available=memory.available,
            load=facts.load(),
            data_total=space.total if space else None,
            data_available=space.available if space else None,
            conntrack_count=conntrack.count,
            conntrack_max=conntrack.limit,
            offload=offload,
            offload_reason=reason,
            kernel_settings=settings,
            troubles=troubles,
        )


def _in(seconds: float) -> datetime:
    """The moment so many seconds from now, to the second: asked again it is the same."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds + 0.5)
    return moment.replace(microsecond=0)


def _traffic(key: Key, counted: Told) -> Traffic:
    counters = counted.figures.get(key, Counters())
    return Traffic(active=counters.active, new=counters.new, bytes_in=counters.bytes_in, bytes_out=counters.bytes_out)


def _sorry_now(name: str, server: SorryServer, ruleset: Ruleset | None, counted: Told) -> SorryServerNow:
    key = sorry_name(server)
    return SorryServerNow(
        address=str(server.address),
        port=server.port,
        answers=bool(ruleset and ruleset.share(name, key)),
        traffic=_traffic((name, key), counted),
    )


def _backend_now(
    backend: Backend,
    verdict: Verdict,
    role: Role,
    *,
    weight: int,
    share: float,
    ramp: float | None,
    drain_left: float | None,
    traffic: Traffic,
) -> BackendNow:
    return BackendNow(
        address=str(backend.address),
        port=backend.port,
        state=backend.state,
        role=role,
        health=verdict.health,
        reason=verdict.reason,
        since=verdict.since,
        latency_ms=verdict.latency_ms,
        max_connections=backend.max_connections,
        weight=weight,
        share=share,
        ramp=ramp,
        drain_ends=None if drain_left is None else _in(drain_left),
        traffic=traffic,
    )
