# SPDX-License-Identifier: GPL-2.0-or-later
"""From the document, the checks and the kernel's counters to the answers of the API."""

from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic

from agent.controller.host import Host
from agent.dataplane import Counters, Kernel, KernelRefused, Ruleset
from agent.health import Checker, Verdict, combine, target_of
from agent.model import Backend, Configuration, Farm
from agent.model.state import BackendNow, FarmNow, LinkNow, StateNow, SystemNow, Traffic, Trouble
from agent.scheduling import status, weights
from agent.system import facts, hostname

Key = tuple[str, str]
Figures = Mapping[Key, Counters]
Active = Mapping[Key, int]

FRESH = 1.0
"""Seconds for which counters are answered again without asking the kernel."""


def verdict_on(farm: Farm, backend: Backend, checker: Checker) -> Verdict:
    """What the checks of `farm` say of `backend`."""
    return combine([checker.verdict(target_of(farm, backend, check)) for check in farm.checks])


def verdicts_on(farm: Farm, checker: Checker) -> dict[str, Verdict]:
    """What the checks of `farm` say of each backend."""
    return {name: verdict_on(farm, backend, checker) for name, backend in farm.backends.items()}


def farm_weights(farm: Farm, verdicts: Mapping[str, Verdict]) -> dict[str, int]:
    """The effective weight of each backend of `farm`; empty when it is not enabled."""
    return weights(farm, {name: verdict.health for name, verdict in verdicts.items()}) if farm.enabled else {}


def effective_weights(config: Configuration, checker: Checker) -> dict[str, dict[str, int]]:
    """The effective weight of each backend of each enabled farm."""
    return {name: farm_weights(farm, verdicts_on(farm, checker)) for name, farm in config.farms.items() if farm.enabled}


def draining_and_unhealthy(config: Configuration, checker: Checker) -> set[Key]:
    """The (farm, backend) that finish what they have, but cannot any more."""
    return {
        (name, backend_name)
        for name, farm in config.farms.items()
        if farm.enabled
        for backend_name, backend in farm.backends.items()
        if backend.state == "drain" and verdict_on(farm, backend, checker).health == "unhealthy"
    }


class Observer:
    """Asks the kernel at most once a second, however many ask the agent."""

    def __init__(self, kernel: Kernel, host: Host, checker: Checker) -> None:
        self._kernel = kernel
        self._host = host
        self._checker = checker
        self._asked = float("-inf")
        self._counted: tuple[Figures, Active] = ({}, {})

    def count(self) -> tuple[Figures, Active]:
        """Counters and open connections of each backend; blocks. What the kernel does not tell stays as it was."""
        if monotonic() - self._asked >= FRESH:
            try:
                self._counted = self._kernel.counters(), self._kernel.active()
            except (KernelRefused, OSError):
                return self._counted
            self._asked = monotonic()
        return self._counted

    def state(
        self,
        config: Configuration,
        ruleset: Ruleset | None,
        snapshot: int | None,
        troubles: list[Trouble],
        counted: tuple[Figures, Active],
    ) -> StateNow:
        """Every farm and backend as it is now."""
        return StateNow(
            time=datetime.now(UTC),
            snapshot=snapshot,
            farms={name: self._farm(name, farm, ruleset, counted) for name, farm in config.farms.items()},
            troubles=troubles,
        )

    def _farm(self, name: str, farm: Farm, ruleset: Ruleset | None, counted: tuple[Figures, Active]) -> FarmNow:
        verdicts = verdicts_on(farm, self._checker)
        effective = farm_weights(farm, verdicts)
        traffics = {backend: _traffic((name, backend), counted) for backend in farm.backends}
        backends = {
            key: _backend_now(
                backend, verdicts[key], effective.get(key, 0), ruleset.share(name, key) if ruleset else 0, traffics[key]
            )
            for key, backend in farm.backends.items()
        }
        return FarmNow(
            status=status(farm, effective),
            addresses=[str(address) for address in farm.addresses],
            protocols=list(farm.protocols),
            ports=[ports.written for ports in farm.ports],
            scheduler=farm.scheduler,
            forwarding=farm.forwarding,
            exact_turn=bool(ruleset and ruleset.exact_turn(name)),
            traffic=Traffic(
                active=sum(each.active for each in traffics.values()),
                new=sum(each.new for each in traffics.values()),
                bytes_in=sum(each.bytes_in for each in traffics.values()),
                bytes_out=sum(each.bytes_out for each in traffics.values()),
            ),
            backends=backends,
        )

    def system(self, snapshot: int | None, *, claimed: bool, troubles: list[Trouble]) -> SystemNow:
        """The appliance as it is now; blocks for milliseconds."""
        memory, space, conntrack = facts.memory(), facts.data_partition(), facts.conntrack()
        return SystemNow(
            product=facts.PRODUCT,
            version=facts.version(),
            hostname=hostname.get(),
            time=datetime.now(UTC),
            uptime_s=facts.uptime(),
            claimed=claimed,
            snapshot=snapshot,
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
            troubles=troubles,
        )


def _traffic(key: Key, counted: tuple[Figures, Active]) -> Traffic:
    counters = counted[0].get(key, Counters())
    return Traffic(
        active=counted[1].get(key, 0), new=counters.new, bytes_in=counters.bytes_in, bytes_out=counters.bytes_out
    )


def _backend_now(backend: Backend, verdict: Verdict, weight: int, share: float, traffic: Traffic) -> BackendNow:
    return BackendNow(
        address=str(backend.address),
        port=backend.port,
        state=backend.state,
        health=verdict.health,
        reason=verdict.reason,
        since=verdict.since,
        latency_ms=verdict.latency_ms,
        weight=weight,
        share=share,
        traffic=traffic,
    )
