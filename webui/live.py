# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's state as rows of the live pages: signs, rates, order and search. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from agent.model.state import BackendNow, FarmNow, StateNow
from webui.rates import UNKNOWN, Key, Rates

PAGE = 50
"""Farms on one page of the dashboard."""

FEW = 24
"""Backends of a farm that the dashboard shows; the farm's own page shows all."""


@dataclass(frozen=True)
class Sign:
    """A state told three ways: by colour (`tone`), by shape, and by word."""

    tone: Literal["good", "warn", "bad", "info", "off"]
    shape: Literal["check", "triangle", "cross", "half", "ring", "bar"]
    word: str


FARM_SIGNS: Mapping[str, Sign] = {
    "up": Sign("good", "check", "Up"),
    "degraded": Sign("warn", "triangle", "Degraded"),
    "down": Sign("bad", "cross", "Down"),
    "disabled": Sign("off", "bar", "Disabled"),
}
STARTING = Sign("info", "half", "Starting")
DRAINED = Sign("off", "bar", "Drained")
DISABLED = Sign("off", "bar", "Disabled")
DRAINING = Sign("info", "half", "Draining")
HEALTHY = Sign("good", "check", "Healthy")
FULL = Sign("warn", "triangle", "Full")
STANDBY = Sign("info", "ring", "Standby")
UNHEALTHY = Sign("bad", "cross", "Unhealthy")
UNKNOWN_HEALTH = Sign("off", "ring", "Not checked")
_BY_ROLE = {"failed": UNHEALTHY, "drained": DRAINED, "draining": DRAINING, "standby": STANDBY, "full": FULL}

_ORDER = {"down": 0, "degraded": 1, "up": 2, "disabled": 3}


@dataclass(frozen=True)
class BackendRow:
    """A backend on a live page."""

    name: str
    now: BackendNow
    sign: Sign
    rates: Rates


@dataclass(frozen=True)
class FarmRow:
    """A farm on a live page."""

    name: str
    now: FarmNow
    sign: Sign
    rates: Rates
    backends: list[BackendRow]
    more: int = 0
    """Backends that are left out, all of them healthy unless more than `FEW` are not."""


@dataclass(frozen=True)
class Overview:
    """What the dashboard shows of all farms: one page of those that match, and how many there are of each status."""

    rows: list[FarmRow]
    matching: int
    total: int
    by_status: dict[str, int]
    page: int
    pages: int


def farm_row(name: str, farm: FarmNow, rates: Mapping[Key, Rates]) -> FarmRow:
    """One farm with its backends, in the order of their names."""
    rows = [
        BackendRow(backend, now, backend_sign(now), rates.get((name, backend), UNKNOWN))
        for backend, now in sorted(farm.backends.items())
    ]
    return FarmRow(name, farm, FARM_SIGNS[farm.status], rates.get((name, None), UNKNOWN), rows)


def backend_sign(backend: BackendNow) -> Sign:
    """A backend's sign: what fails comes before what drains, because it needs a person."""
    if backend.state == "disabled":
        return DISABLED
    if backend.ramp is not None:
        return STARTING
    return _BY_ROLE.get(backend.role) or (HEALTHY if backend.health == "healthy" else UNKNOWN_HEALTH)


def overview(
    state: StateNow, rates: Mapping[Key, Rates], *, search: str = "", status: str = "", page: int = 1
) -> Overview:
    """The farms that match `search` (in names and addresses) and `status`, those in trouble first."""
    by_status = dict.fromkeys(FARM_SIGNS, 0)
    for farm in state.farms.values():
        by_status[farm.status] += 1
    wanted = search.strip().lower()
    names = sorted(
        (
            name
            for name, farm in state.farms.items()
            if (not status or farm.status == status) and any(wanted in text for text in _texts(name, farm))
        ),
        key=lambda name: (_ORDER[state.farms[name].status], name),
    )
    pages = max(1, -(-len(names) // PAGE))
    page = min(max(page, 1), pages)
    shown = names[(page - 1) * PAGE : page * PAGE]
    rows = [_shortened(farm_row(name, state.farms[name], rates)) for name in shown]
    return Overview(rows, len(names), len(state.farms), by_status, page, pages)


def _shortened(row: FarmRow) -> FarmRow:
    if len(row.backends) <= FEW:
        return row
    tones = ["bad", "info", "off", "good"]
    few = sorted(row.backends, key=lambda backend: tones.index(backend.sign.tone))[:FEW]
    return replace(row, backends=[backend for backend in row.backends if backend in few], more=len(row.backends) - FEW)


def _texts(name: str, farm: FarmNow) -> Iterable[str]:
    yield name
    yield from farm.addresses
    for backend, now in farm.backends.items():
        yield backend
        yield now.address
